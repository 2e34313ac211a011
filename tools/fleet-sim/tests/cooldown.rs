//! A released address is given again only when it has rested and the kernel has forgotten its last
//! pod: the whole engine, in virtual time.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

use fleet_sim::settle::settings;
use fleet_sim::{Forgetting, Node, World};
use ipam_core::plan::Policy;
use std::net::IpAddr;
use std::time::Duration;
use vpc_model::{NodeSpec, SubnetSpec, VpcSpec};

const WAIT: Duration = Duration::from_secs(30);
const REST: Duration = Duration::from_secs(30);

/// A node whose pool can never have more than `addresses` (the settings' maximum is for pods; the ENI's
/// own is what the instance type gives).
fn node(cooldown: Duration) -> (World, Node, Policy) {
    let spec = VpcSpec {
        subnets: vec![SubnetSpec::new("10.0.0.0/24".parse().unwrap())],
        nodes: vec![NodeSpec::new("a", "t3.nano")],
        ..VpcSpec::default()
    };
    let world = World::new(spec).unwrap();
    let node = Node::new(&world, "a").unwrap();
    let policy = Policy {
        max_eni: Some(1),
        cooldown,
        ..Policy::default()
    };
    (world, node, policy)
}

/// The one address that `t3.nano` gives on one ENI.
async fn only(node: &Node, n: u32) -> IpAddr {
    node.add(n, WAIT).await.unwrap().pod_addresses[0].addr()
}

async fn sleep(time: Duration) {
    tokio::time::sleep(time).await;
}

#[tokio::test(start_paused = true)]
async fn an_add_waits_for_rest_and_forgetting() {
    let (world, mut node, policy) = node(REST);
    node.set_forgetting(Forgetting::Takes(Duration::from_millis(1500)));
    node.start(settings(policy));
    let ip = only(&node, 0).await;
    node.del(0).await.unwrap();
    let released = world.elapsed();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(node.tracked(), [ip].into());
    assert_eq!(only(&node, 1).await, ip);
    // The look begins a second before the end and takes longer.
    let waited = world.elapsed() - released;
    assert!(waited >= REST + Duration::from_millis(500), "{waited:?}");
    assert!(waited < REST + Duration::from_millis(700), "{waited:?}");
    assert_eq!(node.forgets(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_add_long_after_the_rest_does_not_wait() {
    let (world, mut node, policy) = node(REST);
    node.set_forgetting(Forgetting::Takes(Duration::from_secs(2)));
    node.start(settings(policy));
    let ip = only(&node, 0).await;
    node.del(0).await.unwrap();
    sleep(Duration::from_secs(60)).await;
    assert!(node.tracked().is_empty());
    let begin = world.elapsed();
    assert_eq!(only(&node, 1).await, ip);
    assert!(world.elapsed() - begin < Duration::from_millis(5));
}

#[tokio::test(start_paused = true)]
async fn a_veth_that_stays_holds_its_address() {
    for rest in [Duration::ZERO, REST] {
        let (world, mut node, policy) = node(rest);
        node.start(settings(policy));
        let ip = only(&node, 0).await;
        let released = node.end(0).await.unwrap();
        let begin = world.elapsed();
        let gone = async {
            sleep(Duration::from_secs(7)).await;
            node.remove_link(&released.host_if).await;
        };
        let ((), again) = tokio::join!(gone, only(&node, 1));
        assert_eq!(again, ip);
        let waited = world.elapsed() - begin;
        assert!(waited >= rest.max(Duration::from_secs(7)), "{waited:?}");
        assert!(
            waited < rest.max(Duration::from_secs(7)) + Duration::from_millis(100),
            "{waited:?}"
        );
    }
}

/// The look has seen the link, and it goes before the look ends: that is not waited for again.
#[tokio::test(start_paused = true)]
async fn a_link_that_goes_during_a_look_is_gone() {
    let (world, mut node, policy) = node(Duration::ZERO);
    node.set_forgetting(Forgetting::Takes(Duration::from_millis(1500)));
    node.start(settings(policy));
    let ip = only(&node, 0).await;
    let released = node.end(0).await.unwrap();
    let begin = world.elapsed();
    let gone = async {
        sleep(Duration::from_millis(700)).await;
        node.remove_link(&released.host_if).await;
    };
    let ((), again) = tokio::join!(gone, only(&node, 1));
    assert_eq!(again, ip);
    let waited = world.elapsed() - begin;
    // Two looks.
    assert!(waited >= Duration::from_secs(3), "{waited:?}");
    assert!(waited < Duration::from_millis(3_500), "{waited:?}");
}

/// A runtime that forgets a namespace must not cost an address for ever.
#[tokio::test(start_paused = true)]
async fn a_veth_that_was_left_is_swept() {
    let (world, mut node, policy) = node(Duration::ZERO);
    node.start(settings(policy));
    let ip = only(&node, 0).await;
    node.end(0).await.unwrap();
    let begin = world.elapsed();
    assert_eq!(only(&node, 1).await, ip);
    let waited = world.elapsed() - begin;
    assert!(waited >= Duration::from_secs(10), "{waited:?}");
    assert!(waited < Duration::from_millis(10_100), "{waited:?}");
}

/// A kernel that refuses for good: the address is kept back at first, and then better than none.
#[tokio::test(start_paused = true)]
async fn refusals_do_not_starve_the_pool() {
    let (world, mut node, policy) = node(Duration::ZERO);
    node.set_forgetting(Forgetting::Fails);
    node.start(settings(policy));
    let ip = only(&node, 0).await;
    node.del(0).await.unwrap();
    let begin = world.elapsed();
    assert_eq!(only(&node, 1).await, ip);
    let waited = world.elapsed() - begin;
    assert!(waited > Duration::from_secs(2), "{waited:?}");
    assert!(waited < Duration::from_secs(10), "{waited:?}");
    assert_eq!(node.forgets(), 5);
    // Tried on, with pauses; and healed when the kernel does its work again.
    node.del(1).await.unwrap();
    sleep(Duration::from_secs(600)).await;
    assert!((10..50).contains(&node.forgets()), "{}", node.forgets());
    node.set_forgetting(Forgetting::Works);
    sleep(Duration::from_secs(40)).await;
    assert!(node.tracked().is_empty());
    let looks = node.forgets();
    sleep(Duration::from_secs(600)).await;
    assert_eq!(node.forgets(), looks);
}

#[tokio::test(start_paused = true)]
async fn a_kernel_without_conntrack_is_no_obstacle() {
    let (world, mut node, policy) = node(REST);
    node.set_forgetting(Forgetting::Unable);
    node.start(settings(policy));
    let ip = only(&node, 0).await;
    node.del(0).await.unwrap();
    let begin = world.elapsed();
    assert_eq!(only(&node, 1).await, ip);
    let waited = world.elapsed() - begin;
    assert!(waited >= REST, "{waited:?}");
    assert!(waited < REST + Duration::from_millis(10), "{waited:?}");
}

/// What was forgotten before a restart is looked at once more, at once, in one batch.
#[tokio::test(start_paused = true)]
async fn a_restart_keeps_the_rest_and_looks_again() {
    let (world, mut node, policy) = node(REST);
    node.start(settings(policy.clone()));
    let ip = only(&node, 0).await;
    node.del(0).await.unwrap();
    let released = world.elapsed();
    sleep(Duration::from_secs(10)).await;
    node.kill();
    node.start(settings(policy.clone()));
    assert_eq!(only(&node, 1).await, ip);
    let waited = world.elapsed() - released;
    assert!(waited >= REST, "{waited:?}");
    node.del(1).await.unwrap();
    sleep(Duration::from_secs(3600)).await;
    let looks = node.forgets();
    node.kill();
    node.start(settings(policy));
    let begin = world.elapsed();
    assert_eq!(only(&node, 2).await, ip);
    assert!(world.elapsed() - begin < Duration::from_millis(10));
    assert_eq!(node.forgets(), looks + 1);
}

/// Releases that come in a stream are forgotten in batches.
#[tokio::test(start_paused = true)]
async fn looks_are_batched() {
    let world = World::of_one_node().unwrap();
    let mut node = Node::new(&world, "a").unwrap();
    node.set_forgetting(Forgetting::Takes(Duration::from_millis(200)));
    node.start(settings(Policy {
        prefixes: true,
        max_pods: Some(110),
        ..Policy::default()
    }));
    for n in 0..240 {
        node.add(n, WAIT).await.unwrap();
        if n >= 10 {
            node.del(n - 10).await.unwrap();
        }
        sleep(Duration::from_millis(500)).await;
    }
    sleep(Duration::from_secs(60)).await;
    // 115 s of releases; a look of 200 ms is followed by 4 s of peace.
    assert!((20..=40).contains(&node.forgets()), "{}", node.forgets());
}
