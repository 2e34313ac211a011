//! No interface's primary address is ever a pod's, whoever lists it among the secondary ones.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::World;
use ipam_core::check::check;
use ipam_core::plan::{Action, Policy};
use ipam_core::{Block, Unmanaged};
use std::net::IpAddr;
use std::time::Duration;

fn own_addresses(world: &World) -> Vec<IpAddr> {
    let own = world.ec2.values().filter_map(|v| v.address);
    own.map(|net| net.addr()).collect()
}

fn nobody_has_them(world: &mut World, what: &str) {
    let own = own_addresses(world);
    for eni in world.store.enis().values() {
        for block in eni.blocks.keys() {
            let holds = own.iter().find(|ip| block.contains(**ip));
            assert_eq!(holds, None, "{what}: {block} is in the pool");
        }
    }
    while world.add_without_growth() {}
    for ip in own {
        assert_eq!(world.store.owner(ip), None, "{what}");
    }
    assert_eq!(check(&world.store, world.now), vec![], "{what}");
}

/// By a Describe: its own, another ENI's, or in a prefix around it.
#[test]
fn a_describe_that_lists_them_gives_none() {
    type Lie = fn(IpAddr) -> Block;
    for (what, lie) in [
        ("as an address", Block::address as Lie),
        ("in a prefix", Block::prefix_of as Lie),
    ] {
        for other in [false, true] {
            for restarted in [false, true] {
                let policy = Policy {
                    minimum_ip: Some(14),
                    ..Policy::default()
                };
                let mut world = World::new("m5.large", policy.clone());
                world.settle();
                let own = own_addresses(&world);
                assert_eq!(own.len(), 2);
                for (n, view) in world.ec2.values_mut().enumerate() {
                    let of = if other { 1 - n } else { n };
                    view.blocks.insert(0, lie(own[of]));
                }
                if restarted {
                    // Who knows nothing hears of ENIs and blocks at once.
                    let fresh = World::new("m5.large", policy);
                    world.store = fresh.store;
                    world.memory = fresh.memory;
                }
                for seconds in [0, 70, 70] {
                    world.now = world.now + Duration::from_secs(seconds);
                    world.carry_out(&Action::Describe);
                    let words = format!("{what}, of the other: {other}, restarted: {restarted}");
                    nobody_has_them(&mut world, &words);
                }
            }
        }
    }
}

/// By the answer to an Assign or to a Create.
#[test]
fn an_answer_that_lists_them_gives_none() {
    let policy = Policy {
        minimum_ip: Some(4),
        ..Policy::default()
    };
    let mut world = World::new("m5.large", policy);
    world.settle();
    let first = world.store.primary().unwrap().id.clone().unwrap();
    let own = own_addresses(&world)[0];
    // What the naive EC2 gives next is at the end of what it has.
    world.policy.minimum_ip = Some(14);
    for action in world.plan().actions {
        world.carry_out(&action);
    }
    world
        .ec2
        .get_mut(&first)
        .unwrap()
        .blocks
        .push(Block::address(own));
    world.settle();
    nobody_has_them(&mut world, "after growth");
}

/// Some platforms show the first interface at device index 1: what IMDS calls the node's own decides, and
/// index 0 of the first card is nobody's.
#[test]
fn the_first_interface_may_be_at_another_place() {
    for restarted in [false, true] {
        let mut world = World::new(
            "m5.large",
            Policy {
                minimum_ip: Some(14),
                ..Policy::default()
            },
        );
        let id = world.ec2.keys().next().unwrap().clone();
        let first = world.ec2.get_mut(&id).unwrap();
        first.attachment.as_mut().unwrap().device_index = 1;
        first.unmanaged = Some(Unmanaged::TaggedNoManage);
        first.ours = true;
        let mac = first.mac;
        world.store.set_primary(mac);
        world.describe_after(0);
        if restarted {
            world.restart();
            world.store.set_primary(mac);
            world.describe_after(0);
        }
        world.settle();

        let primary = world.store.primary().unwrap();
        assert_eq!((primary.id.as_ref(), primary.device_index), (Some(&id), 1));
        assert_eq!((primary.unmanaged, primary.ours), (None, false));
        let others = world.store.enis().values().filter(|e| !e.primary);
        let places: Vec<u32> = others.map(|e| e.device_index).collect();
        assert_eq!(places, [2]);
    }
}

/// What an earlier daemon took for the node's own is put right by IMDS's word.
#[test]
fn imds_outranks_what_was_stored() {
    let mut world = World::with_minimum(14);
    let second = world.store.enis().values().find(|e| !e.primary).unwrap();
    let (handle, mac) = (second.handle, second.mac.unwrap());
    world.store.set_primary(mac);
    let all: Vec<_> = world.store.enis().values().collect();
    let primary = all.iter().filter(|e| e.primary).map(|e| e.handle);
    assert_eq!(primary.collect::<Vec<_>>(), [handle]);
    assert!(!world.store.eni(handle).unwrap().ours);
}
