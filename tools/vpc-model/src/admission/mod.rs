//! Admission: what becomes of a call before and after its work. Latency, faults, request tokens and
//! permission decide by who calls, by the action's name and by what it touches; how the work is done
//! is not known here.

mod bucket;
mod faults;
pub(crate) mod iam;

pub use faults::FaultState;

use crate::admission::bucket::Buckets;
use crate::admission::faults::{Faults, millis};
use crate::state::State;
use crate::state::latency::sample;
use crate::words::caller::Caller;
use crate::words::error::ApiError;
use crate::words::fault::{Effect, Fault, ImdsTrouble, Omission};
use crate::words::time::Time;
use mutant::mutant;
use std::time::Duration;

/// What becomes of a call: wait `before`, do the work, wait `after`, answer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Admission {
    /// From the request's arrival to the work.
    pub before: Duration,
    /// From the work to the answer.
    pub after: Duration,
    /// Whether there is work, and an answer.
    pub fate: Fate,
    /// Describe calls show the VPC as it was so long before the work.
    pub lag: Duration,
}

impl Admission {
    /// No waiting, no fault, nothing stale: for tests and for an operator's hand.
    pub const fn immediate() -> Self {
        Self {
            before: Duration::ZERO,
            after: Duration::ZERO,
            fate: Fate::Proceed,
            lag: Duration::ZERO,
        }
    }
}

/// Whether there is work, and an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Do it and answer.
    Proceed,
    /// Answer this, do nothing. [`crate::Vpc::execute`] returns it too.
    Reject(ApiError),
    /// Do it, and close the connection instead of answering.
    Drop,
    /// The call does not reach EC2: nothing is done, and [`crate::Vpc::execute`] says so with
    /// [`ApiError::unreached`]. No answer is to be given.
    Unreached {
        /// The caller hears nothing; else its attempt to connect fails after `before`.
        silent: bool,
    },
}

/// What stands between the callers and the VPC.
#[derive(Debug)]
pub(crate) struct Gate {
    buckets: Buckets,
    pub(crate) faults: Faults,
}

impl Gate {
    /// A gate with these rules in force.
    pub(crate) fn new(faults: &[Fault], now: Time) -> Self {
        let mut gate = Self {
            buckets: Buckets::new(now),
            faults: Faults::default(),
        };
        for fault in faults {
            gate.faults.add(fault.clone());
        }
        gate
    }

    /// Latency, then faults in the order they were made, then the token bucket.
    pub(crate) fn admit(
        &mut self,
        state: &mut State,
        caller: &Caller,
        action: &str,
        now: Time,
    ) -> Admission {
        let latencies = &state.spec.latencies;
        let latency = latencies.actions.get(action).unwrap_or(&latencies.ec2_ms);
        let half = sample(latency, &mut state.rng) / 2;
        let lag = if action.starts_with("Describe") {
            mutant!(
                "model/describe-lags",
                sample(&latencies.describe_lag_ms, &mut state.rng),
                sample(&latencies.describe_lag_ms, &mut state.rng) * 0
            )
        } else {
            Duration::ZERO
        };
        let mut admission = Admission {
            before: half,
            after: half,
            fate: Fate::Proceed,
            lag,
        };
        if let Some(silent) = self.faults.unreached(caller, action) {
            admission.fate = Fate::Unreached { silent };
            return admission;
        }
        for effect in self.faults.on_call(caller, action) {
            match effect {
                Effect::Fail {
                    code,
                    message,
                    http_status,
                } => {
                    admission.fate =
                        Fate::Reject(ApiError::new(&code, message).with_status(http_status));
                }
                Effect::Throttle => admission.fate = Fate::Reject(ApiError::throttled()),
                Effect::Delay { ms } => admission.after += millis(ms),
                Effect::DropAnswer => {
                    admission.fate = mutant!("model/dropped-answer", Fate::Drop, Fate::Proceed);
                }
                _ => {}
            }
        }
        // The bucket counts all calls of the account but the operator's hand.
        let limits = &state.spec.limits;
        if limits.throttling
            && *caller != Caller::Operator
            && !self.buckets.take(action, limits, now)
        {
            admission.fate = Fate::Reject(ApiError::throttled());
        }
        admission
    }

    /// How far back a call sees at its work, and what it does not see: `lag` is the admission's.
    pub(crate) fn sight(
        &mut self,
        caller: &Caller,
        action: &str,
        lag: Duration,
    ) -> (Duration, Vec<Omission>) {
        let back = lag + self.faults.stale_for(caller, action);
        (back, self.faults.left_out(caller, action))
    }

    /// What a request to IMDS suffers. `path` is without `/latest/`.
    pub(crate) fn imds(&mut self, node: &str, path: &str) -> ImdsTrouble {
        let mut trouble = ImdsTrouble {
            hidden: self.faults.hidden_on(node),
            ..ImdsTrouble::default()
        };
        for effect in self.faults.on_imds(node, path) {
            match effect {
                Effect::ImdsDelay { ms } => trouble.delay += millis(ms),
                Effect::ImdsDrop => {
                    trouble.drop = true;
                    break;
                }
                Effect::ImdsFail { http_status } => trouble.failure = Some(http_status),
                Effect::ImdsStale { ms } => trouble.stale += millis(ms),
                _ => {}
            }
        }
        trouble
    }
}
