//! Which ENIs are asked for, attached where, and given back when.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::World;
use ipam_core::cloud::ErrorClass;
use ipam_core::outcome::{Done, begin, finish};
use ipam_core::plan::Action;
use ipam_core::reconcile::reconcile;
use ipam_core::*;
use std::time::Duration;

/// An ENI that somebody attached by hand.
fn by_hand(world: &World, unmanaged: Option<Unmanaged>) -> EniView {
    let block = Block::address("10.0.99.10".parse().unwrap());
    common::parts::by_hand(world, block, unmanaged)
}

/// The first action of this kind, however long it takes; all else that is planned until then is done.
fn wait_for(world: &mut World, wanted: impl Fn(&Action) -> bool) -> Action {
    for _ in 0..3_600 {
        let plan = world.plan();
        world.memory.remember(&plan);
        if let Some(found) = plan.actions.iter().find(|action| wanted(action)) {
            return found.clone();
        }
        plan.actions
            .iter()
            .for_each(|action| world.carry_out(action));
        world.now = world.now + Duration::from_secs(1);
    }
    panic!("not planned within an hour: {:?}", world.plan());
}

/// Nothing is asked for an ENI that is to be left alone, and nothing of it is given to a pod, however short the pool
/// is. The same one is used if nothing says so.
#[test]
fn an_eni_that_is_left_alone_is_left_alone() {
    for unmanaged in [
        None,
        Some(Unmanaged::TaggedNoManage),
        Some(Unmanaged::Untagged),
    ] {
        let mut world = World::with_minimum(1);
        let view = by_hand(&world, unmanaged);
        world.ec2.insert(view.id.clone(), view.clone());
        world.carry_out(&Action::Describe);
        world.wire();
        world.policy.minimum_ip = Some(30);
        world.settle();
        let now = &world.ec2[&view.id];
        assert_eq!(
            now.blocks != view.blocks,
            unmanaged.is_none(),
            "{unmanaged:?}"
        );
        assert_eq!(now.attachment, view.attachment);
        // An m5.large has three ENIs with nine addresses each.
        assert_eq!(world.total(), if unmanaged.is_none() { 27 } else { 18 });
    }
}

/// The answer to a Create is lost, a Describe shows the ENI, and the repeated call answers with the same one: it is
/// one ENI.
#[test]
fn an_eni_that_was_made_twice_is_one() {
    let mut world = World::with_minimum(1);
    world.policy.minimum_ip = Some(14);
    let create = world.planned(|a| matches!(a, Action::Create { .. }));
    begin(&mut world.store, &create, world.now);
    world.refuse(&create, ErrorClass::UnknownOutcome);
    let made = by_hand(&world, None);
    let mut views: Vec<EniView> = world.ec2.values().cloned().collect();
    views.push(made.clone());
    let now = world.now;
    reconcile(&mut world.store, &mut world.memory, &views, now, now);
    let done = Done::Created(made.clone());
    finish(
        &mut world.store,
        &mut world.memory,
        &create,
        Ok(done),
        now,
        now,
    );
    let same = world
        .store
        .enis()
        .values()
        .filter(|eni| eni.id.as_ref() == Some(&made.id));
    assert_eq!(same.count(), 1);
    assert_eq!(world.store.enis().len(), 2, "the primary one, and this");
}

/// EC2 knows of somebody at the place: the next one is tried, not the same again.
#[test]
fn a_place_that_is_taken_is_passed_over() {
    let mut world = World::with_minimum(1);
    world.policy.minimum_ip = Some(14);
    let create = world.planned(|a| matches!(a, Action::Create { .. }));
    world.carry_out(&create);
    for expected in 1..4 {
        let attach = world.planned(|a| matches!(a, Action::Attach { .. }));
        let Action::Attach { device_index, .. } = attach else {
            panic!("{attach:?}")
        };
        assert_eq!(device_index, expected);
        begin(&mut world.store, &attach, world.now);
        world.refuse(&attach, ErrorClass::IndexTaken);
        world.now = world.now + Duration::from_secs(120);
    }
}

/// An ENI stays a minute at least: pods that come and go must not cost a Create and a Delete each.
#[test]
fn a_young_eni_is_not_given_back() {
    let mut world = World::with_minimum(1);
    world.policy.minimum_ip = Some(14);
    while world.per_eni().len() < 2 {
        let plan = world.plan();
        world.memory.remember(&plan);
        plan.actions
            .iter()
            .for_each(|action| world.carry_out(action));
        world.wire();
        world.now = world.now + Duration::from_secs(1);
    }
    let came = world
        .store
        .enis()
        .values()
        .map(|eni| eni.since)
        .max()
        .unwrap();
    world.policy.minimum_ip = Some(1);
    wait_for(&mut world, |a| matches!(a, Action::Detach { .. }));
    let age = world.now.since(came);
    assert!(age >= Duration::from_secs(60), "after {age:?}");
}

/// EC2 does not know an ENI that is to be deleted: it is gone, and nothing more is asked for it.
#[test]
fn an_eni_that_is_gone_already_is_deleted() {
    let mut world = World::with_minimum(14);
    world.policy.minimum_ip = Some(1);
    world.now = world.now + Duration::from_secs(3600);
    let detach = wait_for(&mut world, |a| matches!(a, Action::Detach { .. }));
    let handle = detach.handle().unwrap();
    world.carry_out(&detach);
    let delete = wait_for(&mut world, |a| matches!(a, Action::Delete { .. }));
    begin(&mut world.store, &delete, world.now);
    world.refuse(&delete, ErrorClass::NotFound);
    assert_eq!(world.store.eni(handle), None);
}

/// A refusal that contradicts what we know of an ENI is cause to ask EC2 within half a minute, not at the next look
/// in half an hour; one for the rate of calls is none.
#[test]
fn a_refusal_that_contradicts_us_is_looked_into() {
    for (class, looks) in [
        (ErrorClass::EniFull, true),
        (ErrorClass::NotFound, true),
        (ErrorClass::WrongState, true),
        (ErrorClass::SubnetFull, false),
        (ErrorClass::Throttled, false),
        (ErrorClass::Unreachable, false),
    ] {
        let mut world = World::with_minimum(1);
        world.policy.minimum_ip = Some(2);
        let assign = world.planned(|a| matches!(a, Action::Assign { .. }));
        begin(&mut world.store, &assign, world.now);
        world.refuse(&assign, class);
        world.now = world.now + Duration::from_secs(30);
        assert_eq!(
            world.plan().actions.contains(&Action::Describe),
            looks,
            "{class:?}"
        );
    }
}

/// Of two blocks, EC2 says that one is not this ENI's any more: nobody knows of the other, so neither is a pod's
/// before EC2 has told, and nothing more is asked for the ENI meanwhile.
#[test]
fn blocks_of_a_refused_unassign_are_nobodys() {
    let mut world = World::with_minimum(4);
    world.policy.minimum_ip = Some(2);
    world.now = world.now + Duration::from_secs(3600);
    let unassign = wait_for(&mut world, |a| matches!(a, Action::Unassign { .. }));
    let handle = unassign.handle().unwrap();
    begin(&mut world.store, &unassign, world.now);
    world.refuse(&unassign, ErrorClass::NotFound);
    let eni = world.store.eni(handle).unwrap();
    assert_eq!(eni.in_doubt_since, Some(world.now));
    let Action::Unassign { blocks, .. } = unassign else {
        panic!("{unassign:?}")
    };
    for block in blocks {
        assert_eq!(
            eni.blocks.get(&block),
            Some(&BlockState::Releasing),
            "{block}"
        );
    }
}
