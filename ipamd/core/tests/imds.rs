//! IMDS may lag by minutes, show what is dead and hide what is there: it adds cause to ask EC2, names
//! ENIs before EC2 has told, and nothing else.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::World;
use ipam_core::plan::{Action, Policy};
use ipam_core::reconcile::learn_from_metadata;
use ipam_core::{AttachmentView, Block, EniId, EniView, Mac, Unmanaged};
use std::time::Duration;

fn block(text: &str) -> Block {
    Block::new(text.parse().unwrap()).unwrap()
}

/// Two ENIs; pods have addresses on both.
fn world() -> World {
    let policy = Policy {
        minimum_ip: Some(14),
        ..Policy::default()
    };
    let mut world = World::new("m5.large", policy);
    world.settle();
    for _ in 0..11 {
        assert!(world.add_without_growth());
    }
    assert_eq!(world.store.enis().len(), 2);
    assert!(
        world
            .store
            .enis()
            .keys()
            .all(|h| world.store.leases_on(*h) > 0)
    );
    world
}

/// As IMDS shows an ENI: no attachment id, no tags.
fn shown(view: &EniView) -> EniView {
    let mut view = view.clone();
    view.ours = false;
    if let Some(at) = &mut view.attachment {
        at.id = None;
        at.delete_on_termination = None;
    }
    view
}

fn ghost(blocks: Vec<Block>) -> EniView {
    EniView {
        id: EniId("eni-ghost".into()),
        mac: Mac([2, 0, 0, 0, 9, 9]),
        attachment: Some(AttachmentView {
            id: None,
            device_index: 2,
            card: 0,
            delete_on_termination: None,
        }),
        subnet: "subnet-1".into(),
        address: "10.0.99.9/16".parse().ok(),
        blocks,
        unmanaged: None,
        ours: false,
    }
}

fn asks_ec2_soon(world: &mut World) -> bool {
    world.now = world.now + Duration::from_secs(10);
    world.plan().actions.contains(&Action::Describe)
}

/// Whatever it shows once EC2 has told, the pool stays as it is; of an ENI that nobody knows EC2 is
/// asked.
#[test]
fn its_word_alone_changes_nothing() {
    let base = world();
    let truth: Vec<EniView> = base.ec2.values().map(shown).collect();
    let (first, second) = (truth[0].clone(), truth[1].clone());
    let without = |view: &EniView, blocks: Vec<Block>| EniView {
        blocks,
        ..view.clone()
    };
    let with = |view: &EniView, more: &[Block]| {
        let mut view = view.clone();
        view.blocks.extend(more);
        view
    };
    let own = Block::address(second.address.unwrap().addr());
    let detached = EniView {
        attachment: None,
        ..second.clone()
    };
    let dead = [block("10.0.99.10/32"), block("10.0.99.16/28")];
    let moved = second.blocks[0];
    let cases: Vec<(&str, Vec<EniView>, bool)> = vec![
        ("nothing at all", vec![], false),
        ("one ENI is hidden", vec![first.clone()], false),
        (
            "it shows no blocks",
            vec![without(&first, vec![]), without(&second, vec![])],
            false,
        ),
        (
            "a block is not shown yet",
            vec![first.clone(), without(&second, second.blocks[1..].to_vec())],
            false,
        ),
        (
            "it shows one as detached",
            vec![first.clone(), detached],
            false,
        ),
        (
            "dead addresses on the first",
            vec![with(&first, &dead), second.clone()],
            false,
        ),
        (
            "dead addresses on the second",
            vec![first.clone(), with(&second, &dead)],
            false,
        ),
        (
            "primary addresses as if secondary",
            vec![
                with(
                    &first,
                    &[Block::address(first.address.unwrap().addr()), own],
                ),
                second.clone(),
            ],
            false,
        ),
        (
            "a block of another ENI",
            vec![with(&first, &[moved]), second.clone()],
            false,
        ),
        (
            "an ENI that is dead",
            [truth.clone(), vec![ghost(dead.to_vec())]].concat(),
            true,
        ),
        (
            "an ENI that is dead with our blocks",
            [truth.clone(), vec![ghost(vec![moved])]].concat(),
            true,
        ),
        ("only a dead one", vec![ghost(vec![])], true),
    ];
    for (what, views, looks) in cases {
        let mut world = base_clone(&base);
        let before = (world.store.enis().clone(), world.store.leases().clone());
        for _ in 0..3 {
            learn_from_metadata(&mut world.store, &mut world.memory, &views, world.now);
            world.wire();
            let after = (world.store.enis().clone(), world.store.leases().clone());
            assert_eq!(after, before, "{what}");
            world.now = world.now + Duration::from_secs(300);
        }
        assert_eq!(asks_ec2_soon(&mut world), looks, "{what}: asks EC2");
    }
}

/// The same world again: built by the same steps.
fn base_clone(base: &World) -> World {
    let again = world();
    assert_eq!(again.store.enis(), base.store.enis());
    again
}

/// Before EC2 has told for the first time IMDS names ENIs, so that their links can be looked at; no
/// address is known by it.
#[test]
fn before_ec2_has_told_it_gives_no_address() {
    let real = world();
    let mut world = World::new("m5.large", Policy::default());
    let truth: Vec<EniView> = real.ec2.values().map(shown).collect();
    learn_from_metadata(&mut world.store, &mut world.memory, &truth, world.now);
    world.wire();
    assert_eq!(world.store.enis().len(), 2);
    assert!(world.store.enis().values().all(|e| e.blocks.is_empty()));
    assert!(!world.add_without_growth() && !world.memory.known());
    // The first word is EC2's.
    let first = world.plan().actions;
    let writes = |a: &&Action| !matches!(a, Action::Describe | Action::DescribeSubnets { .. });
    assert_eq!(first.iter().find(writes), None);
}

/// What was deleted a moment ago may still be shown.
#[test]
fn what_was_deleted_does_not_come_back() {
    let mut world = world();
    let second = world.store.enis().values().find(|e| !e.primary).unwrap();
    let (id, handle) = (second.id.clone().unwrap(), second.handle);
    let old = shown(&world.ec2[&id]);
    let attachment = second.attachment.clone().unwrap();
    world.carry_out(&Action::Detach { handle, attachment });
    world.now = world.now + Duration::from_secs(3);
    world.carry_out(&Action::Delete {
        handle,
        eni: id.clone(),
    });
    assert!(world.store.eni_by_id(&id).is_none());
    learn_from_metadata(
        &mut world.store,
        &mut world.memory,
        std::slice::from_ref(&old),
        world.now,
    );
    assert!(world.store.eni_by_id(&id).is_none());
    assert!(!asks_ec2_soon(&mut world));
}

/// Another account's ENI is on the instance: IMDS shows it, EC2 does not. It keeps its place and its slot and is
/// left alone, until IMDS shows it no more, or EC2 names it.
#[test]
fn what_ec2_does_not_name_keeps_its_place() {
    for cold in [true, false] {
        let mut world = World::with_minimum(4);
        let stranger = EniView {
            attachment: Some(AttachmentView {
                id: None,
                device_index: 1,
                card: 0,
                delete_on_termination: None,
            }),
            ..ghost(vec![block("10.0.99.10/32")])
        };
        let mut views: Vec<EniView> = world.ec2.values().map(shown).collect();
        views.push(stranger.clone());
        if cold {
            let fresh = World::new("m5.large", world.policy.clone());
            world.store = fresh.store;
            world.memory = fresh.memory;
        }
        let learn = |world: &mut World, views: &[EniView]| {
            learn_from_metadata(&mut world.store, &mut world.memory, views, world.now);
        };
        learn(&mut world, &views);
        world.describe_after(5);
        world.now = world.now + Duration::from_secs(300);
        learn(&mut world, &views);
        world.describe_after(61);
        world.describe_after(31);
        let known = world.store.eni_by_id(&stranger.id).unwrap().clone();
        assert_eq!(known.unmanaged, Some(Unmanaged::NotNamed), "cold: {cold}");
        assert!(known.blocks.is_empty());

        // It takes one of three slots, and its place.
        world.policy.minimum_ip = Some(40);
        world.settle();
        let others = world
            .store
            .enis()
            .values()
            .filter(|e| e.unmanaged.is_none());
        let places: Vec<u32> = others.map(|e| e.device_index).collect();
        assert_eq!(places, [0, 2], "cold: {cold}");
        assert_eq!(world.store.eni(known.handle), Some(&known), "left alone");

        let mut named = world;
        let mut gone = World::with_minimum(4);
        gone.store = named.store.clone();
        learn(&mut gone, &views[..1]);
        assert_eq!(gone.store.eni_by_id(&stranger.id), None);

        named.ec2.insert(stranger.id.clone(), stranger.clone());
        named.describe_after(61);
        assert_eq!(named.store.eni(known.handle).unwrap().unmanaged, None);
    }
}
