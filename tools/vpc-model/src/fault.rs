//! Faults: rules that make EC2 or IMDS misbehave, from the spec or at run time.

use serde::{Deserialize, Serialize};

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
    /// EC2 answers `RequestLimitExceeded` (503).
    Throttle,
    /// Describe calls show the VPC as it was so long ago.
    Stale {
        /// Milliseconds.
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
        /// Milliseconds.
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

fn bad_request() -> u16 {
    400
}

/// A rule in force.
#[derive(Clone, Debug, Serialize)]
pub struct FaultState {
    /// For removal.
    pub id: u64,
    /// The rule.
    pub fault: Fault,
    /// Calls that matched so far.
    pub matched: u32,
    /// Calls that suffered so far.
    pub hit: u32,
}
