//! The engine's promises, in virtual time on the model VPC.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

use fleet_sim::settle::{Question, settings, settle};
use fleet_sim::{Node, World};
use futures_util::future::join_all;
use ipam_core::plan::Policy;
use ipam_engine::RefusalKind;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use vpc_model::{Effect, Fault, NodeSpec, SubnetSpec, VpcSpec};

const WAIT: Duration = Duration::from_secs(30);

fn prefixes() -> Policy {
    Policy {
        prefixes: true,
        max_pods: Some(110),
        ..Policy::default()
    }
}

fn spec(instance_type: &str, cidr: &str) -> VpcSpec {
    VpcSpec {
        subnets: vec![SubnetSpec::new(cidr.parse().unwrap())],
        nodes: vec![NodeSpec::new("a", instance_type)],
        ..VpcSpec::default()
    }
}

fn world(instance_type: &str) -> (World, Node) {
    let world = World::new(spec(instance_type, "10.0.0.0/18")).unwrap();
    let node = Node::new(&world, "a").unwrap();
    (world, node)
}

fn calls(world: &World) -> BTreeMap<String, u64> {
    world
        .vpc()
        .ec2_calls()
        .get("a")
        .cloned()
        .unwrap_or_default()
}

fn total(world: &World) -> u64 {
    calls(world).values().sum()
}

/// Starts `n` ADDs at once and returns how many got an address, and the addresses.
async fn burst(node: &Node, from: u32, n: u32) -> (u32, BTreeSet<IpAddr>) {
    let adds = (from..from + n).map(|i| node.add(i, WAIT));
    let mut up = 0;
    let mut addresses = BTreeSet::new();
    let all = join_all(adds).await;
    for wiring in all.into_iter().flatten() {
        up += 1;
        addresses.insert(wiring.pod_addresses[0].addr());
    }
    (up, addresses)
}

#[tokio::test(start_paused = true)]
async fn a_cold_burst_takes_one_assign() {
    let (world, mut node) = world("m5.large");
    node.start(settings(prefixes()));
    let begin = world.elapsed();
    let (up, addresses) = burst(&node, 0, 110).await;
    assert_eq!((up, addresses.len()), (110, 110));
    let took = world.elapsed() - begin;
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(
        calls(&world),
        BTreeMap::from([
            ("AssignPrivateIpAddresses".to_owned(), 1),
            ("DescribeNetworkInterfaces".to_owned(), 1),
            // Beside it: whether pods may have addresses in the node's subnet.
            ("DescribeSubnets".to_owned(), 1),
        ])
    );
    // Steady state costs nothing but one look for what an earlier run may have left.
    tokio::time::sleep(Duration::from_secs(1700)).await;
    assert_eq!(total(&world), 4);
}

#[tokio::test(start_paused = true)]
async fn a_cold_burst_attaches_enis_side_by_side() {
    let (world, mut node) = world("m5.4xlarge");
    let policy = Policy {
        max_pods: Some(110),
        ..Policy::default()
    };
    node.start(settings(policy));
    let begin = world.elapsed();
    let (up, _) = burst(&node, 0, 110).await;
    let took = world.elapsed() - begin;
    assert_eq!(up, 110);
    assert!(took < Duration::from_secs(4), "{took:?}");
    tokio::time::sleep(Duration::from_secs(60)).await;
    // Describe and DescribeSubnets, Assign, and three times Create, Attach, Modify.
    assert_eq!(total(&world), 12, "{:?}", calls(&world));
    assert_eq!(world.vpc().books(world.time()), vec![]);
}

/// A link that appears while the host is being wired was once forgotten, and its pods waited.
#[tokio::test(start_paused = true)]
async fn a_link_that_comes_during_an_apply_is_wired() {
    let (_world, mut node) = world("m5.large");
    node.set_wiring_takes(Duration::from_millis(1500));
    node.start(settings(Policy::default()));
    assert_eq!(burst(&node, 0, 27).await.0, 27);
}

#[tokio::test(start_paused = true)]
async fn a_warm_restart_serves_at_once_and_asks_ec2_nothing() {
    let (world, mut node) = world("m5.large");
    node.start(settings(prefixes()));
    let (_, before) = burst(&node, 0, 20).await;
    node.kill();
    let calls_before = total(&world);
    node.start(settings(prefixes()));
    let begin = world.elapsed();
    let (up, after) = burst(&node, 20, 5).await;
    assert_eq!(up, 5);
    assert_eq!(world.elapsed(), begin, "nothing was waited for");
    assert!(before.is_disjoint(&after));
    // The same sandboxes have the same addresses.
    let (_, again) = burst(&node, 0, 20).await;
    assert_eq!(again, before);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(total(&world), calls_before);
}

#[tokio::test(start_paused = true)]
async fn an_add_is_withdrawn_by_its_del_and_by_its_caller() {
    let (world, mut node) = world("m5.large");
    world
        .vpc()
        .add_fault(Fault::new("AssignPrivateIpAddresses", Effect::Throttle).times(3));
    node.start(settings(prefixes()));
    let node = node;
    let (add, del) = tokio::join!(node.add(1, WAIT), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        node.del(1).await
    });
    assert_eq!(add.unwrap_err().unwrap().kind, RefusalKind::Cancelled);
    assert!(!del.unwrap().released);
    // A caller that goes away leaves no lease behind.
    let gone = tokio::time::timeout(Duration::from_millis(100), node.add(2, WAIT)).await;
    assert!(gone.is_err());
    tokio::time::sleep(Duration::from_secs(60)).await;
    let snapshot = node.snapshot().await.unwrap();
    assert_eq!((snapshot.totals.used, snapshot.parked), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_full_subnet_is_told_with_its_reason() {
    // Sixteen addresses less the five that AWS keeps and the node's own.
    let world = World::new(spec("m5.large", "10.0.0.0/28")).unwrap();
    let mut node = Node::new(&world, "a").unwrap();
    let policy = Policy {
        warm_ip: Some(1),
        ..Policy::default()
    };
    node.start(settings(policy));
    let mut up = 0;
    let refusal = loop {
        match node.add(up, WAIT).await {
            Ok(_) => up += 1,
            Err(refusal) => break refusal.unwrap(),
        }
    };
    assert!(up >= 8, "{up} pods");
    assert_eq!(
        (refusal.kind, refusal.cause),
        (RefusalKind::TryAgain, "subnet_full")
    );
    assert!(refusal.message.contains("next try"), "{}", refusal.message);
    // A pod that ends frees its address for one that waits, after the cooldown.
    node.del(0).await.unwrap();
    assert!(node.add(100, WAIT + WAIT).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_fragmented_subnet_gives_single_addresses() {
    let mut spec = spec("m5.large", "10.0.0.0/24");
    // Every /28 has an address in it already.
    spec.nodes[0].launch_addresses = 0;
    let world = World::new(spec).unwrap();
    world.vpc().add_fault(Fault::new(
        "AssignPrivateIpAddresses",
        Effect::Fail {
            code: "InsufficientCidrBlocks".into(),
            message: "The specified subnet does not have enough free cidr blocks to satisfy the request."
                .into(),
            http_status: 400,
        },
    ).times(4));
    let mut node = Node::new(&world, "a").unwrap();
    node.start(settings(prefixes()));
    let (up, _) = burst(&node, 0, 5).await;
    assert_eq!(up, 5);
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_assign_is_not_sent_twice() {
    let (world, mut node) = world("m5.large");
    world
        .vpc()
        .add_fault(Fault::new("AssignPrivateIpAddresses", Effect::DropAnswer).times(1));
    let policy = Policy {
        max_eni: Some(1),
        ..prefixes()
    };
    node.start(settings(policy));
    let add = node.add(0, Duration::from_secs(90)).await;
    assert!(add.is_ok(), "{add:?}");
    tokio::time::sleep(Duration::from_secs(120)).await;
    let held: usize = world
        .vpc()
        .enis(world.time())
        .iter()
        .map(|e| e.v4_prefixes.len())
        .sum();
    let snapshot = node.snapshot().await.unwrap();
    assert_eq!(held, 2, "what was asked for, once");
    assert_eq!(snapshot.totals.addresses, 32, "{:?}", snapshot.report);
}

/// What an unanswered Unassign names may be another node's by now, after a restart as well.
#[tokio::test(start_paused = true)]
async fn a_doubt_outlives_a_restart() {
    let (world, mut node) = world("m5.large");
    world
        .vpc()
        .add_fault(Fault::new("UnassignPrivateIpAddresses", Effect::DropAnswer).times(1));
    let policy = Policy {
        warm_ip: Some(1),
        minimum_ip: Some(1),
        ..Policy::default()
    };
    node.start(settings(policy.clone()));
    assert_eq!(burst(&node, 0, 5).await.0, 5);
    for n in 0..5 {
        assert!(node.del(n).await.unwrap().released);
    }
    let mut since = None;
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        since = node.snapshot().await.unwrap().enis[0].in_doubt_since;
        if since.is_some() {
            break;
        }
    }
    assert!(since.is_some(), "{:?}", calls(&world));
    node.kill();
    node.start(settings(policy));
    let enis = node.snapshot().await.unwrap().enis;
    assert_eq!(enis[0].in_doubt_since, since);
}

#[tokio::test(start_paused = true)]
async fn ec2_silent_at_start_is_waited_for() {
    let (world, mut node) = world("m5.large");
    world
        .vpc()
        .add_fault(Fault::new("DescribeNetworkInterfaces", Effect::Throttle).times(5));
    node.start(settings(prefixes()));
    let refused = node
        .add(0, Duration::from_secs(2))
        .await
        .unwrap_err()
        .unwrap();
    assert_eq!(refused.kind, RefusalKind::TryAgain);
    assert!(
        refused.message.contains("RequestLimitExceeded"),
        "{}",
        refused.message
    );
    assert!(node.add(0, Duration::from_secs(120)).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn enis_come_and_go_with_pods_and_nothing_leaks() {
    let (world, mut node) = world("t3.small");
    let policy = Policy {
        warm_ip: Some(1),
        minimum_ip: Some(1),
        ..Policy::default()
    };
    node.start(settings(policy));
    assert_eq!(burst(&node, 0, 9).await.0, 9);
    assert_eq!(node.snapshot().await.unwrap().enis.len(), 3);
    for n in 0..9 {
        assert!(node.del(n).await.unwrap().released);
    }
    tokio::time::sleep(Duration::from_secs(300)).await;
    let snapshot = node.snapshot().await.unwrap();
    assert_eq!(
        (snapshot.enis.len(), snapshot.totals.addresses),
        (1, 1),
        "{snapshot:?}"
    );
    assert_eq!(world.vpc().enis(world.time()).len(), 1);
    assert_eq!(world.vpc().books(world.time()), vec![]);
}

#[test]
fn settles_as_the_tables_say() {
    let question = Question {
        instance_type: "t3.small".into(),
        pods: 58,
        policy: Policy {
            max_pods: Some(110),
            ..prefixes()
        },
    };
    let settled = settle(question).unwrap();
    assert_eq!(
        (
            settled.enis,
            settled.blocks,
            settled.addresses,
            settled.free,
            settled.per_eni
        ),
        (2, 5, 80, 22, vec![3, 2])
    );
    assert_eq!(settled.pods_up, 58);
}

#[tokio::test(start_paused = true)]
async fn a_full_subnet_is_not_hammered() {
    let world = World::new(spec("m5.large", "10.0.0.0/28")).unwrap();
    let mut node = Node::new(&world, "a").unwrap();
    node.start(settings(prefixes()));
    for n in 0..20 {
        drop(node.add(n, Duration::from_secs(1)).await);
    }
    tokio::time::sleep(Duration::from_secs(1200)).await;
    // A few tries to find out what can be had, then one every five minutes for each kind.
    assert!(total(&world) < 55, "{:?}", calls(&world));
}

/// Stopped between Create and Modify, the daemon finishes: the node may go before it comes back.
#[tokio::test(start_paused = true)]
async fn a_stop_finishes_half_way_enis() {
    let (world, mut node) = world("m5.large");
    node.start(settings(Policy::default()));
    assert_eq!(burst(&node, 0, 3).await.0, 3);
    while !calls(&world).contains_key("CreateNetworkInterface") {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    node.stop().await;
    let now = world.time();
    world.vpc().terminate_instance("a", now).unwrap();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let left: Vec<_> = world
        .vpc()
        .enis(world.time())
        .iter()
        .map(|e| e.status)
        .collect();
    assert_eq!(left, Vec::<&str>::new());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_empties_buys_nothing() {
    let (world, mut node) = world("m5.4xlarge");
    let policy = Policy {
        max_pods: Some(110),
        ..Policy::default()
    };
    node.start(settings(policy));
    assert_eq!(burst(&node, 0, 110).await.0, 110);
    tokio::time::sleep(Duration::from_secs(120)).await;
    let before = calls(&world);
    for n in 0..110 {
        assert!(node.del(n).await.unwrap().released);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(calls(&world), before);
}
