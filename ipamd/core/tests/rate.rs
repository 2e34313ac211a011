//! How much is asked of EC2 at once; what is given back, and how soon.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::World;
use ipam_core::cloud::ErrorClass;
use ipam_core::datastore::Datastore;
use ipam_core::outcome::{begin, resume};
use ipam_core::plan::{Action, Policy};
use ipam_core::{Eni, EniHandle};
use std::collections::BTreeMap;
use std::time::Duration;

fn creates(world: &World) -> Vec<Action> {
    let plan = world.plan();
    let creates = plan.actions.into_iter();
    creates
        .filter(|a| matches!(a, Action::Create { .. }))
        .collect()
}

/// EC2 refuses one call for its rate, later than the last refusal is over.
fn throttle(world: &mut World) {
    let action = creates(world).into_iter().next().unwrap();
    begin(&mut world.store, &action, world.now);
    world.refuse(&action, ErrorClass::Throttled);
    world.now = world.now + Duration::from_secs(15);
}

#[test]
fn after_a_refusal_for_the_rate_calls_come_one_by_one_and_more_after_each_success() {
    let mut world = World::new("m5.4xlarge", Policy::default());
    world.settle();
    world.now = world.now + Duration::from_secs(600);
    world.waiting = 150;
    let asks = |a: &Action| matches!(a, Action::DescribeSubnets { .. });
    if let Some(asks) = world.plan().actions.into_iter().find(asks) {
        world.carry_out(&asks);
    }
    assert!(
        creates(&world).len() > 2,
        "side by side as long as EC2 allows it"
    );
    throttle(&mut world);
    throttle(&mut world);
    let one = creates(&world);
    assert_eq!(one.len(), 1);
    world.carry_out(&one[0]);
    assert_eq!(creates(&world).len(), 2);
}

#[test]
fn a_surplus_goes_back_when_it_has_lasted() {
    let mut world = World::with_minimum(12);
    world.now = world.now + Duration::from_secs(1800);
    world.carry_out(&Action::Describe);
    world.policy.minimum_ip = Some(3);
    let mut gives_back = |after: u64| {
        world.now = world.now + Duration::from_secs(after);
        let plan = world.plan();
        world.memory.remember(&plan);
        let gives = |a: &Action| matches!(a, Action::Unassign { .. } | Action::Detach { .. });
        plan.actions.iter().any(gives)
    };
    assert_eq!(
        [0, 20, 9, 2].map(&mut gives_back),
        [false, false, false, true]
    );
}

/// A pool of two ENIs with more than it wants, seen half a minute ago for the first time.
fn too_much() -> World {
    let mut world = World::with_minimum(12);
    world.now = world.now + Duration::from_secs(1800);
    world.carry_out(&Action::Describe);
    world.policy.minimum_ip = Some(3);
    let plan = world.plan();
    world.memory.remember(&plan);
    world.now = world.now + Duration::from_secs(31);
    world
}

fn given_back(world: &World) -> Vec<Action> {
    let gives = |a: &Action| matches!(a, Action::Unassign { .. } | Action::Detach { .. });
    world.plan().actions.into_iter().filter(gives).collect()
}

/// The store as it is, but for one change to the ENI that was made.
fn with_second(world: &mut World, change: impl Fn(&mut Eni)) -> EniHandle {
    let mut enis: Vec<Eni> = world.store.enis().values().cloned().collect();
    let second = enis.iter_mut().find(|e| !e.primary).unwrap();
    let handle = second.handle;
    change(second);
    let leases = world.store.leases().values().cloned().collect();
    world.store = Datastore::restore(world.policy.cooldown, enis, leases, BTreeMap::new());
    world.wire();
    handle
}

#[test]
fn a_young_eni_is_not_given_back() {
    let mut world = too_much();
    let now = world.now;
    let handle = with_second(&mut world, |eni| eni.since = now);
    let detaches = |a: &Action| matches!(a, Action::Detach { handle: h, .. } if *h == handle);
    assert!(!given_back(&world).iter().any(detaches));
    world.now = world.now + Duration::from_secs(60);
    assert!(given_back(&world).iter().any(detaches));
}

#[test]
fn nothing_is_given_back_of_an_eni_in_doubt() {
    let mut world = too_much();
    let now = world.now;
    let handle = with_second(&mut world, |eni| eni.in_doubt_since = Some(now));
    assert!(
        given_back(&world)
            .iter()
            .all(|a| a.handle() != Some(handle))
    );
    with_second(&mut world, |eni| eni.in_doubt_since = None);
    assert!(
        given_back(&world)
            .iter()
            .any(|a| a.handle() == Some(handle))
    );
}

#[test]
fn nothing_is_given_back_of_an_eni_with_a_call_under_way() {
    let mut world = too_much();
    let handle = with_second(&mut world, |_| ());
    world.in_flight.insert(handle);
    assert!(
        given_back(&world)
            .iter()
            .all(|a| a.handle() != Some(handle))
    );
}

#[test]
fn the_first_eni_stays_and_so_do_those_that_others_made() {
    let mut world = too_much();
    with_second(&mut world, |eni| eni.ours = false);
    let detached = given_back(&world);
    let detached = detached
        .iter()
        .filter(|a| matches!(a, Action::Detach { .. }));
    assert_eq!(detached.count(), 0);
}

#[test]
fn no_more_goes_back_than_is_too_much() {
    let mut world = too_much();
    for action in given_back(&world) {
        world.carry_out(&action);
    }
    assert!(world.total() >= 3, "{}", world.total());
}

#[test]
fn addresses_that_rest_are_not_unassigned() {
    let mut world = too_much();
    let pods = world.total();
    for _ in 0..pods {
        assert!(world.add_without_growth());
    }
    let rests: Vec<_> = world
        .store
        .leases()
        .values()
        .flat_map(|l| l.addresses.clone())
        .collect();
    for n in 0..pods {
        world.del_pod(n);
    }
    world.policy.minimum_ip = None;
    world.policy.warm_ip = Some(1);
    for _ in 0..20 {
        let plan = world.plan();
        world.memory.remember(&plan);
        for action in &plan.actions {
            let Action::Unassign { blocks, .. } = action else {
                continue;
            };
            let robbed = rests
                .iter()
                .find(|ip| blocks.iter().any(|b| b.contains(**ip)));
            assert_eq!(robbed, None);
        }
        world.now = world.now + Duration::from_secs(1);
    }
}

#[test]
fn what_was_written_by_a_clock_that_was_set_back_is_of_now() {
    let mut world = World::with_minimum(12);
    let later = world.now + Duration::from_secs(3600);
    let handle = with_second(&mut world, |eni| {
        eni.written_at = later;
        eni.since = later;
        eni.in_doubt_since = Some(later);
    });
    resume(&mut world.store, &mut world.memory, world.now);
    let eni = world.store.eni(handle).unwrap();
    assert_eq!((eni.written_at, eni.since), (world.now, world.now));
    assert_eq!(eni.in_doubt_since, Some(world.now));
}
