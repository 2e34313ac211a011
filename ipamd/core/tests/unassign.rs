//! An Unassign that was not answered, and one that is refused after it.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::World;
use ipam_core::cloud::ErrorClass;
use ipam_core::datastore::Datastore;
use ipam_core::outcome::begin;
use ipam_core::plan::{Action, Policy};
use ipam_core::{Block, BlockState, EniHandle, EniId, Family};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

fn state(world: &World, block: Block) -> Option<BlockState> {
    let primary = world.store.primary().unwrap();
    primary.blocks.get(&block).copied()
}

/// A pool that has settled a while ago, its primary ENI and one of that one's blocks.
fn scene() -> (World, EniHandle, EniId, Block) {
    let mut world = World::new("m5.large", Policy::default());
    world.settle();
    world.now = world.now + Duration::from_secs(120);
    let primary = world.store.primary().unwrap();
    let (handle, eni) = (primary.handle, primary.id.clone().unwrap());
    let block = *primary.blocks.keys().next().unwrap();
    (world, handle, eni, block)
}

/// EC2 did the first and nobody heard; the second is throttled. The block may be another node's.
#[test]
fn a_refusal_does_not_bring_back_what_may_be_gone() {
    let mut world = World::new(
        "m5.large",
        Policy {
            minimum_ip: Some(4),
            ..Policy::default()
        },
    );
    world.settle();
    let primary = world.store.primary().unwrap();
    let (handle, eni) = (primary.handle, primary.id.clone().unwrap());
    let block = *primary.blocks.keys().next().unwrap();
    let unassign = Action::Unassign {
        handle,
        eni: eni.clone(),
        blocks: vec![block],
    };
    begin(&mut world.store, &unassign, world.now);
    world
        .ec2
        .get_mut(&eni)
        .unwrap()
        .blocks
        .retain(|b| *b != block);
    world.refuse(&unassign, ErrorClass::UnknownOutcome);
    assert_eq!(state(&world, block), Some(BlockState::Releasing));

    // Missing once: not gone yet, but surely not ours to give.
    world.now = world.now + Duration::from_secs(61);
    world.carry_out(&Action::Describe);
    begin(&mut world.store, &unassign, world.now);
    world.refuse(&unassign, ErrorClass::Throttled);
    assert_eq!(state(&world, block), Some(BlockState::Releasing));
    world.now = world.now + Duration::from_secs(31);
    world.carry_out(&Action::Describe);
    assert_eq!(state(&world, block), None);
}

/// One that EC2 did not look at, and none before it: the block serves on.
#[test]
fn a_refusal_alone_changes_nothing() {
    let mut world = World::new("m5.large", Policy::default());
    world.settle();
    let primary = world.store.primary().unwrap();
    let block = *primary.blocks.keys().next().unwrap();
    let unassign = Action::Unassign {
        handle: primary.handle,
        eni: primary.id.clone().unwrap(),
        blocks: vec![block],
    };
    begin(&mut world.store, &unassign, world.now);
    world.refuse(&unassign, ErrorClass::Throttled);
    assert_eq!(state(&world, block), Some(BlockState::Confirmed));
}

/// Whatever EC2 says but yes, the block is not forgotten: it serves on if EC2 did not even look, and is
/// nobody's until EC2 has told if it may have done it. Then it is what EC2 says, at the next look.
#[test]
fn no_refusal_is_taken_for_a_yes() {
    use ErrorClass::*;
    for class in [
        Throttled,
        Unreachable,
        Unauthorized,
        UnknownOutcome,
        NotFound,
        WrongState,
        EniFull,
        Other,
    ] {
        for done in [false, true] {
            let (mut world, handle, eni, block) = scene();
            let before = world.store.primary().unwrap().blocks.len();
            let unassign = Action::Unassign {
                handle,
                eni: eni.clone(),
                blocks: vec![block],
            };
            begin(&mut world.store, &unassign, world.now);
            let stays = matches!(class, Throttled | Unreachable | Unauthorized);
            let before_it = world.ec2.clone();
            if done && !stays {
                let held = &mut world.ec2.get_mut(&eni).unwrap().blocks;
                held.retain(|b| *b != block);
            }
            world.refuse(&unassign, class);
            let want = match stays {
                true => BlockState::Confirmed,
                false => BlockState::Releasing,
            };
            assert_eq!(state(&world, block), Some(want), "{class:?}");
            // A Describe that lags behind it shows the block in any case.
            let after_it = std::mem::replace(&mut world.ec2, before_it);
            world.describe_after(10);
            assert_eq!(state(&world, block), Some(want), "{class:?}, by a Describe");
            world.ec2 = after_it;
            // Held on to, it counts against the ENI's slots, and nobody new is put into it.
            while world.add_without_growth() {}
            assert_eq!(
                world.store.owner(ip_of(block)).is_some(),
                stays,
                "{class:?}"
            );
            assert_eq!(world.store.primary().unwrap().blocks.len(), before);
            for seconds in [61, 31, 31] {
                world.now = world.now + Duration::from_secs(seconds);
                world.carry_out(&Action::Describe);
            }
            let told = (!done || stays).then_some(BlockState::Confirmed);
            assert_eq!(state(&world, block), told, "{class:?}, done: {done}");
        }
    }
}

fn ip_of(block: Block) -> std::net::IpAddr {
    block.nth(0).unwrap()
}

/// An Unassign of which nobody knows what became, by a lost answer, by a kill, or by both: a Describe
/// that lags behind it shows the block still, and that gives it to nobody.
#[test]
fn a_describe_that_lags_does_not_bring_back_what_may_be_gone() {
    for (lost, killed) in [(true, false), (false, true), (true, true)] {
        let policy = Policy {
            minimum_ip: Some(4),
            ..Policy::default()
        };
        let mut world = World::new("m5.large", policy);
        world.settle();
        let primary = world.store.primary().unwrap();
        let (handle, eni) = (primary.handle, primary.id.clone().unwrap());
        let block = *primary.blocks.keys().next().unwrap();
        let unassign = Action::Unassign {
            handle,
            eni: eni.clone(),
            blocks: vec![block],
        };
        world.now = world.now + Duration::from_secs(120);
        begin(&mut world.store, &unassign, world.now);
        if lost {
            world.refuse(&unassign, ErrorClass::UnknownOutcome);
        }
        if killed {
            world.now = world.now + Duration::from_secs(5);
            world.restart();
        }
        let words = format!("lost: {lost}, killed: {killed}");
        for _ in 0..3 {
            world.describe_after(10);
            assert_eq!(state(&world, block), Some(BlockState::Releasing), "{words}");
            while world.add_without_growth() {}
            assert_eq!(world.store.owner(ip_of(block)), None, "{words}");
        }
        let held = &mut world.ec2.get_mut(&eni).unwrap().blocks;
        held.retain(|b| *b != block);
        for seconds in [31, 31] {
            world.now = world.now + Duration::from_secs(seconds);
            world.carry_out(&Action::Describe);
        }
        assert_eq!(state(&world, block), None, "{words}");
    }
}

/// One that EC2 did and answered: a Describe that lags behind the answer shows the block still.
#[test]
fn what_was_given_back_does_not_come_back() {
    for killed in [false, true] {
        let (mut world, handle, eni, block) = scene();
        let blocks = vec![block];
        let stale = world.ec2.clone();
        world.carry_out(&Action::Unassign {
            handle,
            eni,
            blocks,
        });
        if killed {
            world.now = world.now + Duration::from_secs(5);
            world.restart();
        }
        assert_eq!(state(&world, block), None);
        world.ec2 = stale;
        for _ in 0..3 {
            world.describe_after(15);
            assert_eq!(state(&world, block), None, "killed: {killed}");
        }
    }
}

/// An ENI in a subnet that gives pods nothing any more has blocks of both families: each is given back by a call of
/// its own, since one may be refused (a role without `UnassignIpv6Addresses`) when the other is done.
#[test]
fn families_are_given_back_one_by_one() {
    let (mut world, handle, eni, _) = scene();
    let prefix = Block::new("2001:db8:0:0:1::/80".parse().unwrap()).unwrap();
    world.ec2.get_mut(&eni).unwrap().blocks.push(prefix);
    let mut seen = Vec::new();
    for _ in 0..2 {
        world.describe_after(3_600);
        let mut enis: Vec<_> = world.store.enis().values().cloned().collect();
        enis.iter_mut().for_each(|eni| eni.excluded = true);
        world.store = Datastore::restore(world.policy.cooldown, enis, vec![], BTreeMap::new());
        world.wire();
        let of_it = |a: &Action| matches!(a, Action::Unassign { handle: of, .. } if *of == handle);
        let action = world.plan().actions.into_iter().find(of_it).unwrap();
        let Action::Unassign { blocks, .. } = &action else {
            unreachable!("chosen so");
        };
        let families: BTreeSet<Family> = blocks.iter().map(Block::family).collect();
        seen.push(families.into_iter().collect::<Vec<_>>());
        world.carry_out(&action);
    }
    assert_eq!(seen, [[Family::V4], [Family::V6]]);
    assert!(world.store.eni(handle).unwrap().blocks.is_empty());
}
