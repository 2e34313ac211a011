//! ENIs of the cluster that nobody has any more: when to look, and what came of it.
//!
//! Decides nothing about an ENI itself: [`ipam_core::orphans`] does.

use super::Owner;
use crate::ports::{CloudError, EniTag, ErrorClass, Sighting, Write};
use crate::settings::{OrphanScope, Settings};
use crate::task::{CleanUp, CleanedUp, Task};
use ipam_core::orphans::{
    Fleet, MIN_AGE, QUIET_START, SLOT, first_look, first_own_look, judge, next_look,
};
use ipam_core::plan::Memory;
use ipam_core::{EniId, Timestamp};
use mutant::mutant;
use std::collections::BTreeMap;

/// The schedule of looks.
#[derive(Debug)]
pub(super) struct Watch {
    scope: OrphanScope,
    fleet: Option<Fleet>,
    next: Option<Timestamp>,
    busy: bool,
    /// When unattached ENIs were first seen: those that the last look showed.
    seen: BTreeMap<EniId, Timestamp>,
    /// What the last look came to, to be done.
    work: Option<CleanUp>,
}

impl Watch {
    pub(super) fn new(
        settings: &Settings,
        known: bool,
        fleet: Option<Fleet>,
        memory: &mut Memory,
        now: Timestamp,
    ) -> Self {
        let scope = if settings.provisioning {
            settings.orphans
        } else {
            OrphanScope::Off
        };
        let next = match scope {
            OrphanScope::Off => None,
            OrphanScope::Instance => first_own_look(known, now, memory.fraction()),
            OrphanScope::Cluster => Some(first_look(known, fleet, now, memory.fraction())),
        };
        Self {
            scope,
            fleet,
            next,
            busy: false,
            seen: BTreeMap::new(),
            work: None,
        }
    }

    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        self.next.filter(|_| !self.busy)
    }

    /// An ENI of ours is there that the pool does not know: looked for once it can be judged.
    pub(super) fn expect(&mut self, now: Timestamp) {
        if self.scope != OrphanScope::Off {
            let at = now + MIN_AGE + SLOT / 4;
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
    }

    pub(super) fn not_begun(&mut self, now: Timestamp) {
        self.busy = false;
        self.next = Some(now + SLOT);
    }
}

impl Owner {
    pub(super) fn look_for_orphans(&mut self, tasks: &mut Vec<Task>, now: Timestamp) {
        if let Some(work) = self.orphans.work.take() {
            tasks.push(Task::CleanUp(work));
            return;
        }
        let due = self.orphans.wake_at().is_some_and(|at| at <= now);
        // Which ENIs are its own the pool knows only after EC2 (or its store) has told.
        if due
            && self.facts.is_some()
            && mutant!("orphans/not-before-ec2-told", self.memory.known(), true)
        {
            self.orphans.busy = true;
            tasks.push(Task::LookForOrphans);
        } else if due {
            self.orphans.next = Some(now + SLOT / 4);
        }
    }

    pub(super) fn judge_orphans(
        &mut self,
        result: Result<Vec<Sighting>, CloudError>,
        now: Timestamp,
    ) {
        self.orphans.busy = false;
        let jitter = self.memory.fraction();
        let mut sightings = match result {
            Ok(sightings) => sightings,
            Err(error) => {
                // Another node's turn is next; alone, it is ours again.
                let fleet = self.orphans.fleet.unwrap_or(Fleet { nodes: 5, rank: 0 });
                let at = next_look(fleet, None, now, jitter);
                self.orphans.next = Some(at);
                tracing::warn!(%error, cause = error.class.label(), next_try = %at,
                    "ENIs that dead nodes left could not be looked for");
                return;
            }
        };
        let Some(me) = self.facts.as_ref().map(|f| f.instance_id.clone()) else {
            return;
        };
        if self.orphans.scope == OrphanScope::Instance {
            sightings.retain(|s| {
                mutant!(
                    "orphans/own-instance-only",
                    s.instance == me,
                    true || s.instance == me
                )
            });
        }
        let before = std::mem::take(&mut self.orphans.seen);
        let first = |id: &EniId| before.get(id).copied().unwrap_or(now);
        let free = sightings.iter().filter(|s| s.free);
        self.orphans.seen = free.map(|s| (s.id.clone(), first(&s.id))).collect();
        let verdict = judge(
            &sightings,
            &me,
            |id| self.store.eni_by_id(id).is_some(),
            |id| self.orphans.seen.get(id).copied(),
            now,
        );
        match self.orphans.scope {
            OrphanScope::Cluster => {
                self.orphans.next = Some(next_look(verdict.fleet, verdict.ripe_at, now, jitter));
                if self.orphans.fleet != Some(verdict.fleet) {
                    self.orphans.fleet = Some(verdict.fleet);
                    self.writes.push(Write::Fleet(verdict.fleet));
                }
            }
            // Only what was too young is looked at again.
            _ => {
                self.orphans.next = verdict
                    .ripe_at
                    .map(|at| at.max(now) + (SLOT / 4).mul_f64(jitter));
            }
        }
        let count_me = verdict.uncounted && self.orphans.scope == OrphanScope::Cluster;
        let mine = self.store.primary().filter(|_| count_me);
        let work = CleanUp {
            mine: mine.and_then(|eni| eni.id.clone()),
            undated: verdict.undated,
            delete: verdict.delete,
        };
        if work != CleanUp::default() {
            self.orphans.busy = true;
            self.orphans.work = Some(work);
        }
    }

    pub(super) fn cleaned_up(
        &mut self,
        done: Vec<(EniId, CleanedUp, Result<(), CloudError>)>,
        now: Timestamp,
    ) {
        self.orphans.busy = false;
        let mut failed = false;
        let mut uncounted = false;
        for (eni, what, result) in done {
            match result {
                Ok(()) => {
                    tracing::info!(%eni, what = what.label(), "cleaned up an ENI that nobody has");
                }
                // Another node was quicker, or its owner lives after all.
                Err(error)
                    if matches!(error.class, ErrorClass::NotFound | ErrorClass::WrongState) =>
                {
                    tracing::info!(%eni, what = what.label(), %error, "an ENI that nobody had is settled");
                }
                Err(error) => {
                    failed = true;
                    uncounted |= what == CleanedUp::Tagged(EniTag::Mine);
                    tracing::warn!(%eni, what = what.label(), %error, cause = error.class.label(),
                        "an ENI that nobody has could not be cleaned up; tried again in minutes");
                }
            }
        }
        if uncounted {
            // Nobody counts this node, so its slot may be others', too: it looks less often.
            let seldom = QUIET_START * 2 + (QUIET_START * 2).mul_f64(self.memory.fraction());
            self.orphans.next = self.orphans.next.map(|at| at.max(now + seldom));
        }
        if failed && self.orphans.scope == OrphanScope::Instance {
            // In a cluster the next slot is another node's; here nobody else comes.
            self.orphans.next = Some(now + SLOT + SLOT.mul_f64(self.memory.fraction()));
        }
    }
}
