//! An Unassign that was not answered, and one that is refused after it.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::World;
use ipam_core::cloud::ErrorClass;
use ipam_core::outcome::begin;
use ipam_core::plan::{Action, Policy};
use ipam_core::{Block, BlockState};
use std::time::Duration;

fn state(world: &World, block: Block) -> Option<BlockState> {
    let primary = world.store.primary().unwrap();
    primary.blocks.get(&block).copied()
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
