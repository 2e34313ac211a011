//! What EC2 refuses for good: an instance that takes no ENI, an ENI that takes fewer addresses than the
//! table says, an ENI that is not known a moment after it was made.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::World;
use ipam_core::Phase;
use ipam_core::cloud::ErrorClass;
use ipam_core::outcome::begin;
use ipam_core::plan::{Action, Policy};
use std::time::Duration;

fn calls(world: &World, name: &str) -> u32 {
    world.calls.get(name).copied().unwrap_or(0)
}

/// A node that wants a second ENI.
fn short_of_one(class: ErrorClass) -> World {
    let policy = Policy {
        minimum_ip: Some(12),
        ..Policy::default()
    };
    let mut world = World::new("m5.large", policy);
    world.attach_refused = Some(class);
    world
}

#[test]
fn a_refused_attach_is_tried_again_in_minutes_not_in_seconds() {
    for class in [
        ErrorClass::InstanceFull,
        ErrorClass::Other,
        ErrorClass::NotFound,
        ErrorClass::WrongState,
        ErrorClass::AccountFull,
    ] {
        let mut world = short_of_one(class);
        world.run_for(120);
        let (first, attaches) = (calls(&world, "create"), calls(&world, "attach"));
        assert!(attaches > 0, "{class:?}: never tried");
        assert!(first <= 8, "{class:?}: {first} ENIs in two minutes");
        world.run_for(3_600);
        let later = calls(&world, "create") - first;
        assert!(later <= 30, "{class:?}: {later} ENIs in an hour");
        // What was made for nothing is deleted.
        let left = world.ec2.values().filter(|e| e.ours).count();
        assert!(left <= 1, "{class:?}: {left} ENIs lie about");
        // The instance takes one again: it is tried within the longest wait.
        world.attach_refused = None;
        world.run_for(700);
        let ready = world.store.enis().values();
        let ready = ready.filter(|e| e.phase == Phase::Ready).count();
        assert_eq!(ready, 2, "{class:?}: {:?}", world.plan().report);
    }
}

/// Two Creates had no answer. What EC2 says of the first that is sent again, that fewer addresses may be had at
/// once or that none may be, holds up the second, which asks the same.
#[test]
fn a_refused_create_holds_up_the_others_that_ask_the_same() {
    for class in [ErrorClass::SubnetFull, ErrorClass::Unauthorized] {
        let mut world = World::new("m5.4xlarge", Policy::default());
        world.settle();
        world.waiting = 100;
        let create = |a: &Action| matches!(a, Action::Create { .. });
        world.planned(create);
        let mut unanswered: Vec<Action> = world.plan().actions;
        unanswered.retain(create);
        unanswered.truncate(2);
        for action in &unanswered {
            begin(&mut world.store, action, world.now);
        }
        for action in &unanswered {
            world.refuse(action, ErrorClass::UnknownOutcome);
        }
        world.waiting = 0;
        world.policy.max_eni = Some(3);
        let again = |world: &World| {
            let mut actions = world.plan().actions;
            actions.retain(create);
            actions
        };
        world.now = world.now + Duration::from_secs(20);
        let first = again(&world);
        assert_eq!(first.len(), 2, "both are sent again");
        world.refuse(&first[0], class);
        assert_eq!(again(&world), [], "{class:?}");
        world.now = world.now + Duration::from_secs(600);
        assert!(again(&world).contains(&first[1]), "never sent again");
    }
}

/// EC2's other servers may not know yet what one of them has just made.
#[test]
fn an_eni_that_is_not_found_a_moment_after_it_was_made_is_not_forgotten() {
    let mut world = short_of_one(ErrorClass::NotFound);
    world.describe_after(0);
    let create = world.planned(|a| matches!(a, Action::Create { .. }));
    world.carry_out(&create);
    world.run_for(8);
    assert!(calls(&world, "attach") > 0);
    assert_eq!(calls(&world, "create"), 1);
    world.attach_refused = None;
    world.run_for(60);
    assert_eq!(calls(&world, "create"), 1, "a second ENI for the first");
    assert_eq!(world.ec2.len(), 2);
    let attached = world.ec2.values().all(|e| e.attachment.is_some());
    assert!(attached, "{:?}", world.ec2);
}

#[test]
fn enis_that_take_fewer_addresses_than_the_table_says_are_filled() {
    for (slots, slots_by_attach) in (1..9).flat_map(|n| [(n, false), (n, true)]) {
        let policy = Policy {
            minimum_ip: Some(3 * slots),
            ..Policy::default()
        };
        let mut world = World::new("m5.large", policy);
        world.slots_max = Some(slots);
        world.slots_by_attach = slots_by_attach;
        world.run_for(1_200);
        let held: usize = world.ec2.values().map(|e| e.blocks.len()).sum();
        assert_eq!(
            held,
            3 * slots as usize,
            "{slots} slots: {:?}",
            world.plan().report
        );
        let asked = calls(&world, "create") + calls(&world, "assign");
        assert!(asked <= 60, "{slots} slots: {asked} calls");
        world.run_for(3_600);
        let more = calls(&world, "create") + calls(&world, "assign") - asked;
        assert!(more <= 24, "{slots} slots: {more} calls when it was full");
    }
}

/// A subnet is full, a permission is missing: hours pass with nobody waiting. The first pod that waits has EC2 asked
/// at once, and then every 10 to 20 s; without one it is minutes again.
#[test]
fn a_pod_that_waits_is_a_reason_to_ask_sooner() {
    for class in [
        ErrorClass::SubnetFull,
        ErrorClass::Unauthorized,
        ErrorClass::AccountFull,
    ] {
        let mut world = World::with_minimum(4);
        world.policy.minimum_ip = Some(20);
        let asks = |a: &Action| matches!(a, Action::Assign { .. } | Action::Create { .. });
        let tries = |world: &mut World, seconds: u64, waits: bool| {
            let end = world.now + Duration::from_secs(seconds);
            let mut at = Vec::new();
            while world.now < end {
                if waits {
                    world.waiting = 1;
                    world.memory.a_pod_waits(world.now);
                }
                let action = world.plan().actions.into_iter().find(asks);
                if let Some(action) = action {
                    at.push(world.now);
                    begin(&mut world.store, &action, world.now);
                    world.refuse(&action, class);
                }
                world.now = world.now + Duration::from_secs(1);
            }
            at
        };
        let patient = tries(&mut world, 3_600, false).len();
        let begun = world.now;
        let pressed = tries(&mut world, 120, true);
        assert!(
            pressed[0].since(begun) < Duration::from_secs(2),
            "{class:?}"
        );
        let gaps = pressed.windows(2).map(|two| two[1].since(two[0]));
        let longest = gaps.max().unwrap();
        assert!(longest <= Duration::from_secs(21), "{class:?}: {longest:?}");
        let counts = (patient, pressed.len());
        assert!(
            pressed.len() <= 4 * 12 && patient < 3 * 60,
            "{class:?}: {counts:?}"
        );
    }
}
