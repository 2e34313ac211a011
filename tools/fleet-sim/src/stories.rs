//! Stories of one node that the dice seldom or never tell: what is told to the daemon, or done behind its back, at one
//! moment. Each is there for a promise whose breach random seeds did not notice.

use crate::node::Node;
use crate::settle::settings;
use crate::world::World;
use ipam_core::plan::Policy;
use ipam_core::{Block, Mac};
use ipam_engine::ports::KernelEvent;
use ipam_engine::settings::OrphanScope;
use ipam_engine::{Allocate, Collect, Release, Settings};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::sleep;
use vpc_model::request::{Action, CreateNetworkInterface};
use vpc_model::{Admission, Caller, Effect, Fault, NodeSpec, SubnetSpec, VpcSpec};

const SECOND: Duration = Duration::from_secs(1);
const WAIT: Duration = Duration::from_secs(30);

/// A world of these nodes in one subnet.
fn world(nodes: &[(&str, &str)]) -> World {
    let spec = VpcSpec {
        subnets: vec![SubnetSpec::new("10.0.0.0/18".parse().unwrap())],
        nodes: nodes
            .iter()
            .map(|(name, kind)| NodeSpec::new(name, kind))
            .collect(),
        ..VpcSpec::default()
    };
    World::new(spec).unwrap()
}

/// A node whose daemon has run for a while, with pods 0 to `pods`.
async fn settled(policy: Policy, pods: u32) -> (World, Node) {
    let world = world(&[("a", "m5.large")]);
    let mut node = Node::new(&world, "a").unwrap();
    node.start(settings(policy));
    for n in 0..pods {
        node.add(n, WAIT).await.unwrap();
    }
    sleep(120 * SECOND).await;
    (world, node)
}

/// An address of the pool that no pod has.
fn free(node: &Node) -> IpAddr {
    let leases = node.store().leases();
    let leased = |ip: &IpAddr| leases.iter().any(|l| l.addresses.contains(ip));
    let enis = node.store().enis();
    let mut all = enis.iter().flat_map(|e| e.blocks.keys()).map(Block::first);
    all.find(|ip| !leased(ip)).unwrap()
}

async fn held(node: &Node) -> u32 {
    node.snapshot().await.unwrap().totals.held
}

/// Writes that EC2 was asked for, and what it said.
fn writes(world: &World) -> Vec<(String, String)> {
    let vpc = world.vpc();
    let all = vpc.audit(0).iter();
    let writes = all.filter(|e| !e.action.starts_with("Describe"));
    writes
        .map(|e| (e.action.clone(), e.outcome.clone()))
        .collect()
}

fn refused(world: &World) -> Vec<(String, String)> {
    let mut writes = writes(world);
    writes.retain(|(_, outcome)| outcome != "ok");
    writes
}

#[tokio::test(start_paused = true)]
async fn what_the_kernel_routes_is_held_as_long_as_it_does() {
    let (_world, node) = settled(Policy::default(), 1).await;
    let ip = free(&node);
    node.kernel.set_route(ip, Some("eni0a1b2c3d4e5")).await;
    sleep(SECOND).await;
    assert_eq!(held(&node).await, 1);
    node.kernel.remove_link("eni0a1b2c3d4e5").await;
    sleep(60 * SECOND).await;
    assert_eq!(held(&node).await, 0);
}

#[tokio::test(start_paused = true)]
async fn after_lost_events_the_kernel_is_looked_at_anew() {
    let (_world, node) = settled(Policy::default(), 1).await;
    let ip = free(&node);
    node.kernel.lead_in_silence(ip, Some("eni0a1b2c3d4e5"));
    node.kernel.tell(KernelEvent::Overrun).await;
    sleep(SECOND).await;
    assert_eq!(held(&node).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_the_kernel_contradicts_is_older_than_the_truth() {
    let (_world, mut node) = settled(Policy::default(), 1).await;
    let ip = node.store().leases()[0].addresses[0];
    node.kill();
    node.kernel.lead_in_silence(ip, Some("eni5e4d3c2b1a0"));
    node.start(settings(Policy::default()));
    sleep(SECOND).await;
    assert_eq!(node.store().leases(), []);
    assert_eq!(held(&node).await, 1, "and whose it is nobody knows");
}

/// A pod's route goes without a word, in two ways of which the kernel tells otherwise.
#[tokio::test(start_paused = true)]
async fn a_route_that_went_in_silence_comes_back() {
    let (_world, node) = settled(Policy::default(), 1).await;
    let lease = node.store().leases()[0].clone();
    let (ip, link) = (lease.addresses[0], lease.host_if);
    for event in [KernelEvent::PodLinkBack(link.clone()), KernelEvent::Overrun] {
        assert_eq!(node.route(ip), Some(link.clone()));
        node.kernel.lead_in_silence(ip, None);
        node.kernel.tell(event).await;
        sleep(2 * SECOND).await;
        assert_eq!(node.route(ip), Some(link.clone()));
    }
}

/// Its link is there still: only its lease's end says that the route must stay away.
#[tokio::test(start_paused = true)]
async fn a_released_pods_route_stays_away_while_its_link_is_there() {
    let (_world, node) = settled(Policy::default(), 1).await;
    let ip = node.store().leases()[0].addresses[0];
    node.set_route(ip, None).await;
    node.end(0).await.unwrap();
    sleep(5 * SECOND).await;
    assert_eq!(node.route(ip), None);
}

/// Nine pods fill the first ENI; what is free is on the second, whose link goes. To wire the node takes long just then.
#[tokio::test(start_paused = true)]
async fn an_eni_whose_link_has_gone_serves_nobody_from_that_moment() {
    for restarted in [false, true] {
        let (_world, mut node) = settled(Policy::default(), 9).await;
        let enis = node.store().enis();
        let second = enis.iter().find(|e| !e.primary).unwrap();
        let mac: Mac = second.mac.unwrap();
        node.kernel.tell_links().await;
        node.set_wiring_takes(10 * SECOND);
        if restarted {
            node.kill();
        }
        node.kernel.hide(mac, true);
        node.kernel.tell_links().await;
        if restarted {
            node.start(settings(Policy::default()));
        }
        sleep(SECOND / 10).await;
        if let Ok(wiring) = node.add(20, 3 * SECOND).await {
            let ip = wiring.pod_addresses[0].addr();
            let on_it = second.blocks.keys().any(|b| b.contains(ip));
            assert!(
                !on_it,
                "{ip} is given on an ENI without a link; restarted: {restarted}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_provisioning_nothing_is_written() {
    let world = world(&[("a", "m5.large")]);
    let mut node = Node::new(&world, "a").unwrap();
    node.start(Settings {
        provisioning: false,
        ..settings(Policy::default())
    });
    assert!(node.add(0, 5 * SECOND).await.is_err());
    sleep(600 * SECOND).await;
    assert_eq!(writes(&world), []);
}

#[tokio::test(start_paused = true)]
async fn after_a_reboot_nothing_is_bought_before_ec2_has_told() {
    let (world, mut node) = settled(Policy::default(), 9).await;
    let before = writes(&world).len();
    let error = Effect::Fail {
        code: "InternalError".into(),
        message: "An internal error has occurred".into(),
        http_status: 500,
    };
    let fault = world
        .vpc()
        .add_fault(Fault::new("DescribeNetworkInterfaces", error));
    node.reboot();
    node.start(settings(Policy::default()));
    for n in 30..60 {
        let answer = tokio::time::timeout(SECOND, node.add(n, WAIT)).await;
        assert!(
            !matches!(answer, Ok(Ok(_))),
            "what was stored may be another node's by now"
        );
    }
    assert_eq!(writes(&world).len(), before);
    world.vpc().remove_fault(fault);
    sleep(30 * SECOND).await;
    node.add(70, WAIT).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_pod_for_which_there_will_be_nothing_is_told_at_once() {
    let (world, node) = settled(one_eni(), 9).await;
    let begun = world.elapsed();
    let refusal = node.add(20, WAIT).await.unwrap_err().unwrap();
    assert!(world.elapsed() - begun < 5 * SECOND, "{refusal:?}");
}

#[tokio::test(start_paused = true)]
async fn max_eni_is_kept() {
    let world = world(&[("a", "m5.xlarge")]);
    let mut node = Node::new(&world, "a").unwrap();
    node.start(settings(Policy {
        max_eni: Some(2),
        ..Policy::default()
    }));
    let adds = (0..60).map(|n| node.add(n, 20 * SECOND));
    futures_util::future::join_all(adds).await;
    sleep(60 * SECOND).await;
    assert_eq!(world.vpc().enis(world.time()).len(), 2);
}

/// More pods than the instance has places and slots for come at once: the daemon knows both, and EC2 refuses nothing.
#[tokio::test(start_paused = true)]
async fn nothing_is_asked_for_that_the_instance_has_no_room_for() {
    for prefixes in [false, true] {
        let world = world(&[("a", "t3.small")]);
        let mut node = Node::new(&world, "a").unwrap();
        node.start(settings(Policy {
            prefixes,
            ..Policy::default()
        }));
        let pods = if prefixes { 160 } else { 14 };
        let adds = (0..pods).map(|n| node.add(n, 20 * SECOND));
        let up = futures_util::future::join_all(adds).await;
        // t3.small: 3 ENIs of 4 addresses, one of them its own.
        let most = if prefixes { 9 * 16 } else { 9 };
        assert_eq!(up.iter().filter(|up| up.is_ok()).count(), most);
        sleep(300 * SECOND).await;
        assert_eq!(refused(&world), [], "prefixes: {prefixes}");
        let made = writes(&world);
        let made = made
            .iter()
            .filter(|(action, _)| action == "CreateNetworkInterface");
        assert_eq!(made.count(), 2, "prefixes: {prefixes}");
    }
}

#[tokio::test(start_paused = true)]
async fn two_nodes_tokens_never_meet() {
    let world = world(&[("a", "m5.large"), ("b", "m5.large")]);
    for name in ["a", "b"] {
        let mut node = Node::new(&world, name).unwrap();
        node.start(settings(Policy::default()));
        for n in 0..12 {
            node.add(n, WAIT).await.unwrap();
        }
        sleep(60 * SECOND).await;
        node.stop().await;
    }
    assert_eq!(refused(&world), []);
}

/// The runtime ends one of two sandboxes that wait.
#[tokio::test(start_paused = true)]
async fn a_del_cancels_the_add_of_its_own_key_only() {
    let (_world, node) = settled(one_eni(), 9).await;
    node.del(0).await.unwrap();
    let ended = async {
        sleep(SECOND).await;
        node.del(20).await.unwrap();
    };
    let (first, second, ()) =
        tokio::join!(node.add(20, 60 * SECOND), node.add(21, 60 * SECOND), ended);
    assert_eq!(first.unwrap_err().unwrap().cause, "withdrawn");
    second.unwrap();
}

/// One ENI, and no more.
fn one_eni() -> Policy {
    Policy {
        max_eni: Some(1),
        ..Policy::default()
    }
}

#[tokio::test(start_paused = true)]
async fn who_came_first_is_served_first() {
    let (_world, node) = settled(one_eni(), 9).await;
    node.del(0).await.unwrap();
    let later = |n: u32, time: Duration| {
        let node = &node;
        async move {
            sleep(time).await;
            node.add(n, 60 * SECOND).await
        }
    };
    // The last one asks at the very moment at which the address has rested.
    let adds = [later(20, SECOND), later(21, 2 * SECOND), later(22, WAIT)];
    let [first, second, third] = adds;
    let (first, second, third) = tokio::join!(first, second, third);
    assert!(first.is_ok() && second.is_err() && third.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_store_is_not_believed_before_ec2_has_told() {
    let (world, mut node) = settled(Policy::default(), 3).await;
    node.store.keep_past(12);
    node.add(5, WAIT).await.unwrap();
    node.kill();
    assert!(node.store.go_back(1, true).is_some());
    let error = Effect::Fail {
        code: "InternalError".into(),
        message: "An internal error has occurred".into(),
        http_status: 500,
    };
    world
        .vpc()
        .add_fault(Fault::new("DescribeNetworkInterfaces", error));
    node.start(settings(Policy::default()));
    sleep(SECOND).await;
    assert!(
        node.add(6, 5 * SECOND).await.is_err(),
        "what it has may have been given back since"
    );
}

/// Of the future, since the clock was set back between two runs.
#[tokio::test(start_paused = true)]
async fn an_address_rests_from_now_at_most() {
    let (world, node) = settled(Policy::default(), 1).await;
    let ip = node.del(0).await.unwrap().addresses[0];
    let mut loaded = node.store().load();
    let now = ipam_engine::ports::Clock::now(&world);
    for released in loaded.cooldowns.values_mut() {
        released.at = now + 3600 * SECOND;
    }
    let owner = ipam_engine::owner::Owner::new(settings(Policy::default()), loaded, 1, now);
    assert_eq!(owner.store().released(ip).map(|r| r.at), Some(now));
}

/// An ENI that another cluster's daemon made and left, long ago.
#[tokio::test(start_paused = true)]
async fn another_clusters_orphan_is_left_alone() {
    let world = world(&[("a", "m5.large")]);
    let tags = [
        ("node.k8s.amazonaws.com/instance_id", "i-0another"),
        ("node.k8s.amazonaws.com/createdAt", "1000"),
        ("cluster.k8s.amazonaws.com/name", "another"),
    ];
    let subnet = world.vpc().subnets()[0].id.clone();
    let request = CreateNetworkInterface {
        subnet: Some(subnet),
        description: "aws-K8S-i-0another".into(),
        tags: tags.map(|(k, v)| (k.into(), v.into())).into(),
        ..CreateNetworkInterface::default()
    };
    let action = Action::CreateNetworkInterface(request).into();
    let now = world.time();
    let made = world
        .vpc()
        .execute(&Admission::immediate(), &Caller::Operator, &action, now);
    made.unwrap();
    let mut node = Node::new(&world, "a").unwrap();
    node.start(Settings {
        orphans: OrphanScope::Cluster,
        ..settings(one_eni())
    });
    sleep(3600 * SECOND).await;
    let looks = writes(&world);
    assert_eq!(world.vpc().enis(world.time()).len(), 2, "{looks:?}");
}

/// A GC whose list names one of two pods.
#[tokio::test(start_paused = true)]
async fn a_gc_leaves_what_the_runtime_names() {
    let (_world, node) = settled(Policy::default(), 2).await;
    let leases = node.store().leases();
    let valid = leases[0].key.clone();
    let question = Collect {
        network: valid.network.clone(),
        valid: [valid.clone()].into(),
        age: Duration::ZERO,
        links: BTreeMap::new(),
    };
    let ended = node.handle().unwrap().collect(question).await.unwrap();
    assert_eq!(ended.len(), 1);
    let left: Vec<_> = node.store().leases().into_iter().map(|l| l.key).collect();
    assert_eq!(left, [valid]);
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_can_not_do_it_is_told_so() {
    let world = world(&[("a", "m5.large")]);
    let mut node = Node::new(&world, "a").unwrap();
    node.start(Settings {
        egress: Some(ipam_core::Family::V6),
        ..settings(Policy::default())
    });
    sleep(60 * SECOND).await;
    let (key, pod) = crate::node::named("sandbox", "pod");
    let request = Allocate {
        key,
        pod,
        timeout: Some(WAIT),
        wiring_version: 1,
        veth_prefix: None,
        mtu: None,
    };
    let refusal = node.handle().unwrap().allocate(request).await.unwrap_err();
    assert_eq!(refusal.cause, "plugin_too_old");
}

/// A golden image: another instance comes up on a copy of the disk.
#[tokio::test(start_paused = true)]
async fn nothing_that_another_instance_stored_is_believed() {
    let world = world(&[("a", "m5.large"), ("b", "m5.large")]);
    let mut first = Node::new(&world, "a").unwrap();
    first.start(settings(Policy::default()));
    for n in 0..3 {
        first.add(n, WAIT).await.unwrap();
    }
    sleep(60 * SECOND).await;
    let mut second = Node::new(&world, "b").unwrap();
    second.store = first.store().copy();
    second.start(settings(Policy::default()));
    sleep(60 * SECOND).await;
    assert_eq!(second.store().leases(), []);
    let theirs: Vec<_> = first
        .store()
        .enis()
        .into_iter()
        .filter_map(|e| e.id)
        .collect();
    let shared = second.store().enis().into_iter().filter_map(|e| e.id);
    assert_eq!(shared.filter(|id| theirs.contains(id)).count(), 0);
    second.add(9, WAIT).await.unwrap();
}

/// The store has lost a lease, and the DEL names what its pod had.
#[tokio::test(start_paused = true)]
async fn a_del_frees_an_address_that_only_the_kernel_knew() {
    let (_world, node) = settled(Policy::default(), 1).await;
    let ip = free(&node);
    node.kernel.set_route(ip, Some("enilost")).await;
    let (key, pod) = crate::node::named("lost", "lost");
    let release = Release {
        key,
        pod,
        addresses: vec![ip],
    };
    let released = node.handle().unwrap().release(release).await.unwrap();
    assert_eq!(
        (released.addresses, released.host_if.as_str()),
        (vec![ip], "enilost")
    );
}
