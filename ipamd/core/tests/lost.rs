//! ENIs that are gone: their places and their own addresses are others'.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::World;
use ipam_core::check::check;
use ipam_core::plan::Action;
use ipam_core::{Block, BlockState, EniView, Phase};
use std::time::Duration;

/// An ENI of somebody else, or one of ours before it was detached by hand.
fn stranger(world: &World, block: Block) -> EniView {
    common::parts::by_hand(world, block, None)
}

/// A Describe that lags shows one at the place for which an ENI of ours was made; then EC2 attaches
/// ours there.
#[test]
fn two_are_never_at_one_place() {
    for leased in [false, true] {
        let mut world = World::with_minimum(4);
        world.policy.minimum_ip = Some(14);
        let create = world.planned(|a| matches!(a, Action::Create { .. }));
        world.carry_out(&create);
        let view = stranger(&world, Block::address("10.0.99.10".parse().unwrap()));
        let id = view.id.clone();
        world.ec2.insert(id.clone(), view);
        world.carry_out(&Action::Describe);
        let other = world.store.eni_by_id(&id).unwrap().handle;
        world.wire();
        while leased && world.store.leases_on(other) == 0 {
            assert!(world.add_without_growth());
        }
        world.ec2.remove(&id);

        let attach = world.planned(|a| matches!(a, Action::Attach { .. }));
        assert!(matches!(
            attach,
            Action::Attach {
                device_index: 1,
                ..
            }
        ));
        world.carry_out(&attach);

        assert_eq!(check(&world.store, world.now), vec![], "leased: {leased}");
        let left = world.store.eni_by_id(&id);
        assert_eq!(left.map(|e| e.phase), leased.then_some(Phase::Leaving));
        let states = left.map(|e| e.blocks.values().copied().collect::<Vec<_>>());
        assert_eq!(states, leased.then(|| vec![BlockState::Lost]));
    }
}

/// EC2 gives the primary address of one that was deleted by hand, under living pods, to another as a
/// secondary one.
#[test]
fn the_own_address_of_a_lost_eni_can_be_a_pods() {
    let mut world = World::with_minimum(14);
    let second = world.store.enis().values().find(|e| !e.primary).unwrap();
    let (lost, handle) = (second.id.clone().unwrap(), second.handle);
    let own = second.address.unwrap().addr();
    while world.store.leases_on(handle) == 0 {
        assert!(world.add_without_growth());
    }
    world.ec2.remove(&lost);
    world.describe_after(61);
    world.describe_after(31);
    assert_eq!(
        world.store.eni(handle).map(|e| e.phase),
        Some(Phase::Leaving)
    );

    let first = world.store.primary().unwrap().id.clone().unwrap();
    let block = Block::address(own);
    world.ec2.get_mut(&first).unwrap().blocks.push(block);
    world.describe_after(10);
    let state = world.store.primary().unwrap().blocks.get(&block).copied();
    assert_eq!(state, Some(BlockState::Confirmed));
    assert_eq!(check(&world.store, world.now), vec![]);
}

/// A Describe told of a loss and of what EC2 did with the address at once: another one follows soon.
#[test]
fn a_loss_is_looked_at_again() {
    let mut world = World::with_minimum(14);
    let second = world.store.enis().values().find(|e| !e.primary).unwrap();
    let (lost, own) = (second.id.clone().unwrap(), second.address.unwrap().addr());
    world.ec2.remove(&lost);
    let first = world.store.primary().unwrap().id.clone().unwrap();
    let block = Block::address(own);
    world.ec2.get_mut(&first).unwrap().blocks.push(block);
    world.describe_after(61);
    world.describe_after(31);
    let begun = world.now;
    // Ours would be deleted and replaced meanwhile; only looks count here.
    while !world.store.primary().unwrap().blocks.contains_key(&block) {
        let plan = world.plan();
        if plan.actions.contains(&Action::Describe) {
            world.carry_out(&Action::Describe);
        }
        world.now = world.now + Duration::from_secs(1);
        assert!(world.now.since(begun) < Duration::from_secs(60), "no look");
    }
}

/// An instance always has its first interface, whatever a Describe does not show.
#[test]
fn the_first_eni_is_never_lost() {
    let mut world = World::with_minimum(4);
    let first = world.store.primary().unwrap();
    let (handle, blocks) = (first.handle, first.blocks.clone());
    world.ec2.clear();
    for seconds in [61, 31, 31] {
        world.describe_after(seconds);
        let first = world.store.eni(handle).unwrap();
        assert_eq!((first.phase, &first.blocks), (Phase::Ready, &blocks));
    }
}
