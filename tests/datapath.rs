//! Promise: every packet of a pod leaves by the right ENI with the right source, and its answer finds the
//! way back, beside each of kube-proxy's ways of translating.

use ipamd_tests::datapath::{BESIDE_NET, Cell, Site, Who, by_service, direct, services};
use ipamd_tests::net::{HASTY, PATIENT, echo, feed, output};
use ipamd_tests::proxy::{Backend, install};
use ipamd_tests::{Mode, Outcome, ensure, fail};
use lab::probe::Protocol;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use vpc_sim::testing::{Failure, Test, run_side_by_side};

fn main() -> std::process::ExitCode {
    let tests = [
        Test {
            name: "matrix_prefixes_beside_iptables_nft",
            run: || matrix(Mode::Prefix, Backend::IptablesNft),
        },
        Test {
            name: "matrix_prefixes_beside_iptables_legacy",
            run: || matrix(Mode::Prefix, Backend::IptablesLegacy),
        },
        Test {
            name: "matrix_prefixes_beside_nftables",
            run: || matrix(Mode::Prefix, Backend::Nftables),
        },
        Test {
            name: "matrix_addresses_beside_iptables_nft",
            run: || matrix(Mode::Secondary, Backend::IptablesNft),
        },
        Test {
            name: "matrix_addresses_beside_iptables_legacy",
            run: || matrix(Mode::Secondary, Backend::IptablesLegacy),
        },
        Test {
            name: "matrix_addresses_beside_nftables",
            run: || matrix(Mode::Secondary, Backend::Nftables),
        },
        Test {
            name: "matrix_beside_ipvs",
            run: ipvs,
        },
        Test {
            name: "every_rule_is_needed",
            run: every_rule_is_needed,
        },
        Test {
            name: "settings_change_the_way",
            run: settings,
        },
        Test {
            name: "a_block_that_joins_the_vpc_is_inside",
            run: joins,
        },
        Test {
            name: "path_mtu_messages_come_back",
            run: path_mtu,
        },
    ];
    run_side_by_side(&tests, 1, Duration::from_secs(240))
}

fn excluded() -> [(&'static str, &'static str); 1] {
    [("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", BESIDE_NET)]
}

fn matrix(mode: Mode, backend: Backend) -> Outcome {
    let site = Site::new(mode, &excluded())?;
    install(&site.node()?, backend, &services(&site))?;
    site.all(&direct(&site), PATIENT)?;
    site.all(&by_service(&site), PATIENT)?;
    site.end()
}

fn ipvs() -> Outcome {
    if std::path::Path::new("/proc/net/ip_vs").exists() {
        return fail("this kernel has IPVS, and nobody has written its cells yet");
    }
    Err(Failure::Skip("this kernel has no IPVS".into()))
}

/// Each rule of the table is taken away or changed, and at least one cell must notice. The table is
/// spoilt on its way to `nft`.
fn every_rule_is_needed() -> Outcome {
    let dir = std::env::temp_dir().join(format!("ipamd-spoilt-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let result = spoil_each(&dir);
    std::fs::remove_dir_all(&dir)?;
    result
}

/// What is spoilt, how (as `sed` says it), and a cell that must notice.
const SPOILT: [(&str, &str, &str); 9] = [
    (
        "nothing is marked as going outside",
        "/direction original.*daddr != @inside/d",
        "Secondary -> Internet",
    ),
    (
        "answers are not marked",
        "/ct direction reply/d",
        "Internet -> NodePort, Local, Secondary",
    ),
    (
        "connections to the node are not marked",
        "/ct mark set/d",
        "SecondBlock -> NodePort, Local, Secondary",
    ),
    (
        "single addresses don't name their ENI",
        "/vmap @enis/d",
        "Secondary -> Remote",
    ),
    (
        "the second block is outside",
        "s#10.0.0.0/15#10.0.0.0/16#",
        "Secondary -> SecondBlock",
    ),
    (
        "the excluded block is outside",
        "s#, 192.0.2.0/24##",
        "Primary -> Beside",
    ),
    (
        "the mark is decided before translation",
        "s/priority dstnat + 10/priority dstnat - 10/",
        "Secondary -> ClusterIP, remote",
    ),
    (
        "the mark is decided in a chain of type nat",
        "s/type filter hook prerouting priority dstnat/type nat hook prerouting priority dstnat/",
        "Secondary -> ClusterIP, endpoint in the internet",
    ),
    ("nothing is translated", "/snat to/d", "Primary -> Internet"),
];

fn spoil_each(dir: &std::path::Path) -> Outcome {
    let mut site = Site::new(Mode::Secondary, &excluded())?;
    install(&site.node()?, Backend::Nftables, &services(&site))?;
    let cells: Vec<Cell> = direct(&site).into_iter().chain(by_service(&site)).collect();
    let noticing = |name: &str| {
        let mut found = cells.iter().filter(|cell| cell.name == name);
        found
            .find(|cell| cell.protocol == Protocol::Udp)
            .cloned()
            .map_or_else(|| fail(format!("no cell {name}")), Ok)
    };
    for (n, (what, script, name)) in SPOILT.iter().enumerate() {
        let wrapper = dir.join(format!("nft-{n}"));
        let text = format!("#!/bin/sh\nsed -e '{script}' | exec nft \"$@\"\n");
        std::fs::write(&wrapper, text)?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&wrapper, mode)?;
        restart_with(&mut site, "IPAMD_NFT", &wrapper.display().to_string())?;
        let cell = noticing(name)?;
        let wrong = site.attempt(&cell, HASTY)?;
        println!("  {what}: {cell}: {}", wrong.as_deref().unwrap_or("ok"));
        ensure(wrong.is_some(), format!("{what}: {cell} does not notice"))?;
    }
    restart_with(&mut site, "IPAMD_NFT", "nft")?;
    for (_, _, name) in SPOILT {
        site.all(&[noticing(name)?], PATIENT)?;
    }
    Ok(())
}

/// Restarts the daemon with another setting, and waits until the table is the new one.
fn restart_with(site: &mut Site, name: &str, value: &str) -> Outcome {
    let node = site.node()?;
    let handle = || -> Result<String, Failure> {
        let table = output(&node, "nft -a list table ip ipamd")?;
        Ok(table.lines().next().unwrap_or_default().to_owned())
    };
    let before = handle()?;
    let daemon = site.scene.node();
    daemon.spec_mut().env.insert(name.into(), value.into());
    daemon.stop()?;
    daemon.start()?;
    daemon.wait_ready(ipamd_tests::SOON)?;
    ipamd_tests::eventually(
        ipamd_tests::SOON,
        handle,
        |now| *now != before,
        |now| ensure(now != before, "the table was not replaced"),
    )
}

fn settings() -> Outcome {
    let mut site = Site::new(Mode::Secondary, &[])?;
    install(&site.node()?, Backend::Nftables, &services(&site))?;
    let cells = direct(&site);
    let cell = |name: &str| -> Vec<Cell> {
        let named = cells.iter().filter(|cell| cell.name == name);
        named.cloned().collect()
    };
    // What is beside the VPC sees the node's address, unless excluded.
    let mut beside = [cell("Primary -> Beside"), cell("Secondary -> Beside")].concat();
    for cell in &mut beside {
        cell.seen = Some(site.node_address().into());
        cell.leaves = Some(Who::Primary);
    }
    site.all(&beside, PATIENT)?;

    restart_with(&mut site, "AWS_VPC_K8S_CNI_RANDOMIZESNAT", "none")?;
    ensure(
        ports_kept(&site)? == 8,
        "`none` keeps the source ports of pods",
    )?;
    restart_with(&mut site, "AWS_VPC_K8S_CNI_RANDOMIZESNAT", "prng")?;
    ensure(ports_kept(&site)? < 8, "`prng` keeps no source port")?;
    restart_with(&mut site, "AWS_VPC_K8S_CNI_RANDOMIZESNAT", "hashrandom")?;
    ensure(ports_kept(&site)? < 8, "`hashrandom` keeps no source port")?;

    // Another mark: the whole way of answers to NodePorts hangs on it.
    restart_with(&mut site, "AWS_VPC_K8S_CNI_CONNMARK", "0x20")?;
    let rules = output(&site.node()?, "ip rule")?;
    ensure(
        rules.contains("fwmark 0x20/0x20 lookup main") && !rules.contains("0x80"),
        rules,
    )?;
    let ports: Vec<Cell> = by_service(&site)
        .into_iter()
        .filter(|cell| cell.name.contains("NodePort, Local, Secondary"))
        .collect();
    site.all(&ports, PATIENT)?;
    site.all(&cell("Secondary -> Internet"), PATIENT)?;

    restart_with(
        &mut site,
        "AWS_EXTERNAL_SERVICE_CIDRS",
        "198.18.0.0/15,203.0.113.0/24",
    )?;
    let rules = output(&site.node()?, "ip rule")?;
    for net in ["198.18.0.0/15", "203.0.113.0/24"] {
        let line = rules.lines().find(|line| line.contains(net));
        ensure(
            line.is_some_and(|line| line.starts_with("1535:") && line.contains("lookup main")),
            format!("no rule for {net}: {rules}"),
        )?;
    }
    site.all(&cell("Secondary -> Internet"), PATIENT)?;
    restart_with(&mut site, "AWS_EXTERNAL_SERVICE_CIDRS", "")?;
    site.clean()?;

    // Somebody else translates: pods keep their addresses and their ENIs, to everywhere.
    restart_with(&mut site, "AWS_VPC_K8S_CNI_EXTERNALSNAT", "true")?;
    let rules = output(&site.node()?, "ip rule")?;
    ensure(!rules.contains("1535:"), rules)?;
    site.all(
        &[cell("Primary -> Beside"), cell("Secondary -> Beside")].concat(),
        PATIENT,
    )?;
    site.all(&ports, PATIENT)?;
    let lost = site.scene.cluster.sim().books()?.igw_dropped;
    let mut internet = cell("Secondary -> Internet");
    for cell in &mut internet {
        // The gateway has no public address for a pod's.
        cell.seen = None;
        cell.leaves = Some(Who::Secondary);
    }
    site.all(&internet, HASTY)?;
    let now = site.scene.cluster.sim().books()?.igw_dropped;
    ensure(now > lost, "nothing reached the internet gateway")?;
    site.end()
}

/// Packets to a block that the VPC has since a moment keep the pod's address, and its ENI, within half a
/// minute; EC2 is not asked for it.
fn joins() -> Outcome {
    // A busy machine is given some seconds.
    const WITHIN: Duration = Duration::from_secs(40);
    let site = Site::new(Mode::Secondary, &[])?;
    site.scene.settled()?;
    let inside: Vec<Cell> = direct(&site)
        .into_iter()
        .filter(|cell| cell.name.ends_with("-> Beside"))
        .collect();
    let mut outside = inside.clone();
    for cell in &mut outside {
        cell.seen = Some(site.node_address().into());
        cell.leaves = Some(Who::Primary);
    }
    site.all(&outside, PATIENT)?;
    let sim = site.scene.cluster.sim();
    let calls = sim.vpc().ec2_calls().clone();
    sim.vpc().add_cidr(BESIDE_NET.parse()?);
    ipamd_tests::eventually(
        WITHIN,
        || output(&site.node()?, "nft list set ip ipamd inside"),
        |set| set.contains(BESIDE_NET),
        |set| ensure(set.contains(BESIDE_NET), set),
    )?;
    site.all(&inside, PATIENT)?;
    ensure(
        *sim.vpc().ec2_calls() == calls,
        "EC2 was asked for a block of the VPC",
    )?;
    site.end()
}

/// Of eight datagrams to the internet, how many arrive with the port that the pod chose.
fn ports_kept(site: &Site) -> Result<usize, Failure> {
    let net = site.net(Who::Secondary)?;
    let to = SocketAddr::new(IpAddr::V4(site.address(Who::Internet)), 7);
    let runtime = site.scene.cluster.runtime();
    let mut kept = 0;
    for _ in 0..8 {
        match ipamd_tests::net::ask(runtime, &net, Protocol::Udp, to, PATIENT)? {
            Ok((own, seen)) => kept += usize::from(own.port() == seen.port()),
            Err(why) => return fail(why),
        }
    }
    Ok(kept)
}

/// A path with a smaller MTU behind the VPC's router: the messages that say so must reach the pod that
/// sends, through translation, through a secondary ENI, and through a NodePort.
fn path_mtu() -> Outcome {
    let site = Site::new(Mode::Prefix, &excluded())?;
    install(&site.node()?, Backend::Nftables, &services(&site))?;
    let router = site.scene.cluster.sim().router();
    output(
        &router,
        &format!("ip route change {BESIDE_NET} dev beside mtu 1400"),
    )?;
    let default = output(&router, "ip route show default")?;
    let default = default.trim().replace("default", "");
    output(
        &router,
        &format!("ip route change default {default} mtu 1400"),
    )?;
    feed(
        &router,
        "nft -f -",
        "add chain inet vpc too_big { type filter hook output priority 0; }\n\
         add rule inet vpc too_big icmp type destination-unreachable icmp code 4 counter\n",
    )?;
    let runtime = site.scene.cluster.runtime();
    let at = |ip: std::net::Ipv4Addr, port: u16| SocketAddr::new(ip.into(), port);
    let mut last = 0;
    for (from, to) in [
        (Who::Primary, at(site.address(Who::Internet), 7)),
        (Who::Secondary, at(site.address(Who::Internet), 7)),
        (Who::Secondary, at(site.address(Who::Beside), 7)),
        (Who::Primary, at(site.address(Who::Beside), 7)),
        (Who::Internet, at(ipamd_tests::datapath::PUBLIC, 30081)),
        (Who::Beside, at(site.node_address(), 30081)),
    ] {
        // What pods have learnt of paths would spare the router its message.
        for who in [Who::Primary, Who::Secondary] {
            output(&site.net(who)?, "ip route flush cache")?;
        }
        let net = site.net(from)?;
        echo(runtime, &net, to, 200_000, Duration::from_secs(20))
            .map_err(|e| Failure::Wrong(format!("{from:?} -> {to}: {e}")))?;
        let told = too_big(&output(&router, "nft list chain inet vpc too_big")?);
        println!("  {from:?} -> {to}: {} messages", told.saturating_sub(last));
        ensure(
            told > last,
            format!("{from:?} -> {to}: no message was needed"),
        )?;
        last = told;
    }
    site.end()
}

fn too_big(chain: &str) -> u64 {
    let mut words = chain
        .split_whitespace()
        .skip_while(|word| *word != "packets");
    words.nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}
