//! Promise: a node comes up, its pods get addresses at once and without an error, reach what they
//! must, and nothing is left behind.

use ipamd_tests::net::output;
use ipamd_tests::{Mode, Outcome, SOON, Scene, ensure, eventually, fail, refused, spec};
use std::collections::BTreeSet;
use std::time::Duration;
use vpc_sim::testing::{Test, run};

fn main() -> std::process::ExitCode {
    run(&[
        Test {
            name: "prefixes",
            run: prefixes,
        },
        Test {
            name: "secondary_addresses",
            run: secondary_addresses,
        },
        Test {
            name: "two_nodes",
            run: two_nodes,
        },
        Test {
            name: "every_eni_carries_its_pods_traffic",
            run: every_eni,
        },
        Test {
            name: "links_of_another_prefix_are_pods_too",
            run: another_prefix,
        },
        Test {
            name: "prefixes_from_launch_are_used",
            run: prefixes_from_launch,
        },
        Test {
            name: "growth_asks_for_all_at_once",
            run: growth_at_once,
        },
        Test {
            name: "a_full_node_refuses_with_words",
            run: full_node,
        },
        Test {
            name: "an_old_hypervisor_falls_back",
            run: old_hypervisor,
        },
        Test {
            name: "an_unknown_type_works",
            run: unknown_type,
        },
        Test {
            name: "settings_that_contradict_end_it",
            run: contradiction,
        },
    ])
}

fn prefixes() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    scene.add_pods(20)?;
    scene.all_agree()?;
    scene.all_reach()?;
    let pool = scene.node().snapshot()?;
    let used: Vec<_> = pool
        .enis
        .iter()
        .flat_map(|e| &e.blocks)
        .filter(|b| !b.used.is_empty())
        .collect();
    ensure(
        used.iter().all(|b| b.block.ends_with("/28")),
        format!("blocks in use: {used:?}"),
    )?;
    ensure(
        used.len() == 2,
        format!("20 pods fill two prefixes, not {}", used.len()),
    )?;
    scene.nothing_is_left()
}

fn secondary_addresses() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Secondary, "m5.large")?)?;
    scene.add_pods(12)?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

fn two_nodes() -> Outcome {
    let mut scene = two(Mode::Prefix)?;
    scene.add_pods(4)?;
    scene.add_elsewhere()?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

/// 27 pods are all that an m5.large has as secondary addresses: nine on each of three ENIs. The
/// internet must see each of them as the node's public address, the VPC as itself, by its own ENI.
fn every_eni() -> Outcome {
    let mut scene = two(Mode::Secondary)?;
    scene.add_pods(27)?;
    scene.add_elsewhere()?;
    scene.all_agree()?;
    scene.all_reach()?;
    let books = scene.cluster.sim().books()?;
    let here: Vec<_> = books.enis.iter().filter(|e| e.node == "node-1").collect();
    ensure(here.len() == 3, format!("{} ENIs, not 3", here.len()))?;
    ensure(
        here.iter().all(|e| e.sent >= 9 && e.dropped == 0),
        format!("{here:?}"),
    )?;
    scene.nothing_is_left()
}

/// A network configuration of its own, as a further interface beside Calico needs it: its pods' links have
/// another prefix than the daemon's, and are treated as all others are, after a restart too.
fn another_prefix() -> Outcome {
    let mut scene = two(Mode::Secondary)?;
    scene.runtime = scene.runtime.set("vethPrefix", "mul".into());
    scene.add_pods(27)?;
    scene.add_elsewhere()?;
    scene.all_reach()?;
    let net = scene.cluster.nodes()[0].sim().net().clone();
    let route = format!("ip route show {}", scene.pods[0].addresses()[0]);
    let was = output(&net, &route)?;
    ensure(was.contains("dev mul"), was.clone())?;
    for broken in ["del", "replace blackhole"] {
        output(&net, &route.replace("show", broken))?;
        let look = || output(&net, &route);
        let back = |now: String| ensure(now == was, format!("after {broken}: {now}"));
        eventually(SOON, look, |now| *now == was, back)?;
    }
    scene.node().stop()?;
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    scene.all_reach()?;
    let links = || Ok(lab::kernel::links(&net, "mul")?);
    ensure(links()?.len() == 27, "not a link a pod")?;
    scene.del_pods()?;
    let none = |left: BTreeSet<String>| ensure(left.is_empty(), format!("{left:?}"));
    eventually(SOON, links, BTreeSet::is_empty, none)?;
    scene.nothing_is_left()
}

/// Two nodes, ready.
fn two(mode: Mode) -> Result<Scene, vpc_sim::testing::Failure> {
    let one = spec(mode, "m5.large")?;
    let mut two = lab::ClusterSpec::new(one.daemon.clone(), "m5.large", 2);
    two.vpc.latencies = one.vpc.latencies;
    Scene::ready(two)
}

fn prefixes_from_launch() -> Outcome {
    let mut spec = spec(Mode::Prefix, "m5.large")?;
    spec.vpc.nodes[0].launch_prefixes = 3;
    let mut scene = Scene::ready(spec)?;
    let before = scene.calls("Assign");
    scene.add_pods(30)?;
    let pool = scene.node().snapshot()?;
    ensure(pool.totals.addresses == 48, format!("{:?}", pool.totals))?;
    ensure(
        scene.calls("Assign") == before,
        "EC2 was asked for what was there already",
    )?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// 110 pods on a fresh node need seven prefixes: one Assign for all that is missing, not one each.
fn growth_at_once() -> Outcome {
    let mut spec = spec(Mode::Prefix, "m5.large")?;
    // Longer than a busy machine takes to start 110 plugins.
    spec.vpc.latencies.ec2_ms = vpc_model::Latency::fixed(1500.0);
    let mut scene = Scene::ready(spec)?;
    scene.add_pods(110)?;
    let calls = scene.calls("Assign") + scene.calls("Create");
    ensure(calls <= 3, format!("{calls} purchases for seven prefixes"))?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// t3.small: three ENIs with three secondary addresses each.
fn full_node() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Secondary, "t3.small")?)?;
    scene.add_pods(9)?;
    let mut one_more = scene.make_pod()?;
    let began = std::time::Instant::now();
    let call = scene.runtime.add(&mut one_more)?;
    refused("the tenth pod", &call, 11, "address")?;
    let took = began.elapsed();
    ensure(
        took < Duration::from_secs(5),
        format!("told after {took:?}, though nothing can change"),
    )?;
    scene.runtime.del(&mut one_more)?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

fn old_hypervisor() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m4.large")?)?;
    scene.add_pods(3)?;
    let pool = scene.node().snapshot()?;
    let prefix = pool
        .enis
        .iter()
        .flat_map(|e| &e.blocks)
        .find(|b| b.block.contains('/'));
    ensure(prefix.is_none(), format!("Xen has no prefixes: {prefix:?}"))?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

fn unknown_type() -> Outcome {
    let mut spec = spec(Mode::Secondary, "zz9.huge")?;
    let facts = vpc_model::spec::TypeOverride {
        card_enis: Some(vec![4]),
        ipv4_per_eni: Some(15),
        ipv6_per_eni: Some(15),
        hypervisor: Some("nitro".into()),
        bare_metal: Some(false),
    };
    spec.vpc.limits.types.insert("zz9.huge".into(), facts);
    let mut scene = Scene::ready(spec)?;
    scene.add_pods(3)?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

fn contradiction() -> Outcome {
    let mut spec = spec(Mode::Prefix, "m5.large")?;
    spec.daemon = spec
        .daemon
        .set("ENABLE_IPv4", "false")
        .set("ENABLE_IPv6", "false");
    let mut scene = Scene::new(spec)?;
    scene.node().start()?;
    let daemon = scene.node().daemon()?;
    daemon.process().wait(SOON)?;
    let code = daemon.process().exit_code();
    ensure(code == Some(64), format!("exit code {code:?}, not 64"))?;
    let log = scene.node().log_tail(20);
    if log.contains("ENABLE_IPv6") {
        Ok(())
    } else {
        fail(format!("no reason given: {log}"))
    }
}
