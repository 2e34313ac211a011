//! What callers ask, in virtual time: who is served first, whose ADD a DEL withdraws, and what a DEL under another
//! network's name, or a GC, may end.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

use fleet_sim::settle::settings;
use fleet_sim::{CommitFault, Node, World};
use futures_util::future::join_all;
use ipam_core::plan::Policy;
use ipam_core::wiring::{PodWiring, WIRING_VERSION};
use ipam_core::{AttachmentKey, Family, PodRef};
use ipam_engine::{Allocate, Collect, Refusal, RefusalKind, Release, Settings};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::sleep;
use vpc_model::{NodeSpec, SubnetSpec, VpcSpec};

const WAIT: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
/// `IP_COOLDOWN_PERIOD`, if not set.
const COOLDOWN: Duration = Duration::from_secs(30);

/// A node whose instance takes as many pods as its type says: two on a t3.nano.
fn started(instance_type: &str, settings: Settings) -> (World, Node) {
    let spec = VpcSpec {
        subnets: vec![SubnetSpec::new("10.0.0.0/18".parse().unwrap())],
        nodes: vec![NodeSpec::new("a", instance_type)],
        ..VpcSpec::default()
    };
    let world = World::new(spec).unwrap();
    let mut node = Node::new(&world, "a").unwrap();
    node.start(settings);
    (world, node)
}

fn plain() -> Settings {
    settings(Policy::default())
}

/// The attachment of the simulation's pod number `n`, under this network's name and interface.
fn key(network: &str, n: u32, if_name: &str) -> AttachmentKey {
    AttachmentKey {
        network: network.into(),
        container_id: format!("sandbox-{n}"),
        if_name: if_name.into(),
    }
}

fn request(n: u32, timeout: Duration) -> Allocate {
    Allocate {
        key: key("sim", n, "eth0"),
        pod: PodRef::default(),
        timeout: Some(timeout),
        wiring_version: WIRING_VERSION,
        veth_prefix: None,
        mtu: None,
    }
}

/// An ADD that is asked now and answered later.
fn ask(
    node: &Node,
    n: u32,
    timeout: Duration,
) -> tokio::task::JoinHandle<Result<PodWiring, Refusal>> {
    let handle = node.handle().unwrap().clone();
    tokio::spawn(async move { handle.allocate(request(n, timeout)).await })
}

async fn del(node: &Node, network: &str, n: u32, if_name: &str) -> bool {
    let release = Release {
        key: key(network, n, if_name),
        pod: PodRef::default(),
        addresses: Vec::new(),
    };
    node.handle()
        .unwrap()
        .release(release)
        .await
        .unwrap()
        .released
}

async fn used(node: &Node) -> u32 {
    node.snapshot().await.unwrap().totals.used
}

/// Four pods come to a new node that takes two: the first two get addresses, the last two hear at once that there
/// will be none.
#[tokio::test(start_paused = true)]
async fn the_last_who_came_is_refused_first() {
    let (_world, node) = started("t3.nano", plain());
    let mut asked = Vec::new();
    for n in 0..4 {
        asked.push(ask(&node, n, 10 * WAIT));
        sleep(Duration::from_millis(1)).await;
    }
    let got: Vec<_> = join_all(asked)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(got[0].is_ok() && got[1].is_ok(), "{got:?}");
    for late in &got[2..] {
        let refusal = late.as_ref().unwrap_err();
        assert_eq!(refusal.cause, "instance_limit", "{refusal:?}");
    }
}

/// One waits for an address that rests. Others come in the very moment in which it is free, and before and after:
/// it is not theirs.
#[tokio::test(start_paused = true)]
async fn who_waits_is_served_before_who_comes() {
    let (world, node) = started("t3.nano", plain());
    for n in 0..2 {
        node.add(n, WAIT).await.unwrap();
    }
    sleep(10 * SECOND).await;
    node.del(0).await.unwrap();
    let ended = world.elapsed();
    let first = ask(&node, 10, 2 * COOLDOWN);
    sleep(COOLDOWN - Duration::from_millis(50)).await;
    let mut others = Vec::new();
    for n in 0..100 {
        others.push(ask(&node, 100 + n, Duration::from_millis(300)));
        sleep(Duration::from_millis(1)).await;
    }
    let waited = world.elapsed() - ended;
    assert!(
        waited > COOLDOWN && waited < COOLDOWN + SECOND,
        "{waited:?}"
    );
    assert!(first.await.unwrap().is_ok(), "first come, first served");
    for other in join_all(others).await {
        assert!(other.unwrap().is_err());
    }
}

/// A DEL withdraws the ADD of its own attachment, and no other one that waits.
#[tokio::test(start_paused = true)]
async fn a_del_withdraws_its_own_add_alone() {
    let (_world, node) = started("m5.large", plain());
    let asked = (0..3).map(|n| ask(&node, n, WAIT)).collect::<Vec<_>>();
    sleep(Duration::from_millis(1)).await;
    assert!(!del(&node, "sim", 1, "eth0").await);
    let got: Vec<_> = join_all(asked)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let refusal = got[1].as_ref().unwrap_err();
    assert_eq!(
        (refusal.kind, refusal.cause),
        (RefusalKind::Cancelled, "withdrawn")
    );
    assert!(got[0].is_ok() && got[2].is_ok(), "{got:?}");
}

/// The queue has a bound; who finds it full is told so.
#[tokio::test(start_paused = true)]
async fn the_queue_has_a_bound() {
    let (_world, node) = started("m5.large", plain());
    let asked = (0..1_024).map(|n| ask(&node, n, WAIT)).collect::<Vec<_>>();
    sleep(Duration::from_millis(1)).await;
    let refusal = ask(&node, 5_000, WAIT).await.unwrap().unwrap_err();
    assert_eq!(refusal.cause, "too_many_waiting", "{refusal:?}");
    drop(asked);
}

/// A plugin that does not know of node-local addresses would name one in the CNI result.
#[tokio::test(start_paused = true)]
async fn a_plugin_that_is_too_old_is_told() {
    let settings = Settings {
        egress: Some(Family::V6),
        ..plain()
    };
    let (_world, node) = started("m5.large", settings);
    let old = Allocate {
        wiring_version: 1,
        ..request(0, WAIT)
    };
    let refusal = node.handle().unwrap().allocate(old).await.unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::BadRequest);
    assert_eq!(refusal.cause, "plugin_too_old");
    assert_eq!(used(&node).await, 0);
}

/// While the daemon was away, every address of its pool came into use, and no lease names them. The first ADD after
/// the start waits for the look at the kernel, and for others.
#[tokio::test(start_paused = true)]
async fn nothing_is_given_before_the_kernel_was_looked_at() {
    let (_world, mut node) = started("m5.large", plain());
    node.add(0, WAIT).await.unwrap();
    sleep(60 * SECOND).await;
    node.kill();
    let blocks = node.store().enis().into_iter().flat_map(|eni| eni.blocks);
    let pool: Vec<IpAddr> = blocks.map(|(block, _)| block.first()).collect();
    assert!(pool.len() > 1, "{pool:?}");
    for (n, ip) in pool.iter().enumerate() {
        if node.route(*ip).is_none() {
            node.set_route(*ip, Some(&format!("eni{n:011x}"))).await;
        }
    }
    node.start(plain());
    let got = node.add(1, WAIT).await.unwrap().pod_addresses[0].addr();
    assert!(!pool.contains(&got), "{got} is in use");
}

/// containerd may DEL by a network configuration that was renamed. The pod lives, as its link shows: the lease ends
/// with that link, and not with another pod's.
#[tokio::test(start_paused = true)]
async fn a_del_under_another_name_waits_for_the_links_end() {
    let (_world, node) = started("m5.large", plain());
    let link = node.add(1, WAIT).await.unwrap().host_if;
    let other = node.add(2, WAIT).await.unwrap().host_if;
    sleep(100 * SECOND).await;
    assert!(!del(&node, "renamed", 1, "eth0").await);
    assert_eq!(used(&node).await, 2);
    node.remove_link(&other).await;
    sleep(SECOND).await;
    assert_eq!(used(&node).await, 2, "it is another one's");
    node.remove_link(&link).await;
    sleep(SECOND).await;
    assert_eq!(used(&node).await, 1);
}

/// Of another interface of the sandbox it says nothing.
#[tokio::test(start_paused = true)]
async fn a_del_under_another_name_is_of_its_interface() {
    let (_world, node) = started("m5.large", plain());
    let link = node.add(1, WAIT).await.unwrap().host_if;
    sleep(100 * SECOND).await;
    assert!(!del(&node, "renamed", 1, "net1").await);
    node.remove_link(&link).await;
    sleep(SECOND).await;
    assert_eq!(used(&node).await, 1);
}

/// An ADD whose plugin has not made the link yet is no finished pod.
#[tokio::test(start_paused = true)]
async fn a_del_under_another_name_spares_an_add_under_way() {
    let (_world, node) = started("m5.large", plain());
    ask(&node, 1, WAIT).await.unwrap().unwrap();
    sleep(5 * SECOND).await;
    assert!(!del(&node, "renamed", 1, "eth0").await);
    assert_eq!(used(&node).await, 1);
}

/// Nor is one that a daemon which has just started has not seen yet.
#[tokio::test(start_paused = true)]
async fn a_del_under_another_name_waits_for_the_look_at_the_kernel() {
    let (_world, mut node) = started("m5.large", plain());
    node.add(1, WAIT).await.unwrap();
    sleep(100 * SECOND).await;
    node.kill();
    node.start(plain());
    assert!(!del(&node, "renamed", 1, "eth0").await);
    sleep(SECOND).await;
    assert_eq!(used(&node).await, 1);
}

/// GC ends what the runtime does not name, and tells no link of a lease to the plugin, which would remove it: not
/// of one that it names, nor of one that is younger than its question.
#[tokio::test(start_paused = true)]
async fn gc_spares_what_is_valid_or_young() {
    let (_world, node) = started("m5.large", plain());
    let mut links = BTreeMap::new();
    for n in 0..3 {
        let wiring = node.add(n, WAIT).await.unwrap();
        links.insert(wiring.host_if, wiring.host_mac);
        sleep(100 * SECOND).await;
    }
    let question = Collect {
        network: "sim".into(),
        valid: [key("sim", 0, "eth0")].into(),
        age: 150 * SECOND,
        links,
    };
    let ended = node.handle().unwrap().collect(question).await.unwrap();
    let keys: Vec<_> = ended.into_iter().map(|one| one.key).collect();
    assert_eq!(keys, [Some(key("sim", 1, "eth0"))]);
    assert_eq!(used(&node).await, 2);
}

/// Both families, and a subnet without IPv6: IPv4 addresses alone serve no pod of this node.
#[tokio::test(start_paused = true)]
async fn a_node_with_half_of_what_pods_need_serves_none() {
    let families = vec![Family::V4, Family::V6];
    let policy = Policy {
        families,
        ..Policy::default()
    };
    let (_world, node) = started("m5.large", settings(policy));
    sleep(120 * SECOND).await;
    let pool = node.snapshot().await.unwrap();
    let addresses: usize = pool.enis.iter().map(|eni| eni.blocks.len()).sum();
    assert!(addresses > 0, "IPv4 is there");
    assert!(!pool.status.served, "{:?}", pool.status);
}

/// A lease that could not be written down was told to nobody: its pod is refused with the reason, and the address is
/// another one's.
#[tokio::test(start_paused = true)]
async fn a_lease_that_cant_be_stored_is_none() {
    let (_world, node) = started("t3.nano", plain());
    node.add(0, WAIT).await.unwrap();
    sleep(60 * SECOND).await;
    node.store()
        .fail(std::iter::repeat_n(CommitFault::Lost, 1_000));
    let refusal = ask(&node, 1, 10 * SECOND).await.unwrap().unwrap_err();
    assert_eq!(refusal.kind, RefusalKind::Internal, "{refusal:?}");
    node.store().heal();
    sleep(60 * SECOND).await;
    assert_eq!(used(&node).await, 1);
    // The instance takes two.
    node.add(2, 2 * WAIT).await.unwrap();
}
