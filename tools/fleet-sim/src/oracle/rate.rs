//! How often one run of a daemon asks EC2 for what EC2 refuses.
//!
//! A refused request is not repeated within [`GAP`], and no action is refused more than [`MOST`] times in
//! a minute for one target. A request for less, or for another kind of block, is another request: it is
//! what a refusal for want of room is answered with. So is one after another one that was granted.

use super::{Oracle, Promise};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use vpc_model::request::Action;

/// Between two refused calls of the same action, target and size.
const GAP: Duration = Duration::from_secs(1);

/// Refused calls of the same action and target within [`MINUTE`], whatever their size.
const MOST: usize = 36;

/// For so long after a refusal for the rate nothing is forgotten of it.
const SLOW: Duration = Duration::from_secs(20);

const MINUTE: Duration = Duration::from_secs(60);

/// What a call came to, as far as its pace goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    SlowDown,
    Other,
}

/// Action and target, in all sizes (`None`) or one.
type Key = (String, &'static str, String, Option<String>);

/// Refused calls of late, each with the times at which it was sent and heard of. A call that was sent
/// before the last refusal was heard of stands for no new decision: several at a time count as one.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    refused: BTreeMap<Key, VecDeque<(Duration, Duration)>>,
    /// Actions that EC2 refused for their rate: when that was heard of, and how many were sent since
    /// and are not answered. A success ends it.
    slowed: BTreeMap<(String, &'static str), (Duration, u32)>,
}

impl Rates {
    /// Notes a refusal; answers the gap to the one before and how many there were in a minute.
    fn note(
        &mut self,
        key: Key,
        sent: Duration,
        now: Duration,
    ) -> Option<(Option<Duration>, usize)> {
        let calls = self.refused.entry(key).or_default();
        let last = calls.back().copied();
        if last.is_some_and(|(_, heard)| sent < heard) {
            return None;
        }
        calls.push_back((sent, now));
        while calls.front().is_some_and(|(at, _)| *at + MINUTE <= sent) {
            calls.pop_front();
        }
        Some((last.map(|(before, _)| sent - before), calls.len()))
    }
}

impl Oracle {
    /// A call is sent: after a refusal for the rate only one at a time is, until one succeeds.
    pub(crate) fn paces(&mut self, now: Duration, node: &str, name: &'static str) {
        // The sweep's look at the cluster's ENIs is the same action, and asked for beside the pool.
        if name == "DescribeNetworkInterfaces" {
            return;
        }
        let Some((heard, sent)) = self.rates.slowed.get_mut(&(node.to_owned(), name)) else {
            return;
        };
        if now > *heard + SLOW {
            self.rates.slowed.remove(&(node.to_owned(), name));
            return;
        }
        *sent += 1;
        if *sent > 1 {
            let (sent, since) = (*sent, now - *heard);
            let what = format!(
                "{node} has {sent} calls of {name} under way {since:?} after EC2 said to slow down"
            );
            self.breach(now, Promise::CallsAreBounded, what);
        }
    }

    /// An answer has come, or nobody waits for one any more.
    pub(crate) fn paced(&mut self, now: Duration, node: &str, name: &'static str, answer: Answer) {
        let key = (node.to_owned(), name);
        match answer {
            Answer::Done => drop(self.rates.slowed.remove(&key)),
            Answer::SlowDown => {
                let slowed = self.rates.slowed.entry(key).or_insert((now, 0));
                *slowed = (now, slowed.1.saturating_sub(1));
            }
            Answer::Other => {
                if let Some((_, sent)) = self.rates.slowed.get_mut(&key) {
                    *sent = sent.saturating_sub(1);
                }
            }
        }
    }

    /// A node forgets with its process.
    pub(crate) fn rates_anew(&mut self, node: &str) {
        self.rates.slowed.retain(|(on, _), _| on != node);
        self.rates.refused.retain(|(on, ..), _| on != node);
    }

    /// EC2 did what it was asked: the next one for this target is another question.
    pub(crate) fn granted(&mut self, node: &str, action: &Action) {
        let (name, on) = (action.name(), target(action));
        let same = |(at, what, target, size): &Key| {
            at == node && *what == name && *target == on && size.is_some()
        };
        self.rates.refused.retain(|key, _| !same(key));
    }

    /// EC2 refused a call that was sent at `sent`; its node hears of it now.
    pub(crate) fn refused(&mut self, now: Duration, node: &str, action: &Action, sent: Duration) {
        let (target, size) = (target(action), size(action));
        let name = action.name();
        let key = |size| (node.to_owned(), name, target.clone(), size);
        let same = self.rates.note(key(Some(size)), sent, now);
        let any = self.rates.note(key(None), sent, now);
        let gap = same.and_then(|(gap, _)| gap).filter(|gap| *gap < GAP);
        if let Some(gap) = gap {
            let what = format!("{node} repeats {name} {target} {gap:?} after a refused one");
            self.breach(now, Promise::CallsAreBounded, what);
        }
        let count = any.map_or(0, |(_, count)| count);
        if count > MOST {
            let what = format!("{node} is refused {name} {target} {count} times in a minute");
            self.breach(now, Promise::CallsAreBounded, what);
        }
    }
}

/// How much a call asks for.
fn size(action: &Action) -> String {
    match action {
        Action::CreateNetworkInterface(r) => format!("{:?} {:?}", r.v4, r.v6),
        Action::AssignPrivateIpAddresses(r) => format!("{:?}", r.wanted),
        Action::AssignIpv6Addresses(r) => format!("{:?}", r.wanted),
        _ => String::new(),
    }
}

/// What a call is about: an ENI, a subnet, or all.
fn target(action: &Action) -> String {
    match action {
        Action::CreateNetworkInterface(r) => r
            .subnet
            .as_ref()
            .map_or_else(String::new, ToString::to_string),
        Action::AssignPrivateIpAddresses(r) => r.eni.to_string(),
        Action::AssignIpv6Addresses(r) => r.eni.to_string(),
        Action::UnassignPrivateIpAddresses(r) => r.eni.to_string(),
        Action::UnassignIpv6Addresses(r) => r.eni.to_string(),
        Action::AttachNetworkInterface(r) => r.eni.to_string(),
        Action::ModifyNetworkInterfaceAttribute(r) => r.eni.to_string(),
        Action::DetachNetworkInterface(r) => r.attachment.to_string(),
        Action::DeleteNetworkInterface(r) => r.eni.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
