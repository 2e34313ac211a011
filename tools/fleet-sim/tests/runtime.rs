//! What container runtimes ask in ways that are seldom tried: in virtual time.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

use fleet_sim::settle::settings;
use fleet_sim::{CommitFault, Node, World};
use ipam_core::plan::Policy;
use ipam_core::wiring::{PodWiring, WIRING_BASE, WIRING_VERSION, egress};
use ipam_core::{AttachmentKey, Family, PodRef};
use ipam_engine::{Allocate, Refusal, Release, Settings};
use std::net::IpAddr;
use std::time::Duration;
use vpc_model::{NodeSpec, SubnetSpec, VpcSpec};

const WAIT: Duration = Duration::from_secs(30);

/// A node with warm addresses.
async fn started() -> (World, Node) {
    let world = World::of_one_node().unwrap();
    let mut node = Node::new(&world, "a").unwrap();
    node.start(settings(Policy::default()));
    tokio::time::sleep(Duration::from_secs(120)).await;
    (world, node)
}

fn key(network: &str, name: &str) -> AttachmentKey {
    AttachmentKey {
        network: network.into(),
        container_id: name.into(),
        if_name: "eth0".into(),
    }
}

async fn add(node: &Node, name: &str) -> Result<PodWiring, Refusal> {
    add_by(node, name, WIRING_VERSION).await
}

async fn add_by(node: &Node, name: &str, wiring_version: u32) -> Result<PodWiring, Refusal> {
    let request = Allocate {
        key: key("sim", name),
        pod: PodRef::default(),
        timeout: Some(WAIT),
        wiring_version,
        veth_prefix: None,
        mtu: None,
    };
    node.handle().unwrap().allocate(request).await
}

async fn del(node: &Node, network: &str, name: &str) {
    let request = Release {
        key: key(network, name),
        pod: PodRef::default(),
        addresses: Vec::new(),
    };
    node.handle().unwrap().release(request).await.unwrap();
}

async fn used(node: &Node) -> u32 {
    node.snapshot().await.unwrap().totals.used
}

/// A runtime that gave up has sent its ADD once more, and both are answered by one turn: that the disk
/// fails is true of both.
#[tokio::test(start_paused = true)]
async fn a_doubled_add_is_told_nothing_that_is_not_stored() {
    let (_world, node) = started().await;
    node.store().fail([CommitFault::Lost]);
    let (first, second) = tokio::join!(add(&node, "c"), add(&node, "c"));
    assert_eq!(node.store().leases(), []);
    for answer in [first, second] {
        assert_eq!(answer.map_err(|r| r.cause), Err("store_failed"));
    }
    let (first, second) = tokio::join!(add(&node, "c"), add(&node, "c"));
    assert_eq!(first, second);
    assert_eq!(node.store().leases().len(), 1);
}

/// Its plugin died before it made a link, so none will go.
#[tokio::test(start_paused = true)]
async fn a_renamed_del_ends_a_lease_that_was_never_wired() {
    let (_world, mut node) = started().await;
    add(&node, "c").await.unwrap();
    del(&node, "renamed", "c").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(used(&node).await, 1, "its plugin may be about to wire it");
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(used(&node).await, 0);
    // One that is wired meanwhile waits for its link's end.
    let wiring = add(&node, "d").await.unwrap();
    del(&node, "renamed", "d").await;
    let ip = wiring.pod_addresses[0].addr();
    node.set_route(ip, Some(&wiring.host_if)).await;
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(used(&node).await, 1, "the pod's link is there");
    node.remove_link(&wiring.host_if).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(used(&node).await, 0);
    node.stop().await;
}

/// IPv6 pods, with or without node-local IPv4 addresses.
fn six(egress: Option<Family>) -> Settings {
    Settings {
        egress,
        ..settings(Policy {
            families: vec![Family::V6],
            ..Policy::default()
        })
    }
}

fn of_six() -> (World, Node) {
    let mut subnet = SubnetSpec::new("10.0.0.0/24".parse().unwrap());
    subnet.ipv6_cidr = "2001:db8::/64".parse().ok();
    let mut node = NodeSpec::new("a", "m5.large");
    node.launch_ipv6_addresses = 1;
    let spec = VpcSpec {
        ipv6_cidr: "2001:db8::/56".parse().ok(),
        subnets: vec![subnet],
        nodes: vec![node],
        ..VpcSpec::default()
    };
    let world = World::new(spec).unwrap();
    let node = Node::new(&world, "a").unwrap();
    (world, node)
}

/// The settings may have changed since the lease was made.
#[tokio::test(start_paused = true)]
async fn an_old_plugin_is_told_by_what_its_lease_has() {
    let (_world, mut node) = of_six();
    node.start(six(Some(Family::V4)));
    let wiring = add(&node, "local").await.unwrap();
    assert_eq!(wiring.version, WIRING_VERSION);
    let refused = add_by(&node, "old", WIRING_BASE).await;
    assert_eq!(refused.map_err(|r| r.cause), Err("plugin_too_old"));
    node.stop().await;
    node.start(six(None));
    let refused = add_by(&node, "local", WIRING_BASE).await;
    assert_eq!(refused.map_err(|r| r.cause), Err("plugin_too_old"));
    let plain = add_by(&node, "plain", WIRING_BASE).await;
    assert_eq!(plain.as_ref().map(|w| w.version), Ok(WIRING_BASE));
    node.stop().await;
    node.start(six(Some(Family::V4)));
    assert_eq!(add_by(&node, "plain", WIRING_BASE).await, plain);
}

/// Where the range is nearly used up, its addresses rest as all others do.
#[tokio::test(start_paused = true)]
async fn node_local_addresses_rest() {
    const LEFT: usize = 3;
    const REST: Duration = Duration::from_secs(30);
    let (world, mut node) = of_six();
    for ip in egress::addresses(Family::V4).skip(LEFT) {
        node.set_route(ip, Some("eni00000000000")).await;
    }
    node.start(six(Some(Family::V4)));
    let local = |wiring: &PodWiring| wiring.pod_addresses[1].addr();
    let mut told: Vec<IpAddr> = Vec::new();
    for n in 0..LEFT {
        told.push(local(&add(&node, &n.to_string()).await.unwrap()));
    }
    told.dedup();
    assert_eq!(told.len(), LEFT, "{told:?}");
    del(&node, "sim", "1").await;
    let begin = world.elapsed();
    let again = local(&add(&node, "next").await.unwrap());
    assert_eq!(again, told[1]);
    let waited = world.elapsed() - begin;
    assert!(
        waited >= REST.saturating_sub(Duration::from_secs(1)),
        "{waited:?}"
    );
}
