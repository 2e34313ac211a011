//! Connections of finished pods are forgotten, and nobody else's.

use super::{INSIDE, ip, node, pod};
use ipam_core::Timestamp;
use ipam_engine::Handle;
use ipam_engine::api::Request;
use ipam_engine::ports::{Connections, Forgotten, HostNet, KernelEvent, Trace};
use ipamd::host_net::{KernelNet, watch};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{IpAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio::time::timeout;

/// Tracked, and two services: one leads to a pod, one leaves with another source.
const RULES: &str = "
table inet track {
  chain out { type filter hook output priority 0; ct state new accept; }
  chain in { type filter hook input priority 0; ct state new accept; }
}
table ip services {
  chain out { type nat hook output priority -100; ip daddr 10.1.0.1 dnat to 10.0.3.17; }
  chain post { type nat hook postrouting priority 100; ip saddr 10.0.3.17 udp dport 7001 snat to 10.0.3.30; }
}";

fn track() {
    ip("link set lo up");
    for address in ["10.0.3.17", "10.0.3.18", "10.0.3.19", "10.0.3.30"] {
        ip(&format!("addr add {address}/32 dev lo"));
    }
    for address in ["fd00::17", "fd00::18"] {
        ip(&format!("addr add {address}/128 dev lo nodad"));
    }
    // The kernel makes IPv6 addresses usable beside.
    let usable = || {
        let table = ip("-6 route show table local");
        table.contains("local fd00::17") && table.contains("local fd00::18")
    };
    let begin = Instant::now();
    while !usable() {
        assert!(begin.elapsed() < Duration::from_secs(20), "no IPv6");
        std::thread::sleep(Duration::from_millis(10));
    }
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .expect("runs");
    let mut stdin = nft.stdin.take().expect("has one");
    stdin.write_all(RULES.as_bytes()).expect("writes");
    drop(stdin);
    assert!(nft.wait().expect("ends").success());
}

/// One packet.
fn udp(from: &str, to: &str, port: u16) {
    let from: IpAddr = from.parse().expect("parses");
    let to: IpAddr = to.parse().expect("parses");
    let socket = UdpSocket::bind((from, 0)).expect("binds");
    socket.send_to(b"x", (to, port)).expect("sends");
}

/// The connections that the kernel remembers, one message each, as its own dump tells them.
/// (`/proc/net/nf_conntrack` is for the host's root alone.)
fn remembered() -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    for family in [2, 10] {
        let mut socket = Socket::new(NETLINK_NETFILTER).expect("opens");
        socket.bind_auto().expect("binds");
        // nlmsghdr: length, IPCTNL_MSG_CT_GET, NLM_F_REQUEST | NLM_F_DUMP; nfgenmsg: family.
        let request = [
            20, 0, 0, 0, 1, 1, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, family, 0, 0, 0,
        ];
        socket
            .send_to(&request, &SocketAddr::new(0, 0), 0)
            .expect("sends");
        'dump: loop {
            let (bytes, _) = socket.recv_from_full().expect("receives");
            let mut rest = bytes.as_slice();
            while let Some((length, _)) = rest.split_first_chunk::<4>() {
                let length = usize::try_from(u32::from_ne_bytes(*length)).expect("fits");
                let (message, next) = rest.split_at(length.next_multiple_of(4).min(rest.len()));
                match message[4..6] {
                    [0, 1] => found.push(message.to_vec()),
                    [3, 0] => break 'dump,
                    _ => panic!("{message:?}"),
                }
                rest = next;
            }
        }
    }
    found
}

#[derive(Clone, Copy)]
enum End {
    Source,
    Destination,
}

/// Whether a message has this address as this end, in either direction: as an attribute.
fn has(message: &[u8], end: End, address: &str) -> bool {
    let (first, bytes) = match address.parse().expect("parses") {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (3, ip.octets().to_vec()),
    };
    let kind = first + u8::from(matches!(end, End::Destination));
    let length = u8::try_from(bytes.len() + 4).expect("fits");
    let attribute = [vec![length, 0, kind, 0], bytes].concat();
    message.windows(attribute.len()).any(|w| w == attribute)
}

fn naming(address: &str) -> usize {
    let names = |m: &&Vec<u8>| has(m, End::Source, address) || has(m, End::Destination, address);
    remembered().iter().filter(names).count()
}

fn trace(address: &str, host_if: Option<&str>) -> Trace {
    Trace {
        address: address.parse().expect("parses"),
        released_at: Timestamp(1),
        host_if: host_if.map(str::to_owned),
    }
}

async fn forget(net: &KernelNet, addresses: &[&str]) -> u64 {
    let traces = addresses.iter().map(|a| trace(a, Some("eni-gone")));
    let found = net.forget(traces.collect()).await.expect("looks");
    assert_eq!(found.linked, Vec::<IpAddr>::new());
    match found.connections {
        Connections::Removed(count) => count,
        other => panic!("{other:?}"),
    }
}

pub(super) async fn connections_of_finished_pods_are_forgotten() {
    let net = node(&["ens5"]);
    track();
    // As source, as destination, by a service, and with another source.
    udp("10.0.3.17", "10.0.3.18", 7000);
    udp("10.0.3.18", "10.0.3.17", 7000);
    udp("10.0.3.19", "10.1.0.1", 7000);
    udp("10.0.3.17", "10.0.3.19", 7001);
    udp("fd00::17", "fd00::18", 7000);
    let listener = TcpListener::bind("10.0.3.17:0").expect("binds");
    let stream = TcpStream::connect(listener.local_addr().expect("has one")).expect("connects");
    // Others'.
    for port in 8000..8300 {
        udp("10.0.3.18", "10.0.3.19", port);
    }
    udp("fd00::18", "fd00::18", 7000);
    let all = remembered().len();
    assert_eq!((naming("10.0.3.17"), naming("fd00::17")), (5, 1));
    let both = |source: &str, destination: &str| {
        let has =
            |m: &Vec<u8>| has(m, End::Source, source) && has(m, End::Destination, destination);
        remembered().iter().any(has)
    };
    assert!(both("10.0.3.17", "10.1.0.1"), "translated to the pod");
    assert!(both("10.0.3.17", "10.0.3.30"), "translated from the pod");

    assert_eq!(forget(&net, &["10.0.3.30"]).await, 1, "by its other source");
    assert_eq!(forget(&net, &["10.0.3.99"]).await, 0);
    assert_eq!(forget(&net, &[]).await, 0);
    assert_eq!(remembered().len(), all - 1);
    assert_eq!(forget(&net, &["10.0.3.17", "fd00::17"]).await, 5);
    assert_eq!((naming("10.0.3.17"), naming("fd00::17")), (0, 0));
    assert_eq!(naming("10.0.3.19"), 300);
    assert_eq!(remembered().len(), all - 6);
    assert_eq!(
        forget(&net, &["10.0.3.18", "10.0.3.19", "fd00::18"]).await,
        301
    );
    assert_eq!(remembered().len(), all - 307);
    drop((stream, listener));
}

/// A pod with a link may be talking: nothing is forgotten of it, and its link's end is told.
pub(super) async fn a_pods_link_is_seen_and_its_end_told() {
    let net = node(&["ens5"]);
    track();
    let (engine, mut door) = Handle::new();
    tokio::spawn(watch(net.clone(), engine).expect("listens"));
    pod("eniaaa", "10.0.4.17");
    udp("10.0.3.17", "10.0.3.18", 7000);
    let traces = vec![
        trace("10.0.3.17", Some("eniaaa")),
        trace("10.0.3.99", Some("eni-gone")),
    ];
    let found = net.forget(traces.clone()).await.expect("looks");
    let linked: IpAddr = "10.0.3.17".parse().expect("parses");
    assert_eq!(found.linked, [linked]);
    assert_eq!(naming("10.0.3.17"), 1);
    // Of a newer pod: the link says nothing of the address.
    let newer = vec![trace("10.0.3.18", None)];
    let found = net.forget(newer).await.expect("looks");
    assert_eq!(found.connections, Connections::Removed(1));
    udp("10.0.3.17", "10.0.3.18", 7000);

    ip("link del eniaaa");
    let told = async {
        while let Some(request) = door.recv().await {
            if let Request::Kernel(KernelEvent::PodLinkGone(name)) = request {
                return name;
            }
        }
        String::new()
    };
    let name = timeout(Duration::from_secs(10), told).await;
    assert_eq!(name.expect("in time"), "eniaaa");
    let found = net.forget(traces).await.expect("looks");
    let all = Forgotten {
        linked: vec![],
        connections: Connections::Removed(1),
    };
    assert_eq!(found, all);
}

/// A large table, and a large part of it to be forgotten; others go on meanwhile.
pub(super) async fn many_connections_are_forgotten_in_pieces() {
    let net = node(&["ens5"]);
    track();
    let others = UdpSocket::bind("10.0.3.18:0").expect("binds");
    let pods = UdpSocket::bind("10.0.3.17:0").expect("binds");
    for port in 1..=8000_u16 {
        others.send_to(b"x", ("10.0.3.19", port)).expect("sends");
        if port % 4 == 0 {
            pods.send_to(b"x", ("10.0.3.19", port)).expect("sends");
        }
    }
    assert_eq!((naming("10.0.3.17"), naming("10.0.3.18")), (2000, 8000));
    let turns = async {
        let mut turns = 0_u32;
        loop {
            tokio::task::yield_now().await;
            turns += 1;
            if turns > 100_000_000 {
                return turns;
            }
        }
    };
    let mut others_turns = BTreeSet::new();
    tokio::select! {
        removed = forget(&net, &["10.0.3.17"]) => assert_eq!(removed, 2000),
        turns = turns => { others_turns.insert(turns); }
    }
    assert!(others_turns.is_empty(), "it does not end");
    assert_eq!((naming("10.0.3.17"), naming("10.0.3.18")), (0, 8000));
}

/// A process without rights over the network namespace: said, once and for all, and no failure.
pub(super) async fn without_rights_it_says_so() {
    track();
    udp("10.0.3.17", "10.0.3.18", 7000);
    let status = Command::new("unshare")
        .args(["--user", "--map-root-user"])
        .arg(std::env::current_exe().expect("has a path"))
        .env(INSIDE, "without_rights_inside")
        .status();
    assert!(status.expect("runs").success());
    assert_eq!(naming("10.0.3.17"), 1);
}

pub(super) async fn without_rights_inside() {
    let net = KernelNet::open(super::settings()).expect("opens");
    let found = net.forget(vec![trace("10.0.3.17", None)]).await;
    let Connections::Unable(why) = found.expect("looks").connections else {
        panic!("it may");
    };
    assert!(why.contains("CAP_NET_ADMIN"), "{why}");
}
