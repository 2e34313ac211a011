//! Promise: with `ENABLE_IPv6` alone, pods have IPv6 addresses of one /80 on the primary ENI, reach all
//! that they must with them at once, and IPv4 hosts with their node's address.

use ipamd_tests::ended;
use ipamd_tests::six::{Families, first_answer, spec_of};
use ipamd_tests::{Outcome, SOON, Scene, ensure, eventually};
use std::net::IpAddr;
use std::time::Duration;
use vpc_sim::testing::{Test, run};

fn main() -> std::process::ExitCode {
    run(&[
        Test {
            name: "pods_reach_all_that_they_must",
            run: reach,
        },
        Test {
            name: "the_first_packet_waits_for_nothing",
            run: first_packet,
        },
        Test {
            name: "a_full_node_is_one_prefix_and_no_more_rules",
            run: full_node,
        },
        Test {
            name: "packets_to_ended_pods_go_nowhere",
            run: || ended(Families::V6),
        },
        Test {
            name: "packets_to_ended_pods_of_ipv4_go_nowhere",
            run: || ended(Families::V4),
        },
        Test {
            name: "a_restart_keeps_pods",
            run: restart,
        },
        Test {
            name: "a_reboot_drops_leases_and_keeps_the_prefix",
            run: reboot,
        },
        Test {
            name: "flushed_rules_come_back",
            run: flushed,
        },
        Test {
            name: "pods_of_ipv4_get_out_by_ipv6",
            run: egress_v6,
        },
        Test {
            name: "nobody_is_reached_by_node_local_addresses",
            run: not_reached,
        },
    ])
}

fn reach() -> Outcome {
    let mut scene = Scene::ready(spec_of(Families::V6, "m5.large", 2)?)?;
    scene.add_pods(4)?;
    scene.add_elsewhere()?;
    scene.all_have(&[true])?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.all_get_out()?;
    let (assigns, creates) = (scene.calls("Assign"), scene.calls("Create"));
    ensure(
        (assigns, creates) == (1, 0),
        format!("{assigns} Assigns, {creates} Creates for one prefix"),
    )?;
    scene.nothing_is_left()
}

/// Duplicate address detection takes a second and more, on either end of a pod's link. The best of
/// some counts: a busy machine may hold up any one.
fn first_packet() -> Outcome {
    const NO_DAD: Duration = Duration::from_millis(500);
    let mut scene = Scene::ready(spec_of(Families::V6, "m5.large", 1)?)?;
    let there = IpAddr::V6(scene.cluster.sim().internet_addresses().v6);
    let (mut out, mut into) = (Duration::MAX, Duration::MAX);
    for _ in 0..3 {
        scene.add_pods(1)?;
        let Some(pod) = scene.pods.last() else {
            continue;
        };
        let (Some(netns), Some(ip)) = (&pod.netns, pod.address()) else {
            continue;
        };
        out = out.min(first_answer(netns.net(), None, there)?);
        scene.add_pods(1)?;
        let Some(pod) = scene.pods.last() else {
            continue;
        };
        let (Some(netns), Some(other)) = (&pod.netns, pod.address()) else {
            continue;
        };
        ensure(ip != other, "one address twice")?;
        // The host has to ask for the pod.
        let node = scene.cluster.nodes()[0].sim().net();
        into = into.min(first_answer(&node, Some(netns.net()), other)?);
    }
    ensure(out < NO_DAD, format!("the first answer came after {out:?}"))?;
    ensure(
        into < NO_DAD,
        format!("the first question came in after {into:?}"),
    )?;
    scene.nothing_is_left()
}

fn full_node() -> Outcome {
    let mut scene = Scene::ready(spec_of(Families::V6, "m5.large", 1)?)?;
    scene.add_pods(1)?;
    let before = (
        scene.on_node("ip -6 rule")?,
        scene.on_node("nft list ruleset")?,
    );
    scene.add_pods(109)?;
    scene.all_agree()?;
    scene.all_reach()?;
    let after = (
        scene.on_node("ip -6 rule")?,
        scene.on_node("nft list ruleset")?,
    );
    ensure(before == after, format!("{before:?} became {after:?}"))?;
    let local = "512:\tfrom all lookup main suppress_prefixlength 127";
    ensure(
        after.0.contains(local),
        format!("no {local} in {}", after.0),
    )?;
    let assigns = scene.calls("Assign");
    ensure(assigns == 1, format!("{assigns} Assigns for one prefix"))?;
    scene.nothing_is_left()
}

fn ended(families: Families) -> Outcome {
    let mut scene = Scene::ready(spec_of(families, "m5.large", 2)?)?;
    scene.add_pods(3)?;
    scene.add_elsewhere()?;
    ended::talked_to(&mut scene)?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

fn restart() -> Outcome {
    let mut scene = Scene::ready(spec_of(Families::V6, "m5.large", 1)?)?;
    scene.add_pods(5)?;
    let before = scene.node().snapshot()?.leases();
    for kill in [false, true] {
        if kill {
            scene.node().kill();
        } else {
            scene.node().stop()?;
        }
        scene.all_reach()?;
        scene.all_get_out()?;
        scene.node().start()?;
        scene.node().wait_ready(SOON)?;
        let after = scene.node().snapshot()?.leases();
        ensure(before == after, format!("{before:?} became {after:?}"))?;
    }
    scene.add_pods(5)?;
    scene.all_agree()?;
    scene.all_get_out()?;
    let assigns = scene.calls("Assign");
    ensure(assigns == 1, format!("{assigns} Assigns for one prefix"))?;
    scene.nothing_is_left()
}

fn reboot() -> Outcome {
    let mut scene = Scene::ready(spec_of(Families::V6, "m5.large", 1)?)?;
    scene.add_pods(5)?;
    scene.settled()?;
    scene.node().kill();
    for pod in &mut scene.pods {
        pod.remove_netns()?;
    }
    scene.pods.clear();
    scene.node().new_boot("another boot");
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    let leases = scene.node().snapshot()?.leases();
    ensure(leases.is_empty(), format!("of another boot: {leases:?}"))?;
    scene.add_pods(5)?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

fn flushed() -> Outcome {
    let mut scene = Scene::ready(spec_of(Families::V6, "m5.large", 1)?)?;
    scene.add_pods(2)?;
    let before = scene.on_node("ip -6 rule")?;
    scene.on_node("ip -6 rule flush")?;
    let node = scene.cluster.nodes()[0].sim().clone();
    let look = || {
        let mut command = std::process::Command::new("ip");
        command.args(["-6", "rule"]);
        let output = node.output(command)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    eventually(
        SOON,
        look,
        |now| *now == before,
        |now| ensure(now == before, format!("{before} became {now}")),
    )?;
    scene.all_reach()?;
    scene.on_node("nft flush ruleset")?;
    let node = scene.cluster.nodes()[0].sim().clone();
    let look = || {
        let mut command = std::process::Command::new("nft");
        command.args(["list", "ruleset"]);
        let output = node.output(command)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(text.contains("169.254.172.0/22") && text.contains("snat to"))
    };
    let back = |there: &bool| *there;
    eventually(SOON, look, back, |there| {
        ensure(there, "no egress any more")
    })?;
    scene.all_get_out()?;
    scene.nothing_is_left()
}

fn egress_v6() -> Outcome {
    let mut scene = Scene::ready(spec_of(Families::V4, "m5.large", 2)?)?;
    scene.add_pods(4)?;
    scene.add_elsewhere()?;
    scene.all_have(&[false])?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.all_get_out()?;
    scene.nothing_is_left()
}

/// A node-local address is a way out and no way in.
fn not_reached() -> Outcome {
    let mut scene = Scene::ready(spec_of(Families::V6, "m5.large", 1)?)?;
    scene.add_pods(2)?;
    let ends: Vec<_> = scene.pods.iter().filter_map(|p| p.netns.as_ref()).collect();
    let [one, other] = ends[..] else {
        return ensure(false, "two pods");
    };
    let all = lab::kernel::addresses(other.net())?;
    let mut all = all.into_values().flatten();
    let Some(local) = all.find(lab::check::is_node_local) else {
        return ensure(false, "no node-local address");
    };
    let took = first_answer(one.net(), Some(other.net()), local)?;
    ensure(
        took >= ipamd_tests::six::PATIENCE,
        format!("{local} was reached after {took:?}"),
    )?;
    scene.nothing_is_left()
}
