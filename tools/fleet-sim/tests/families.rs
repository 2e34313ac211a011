//! IPv6, both families, and egress: the whole engine, in virtual time on the model VPC.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

use fleet_sim::settle::settings;
use fleet_sim::{Node, World};
use ipam_core::Family;
use ipam_core::plan::Policy;
use ipam_core::wiring::egress;
use ipam_engine::Settings;
use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;
use vpc_model::request::{Action, UnassignIpv6Addresses};
use vpc_model::response::Eni;
use vpc_model::{Admission, Caller, Effect, Fault, NodeSpec, SubnetSpec, VpcSpec};

const WAIT: Duration = Duration::from_secs(30);
const SECOND: Duration = Duration::from_secs(1);
/// `IP_COOLDOWN_PERIOD`, if not set.
const COOLDOWN: Duration = Duration::from_secs(30);

fn spec(instance_type: &str) -> VpcSpec {
    let mut subnet = SubnetSpec::new("10.0.0.0/18".parse().unwrap());
    subnet.ipv6_cidr = "2001:db8::/64".parse().ok();
    let mut node = NodeSpec::new("a", instance_type);
    node.launch_ipv6_addresses = 2;
    VpcSpec {
        ipv6_cidr: "2001:db8::/56".parse().ok(),
        subnets: vec![subnet],
        nodes: vec![node],
        ..VpcSpec::default()
    }
}

fn world(spec: VpcSpec) -> (World, Node) {
    let world = World::new(spec).unwrap();
    let node = Node::new(&world, "a").unwrap();
    (world, node)
}

fn of(families: &[Family]) -> Settings {
    settings(Policy {
        families: families.to_vec(),
        max_pods: Some(110),
        ..Policy::default()
    })
}

fn six() -> Settings {
    of(&[Family::V6])
}

fn both() -> Settings {
    of(&[Family::V4, Family::V6])
}

fn calls(world: &World, action: &str) -> u64 {
    let vpc = world.vpc();
    let of_node = vpc.ec2_calls().get("a");
    let calls = of_node.into_iter().flatten();
    calls
        .filter(|(name, _)| name.starts_with(action))
        .map(|(_, n)| n)
        .sum()
}

fn primary(world: &World) -> Eni {
    let enis = world.vpc().enis(world.time());
    let first = |e: &&Eni| e.attachment.as_ref().is_some_and(|a| a.device_index == 0);
    enis.iter().find(first).unwrap().clone()
}

async fn add(node: &Node, n: u32) -> Vec<IpAddr> {
    let wiring = node.add(n, WAIT).await.unwrap();
    wiring
        .pod_addresses
        .iter()
        .map(ipnet::IpNet::addr)
        .collect()
}

async fn minutes(n: u64) {
    tokio::time::sleep(Duration::from_secs(60 * n)).await;
}

#[tokio::test(start_paused = true)]
async fn one_prefix_serves_for_ever_and_no_address_comes_twice() {
    let (world, mut node) = world(spec("m5.large"));
    node.start(six());
    let mut seen = BTreeSet::new();
    for n in 0..2_000 {
        let got = add(&node, n).await;
        assert_eq!(got.len(), 1);
        assert!(seen.insert(got[0]), "{} again", got[0]);
        let given = primary(&world);
        assert!(given.v6_prefixes.iter().any(|p| got[0].is_ipv6()
            && p.contains(&match got[0] {
                IpAddr::V6(ip) => ip,
                IpAddr::V4(_) => unreachable!(),
            })));
        assert!(given.v6.iter().all(|own| IpAddr::V6(*own) != got[0]));
        node.del(n).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // What was released is remembered as long as it rests, not for ever.
    let cooling = node.snapshot().await.unwrap().totals.cooling;
    assert!((20..=40).contains(&cooling), "{cooling}");
    assert_eq!((calls(&world, "Assign"), calls(&world, "Create")), (1, 0));
    let before = calls(&world, "");
    node.stop().await;
    node.start(six());
    assert_eq!(add(&node, 3_000).await.len(), 1);
    minutes(9).await;
    assert_eq!(calls(&world, ""), before, "a warm restart asks for nothing");
}

#[tokio::test(start_paused = true)]
async fn an_assign_without_an_answer_is_not_sent_again() {
    let (world, mut node) = world(spec("m5.large"));
    let lost = Fault::new("AssignIpv6Addresses", Effect::DropAnswer).times(1);
    world.vpc().add_fault(lost);
    node.start(six());
    assert_eq!(
        node.add(0, Duration::from_secs(120))
            .await
            .unwrap()
            .pod_addresses
            .len(),
        1
    );
    minutes(5).await;
    assert_eq!(calls(&world, "Assign"), 1);
    assert_eq!(primary(&world).v6_prefixes.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_prefix_taken_by_hand_is_told_and_replaced() {
    let (world, mut node) = world(spec("m5.large"));
    node.start(both());
    for n in 0..3 {
        assert_eq!(add(&node, n).await.len(), 2);
    }
    minutes(3).await;
    let eni = primary(&world);
    let action = Action::UnassignIpv6Addresses(UnassignIpv6Addresses {
        eni: eni.id.clone(),
        addresses: Vec::new(),
        prefixes: eni.v6_prefixes.clone(),
    });
    let (now, operator) = (world.time(), Caller::Operator);
    let done = world
        .vpc()
        .execute(&Admission::immediate(), &operator, &action.into(), now);
    done.unwrap();
    minutes(60).await;
    let lost: Vec<_> = node
        .notices()
        .iter()
        .filter(|t| t.notice.label() == "block_lost")
        .map(|t| t.notice.pods().len())
        .collect();
    assert_eq!(lost, [3]);
    let got = add(&node, 10).await;
    let fresh = primary(&world).v6_prefixes;
    assert_eq!(fresh.len(), 1);
    assert!(
        got.iter()
            .any(|ip| matches!(ip, IpAddr::V6(ip) if fresh[0].contains(ip)))
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_ipv6_holds_no_ipv4_and_gives_no_half() {
    let mut spec = spec("m5.large");
    spec.subnets[0].ipv6_cidr = None;
    spec.nodes[0].launch_ipv6_addresses = 0;
    let (_world, mut node) = world(spec);
    node.start(both());
    let refusal = node.add(0, WAIT).await.unwrap_err().unwrap();
    assert!(
        refusal.message.contains("no IPv6 CIDR"),
        "{}",
        refusal.message
    );
    minutes(2).await;
    let pool = node.snapshot().await.unwrap();
    assert!(
        pool.totals.addresses > 0 && pool.totals.used == 0,
        "{:?}",
        pool.totals
    );
    let told = node.notices();
    assert!(
        told.iter()
            .any(|t| t.notice.to_string().contains("IPv6 CIDR"))
    );
}

#[tokio::test(start_paused = true)]
async fn an_old_hypervisor_says_that_it_has_no_ipv6() {
    let mut spec = spec("m4.large");
    spec.nodes[0].launch_ipv6_addresses = 1;
    let (world, mut node) = world(spec);
    node.start(six());
    let begun = world.elapsed();
    let refusal = node.add(0, WAIT).await.unwrap_err().unwrap();
    assert_eq!(refusal.cause, "ipv6_unsupported", "{}", refusal.message);
    assert!(world.elapsed() - begun < Duration::from_secs(5));
    assert_eq!(calls(&world, "Assign"), 0);
}

/// It was once counted as 2^32 addresses for pods that can't use one of them.
#[tokio::test(start_paused = true)]
async fn an_ipv6_prefix_from_launch_does_not_stop_ipv4() {
    let mut spec = spec("m5.large");
    spec.nodes[0].launch_ipv6_prefixes = 1;
    let (_world, mut node) = world(spec);
    node.start(of(&[Family::V4]));
    for n in 0..27 {
        assert!(matches!(add(&node, n).await[..], [IpAddr::V4(_)]));
    }
}

/// A pod gets both or none, and what is short is told.
#[tokio::test(start_paused = true)]
async fn ipv4_is_what_runs_out() {
    let mut spec = spec("t3.nano");
    // Two IPv6 slots: the prefix takes one.
    spec.nodes[0].launch_ipv6_addresses = 1;
    let (_world, mut node) = world(spec);
    node.start(both());
    // Two ENIs with one secondary address each.
    for n in 0..2 {
        assert_eq!(add(&node, n).await.len(), 2);
    }
    let refusal = node.add(2, WAIT).await.unwrap_err().unwrap();
    assert_eq!(refusal.cause, "instance_limit", "{}", refusal.message);
    let pool = node.snapshot().await.unwrap();
    let used: usize = pool
        .enis
        .iter()
        .flat_map(|e| &e.blocks)
        .map(|b| b.used.len())
        .sum();
    assert_eq!(used, 4);
}

/// From IPv4 to IPv6 alone: what nobody uses goes back, and further ENIs with it.
#[tokio::test(start_paused = true)]
async fn a_switch_to_ipv6_gives_ipv4_back() {
    let (world, mut node) = world(spec("m5.large"));
    node.start(of(&[Family::V4]));
    for n in 0..12 {
        add(&node, n).await;
    }
    node.stop().await;
    node.start(six());
    assert!(matches!(add(&node, 20).await[..], [IpAddr::V6(_)]));
    for n in 0..12 {
        node.del(n).await.unwrap();
    }
    minutes(60).await;
    let enis = world.vpc().enis(world.time());
    assert_eq!(enis.len(), 1, "{enis:?}");
    assert!(enis[0].addresses.iter().all(|a| a.primary), "{enis:?}");
    assert_eq!(enis[0].v6_prefixes.len(), 1);
}

/// Pods with IPv6 addresses, and a node-local IPv4 one each.
fn with_egress() -> Settings {
    Settings {
        egress: Some(Family::V4),
        ..six()
    }
}

/// The node-local address of a pod that was just made.
async fn add_local(node: &Node, n: u32) -> IpAddr {
    let got = add(node, n).await;
    let [IpAddr::V6(_), local @ IpAddr::V4(_)] = got[..] else {
        panic!("{got:?}")
    };
    assert!(egress::is_local(local), "{local}");
    local
}

/// The node-local address of a pod that ends.
async fn del_local(node: &Node, n: u32) -> IpAddr {
    let released = node.del(n).await.unwrap();
    *released.addresses.iter().find(|ip| ip.is_ipv4()).unwrap()
}

/// All that there are: 169.254.172.0/22 without its first and last address.
const LOCALS: u32 = 1022;

/// Twice round the range: first every address that no pod has had, then always the one that has been idle
/// longest, for as long as this node lives. A short memory would begin with the lowest one again.
#[tokio::test(start_paused = true)]
async fn node_local_addresses_go_round() {
    let (_world, mut node) = world(spec("m5.large"));
    node.start(with_egress());
    let mut had = BTreeSet::new();
    let mut live = BTreeSet::new();
    let mut idle = VecDeque::new();
    for n in 0..2 * LOCALS {
        let local = add_local(&node, n).await;
        assert!(live.insert(local), "{local} is two pods'");
        if n < LOCALS {
            assert!(had.insert(local), "{local} again, at pod {n}");
        } else {
            assert_eq!(Some(local), idle.pop_front(), "pod {n}");
        }
        if let Some(old) = n.checked_sub(40) {
            let gone = del_local(&node, old).await;
            assert!(live.remove(&gone), "{gone} was no pod's");
            idle.push_back(gone);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        // A restart must not forget, nor what EC2 is asked from time to time.
        if n == LOCALS + 400 {
            node.kill();
            node.start(with_egress());
        } else if n == LOCALS + 700 {
            minutes(100).await;
        }
    }
    let again = add(&node, 2 * LOCALS - 1).await;
    assert!(live.contains(&again[1]), "a repeated ADD gets the same");
}

/// Where every other address is a pod's, an ADD waits for the one that rests, until its cooldown is over and
/// no longer; a restart meanwhile changes nothing.
#[tokio::test(start_paused = true)]
async fn node_local_addresses_rest() {
    let (world, mut node) = world(spec("m5.large"));
    node.start(with_egress());
    for n in 0..LOCALS {
        add_local(&node, n).await;
    }
    for (round, killed) in [(0, false), (1, true)] {
        let gone = del_local(&node, round).await;
        let released = world.elapsed();
        if killed {
            node.kill();
            node.start(with_egress());
        }
        let next = LOCALS + round;
        let early = node.add(next, COOLDOWN - 2 * SECOND).await;
        let refusal = early.unwrap_err().unwrap();
        assert_eq!(refusal.cause, "egress_full", "{}", refusal.message);
        let said = refusal
            .message
            .contains("node-local address of 169.254.172.0/22");
        assert!(said, "{}", refusal.message);
        let got = node.add(next, 2 * COOLDOWN).await.unwrap();
        let rested = world.elapsed() - released;
        assert_eq!(got.pod_addresses[1].addr(), gone);
        assert!(
            rested >= COOLDOWN && rested < COOLDOWN + 2 * SECOND,
            "{rested:?}"
        );
    }
}

/// Killed before, during and after each call of a cold start: what was asked for is found again, and
/// nothing is asked for twice.
#[tokio::test(start_paused = true)]
async fn a_kill_at_any_moment_leaves_one_prefix() {
    for ms in (0..1_500).step_by(25) {
        let (world, mut node) = world(spec("m5.large"));
        node.start(both());
        let first = tokio::time::timeout(Duration::from_millis(ms), node.add(0, WAIT)).await;
        node.kill();
        tokio::time::sleep(Duration::from_millis(ms % 700)).await;
        node.start(both());
        let again = node.add(0, Duration::from_secs(150)).await.unwrap();
        assert_eq!(again.pod_addresses.len(), 2, "killed after {ms} ms");
        if let Ok(Ok(before)) = first {
            assert_eq!(before.pod_addresses, again.pod_addresses);
        }
        let other = add(&node, 1).await;
        let differ = again
            .pod_addresses
            .iter()
            .all(|net| !other.contains(&net.addr()));
        assert!(differ, "{other:?} twice");
        minutes(3).await;
        assert_eq!(primary(&world).v6_prefixes.len(), 1, "killed after {ms} ms");
        assert_eq!(world.vpc().books(world.time()), vec![]);
        node.stop().await;
    }
}
