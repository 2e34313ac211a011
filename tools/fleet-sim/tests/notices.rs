//! What a person is told, in virtual time on the model VPC.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

use fleet_sim::settle::settings;
use fleet_sim::{Node, World};
use ipam_core::plan::Policy;
use ipam_engine::{Notice, Snapshot};
use std::time::Duration;
use vpc_model::request::{Action, DetachNetworkInterface};
use vpc_model::{Admission, Caller, Effect, Fault, NodeSpec, SubnetSpec, VpcSpec};

const WAIT: Duration = Duration::from_secs(30);

fn world(cidr: &str) -> (World, Node) {
    let spec = VpcSpec {
        subnets: vec![SubnetSpec::new(cidr.parse().unwrap())],
        nodes: vec![NodeSpec::new("a", "m5.large")],
        ..VpcSpec::default()
    };
    let world = World::new(spec).unwrap();
    let node = Node::new(&world, "a").unwrap();
    (world, node)
}

fn told(node: &Node, label: &str) -> Vec<String> {
    let notices = node.notices();
    let of_label = notices.iter().filter(|t| t.notice.label() == label);
    of_label.map(|t| t.notice.to_string()).collect()
}

/// What an operator does by hand.
fn detach(world: &World, eni: &str) {
    let now = world.time();
    let enis = world.vpc().enis(now);
    let eni = enis.iter().find(|e| e.id.as_str() == eni).unwrap();
    let attachment = eni.attachment.clone().unwrap().id;
    let action = Action::DetachNetworkInterface(DetachNetworkInterface {
        attachment,
        force: true,
    });
    let admission = Admission::immediate();
    let done = world
        .vpc()
        .execute(&admission, &Caller::Operator, &action.into(), now);
    done.unwrap();
}

/// Addresses are there, and the kernel refuses to wire the node: pods that wait are told that.
#[tokio::test(start_paused = true)]
async fn pods_are_told_that_the_node_cant_be_wired() {
    let (_world, mut node) = world("10.0.0.0/18");
    node.fail_wirings(u32::MAX);
    node.start(settings(Policy::default()));
    minutes(1).await;
    let refusal = node.add(1, WAIT).await.unwrap_err().unwrap();
    assert_eq!(refusal.cause, "node_not_wired", "{refusal:?}");
    let told = "the node can't be wired: wiring the host: device or resource busy";
    assert!(refusal.message.contains(told), "{refusal:?}");
    let status = node.handle().unwrap().status().await.unwrap();
    assert!(!status.served, "the runtime believes that pods can come");
    assert!(status.message.contains(told), "{}", status.message);
    node.fail_wirings(0);
    minutes(5).await;
    node.add(2, WAIT).await.unwrap();
    assert!(node.handle().unwrap().status().await.unwrap().served);
}

async fn minutes(n: u64) {
    tokio::time::sleep(Duration::from_secs(60 * n)).await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_names_the_missing_permission_once_in_a_while() {
    let (world, mut node) = world("10.0.0.0/18");
    let denied = Effect::Fail {
        code: "UnauthorizedOperation".into(),
        message: "You are not authorized to perform this operation. User: arn:aws:sts::1:x is not \
                  authorized to perform: ec2:CreateTags on resource: *"
            .into(),
        http_status: 403,
    };
    let faults = ["Assign*", "Create*"].map(|action| {
        let fault = Fault::new(action, denied.clone());
        world.vpc().add_fault(fault)
    });
    node.start(settings(Policy::default()));
    minutes(10).await;
    let words = told(&node, "unauthorized");
    assert_eq!(words.len(), 1, "{words:?}");
    assert!(words[0].contains("ec2:CreateTags"), "{words:?}");
    assert!(words[0].contains("next try "), "{words:?}");
    minutes(60).await;
    let later = told(&node, "unauthorized").len();
    assert!((2..=6).contains(&later), "{later} times in 70 minutes");
    for fault in faults {
        world.vpc().remove_fault(fault);
    }
    minutes(60).await;
    let counters = node.snapshot().await.unwrap().counters;
    assert!(counters.notices["unauthorized"] > later as u64);
    assert!(node.snapshot().await.unwrap().holds.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_full_subnet_is_told_with_its_name_and_shown_as_a_hold() {
    let (world, mut node) = world("10.0.0.0/28");
    node.start(settings(Policy::default()));
    for n in 0..12 {
        // The last ones get none.
        drop(node.add(n, WAIT).await);
    }
    let subnet = world.vpc().subnets()[0].id.to_string();
    let words = told(&node, "subnet_full");
    assert!(!words.is_empty() && words[0].contains(&subnet), "{words:?}");
    let holds = node.snapshot().await.unwrap().holds;
    assert!(
        holds
            .iter()
            .any(|h| (h.scope, h.cause) == ("subnet", "subnet_full")),
        "{holds:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn lost_leases_are_told_with_their_pods() {
    let (world, mut node) = world("10.0.0.0/18");
    node.start(settings(Policy::default()));
    for n in 0..12 {
        node.add(n, WAIT).await.unwrap();
    }
    minutes(2).await;
    let snapshot = node.snapshot().await.unwrap();
    let second = snapshot
        .enis
        .iter()
        .find(|e| !e.primary && e.blocks.iter().any(|b| !b.used.is_empty()));
    let second = second.unwrap().clone();
    let pods: Vec<_> = second.blocks.iter().flat_map(|b| b.used.clone()).collect();
    detach(&world, &second.id);
    minutes(60).await;
    let notices = node.notices();
    let lost: Vec<_> = notices
        .iter()
        .filter_map(|t| match &t.notice {
            Notice::EniLost { eni, pods } => Some((eni, pods)),
            _ => None,
        })
        .collect();
    assert_eq!(lost.len(), 1, "{notices:?}");
    let (eni, victims) = lost[0];
    assert_eq!((eni, victims.len()), (&second.id, pods.len()));
    let words = told(&node, "eni_lost").remove(0);
    let (ip, name) = &pods[0];
    assert!(
        words.contains(name.as_str()) && words.contains(&ip.to_string()),
        "{words}"
    );
    let counters = node.snapshot().await.unwrap().counters;
    assert_eq!(counters.drift["eni_lost"], 1);
    assert_eq!(counters.lost_addresses, pods.len() as u64);
    // With the last of its pods it goes itself, and leaves its place to another.
    let its = |snapshot: &Snapshot| {
        let mut its = snapshot.enis.iter().filter(|e| e.id == second.id);
        its.next().map(|e| e.blocks.len())
    };
    let kept = its(&node.snapshot().await.unwrap());
    assert_eq!(kept, Some(pods.len()), "blocks that no pod has");
    for n in 0..12 {
        node.del(n).await.unwrap();
    }
    minutes(1).await;
    assert_eq!(its(&node.snapshot().await.unwrap()), None);
}
