//! When a released address may be given again.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::{World, key};
use ipam_core::datastore::{FORGET_LEAD, Trace};
use ipam_core::plan::{Action, Policy};
use std::net::IpAddr;
use std::time::Duration;

/// A pool of `addresses` secondary addresses, all confirmed.
fn pool(addresses: u32, cooldown: u64) -> World {
    let policy = Policy {
        warm_ip: Some(1),
        minimum_ip: Some(addresses),
        cooldown: Duration::from_secs(cooldown),
        ..Policy::default()
    };
    let mut world = World::new("m5.large", policy);
    world.settle();
    assert_eq!(world.total(), addresses);
    world
}

fn lease(world: &mut World, n: u32) -> Option<IpAddr> {
    common::parts::lease(&mut world.store, n, world.now)
}

fn pass(world: &mut World, time: Duration) {
    world.now = world.now + time;
}

const REST: Duration = Duration::from_secs(30);

#[test]
fn the_default_is_thirty_seconds() {
    assert_eq!(Policy::default().cooldown, REST);
}

/// Cooldown, route, link, connections: each of them alone keeps an address back.
#[test]
fn each_of_the_four_holds_an_address_back() {
    let mut world = pool(1, 30);
    let ip = lease(&mut world, 0).unwrap();
    let host_if = world.store.lease(&key(0)).unwrap().host_if.clone();
    world.store.set_routed(ip, host_if.clone());
    world.store.release(&key(0), world.now);
    assert_eq!(world.store.to_forget(world.now), [], "it may still talk");
    pass(&mut world, REST);
    assert_eq!(world.store.to_forget(world.now), [], "it is routed");
    assert_eq!(world.store.tally(ipam_core::Family::V4, world.now).held, 1);
    world.store.clear_routed(ip, world.now);
    assert_eq!(lease(&mut world, 1), None, "unknown traces");

    let due = world.store.to_forget(world.now);
    let trace = Trace {
        address: ip,
        released_at: world.store.released(ip).unwrap().at,
        host_if: Some(host_if.clone()),
    };
    assert_eq!(due, [trace]);
    world.store.set_linked(&due, &[ip]);
    world.store.forgotten(&due);
    assert_eq!(lease(&mut world, 1), None, "its link is there");
    assert_eq!(world.store.to_forget(world.now), [], "the kernel will tell");
    assert_eq!(world.store.leftovers(world.now), [(ip, host_if.clone())]);
    world.store.link_gone("eni-of-another", world.now);
    assert_eq!(world.store.to_forget(world.now), []);
    world.store.link_gone(&host_if, world.now);
    assert_eq!(world.store.leftovers(world.now), []);

    let due = world.store.to_forget(world.now);
    assert_eq!(due.len(), 1);
    assert_eq!(
        world.store.tally(ipam_core::Family::V4, world.now).free(),
        0
    );
    world.store.forgotten(&due);
    assert_eq!(
        world.store.tally(ipam_core::Family::V4, world.now).free(),
        1
    );
    assert_eq!(lease(&mut world, 1), Some(ip));
}

#[test]
fn what_is_forgotten_early_still_rests_to_the_end() {
    let mut world = pool(1, 30);
    let ip = lease(&mut world, 0).unwrap();
    world.store.release(&key(0), world.now);
    let end = world.now + REST;
    assert_eq!(world.store.next_forget(), Some(end - FORGET_LEAD));
    world.now = end - Duration::from_millis(1);
    world.forget();
    assert_eq!(world.store.next_forget(), None);
    assert_eq!(
        world.store.tally(ipam_core::Family::V4, world.now).cooling,
        1
    );
    assert_eq!(lease(&mut world, 1), None);
    world.now = end;
    assert_eq!(lease(&mut world, 1), Some(ip));
}

#[test]
fn a_cooldown_of_zero_waits_for_the_kernel_too() {
    let mut world = pool(1, 0);
    let ip = lease(&mut world, 0).unwrap();
    world.store.release(&key(0), world.now);
    assert_eq!(lease(&mut world, 1), None);
    world.forget();
    assert_eq!(lease(&mut world, 1), Some(ip));
}

/// A new sandbox of the same pod has a link of the same name: it does not hold its predecessor's
/// address.
#[test]
fn a_link_of_the_same_name_may_be_a_newer_pods() {
    let mut world = pool(2, 30);
    let old = lease(&mut world, 0).unwrap();
    let name = world.store.lease(&key(0)).unwrap().host_if.clone();
    world.store.release(&key(0), world.now);
    let new = lease(&mut world, 0).unwrap();
    assert_ne!(old, new);
    assert_eq!(world.store.lease(&key(0)).unwrap().host_if, name);
    pass(&mut world, REST);
    assert_eq!(world.store.to_forget(world.now)[0].host_if, None);
}

/// An answer about an earlier release says nothing of a later one.
#[test]
fn a_late_answer_is_not_believed() {
    let mut world = pool(1, 0);
    let ip = lease(&mut world, 0).unwrap();
    world.store.release(&key(0), world.now);
    let first = world.store.to_forget(world.now);
    world.store.set_stuck(&first);
    assert_eq!(lease(&mut world, 1), Some(ip));
    world.store.forgotten(&first);
    pass(&mut world, Duration::from_secs(1));
    world.store.release(&key(1), world.now);
    world.store.forgotten(&first);
    world.store.set_stuck(&first);
    assert_eq!(lease(&mut world, 2), None);
}

#[test]
fn what_cannot_be_forgotten_is_given_last() {
    let mut world = pool(3, 30);
    let ips: Vec<IpAddr> = (0..3).map(|n| lease(&mut world, n).unwrap()).collect();
    for n in [0, 1] {
        world.store.release(&key(n), world.now);
        pass(&mut world, Duration::from_secs(1));
    }
    pass(&mut world, REST);
    let due = world.store.to_forget(world.now);
    let (stuck, clean) = due.split_at(1);
    assert_eq!(stuck[0].address, ips[0], "longest idle");
    world.store.set_stuck(stuck);
    world.store.forgotten(clean);
    assert!(world.store.is_stuck(ips[0]));
    assert_eq!(world.store.to_forget(world.now), stuck, "tried again");
    assert_eq!(
        world.store.tally(ipam_core::Family::V4, world.now).free(),
        2
    );
    assert_eq!(lease(&mut world, 5), Some(ips[1]));
    assert_eq!(lease(&mut world, 6), Some(ips[0]));
    assert!(!world.store.is_stuck(ips[0]));
}

/// The longest idle of a block; but packing goes first, as long as blocks differ in use.
#[test]
fn the_longest_idle_goes_first() {
    let mut world = pool(4, 30);
    let ips: Vec<IpAddr> = (0..4).map(|n| lease(&mut world, n).unwrap()).collect();
    for n in [2, 0, 3, 1] {
        world.store.release(&key(n), world.now);
        pass(&mut world, Duration::from_secs(1));
    }
    pass(&mut world, REST);
    world.forget();
    let again: Vec<IpAddr> = (10..14).map(|n| lease(&mut world, n).unwrap()).collect();
    assert_eq!(again, [ips[2], ips[0], ips[3], ips[1]]);
}

/// A pod that no lease named: its address rests as well when the kernel lets go of it.
#[test]
fn an_address_without_a_lease_rests_too() {
    let mut world = pool(1, 30);
    let ip = lease(&mut world, 0).unwrap();
    world.store.withdraw(&key(0));
    world.store.set_routed(ip, "eni1".into());
    assert_eq!(lease(&mut world, 1), None);
    world.store.clear_routed(ip, world.now);
    assert!(world.store.cooling_until(ip, world.now).is_some());
    pass(&mut world, REST);
    world.forget();
    world.store.set_routed(ip, "eni1".into());
    assert_eq!(lease(&mut world, 1), None);
    world.store.replace_routed([].into(), world.now);
    assert_eq!(lease(&mut world, 1), None, "looked at anew");
    world.forget();
    world.store.set_routed(ip, "eni1".into());
    // Its veth goes, and the kernel says nothing of the route.
    world.store.link_gone("eni1", world.now);
    assert_eq!(lease(&mut world, 1), None, "looked at anew");
    world.forget();
    assert_eq!(lease(&mut world, 1), Some(ip));
}

/// The numbers of a report against Amazon's CNI (its issue 2896): WARM_IP_TARGET 2, MINIMUM_IP_TARGET
/// 23, 19 pods, and 4 addresses that cool. Counted as available they'd make 4 warm ones of none.
#[test]
fn cooling_addresses_are_no_supply() {
    let policy = Policy {
        warm_ip: Some(2),
        minimum_ip: Some(23),
        ..Policy::default()
    };
    let mut world = World::new("m5.4xlarge", policy);
    world.settle();
    assert_eq!(world.total(), 23);
    for _ in 0..23 {
        assert!(world.store.tally(ipam_core::Family::V4, world.now).free() > 0);
        world.add_pod();
    }
    assert_eq!(
        world.store.tally(ipam_core::Family::V4, world.now).free(),
        0
    );
    for n in 0..4 {
        world.del_pod(n);
    }
    let tally = world.store.tally(ipam_core::Family::V4, world.now);
    assert_eq!((tally.used, tally.cooling, tally.free()), (19, 4, 0));
    let grows = |world: &World| {
        let actions = world.plan().actions;
        actions.iter().map(asked).sum::<u32>()
    };
    assert!(grows(&world) >= 4);
    // Past the cooldown they are free in a moment: a restart, after which all of them are looked at
    // anew, must not buy others. But those whose links stay are no supply.
    pass(&mut world, REST);
    let tally = world.store.tally(ipam_core::Family::V4, world.now);
    assert_eq!((tally.cooling, tally.unsettled, tally.free()), (0, 4, 0));
    assert_eq!(grows(&world), 0);
    let due = world.store.to_forget(world.now);
    world.store.set_linked(&due[..1], &[due[0].address]);
    assert!(grows(&world) >= 1);
    world.forget();
    let tally = world.store.tally(ipam_core::Family::V4, world.now);
    assert_eq!((tally.held, tally.free()), (1, 3));
    assert!(grows(&world) >= 1);
}

/// A few pods at a time that come and go quickly leave many more addresses resting than they use: the
/// next one does not wait for a cooldown's end.
#[test]
fn quick_churn_grows_for_the_pod_that_waits() {
    let policy = Policy {
        warm_ip: Some(2),
        max_pods: Some(58),
        ..Policy::default()
    };
    let mut world = World::new("m5.4xlarge", policy);
    world.settle();
    // At the next moment, without a cooldown's end.
    for n in 0..100 {
        if lease(&mut world, n).is_none() {
            world.waiting = 1;
            while lease(&mut world, n).is_none() {
                let plan = world.plan();
                plan.actions
                    .iter()
                    .for_each(|action| world.carry_out(action));
                assert!(n >= 58 || !plan.actions.is_empty(), "pod {n} waits");
                if plan.actions.is_empty() {
                    break;
                }
            }
            world.waiting = 0;
        }
        world.store.release(&key(n), world.now);
    }
    // A pod that fails over and over does not take the subnet.
    assert!((58..=2 * 58).contains(&world.total()), "{}", world.total());
}

fn asked(action: &Action) -> u32 {
    match action {
        Action::Assign { count, .. } | Action::Create { count, .. } => *count,
        _ => 0,
    }
}

/// The answer to a sweep comes when a newer pod has a link of the same name: its route stands.
#[test]
fn a_sweep_is_no_word_of_a_namesakes_link() {
    let mut world = pool(2, 30);
    let old = lease(&mut world, 0).unwrap();
    let host_if = world.store.lease(&key(0)).unwrap().host_if.clone();
    world.store.set_routed(old, host_if.clone());
    world.store.release(&key(0), world.now);
    let living = lease(&mut world, 1).unwrap();
    world.store.set_routed(living, host_if.clone());
    world.store.swept(old, &host_if, world.now);
    assert!(!world.store.routed().contains_key(&old));
    assert_eq!(world.store.routed().get(&living), Some(&host_if));
    // Nor of an address that was leased again meanwhile.
    world.store.swept(living, &host_if, world.now);
    assert_eq!(world.store.routed().get(&living), Some(&host_if));
    // Nor of another release's link.
    world.store.release(&key(1), world.now);
    world.store.swept(living, "eni0", world.now);
    assert_eq!(world.store.routed().get(&living), Some(&host_if));
}
