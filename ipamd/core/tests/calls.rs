//! What a refusal for the rate of calls does to an ENI, with and without an earlier call in doubt.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::World;
use ipam_core::cloud::ErrorClass;
use ipam_core::outcome::begin;
use ipam_core::plan::{Action, Policy};
use ipam_core::{BlockKind, Family, Phase};
use std::time::Duration;

/// A pool that is about to detach its second ENI.
fn detaching() -> (World, Action) {
    let policy = Policy {
        warm_ip: Some(1),
        ..Policy::default()
    };
    let mut world = World::new("t3.small", policy);
    world.settle();
    for _ in 0..5 {
        assert!(world.add_pod());
        world.settle();
    }
    (0..5).for_each(|n| world.del_pod(n));
    for _ in 0..100 {
        world.forget();
        let plan = world.plan();
        world.memory.remember(&plan);
        for action in plan.actions {
            if matches!(action, Action::Detach { .. }) {
                return (world, action);
            }
            world.carry_out(&action);
        }
        world.now = plan.wake_at.unwrap_or(world.now + Duration::from_secs(1));
    }
    panic!("nothing is detached: {:?}", world.plan());
}

fn phase(world: &World, action: &Action) -> Phase {
    world.store.eni(action.handle().unwrap()).unwrap().phase
}

/// Nothing was done: its addresses serve on, and it goes later.
#[test]
fn a_throttled_detach_leaves_the_eni_in_use() {
    let (mut world, detach) = detaching();
    begin(&mut world.store, &detach, world.now);
    assert_eq!(phase(&world, &detach), Phase::Leaving);
    world.refuse(&detach, ErrorClass::Throttled);
    assert_eq!(phase(&world, &detach), Phase::Ready);
    world.settle();
    assert_eq!(world.store.enis().len(), 1);
}

/// The first Detach was done and its answer lost: that the second one is refused says nothing, and
/// an address of the ENI must not be given.
#[test]
fn a_throttled_detach_after_a_lost_one_gives_no_address() {
    for class in [ErrorClass::Throttled, ErrorClass::Unauthorized] {
        let (mut world, detach) = detaching();
        begin(&mut world.store, &detach, world.now);
        for view in world.ec2.values_mut().filter(|v| v.ours) {
            view.attachment = None;
        }
        world.refuse(&detach, ErrorClass::UnknownOutcome);
        begin(&mut world.store, &detach, world.now);
        world.refuse(&detach, class);
        assert_eq!(phase(&world, &detach), Phase::Leaving, "{class:?}");
        // EC2's word, past the consistency window.
        world.now = world.now + Duration::from_secs(90);
        world.settle();
        assert_eq!(world.store.enis().len(), 1, "{class:?}");
        assert_eq!(world.ec2.len(), 1, "{class:?}: deleted");
    }
}

/// An ENI that is half-way out goes on: only its own action's refusals hold it up. Warm addresses
/// wait, a pod's new ENI does not.
#[test]
fn what_was_begun_is_ended_while_other_writes_are_refused() {
    let (mut world, detach) = detaching();
    world.carry_out(&detach);
    let assign = Action::Assign {
        handle: world.store.primary().unwrap().handle,
        eni: "eni-1".into(),
        family: Family::V4,
        kind: BlockKind::Address,
        count: 1,
    };
    begin(&mut world.store, &assign, world.now);
    world.refuse(&assign, ErrorClass::Throttled);
    world.policy.warm_ip = Some(5);
    // EC2 has let go of it; a pod may go on, warm addresses may not.
    world.now = world.now + Duration::from_secs(2);
    let spare = world.plan().actions;
    assert!(matches!(spare[..], [Action::Delete { .. }]), "{spare:?}");
    world.waiting = 9;
    for action in world.plan().actions {
        if matches!(action, Action::DescribeSubnets { .. }) {
            world.carry_out(&action);
        }
    }
    let plan = world.plan();
    let grows = |a: &Action| matches!(a, Action::Create { .. });
    assert!(plan.actions.iter().any(grows), "{plan:?}");
}
