//! What a report gives as the reason of a shortage is so, and nothing is waited for in vain.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::World;
use ipam_core::cloud::ErrorClass;
use ipam_core::datastore::Datastore;
use ipam_core::plan::{Action, Memory, Note};
use ipam_core::{BlockState, Phase, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

fn notes(world: &World) -> Vec<Note> {
    world.plan().report.notes
}

fn says(world: &World, wanted: impl Fn(&Note) -> bool) -> bool {
    notes(world).iter().any(wanted)
}

const fn limit(note: &Note) -> bool {
    matches!(note, Note::AtLimit { .. })
}

/// Plans and refuses calls of this kind until none is planned.
fn refuse_all(world: &mut World, class: ErrorClass, wanted: impl Fn(&Action) -> bool) {
    for _ in 0..10 {
        let plan = world.plan();
        let Some(action) = plan.actions.iter().find(|a| wanted(a)).cloned() else {
            return;
        };
        ipam_core::outcome::begin(&mut world.store, &action, world.now);
        world.refuse(&action, class);
    }
    panic!("it never stops: {:?}", world.plan());
}

const fn assigns(action: &Action) -> bool {
    matches!(action, Action::Assign { .. })
}

const fn creates(action: &Action) -> bool {
    matches!(action, Action::Create { .. })
}

#[test]
fn the_limit_is_a_reason_only_where_no_slot_is_open() {
    let mut world = World::with_minimum(4);
    world.policy.max_eni = Some(1);
    while world.add_without_growth() {}
    world.waiting = 1;
    refuse_all(&mut world, ErrorClass::SubnetFull, assigns);
    assert!(!says(&world, limit), "{:?}", notes(&world));
    assert!(says(&world, |n| matches!(n, Note::Held { .. })));
    // One ENI's own trouble is told likewise.
    world.now = world.now + Duration::from_secs(700);
    refuse_all(&mut world, ErrorClass::WrongState, assigns);
    assert!(!says(&world, limit), "{:?}", notes(&world));
    assert!(says(&world, |n| matches!(n, Note::Held { error, .. }
        if error.class == ErrorClass::WrongState)));

    world.now = world.now + Duration::from_secs(700);
    world.waiting = 0;
    while world.add_pod() {}
    world.waiting = 1;
    assert!(says(&world, limit), "{:?}", notes(&world));
}

#[test]
fn only_addresses_that_a_pod_could_get_are_said_to_rest() {
    let mut world = World::with_minimum(1);
    world.policy.max_eni = Some(1);
    while world.add_pod() {}
    let pod = world.store.leases().values().next().unwrap();
    let (key, ip) = (pod.key.clone(), pod.addresses[0]);
    world.store.release(&key, world.now);
    let rests = |note: &Note| matches!(note, Note::Cooling(..));
    world.waiting = 1;
    let at = world.now + world.policy.cooldown;
    assert!(notes(&world).contains(&Note::Cooling(1, at)));
    // The whole ENI gives pods no addresses any more.
    let mut enis: Vec<_> = world.store.enis().values().cloned().collect();
    enis.iter_mut().for_each(|eni| eni.excluded = true);
    let leases = world.store.leases().values().cloned().collect();
    let released = BTreeMap::from([(ip, world.store.released(ip).unwrap().clone())]);
    world.store = Datastore::restore(world.policy.cooldown, enis, leases, released);
    assert!(!says(&world, rests), "{:?}", notes(&world));
}

#[test]
fn what_ec2_said_before_it_said_something_else_is_no_reason() {
    let mut world = World::with_minimum(1);
    while world.add_without_growth() {}
    world.policy.max_eni = Some(2);
    while world.total() < 9 {
        assert!(world.add_pod());
    }
    while world.add_without_growth() {}
    world.waiting = 1;
    let stale = |note: &Note| matches!(note, Note::Held { error, .. } if error.class == ErrorClass::Unreachable);
    let create = world.planned(creates);
    ipam_core::outcome::begin(&mut world.store, &create, world.now);
    world.refuse(&create, ErrorClass::Unreachable);
    assert!(says(&world, stale));
    world.now = world.now + Duration::from_secs(31);
    refuse_all(&mut world, ErrorClass::SubnetFull, creates);
    assert!(!says(&world, stale), "{:?}", notes(&world));
    world.now = world.now + Duration::from_secs(301);
    assert!(!says(&world, stale), "{:?}", notes(&world));
}

#[test]
fn a_doubt_tells_when_ec2_is_asked_about_it() {
    let mut world = World::with_minimum(4);
    world.policy.minimum_ip = Some(9);
    let assign = world.planned(assigns);
    ipam_core::outcome::begin(&mut world.store, &assign, world.now);
    world.refuse(&assign, ErrorClass::UnknownOutcome);
    world.describe_after(55);
    let asked: Timestamp = world.now + Duration::from_secs(10);
    world.now = world.now + Duration::from_secs(6);
    let tells = |note: &Note| matches!(note, Note::InDoubt(_, at) if *at == asked);
    assert!(says(&world, tells), "{:?} at {}", notes(&world), world.now);
}

/// Detached by hand while the daemon was away: the store has it, the kernel has no link, and nothing
/// else would tell for half an hour.
#[test]
fn an_eni_whose_link_does_not_come_is_looked_for_at_ec2() {
    let mut world = World::with_minimum(12);
    let second = world.store.enis().values().find(|e| !e.primary).unwrap();
    let (handle, id) = (second.handle, second.id.clone().unwrap());
    world.restart();
    world.store.set_unready(handle);
    world.ec2.remove(&id);
    let describes = |world: &World| world.plan().actions.contains(&Action::Describe);
    assert!(!describes(&world), "a warm restart asks nothing");
    world.now = world.now + Duration::from_secs(31);
    assert!(describes(&world));
    for seconds in [0, 31, 31] {
        world.now = world.now + Duration::from_secs(seconds);
        world.carry_out(&Action::Describe);
    }
    let phase = world.store.eni(handle).map(|e| e.phase);
    assert!(matches!(phase, None | Some(Phase::Detached)), "{phase:?}");
}

/// A link that stays away is asked about less and less often.
#[test]
fn a_link_that_never_comes_costs_few_calls() {
    let mut world = World::with_minimum(12);
    let handle = world.store.enis().values().find(|e| !e.primary).unwrap();
    let handle = handle.handle;
    world.restart();
    let mut describes = 0;
    for _ in 0..1800 {
        world.store.set_unready(handle);
        if world.plan().actions.contains(&Action::Describe) {
            world.carry_out(&Action::Describe);
            describes += 1;
        }
        world.now = world.now + Duration::from_secs(1);
    }
    assert!((4..=9).contains(&describes), "{describes}");
}

/// A store that lost something holds blocks back until EC2 has surely told. A write of ours in between
/// makes the first sure word one that lags: another one is asked for.
#[test]
fn what_was_held_back_is_asked_for_until_it_is_settled() {
    let mut world = World::with_minimum(4);
    world.restart();
    world.memory = Memory::new(false, 11, world.now).forgetful(true);
    world.describe_after(5);
    let held = |world: &World| {
        let enis = world.store.enis().values();
        let mut states = enis.flat_map(|e| e.blocks.values());
        states.any(|s| *s == BlockState::Releasing)
    };
    assert!(held(&world));
    world.now = world.now + Duration::from_secs(45);
    world.waiting = 1;
    let assign = world.planned(assigns);
    world.carry_out(&assign);
    world.waiting = 0;
    for _ in 0..120 {
        world.now = world.now + Duration::from_secs(1);
        if world.plan().actions.contains(&Action::Describe) {
            world.carry_out(&Action::Describe);
        }
    }
    assert!(!held(&world), "{:?}", world.store.enis());
}

/// Warm addresses are gathered before EC2 is asked for them: meanwhile nothing is being asked for.
#[test]
fn what_is_put_off_is_not_told_as_asked_for() {
    let mut world = World::with_minimum(4);
    world.memory = Memory::new(true, 7, world.now).spread_out();
    world.describe_after(1);
    world.policy.minimum_ip = Some(6);
    let asks = |note: &Note| matches!(note, Note::Growing(_));
    let mut put_off = 0;
    for _ in 0..600 {
        let plan = world.plan();
        world.memory.remember(&plan);
        if plan.actions.iter().any(assigns) {
            assert!(plan.report.notes.iter().any(asks), "{plan:?}");
            break;
        }
        put_off += 1;
        assert!(!plan.report.notes.iter().any(asks), "{plan:?}");
        world.now = world.now + Duration::from_secs(1);
    }
    assert!((1..600).contains(&put_off), "{put_off}");
}
