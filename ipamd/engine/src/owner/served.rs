//! Whether pods can be served: now, and whether they could be at any time in this boot.
//!
//! The two are told apart because a runtime that hears "not available" makes the whole node unready,
//! with every pod on it: that is right for a node that never had an address, and wrong for one that is
//! full for a while, or whose daemon is away.

use super::Owner;
use crate::api::Status;
use ipam_core::cloud::ErrorClass;
use ipam_core::plan::{Note, target};
use ipam_core::{Family, Timestamp};
use mutant::mutant;
use tokio::sync::oneshot;

/// Who asks at once; the daemon itself does once or twice.
const WAITING: usize = 64;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Served {
    yes: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

impl Served {
    /// `yes`: an earlier run has served in this boot.
    pub(super) const fn new(yes: bool) -> Self {
        let waiting = Vec::new();
        Self { yes, waiting }
    }

    /// Answers once it is so. Beyond the bound the caller hears that there is no answer.
    pub(super) fn ask(&mut self, reply: oneshot::Sender<()>) {
        if self.yes {
            let _ = reply.send(());
            return;
        }
        self.waiting.retain(|waiting| !waiting.is_closed());
        if self.waiting.len() < WAITING {
            self.waiting.push(reply);
        }
    }

    fn now(&mut self) {
        self.yes = true;
        for waiting in self.waiting.drain(..) {
            let _ = waiting.send(());
        }
    }
}

impl Owner {
    /// The pool has an address, or has none since none is wanted and would get one for a pod.
    pub(super) fn look_whether_served(&mut self, now: Timestamp) {
        // An address that the node can't route is none.
        if self.served.yes
            || !self.surveyed
            || !self.memory.known()
            || mutant!("served/only-when-wired", !self.host.is_wired(), false)
        {
            return;
        }
        let has = |family: &Family| {
            let there = self.store.tally(*family, now).addresses > 0;
            there || (*family == Family::V4 && self.none_wanted(now))
        };
        // A pod gets an address of each, or none.
        if self.policy.families.iter().all(has) {
            self.served.now();
        }
    }

    /// Every target is 0, and nothing is known that would keep the pool from growing.
    fn none_wanted(&self, now: Timestamp) -> bool {
        let (policy, limits) = (&self.policy, &self.limits);
        let tally = self.store.tally(Family::V4, now);
        let wanted = target(policy, limits, policy.prefixes, &tally, 0).keep;
        let room = limits.known && policy.max_pods != Some(0);
        wanted == 0 && room && self.settings.provisioning && self.report.unmet == 0
    }

    pub(super) fn status(&self, now: Timestamp) -> Status {
        let tally = self.store.tally(self.policy.scarce(), now);
        let ready = self.surveyed && (tally.addresses > 0 || self.memory.known());
        let degraded = self.degraded(tally.free());
        let none_of = |family: &&Family| self.store.tally(**family, now).addresses == 0;
        let message = if !self.surveyed {
            "the kernel's routes have not been read yet".into()
        } else if let Some(error) = self.host.failure().filter(|_| !self.served.yes) {
            format!("the node can't be wired: {error}")
        } else if self.policy.families.iter().find(none_of) == Some(&Family::V6) {
            format!("no IPv6 address yet: {}", self.report.why())
        } else if tally.addresses > 0 {
            let counts = format!("{} of {} addresses free", tally.free(), tally.addresses);
            match degraded {
                Some(_) => format!("degraded: {counts}: {}", self.report.why()),
                None => counts,
            }
        } else {
            format!("no address yet: {}", self.report.why())
        };
        let served = self.served.yes;
        Status {
            ready,
            served,
            degraded,
            message,
        }
    }

    /// The label of what stands in the way: something that a person or EC2 must mend, or, where no address is
    /// free, anything but calls and ENIs that are on their way.
    fn degraded(&self, free: u32) -> Option<&'static str> {
        let is_trouble = |note: &&Note| match note {
            Note::Held { error, .. } => error.class != ErrorClass::Throttled,
            Note::Unwritten(_)
            | Note::NoMetadata(..)
            | Note::NoSubnet
            | Note::NoIpv6InSubnet(_)
            | Note::NoIpv6Here => true,
            Note::AtLimit { .. }
            | Note::NotProvisioning
            | Note::InDoubt(..)
            | Note::Cooling(..) => free == 0,
            _ => false,
        };
        let label = self.report.cause();
        let mut trouble = self.report.notes.iter().filter(is_trouble).map(Note::label);
        let first = trouble.next()?;
        // The worst one, if it is among them.
        Some(if trouble.any(|other| other == label) {
            label
        } else {
            first
        })
    }
}
