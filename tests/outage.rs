//! Promise: a restart of the daemon costs no packet, and what others flush or change in the node's network
//! costs their packets for less than a second.

use ipamd_tests::datapath::{BESIDE_NET, PUBLIC, Site, Who, services};
use ipamd_tests::flow::{Flow, Told};
use ipamd_tests::net::output;
use ipamd_tests::proxy::{Backend, install};
use ipamd_tests::{Mode, Outcome, SOON, ensure, eventually, fail};
use lab::state;
use std::net::SocketAddr;
use std::time::Duration;
use vpc_model::{Effect, Fault};
use vpc_sim::testing::{Failure, Test, run_side_by_side};

/// A second is promised; a machine that is busy may take longer to be noticed.
const BOUND: Duration = Duration::from_secs(5);

fn main() -> std::process::ExitCode {
    let tests = [
        Test {
            name: "restarts_lose_no_packet_prefixes",
            run: || restarts(Mode::Prefix),
        },
        Test {
            name: "restarts_lose_no_packet_addresses",
            run: || restarts(Mode::Secondary),
        },
        Test {
            name: "a_lost_store_loses_no_packet_prefixes",
            run: || lost_store(Mode::Prefix),
        },
        Test {
            name: "a_lost_store_loses_no_packet_addresses",
            run: || lost_store(Mode::Secondary),
        },
        Test {
            name: "damage_is_undone_under_traffic",
            run: damage,
        },
        Test {
            name: "felix_has_its_own_routes",
            run: felix,
        },
    ];
    run_side_by_side(&tests, 1, Duration::from_secs(240))
}

fn site(mode: Mode) -> Result<Site, Failure> {
    let site = Site::new(mode, &[("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", BESIDE_NET)])?;
    install(&site.node()?, Backend::IptablesNft, &services(&site))?;
    Ok(site)
}

/// From whom to whom: each hangs on another part of the wiring.
fn flows(site: &Site) -> Result<Vec<Flow>, Failure> {
    let to = |who| SocketAddr::new(site.address(who).into(), 7);
    let node_port = SocketAddr::new(PUBLIC.into(), 30081);
    let mut flows = Vec::new();
    for (name, from, to) in [
        ("secondary -> remote", Who::Secondary, to(Who::Remote)),
        ("secondary -> internet", Who::Secondary, to(Who::Internet)),
        ("primary -> internet", Who::Primary, to(Who::Internet)),
        ("beside -> secondary", Who::Beside, to(Who::Secondary)),
        ("beside -> primary", Who::Beside, to(Who::Primary)),
        ("internet -> NodePort, secondary", Who::Internet, node_port),
    ] {
        let runtime = site.scene.cluster.runtime();
        flows.push(Flow::begin(runtime, name, &site.net(from)?, to)?);
    }
    Ok(flows)
}

fn restarts(mode: Mode) -> Outcome {
    let mut site = site(mode)?;
    // Nothing is under way that would change the wiring meanwhile.
    site.scene.settled()?;
    let flows = flows(&site)?;
    std::thread::sleep(Duration::from_millis(300));
    for round in 0..4 {
        let node = site.scene.node();
        if round % 2 == 0 {
            node.stop()?;
        } else {
            node.kill();
        }
        std::thread::sleep(Duration::from_millis(200));
        node.start()?;
        node.wait_ready(SOON)?;
        std::thread::sleep(Duration::from_millis(700));
    }
    for flow in flows {
        let name = flow.name().to_owned();
        let told = flow.end()?;
        ensure(
            told.lost == 0 && told.sent > 100,
            format!("{name}: {told:?}"),
        )?;
    }
    site.end()
}

/// A flipped bit in a record, and no state at all while EC2 throttles: the kernel has what pods need.
fn lost_store(mode: Mode) -> Outcome {
    let mut site = site(mode)?;
    site.scene.settled()?;
    let flows = flows(&site)?;
    std::thread::sleep(Duration::from_millis(300));
    for removed in [false, true] {
        site.scene.node().stop()?;
        let mut files = state::read(&site.scene.cluster.nodes()[0])?;
        if removed {
            files.clear();
        } else {
            flip_a_bit(&mut files)?;
        }
        state::write(&site.scene.cluster.nodes()[0], files)?;
        if removed {
            site.scene
                .cluster
                .sim()
                .vpc()
                .add_fault(Fault::new("*", Effect::Throttle));
        }
        site.scene.node().start()?;
        std::thread::sleep(Duration::from_secs(5));
        site.scene.clear_faults();
        site.scene.node().wait_ready(SOON)?;
        std::thread::sleep(Duration::from_secs(2));
    }
    for flow in flows {
        let name = flow.name().to_owned();
        let told = flow.end()?;
        ensure(
            told.lost == 0 && told.sent > 100,
            format!("{name}: {told:?}"),
        )?;
    }
    site.clean()
}

/// In the largest file, where an ENI's record is.
fn flip_a_bit(files: &mut [state::File]) -> Outcome {
    for (_, bytes) in files {
        let at = bytes.windows(4).position(|four| four == b"eni-");
        if let Some(byte) = at.and_then(|at| bytes.get_mut(at)) {
            *byte ^= 1;
            return Ok(());
        }
    }
    fail("no record of an ENI was found")
}

/// What is done, and the flow that must suffer from it and recover (`None`: none needs to suffer).
fn damages(site: &Site) -> Vec<(String, Option<&'static str>)> {
    let pod = site.address(Who::Primary);
    let link = site.pod(Who::Primary).and_then(lab::Pod::host_link);
    let link = link.unwrap_or_default();
    let other = site.pod(Who::Secondary).and_then(lab::Pod::host_link);
    let other = other.unwrap_or_default();
    let line = |text: &str| text.to_owned();
    vec![
        (line("ip rule flush"), Some("secondary -> remote")),
        (line("ip rule del pref 32766"), Some("beside -> primary")),
        (line("ip rule del pref 1536"), Some("secondary -> remote")),
        (line("ip route flush table 2"), Some("secondary -> remote")),
        (
            line("ip route replace blackhole default table 2"),
            Some("secondary -> remote"),
        ),
        (
            format!("ip route replace {pod}/32 dev {other} scope link"),
            Some("beside -> primary"),
        ),
        (
            format!("ip route replace blackhole {pod}/32"),
            Some("beside -> primary"),
        ),
        (line("ip link set ens5 down"), Some("primary -> internet")),
        (format!("ip route del {pod}/32"), Some("beside -> primary")),
        (
            format!("ip link set {link} down;ip link set {link} up"),
            Some("beside -> primary"),
        ),
        (
            line("nft delete table ip ipamd"),
            Some("secondary -> internet"),
        ),
        (line("nft flush ruleset"), Some("primary -> internet")),
        (line("ip link set ens6 down"), Some("beside -> secondary")),
        (line("ip link set ens6 mtu 1500"), None),
        (line("ip rule add pref 700 from 192.0.2.1 lookup 77"), None),
    ]
}

fn damage() -> Outcome {
    let site = site(Mode::Prefix)?;
    site.scene.settled()?;
    let node = site.node()?;
    let look = || -> Result<[String; 5], Failure> {
        // Without a ruleset of kube-proxy's, which a flush takes along and nobody here brings back.
        Ok([
            output(&node, "ip rule")?,
            output(&node, "ip route show table 2")?,
            output(&node, "ip route show table main")?,
            output(&node, "nft list table ip ipamd").unwrap_or_default(),
            output(&node, "ip link show ens6")?,
        ])
    };
    let mut whole = look()?;
    for (line, suffers) in damages(&site) {
        // A fight is fought with growing pauses; these are not one.
        println!("{line}");
        let flows = flows(&site)?;
        std::thread::sleep(Duration::from_millis(400));
        for part in line.split(';') {
            output(&node, part)?;
        }
        if line.contains("rule add") {
            whole = look()?;
        }
        eventually(
            SOON,
            look,
            |now| *now == whole,
            |now| {
                ensure(
                    now == whole,
                    format!("after {line}: {now:#?}\nnot {whole:#?}"),
                )
            },
        )?;
        std::thread::sleep(Duration::from_millis(400));
        for flow in flows {
            let name = flow.name().to_owned();
            let told: Told = flow.end()?;
            let port = name.contains("NodePort");
            let bound = port || told.gap < BOUND;
            ensure(bound, format!("{line}: {name}: {told:?}"))?;
            let hurt = suffers.is_none_or(|suffers| suffers != name || told.lost > 0);
            ensure(
                hurt,
                format!("{line}: {name} did not even notice: {told:?}"),
            )?;
        }
        if line.contains("flush ruleset") {
            install(&node, Backend::IptablesNft, &services(&site))?;
        }
    }
    Ok(())
}

/// Calico's Felix replaces a pod's host route by its own, of metric 1024. Nobody fights for it.
fn felix() -> Outcome {
    let site = site(Mode::Secondary)?;
    let node = site.node()?;
    let pod = site.address(Who::Primary);
    let pick = |text: &str| -> Vec<String> {
        let of_pod = text.lines().filter(|line| line.contains(&pod.to_string()));
        of_pod.map(|line| line.trim().to_owned()).collect()
    };
    let before = pick(&output(&node, "ip route show table main")?);
    let [line] = &before[..] else {
        return Err(Failure::Wrong(format!("{before:?}")));
    };
    let to = SocketAddr::new(pod.into(), 7);
    let flow = Flow::begin(
        site.scene.cluster.runtime(),
        "beside -> primary",
        &site.net(Who::Beside)?,
        to,
    )?;
    output(&node, &format!("ip route add {line} metric 1024"))?;
    output(&node, &format!("ip route del {line} metric 0"))?;
    std::thread::sleep(Duration::from_secs(3));
    let after = pick(&output(&node, "ip route show table main")?);
    ensure(
        after.len() == 1 && after[0].contains("metric 1024"),
        format!("{after:?}"),
    )?;
    let told = flow.end()?;
    ensure(told.lost == 0, format!("{told:?}"))?;
    // When it goes as well, the pod is without a way, and gets ours back.
    output(&node, &format!("ip route del {line} metric 1024"))?;
    eventually(
        SOON,
        || Ok(pick(&output(&node, "ip route show table main")?)),
        |now| *now == before,
        |now| ensure(now == before, format!("{now:?}, not {before:?}")),
    )?;
    site.end()
}
