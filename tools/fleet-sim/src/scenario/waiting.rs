//! An ADD while it waits, as the oracles of refusals and of order see it.

use super::machine::Site;
use crate::oracle::refusals::{self, Asked};
use crate::oracle::room::Place;
use crate::oracle::truth::Account;
use crate::oracle::{Oracle, Promise};
use crate::world::World;
use ipam_core::AttachmentKey;
use ipam_core::wiring::PodWiring;
use ipam_engine::{Allocate, Refusal};
use ipnet::IpNet;
use std::time::Duration;

/// See the module. To be made at the moment at which the daemon is asked.
#[derive(Debug)]
pub(super) struct Waiting {
    number: u64,
    key: AttachmentKey,
    wiring: u32,
    since: Duration,
    deadline: Duration,
    /// It has its addresses already.
    again: bool,
}

impl Waiting {
    pub(super) fn begin(site: &Site, request: &Allocate) -> Self {
        let key = &request.key;
        let timeout = request.timeout.unwrap_or_default();
        let since = site.world.elapsed();
        let deadline = since + timeout;
        let mut oracle = site.world.oracle();
        let told = (site.name.clone(), key.clone());
        let again = oracle.living.contains_key(&told) || site.store.lease(key).is_some();
        let name = key.to_string();
        let who = (site.name.as_str(), name.as_str());
        Self {
            number: oracle.order.asked(since, who, deadline),
            key: key.clone(),
            wiring: request.wiring_version,
            since,
            deadline,
            again,
        }
    }

    /// The answer came; `None`: the caller went away.
    pub(super) fn end(self, site: &Site, answer: Option<&Result<PodWiring, Refusal>>) {
        let (world, now) = (&site.world, site.world.elapsed());
        // One that was asked twice is served once.
        let key = (site.name.clone(), self.key.clone());
        let again = self.again || world.oracle().living.contains_key(&key) || regains(site, answer);
        let served = matches!(answer, Some(Ok(_))) && !again;
        if let Some(Err(refusal)) = answer {
            self.judge(site, refusal);
        }
        let mut oracle = world.oracle();
        if let Some(what) = oracle.order.ended(now, self.number, served) {
            oracle.breach(now, Promise::FirstComeFirstServed, what);
        }
    }

    fn judge(&self, site: &Site, refusal: &Refusal) {
        let Some(account) = Account::of(site.place()) else {
            return;
        };
        let asked = |oracle: &Oracle| Asked {
            key: self.key.clone(),
            wiring: self.wiring,
            since: self.since,
            deadline: self.deadline,
            before: oracle.order.before(&site.name, self.number),
            waiting: oracle.order.waiting(&site.name),
            local: site.asks().egress,
        };
        let asked = asked(&site.world.oracle());
        let wrong = refusals::judge(&account, &asked, refusal);
        breaches(&site.world, wrong);
    }
}

/// Notes what was wrong.
pub(super) fn breaches(world: &World, wrong: Vec<(Promise, String)>) {
    let now = world.elapsed();
    for (promise, what) in wrong {
        world.oracle().breach(now, promise, what);
    }
}

impl Site {
    /// As an oracle may look at it.
    pub(super) fn place(&self) -> Place<'_> {
        Place {
            world: &self.world,
            node: &self.name,
            kernel: &self.kernel,
            store: &self.store,
        }
    }
}

/// Whether an ADD is told what the kernel has led to this very pod before: its lease was lost, and nobody
/// else could be given the address.
fn regains(site: &Site, answer: Option<&Result<PodWiring, Refusal>>) -> bool {
    let Some(Ok(wiring)) = answer else {
        return false;
    };
    let ips: Vec<_> = wiring.pod_addresses.iter().map(IpNet::addr).collect();
    site.kernel.tables().witnesses(&ips, &wiring.host_if)
}
