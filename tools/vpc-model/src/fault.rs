//! Faults: rules that make EC2 or IMDS misbehave, from the spec or at run time.

use crate::admission::Caller;
use crate::filter::glob;
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

impl FaultState {
    fn is_for(&self, caller: &str, subject: &str) -> bool {
        self.fault.node.as_deref().is_none_or(|n| n == caller) && glob(&self.fault.action, subject)
    }

    /// Counts a matching call; true if it is to suffer.
    fn strike(&mut self) -> bool {
        self.matched += 1;
        let over = self.matched.saturating_sub(self.fault.after);
        let hit = over > 0 && self.fault.count.is_none_or(|count| over <= count);
        self.hit += u32::from(hit);
        hit
    }
}

/// All rules in force.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    rules: Vec<FaultState>,
    last_id: u64,
}

impl Faults {
    pub(crate) fn add(&mut self, fault: Fault) -> u64 {
        self.last_id += 1;
        self.rules.push(FaultState {
            id: self.last_id,
            fault,
            matched: 0,
            hit: 0,
        });
        self.last_id
    }

    pub(crate) fn remove(&mut self, id: u64) -> bool {
        let before = self.rules.len();
        self.rules.retain(|r| r.id != id);
        self.rules.len() < before
    }

    pub(crate) fn all(&self) -> &[FaultState] {
        &self.rules
    }

    /// Effects on an EC2 call when it arrives. Each matching rule counts the call.
    pub(crate) fn on_call(&mut self, caller: &Caller, action: &str) -> Vec<Effect> {
        let at_arrival = |e: &Effect| {
            matches!(
                e,
                Effect::Fail { .. } | Effect::Delay { .. } | Effect::DropAnswer | Effect::Throttle
            )
        };
        self.strike(&caller.to_string(), action, at_arrival)
    }

    /// How much older than usual a Describe call's view is.
    pub(crate) fn stale_for(&mut self, caller: &Caller, action: &str) -> Duration {
        if !action.starts_with("Describe") {
            return Duration::ZERO;
        }
        let hits = self.strike(&caller.to_string(), action, |e| {
            matches!(e, Effect::Stale { .. })
        });
        hits.iter()
            .map(|e| if let Effect::Stale { ms } = e { *ms } else { 0 })
            .map(millis)
            .sum()
    }

    /// Effects on an IMDS request. `path` is without `/latest/`.
    pub(crate) fn on_imds(&mut self, node: &str, path: &str) -> Vec<Effect> {
        let here = |e: &Effect| {
            matches!(
                e,
                Effect::ImdsFail { .. }
                    | Effect::ImdsDelay { .. }
                    | Effect::ImdsDrop
                    | Effect::ImdsStale { .. }
            )
        };
        self.strike(node, path, here)
    }

    /// ENIs that IMDS must not list on this node: id or MAC, `None` for all but the primary one.
    pub(crate) fn hidden_on(&self, node: &str) -> Vec<Option<String>> {
        let here = self
            .rules
            .iter()
            .filter(|r| r.fault.node.as_deref().is_none_or(|n| n == node));
        here.filter_map(|r| match &r.fault.effect {
            Effect::HideEni { eni } => Some(eni.clone()),
            _ => None,
        })
        .collect()
    }

    fn strike(
        &mut self,
        caller: &str,
        subject: &str,
        of_kind: impl Fn(&Effect) -> bool,
    ) -> Vec<Effect> {
        let matching = self
            .rules
            .iter_mut()
            .filter(|r| of_kind(&r.fault.effect) && r.is_for(caller, subject));
        matching
            .filter_map(|r| r.strike().then(|| r.fault.effect.clone()))
            .collect()
    }
}

pub(crate) fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
