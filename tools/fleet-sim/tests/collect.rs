//! CNI GC in virtual time: what is judged, and what is too young for it.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

use fleet_sim::settle::settings;
use fleet_sim::{Node, World};
use ipam_core::plan::Policy;
use ipam_core::wiring::{PodWiring, WIRING_VERSION};
use ipam_core::{AttachmentKey, PodRef};
use ipam_engine::{Allocate, Collect};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const WAIT: Duration = Duration::from_secs(30);

fn started() -> (World, Node) {
    let world = World::of_one_node().unwrap();
    let mut node = Node::new(&world, "a").unwrap();
    node.start(settings(Policy::default()));
    (world, node)
}

/// A GC that asked `age` ago and names nothing: how many leases it ends.
async fn collect(node: &Node, network: &str, age: Duration) -> usize {
    let question = Collect {
        network: network.into(),
        valid: BTreeSet::new(),
        age,
        links: BTreeMap::new(),
    };
    node.handle()
        .unwrap()
        .collect(question)
        .await
        .unwrap()
        .len()
}

/// The lease alone: the plugin has not come to the wiring.
async fn lease(node: &Node, name: &str) -> PodWiring {
    let request = Allocate {
        key: AttachmentKey {
            network: "sim".into(),
            container_id: name.into(),
            if_name: "eth0".into(),
        },
        pod: PodRef::default(),
        timeout: Some(WAIT),
        wiring_version: WIRING_VERSION,
        veth_prefix: None,
        mtu: None,
    };
    node.handle().unwrap().allocate(request).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_younger_than_the_question_is_not_judged() {
    let (_world, node) = started();
    node.add(1, WAIT).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    node.add(2, WAIT).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(collect(&node, "sim", Duration::from_secs(9)).await, 0);
    assert_eq!(collect(&node, "other", Duration::ZERO).await, 0);
    assert_eq!(collect(&node, "sim", Duration::from_secs(3)).await, 1);
    assert_eq!(collect(&node, "sim", Duration::ZERO).await, 1);
    assert_eq!(node.snapshot().await.unwrap().totals.used, 0);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_being_wired_is_not_judged() {
    let (_world, mut node) = started();
    lease(&node, "in-flight").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(collect(&node, "sim", Duration::ZERO).await, 0);
    // Nor after a restart in between.
    node.kill();
    node.start(settings(Policy::default()));
    node.add(1, WAIT).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(collect(&node, "sim", Duration::ZERO).await, 1);
    assert_eq!(node.snapshot().await.unwrap().totals.used, 1);
    // A plugin that has not wired it within a minute is dead.
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(collect(&node, "sim", Duration::ZERO).await, 1);
    assert_eq!(node.snapshot().await.unwrap().totals.used, 0);
}

/// Its runtime had not recorded it when it made the list, since its ADD was not over.
#[tokio::test(start_paused = true)]
async fn a_lease_that_was_wired_after_the_question_is_not_judged() {
    let (_world, mut node) = started();
    let slow = lease(&node, "slow").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let ip = slow.pod_addresses[0].addr();
    node.set_route(ip, Some(&slow.host_if)).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(collect(&node, "sim", Duration::from_secs(2)).await, 0);
    // A restart in between: nobody knows when it was wired.
    node.kill();
    node.start(settings(Policy::default()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(collect(&node, "sim", Duration::from_secs(3)).await, 0);
    assert_eq!(collect(&node, "sim", Duration::ZERO).await, 1);
}

/// The store has lost them, the kernel has not: judged by what their links' addresses tell.
#[tokio::test(start_paused = true)]
async fn what_no_lease_names_is_judged_by_its_link() {
    let (_world, mut node) = started();
    let mut links = BTreeMap::new();
    for n in 1..=3 {
        let wiring = node.add(n, WAIT).await.unwrap();
        links.insert(wiring.host_if, wiring.host_mac);
    }
    let keys: Vec<AttachmentKey> = node.store().leases().into_iter().map(|l| l.key).collect();
    node.kill();
    node.store().wipe();
    node.start(settings(Policy::default()));
    node.add(4, WAIT).await.unwrap();
    assert_eq!(node.snapshot().await.unwrap().totals.held, 3);
    let ask = async |node: &Node, network: &str, valid: &[AttachmentKey]| {
        let question = Collect {
            network: network.into(),
            valid: valid.iter().cloned().collect(),
            age: Duration::from_secs(3600),
            links: links.clone(),
        };
        node.handle().unwrap().collect(question).await.unwrap()
    };
    assert_eq!(ask(&node, "other", &[]).await, []);
    assert_eq!(ask(&node, "sim", &keys).await, []);
    let ended = ask(&node, "sim", &keys[1..]).await;
    let [one] = &ended[..] else {
        panic!("{ended:?}")
    };
    assert_eq!((one.key.clone(), one.addresses.len()), (None, 1));
    assert_eq!(links.get(&one.host_if), Some(&one.host_mac));
    // The kernel lets go of it as the plugin removes the link.
    node.remove_link(&one.host_if).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(node.snapshot().await.unwrap().totals.held, 2);
    assert_eq!(node.snapshot().await.unwrap().totals.used, 1);
}

/// Wired once, the pod's namespace may be gone with its route: that is what GC is for.
#[tokio::test(start_paused = true)]
async fn a_lease_whose_pod_has_gone_is_stale_at_once() {
    let (_world, node) = started();
    let wiring = node.add(1, WAIT).await.unwrap();
    node.remove_link(&wiring.host_if).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(collect(&node, "sim", Duration::ZERO).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_has_served_once_it_has_an_address() {
    let (world, node) = started();
    let served = node.handle().unwrap().served();
    let early = tokio::time::timeout(Duration::from_millis(1), served).await;
    assert!(early.is_err());
    let served = node.handle().unwrap().served();
    let late = tokio::time::timeout(WAIT, served).await;
    late.unwrap().unwrap();
    assert!(node.snapshot().await.unwrap().status.served);
    assert!(!world.vpc().ec2_calls().is_empty());
}
