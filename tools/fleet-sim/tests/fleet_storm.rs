//! Two hundred nodes on one account: EC2's request buckets are shared, and no pod waits longer than
//! they make inevitable. Bounds are computed from the buckets; counts and refusals are those of the
//! model's audit log.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::cast_precision_loss
)] // tests fail by panicking

mod fleet;

use fleet::together;
use fleet_sim::settle::settings;
use fleet_sim::{Node, World};
use ipam_core::plan::Policy;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use vpc_model::{NodeSpec, SubnetSpec, VpcSpec};

const NODES: u32 = 200;

/// As long as a runtime may be told to wait: the bounds below are what matters.
const WAIT: Duration = Duration::from_secs(300);

/// By how much a wait may exceed what is inevitable.
const FACTOR: f64 = 1.5;

/// Documented: tokens when full and tokens a second, for each write action and each Describe.
const WRITES: (f64, f64) = (50.0, 5.0);
const READS: (f64, f64) = (100.0, 20.0);

struct Fleet {
    world: World,
    nodes: Vec<Node>,
    policy: Policy,
}

impl Fleet {
    fn new(instance_type: &str, policy: Policy) -> Self {
        let spec = VpcSpec {
            subnets: vec![SubnetSpec::new("10.0.0.0/16".parse().unwrap())],
            nodes: (0..NODES)
                .map(|n| NodeSpec::new(&format!("n{n}"), instance_type))
                .collect(),
            ..VpcSpec::default()
        };
        let world = World::new(spec).unwrap();
        let nodes = (0..NODES)
            .map(|n| Node::new(&world, &format!("n{n}")).unwrap())
            .collect();
        Self {
            world,
            nodes,
            policy,
        }
    }

    fn start(&mut self) {
        for node in &mut self.nodes {
            node.start(settings(self.policy.clone()));
        }
    }

    /// So many more pods on each node at once; how long each waited, the shortest wait first.
    async fn pods(&self, numbers: std::ops::Range<u32>) -> Vec<Duration> {
        let begun = self.world.elapsed();
        let add = |node, n| {
            let world = &self.world;
            async move {
                let node: &Node = node;
                let up = node.add(n, WAIT).await;
                let address = up.map(|wiring| wiring.pod_addresses[0].addr());
                (address, world.elapsed() - begun)
            }
        };
        let adds = self
            .nodes
            .iter()
            .flat_map(|node| numbers.clone().map(move |n| add(node, n)));
        let done = together(adds.collect()).await;
        let failed: Vec<_> = done
            .iter()
            .filter_map(|(up, _)| up.as_ref().err())
            .collect();
        assert!(
            failed.is_empty(),
            "{} failed: {:?}",
            failed.len(),
            failed[0]
        );
        let addresses: BTreeSet<_> = done.iter().filter_map(|(up, _)| up.as_ref().ok()).collect();
        assert_eq!(addresses.len(), done.len(), "an address was given twice");
        let mut waits: Vec<Duration> = done.into_iter().map(|(_, wait)| wait).collect();
        waits.sort();
        waits
    }

    /// What came since entry `seq` of the audit log.
    fn since(&self, seq: u64) -> Counts {
        let vpc = self.world.vpc();
        let mut counts = Counts::default();
        for entry in vpc.audit(seq) {
            if entry.outcome == "RequestLimitExceeded" {
                counts.throttled += 1;
            } else {
                assert_eq!(entry.outcome, "ok", "{entry:?}");
                *counts.served.entry(entry.action.clone()).or_default() += 1;
            }
        }
        counts
    }

    fn seq(&self) -> u64 {
        let vpc = self.world.vpc();
        vpc.audit(0).last().map_or(0, |entry| entry.seq)
    }

    async fn settled(&self) {
        tokio::time::sleep(Duration::from_secs(900)).await;
    }
}

#[derive(Debug, Default)]
struct Counts {
    served: BTreeMap<String, u64>,
    throttled: u64,
}

impl Counts {
    fn of(&self, action: &str) -> u64 {
        self.served.get(action).copied().unwrap_or(0)
    }

    fn total(&self) -> u64 {
        self.served.values().sum()
    }

    fn writes(&self) -> u64 {
        let reads = |action: &&String| action.starts_with("Describe");
        self.total()
            - self
                .served
                .keys()
                .filter(reads)
                .map(|read| self.of(read))
                .sum::<u64>()
    }
}

/// How long so many calls of one action take at the least.
fn inevitable(calls: u64, (capacity, refill): (f64, f64)) -> Duration {
    Duration::from_secs_f64((calls as f64 - capacity).max(0.0) / refill)
}

/// Says what was measured and holds it to the bound.
fn judge(what: &str, waits: &[Duration], counts: &Counts, least: Duration, refused_per_call: f64) {
    let (p99, worst) = (waits[waits.len() * 99 / 100], waits[waits.len() - 1]);
    let ratio = counts.throttled as f64 / counts.total().max(1) as f64;
    println!(
        "{what}: {} pods wait p50 {:.1?} p99 {p99:.1?} worst {worst:.1?}, inevitable {least:.1?}; \
         {ratio:.2} refusals a call; {counts:?}",
        waits.len(),
        waits[waits.len() / 2],
    );
    assert!(
        worst <= least.mul_f64(FACTOR),
        "{what}: {worst:?} of {least:?}"
    );
    assert!(ratio <= refused_per_call, "{what}: {ratio}");
}

fn prefixes() -> Policy {
    Policy {
        prefixes: true,
        max_pods: Some(110),
        ..Policy::default()
    }
}

fn secondary() -> Policy {
    Policy {
        warm_ip: Some(2),
        ..Policy::default()
    }
}

/// One call's latency in the model, and some for IMDS and wiring.
const CALL: Duration = Duration::from_millis(350);

#[tokio::test(start_paused = true)]
async fn a_fleet_restarts_without_a_call() {
    let mut fleet = Fleet::new("m5.large", prefixes());
    fleet.start();
    fleet.pods(0..10).await;
    fleet.settled().await;
    let before = fleet.seq();
    for _ in 0..3 {
        fleet.nodes.iter_mut().for_each(Node::kill);
        fleet.start();
        tokio::time::sleep(Duration::from_secs(20)).await;
    }
    let waits = fleet.pods(20..23).await;
    assert_eq!(waits[waits.len() - 1], Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(599)).await;
    let counts = fleet.since(before);
    assert_eq!((counts.total(), counts.throttled), (0, 0), "{counts:?}");
    // Then each looks at EC2 once, not all at once.
    tokio::time::sleep(Duration::from_secs(2200)).await;
    let counts = fleet.since(before);
    println!("restart of all: {counts:?} within 45 minutes");
    assert_eq!((counts.writes(), counts.throttled), (0, 0), "{counts:?}");
}

/// Roll-out with lost stores: every node has to ask EC2, and nobody waits for a new pod's sake.
#[tokio::test(start_paused = true)]
async fn a_fleet_that_lost_its_stores_asks_once() {
    let mut fleet = Fleet::new("m5.large", prefixes());
    fleet.start();
    fleet.pods(0..10).await;
    fleet.settled().await;

    let before = fleet.seq();
    for node in &mut fleet.nodes {
        node.kill();
        node.store().wipe();
        node.start(settings(fleet.policy.clone()));
    }
    let waits = fleet.pods(20..21).await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    let counts = fleet.since(before);
    let least = CALL + inevitable(u64::from(NODES), READS);
    judge("lost stores, a pod on each", &waits, &counts, least, 1.5);
    assert_eq!(counts.of("DescribeNetworkInterfaces"), u64::from(NODES));
    fleet.settled().await;

    // Nobody waits: the first calls are spread over seconds, and hardly any is refused.
    let before = fleet.seq();
    for node in &mut fleet.nodes {
        node.kill();
        node.store().wipe();
        node.start(settings(fleet.policy.clone()));
    }
    tokio::time::sleep(Duration::from_secs(600)).await;
    let counts = fleet.since(before);
    println!("lost stores, nobody waits: {counts:?}");
    // One for EC2's word, and minutes later one for what an earlier run may have left; and one for
    // the subnets.
    assert_eq!(counts.of("DescribeSubnets"), u64::from(NODES));
    assert_eq!(counts.of("DescribeNetworkInterfaces"), 2 * u64::from(NODES));
    assert_eq!(counts.writes(), 0, "{counts:?}");
    assert!(counts.throttled <= u64::from(NODES) / 2, "{counts:?}");

    // One by one, as an update of a DaemonSet goes.
    let before = fleet.seq();
    for at in 0..fleet.nodes.len() {
        let policy = fleet.policy.clone();
        let node = &mut fleet.nodes[at];
        node.kill();
        node.store().wipe();
        node.start(settings(policy));
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    fleet.settled().await;
    let counts = fleet.since(before);
    println!("lost stores, one by one: {counts:?}");
    assert_eq!(
        (counts.total(), counts.throttled),
        (3 * u64::from(NODES), 0)
    );
}

/// New nodes with prefixes: each asks EC2 once for its word and once for its prefixes.
#[tokio::test(start_paused = true)]
async fn a_scale_up_with_prefixes_waits_for_the_buckets_only() {
    let mut fleet = Fleet::new("m5.large", prefixes());
    let before = fleet.seq();
    fleet.start();
    let waits = fleet.pods(0..30).await;
    let counts = fleet.since(before);
    let calls = u64::from(NODES);
    let least = CALL * 2 + inevitable(calls, WRITES);
    judge("scale-up, prefixes", &waits, &counts, least, 3.0);
    assert_eq!(
        (counts.of("DescribeNetworkInterfaces"), counts.writes()),
        (calls, calls)
    );
}

/// New nodes with secondary addresses: 30 pods take the primary ENI and two more of 14 each.
#[tokio::test(start_paused = true)]
async fn a_scale_up_with_enis_waits_for_the_buckets_only() {
    let mut fleet = Fleet::new("m5.xlarge", secondary());
    let before = fleet.seq();
    fleet.start();
    let waits = fleet.pods(0..30).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    let counts = fleet.since(before);
    // Two more ENIs for each: Creates and Attaches draw from buckets of their own, side by side.
    let creates = 2 * u64::from(NODES);
    let link = Duration::from_secs(1);
    let least = CALL * 3 + link + inevitable(creates, WRITES);
    judge("scale-up, ENIs", &waits, &counts, least, 3.0);
    let attached = |action| counts.of(action);
    assert_eq!(attached("CreateNetworkInterface"), creates);
    assert_eq!(attached("AttachNetworkInterface"), creates);
    assert_eq!(attached("ModifyNetworkInterfaceAttribute"), creates);
    assert_eq!(attached("AssignPrivateIpAddresses"), u64::from(NODES));
    assert_eq!(fleet.world.vpc().books(fleet.world.time()), vec![]);
}

/// Fifty more pods on every node at the same moment.
#[tokio::test(start_paused = true)]
async fn a_burst_on_all_nodes_waits_for_the_buckets_only() {
    let mut fleet = Fleet::new("m5.large", prefixes());
    fleet.start();
    fleet.pods(0..5).await;
    fleet.settled().await;
    let before = fleet.seq();
    let waits = fleet.pods(100..150).await;
    let counts = fleet.since(before);
    let least = CALL + inevitable(u64::from(NODES), WRITES);
    judge("fifty more on each", &waits, &counts, least, 4.0);
    // A node whose pods come in two turns may need two calls.
    assert!(counts.total() <= u64::from(NODES) * 11 / 10, "{counts:?}");
}
