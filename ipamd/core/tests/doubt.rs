//! Writes of which nobody knows what became, and a restart between them and EC2's word.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::World;
use ipam_core::cloud::ErrorClass;
use ipam_core::outcome::{Done, begin, finish};
use ipam_core::plan::{Action, Memory};
use ipam_core::{BlockKind, EniHandle, Family, Timestamp};
use std::time::Duration;

/// Of one address that nobody has.
fn unassign_one(world: &World) -> Action {
    let first = world.store.primary().unwrap();
    Action::Unassign {
        handle: first.handle,
        eni: first.id.clone().unwrap(),
        blocks: first.blocks.keys().take(1).copied().collect(),
    }
}

/// EC2 does an Assign for pods that wait, and the daemon dies before the answer.
fn died_in_an_assign() -> (World, EniHandle) {
    let mut world = World::with_minimum(4);
    while world.add_without_growth() {}
    world.now = world.now + Duration::from_secs(120);
    world.waiting = 2;
    let assign = world.planned(|a| matches!(a, Action::Assign { .. }));
    begin(&mut world.store, &assign, world.now);
    let Action::Assign {
        handle, eni, count, ..
    } = assign
    else {
        unreachable!()
    };
    world.give(&eni, BlockKind::Address, count);
    world.restart();
    (world, handle)
}

/// What it brings is worth the wait for the next Describe: nothing is bought beside it.
#[test]
fn what_an_unanswered_assign_brings_is_not_bought_again() {
    let (mut world, handle) = died_in_an_assign();
    assert!(world.store.eni(handle).unwrap().in_doubt_since.is_some());
    // Not even where more could be had.
    assert_eq!(world.plan().actions, [Action::Describe]);
    world.carry_out(&Action::Describe);
    assert!(world.add_without_growth() && world.add_without_growth());
}

/// Nor is it asked for again on that ENI, until a Describe that can't lag behind it.
#[test]
fn an_unanswered_assign_is_in_doubt_for_a_minute() {
    let (mut world, handle) = died_in_an_assign();
    let begun = world.now;
    for seconds in [5, 20, 34, 3] {
        world.describe_after(seconds);
        let since = world.store.eni(handle).unwrap().in_doubt_since;
        let over = world.now.since(begun) > Duration::from_secs(60);
        assert_eq!(since, (!over).then_some(begun));
        let on_it = |a: &Action| matches!(a, Action::Assign { handle: h, .. } if *h == handle);
        world.waiting = 30;
        assert_eq!(world.plan().actions.iter().any(on_it), over);
    }
}

/// A Describe that was begun within the minute and answered after it tells no more than it could.
#[test]
fn a_slow_describe_settles_no_doubt() {
    let (mut world, handle) = died_in_an_assign();
    let begun = world.now;
    let views = world.ec2.values().cloned().collect();
    let done = Done::Described(views);
    let (sent, answered) = (
        begun + Duration::from_secs(50),
        begun + Duration::from_secs(70),
    );
    let (store, memory) = (&mut world.store, &mut world.memory);
    finish(store, memory, &Action::Describe, Ok(done), sent, answered);
    assert_eq!(world.store.eni(handle).unwrap().in_doubt_since, Some(begun));
}

/// The clock was set back while no daemon ran: a doubt lasts no longer than from now on.
#[test]
fn a_doubt_is_never_in_the_future() {
    let mut world = World::with_minimum(4);
    let unassign = unassign_one(&world);
    world.now = world.now + Duration::from_secs(7200);
    begin(&mut world.store, &unassign, world.now);
    world.refuse(&unassign, ErrorClass::UnknownOutcome);
    world.now = Timestamp(world.now.0 - 3_600_000);
    world.restart();
    let since = world.store.primary().unwrap().in_doubt_since;
    assert_eq!(since, Some(world.now));
}

/// The daemon died in an Unassign: it may be carried out yet, so nothing else is written there.
#[test]
fn an_unanswered_unassign_is_in_doubt_for_a_minute() {
    let mut world = World::with_minimum(4);
    world.now = world.now + Duration::from_secs(120);
    let unassign = unassign_one(&world);
    begin(&mut world.store, &unassign, world.now);
    world.restart();
    let begun = world.now;
    world.policy.minimum_ip = Some(8);
    for seconds in [5, 20, 34, 3] {
        world.describe_after(seconds);
        let over = world.now.since(begun) > Duration::from_secs(60);
        let first = world.store.primary().unwrap();
        assert_eq!(first.in_doubt_since, (!over).then_some(begun));
        let writes = |a: &Action| a.handle() == Some(first.handle);
        assert_eq!(world.plan().actions.iter().any(writes), over);
    }
}

/// An Assign for one address, which is not answered and was not done.
fn lost_assign(world: &mut World) -> EniHandle {
    let first = world.store.primary().unwrap();
    let assign = Action::Assign {
        handle: first.handle,
        eni: first.id.clone().unwrap(),
        family: Family::V4,
        kind: BlockKind::Address,
        count: 1,
    };
    begin(&mut world.store, &assign, world.now);
    world.refuse(&assign, ErrorClass::UnknownOutcome);
    world.store.primary().unwrap().handle
}

/// A block that somebody else put there, shown while what is shown may be the past.
#[test]
fn what_was_held_back_settles_no_doubt() {
    let mut world = World::with_minimum(4);
    world.now = world.now + Duration::from_secs(120);
    let unassign = unassign_one(&world);
    world.carry_out(&unassign);
    let first = world.store.primary().unwrap().id.clone().unwrap();
    world.give(&first, BlockKind::Address, 1);
    world.describe_after(10);
    world.describe_after(30);
    let handle = lost_assign(&mut world);
    world.describe_after(22);
    assert!(world.store.eni(handle).unwrap().in_doubt_since.is_some());
    world.describe_after(40);
    assert_eq!(world.store.eni(handle).unwrap().in_doubt_since, None);
}

/// Others moved a block here from an ENI of ours that we wrote to a moment ago, so that it stayed there in our
/// books: when it follows, it is no news, and tells nothing of a call in doubt.
#[test]
fn what_another_eni_still_had_settles_no_doubt() {
    let mut world = World::with_minimum(12);
    let of = |world: &World, primary| {
        let mut enis = world.store.enis().values();
        enis.find(|e| e.primary == primary).unwrap().clone()
    };
    let (first, second) = (of(&world, true), of(&world, false));
    let assign = Action::Assign {
        handle: second.handle,
        eni: second.id.clone().unwrap(),
        family: Family::V4,
        kind: BlockKind::Address,
        count: 1,
    };
    world.describe_after(120);
    world.carry_out(&assign);
    let block = *second.blocks.keys().next().unwrap();
    for view in world.ec2.values_mut() {
        view.blocks.retain(|b| *b != block);
        if Some(&view.id) == first.id.as_ref() {
            view.blocks.push(block);
        }
    }
    world.describe_after(5);
    assert!(of(&world, false).blocks.contains_key(&block));
    world.now = world.now + Duration::from_secs(56);
    let handle = lost_assign(&mut world);
    world.describe_after(5);
    assert!(of(&world, true).blocks.contains_key(&block));
    assert!(world.store.eni(handle).unwrap().in_doubt_since.is_some());
}

/// A block of an earlier run, of which an older store knows nothing.
#[test]
fn what_the_store_forgot_settles_no_doubt() {
    let mut world = World::with_minimum(4);
    world.restart();
    world.memory = Memory::new(false, 3, world.now).forgetful(true);
    world.describe_after(1);
    let first = world.store.primary().unwrap().id.clone().unwrap();
    world.give(&first, BlockKind::Address, 1);
    world.now = world.now + Duration::from_secs(30);
    let handle = lost_assign(&mut world);
    world.describe_after(32);
    assert!(world.store.eni(handle).unwrap().in_doubt_since.is_some());
    world.describe_after(30);
    assert_eq!(world.store.eni(handle).unwrap().in_doubt_since, None);
}

/// An Attach that was done and not answered: the instance is full with this very ENI, and EC2 may say so
/// when it is asked again.
fn an_attach_in_doubt(restarts: bool) -> (World, Action) {
    let mut world = World::with_minimum(4);
    while world.add_without_growth() {}
    world.waiting = 6;
    let create = world.planned(|a| matches!(a, Action::Create { .. }));
    world.carry_out(&create);
    let attach = world.planned(|a| matches!(a, Action::Attach { .. }));
    begin(&mut world.store, &attach, world.now);
    let Action::Attach {
        eni, device_index, ..
    } = &attach
    else {
        unreachable!()
    };
    world.attach(eni, *device_index);
    if restarts {
        world.restart();
    } else {
        world.refuse(&attach, ErrorClass::UnknownOutcome);
    }
    (world, attach)
}

#[test]
fn a_refused_repeat_of_an_attach_is_no_word_of_the_first() {
    for restarts in [false, true] {
        for class in [
            ErrorClass::InstanceFull,
            ErrorClass::EniFull,
            ErrorClass::NotFound,
            ErrorClass::Other,
        ] {
            let (mut world, attach) = an_attach_in_doubt(restarts);
            let handle = attach.handle().unwrap();
            for _ in 0..4 {
                world.refuse(&attach, class);
                world.now = world.now + Duration::from_secs(1);
            }
            let eni = world.store.eni(handle).unwrap();
            assert_eq!(eni.phase, ipam_core::Phase::Created, "{class:?}");
            // EC2 tells: it serves at once, and nothing is in doubt.
            world.describe_after(1);
            let eni = world.store.eni(handle).unwrap();
            assert_eq!(eni.phase, ipam_core::Phase::Ready, "{class:?}");
            assert_eq!(eni.in_doubt_since, None, "{class:?}");
        }
    }
}

/// It was not done after all: EC2 is asked for this instance's ENIs and does not name it. Past the window that
/// is an answer, and a refusal is one again.
#[test]
fn an_attach_that_was_not_done_is_told_within_the_window() {
    let (mut world, attach) = an_attach_in_doubt(false);
    let handle = attach.handle().unwrap();
    let eni = world.store.eni(handle).unwrap().id.clone().unwrap();
    world.ec2.get_mut(&eni).unwrap().attachment = None;
    world.describe_after(30);
    assert!(world.store.eni(handle).unwrap().in_doubt_since.is_some());
    world.describe_after(31);
    assert_eq!(world.store.eni(handle).unwrap().in_doubt_since, None);
    world.refuse(&attach, ErrorClass::InstanceFull);
    assert_eq!(
        world.store.eni(handle).unwrap().phase,
        ipam_core::Phase::Detached
    );
}
