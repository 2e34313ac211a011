//! CNI GC: which leases of a network its runtime no longer knows.
//!
//! A runtime lists what it has recorded; an ADD that is under way is not among that. So a lease is not
//! judged while it is younger than the question, or while its plugin has not been seen to wire it.
//!
//! A link of the network that no lease names (the store has lost it) is judged by its Ethernet address,
//! which is made from its attachment. Others' links, and those whose attachment may be valid, stay.

use super::Owner;
use crate::api::{Collect, Collected};
use ipam_core::wiring::{is_of_attachment, is_of_network};
use ipam_core::{AttachmentKey, Lease, Mac, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// A plugin that has its lease wires it within milliseconds, or is dead after this long.
const WIRING: Duration = Duration::from_secs(60);

/// So many entries are looked through for old ones at each new one.
const MANY: usize = 256;

/// Leases whose host route has not been seen yet, and since when they are there.
#[derive(Debug, Default)]
pub(super) struct Unwired(BTreeMap<AttachmentKey, Timestamp>);

impl Unwired {
    /// An earlier run may have ended between the lease and the wiring.
    pub(super) fn restored<'a>(leases: impl Iterator<Item = &'a Lease>, now: Timestamp) -> Self {
        // The clock may have been set back between two runs.
        let young = leases.filter(|l| l.since + WIRING > now && l.since <= now);
        Self(young.map(|l| (l.key.clone(), l.since)).collect())
    }

    pub(super) fn leased(&mut self, lease: &Lease, now: Timestamp) {
        if self.0.len() >= MANY {
            self.0.retain(|_, since| *since + WIRING > now);
        }
        self.0.insert(lease.key.clone(), now);
    }

    pub(super) fn wired(&mut self, key: &AttachmentKey) {
        self.0.remove(key);
    }

    fn has(&self, key: &AttachmentKey, now: Timestamp) -> bool {
        self.0.get(key).is_some_and(|since| *since + WIRING > now)
    }
}

impl Owner {
    /// Ends the leases that are neither valid nor young, and lets go of what no lease names.
    pub(super) fn collect(&mut self, request: &Collect, now: Timestamp) -> Vec<Collected> {
        let age = u64::try_from(request.age.as_millis()).unwrap_or(u64::MAX);
        let asked = Timestamp(now.0.saturating_sub(age));
        let stale = |lease: &&Lease| {
            lease.key.network == request.network
                && !request.valid.contains(&lease.key)
                // A lease of the future is one of before the clock was set back.
                && (lease.since < asked || lease.since > now)
                && !self.is_being_wired(lease, now)
        };
        let stale: Vec<AttachmentKey> = self
            .store
            .leases()
            .values()
            .filter(stale)
            .map(|lease| lease.key.clone())
            .collect();
        let ended = stale.iter().filter_map(|key| {
            self.unwired.wired(key);
            self.store.release(key, now)
        });
        let mut ended: Vec<Collected> = ended
            .map(|lease| Collected {
                key: Some(lease.key),
                host_if: lease.host_if,
                host_mac: lease.host_mac,
                addresses: lease.addresses,
            })
            .collect();
        ended.extend(self.collect_unowned(request, &ended, now));
        if !ended.is_empty() {
            let (network, count) = (&request.network, ended.len());
            tracing::info!(%network, count, "released what the runtime no longer knows");
        }
        ended
    }

    /// Links of the network that no lease names, nor one that was just ended, and the addresses that the
    /// kernel routes through them.
    fn collect_unowned(
        &mut self,
        request: &Collect,
        ended: &[Collected],
        now: Timestamp,
    ) -> Vec<Collected> {
        let leased = self.store.leases().values().map(|lease| lease.host_mac);
        let known: BTreeSet<Mac> = leased.chain(ended.iter().map(|one| one.host_mac)).collect();
        let stale = request.links.iter().filter(|(_, mac)| {
            let valid = || request.valid.iter().any(|key| is_of_attachment(**mac, key));
            is_of_network(**mac, &request.network) && !known.contains(*mac) && !valid()
        });
        let mut found = Vec::new();
        for (host_if, host_mac) in stale {
            let routed = self.store.routed().iter();
            let held =
                routed.filter(|(ip, dev)| *dev == host_if && self.store.owner(**ip).is_none());
            let addresses: Vec<IpAddr> = held.map(|(ip, _)| *ip).collect();
            for &ip in &addresses {
                // Its rest has begun already, if it was released.
                if self.store.released(ip).is_none() {
                    self.store.release_unowned(ip, now);
                }
            }
            found.push(Collected {
                key: None,
                host_if: host_if.clone(),
                host_mac: *host_mac,
                addresses,
            });
        }
        found
    }

    pub(super) fn is_being_wired(&self, lease: &Lease, now: Timestamp) -> bool {
        let routed = |ip| self.store.routed().get(ip) == Some(&lease.host_if);
        self.unwired.has(&lease.key, now) && !lease.addresses.iter().any(routed)
    }
}
