//! Promise: what a person breaks by hand on a node of IPv6 or dual-stack pods is put right within a second, and
//! so are pods' host routes that are led elsewhere, of both families.

use ipamd_tests::flow::Flow;
use ipamd_tests::six::{Families, spec_of};
use ipamd_tests::{Mode, Outcome, SOON, Scene, ensure, eventually};
use lab::probe::{self, Protocol};
use lab::{Pod, probe::Probe};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;
use vpc_sim::responder;
use vpc_sim::testing::{Failure, Test, run_side_by_side};

/// A second is promised; a machine that is busy may take longer to be noticed.
const BOUND: Duration = Duration::from_secs(5);

fn main() -> std::process::ExitCode {
    let tests = [
        Test {
            name: "ipv6_pods_with_egress",
            run: || broken(Families::V6),
        },
        Test {
            name: "dual_stack_pods_on_every_eni",
            run: || broken(Families::Dual(Mode::Secondary)),
        },
        Test {
            name: "ipv4_pods_with_egress",
            run: || broken(Families::V4),
        },
    ];
    run_side_by_side(&tests, 3, Duration::from_secs(300))
}

/// What is done, and whether somebody's packets must suffer from it.
fn damages(scene: &Scene, victim: &Pod, other: &Pod) -> Vec<(String, bool)> {
    let link = victim.host_link().unwrap_or_default();
    let elsewhere = other.host_link().unwrap_or_default();
    let mut all: Vec<(String, bool)> = [
        ("ip rule flush", true),
        ("ip -6 rule flush", false),
        ("ip -6 rule del pref 32766", false),
        ("ip rule del pref 32766", true),
        ("nft flush ruleset", false),
        ("ip link set ens5 mtu 1400", false),
        ("ip neigh flush all", false),
        ("ip -6 neigh flush all", false),
    ]
    .map(|(line, hurts)| (line.to_owned(), hurts))
    .into();
    for ip in victim.addresses() {
        let (family, length) = if ip.is_ipv6() {
            ("-6", 128)
        } else {
            ("-4", 32)
        };
        for (line, hurts) in [
            (format!("ip {family} route del {ip}/{length}"), true),
            (
                format!("ip {family} route replace {ip}/{length} dev {elsewhere}"),
                true,
            ),
            (
                format!("ip {family} route replace unreachable {ip}/{length}"),
                true,
            ),
        ] {
            all.push((line, hurts));
        }
        if scene.pods.len() > 20 && ip.is_ipv4() {
            all.push(("ip route flush table 2".into(), false));
            all.push(("ip route replace blackhole default table 2".into(), false));
        }
    }
    all.push((
        format!("ip link set {link} down;ip link set {link} up"),
        true,
    ));
    all
}

/// From the pods, to their own node's neighbour, another node and the internet, by each of their addresses;
/// and from their node to them.
fn flows(scene: &Scene, victims: &[&Pod]) -> Result<Vec<Flow>, Failure> {
    let cluster = &scene.cluster;
    let mut probes: Vec<Probe> = probe::plan(cluster, &scene.pods);
    probes.extend(probe::plan_egress(cluster, &scene.pods)?);
    let names: Vec<String> = victims
        .iter()
        .map(|pod| format!("{} on {}", pod.full_name(), pod.node.name()))
        .collect();
    let of_victims =
        |probe: &&Probe| names.contains(&probe.from) && probe.protocol == Protocol::Udp;
    let mut flows = Vec::new();
    for probe in probes.iter().filter(of_victims) {
        let to = SocketAddr::new(probe.to, responder::PORT);
        flows.push(Flow::begin(
            cluster.runtime(),
            &probe.to_string(),
            &probe.net,
            to,
        )?);
    }
    let node = cluster.nodes()[0].sim().net();
    for ip in victims.iter().flat_map(|pod| pod.addresses()) {
        let to = SocketAddr::new(ip, responder::PORT);
        flows.push(Flow::begin(
            cluster.runtime(),
            &format!("node -> {ip}"),
            &node,
            to,
        )?);
    }
    Ok(flows)
}

/// All that is ours, as the kernel tells it, in an order of ours.
fn look(scene: &mut Scene) -> Result<BTreeMap<&'static str, Vec<String>>, Failure> {
    let mut seen = BTreeMap::new();
    for line in [
        "ip rule",
        "ip -6 rule",
        "ip route show table main",
        "ip -6 route show table main",
        "ip link show ens5",
        "nft -s list tables",
        "ip route show table 2",
    ] {
        let text = scene.on_node(line).unwrap_or_default();
        let ours = |line: &&str| !line.contains("fe80:") || line.contains("rule");
        let mut lines: Vec<String> = text
            .lines()
            .filter(ours)
            .map(|l| l.trim().to_owned())
            .collect();
        lines.sort();
        seen.insert(line, lines);
    }
    for table in ["ip ipamd", "ip ipamd_egress", "ip6 ipamd_egress"] {
        let text = scene.on_node(&format!("nft list table {table}"));
        let lines = text.unwrap_or_default();
        seen.insert(table, lines.lines().map(str::to_owned).collect());
    }
    Ok(seen)
}

fn broken(families: Families) -> Outcome {
    let mut scene = Scene::ready(spec_of(families, "m5.large", 2)?)?;
    // Of dual-stack pods, some on every ENI.
    let count = if matches!(families, Families::Dual(_)) {
        21
    } else {
        3
    };
    scene.add_pods(count)?;
    scene.add_elsewhere()?;
    scene.settled()?;
    let responders = probe::answer(&scene.cluster, &scene.pods)?;
    let whole = look(&mut scene)?;
    let last = scene.pods.len() - 2;
    let list = damages(&scene, &scene.pods[last], &scene.pods[0]);
    let mut wrong = Vec::new();
    for (line, hurts) in list {
        println!("{line}");
        let victims = [&scene.pods[0], &scene.pods[last]];
        let flows = flows(&scene, &victims)?;
        ensure(flows.len() > 4, "there is nothing in flight")?;
        std::thread::sleep(Duration::from_millis(400));
        for part in line.split(';') {
            scene.on_node(part)?;
        }
        let back = eventually(
            SOON / 2,
            || look(&mut scene),
            |now| *now == whole,
            |now| {
                let differs: Vec<_> = now
                    .iter()
                    .filter(|(k, v)| whole.get(*k) != Some(v))
                    .collect();
                ensure(now == whole, format!("{line}: {differs:#?}"))
            },
        );
        wrong.extend(back.err().map(|error| error.to_string()));
        std::thread::sleep(Duration::from_millis(400));
        let mut lost = 0;
        for flow in flows {
            let name = flow.name().to_owned();
            match flow.end() {
                Ok(told) if told.gap < BOUND => lost += told.lost,
                Ok(told) => wrong.push(format!("{line}: {name}: {told:?}")),
                Err(error) => wrong.push(format!("{line}: {name}: {error}")),
            }
        }
        if hurts && lost == 0 {
            wrong.push(format!("{line}: nobody noticed"));
        }
    }
    drop(responders);
    // The books are red: packets left as the damage let them.
    ensure(wrong.is_empty(), wrong.join("\n"))?;
    scene.all_agree()?;
    scene.all_reach()
}
