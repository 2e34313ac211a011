//! ENIs that nobody has any more, in virtual time: who deletes them, when, and at what cost.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

use fleet_sim::settle::settings;
use fleet_sim::{Node, World};
use ipam_core::plan::Policy;
use ipam_engine::Settings;
use ipam_engine::settings::OrphanScope;
use std::time::Duration;
use vpc_model::{Effect, Fault, NodeSpec, SubnetSpec, VpcSpec};

const WAIT: Duration = Duration::from_secs(30);
const TEN_MINUTES: Duration = Duration::from_secs(600);

fn scoped(orphans: OrphanScope) -> Settings {
    Settings {
        orphans,
        ..settings(Policy {
            warm_ip: Some(1),
            minimum_ip: Some(1),
            ..Policy::default()
        })
    }
}

fn world(nodes: usize) -> (World, Vec<Node>) {
    let names: Vec<String> = (0..nodes).map(|n| format!("n{n}")).collect();
    let mut spec = VpcSpec {
        subnets: vec![SubnetSpec::new("10.0.0.0/16".parse().unwrap())],
        nodes: names.iter().map(|n| NodeSpec::new(n, "m5.large")).collect(),
        ..VpcSpec::default()
    };
    // The question is how often they call, not what EC2 does about it.
    spec.limits.throttling = false;
    let world = World::new(spec).unwrap();
    let nodes = names.iter().map(|n| Node::new(&world, n).unwrap());
    let nodes = nodes.collect();
    (world, nodes)
}

fn unattached(world: &World) -> usize {
    let now = world.time();
    let enis = world.vpc().enis(now);
    enis.iter().filter(|e| e.attachment.is_none()).count()
}

/// Lets a node need a second ENI and kills its daemon when that one is made and not yet attached.
async fn die_between_create_and_attach(world: &World, node: &mut Node) {
    let before = unattached(world);
    {
        let adds = async {
            for n in 0..40 {
                if node.add(n, WAIT).await.is_err() {
                    return;
                }
            }
        };
        let seen = async {
            while unattached(world) == before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            () = seen => {}
            () = adds => panic!("no ENI was made"),
        }
    }
    node.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(
        unattached(world),
        before + 1,
        "the call that was sent is done"
    );
}

#[tokio::test(start_paused = true)]
async fn a_dead_nodes_orphan_is_gone_within_ten_minutes() {
    for others in [1, 2, 5, 30] {
        let (world, mut nodes) = world(others + 1);
        for node in &mut nodes[1..] {
            node.start(scoped(OrphanScope::Cluster));
        }
        // Both in the middle of the fleet's life and, for the first, right at its start.
        if others > 1 {
            tokio::time::sleep(Duration::from_secs(4000)).await;
        }
        nodes[0].start(scoped(OrphanScope::Cluster));
        die_between_create_and_attach(&world, &mut nodes[0]).await;
        let died = world.elapsed();
        while unattached(&world) > 0 {
            assert!(
                world.elapsed() - died < TEN_MINUTES,
                "{others} others left an orphan for ten minutes"
            );
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(
            world.elapsed() - died > Duration::from_secs(295),
            "{others} others took an ENI that might have been on its way"
        );
        // The ENIs of the living are all there.
        tokio::time::sleep(TEN_MINUTES).await;
        for node in &nodes[1..] {
            assert_eq!(node.snapshot().await.unwrap().enis.len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_cleans_up_where_it_is_off() {
    let (world, mut nodes) = world(2);
    nodes[1].start(scoped(OrphanScope::Off));
    die_with(&world, &mut nodes[0], OrphanScope::Off).await;
    tokio::time::sleep(6 * TEN_MINUTES).await;
    assert_eq!(unattached(&world), 1);
}

async fn die_with(world: &World, node: &mut Node, scope: OrphanScope) {
    node.start(scoped(scope));
    die_between_create_and_attach(world, node).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_that_lost_its_state_deletes_its_own_and_nobody_elses() {
    let (world, mut nodes) = world(2);
    die_with(&world, &mut nodes[0], OrphanScope::Instance).await;
    die_with(&world, &mut nodes[1], OrphanScope::Instance).await;
    assert_eq!(unattached(&world), 2);
    // A new disk.
    let mut again = Node::new(&world, "n0").unwrap();
    again.start(scoped(OrphanScope::Instance));
    tokio::time::sleep(TEN_MINUTES).await;
    let left = world.vpc().enis(world.time());
    let left: Vec<_> = left.iter().filter(|e| e.attachment.is_none()).collect();
    let owner = left[0].tags.get("node.k8s.amazonaws.com/instance_id");
    let instance = world.vpc().nodes()[1].instance.as_str().to_owned();
    assert_eq!((left.len(), owner), (1, Some(&instance)));
    again.kill();
}

#[tokio::test(start_paused = true)]
async fn looks_do_not_grow_with_the_cluster() {
    for n in [1, 20, 100] {
        let (world, mut nodes) = world(n);
        for node in &mut nodes {
            node.start(scoped(OrphanScope::Cluster));
        }
        // A node's first look sees those that came before it; its second one, a hundred slots later at
        // the most, sees all.
        tokio::time::sleep(Duration::from_secs(4 * 3600)).await;
        let all = world.vpc().audit(0).len() as u64;
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let audit = world.vpc().audit(all).to_vec();
        // Each node's own look at its ENIs is beside: by its instance, not by tag.
        let looks = audit
            .iter()
            .filter(|e| e.params.contains("tag-key"))
            .count();
        assert!(
            (25..=35).contains(&looks),
            "{n} nodes: {looks} looks an hour"
        );
        let writes = audit.iter().filter(|e| !e.action.starts_with("Describe"));
        assert_eq!(writes.count(), 0, "{n} nodes");
    }
}

#[tokio::test(start_paused = true)]
async fn a_warm_restart_leaves_ec2_alone_for_ten_minutes() {
    for scope in [OrphanScope::Instance, OrphanScope::Cluster] {
        let (world, mut nodes) = world(1);
        nodes[0].start(scoped(scope));
        tokio::time::sleep(Duration::from_secs(1500)).await;
        for _ in 0..3 {
            nodes[0].stop().await;
            let before = world.vpc().audit(0).len();
            nodes[0].start(scoped(scope));
            tokio::time::sleep(TEN_MINUTES - Duration::from_secs(1)).await;
            assert_eq!(world.vpc().audit(0).len(), before, "{scope:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nodes_that_may_not_tag_look_seldom() {
    let (world, mut nodes) = world(50);
    let refused = Effect::Fail {
        code: "UnauthorizedOperation".into(),
        message: "You are not authorized to perform this operation.".into(),
        http_status: 403,
    };
    world.vpc().add_fault(Fault::new("CreateTags", refused));
    for node in &mut nodes {
        node.start(scoped(OrphanScope::Cluster));
    }
    tokio::time::sleep(Duration::from_secs(2 * 3600)).await;
    let all = world.vpc().audit(0).len() as u64;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let looks = world.vpc().audit(all).to_vec();
    let looks = looks.iter().filter(|e| e.params.contains("tag-key"));
    assert!(looks.count() < 50 * 4);
}
