//! Pods' host routes that went, or lead elsewhere, although their leases stand: a flush, a stray script. They
//! are put back.
//!
//! Owns when that is tried; what stands in for a route of ours (another metric, another program's) and what
//! takes its packets the adapter sees.

use crate::ports::{HostNetError, Leftover};
use crate::retry::Retry;
use crate::task::Task;
use ipam_core::datastore::Datastore;
use ipam_core::{Lease, Timestamp};
use mutant::mutant;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// A program that replaces our route by its own (Calico's Felix) has done both steps by then, and a flush
/// has taken all.
const SETTLE: Duration = Duration::from_millis(100);
/// An ADD that was answered so recently may not have made its link and route yet;
const WIRING: Duration = Duration::from_secs(10);
/// or, where the link is there, its route, which follows at once.
const ROUTING: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Reroute {
    /// Address -> host's end of its pod's link.
    lost: BTreeMap<IpAddr, String>,
    due: Timestamp,
    busy: bool,
    retry: Retry,
}

impl Reroute {
    /// Whether a route to a leased address that the kernel tells of is not simply its first.
    pub(crate) fn is_doubtful(store: &Datastore, ip: IpAddr, host_if: &str) -> bool {
        let lease = store.owner(ip).and_then(|key| store.lease(key));
        lease.is_some_and(|lease| {
            mutant!(
                "kernel/bent-route-is-put-back",
                lease.host_if != host_if || store.routed().contains_key(&ip),
                false && lease.addresses.contains(&ip)
            )
        })
    }

    /// The kernel told that a host route went, or that another came.
    pub(crate) fn gone(&mut self, store: &Datastore, ip: IpAddr, now: Timestamp) {
        let lease = store.owner(ip).and_then(|key| store.lease(key));
        if let Some(lease) = lease {
            if self.lost.is_empty() {
                self.due = now + SETTLE;
            }
            self.lost.insert(ip, lease.host_if.clone());
        }
    }

    /// A pod's link is up again.
    pub(crate) fn back(&mut self, store: &Datastore, host_if: &str, now: Timestamp) {
        self.look(store, ROUTING, now, |lease| lease.host_if == host_if);
    }

    /// A look at the kernel: what it does not route, though a lease stands.
    pub(crate) fn surveyed(&mut self, store: &Datastore, now: Timestamp) {
        mutant!(
            "kernel/a-look-finds-lost-routes",
            self.look(store, WIRING, now, |_| true),
            ()
        );
    }

    fn look(
        &mut self,
        store: &Datastore,
        age: Duration,
        now: Timestamp,
        of: impl Fn(&Lease) -> bool,
    ) {
        let settled = store
            .leases()
            .values()
            .filter(|lease| lease.since + age <= now && of(lease));
        let led = |lease: &Lease, ip: &IpAddr| store.routed().get(ip) == Some(&lease.host_if);
        let all = settled.flat_map(|lease| lease.addresses.iter().map(move |ip| (lease, ip)));
        for (_, ip) in all.filter(|(lease, ip)| !led(lease, ip)) {
            self.gone(store, *ip, now);
        }
    }

    /// The repair to be made now, if any.
    pub(crate) fn next(&mut self, store: &Datastore, now: Timestamp) -> Option<Task> {
        if self.wake_at().is_none_or(|at| at > now) {
            return None;
        }
        let lost = std::mem::take(&mut self.lost);
        let still: Vec<Leftover> = lost
            .into_iter()
            .filter(|(ip, host_if)| {
                let lease = store.owner(*ip).and_then(|key| store.lease(key));
                mutant!(
                    "kernel/released-route-stays-away",
                    lease.is_some_and(|lease| lease.host_if == *host_if),
                    true || lease.is_some()
                )
            })
            .map(|(address, host_if)| Leftover { address, host_if })
            .collect();
        if still.is_empty() {
            return None;
        }
        self.busy = true;
        Some(Task::Reroute(still))
    }

    /// When the next repair is due.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        let pause = self.retry.at().unwrap_or_default();
        let idle = !self.busy && !self.lost.is_empty();
        idle.then(|| self.due.max(pause))
    }

    /// What a repair came to. What it could not do is tried again.
    pub(crate) fn done(
        &mut self,
        pods: Vec<Leftover>,
        result: Result<(), HostNetError>,
        now: Timestamp,
    ) {
        self.busy = false;
        let Err(error) = result else {
            self.retry.succeeded();
            return;
        };
        let at = self.retry.failed(now);
        tracing::warn!(%error, next_try = %at, "pods' host routes could not be put back");
        for pod in pods {
            mutant!(
                "kernel/failed-reroute-is-tried-again",
                self.lost.entry(pod.address).or_insert(pod.host_if),
                &mut pod.host_if.clone()
            );
        }
    }
}
