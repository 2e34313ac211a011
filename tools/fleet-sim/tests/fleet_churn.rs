//! The call budget of one node: churn, steady state, warm restarts. Counts are those of the model's
//! audit log.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod fleet;

use fleet::together;
use fleet_sim::settle::{Question, settings, settle};
use fleet_sim::{Node, World};
use ipam_core::plan::Policy;
use std::collections::BTreeMap;
use std::time::Duration;
use vpc_model::{NodeSpec, SubnetSpec, VpcSpec};

const PODS: u32 = 1000;
const WAIT: Duration = Duration::from_secs(30);

fn world(instance_type: &str) -> (World, Node) {
    let spec = VpcSpec {
        subnets: vec![SubnetSpec::new("10.0.0.0/18".parse().unwrap())],
        nodes: vec![NodeSpec::new("a", instance_type)],
        ..VpcSpec::default()
    };
    let world = World::new(spec).unwrap();
    let node = Node::new(&world, "a").unwrap();
    (world, node)
}

fn warm_two(prefixes: bool) -> Policy {
    Policy {
        prefixes,
        warm_ip: Some(2),
        ..Policy::default()
    }
}

fn calls(world: &World) -> BTreeMap<String, u64> {
    let vpc = world.vpc();
    vpc.ec2_calls().get("a").cloned().unwrap_or_default()
}

fn total(world: &World) -> u64 {
    calls(world).values().sum()
}

async fn pause(seconds: f64) {
    tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
}

/// A thousand pods in bursts of `size`, one every `period` seconds, each pod living for `life`.
async fn bursts(node: &Node, size: u32, period: f64, life: f64) {
    for round in 0..PODS / size {
        let pods = round * size..(round + 1) * size;
        let adds: Vec<_> = pods.clone().map(|n| node.add(n, WAIT)).collect();
        for up in together(adds).await {
            assert!(up.is_ok(), "{up:?}");
        }
        pause(life).await;
        for n in pods {
            assert!(node.del(n).await.unwrap().released);
        }
        pause(period - life).await;
    }
}

/// A thousand pods one by one, one every 3.6 s on the average, with `alive` of them at a time: the
/// oldest goes when one more comes.
async fn one_by_one(node: &Node, alive: u32) {
    let mut dice = 12345_u64;
    for n in 0..PODS + alive {
        if n < PODS {
            let up = node.add(n, WAIT).await;
            assert!(up.is_ok(), "{up:?}");
        }
        if n >= alive {
            assert!(node.del(n - alive).await.unwrap().released);
        }
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        pause(0.6 + 6.0 * f64::from(u32::try_from(dice >> 40).unwrap()) / f64::from(1 << 24)).await;
    }
}

/// Pods that come one by one up to `most` and go one by one, again and again.
async fn waves(node: &Node, most: u32) {
    for round in 0..PODS / most {
        let pods = round * most..(round + 1) * most;
        for n in pods.clone() {
            let up = node.add(n, WAIT).await;
            assert!(up.is_ok(), "{up:?}");
            pause(1.8).await;
        }
        for n in pods {
            assert!(node.del(n).await.unwrap().released);
            pause(1.8).await;
        }
    }
}

/// Says what was measured, and holds it to the budget: 0.1 call a pod, and in the end no more
/// addresses than the setting asks for.
async fn judge(name: &str, world: &World, node: &Node, prefixes: bool) {
    let spent = total(world);
    println!("{name}: {spent} calls for {PODS} pods: {:?}", calls(world));
    assert!(spent < u64::from(PODS) / 10, "{name}: {:?}", calls(world));
    pause(2400.0).await;
    let snapshot = node.snapshot().await.unwrap();
    let left = if prefixes { 16 } else { 2 };
    assert_eq!(snapshot.totals.addresses, left, "{name}");
    assert_eq!(world.vpc().books(world.time()), vec![], "{name}");
    println!("{name}: {} calls once it is quiet", total(world));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_pods_in_bursts_take_few_calls() {
    for (prefixes, instance_type) in [(false, "m5.4xlarge"), (true, "m5.large")] {
        for (size, period, life) in [
            (25, 90.0, 30.0),
            (50, 180.0, 60.0),
            (100, 360.0, 60.0),
            (100, 360.0, 200.0),
            (200, 720.0, 120.0),
        ] {
            // m5.large has no room for more than 144 prefixes, m5.4xlarge for 232 addresses.
            let name = format!("{size} every {period} s for {life} s, prefixes {prefixes}");
            let (world, mut node) = world(instance_type);
            node.start(settings(warm_two(prefixes)));
            bursts(&node, size, period, life).await;
            judge(&name, &world, &node, prefixes).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_pods_one_by_one_take_few_calls() {
    for (prefixes, instance_type) in [(false, "m5.4xlarge"), (true, "m5.large")] {
        for alive in [1, 20, 100] {
            let (world, mut node) = world(instance_type);
            node.start(settings(warm_two(prefixes)));
            one_by_one(&node, alive).await;
            let name = format!("one by one, {alive} alive, prefixes {prefixes}");
            judge(&name, &world, &node, prefixes).await;
        }
        for most in [50, 100] {
            let (world, mut node) = world(instance_type);
            node.start(settings(warm_two(prefixes)));
            waves(&node, most).await;
            let name = format!("up to {most} and down, prefixes {prefixes}");
            judge(&name, &world, &node, prefixes).await;
        }
    }
}

/// What was taken in advance is given back: the pool settles to what the setting asks for, as the
/// tables of Amazon's CNI have it.
#[test]
fn pods_one_by_one_settle_as_the_tables_say() {
    let policy = |warm, minimum| Policy {
        warm_ip: Some(warm),
        minimum_ip: Some(minimum),
        ..Policy::default()
    };
    for (instance_type, warm, minimum, pods, per_eni) in [
        ("t3.small", 1, 1, 5, &[3, 3][..]),
        ("t3.small", 2, 5, 5, &[3, 3, 1]),
        ("p3dn.24xlarge", 5, 10, 15, &[20]),
        ("p3dn.24xlarge", 5, 10, 45, &[49, 1]),
    ] {
        let question = Question {
            instance_type: instance_type.into(),
            pods,
            policy: policy(warm, minimum),
        };
        let settled = settle(question).unwrap();
        assert_eq!(settled.per_eni, per_eni, "{instance_type}: {settled:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn steady_state_writes_nothing_and_reads_seldom() {
    for prefixes in [false, true] {
        let (world, mut node) = world("m5.4xlarge");
        node.start(settings(warm_two(prefixes)));
        let adds: Vec<_> = (0..40).map(|n| node.add(n, WAIT)).collect();
        assert!(together(adds).await.iter().all(Result::is_ok));
        pause(600.0).await;
        let before = calls(&world);
        pause(24.0 * 3600.0).await;
        let mut after = calls(&world);
        let described = |calls: &BTreeMap<String, u64>| calls["DescribeNetworkInterfaces"];
        // One every 30 to 45 minutes.
        let reads = described(&after) - described(&before);
        assert!((32..=48).contains(&reads), "{reads}");
        after.insert("DescribeNetworkInterfaces".into(), described(&before));
        // And beside every second of them, whether pods may still be where they are.
        let looks = |calls: &BTreeMap<String, u64>| calls["DescribeSubnets"];
        let reads = looks(&after) - looks(&before);
        assert!((14..=24).contains(&reads), "{reads}");
        after.insert("DescribeSubnets".into(), looks(&before));
        assert_eq!(after, before);
    }
}

/// Also in the midst of churn, when there is more than the setting asks for, and again and again.
#[tokio::test(start_paused = true)]
async fn a_warm_restart_asks_ec2_nothing_for_ten_minutes() {
    for prefixes in [false, true] {
        let (world, mut node) = world("m5.4xlarge");
        node.start(settings(warm_two(prefixes)));
        let adds: Vec<_> = (0..60).map(|n| node.add(n, WAIT)).collect();
        assert!(together(adds).await.iter().all(Result::is_ok));
        pause(120.0).await;
        for n in 0..50 {
            assert!(node.del(n).await.unwrap().released);
        }
        let before = total(&world);
        for restart in 0..6 {
            node.kill();
            node.start(settings(warm_two(prefixes)));
            assert!(node.add(100 + restart, WAIT).await.is_ok());
            pause(if restart < 5 { 97.0 } else { 599.0 }).await;
            assert_eq!(total(&world), before, "{restart}: {:?}", calls(&world));
        }
        // Later it gives back what is too much.
        pause(300.0).await;
        assert!(total(&world) > before);
    }
}
