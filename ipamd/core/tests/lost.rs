//! ENIs that are gone: their places and their own addresses are others'.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::World;
use ipam_core::check::check;
use ipam_core::plan::Action;
use ipam_core::reconcile::Drift;
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
    world.store.set_unready(handle);
    world.look(61);
    world.look(31);
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

/// An instance always has its first interface: an answer without it is another instance's, and nothing
/// of it is believed.
#[test]
fn an_answer_without_the_first_eni_is_not_believed() {
    type Cut = fn(&mut World);
    let empty: Cut = |world| world.ec2.clear();
    let others_only: Cut = |world| {
        let first = world.store.primary().unwrap().id.clone().unwrap();
        world.ec2.remove(&first);
        let another = stranger(world, Block::address("10.0.99.10".parse().unwrap()));
        world.ec2.insert(another.id.clone(), another);
    };
    for cut in [empty, others_only] {
        let mut world = World::with_minimum(14);
        let (known, right) = (world.store.enis().clone(), world.ec2.clone());
        cut(&mut world);
        for seconds in [61, 31, 310, 310] {
            world.describe_after(seconds);
            assert_eq!(world.store.enis(), &known);
            let again = world.plan().actions.contains(&Action::Describe);
            assert!(!again, "it is asked again at once");
        }
        world.ec2 = right;
        world.describe_after(310);
        assert_eq!(world.store.enis(), &known);
    }
}

/// EC2 does not name an ENI on which a pod is, and the kernel has its link.
#[test]
fn a_used_eni_needs_more_than_one_witness_against_it() {
    let mut world = World::with_minimum(14);
    let second = world.store.enis().values().find(|e| !e.primary).unwrap();
    let (handle, id) = (second.handle, second.id.clone().unwrap());
    while world.store.leases_on(handle) == 0 {
        assert!(world.add_without_growth());
    }
    let view = world.ec2.remove(&id).unwrap();
    let mut told = Vec::new();
    for seconds in [61, 31, 31, 600] {
        told.extend(world.describe_after(seconds));
        assert_eq!(world.store.eni(handle).unwrap().phase, Phase::Ready);
    }
    assert_eq!(told, [Drift::EniDoubted(handle, 1)], "once");

    // It is asked less and less often.
    let asked = world.calls["describe"];
    world.run_for(3600);
    assert!(world.calls["describe"] - asked <= 8, "{:?}", world.calls);

    // IMDS alone speaks for it as well; without either it goes.
    world.store.set_unready(handle);
    world.memory.imds_shows([id.clone()].into_iter());
    world.look(31);
    world.look(31);
    assert_eq!(world.store.eni(handle).unwrap().phase, Phase::Attached);
    world.memory.imds_shows([].into_iter());
    assert_eq!(world.look(31), [Drift::EniLost(handle, 1)]);
    assert_eq!(world.store.eni(handle).unwrap().phase, Phase::Leaving);

    // EC2 had been wrong all the time.
    world.ec2.insert(id, view);
    world.look(31);
    let eni = world.store.eni(handle).unwrap();
    assert_eq!(eni.phase, Phase::Attached);
    assert!(eni.blocks.values().all(|b| *b == BlockState::Confirmed));
    assert_eq!(check(&world.store, world.now), vec![]);
}
