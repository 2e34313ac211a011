//! EC2's request buckets, as one node sees them.
//!
//! EC2 throttles every API action by a token bucket of its own, one per account and Region: writes get
//! 5 tokens a second and hold 50, Describes 20 and 100 ("Request throttling for the Amazon EC2 API", EC2
//! developer guide). All nodes draw from them and none sees the others, so a refusal is all that a node
//! learns. This module owns what follows from it: until when an action waits, and how many calls of
//! it may then be under way. It never holds up an action for another one's refusal, except what
//! nobody waits for: warm addresses and giving back wait while any write is refused.

use super::{Action, Draft, Hold, Memory, Note, Scope};
use crate::cloud::CloudError;
use crate::{Eni, Family, Intent, Phase, Timestamp};
use alloc::collections::BTreeMap;
use core::time::Duration;
use mutant::mutant;

/// An API action, that is to say a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    /// DescribeNetworkInterfaces.
    Describe,
    /// DescribeSubnets.
    Subnets,
    /// CreateNetworkInterface.
    Create,
    /// AttachNetworkInterface.
    Attach,
    /// ModifyNetworkInterfaceAttribute.
    Modify,
    /// AssignPrivateIpAddresses.
    Assign,
    /// AssignIpv6Addresses.
    AssignIpv6,
    /// UnassignPrivateIpAddresses.
    Unassign,
    /// DetachNetworkInterface.
    Detach,
    /// DeleteNetworkInterface.
    Delete,
}

impl Call {
    /// The bucket of an action.
    #[must_use]
    pub const fn of(action: &Action) -> Self {
        match action {
            Action::Describe => Self::Describe,
            Action::DescribeSubnets { .. } => Self::Subnets,
            Action::Create { .. } => Self::Create,
            Action::Attach { .. } => Self::Attach,
            Action::SetDeleteOnTermination { .. } => Self::Modify,
            Action::Assign {
                family: Family::V6, ..
            } => Self::AssignIpv6,
            Action::Assign { .. } => Self::Assign,
            Action::Unassign { .. } => Self::Unassign,
            Action::Detach { .. } => Self::Detach,
            Action::Delete { .. } => Self::Delete,
        }
    }

    /// The label in metrics.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Describe => "describe_calls",
            Self::Subnets => "describe_subnets_calls",
            Self::Create => "create_calls",
            Self::Attach => "attach_calls",
            Self::Modify => "modify_calls",
            Self::Assign => "assign_calls",
            Self::AssignIpv6 => "assign_ipv6_calls",
            Self::Unassign => "unassign_calls",
            Self::Detach => "detach_calls",
            Self::Delete => "delete_calls",
        }
    }

    const fn of_intent(intent: &Intent) -> Self {
        match intent {
            Intent::Create { .. } => Self::Create,
            Intent::Attach => Self::Attach,
            Intent::SetDeleteOnTermination => Self::Modify,
            Intent::Assign {
                family: Family::V6, ..
            } => Self::AssignIpv6,
            Intent::Assign { .. } => Self::Assign,
            Intent::Unassign { .. } => Self::Unassign,
            Intent::Detach => Self::Detach,
            Intent::Delete => Self::Delete,
        }
    }

    /// Longest wait until pods have waited for twice as long. Describes refill four times as fast as
    /// writes. Half of it is the shortest wait: no action is refused more than 36 times in a minute.
    const fn longest(self) -> Duration {
        match self {
            Self::Describe | Self::Subnets => Duration::from_millis(3500),
            _ => Duration::from_secs(4),
        }
    }
}

/// Longest first wait; the shortest is half of it, so that one second sees one refusal.
const FIRST: Duration = Duration::from_secs(2);

/// A last try falls so long before the first pod that waits gives up, and up to so much earlier: pods
/// that came together on many nodes give up together.
const LAST_TRY: Duration = Duration::from_secs(2);
const LAST_TRY_SPREAD: Duration = Duration::from_secs(6);

/// The least time between a refusal and the last try of a pod that gives up soon: many pods that give
/// up one after another are no reason to ask more often.
const BETWEEN_TRIES: Duration = Duration::from_secs(2);

/// What nobody waits for waits so many times longer, and never longer than [`LATER`] beyond it.
const PATIENT: u32 = 4;
const LATER: Duration = Duration::from_secs(60);

/// What more is known of an action that EC2 said to slow down. Its [`Hold`] is that of
/// [`Scope::Calls`]: it ends where a pod that waits may go on, and its failures are refusals less
/// what successes have made up for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Throttle {
    /// The last refusal.
    at: Timestamp,
    /// Not before this for what no pod waits for.
    later: Timestamp,
    /// Calls that may be under way.
    allowed: u32,
}

impl Memory {
    /// EC2 refused a call for its rate: the action waits three times longer each time, up to
    /// [`Call::longest`] or half of the time that pods have waited. The half is what keeps any wait
    /// near to one and a half times what the bucket makes inevitable, however many nodes draw from it.
    ///
    /// The jitter is over the upper half of that. Measured on 60 to 400 nodes that draw from one bucket
    /// at once: the worst waits are those of jitter over all of it, with a quarter fewer refusals.
    pub(crate) fn throttled(&mut self, call: Call, error: &CloudError, now: Timestamp) {
        // What was learned long ago says nothing of now.
        let old = |t: &Throttle| now.since(t.later) > LATER;
        if self.throttles.get(&call).is_some_and(old) {
            self.throttles.remove(&call);
            self.holds.remove(&Scope::Calls(call));
        }
        let scope = Scope::Calls(call);
        let again = mutant!(
            "throttle/side-by-side-is-one",
            self.holds.get(&scope).is_some_and(|hold| hold.until > now),
            false
        );
        if again {
            self.refused_again(call, now);
            return;
        }
        let before = self.holds.get(&scope);
        let failures = before.map_or(0, |hold| hold.failures).saturating_add(1);
        let grown = FIRST.saturating_mul(3u32.saturating_pow(failures.min(8) - 1));
        let window = mutant!(
            "throttle/waits-stay-short",
            grown.min(call.longest().max(self.hunger(now) / 2)),
            grown
        );
        let until = now + self.upper_half(window);
        let later = until + self.upper_half(grown.saturating_mul(PATIENT).min(LATER));
        let hold = Hold {
            since: now,
            until,
            pressed: until,
            failures,
            error: error.clone(),
        };
        let allowed = 1;
        let throttle = Throttle {
            at: now,
            later,
            allowed,
        };
        self.holds.insert(Scope::Calls(call), hold);
        self.throttles.insert(call, throttle);
    }

    /// A call was refused before its action's hold ended. Calls that were sent side by side are refused
    /// side by side: that is one refusal. So is that of a last try, after which there is none.
    fn refused_again(&mut self, call: Call, now: Timestamp) {
        let pause = self.upper_half(BETWEEN_TRIES);
        let hold = self.holds.get_mut(&Scope::Calls(call));
        if let Some((hold, throttle)) = hold.zip(self.throttles.get_mut(&call)) {
            let last_try = now >= throttle.at + BETWEEN_TRIES;
            throttle.at = now;
            hold.since = now;
            if last_try {
                hold.until = hold.until.max(now + pause);
            }
        }
    }

    fn upper_half(&mut self, span: Duration) -> Duration {
        span.mul_f64(0.5 + self.fraction() / 2.0)
    }

    /// A call that was sent at `begun` went through: twice as many may follow, and what was learned fades.
    /// One that was sent before the last refusal drew from a bucket that has since been empty.
    pub(crate) fn passed(&mut self, call: Call, begun: Timestamp) {
        let hold = self.holds.get_mut(&Scope::Calls(call));
        let later = |hold: &&mut Hold| {
            mutant!(
                "throttle/only-later-success-counts",
                hold.since <= begun,
                true
            )
        };
        let hold = hold.filter(later);
        if let Some((hold, throttle)) = hold.zip(self.throttles.get_mut(&call)) {
            hold.failures /= 2;
            throttle.allowed = mutant!(
                "throttle/more-after-each-success",
                throttle.allowed.saturating_mul(2),
                throttle.allowed
            );
            if hold.failures == 0 {
                self.holds.remove(&Scope::Calls(call));
                self.throttles.remove(&call);
            }
        }
    }

    /// When throttled actions may go on for what no pod waits for.
    pub(crate) fn throttle_ends(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        self.throttles
            .values()
            .map(|t| t.later)
            .filter(move |at| *at > now)
    }
}

/// What a call is for, the most pressing first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// A pod waits for it, or an ENI is half-way in.
    Waiting,
    /// An ENI is half-way out: nobody waits, but what was begun is ended.
    Leaving,
    /// Warm addresses, and giving back.
    Spare,
}

impl Why {
    pub(super) const fn waiting(pods_wait: bool) -> Self {
        if pods_wait {
            Self::Waiting
        } else {
            Self::Spare
        }
    }
}

/// Calls under way, by action.
pub(super) type UnderWay = BTreeMap<Call, u32>;

pub(super) fn under_way<'a>(enis: impl Iterator<Item = &'a Eni>) -> UnderWay {
    let mut counts = UnderWay::new();
    for intent in enis.filter_map(|eni| eni.intent.as_ref()) {
        *counts.entry(Call::of_intent(intent)).or_default() += 1;
    }
    counts
}

impl Draft<'_> {
    /// Whether a call may be made now as far as EC2's buckets go; if not, the report says so.
    pub(super) fn may(&mut self, call: Call, why: Why) -> bool {
        let memory = self.input.memory;
        let reads = |other: Call| matches!(other, Call::Describe | Call::Subnets);
        let matters = |other: Call| {
            other == call
                || mutant!(
                    "throttle/spare-waits-for-all",
                    why == Why::Spare && !reads(other),
                    false && reads(other)
                )
        };
        let held = memory
            .throttles
            .iter()
            .filter(|(other, _)| matters(**other))
            .filter_map(|(other, t)| Some((t, memory.holds.get(&Scope::Calls(*other))?)))
            .map(|(t, hold)| {
                let end = if mutant!(
                    "throttle/pods-first",
                    why == Why::Waiting,
                    false && why == Why::Waiting
                ) {
                    self.pressing_end(hold, t)
                } else {
                    t.later
                };
                (end, hold)
            })
            .max_by_key(|(until, _)| *until);
        let Some((until, hold)) = held else {
            return true;
        };
        if until > self.now {
            let error = hold.error.clone();
            self.plan.report.note(Note::Held {
                error,
                subnet: None,
                kind: None,
                until,
            });
            self.wake(until);
            self.retries.push(until);
            return false;
        }
        let under_way = self.under_way.get(&call).copied().unwrap_or(0);
        let throttle = memory.throttles.get(&call);
        throttle.is_none_or(|t| {
            mutant!(
                "throttle/one-call-at-a-time",
                under_way < t.allowed,
                true || under_way < t.allowed
            )
        })
    }

    /// When a pressing call may go on: where the wait would outlast the first pod's, one more try
    /// falls before that.
    fn pressing_end(&self, hold: &Hold, throttle: &Throttle) -> Timestamp {
        let spread = self.input.memory.part_of(LAST_TRY_SPREAD, hold.until);
        let last_try = self.input.deadline.map(|at| at - (LAST_TRY + spread));
        let last_try = last_try.filter(|at| *at > throttle.at && self.starving());
        last_try.map_or(hold.until, |at| {
            mutant!(
                "throttle/last-try",
                at.max(throttle.at + BETWEEN_TRIES).min(hold.until),
                at.max(hold.until)
            )
        })
    }

    /// What the next step of an ENI that is half-way is for.
    pub(super) fn why_on(&self, eni: &Eni) -> Why {
        match eni.phase {
            Phase::Leaving | Phase::Detached if !self.input.finishing => Why::Leaving,
            _ => Why::Waiting,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::ErrorClass;

    fn error() -> CloudError {
        CloudError {
            action: "AssignPrivateIpAddresses",
            class: ErrorClass::Throttled,
            code: "RequestLimitExceeded".into(),
            message: "Request limit exceeded.".into(),
        }
    }

    #[test]
    fn waits_grow_and_stay_within_half_of_what_pods_have_waited() {
        let start = Timestamp(1_000_000);
        for (seed, hungry) in (0..200).flat_map(|seed| [(seed, false), (seed, true)]) {
            let mut memory = Memory::new(true, seed, start);
            memory.pace.hungry_since = hungry.then_some(start);
            let mut now = start;
            for round in 0..20 {
                memory.throttled(Call::Assign, &error(), now);
                let until = memory.holds[&Scope::Calls(Call::Assign)].until;
                let later = memory.throttles[&Call::Assign].later;
                let waited = if hungry {
                    now.since(start)
                } else {
                    Duration::ZERO
                };
                let most =
                    (FIRST * 3u32.pow(round.min(7))).min(Duration::from_secs(4).max(waited / 2));
                let wait = until.since(now);
                assert!(wait <= most && wait >= most / 2, "round {round}: {wait:?}");
                assert!(later > until && later <= until + LATER);
                now = until + Duration::from_millis(300);
            }
        }
    }

    #[test]
    fn refusals_side_by_side_are_one_and_successes_make_up() {
        let now = Timestamp(1_000_000);
        let mut memory = Memory::new(true, 3, now);
        memory.throttled(Call::Assign, &error(), now);
        let scope = Scope::Calls(Call::Assign);
        let first = memory.holds.clone();
        memory.throttled(Call::Assign, &error(), now);
        assert_eq!(memory.holds, first);
        let again = first[&scope].until + Duration::from_millis(1);
        memory.throttled(Call::Assign, &error(), again);
        assert_eq!(memory.holds[&scope].failures, 2);
        memory.passed(Call::Create, again);
        let before = again - Duration::from_millis(1);
        memory.passed(Call::Assign, before);
        assert_eq!(
            memory.holds[&scope].failures, 2,
            "sent beside the refused one"
        );
        memory.passed(Call::Assign, again);
        let allowed = memory.throttles[&Call::Assign].allowed;
        assert_eq!((memory.holds[&scope].failures, allowed), (1, 2));
        memory.passed(Call::Assign, again);
        assert!(memory.throttles.is_empty() && memory.holds.is_empty());
    }
}
