//! Faults as they are told: rules that make EC2 or IMDS misbehave, from the spec or at run time.

use crate::words::rng::Rng;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One rule. It counts the calls that match; the first `after` pass untouched, the next `count`
/// suffer the effect, the rest pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Action name with `*` and `?`, for example `Assign*`. IMDS effects match on the path
    /// instead, without `/latest/`, for example `meta-data/mac`.
    #[serde(default = "any")]
    pub action: String,
    /// Only calls of this node.
    #[serde(default)]
    pub node: Option<String>,
    /// So many matching calls pass first.
    #[serde(default)]
    pub after: u32,
    /// So many calls suffer; all when absent.
    #[serde(default)]
    pub count: Option<u32>,
    /// What happens.
    pub effect: Effect,
}

fn any() -> String {
    "*".into()
}

impl Fault {
    /// A rule for each call of the actions that match, from now on.
    pub fn new(action: &str, effect: Effect) -> Self {
        Self {
            action: action.to_owned(),
            node: None,
            after: 0,
            count: None,
            effect,
        }
    }

    /// Only so many calls suffer.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.count = Some(count);
        self
    }
}

/// What a fault does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Effect {
    /// EC2 answers with this error and does nothing.
    Fail {
        /// EC2 error code.
        code: String,
        /// EC2's words; empty when absent.
        #[serde(default)]
        message: String,
        /// HTTP status; 400 when absent.
        #[serde(default = "bad_request")]
        http_status: u16,
    },
    /// EC2 works and answers later by this.
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// EC2 does the work and closes the connection unanswered.
    DropAnswer,
    /// The call never reaches EC2: it does nothing, takes no token from a bucket, and the audit log
    /// has no entry. This rule goes before all others, and they don't count the call.
    Unreached {
        /// The caller hears nothing and has to give up by itself. When absent it gets a connect
        /// error, and so can tell that nothing was done.
        #[serde(default)]
        silent: bool,
    },
    /// DescribeNetworkInterfaces and DescribeSubnets answer as if some things were not there; one
    /// that is asked for by id is not found then. Other actions are not touched and not counted.
    /// That an answer may lack what is there is *documented* (EC2 developer guide, "Ensuring
    /// idempotency" and "Eventual consistency"), what exactly it lacks is *assumed*.
    LeaveOut {
        /// What is left out.
        what: Omission,
    },
    /// EC2 answers `RequestLimitExceeded` (503).
    Throttle,
    /// Describe calls show the VPC as it was so long ago.
    Stale {
        /// Milliseconds; the past is kept for ten minutes.
        ms: u64,
    },
    /// IMDS does not list this ENI, all while the rule stands.
    HideEni {
        /// ENI id or MAC; each but the primary one when absent.
        #[serde(default)]
        eni: Option<String>,
    },
    /// IMDS shows interfaces as they were so long ago.
    ImdsStale {
        /// Milliseconds; the past is kept for ten minutes.
        ms: u64,
    },
    /// IMDS answers with this HTTP status.
    ImdsFail {
        /// 404, 429, 500, 503, …
        http_status: u16,
    },
    /// IMDS answers later by this.
    ImdsDelay {
        /// Milliseconds.
        ms: u64,
    },
    /// IMDS never answers: the connection is closed.
    ImdsDrop,
}

/// What an answer leaves out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "which", rename_all = "snake_case", deny_unknown_fields)]
pub enum Omission {
    /// All: the answer is an empty set.
    All,
    /// Instances' primary ENIs, and the subnets that they are in.
    Primary,
    /// All but instances' primary ENIs, and the subnets that they are in.
    AllButPrimary,
    /// About so many of a hundred. The same seed leaves out the same ids in each answer.
    Share {
        /// 0 to 100.
        percent: u8,
        /// Chooses which.
        seed: u64,
    },
    /// These ids.
    Ids {
        /// `eni-…` or `subnet-…`.
        ids: Vec<String>,
    },
}

impl Omission {
    /// Whether a thing is left out. `primary`: it is an instance's primary ENI, or its subnet.
    pub(crate) fn takes(&self, id: &str, primary: bool) -> bool {
        match self {
            Self::All => true,
            Self::Primary => primary,
            Self::AllButPrimary => !primary,
            Self::Share { percent, seed } => {
                let mixed = id
                    .bytes()
                    .fold(*seed, |sum, byte| Rng::new(sum ^ u64::from(byte)).next());
                mixed % 100 < u64::from(*percent)
            }
            Self::Ids { ids } => ids.iter().any(|i| i == id),
        }
    }
}

/// What a request to IMDS suffers by the faults that it meets.
#[derive(Debug, Default)]
pub(crate) struct ImdsTrouble {
    /// The answer comes later by this.
    pub(crate) delay: Duration,
    /// There is no answer.
    pub(crate) drop: bool,
    /// The answer is this HTTP status.
    pub(crate) failure: Option<u16>,
    /// Interfaces are shown as they were so long ago.
    pub(crate) stale: Duration,
    /// ENIs that are not listed: id or MAC, `None` for all but the primary one.
    pub(crate) hidden: Vec<Option<String>>,
}

fn bad_request() -> u16 {
    400
}
