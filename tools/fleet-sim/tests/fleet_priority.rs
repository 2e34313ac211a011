//! While EC2 refuses calls for their rate: pods first, one action's bucket is not another's, one
//! subnet's fault is not the node's.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod fleet;

use fleet::together;
use fleet_sim::settle::settings;
use fleet_sim::{Node, World};
use ipam_core::plan::{Policy, Subnets};
use std::time::Duration;
use vpc_model::{Effect, Fault, NodeSpec, SubnetSpec, VpcSpec};

const WAIT: Duration = Duration::from_secs(30);

fn world(instance_type: &str, nodes: u32, cidrs: &[&str]) -> (World, Vec<Node>) {
    let mut spec = VpcSpec {
        subnets: cidrs
            .iter()
            .map(|cidr| SubnetSpec::new(cidr.parse().unwrap()))
            .collect(),
        nodes: (0..nodes)
            .map(|n| NodeSpec::new(&format!("n{n}"), instance_type))
            .collect(),
        ..VpcSpec::default()
    };
    // Refused by fault only, so that it is known when it ends.
    spec.limits.throttling = false;
    let world = World::new(spec).unwrap();
    let nodes = (0..nodes).map(|n| Node::new(&world, &format!("n{n}")).unwrap());
    let nodes = nodes.collect();
    (world, nodes)
}

fn warm_two() -> Policy {
    Policy {
        warm_ip: Some(2),
        ..Policy::default()
    }
}

async fn pause(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn count(world: &World, action: &str) -> usize {
    let vpc = world.vpc();
    vpc.audit(0).iter().filter(|e| e.action == action).count()
}

/// Starts pods and returns how long the last one of them took.
async fn burst(world: &World, node: &Node, pods: std::ops::Range<u32>) -> Duration {
    let begun = world.elapsed();
    let adds = pods.map(|n| node.add(n, WAIT));
    for up in together(adds.collect()).await {
        assert!(up.is_ok(), "{up:?}");
    }
    world.elapsed() - begun
}

/// Warm addresses are asked for seldom while EC2 refuses; a pod that comes is not held up by that.
#[tokio::test(start_paused = true)]
async fn a_pod_waits_less_than_the_warm_pool() {
    const ASSIGN: &str = "AssignPrivateIpAddresses";
    let (world, mut nodes) = world("m5.large", 20, &["10.0.0.0/18"]);
    let fault = world.vpc().add_fault(Fault::new(ASSIGN, Effect::Throttle));
    for node in &mut nodes {
        node.start(settings(warm_two()));
    }
    pause(1200).await;
    // Three and forty-five seconds on the average: twenty minutes are 25 tries.
    let tries = count(&world, ASSIGN) / nodes.len();
    assert!((15..=40).contains(&tries), "{tries} tries a node");
    world.vpc().remove_fault(fault);
    let waits = nodes.iter().map(|node| burst(&world, node, 0..1));
    let mut waits = together(waits.collect()).await;
    waits.sort();
    println!("waits after twenty minutes: {waits:?}");
    assert!(waits[19] <= Duration::from_secs(5), "{waits:?}");
    assert!(waits[10] <= Duration::from_secs(8), "{waits:?}");
}

/// What is over before an ADD gives up fails no ADD: a last try falls before its deadline.
#[tokio::test(start_paused = true)]
async fn a_throttling_that_ends_in_time_fails_no_pod() {
    for lasts in [10, 20] {
        let (world, mut nodes) = world("m5.large", 40, &["10.0.0.0/18"]);
        let fault = world
            .vpc()
            .add_fault(Fault::new("Assign*", Effect::Throttle));
        for node in &mut nodes {
            node.start(settings(warm_two()));
        }
        let all = together(nodes.iter().map(|node| burst(&world, node, 0..3)).collect());
        let ends = async {
            pause(lasts).await;
            world.vpc().remove_fault(fault);
        };
        let (waits, ()) = tokio::join!(all, ends);
        println!(
            "throttled for {lasts} s: {:?} at the most",
            waits.iter().max()
        );
    }
}

/// Giving back is refused all the time; pods come all the same.
#[tokio::test(start_paused = true)]
async fn one_actions_bucket_is_not_another_ones() {
    let (world, mut nodes) = world("m5.4xlarge", 1, &["10.0.0.0/18"]);
    let node = &mut nodes[0];
    node.start(settings(warm_two()));
    burst(&world, node, 0..28).await;
    pause(10).await;
    for action in ["Unassign*", "Detach*", "Modify*"] {
        world.vpc().add_fault(Fault::new(action, Effect::Throttle));
    }
    for n in 0..28 {
        node.del(n).await.unwrap();
    }
    pause(600).await;
    let refused = count(&world, "UnassignPrivateIpAddresses");
    assert!((1..40).contains(&refused), "{refused} tries to give back");
    // More than what could not be given back: the primary ENI and new ones.
    let took = burst(&world, node, 100..160).await;
    assert!(took < Duration::from_secs(4), "{took:?}");
}

/// While the warm pool's calls are refused for one action, nothing is asked for by another one
/// that no pod needs.
#[tokio::test(start_paused = true)]
async fn nothing_is_given_back_while_writes_are_refused() {
    let (world, mut nodes) = world("m5.4xlarge", 1, &["10.0.0.0/18"]);
    let node = &mut nodes[0];
    node.start(settings(warm_two()));
    burst(&world, node, 0..25).await;
    for n in 0..20 {
        node.del(n).await.unwrap();
    }
    pause(45).await;
    // A pod's growth is refused from now on: 35 more than there are.
    world
        .vpc()
        .add_fault(Fault::new("Create*", Effect::Throttle));
    let adds = together((100..140).map(|n| node.add(n, WAIT)).collect()).await;
    assert!(adds.iter().any(Result::is_err), "no ENI, no address");
    let before = count(&world, "UnassignPrivateIpAddresses");
    for n in 100..140 {
        drop(node.del(n).await);
    }
    pause(20).await;
    assert_eq!(count(&world, "UnassignPrivateIpAddresses"), before);
}

/// The primary ENI's subnet is full: that holds up nothing in the subnet of the others.
#[tokio::test(start_paused = true)]
async fn one_subnets_fault_is_not_the_nodes() {
    let (world, mut nodes) = world("m5.4xlarge", 1, &["10.0.0.0/28", "10.0.64.0/18"]);
    let other = world.vpc().subnets();
    let other = other.iter().find(|s| s.cidr.prefix_len() == 18).unwrap();
    let mut settings = settings(warm_two());
    settings.policy.subnets = Subnets::Listed(vec![other.id.as_str().into()]);
    let node = &mut nodes[0];
    node.start(settings);
    let took = burst(&world, node, 0..60).await;
    println!("with a full subnet: {took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    let took = burst(&world, node, 60..120).await;
    assert!(took < Duration::from_secs(6), "{took:?}");
}

/// Pods that come within seconds share calls, whether they find a warm address or wait.
#[tokio::test(start_paused = true)]
async fn a_burst_over_seconds_is_few_calls() {
    let (world, mut nodes) = world("p3dn.24xlarge", 1, &["10.0.0.0/18"]);
    let node = &mut nodes[0];
    node.start(settings(warm_two()));
    pause(60).await;
    let before = world.vpc().audit(0).len();
    let node = &*node;
    let adds = (0..40).map(|n| async move {
        tokio::time::sleep(Duration::from_millis(100) * n).await;
        node.add(n, WAIT).await
    });
    assert!(together(adds.collect()).await.iter().all(Result::is_ok));
    pause(20).await;
    let calls = world.vpc().audit(0).len() - before;
    println!("forty pods within four seconds: {calls} calls");
    assert!(calls <= 8, "{calls}");
}
