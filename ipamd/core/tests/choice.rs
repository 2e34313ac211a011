//! Which address an attachment gets, and what is kept for whom: rules that a random pool seldom meets.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::{World, key};
use ipam_core::check::check;
use ipam_core::datastore::{Datastore, Request, Touched};
use ipam_core::outcome::{Done, begin, finish};
use ipam_core::plan::{Action, Policy};
use ipam_core::{
    AttachmentKey, Block, BlockKind, BlockState, EniId, Family, Lease, PodRef, Timestamp,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn named(name: &str) -> PodRef {
    PodRef {
        namespace: "d".into(),
        name: name.into(),
        uid: String::new(),
    }
}

/// The lease of an attachment, if there is an address.
fn ask(
    world: &mut World,
    (key, pod): (&AttachmentKey, &PodRef),
    families: &[Family],
    local: Option<Family>,
) -> Option<Lease> {
    let request = Request {
        key,
        pod,
        families,
        local,
        veth_prefix: "eni",
        prefixes: world.policy.prefixes,
    };
    world.store.assign(&request, world.now).ok().cloned()
}

fn lease(world: &mut World, n: u32) -> Option<IpAddr> {
    let pod = named(&format!("p{n}"));
    let lease = ask(world, (&key(n), &pod), &[Family::V4], None)?;
    Some(lease.addresses[0])
}

/// So many pods' addresses, or fewer.
fn leases(world: &mut World, pods: std::ops::Range<u32>) -> Vec<IpAddr> {
    pods.filter_map(|n| lease(world, n)).collect()
}

fn pool(policy: Policy) -> World {
    let mut world = World::new("m5.large", policy);
    world.settle();
    world.now = world.now + 2 * MINUTE;
    world
}

/// Single addresses, rested for a minute after a release.
fn addresses(minimum_ip: u32) -> World {
    pool(Policy {
        minimum_ip: Some(minimum_ip),
        cooldown: MINUTE,
        ..Policy::default()
    })
}

fn prefixes(cooldown: Duration) -> World {
    pool(Policy {
        prefixes: true,
        cooldown,
        ..Policy::default()
    })
}

fn primary(world: &World) -> EniId {
    world.store.primary().unwrap().id.clone().unwrap()
}

/// The blocks of an ENI change at EC2, and the core has heard of it for certain.
fn change(world: &mut World, eni: &EniId, change: impl Fn(&mut Vec<Block>)) {
    change(&mut world.ec2.get_mut(eni).unwrap().blocks);
    world.describe_after(61);
    world.describe_after(31);
}

#[test]
fn of_a_prefix_the_address_that_was_idle_longest_is_given() {
    let mut world = prefixes(Duration::ZERO);
    let all = leases(&mut world, 0..16);
    let block = Block::prefix_of(all[0]);
    assert!(all.len() == 16 && all.iter().all(|ip| block.contains(*ip)));
    for n in [9, 3, 12] {
        world.now = world.now + Duration::from_secs(5);
        world.del_pod(n);
    }
    world.forget();
    world.now = world.now + MINUTE;
    assert_eq!(leases(&mut world, 20..23), [all[9], all[3], all[12]]);
}

#[test]
fn blocks_of_the_other_kind_are_used_last() {
    for wanted in [BlockKind::Prefix, BlockKind::Address] {
        let mut world = prefixes(MINUTE);
        let eni = primary(&world);
        world.give(&eni, BlockKind::Address, 2);
        world.describe_after(61);
        world.policy.prefixes = wanted == BlockKind::Prefix;
        let first = lease(&mut world, 0).unwrap();
        let (_, block) = world.store.block_of(first).unwrap();
        assert_eq!(block.kind(), wanted);
    }
}

#[test]
fn a_block_that_ec2_took_away_serves_nobody_new() {
    let mut world = prefixes(MINUTE);
    let first = lease(&mut world, 0).unwrap();
    let eni = primary(&world);
    change(&mut world, &eni, |blocks| {
        blocks.retain(|b| !b.contains(first));
    });
    let (handle, block) = world.store.block_of(first).unwrap();
    let state = world.store.eni(handle).unwrap().blocks[&block];
    assert_eq!(state, BlockState::Lost);
    let others = leases(&mut world, 1..20);
    assert!(others.iter().all(|ip| !block.contains(*ip)), "{others:?}");
}

#[test]
fn a_node_local_address_rests_like_any_other() {
    let mut world = addresses(6);
    let local = |world: &mut World, n: u32| {
        let pod = named(&format!("p{n}"));
        let lease = ask(world, (&key(n), &pod), &[Family::V4], Some(Family::V6));
        lease.unwrap().addresses[1]
    };
    let first = local(&mut world, 0);
    world.del_pod(0);
    assert_ne!(local(&mut world, 1), first, "it has been free for no time");
    world.now = world.now + MINUTE;
    world.forget();
    // All others have never been used.
    assert_ne!(local(&mut world, 2), first);
}

#[test]
fn each_interface_of_a_sandbox_has_a_link_of_its_own() {
    let mut world = addresses(6);
    let pod = named("web-0");
    let links = ["eth0", "net1", "net2"].map(|if_name| {
        let key = AttachmentKey {
            if_name: if_name.into(),
            ..key(0)
        };
        ask(&mut world, (&key, &pod), &[Family::V4], None)
            .unwrap()
            .host_if
    });
    assert!(
        links[0] != links[1] && links[1] != links[2] && links[0] != links[2],
        "{links:?}"
    );
    // A new sandbox of the same pod has the pod's name again.
    let again = ask(&mut world, (&key(1), &pod), &[Family::V4], None).unwrap();
    assert_eq!(again.host_if, links[0]);
}

#[test]
fn a_del_takes_nothing_from_another_pod() {
    let mut world = addresses(6);
    let ip = lease(&mut world, 0).unwrap();
    assert_eq!(world.store.release_unowned(ip, world.now), None);
    assert_eq!(world.store.released(ip), None);
    assert_eq!(world.store.owner(ip), Some(&key(0)));
    assert_eq!(check(&world.store, world.now), []);
}

#[test]
fn a_look_says_nothing_of_what_is_routed_again() {
    let mut world = addresses(1);
    let ip = lease(&mut world, 0).unwrap();
    world.del_pod(0);
    world.now = world.now + MINUTE;
    let due = world.store.to_forget(world.now);
    assert_eq!(due.len(), 1);
    // A pod that no lease names comes while the kernel is asked, and goes.
    world.store.set_routed(ip, "enielsewhere".into());
    world.store.forgotten(&due);
    world.store.clear_routed(ip, world.now);
    assert_eq!(
        leases(&mut world, 1..9).iter().find(|got| **got == ip),
        None
    );
}

#[test]
fn an_address_rests_although_its_block_goes_and_comes_again() {
    let mut world = pool(Policy {
        minimum_ip: Some(4),
        cooldown: 10 * MINUTE,
        ..Policy::default()
    });
    let ip = lease(&mut world, 0).unwrap();
    world.del_pod(0);
    let eni = primary(&world);
    change(&mut world, &eni, |blocks| {
        blocks.retain(|b| !b.contains(ip));
    });
    assert_eq!(world.store.block_of(ip), None);
    change(&mut world, &eni, |blocks| blocks.push(Block::address(ip)));
    world.forget();
    assert!(world.store.block_of(ip).is_some());
    assert_eq!(
        leases(&mut world, 1..9).iter().find(|got| **got == ip),
        None
    );
}

/// A pool with one /80 on the primary ENI.
fn six() -> World {
    let mut world = addresses(2);
    let eni = primary(&world);
    let prefix = Block::prefix_of("2001:db8::".parse().unwrap());
    change(&mut world, &eni, |blocks| blocks.push(prefix));
    world.policy.families = vec![Family::V6];
    world
}

fn lease6(world: &mut World, n: u32) -> IpAddr {
    let pod = named(&format!("p{n}"));
    let lease = ask(world, (&key(n), &pod), &[Family::V6], None);
    lease.unwrap().addresses[0]
}

#[test]
fn an_ipv6_address_is_not_met_twice() {
    let mut world = six();
    let first = lease6(&mut world, 0);
    world.del_pod(0);
    world.now = world.now + 2 * MINUTE;
    world.forget();
    // What was released is forgotten with the next release: only the draw tells them apart.
    lease6(&mut world, 1);
    world.del_pod(1);
    assert_ne!(lease6(&mut world, 0), first, "the same attachment, later");
}

#[test]
fn released_ipv6_addresses_are_not_remembered_for_ever() {
    let mut world = six();
    let first = lease6(&mut world, 0);
    world.del_pod(0);
    world.now = world.now + MINUTE - Duration::from_secs(1);
    world.forget();
    lease6(&mut world, 1);
    world.del_pod(1);
    assert!(world.store.released(first).is_some(), "it rests still");
    world.now = world.now + MINUTE;
    world.forget();
    lease6(&mut world, 2);
    world.del_pod(2);
    assert_eq!(world.store.released(first), None);
}

/// A pool on two ENIs: an ENI that was made, and one of its blocks.
fn on_two() -> (World, EniId, Block) {
    let world = addresses(12);
    let made = world.store.enis().values().find(|e| !e.primary).unwrap();
    let (id, block) = (
        made.id.clone().unwrap(),
        *made.blocks.keys().next().unwrap(),
    );
    (world, id, block)
}

#[test]
fn a_block_that_is_shown_on_two_enis_is_on_one() {
    let (mut world, _, block) = on_two();
    let eni = primary(&world);
    change(&mut world, &eni, |blocks| blocks.push(block));
    assert_eq!(check(&world.store, world.now), []);
}

#[test]
fn what_overlaps_a_new_block_goes() {
    let mut world = addresses(4);
    let primary = world.store.primary().unwrap();
    let (handle, eni) = (primary.handle, primary.id.clone().unwrap());
    let old = *primary.blocks.keys().next().unwrap();
    // Somebody took the address, and EC2 gives the prefix around it before the core has heard.
    let assign = Action::Assign {
        handle,
        eni,
        family: Family::V4,
        kind: BlockKind::Prefix,
        count: 1,
    };
    begin(&mut world.store, &assign, world.now);
    let given = vec![Block::prefix_of(old.first())];
    let (begun, now) = (world.now, world.now);
    let done = Ok(Done::Assigned(given.clone()));
    finish(
        &mut world.store,
        &mut world.memory,
        &assign,
        done,
        begun,
        now,
    );
    assert_eq!(world.store.block_of(old.first()), Some((handle, given[0])));
    assert_eq!(check(&world.store, world.now), []);
}

#[test]
fn a_block_that_comes_again_is_served_when_it_is_wired_again() {
    let (mut world, eni, block) = on_two();
    change(&mut world, &eni, |blocks| blocks.retain(|b| *b != block));
    assert_eq!(world.store.block_of(block.first()), None);
    world.ec2.get_mut(&eni).unwrap().blocks.push(block);
    // As `describe_after` does, but for the wiring.
    world.now = world.now + 2 * MINUTE;
    let views = world.ec2.values().cloned().collect();
    let (begun, now) = (world.now, world.now);
    let done = Ok(Done::Described(views));
    finish(
        &mut world.store,
        &mut world.memory,
        &Action::Describe,
        done,
        begun,
        now,
    );
    assert!(world.store.block_of(block.first()).is_some());
    let before = leases(&mut world, 0..30);
    assert!(before.len() > 4 && !before.contains(&block.first()));
    world.wire();
    assert_eq!(lease(&mut world, 40), Some(block.first()));
}

#[test]
fn of_two_stored_leases_of_one_address_one_is_believed() {
    let mut world = addresses(6);
    let ip = lease(&mut world, 0).unwrap();
    let first = world.store.lease(&key(0)).unwrap().clone();
    let second = Lease {
        key: key(1),
        ..first.clone()
    };
    let enis = world.store.enis().values().cloned().collect();
    let stored = vec![first, second];
    let mut store = Datastore::restore(MINUTE, enis, stored, BTreeMap::new());
    assert_eq!(check(&store, world.now), []);
    assert_eq!(store.owner(ip), Some(&key(0)));
    assert_eq!(
        store.take_touched(),
        [Touched::Lease(key(1))],
        "its record goes"
    );
}

/// A released address whose route is still there, and its link.
fn left_behind(world: &mut World) -> (IpAddr, String) {
    let pod = named("web-0");
    let lease = ask(world, (&key(0), &pod), &[Family::V4], None).unwrap();
    let (ip, host_if) = (lease.addresses[0], lease.host_if);
    world.store.set_routed(ip, host_if.clone());
    world.del_pod(0);
    (ip, host_if)
}

#[test]
fn a_living_namesakes_link_is_not_swept() {
    let mut world = addresses(6);
    let (ip, host_if) = left_behind(&mut world);
    let next = ask(&mut world, (&key(1), &named("web-0")), &[Family::V4], None).unwrap();
    assert_eq!(
        next.host_if, host_if,
        "the pod's next sandbox has the same link"
    );
    world.now = world.now + 2 * MINUTE;
    assert_eq!(world.store.leftovers(world.now), []);
    world.store.release(&key(1), world.now);
    let left = world.store.leftovers(world.now);
    assert_eq!(left, [(ip, host_if)], "nobody else's link any more");
}

#[test]
fn what_an_older_store_calls_released_is_not_swept() {
    let mut world = addresses(6);
    left_behind(&mut world);
    world.now = world.now + 2 * MINUTE;
    assert_eq!(world.store.leftovers(world.now).len(), 1);
    world.store.restored_at(world.now);
    assert_eq!(world.store.leftovers(world.now), []);
}

#[test]
fn a_new_look_at_the_kernel_replaces_the_old_one() {
    let mut world = addresses(6);
    let ip: IpAddr = "10.0.64.1".parse().unwrap();
    world.store.set_routed(ip, "enione".into());
    world.store.replace_routed(BTreeMap::new(), world.now);
    assert!(world.store.routed().is_empty());
    assert_eq!(
        world.store.released(ip).map(|r| r.at),
        Some(world.now),
        "it rests from now on"
    );
    assert!(Timestamp(0) < world.now);
}
