//! A Describe that lags behind a write of ours shows the past, and changes nothing.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::World;
use ipam_core::check::check;
use ipam_core::outcome::{Done, finish};
use ipam_core::plan::{Action, Memory};
use ipam_core::{Block, BlockState, Eni, EniId, Phase};
use std::time::Duration;

fn world(minimum_ip: u32) -> World {
    let mut world = World::with_minimum(minimum_ip);
    world.now = world.now + Duration::from_secs(300);
    world.carry_out(&Action::Describe);
    world
}

fn second(world: &World) -> &Eni {
    world.store.enis().values().find(|e| !e.primary).unwrap()
}

/// Does the write, and lets EC2 show for a minute what was before it.
fn lag_behind(world: &mut World, write: &Action, unchanged: impl Fn(&mut World)) {
    let before = world.ec2.clone();
    world.carry_out(write);
    let after = std::mem::replace(&mut world.ec2, before);
    for seconds in [5, 20, 34] {
        world.describe_after(seconds);
        unchanged(world);
        assert_eq!(check(&world.store, world.now), vec![]);
    }
    world.ec2 = after;
    for seconds in [3, 31, 31] {
        world.describe_after(seconds);
        unchanged(world);
    }
}

fn state(world: &World, block: Block) -> Option<BlockState> {
    let enis = world.store.enis().values();
    enis.filter_map(|e| e.blocks.get(&block).copied()).next()
}

#[test]
fn new_addresses_stay() {
    for leased in [false, true] {
        let mut world = world(4);
        let before = world.store.primary().unwrap().blocks.len();
        world.policy.minimum_ip = Some(9);
        let assign = world.planned(|a| matches!(a, Action::Assign { .. }));
        let count = world.total();
        lag_behind(&mut world, &assign, |world| {
            while leased && world.add_without_growth() {}
            let blocks = &world.store.primary().unwrap().blocks;
            assert_eq!(blocks.len(), before + 5, "leased: {leased}, had {count}");
            assert!(blocks.values().all(|s| *s == BlockState::Confirmed));
        });
    }
}

#[test]
fn a_new_eni_stays() {
    let mut world = world(4);
    world.policy.minimum_ip = Some(14);
    let create = world.planned(|a| matches!(a, Action::Create { .. }));
    world.carry_out(&create);
    let attach = world.planned(|a| matches!(a, Action::Attach { .. }));
    lag_behind(&mut world, &attach, |world| {
        assert_eq!(second(world).phase, Phase::Ready);
    });
}

/// One that was at this place before: not the one that we put there since.
#[test]
fn a_new_eni_keeps_its_place() {
    let mut world = world(14);
    let mut old = world.ec2[&second(&world).id.clone().unwrap()].clone();
    let ours = second(&world).id.clone().unwrap();
    world.carry_out(&Action::Detach {
        handle: second(&world).handle,
        attachment: second(&world).attachment.clone().unwrap(),
    });
    world.carry_out(&Action::Delete {
        handle: second(&world).handle,
        eni: ours.clone(),
    });
    world.now = world.now + Duration::from_secs(1000);
    world.carry_out(&Action::Describe);
    let create = world.planned(|a| matches!(a, Action::Create { .. }));
    world.carry_out(&create);
    // Somebody's, which was there for a moment.
    old.id = EniId("eni-by-hand".into());
    old.ours = false;
    old.blocks.clear();
    old.address = "10.0.99.9/16".parse().ok();
    world.ec2.insert(old.id.clone(), old.clone());
    let attach = world.planned(|a| matches!(a, Action::Attach { .. }));
    let handle = second(&world).handle;
    world.ec2.remove(&old.id);
    world.carry_out(&attach);
    let after = world.ec2.clone();
    let made = second(&world).id.clone().unwrap();
    world.ec2.remove(&made);
    world.ec2.insert(old.id.clone(), old);
    for seconds in [5, 20, 34] {
        world.describe_after(seconds);
        assert_eq!(world.store.eni(handle).map(|e| e.phase), Some(Phase::Ready));
        assert_eq!(check(&world.store, world.now), vec![]);
    }
    world.ec2 = after;
    world.describe_after(3);
    assert_eq!(world.store.eni(handle).map(|e| e.phase), Some(Phase::Ready));
}

#[test]
fn a_detached_eni_does_not_come_back() {
    let mut world = world(14);
    let (handle, attachment) = (second(&world).handle, second(&world).attachment.clone());
    let detach = Action::Detach {
        handle,
        attachment: attachment.unwrap(),
    };
    lag_behind(&mut world, &detach, |world| {
        assert_eq!(
            world.store.eni(handle).map(|e| e.phase),
            Some(Phase::Detached)
        );
        let free = world.store.eni(handle).is_some_and(Eni::serves);
        assert!(!free);
    });
}

#[test]
fn a_deleted_eni_does_not_come_back() {
    let mut world = world(14);
    let (handle, eni) = (second(&world).handle, second(&world).id.clone().unwrap());
    let shown = world.ec2[&eni].clone();
    world.carry_out(&Action::Detach {
        handle,
        attachment: second(&world).attachment.clone().unwrap(),
    });
    world.now = world.now + Duration::from_secs(2);
    world.carry_out(&Action::Delete {
        handle,
        eni: eni.clone(),
    });
    world.ec2.insert(eni.clone(), shown);
    for seconds in [5, 20, 34] {
        world.describe_after(seconds);
        assert_eq!(world.store.enis().len(), 1);
    }
    // Beyond its lag EC2's word is taken.
    world.describe_after(3);
    assert!(world.store.eni_by_id(&eni).is_some());
}

/// Steady state costs no write: that it is told to go with the instance is not unsaid by a Describe
/// begun before.
#[test]
fn delete_on_termination_is_said_once() {
    let mut world = world(4);
    world.policy.minimum_ip = Some(14);
    for wanted in [
        (|a| matches!(a, Action::Create { .. })) as fn(&Action) -> bool,
        |a| matches!(a, Action::Attach { .. }),
    ] {
        let action = world.planned(wanted);
        world.carry_out(&action);
    }
    let says = |a: &Action| matches!(a, Action::SetDeleteOnTermination { .. });
    let modify = world.planned(says);
    lag_behind(&mut world, &modify, |world| {
        assert!(!world.plan().actions.iter().any(says));
    });
    assert_eq!(world.calls["modify"], 1);
}

/// A block that another ENI had before.
#[test]
fn a_moved_block_stays_where_it_is() {
    let mut world = world(14);
    let first = world.store.primary().unwrap();
    let (to, to_id) = (first.handle, first.id.clone().unwrap());
    let from = second(&world).id.clone().unwrap();
    let block = *second(&world).blocks.keys().next().unwrap();
    world.carry_out(&Action::Unassign {
        handle: second(&world).handle,
        eni: from,
        blocks: vec![block],
    });
    world.describe_after(61);
    let mut before = world.ec2.clone();
    let second_id = second(&world).id.clone().unwrap();
    before.get_mut(&second_id).unwrap().blocks.push(block);
    // EC2 gives it to the other one.
    let assign = Action::Assign {
        handle: to,
        eni: to_id.clone(),
        family: ipam_core::Family::V4,
        kind: block.kind(),
        count: 1,
    };
    ipam_core::outcome::begin(&mut world.store, &assign, world.now);
    let given = Ok(Done::Assigned(vec![block]));
    let (store, memory) = (&mut world.store, &mut world.memory);
    finish(store, memory, &assign, given, world.now, world.now);
    world.wire();
    let mut after = world.ec2.clone();
    after.get_mut(&to_id).unwrap().blocks.push(block);
    world.ec2 = before;
    let on = |world: &World| world.store.eni(to).unwrap().blocks.get(&block).copied();
    for seconds in [5, 20, 34] {
        world.describe_after(seconds);
        assert_eq!(on(&world), Some(BlockState::Confirmed));
    }
    world.ec2 = after;
    world.describe_after(3);
    assert_eq!(on(&world), Some(BlockState::Confirmed));
}

/// Begun within a minute after the write and answered later, it lags all the same.
#[test]
fn a_slow_describe_counts_from_its_beginning() {
    let mut world = world(4);
    world.policy.minimum_ip = Some(9);
    let before = world.ec2.clone();
    let assign = world.planned(|a| matches!(a, Action::Assign { .. }));
    world.carry_out(&assign);
    let written = world.now;
    let count = world.store.primary().unwrap().blocks.len();
    for (sent, answered) in [(10, 65), (55, 100)] {
        let views = Done::Described(before.values().cloned().collect());
        let at = |seconds| written + Duration::from_secs(seconds);
        let (store, memory) = (&mut world.store, &mut world.memory);
        let action = Action::Describe;
        finish(store, memory, &action, Ok(views), at(sent), at(answered));
        assert_eq!(world.store.primary().unwrap().blocks.len(), count);
    }
}

/// A store that came back older has blocks that an earlier run gave back: nobody gets them as long as a
/// Describe may show them from before.
#[test]
fn an_older_store_serves_nothing_that_may_be_gone() {
    let mut world = world(4);
    let primary = world.store.primary().unwrap();
    let (eni, block) = (
        primary.id.clone().unwrap(),
        *primary.blocks.keys().next().unwrap(),
    );
    world.restart();
    world.memory = Memory::new(false, 3, world.now).forgetful(true);
    for seconds in [1, 14, 20, 24] {
        world.describe_after(seconds);
        assert_eq!(state(&world, block), Some(BlockState::Releasing));
        while world.add_without_growth() {}
        assert_eq!(world.store.owner(block.nth(0).unwrap()), None);
    }
    let held = &mut world.ec2.get_mut(&eni).unwrap().blocks;
    held.retain(|b| *b != block);
    for seconds in [2, 31] {
        world.describe_after(seconds);
        assert_ne!(state(&world, block), Some(BlockState::Confirmed));
    }
    assert_eq!(state(&world, block), None);
    assert!(world.add_without_growth());
}
