//! Looks at the kernel and at the model all the time: no address in two pods, none routed twice,
//! none taken from a pod that has it.

use super::Sky;
use lab::{check, kernel};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use vpc_sim::testing::Failure;
use vpc_sim::{NetNs, Node, Sim};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// Pods that have, or may have, an address: from before their ADD until before their DEL.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pods: BTreeMap<u64, Seen>,
    last: u64,
}

#[derive(Clone, Debug)]
struct Seen {
    name: String,
    net: NetNs,
    up: bool,
}

impl Watched {
    /// From now on; the answer names this stay.
    pub(super) fn add(&mut self, name: String, net: NetNs) -> u64 {
        self.last += 1;
        self.pods.insert(
            self.last,
            Seen {
                name,
                net,
                up: false,
            },
        );
        self.last
    }

    /// Its ADD has succeeded.
    pub(super) fn is_up(&mut self, stay: u64) {
        if let Some(seen) = self.pods.get_mut(&stay) {
            seen.up = true;
        }
    }

    /// Its DEL begins.
    pub(super) fn remove(&mut self, stay: u64) {
        self.pods.remove(&stay);
    }
}

/// Looks until all is over.
pub(super) fn look(sky: &Sky, sim: &Sim, node: &Node) -> Result<(), Failure> {
    let mut told: Vec<String> = Vec::new();
    while !sky.over.load(Ordering::Relaxed) {
        for words in look_once(&sky.watched, sim, node)? {
            if !told.contains(&words) {
                sky.wrong(&words);
                told.push(words);
            }
        }
        sky.tally().looks += 1;
        std::thread::sleep(PAUSE);
    }
    Ok(())
}

pub(super) fn look_once(
    watched: &Mutex<Watched>,
    sim: &Sim,
    node: &Node,
) -> Result<Vec<String>, Failure> {
    let now = || watched.lock().unwrap_or_else(PoisonError::into_inner);
    let pods = now().pods.clone();
    let mut holders: BTreeMap<IpAddr, Vec<u64>> = BTreeMap::new();
    for (stay, seen) in &pods {
        for address in kernel::addresses(&seen.net)?.into_values().flatten() {
            holders.entry(address).or_default().push(*stay);
        }
    }
    let routes = kernel::pod_routes(&node.net(), check::POD_LINK)?;
    let wires = sim.vpc().wires(sim.clock().now());
    let given = |address: &IpAddr| {
        let mut ours = wires.iter().filter(|w| w.node.as_str() == node.name());
        ours.any(|w| {
            w.allowed.iter().any(|net| net.contains(address)) && w.primary.addr() != *address
        })
    };
    // Who went, or came up, while we looked is no witness any more.
    let watched = now();
    let mut wrong = Vec::new();
    for (address, stays) in &holders {
        let names: Vec<&str> = stays
            .iter()
            .filter(|stay| watched.pods.contains_key(*stay))
            .map(|stay| pods[stay].name.as_str())
            .collect();
        if names.len() > 1 {
            wrong.push(format!("{address} is in {}", names.join(" and in ")));
        }
        let up = stays
            .iter()
            .find(|stay| pods[*stay].up && watched.pods.contains_key(*stay));
        if let Some(stay) = up.filter(|_| !given(address)) {
            wrong.push(format!(
                "EC2 no longer gives {address}, which {} has",
                pods[stay].name
            ));
        }
    }
    for (address, links) in routes.iter().filter(|(_, links)| links.len() > 1) {
        wrong.push(format!("{address} is routed by {}", links.join(" and by ")));
    }
    Ok(wrong)
}
