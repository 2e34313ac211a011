//! ENIs that nobody owns any more: a daemon died between Create and Attach, or between Detach and
//! Delete, and never came back. Which may be deleted, and which node of the cluster looks when.
//!
//! Time is cut into slots of [`SLOT`], and each slot is one node's: the slot's number modulo the
//! number of nodes. So the cluster as a whole looks about once a slot however many nodes it has,
//! without talking to each other; each look tells a node how many they are. A node that sees an ENI
//! which is too young to be judged comes back when it is old enough. Of several who find the same
//! ENI one deletes it, and the others are told by EC2 that it is gone.
//!
//! **Absence**: nothing here is about ENIs that are attached, or that the caller's own pool knows.

use crate::{EniId, InstanceId, Timestamp};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;
use mutant::mutant;
use serde::{Deserialize, Serialize};

/// How long a slot is. Two slots and [`MIN_AGE`] are less than the ten minutes within which an
/// orphan is to be gone, also if the node whose slot comes first has just died.
pub const SLOT: Duration = Duration::from_secs(120);

/// An unattached ENI younger than this may be on its way (Amazon's VPC CNI waits as long).
pub const MIN_AGE: Duration = Duration::from_secs(300);

/// A restarted daemon that knows its state leaves EC2 alone for this long.
pub const QUIET_START: Duration = Duration::from_secs(600);

/// Deletes after one look: the rest is the next slot's.
pub const DELETES_MAX: usize = 100;

/// An ENI of this cluster, as a look at EC2 shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// EC2's name.
    pub id: EniId,
    /// Tag `node.k8s.amazonaws.com/instance_id`.
    pub instance: InstanceId,
    /// Attached to nothing, made by an address manager, and not tagged to be left alone.
    pub free: bool,
    /// Tag `node.k8s.amazonaws.com/createdAt`.
    pub created: Option<Timestamp>,
}

/// How many nodes share the work, and which of them this one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    /// At least 1.
    pub nodes: u32,
    /// From 0.
    pub rank: u32,
}

/// What a look comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// To be deleted; the oldest first, at most [`DELETES_MAX`].
    pub delete: Vec<EniId>,
    /// Without a date of birth: to be given one, and judged by it later.
    pub undated: Vec<EniId>,
    /// When the oldest of those that are too young will be old enough.
    pub ripe_at: Option<Timestamp>,
    /// For the schedule.
    pub fleet: Fleet,
    /// No attached ENI bears this node's tag, so the others can't count it.
    pub uncounted: bool,
}

/// Judges a look. `known`: the caller's own pool has this ENI and takes care of it. `first_seen`: when
/// the caller first saw it unattached, if it did before. That is the age of an ENI that bears a date in
/// the future: the clock that it is by is ahead of ours, or ours is behind, nobody knows by how much.
#[must_use]
pub fn judge(
    sightings: &[Sighting],
    me: &InstanceId,
    known: impl Fn(&EniId) -> bool,
    first_seen: impl Fn(&EniId) -> Option<Timestamp>,
    now: Timestamp,
) -> Verdict {
    let alive: BTreeSet<&InstanceId> = sightings
        .iter()
        .filter(|s| !s.free)
        .map(|s| &s.instance)
        .collect();
    let uncounted = !alive.contains(me);
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let fleet = Fleet {
        nodes: count(alive.len() + usize::from(uncounted)).max(1),
        rank: count(alive.iter().filter(|other| **other < me).count()),
    };
    let mut old = Vec::new();
    let mut undated = Vec::new();
    let mut ripe_at: Option<Timestamp> = None;
    for orphan in sightings.iter().filter(|s| {
        mutant!("orphans/free-only", s.free, true)
            && mutant!("orphans/known-stays", !known(&s.id), true)
    }) {
        match orphan.created {
            None => mutant!(
                "orphans/undated-is-dated",
                undated.push(orphan.id.clone()),
                old.push((Timestamp(0), &orphan.id))
            ),
            Some(created)
                if mutant!(
                    "orphans/young-stays",
                    now.since(created) >= MIN_AGE,
                    true || now.since(created) >= MIN_AGE
                ) =>
            {
                old.push((created, &orphan.id));
            }
            Some(created) => {
                let seen = first_seen(&orphan.id).filter(|_| created > now);
                let since = seen.unwrap_or(now).min(created);
                let at = since + MIN_AGE;
                if at <= now {
                    old.push((since, &orphan.id));
                    continue;
                }
                ripe_at = Some(ripe_at.map_or(at, |first| first.min(at)));
            }
        }
    }
    if !undated.is_empty() {
        ripe_at = Some(ripe_at.map_or(now + MIN_AGE, |first| first.min(now + MIN_AGE)));
    }
    old.sort();
    undated.truncate(DELETES_MAX);
    Verdict {
        delete: old
            .into_iter()
            .take(mutant!("orphans/are-deleted", DELETES_MAX, DELETES_MAX * 0))
            .map(|(_, id)| id.clone())
            .collect(),
        undated,
        ripe_at,
        fleet,
        uncounted,
    }
}

/// The first look of a daemon. `known`: its state was stored in this boot. `jitter` from 0 to 1.
#[must_use]
pub fn first_look(known: bool, fleet: Option<Fleet>, now: Timestamp, jitter: f64) -> Timestamp {
    match fleet {
        Some(fleet) if known => next_look(
            fleet,
            None,
            mutant!("orphans/quiet-start", now + QUIET_START, now),
            jitter,
        ),
        _ if known => now + QUIET_START + (2 * QUIET_START).mul_f64(jitter),
        // Soon enough to end what an earlier run of this daemon left, late enough to judge it.
        _ => now + SLOT + (3 * SLOT).mul_f64(jitter),
    }
}

/// The first look of a daemon that cares for its own instance alone: once, when all that an earlier
/// run may have left is old enough; `None` if its state was stored in this boot, which tells it all.
#[must_use]
pub fn first_own_look(known: bool, now: Timestamp, jitter: f64) -> Option<Timestamp> {
    (!known).then(|| now + MIN_AGE + SLOT.mul_f64(0.25 + 0.75 * jitter))
}

/// The next look: in this node's next slot, or when what was seen is ripe. `jitter` from 0 to 1.
#[must_use]
pub fn next_look(
    fleet: Fleet,
    ripe_at: Option<Timestamp>,
    now: Timestamp,
    jitter: f64,
) -> Timestamp {
    let slot_ms = u64::try_from(SLOT.as_millis()).unwrap_or(u64::MAX);
    let (nodes, rank) = (u64::from(fleet.nodes.max(1)), u64::from(fleet.rank));
    let next = now.0 / slot_ms + 1;
    let ahead = mutant!(
        "orphans/one-looks-per-slot",
        (rank % nodes + nodes - next % nodes) % nodes,
        (rank + next) % 1
    );
    let slot = Timestamp((next + ahead).saturating_mul(slot_ms)) + (SLOT / 2).mul_f64(jitter);
    // Several may have seen it: not all at the same moment.
    let ripe = ripe_at.map(|at| at.max(now) + (SLOT / 4).mul_f64(jitter));
    ripe.map_or(slot, |at| at.min(slot))
}

#[cfg(test)]
mod tests;
