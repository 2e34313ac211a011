//! Who calls, and what becomes of the call before any work is done.

use crate::error::ApiError;
use crate::fault::{Effect, millis};
use crate::ids::NodeName;
use crate::latency::sample;
use crate::time::Time;
use crate::vpc::Vpc;
use std::fmt;
use std::time::Duration;

/// Who makes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A program on a node, with the instance role's rights.
    Node(NodeName),
    /// A person with all rights: hand-made mistakes, and the simulation's own controls.
    Operator,
    /// Somebody else with all rights, by name.
    Other(String),
}

impl Caller {
    /// A program on this node.
    pub fn node(name: &str) -> Self {
        Self::Node(NodeName::from(name))
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => f.write_str(name.as_str()),
            Self::Operator => f.write_str("operator"),
            Self::Other(name) => f.write_str(name),
        }
    }
}

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
    /// Answer this, do nothing. Already in the audit log; [`crate::Vpc::execute`] returns it too.
    Reject(ApiError),
    /// Do it, and close the connection instead of answering.
    Drop,
}

impl Vpc {
    /// Latency, then faults in the order they were made, then the token bucket.
    pub(crate) fn admit(&mut self, caller: &Caller, action: &str, now: Time) -> Admission {
        let latencies = &self.spec.latencies;
        let latency = latencies.actions.get(action).unwrap_or(&latencies.ec2_ms);
        let half = sample(latency, &mut self.rng) / 2;
        let lag = if action.starts_with("Describe") {
            sample(&latencies.describe_lag_ms, &mut self.rng)
        } else {
            Duration::ZERO
        };
        let mut admission = Admission {
            before: half,
            after: half,
            fate: Fate::Proceed,
            lag,
        };
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
                Effect::DropAnswer => admission.fate = Fate::Drop,
                _ => {}
            }
        }
        // The bucket counts all calls of the account but the operator's hand.
        if self.spec.limits.throttling
            && *caller != Caller::Operator
            && !self.buckets.take(action, &self.spec.limits, now)
        {
            admission.fate = Fate::Reject(ApiError::throttled());
        }
        if let Fate::Reject(error) = &admission.fate {
            let error = error.clone();
            self.log.refused(caller, action, &error, now);
        }
        admission
    }
}
