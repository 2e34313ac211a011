//! Request token buckets, one per action, account and Region (*documented*: EC2 developer guide,
//! "Request throttling"). The model has one account and Region.

use crate::words::spec::{BucketSpec, Limits};
use crate::words::time::Time;
use mutant::mutant;
use std::collections::BTreeMap;

/// Sizes by class. An action has a bucket of its own, sized by its class (`describe`
/// *documented*, `mutate` *assumed*). EC2's smaller bucket for unfiltered, unpaginated Describe calls is
/// not modelled: throttling is decided by the action's name alone.
const CLASSES: [(&str, BucketSpec); 2] = [
    ("describe", BucketSpec::full(100.0, 20.0)),
    ("mutate", BucketSpec::full(50.0, 5.0)),
];

#[derive(Clone, Debug)]
pub(crate) struct Buckets {
    /// Since when those fill that nobody has taken from.
    begun: Time,
    level: BTreeMap<String, (f64, Time)>,
}

impl Buckets {
    pub(crate) const fn new(begun: Time) -> Self {
        Self {
            begun,
            level: BTreeMap::new(),
        }
    }

    /// Takes a token for the action; false if there is none.
    pub(crate) fn take(&mut self, action: &str, limits: &Limits, now: Time) -> bool {
        let spec = size_of(action, limits);
        let first = (spec.initial.unwrap_or(spec.capacity), self.begun);
        let (level, then) = self.level.get(action).copied().unwrap_or(first);
        let filled = level + spec.refill * now.since(then).as_secs_f64();
        let level = filled.min(spec.capacity);
        let ok = level >= 1.0;
        let left = if ok {
            mutant!("model/bucket-empties", level - 1.0, level)
        } else {
            level
        };
        self.level.insert(action.to_owned(), (left, now.max(then)));
        ok
    }
}

fn size_of(action: &str, limits: &Limits) -> BucketSpec {
    let class = if action.starts_with("Describe") {
        "describe"
    } else {
        "mutate"
    };
    let documented = || {
        CLASSES
            .iter()
            .find(|(name, _)| *name == class)
            .map(|(_, size)| *size)
    };
    let given = limits
        .buckets
        .get(action)
        .or_else(|| limits.buckets.get(class));
    given
        .copied()
        .or_else(documented)
        .unwrap_or(BucketSpec::full(50.0, 5.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_empties_and_refills_per_action() {
        let (mut buckets, limits) = (Buckets::new(Time::default()), Limits::default());
        let at = |ms| Time::from_unix_millis(ms);
        let mut taken = |action, ms| buckets.take(action, &limits, at(ms));
        assert!((0..50).all(|_| taken("AttachNetworkInterface", 0)));
        assert!(!taken("AttachNetworkInterface", 0));
        assert!(taken("DetachNetworkInterface", 0));
        assert!(!taken("AttachNetworkInterface", 199));
        assert!(taken("AttachNetworkInterface", 400));
        assert!((0..100).all(|_| taken("DescribeSubnets", 400)));
        assert!(!taken("DescribeSubnets", 400));
    }

    #[test]
    fn the_spec_sets_sizes_by_action_and_class() {
        let one = BucketSpec::full(1.0, 0.0);
        let mut limits = Limits::default();
        limits.buckets.insert("mutate".into(), one);
        limits.buckets.insert("DescribeSubnets".into(), one);
        let mut buckets = Buckets::new(Time::default());
        for action in ["CreateTags", "DescribeSubnets"] {
            assert!(buckets.take(action, &limits, Time::default()));
            assert!(!buckets.take(action, &limits, Time::from_unix_millis(60_000)));
        }
        assert!((0..2).all(|_| buckets.take("DescribeVpcs", &limits, Time::default())));
    }
    #[test]
    fn a_bucket_may_begin_empty() {
        let mut limits = Limits::default();
        let empty = BucketSpec::empty(10.0, 0.5);
        limits.buckets.insert("mutate".into(), empty);
        let at = |ms: u64| Time::from_unix_millis(1_000_000 + ms);
        let mut buckets = Buckets::new(at(0));
        let mut taken = |action, ms| buckets.take(action, &limits, at(ms));
        assert!(!taken("AttachNetworkInterface", 0));
        assert!(!taken("AttachNetworkInterface", 1_999));
        assert!(taken("AttachNetworkInterface", 2_000));
        // One that nobody has taken from fills as well, and not above its capacity.
        assert!((0..10).all(|_| taken("CreateTags", 60_000)));
        assert!(!taken("CreateTags", 60_000));
    }
}
