//! Nodes whose system clocks are wrong, or are set while they are off.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

use fleet_sim::settle::settings;
use fleet_sim::{Node, World};
use ipam_core::Phase;
use ipam_core::plan::Policy;
use ipam_engine::Settings;
use ipam_engine::settings::OrphanScope;
use std::time::Duration;
use vpc_model::{Latency, NodeSpec, SubnetSpec, VpcSpec};

const WAIT: Duration = Duration::from_secs(30);
const HOUR_MS: i64 = 3_600_000;

fn spec(nodes: &[&str], lag_ms: u32) -> VpcSpec {
    let mut spec = VpcSpec {
        subnets: vec![SubnetSpec::new("10.0.0.0/18".parse().unwrap())],
        nodes: nodes.iter().map(|n| NodeSpec::new(n, "m5.large")).collect(),
        ..VpcSpec::default()
    };
    spec.latencies.describe_lag_ms = Latency::fixed(f64::from(lag_ms));
    spec
}

fn on_demand() -> Policy {
    Policy {
        warm_ip: Some(1),
        minimum_ip: Some(1),
        ..Policy::default()
    }
}

/// EC2's answers lag by 50 s. A node gets further ENIs and is switched off and on at once, and its clock
/// is set forward meanwhile: the first answers of the new boot don't show those ENIs, and how long ago
/// they came the clock does not tell.
#[tokio::test(start_paused = true)]
async fn enis_outlive_a_boot_with_a_clock_set_forward() {
    let world = World::new(spec(&["a"], 50_000)).unwrap();
    let mut node = Node::new(&world, "a").unwrap();
    tokio::time::sleep(Duration::from_secs(120)).await;
    node.start(settings(on_demand()));
    for n in 0..20 {
        node.add(n, WAIT).await.unwrap();
    }
    let enis = node.snapshot().await.unwrap().enis.len();
    assert_eq!(enis, 3);
    node.reboot();
    node.set_clock(HOUR_MS);
    tokio::time::sleep(Duration::from_secs(3)).await;
    node.start(settings(on_demand()));
    // They wait until EC2 names what was there.
    for n in 100..120 {
        node.add(n, 4 * WAIT).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let pool = node.snapshot().await.unwrap();
    let phases: Vec<Phase> = pool.enis.iter().map(|e| e.phase).collect();
    assert_eq!(phases, [Phase::Ready; 3]);
}

/// A node whose clock is two days ahead dies between Create and Attach. Its ENI bears a date of the day
/// after tomorrow, and is gone within a quarter of an hour all the same.
#[tokio::test(start_paused = true)]
async fn an_orphan_of_the_future_does_not_stay_until_then() {
    let world = World::new(spec(&["a", "b"], 0)).unwrap();
    let cluster = Settings {
        orphans: OrphanScope::Cluster,
        ..settings(on_demand())
    };
    let mut living = Node::new(&world, "b").unwrap();
    living.start(cluster.clone());
    let mut dead = Node::new(&world, "a").unwrap();
    dead.set_clock(48 * HOUR_MS);
    dead.start(cluster);
    let unattached = || {
        let enis = world.vpc().enis(world.time());
        enis.iter().filter(|e| e.attachment.is_none()).count()
    };
    {
        let adds = async {
            for n in 0..40 {
                dead.add(n, WAIT).await.unwrap();
            }
        };
        let seen = async {
            while unattached() == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = seen => {}
            () = adds => panic!("no ENI was made"),
        }
    }
    dead.kill();
    tokio::time::sleep(Duration::from_secs(290)).await;
    assert_eq!(unattached(), 1, "it might have been on its way");
    tokio::time::sleep(Duration::from_secs(610)).await;
    assert_eq!(unattached(), 0);
}
