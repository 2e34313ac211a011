//! Promise: with `ENABLE_IPv4` and `ENABLE_IPv6`, a pod has one VPC address of each, both its own, or
//! none; whichever ENI carries them.

use ipamd_tests::ended;
use ipamd_tests::six::{Families, spec_of};
use ipamd_tests::{Mode, Outcome, SOON, Scene, ensure, fail, refused};
use vpc_sim::testing::{Test, run};

fn main() -> std::process::ExitCode {
    run(&[
        Test {
            name: "both_reach_all_that_they_must",
            run: reach,
        },
        Test {
            name: "both_reach_from_every_eni",
            run: every_eni,
        },
        Test {
            name: "a_full_node_takes_110_pods",
            run: full_node,
        },
        Test {
            name: "packets_to_ended_pods_go_nowhere",
            run: || ended(Mode::Secondary),
        },
        Test {
            name: "packets_to_ended_pods_of_prefixes_go_nowhere",
            run: || ended(Mode::Prefix),
        },
        Test {
            name: "the_order_can_be_set",
            run: order,
        },
        Test {
            name: "a_restart_keeps_both",
            run: restart,
        },
        Test {
            name: "no_ipv4_address_means_none_at_all",
            run: no_ipv4,
        },
        Test {
            name: "no_ipv6_address_means_none_at_all",
            run: no_ipv6,
        },
    ])
}

fn reach() -> Outcome {
    let mut scene = Scene::ready(spec_of(Families::Dual(Mode::Prefix), "m5.large", 2)?)?;
    scene.add_pods(4)?;
    scene.add_elsewhere()?;
    scene.all_have(&[false, true])?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

/// 27 pods are all that an m5.large has as secondary addresses: nine on each of three ENIs.
fn every_eni() -> Outcome {
    let mut scene = Scene::ready(spec_of(Families::Dual(Mode::Secondary), "m5.large", 2)?)?;
    scene.add_pods(27)?;
    scene.add_elsewhere()?;
    scene.all_have(&[false, true])?;
    scene.all_agree()?;
    scene.all_reach()?;
    let books = scene.cluster.sim().books()?;
    let here: Vec<_> = books.enis.iter().filter(|e| e.node == "node-1").collect();
    let all_used = here.len() == 3 && here.iter().all(|e| e.sent >= 9 && e.dropped == 0);
    ensure(all_used, format!("{here:?}"))?;
    scene.nothing_is_left()
}

/// An m5.large's IPv4 pods are on three ENIs by addresses; by prefixes two are needed beyond 144.
fn ended(mode: Mode) -> Outcome {
    let mut spec = spec_of(Families::Dual(mode), "m5.large", 2)?;
    spec.daemon = spec.daemon.set("IPAMD_MAX_PODS", 160);
    let mut scene = Scene::ready(spec)?;
    scene.add_pods(if mode == Mode::Prefix { 150 } else { 27 })?;
    scene.add_elsewhere()?;
    ended::talked_to(&mut scene)?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

fn full_node() -> Outcome {
    let mut scene = Scene::ready(spec_of(Families::Dual(Mode::Prefix), "m5.large", 1)?)?;
    scene.add_pods(110)?;
    scene.all_have(&[false, true])?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

fn order() -> Outcome {
    let mut spec = spec_of(Families::Dual(Mode::Prefix), "m5.large", 1)?;
    spec.daemon = spec.daemon.set("IPAMD_FIRST_FAMILY", "ipv6");
    let mut scene = Scene::ready(spec)?;
    scene.add_pods(2)?;
    scene.all_have(&[true, false])?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

fn restart() -> Outcome {
    let mut scene = Scene::ready(spec_of(Families::Dual(Mode::Secondary), "m5.large", 1)?)?;
    scene.add_pods(12)?;
    let before = scene.node().snapshot()?.leases();
    scene.node().kill();
    scene.all_reach()?;
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    let after = scene.node().snapshot()?.leases();
    ensure(before == after, format!("{before:?} became {after:?}"))?;
    scene.add_pods(2)?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

/// t3.small: three ENIs with three secondary addresses each.
fn no_ipv4() -> Outcome {
    let mut scene = Scene::ready(spec_of(Families::Dual(Mode::Secondary), "t3.small", 1)?)?;
    scene.add_pods(9)?;
    let mut one_more = scene.make_pod()?;
    let call = scene.runtime.add(&mut one_more)?;
    refused("the tenth pod", &call, 11, "address")?;
    let leases = scene.node().snapshot()?.leases();
    let both = leases.keys().filter(|ip| ip.is_ipv4()).count() == 9 && leases.len() == 18;
    ensure(both, format!("{leases:?}"))?;
    scene.runtime.del(&mut one_more)?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// A subnet without IPv6: the pod is told so, and IPv4 is had all the same by the pool.
fn no_ipv6() -> Outcome {
    let mut spec = spec_of(Families::Dual(Mode::Prefix), "m5.large", 1)?;
    for subnet in &mut spec.vpc.subnets {
        subnet.ipv6_cidr = None;
    }
    spec.vpc.nodes[0].launch_ipv6_addresses = 0;
    let mut scene = Scene::new(spec)?;
    scene.node().start()?;
    scene.node().wait_socket(SOON)?;
    let mut pod = scene.make_pod()?;
    let runtime = scene.runtime.clone().set("addTimeout", "3s".into());
    let call = runtime.add(&mut pod)?;
    refused("a pod without IPv6", &call, 11, "IPv6")?;
    let (_, words) = scene.node().status()?;
    ensure(words.contains("no IPv6 address yet"), words)?;
    let pool = scene.node().snapshot()?;
    if !pool.leases().is_empty() || pool.totals.addresses == 0 {
        return fail(format!("{pool:?}"));
    }
    scene.runtime.del(&mut pod)?;
    scene.nothing_is_left()
}
