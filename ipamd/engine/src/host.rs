//! The node's side of the datapath: what it should be, and whether the kernel has it.

use crate::Settings;
use crate::ports::{Applied, HostNetError, NodeFacts};
use crate::retry::Retry;
use crate::task::Task;
use ipam_core::datastore::Datastore;
use ipam_core::wiring::{Egress, HostInput, HostWiring, Nat, Six, host_wiring};
use ipam_core::{Block, Eni, Family, Mac, Phase, Timestamp};
use ipnet::IpNet;
use mutant::mutant;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Host {
    /// What the kernel has, as far as it was told.
    applied: Option<HostWiring>,
    /// An apply is under way.
    busy: bool,
    /// ENIs, blocks or facts changed since the wiring was last computed.
    stale: bool,
    /// The kernel changed while an apply was under way, which may or may not have seen it.
    again: bool,
    retry: Retry,
    /// Why the last apply failed, if it did.
    failure: Option<HostNetError>,
    /// An apply has succeeded in this run.
    wired: bool,
}

impl Host {
    /// Something that the wiring depends on changed.
    pub(crate) fn changed(&mut self) {
        self.stale = true;
    }

    /// The kernel changed under us: what was applied may not be there.
    pub(crate) fn distrust(&mut self) {
        self.applied = None;
        self.stale = true;
        self.again = mutant!("host/link-that-comes-during-an-apply", self.busy, false);
    }

    /// The apply to be done now, if any. `heard`: EC2 has told of all ENIs in this run.
    pub(crate) fn next(
        &mut self,
        store: &Datastore,
        settings: &Settings,
        facts: &NodeFacts,
        heard: bool,
        now: Timestamp,
    ) -> Option<Task> {
        if self.busy || !self.stale || self.retry.at().is_some_and(|at| at > now) {
            return None;
        }
        self.stale = false;
        let (mut wiring, blocks) = wanted(store, settings, facts);
        wiring.keeps_unnamed = mutant!("host/keeps-what-the-store-lost", !heard, false);
        if self.applied.as_ref() == Some(&wiring) {
            return None;
        }
        self.busy = true;
        Some(Task::ApplyHost(wiring, blocks))
    }

    /// Takes the result of an apply in.
    pub(crate) fn applied(
        &mut self,
        store: &mut Datastore,
        wiring: HostWiring,
        blocks: Vec<Block>,
        result: Result<Applied, HostNetError>,
        now: Timestamp,
    ) {
        self.busy = false;
        // The owner tells of a failure.
        let missing = match result {
            Ok(Applied { missing, .. }) => missing,
            Err(_) if mutant!("host/failure-is-not-wired", false, true) => Vec::new(),
            Err(error) => {
                self.failure = Some(error);
                self.retry.failed(now);
                mutant!("host/failed-wiring-is-tried-again", self.distrust(), ());
                return;
            }
        };
        self.failure = None;
        self.wired = true;
        self.retry.succeeded();
        let macs: Vec<Mac> = wiring.enis.iter().map(|e| e.mac).collect();
        for (handle, mac) in by_mac(store) {
            if mutant!(
                "host/missing-link-is-not-ready",
                missing.contains(&mac),
                false
            ) {
                store.set_unready(handle);
            } else if macs.contains(&mac) {
                store.set_ready(handle);
            }
        }
        let absent = |block: &Block| {
            let eni = store.enis().values().find(|e| e.blocks.contains_key(block));
            eni.and_then(|e| e.mac)
                .is_none_or(|mac| missing.contains(&mac))
        };
        let served: Vec<Block> = blocks
            .into_iter()
            .filter(|b| {
                mutant!(
                    "host/wiring-follows-the-blocks",
                    !absent(b),
                    true || !absent(b)
                )
            })
            .collect();
        store.set_wired(served);
        self.applied = Some(wiring).filter(|_| !self.again);
        self.again = false;
    }

    /// Why new blocks can't be used: the kernel refused their wiring the last time.
    pub(crate) const fn failure(&self) -> Option<&HostNetError> {
        self.failure.as_ref()
    }

    /// Whether the node has been wired in this run.
    pub(crate) const fn is_wired(&self) -> bool {
        self.wired
    }

    /// When a failed apply is tried again.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        self.retry.at().filter(|_| self.stale && !self.busy)
    }
}

fn by_mac(store: &Datastore) -> Vec<(ipam_core::EniHandle, Mac)> {
    store
        .enis()
        .values()
        .filter_map(|e| Some((e.handle, e.mac?)))
        .collect()
}

/// Whether an ENI is ours to wire. One that is left alone keeps its wiring as long as pods have
/// addresses on it.
fn ours_to_wire(store: &Datastore, eni: &Eni) -> bool {
    eni.primary
        || mutant!("host/only-ours-is-wired", eni.unmanaged.is_none(), true)
        || store.leases_on(eni.handle) > 0
}

/// The wiring for what is attached now, and the blocks that it serves.
fn wanted(store: &Datastore, settings: &Settings, facts: &NodeFacts) -> (HostWiring, Vec<Block>) {
    let mut enis: Vec<&Eni> = store
        .enis()
        .values()
        .filter(|e| {
            // One that EC2 took away has no link, and another may have its place and its table.
            matches!(e.phase, Phase::Attached | Phase::Ready | Phase::Leaving)
                && !e.has_left()
                && ours_to_wire(store, e)
        })
        .collect();
    enis.sort_by_key(|e| (!e.primary, e.card, e.device_index));
    let blocks: Vec<Vec<Block>> = enis
        .iter()
        .map(|e| e.blocks.keys().copied().collect())
        .collect();
    let inputs: Vec<HostInput<'_>> = enis
        .iter()
        .zip(&blocks)
        .filter_map(|(e, blocks)| {
            Some(HostInput {
                mac: e.mac?,
                primary: e.primary,
                device_index: e.device_index,
                card: e.card,
                address: e.address,
                blocks,
            })
        })
        .collect();
    let inside: Vec<IpNet> = facts
        .vpc_cidrs
        .iter()
        .chain(&settings.snat_exclude)
        .copied()
        .collect();
    let nat = Nat {
        pod_if_prefixes: pod_if_prefixes(store, settings),
        inside,
        source: (settings.snat && settings.policy.wants(Family::V4)).then_some(facts.node_ip),
        mark: settings.mark,
        ..Nat::default()
    };
    let wiring = host_wiring(&inputs, settings.eni_mtu, nat, &settings.services)
        .with_six(six(settings, facts));
    (wiring, blocks.into_iter().flatten().collect())
}

/// The setting's, and those that network configurations of their own gave (a further interface's).
fn pod_if_prefixes(store: &Datastore, settings: &Settings) -> BTreeSet<String> {
    let own = settings.veth_prefix.as_str();
    let others = store.host_if_prefixes().into_iter();
    let others = others.filter(|prefix| !prefix.starts_with(own));
    others.chain([own]).map(Into::into).collect()
}

fn six(settings: &Settings, facts: &NodeFacts) -> Six {
    let source = egress(settings, facts).and_then(|family| match family {
        Family::V4 => Some(IpAddr::V4(facts.node_ip)),
        Family::V6 => facts.node_ipv6.map(IpAddr::V6),
    });
    Six {
        forwards: settings.policy.wants(Family::V6) || settings.egress == Some(Family::V6),
        egress: source.map(Egress::by).into_iter().collect(),
    }
}

/// The family of pods' node-local addresses. Where the node has no address of it, they would lead
/// nowhere: a program that finds no address tries the other family at once.
pub(crate) fn egress(settings: &Settings, facts: &NodeFacts) -> Option<Family> {
    let has = |family: &Family| *family == Family::V4 || facts.node_ipv6.is_some();
    settings.egress.filter(has)
}

#[cfg(test)]
mod tests;
