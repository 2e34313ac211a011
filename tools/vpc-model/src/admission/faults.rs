//! Faults in force: which rules a call meets, and how often each has been met.

use crate::words::caller::Caller;
use crate::words::fault::{Effect, Fault, Omission};
use crate::words::glob::glob;
use serde::Serialize;
use std::time::Duration;

/// Actions whose answers [`Effect::LeaveOut`] can thin out.
const THINNED: [&str; 2] = ["DescribeNetworkInterfaces", "DescribeSubnets"];

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

    /// Whether a call never reaches EC2, and if so, whether the caller hears nothing at all. The
    /// first rule that hits decides.
    pub(crate) fn unreached(&mut self, caller: &Caller, action: &str) -> Option<bool> {
        let cut = |e: &Effect| matches!(e, Effect::Unreached { .. });
        let hits = self.strike(&caller.to_string(), action, cut);
        hits.iter().find_map(|e| match e {
            Effect::Unreached { silent } => Some(*silent),
            _ => None,
        })
    }

    /// What a Describe call must leave out of its answer.
    pub(crate) fn left_out(&mut self, caller: &Caller, action: &str) -> Vec<Omission> {
        if !THINNED.contains(&action) {
            return Vec::new();
        }
        let thins = |e: &Effect| matches!(e, Effect::LeaveOut { .. });
        let hits = self.strike(&caller.to_string(), action, thins);
        hits.into_iter()
            .filter_map(|e| match e {
                Effect::LeaveOut { what } => Some(what),
                _ => None,
            })
            .collect()
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
