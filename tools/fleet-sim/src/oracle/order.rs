//! First come, first served: among ADDs of one node that ask for the same, none that came later gets a
//! new lease while an earlier one goes without an answer.

use std::collections::BTreeMap;
use std::time::Duration;

/// An ADD that waits for its answer.
#[derive(Clone, Debug)]
struct Waiting {
    node: String,
    sandbox: String,
    since: Duration,
    deadline: Duration,
    /// The first later ADD that was served before this one, and when.
    overtaken: Option<(String, Duration)>,
}

/// See the module. Numbers are given in the order in which the daemon is asked.
#[derive(Debug, Default)]
pub(crate) struct Order {
    waiting: BTreeMap<u64, Waiting>,
    last: u64,
}

impl Order {
    /// An ADD is asked now, and gives up at its deadline.
    pub(crate) fn asked(
        &mut self,
        now: Duration,
        (node, sandbox): (&str, &str),
        deadline: Duration,
    ) -> u64 {
        self.last += 1;
        let waiting = Waiting {
            node: node.into(),
            sandbox: sandbox.into(),
            since: now,
            deadline,
            overtaken: None,
        };
        self.waiting.insert(self.last, waiting);
        self.last
    }

    /// How many ADDs of the node were asked before this one and still wait.
    pub(crate) fn before(&self, node: &str, number: u64) -> usize {
        let earlier = self.waiting.range(..number);
        earlier.filter(|(_, w)| w.node == node).count()
    }

    /// ADDs of a node that wait now.
    pub(crate) fn waiting(&self, node: &str) -> usize {
        self.waiting.values().filter(|w| w.node == node).count()
    }

    /// The ADD has its answer, or its caller has gone. `served`: with a lease that was not there
    /// before. Answers of one instant have no order. Returns what was wrong.
    pub(crate) fn ended(&mut self, now: Duration, number: u64, served: bool) -> Option<String> {
        let own = self.waiting.remove(&number)?;
        if served {
            for earlier in self.waiting.range_mut(..number).map(|(_, w)| w) {
                if earlier.node == own.node && earlier.since < own.since && now < earlier.deadline {
                    let by = || (own.sandbox.clone(), now);
                    earlier.overtaken.get_or_insert_with(by);
                }
            }
        }
        let (by, at) = own.overtaken.filter(|(_, at)| *at < now)?;
        Some(format!(
            "{} of {} waits since {:?}, and {by}, which came later, was served at {at:?}",
            own.sandbox, own.node, own.since
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn who_comes_later_and_is_served_first_is_seen() {
        let mut order = Order::default();
        let first = order.asked(at(1), ("a", "one"), at(31));
        let second = order.asked(at(2), ("a", "two"), at(32));
        assert_eq!((order.before("a", second), order.waiting("a")), (1, 2));
        assert_eq!(order.ended(at(3), second, true), None);
        let words = order.ended(at(4), first, true);
        assert!(words.is_some_and(|w| w.contains("one") && w.contains("two")));
    }

    #[test]
    fn turns_other_nodes_refusals_and_one_instant_are_right() {
        let mut order = Order::default();
        let first = order.asked(at(1), ("a", "one"), at(31));
        let second = order.asked(at(2), ("a", "two"), at(32));
        let other = order.asked(at(2), ("b", "other"), at(32));
        let third = order.asked(at(3), ("a", "three"), at(4));
        // Another node's, a refusal, and two answers of one instant in any order.
        assert_eq!(order.ended(at(3), other, true), None);
        assert_eq!(order.ended(at(4), third, false), None);
        assert_eq!(order.ended(at(5), second, true), None);
        assert_eq!(order.ended(at(5), first, true), None);
    }
}
