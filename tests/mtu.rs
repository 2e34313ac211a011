//! Promise: the message that a packet is too big for the path reaches the pod that sent it, whichever ENI
//! it is on, translated or not, for datagrams and in both families. (Connections, by IPv4 and through
//! NodePorts: `datapath.rs`.)

use ipamd_tests::datapath::{BESIDE_NET, Site, Who};
use ipamd_tests::net::{echo, output};
use ipamd_tests::six::{Families, spec_of};
use ipamd_tests::{Mode, Outcome, Scene, ensure, fail};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};
use vpc_sim::NetNs;
use vpc_sim::responder::PORT;
use vpc_sim::testing::{Failure, Test, run};

/// Behind the router; the smallest that IPv6 knows is 1280.
const NARROW: &str = "1400";
/// A datagram that fits the pod's link alone.
const LARGE: usize = 3000;
/// For a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);
/// For what should not come.
const HASTE: Duration = Duration::from_secs(2);

fn main() -> std::process::ExitCode {
    run(&[
        Test {
            name: "datagrams_learn_the_path_by_prefixes",
            run: || datagrams(Mode::Prefix),
        },
        Test {
            name: "datagrams_learn_the_path_by_addresses",
            run: || datagrams(Mode::Secondary),
        },
        Test {
            name: "connections_learn_the_path_inside_the_vpc",
            run: connections,
        },
        Test {
            name: "a_strict_source_check_would_be_noticed",
            run: control,
        },
        Test {
            name: "ipv6_learns_the_path",
            run: six,
        },
    ])
}

/// Everything that is not in the node's own block is behind a narrow link.
fn narrowed(mode: Mode) -> Result<Site, Failure> {
    let site = Site::new(mode, &[("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", BESIDE_NET)])?;
    let router = site.scene.cluster.sim().router();
    let inside = format!("{}/32", site.address(Who::SecondBlock));
    for to in ["default", BESIDE_NET, &inside] {
        narrow(&router, "ip", to)?;
    }
    Ok(site)
}

fn narrow(router: &NetNs, ip: &str, to: &str) -> Outcome {
    let route = output(router, &format!("{ip} route show {to}"))?;
    // What a listing says and a change does not take; a link that is young may have no carrier yet.
    let route = route
        .trim()
        .replace("pref medium", "")
        .replace("linkdown", "");
    ensure(
        route.lines().count() == 1,
        format!("not one route to {to}: {route}"),
    )?;
    output(router, &format!("{ip} route change {route} mtu {NARROW}")).map(drop)
}

fn datagrams(mode: Mode) -> Outcome {
    let site = narrowed(mode)?;
    for from in [Who::Primary, Who::Secondary] {
        for to in [Who::Internet, Who::Beside, Who::SecondBlock] {
            let at = SocketAddr::new(site.address(to).into(), PORT);
            let net = site.net(from)?;
            ensure(mtu_to(&net, at.ip())?.is_none(), "the pod knows already")?;
            let told = datagram(&net, at, PATIENCE)?;
            println!("  {from:?} -> {to:?}: {told:?}");
            ensure(told.is_ok(), format!("{from:?} -> {to:?}: {told:?}"))?;
        }
    }
    site.end()
}

fn connections() -> Outcome {
    let site = narrowed(Mode::Secondary)?;
    let runtime = site.scene.cluster.runtime();
    for from in [Who::Primary, Who::Secondary] {
        let at = SocketAddr::new(site.address(Who::SecondBlock).into(), PORT);
        let net = site.net(from)?;
        echo(runtime, &net, at, 200_000, 2 * PATIENCE)?;
        let known = mtu_to(&net, at.ip())?;
        ensure(known.as_deref() == Some(NARROW), format!("{known:?}"))?;
    }
    site.end()
}

/// The router speaks with an address that the main table has by the primary ENI. Where a secondary ENI
/// took only what it would send to itself (`rp_filter` 1), the message would be lost.
fn control() -> Outcome {
    let mut site = narrowed(Mode::Secondary)?;
    // It would put that right.
    site.scene.node().kill();
    let node = site.node()?;
    for (strict, want) in [("1", false), ("2", true)] {
        output(
            &node,
            &format!("sysctl -qw net.ipv4.conf.ens6.rp_filter={strict}"),
        )?;
        let at = SocketAddr::new(site.address(Who::Beside).into(), PORT);
        let told = datagram(
            &site.net(Who::Secondary)?,
            at,
            if want { PATIENCE } else { HASTE },
        )?;
        println!("  rp_filter {strict}: {told:?}");
        ensure(
            told.is_ok() == want,
            format!("rp_filter {strict}: {told:?}"),
        )?;
    }
    site.scene.node().start()?;
    site.scene.node().wait_ready(ipamd_tests::SOON)?;
    site.end()
}

fn six() -> Outcome {
    let mut scene = Scene::ready(spec_of(Families::Dual(Mode::Secondary), "m5.large", 1)?)?;
    // Nine IPv4 addresses an ENI: the last pods' are on the second one.
    scene.add_pods(12)?;
    let sim = scene.cluster.sim();
    narrow(&sim.router(), "ip -6", "default")?;
    let there = SocketAddr::new(IpAddr::V6(sim.internet_addresses().v6), PORT);
    let last = scene.pods.len() - 1;
    for pod in [&scene.pods[0], &scene.pods[last]] {
        let Some(netns) = &pod.netns else {
            return fail("a pod without a namespace");
        };
        let net = netns.net();
        let told = datagram(net, there, PATIENCE)?;
        println!("  {}: {told:?}", pod.full_name());
        ensure(told.is_ok(), format!("{}: {told:?}", pod.full_name()))?;
        output(net, "ip -6 route flush cache")?;
        echo(scene.cluster.runtime(), net, there, 200_000, 2 * PATIENCE)?;
    }
    scene.nothing_is_left()
}

/// Sends large datagrams that may not be cut on their way until the kernel knows the path, and then one
/// that the pod itself cuts and that is answered. `Err` inside: in words, what did not come.
fn datagram(net: &NetNs, to: SocketAddr, limit: Duration) -> Result<Result<(), String>, Failure> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = net.udp(SocketAddr::new(any, 0))?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(Duration::from_millis(200)))?;
    socket.connect(to)?;
    let (payload, mut buffer) = (vec![b'x'; LARGE], vec![0; 2 * LARGE]);
    let (began, mut refused, mut answered) = (Instant::now(), 0, false);
    while began.elapsed() < limit && !answered {
        // The message's word comes as an error of the next call: "too long".
        refused += usize::from(socket.send(&payload).is_err());
        match socket.recv(&mut buffer) {
            Ok(length) => answered = length > LARGE,
            Err(e) if e.raw_os_error() == Some(nix::errno::Errno::EMSGSIZE as i32) => refused += 1,
            Err(_) => {}
        }
    }
    let known = mtu_to(net, to.ip())?;
    Ok(match (refused, known.as_deref(), answered) {
        (0, _, _) => Err("no message reached the socket".into()),
        (_, Some(NARROW), true) => Ok(()),
        (_, known, answered) => Err(format!("the path is {known:?}; answered: {answered}")),
    })
}

/// What the kernel has learnt of the path, if anything.
fn mtu_to(net: &NetNs, to: IpAddr) -> Result<Option<String>, Failure> {
    let route = output(net, &format!("ip route get {to}"))?;
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu");
    Ok(words.nth(1).map(str::to_owned))
}
