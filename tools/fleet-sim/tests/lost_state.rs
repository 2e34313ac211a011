//! A state directory that is removed under living pods.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

use fleet_sim::settle::settings;
use fleet_sim::{Node, World};
use ipam_core::plan::Policy;
use std::time::Duration;
use vpc_model::{Latency, NodeSpec, SubnetSpec, VpcSpec};

/// EC2's answers lag by 20 s, and the state is lost a second after a pod has got the first address of a new
/// block. The next daemon's first Describe does not show that block, on an ENI that seems to be empty.
/// The kernel routes the pod: nothing is given back before EC2's lag is over.
#[tokio::test(start_paused = true)]
async fn an_eni_is_not_given_back_under_a_pod_that_only_the_kernel_knows() {
    let mut spec = VpcSpec {
        subnets: vec![SubnetSpec::new("10.0.0.0/18".parse().unwrap())],
        nodes: vec![NodeSpec::new("a", "t3.small")],
        ..VpcSpec::default()
    };
    spec.latencies.describe_lag_ms = Latency::fixed(20_000.0);
    let world = World::new(spec).unwrap();
    let mut node = Node::new(&world, "a").unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    let policy = Policy {
        warm_ip: Some(0),
        minimum_ip: Some(1),
        ..Policy::default()
    };
    node.start(settings(policy.clone()));
    // Three on the first ENI, the fourth on a second one, which is seen by EC2's answers.
    for n in 0..4 {
        node.add(n, Duration::from_secs(30)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let late = node.add(4, Duration::from_secs(30)).await.unwrap();
    let ip = late.pod_addresses[0].addr();
    node.del(3).await.unwrap();
    node.kill();
    node.store().wipe();
    tokio::time::sleep(Duration::from_secs(1)).await;
    node.start(settings(policy));
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_secs(10)).await;
        let enis = world.vpc().enis(world.time());
        let held = enis.iter().filter(|e| e.attachment.is_some());
        let mut addresses = held.flat_map(|e| &e.addresses);
        assert!(addresses.any(|a| ip == a.address), "{ip} was given back");
    }
}
