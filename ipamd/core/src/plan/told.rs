//! Why a pod still waits although a call is under way: what EC2 said the last time.

use super::{Action, Call, Draft, Note, Scope};
use crate::BlockKind;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::time::Duration;

/// What EC2 said so long before the call that is under way is no reason for waiting now: pods that
/// wait have a call sent again when the back-off ends, and it is given up after some ten seconds.
const LAST_WORD: Duration = Duration::from_secs(30);

impl Draft<'_> {
    /// EC2 has not told something yet, and why, also while the next try is under way.
    pub(super) fn not_told(&mut self, note: Note, asking: Scope, call: Call) {
        self.plan.report.note(note);
        let scopes = [asking, Scope::Calls(call)];
        let holds = scopes.iter().filter_map(|s| self.input.memory.holds.get(s));
        if let Some(hold) = holds.max_by_key(|hold| hold.until) {
            let (error, until) = (hold.error.clone(), hold.until.max(self.now));
            self.plan.report.note(Note::Held {
                error,
                subnet: None,
                kind: None,
                until,
            });
        }
    }

    /// Addresses that are there and can't be given yet.
    pub(super) fn note_unserved(&mut self) {
        let unserved = self.store.unserved(self.input.policy.scarce());
        if self.input.waiting > 0 && unserved > 0 {
            let some = unserved.min(self.input.waiting);
            self.plan.report.note(Note::Arriving(some));
        }
    }

    /// What the calls under way were refused for the last time: until they are answered, this is why a
    /// pod still waits.
    pub(super) fn note_retries(&mut self) {
        if self.input.waiting == 0 {
            return;
        }
        let begun = self.input.in_flight.iter();
        let begun = begun.filter_map(|handle| self.store.enis.get(handle));
        let next = self.plan.actions.iter();
        let next = next.filter(|a| matches!(a, Action::Create { .. } | Action::Assign { .. }));
        let mut scopes: BTreeSet<Scope> = begun
            .flat_map(Scope::of_growth)
            .chain(next.flat_map(|action| Scope::of(action, self.store)))
            .collect();
        // Single addresses stand in for prefixes that there were none of.
        let stands_in = scopes.iter().filter_map(|scope| match scope {
            Scope::Subnet(subnet, BlockKind::Address) if self.prefixes() => {
                Some(Scope::Subnet(subnet.clone(), BlockKind::Prefix))
            }
            _ => None,
        });
        let stands_in: Vec<Scope> = stands_in.collect();
        scopes.extend(stands_in);
        for scope in scopes {
            let Some(hold) = self.input.memory.holds.get(&scope) else {
                continue;
            };
            if hold.until > self.now || self.now.since(hold.until) > LAST_WORD {
                continue;
            }
            let (subnet, kind) = match scope {
                Scope::Subnet(subnet, kind) => (Some(subnet), Some(kind)),
                Scope::NewEniIn(subnet) | Scope::AttachFrom(subnet) => (Some(subnet), None),
                _ => (None, None),
            };
            self.plan.report.note(Note::Held {
                error: hold.error.clone(),
                subnet,
                kind,
                until: self.now,
            });
        }
    }
}
