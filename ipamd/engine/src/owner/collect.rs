//! CNI GC: which leases of a network its runtime no longer knows.
//!
//! A runtime lists what it has recorded; an ADD that is under way is not among that. So a lease is not
//! judged if it is younger than the question, or was wired after it, or while its plugin has not been seen
//! to wire it.
//!
//! A link of the network that no lease names (the store has lost it) is judged by its Ethernet address,
//! which is made from its attachment. Others' links, and those whose attachment may be valid, stay.

use super::Owner;
use crate::api::{Collect, Collected};
use ipam_core::wiring::{is_of_attachment, is_of_network};
use ipam_core::{AttachmentKey, Lease, Mac, Timestamp};
use mutant::mutant;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// A plugin that has its lease wires it within milliseconds, or is dead after this long.
const WIRING: Duration = Duration::from_secs(60);

/// So many entries are looked through for old ones at each new one.
const MANY: usize = 256;

/// Young leases: a runtime may not have recorded them when it made its list.
#[derive(Debug, Default)]
pub(super) struct Unwired(BTreeMap<AttachmentKey, Young>);

#[derive(Debug)]
struct Young {
    since: Timestamp,
    /// Its host route has been seen.
    wired: bool,
    /// Its ADD was under way until now at least, as far as this run knows.
    under_way: Timestamp,
}

impl Young {
    fn is_over(&self, now: Timestamp) -> bool {
        self.since.max(self.under_way) + WIRING <= now
    }
}

impl Unwired {
    /// An earlier run may have ended between the lease and the wiring.
    pub(super) fn restored<'a>(leases: impl Iterator<Item = &'a Lease>, now: Timestamp) -> Self {
        // The clock may have been set back between two runs.
        let young = leases.filter(|l| l.since + WIRING > now && l.since <= now);
        let young = young.map(|l| {
            let young = Young {
                since: l.since,
                wired: false,
                under_way: now,
            };
            (l.key.clone(), young)
        });
        Self(young.collect())
    }

    pub(super) fn leased(&mut self, lease: &Lease, now: Timestamp) {
        if self.0.len() >= MANY {
            self.0.retain(|_, young| !young.is_over(now));
        }
        let young = Young {
            since: now,
            wired: false,
            under_way: now,
        };
        self.0.insert(lease.key.clone(), young);
    }

    pub(super) fn wired(&mut self, key: &AttachmentKey, now: Timestamp) {
        if let Some(young) = self.0.get_mut(key).filter(|young| !young.wired) {
            young.wired = true;
            young.under_way = now;
        }
    }

    fn ended(&mut self, key: &AttachmentKey) {
        self.0.remove(key);
    }

    fn until(&self, key: &AttachmentKey, now: Timestamp) -> Option<Timestamp> {
        let young = self.0.get(key).filter(|young| !young.wired)?;
        Some(young.since + WIRING).filter(|until| *until > now)
    }

    /// Whether its ADD may have been under way at a time that is not long ago.
    fn was_under_way(&self, key: &AttachmentKey, at: Timestamp) -> bool {
        self.0.get(key).is_some_and(|young| young.under_way >= at)
    }
}

impl Owner {
    /// Ends the leases that are neither valid nor young, and lets go of what no lease names.
    pub(super) fn collect(&mut self, request: &Collect, now: Timestamp) -> Vec<Collected> {
        let age = u64::try_from(request.age.as_millis()).unwrap_or(u64::MAX);
        let asked = Timestamp(now.0.saturating_sub(age));
        let stale = |lease: &&Lease| {
            mutant!("gc/own-network-only", lease.key.network == request.network, true)
                && mutant!("gc/valid-stays", !request.valid.contains(&lease.key), true)
                // A lease of the future is one of before the clock was set back.
                && (mutant!("gc/younger-than-the-question", lease.since < asked || lease.since > now, true))
                && mutant!(
                    "gc/wired-after-the-question-stays",
                    !self.unwired.was_under_way(&lease.key, asked),
                    true
                )
                && mutant!("gc/being-wired-stays", !self.is_being_wired(lease, now), true)
        };
        let stale: Vec<AttachmentKey> = self
            .store
            .leases()
            .values()
            .filter(stale)
            .map(|lease| lease.key.clone())
            .collect();
        let ended = stale.iter().filter_map(|key| {
            self.unwired.ended(key);
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
            mutant!(
                "gc/links-of-others-stay",
                is_of_network(**mac, &request.network),
                true
            ) && !known.contains(*mac)
                && !valid()
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
        self.wired_until(lease, now).is_some()
    }

    /// When the plugin of a lease that has not been seen to be wired is taken for dead.
    pub(super) fn wired_until(&self, lease: &Lease, now: Timestamp) -> Option<Timestamp> {
        let routed = |ip| self.store.routed().get(ip) == Some(&lease.host_if);
        let until = self.unwired.until(&lease.key, now);
        until.filter(|_| !lease.addresses.iter().any(routed))
    }
}
