//! DELs under another network's name.
//!
//! A runtime may DEL by the network configuration that is there now (containerd does), not by the one that it
//! added with. If the network's name was changed in between, nobody would ask for the lease again. A sandbox
//! has one interface of a name, so the lease is known by its container and interface. But such a DEL proves
//! less than one under the lease's own name: it may follow an ADD that failed because the name was taken. So
//! the kernel is the witness: the lease ends when the pod's link is gone. A lease that has just been given
//! may have a link yet; if none has come when its plugin must be dead, none will go.

use super::Owner;
use ipam_core::{AttachmentKey, Lease, Timestamp};
use mutant::mutant;
use std::collections::{BTreeMap, BTreeSet};

/// So many wait for their links' ends; a runtime that DELs again is heard again.
const MANY: usize = 1024;

/// Leases that end with their links; and when it is looked whether there is one at all.
#[derive(Debug, Default)]
pub(super) struct Renamed(BTreeMap<AttachmentKey, Option<Timestamp>>);

impl Renamed {
    /// When the next look is due.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.0.values().copied().flatten().min()
    }
}

impl Owner {
    /// A DEL of a key that no lease has.
    pub(super) fn release_renamed(&mut self, asked: &AttachmentKey, now: Timestamp) {
        let same = |lease: &&Lease| {
            lease.key.container_id == asked.container_id && lease.key.if_name == asked.if_name
        };
        let Some(lease) = self.store.leases().values().find(same) else {
            return;
        };
        let key = lease.key.clone();
        if self.surveyed
            && mutant!(
                "del/of-another-name-waits-for-the-link",
                !self.is_routed(lease),
                true
            )
            && !self.is_being_wired(lease, now)
        {
            self.end_renamed(&key, now);
        } else if self.renamed.0.len() < MANY {
            let look = self.wired_until(lease, now);
            self.renamed.0.insert(key, look);
        }
    }

    /// Those whose plugins are dead by now: without a link there is nothing to wait for.
    pub(super) fn renamed_overdue(&mut self, now: Timestamp) {
        let due = |look: &Option<Timestamp>| look.is_some_and(|at| at <= now);
        if !self.surveyed || !self.renamed.0.values().any(due) {
            return;
        }
        let looks = self.renamed.0.iter_mut().filter(|(_, look)| due(look));
        let keys: BTreeSet<AttachmentKey> = looks
            .map(|(key, look)| {
                *look = None;
                key.clone()
            })
            .collect();
        self.end_those(now, |owner, lease| {
            keys.contains(&lease.key) && !owner.is_routed(lease)
        });
    }

    /// A pod's link went.
    pub(super) fn renamed_link_gone(&mut self, host_if: &str, now: Timestamp) {
        self.end_those(now, |_, lease| lease.host_if == host_if);
    }

    /// All host routes are known.
    pub(super) fn renamed_surveyed(&mut self, now: Timestamp) {
        self.end_those(now, |owner, lease| !owner.is_routed(lease));
    }

    fn end_those(&mut self, now: Timestamp, which: impl Fn(&Self, &Lease) -> bool) {
        let keys: Vec<AttachmentKey> = self.renamed.0.keys().cloned().collect();
        for key in keys {
            match self.store.lease(&key) {
                Some(lease) if !which(self, lease) => {}
                Some(_) => self.end_renamed(&key, now),
                None => drop(self.renamed.0.remove(&key)),
            }
        }
    }

    fn end_renamed(&mut self, key: &AttachmentKey, now: Timestamp) {
        self.renamed.0.remove(key);
        if self.store.release(key, now).is_some() {
            tracing::info!(%key, "released by a DEL under another network's name");
        }
    }

    /// Whether the kernel still has the pod, as far as is known.
    fn is_routed(&self, lease: &Lease) -> bool {
        let routed = |ip| self.store.routed().get(ip) == Some(&lease.host_if);
        lease.addresses.iter().any(routed)
    }
}
