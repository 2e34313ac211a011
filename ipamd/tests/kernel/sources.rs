//! A pod with every capability can't send as somebody else; what is its own goes on.

use super::{INSIDE, apply, ip, mac, node, out, prefix, settings, wiring};
use ipam_core::wiring::{Egress, HostWiring};
use ipam_engine::Handle;
use ipamd::config::Host;
use ipamd::host_net::{KernelNet, watch};
use ipamd::metrics::PodPackets;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// What the helper sends, inside a pod: from, to, how many.
const SEND: &str = "IPAMD_KERNEL_TEST_SEND";

/// At the receiving pod: what came, by port. In the node: what leaves by the further ENI.
const JUDGE: &str = "
table inet judge {
  counter c7001 { }
  chain in { type filter hook input priority 0; udp dport 7001 counter name c7001; }
  chain out { type filter hook postrouting priority 0; oifname ens6 udp dport 7001 counter name c7001; }
}";

fn nft(namespace: &[&str], script: &str) {
    let mut command = match namespace {
        [] => Command::new("nft"),
        [name, ..] => {
            let mut command = Command::new("ip");
            command.args(["netns", "exec", name, "nft"]);
            command
        }
    };
    let child = command.args(["-f", "-"]).stdin(Stdio::piped()).spawn();
    let mut child = child.expect("runs");
    let mut stdin = child.stdin.take().expect("has one");
    stdin.write_all(script.as_bytes()).expect("writes");
    drop(stdin);
    assert!(child.wait().expect("ends").success(), "{script}");
}

/// A pod `name` with these addresses on `eth0`, as the plugin wires it.
fn pod(name: &str, addresses: &[&str]) {
    ip(&format!("netns add {name}"));
    interface(name, "eth0", &format!("eni{name}"), addresses);
    ip(&format!(
        "-n {name} route add 169.254.1.1 dev eth0 scope link"
    ));
    ip(&format!(
        "-n {name} route add default via 169.254.1.1 dev eth0"
    ));
    ip(&format!(
        "-n {name} -6 route add default via fe80::1 dev eth0"
    ));
    ip(&format!("-n {name} link set lo up"));
}

fn interface(pod: &str, name: &str, link: &str, addresses: &[&str]) {
    ip(&format!(
        "link add {link} type veth peer name {name} netns {pod}"
    ));
    ip(&format!("link set {link} up"));
    ip(&format!("-n {pod} link set {name} up"));
    let host = link_address(&format!("link show {link}"));
    let ours = out(
        "ip",
        &format!("netns exec {pod} cat /sys/class/net/{name}/address"),
    );
    for address in addresses {
        let six = address.contains(':');
        let (length, nodad) = if six { (128, "nodad") } else { (32, "") };
        ip(&format!(
            "-n {pod} addr add {address}/{length} dev {name} {nodad}"
        ));
        ip(&format!("route add {address}/{length} dev {link}"));
        ip(&format!(
            "neigh replace {address} lladdr {} dev {link} nud permanent",
            ours.trim()
        ));
    }
    for gateway in ["169.254.1.1", "fe80::1"] {
        ip(&format!(
            "-n {pod} neigh replace {gateway} lladdr {} dev {name} nud permanent",
            host.trim()
        ));
    }
}

/// As `ip` tells it: `/sys` shows the links of another namespace.
fn link_address(question: &str) -> String {
    let text = ip(question);
    let address = text.split("link/ether ").nth(1);
    let address = address.and_then(|rest| rest.split(' ').next());
    address.expect("has one").to_owned()
}

/// From an address that the pod has given itself.
fn send(pod: &str, from: &str, to: &str, count: u32) {
    let status = Command::new("ip")
        .args(["netns", "exec", pod])
        .arg(std::env::current_exe().expect("has a path"))
        .env(INSIDE, "send_inside")
        .env(SEND, format!("{from} {to} {count}"))
        .status();
    assert!(status.is_ok_and(|status| status.success()), "{from} {to}");
}

pub(super) async fn send_inside() {
    let order = std::env::var(SEND).expect("is set");
    let words: Vec<&str> = order.split(' ').collect();
    let [from, to, count] = words[..] else {
        panic!("{order}")
    };
    let from: SocketAddr = from.parse().expect("parses");
    let socket = UdpSocket::bind(from).expect("binds");
    for _ in 0..count.parse::<u32>().expect("parses") {
        socket.send_to(b"x", to).expect("sends");
    }
}

fn counted(namespace: &[&str]) -> u64 {
    let exec = namespace
        .first()
        .map(|name| format!("ip netns exec {name} "));
    let line = format!(
        "{}nft list counter inet judge c7001",
        exec.unwrap_or_default()
    );
    let (program, args) = line.split_once(' ').expect("has both");
    let text = out(program, args);
    let packets = text
        .split("packets ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    packets.and_then(|n| n.parse().ok()).expect("is counted")
}

/// Which of `from` reach the other pod (or, if that is `outside`, leave by the further ENI), each sent once.
fn arriving<'a>(from: &[&'a str], outside: bool) -> Vec<&'a str> {
    let at: &[&str] = if outside { &[] } else { &["b"] };
    let mut found = Vec::new();
    for address in from {
        let (v4, v6) = if outside {
            ("10.0.20.20:7001", "[2001:db8::1]:7001")
        } else {
            ("10.0.3.18:7001", "[fd00::18]:7001")
        };
        let before = counted(at);
        let six = address.contains(':');
        let from = if six {
            format!("[{address}]:0")
        } else {
            format!("{address}:0")
        };
        send("a", &from, if six { v6 } else { v4 }, 1);
        std::thread::sleep(Duration::from_millis(50));
        if counted(at) > before {
            found.push(*address);
        }
    }
    found
}

fn open(source_check: bool) -> Arc<KernelNet> {
    let settings = Host {
        source_check,
        ..settings()
    };
    Arc::new(KernelNet::open(settings).expect("opens"))
}

fn with_egress() -> HostWiring {
    let mut wiring = wiring(2, &[prefix("10.0.3.16/28")]);
    wiring.six.egress = vec![Egress::by("10.0.0.9".parse().expect("parses"))];
    wiring
}

fn world() {
    fs::write("/proc/sys/net/ipv4/conf/default/rp_filter", "0").expect("writes");
    fs::write("/proc/sys/net/ipv4/conf/all/rp_filter", "0").expect("writes");
    out("mount", "-t tmpfs tmpfs /run");
    drop(node(&["ens5", "ens6"]));
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("writes");
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").expect("writes");
    ip("-6 addr add fd00:1::9/64 dev ens5 nodad");
    pod("a", &["10.0.3.17", "fd00::17", "169.254.172.5"]);
    pod("b", &["10.0.3.18", "fd00::18"]);
    pod("c", &["10.0.3.19", "fd00::19"]);
    // A second interface with its own source rule, as the plugin makes it.
    interface("a", "net1", "enisecond", &["10.0.3.20"]);
    ip("-n a route add 169.254.1.1 dev net1 scope link table 101");
    ip("-n a route add default via 169.254.1.1 dev net1 table 101");
    ip("-n a rule add pref 1536 from 10.0.3.20 lookup 101");
    // What `a` gives itself.
    for address in [
        "10.0.3.19",
        "10.0.0.9",
        "10.0.0.10",
        "192.0.2.7",
        "127.0.0.2",
    ] {
        ip(&format!("-n a addr add {address}/32 dev lo"));
    }
    for address in ["fd00::19", "fd00:1::9", "2001:db8::7"] {
        ip(&format!("-n a addr add {address}/128 dev lo nodad"));
    }
    nft(&["b"], JUDGE);
    nft(&[], JUDGE);
}

const FORGED: [&str; 6] = [
    "10.0.3.19",
    "10.0.0.10",
    "192.0.2.7",
    "fd00::19",
    "fd00:1::9",
    "2001:db8::7",
];
const OWN: [&str; 4] = ["10.0.3.17", "10.0.3.20", "169.254.172.5", "fd00::17"];

pub(super) async fn pods_send_from_their_own_addresses_alone() {
    world();
    // Without the check nothing holds them.
    let off = open(false);
    apply(&off, &with_egress()).await;
    assert_eq!(arriving(&OWN, false), OWN);
    // But for the node's own, which the kernel takes from nobody.
    let others = FORGED.into_iter().filter(|address| *address != "10.0.0.10");
    assert_eq!(arriving(&FORGED, false), others.collect::<Vec<_>>());
    assert_eq!((off.are_checked(), off.dropped()), (false, Vec::new()));

    let on = open(true);
    apply(&on, &with_egress()).await;
    assert_eq!(arriving(&OWN, false), OWN);
    // By its own ENI's table.
    assert_eq!(
        arriving(&["10.0.3.17", "10.0.3.20"], true),
        ["10.0.3.17", "10.0.3.20"]
    );
    let dropped = |reason: &str| BTreeMap::from_iter(on.dropped()).get(reason).copied();
    assert_eq!(dropped("source"), Some(0));
    assert_eq!(arriving(&FORGED, false), Vec::<&str>::new());
    assert_eq!(
        arriving(&["10.0.3.19", "10.0.0.9"], true),
        Vec::<&str>::new()
    );
    assert!(on.are_checked());
    assert_eq!(dropped("source"), Some(8));
    flood(&dropped);
    // What packets put into the table is no change of it.
    apply(&on, &with_egress()).await;
    assert_ne!(dropped("source"), Some(0));

    // Switched off, the table goes.
    apply(&open(false), &with_egress()).await;
    assert!(!out("nft", "list tables").contains("ipamd_sources"));
    assert_eq!(arriving(&FORGED[..1], false), FORGED[..1]);
}

/// Link-local packets come, but not for ever.
fn flood(dropped: &impl Fn(&str) -> Option<u64>) {
    let text = ip("-6 -o addr show dev enia scope link");
    let host = text
        .split_whitespace()
        .nth(3)
        .and_then(|net| net.split('/').next());
    let to = format!("[{}%{}]:7001", host.expect("has one"), 2);
    let index = ip("-n a -o link show eth0");
    let to = to.replace(
        "%2]",
        &format!("%{}]", index.split(':').next().unwrap_or_default()),
    );
    assert_eq!(dropped("flood"), Some(0));
    send("a", "[::]:0", &to, 20);
    assert_eq!(dropped("flood"), Some(0));
    send("a", "[::]:0", &to, 400);
    assert!(
        dropped("flood").is_some_and(|n| n > 200),
        "{:?}",
        dropped("flood")
    );
}

fn setting(link: &str, key: &str) -> String {
    let path = format!("/proc/sys/net/ipv4/conf/{link}/{key}");
    fs::read_to_string(path).expect("reads").trim().to_owned()
}

/// Whatever the distribution's defaults are; links that are there, and those that come.
pub(super) async fn a_pods_link_is_hardened() {
    for key in ["rp_filter", "accept_redirects"] {
        let value = if key == "rp_filter" { "0" } else { "1" };
        fs::write(format!("/proc/sys/net/ipv4/conf/default/{key}"), value).expect("writes");
    }
    drop(node(&["ens5"]));
    ip("link add eniold type veth peer name pold");
    let net = open(true);
    let (engine, mut door) = Handle::new();
    tokio::spawn(watch(net.clone(), engine).expect("listens"));
    tokio::spawn(async move { while door.recv().await.is_some() {} });
    ip("link add eninew type veth peer name pnew");
    for link in ["eniold", "eninew"] {
        let begin = Instant::now();
        while (
            setting(link, "rp_filter"),
            setting(link, "accept_redirects"),
        ) != ("1".into(), "0".into())
        {
            assert!(begin.elapsed() < Duration::from_secs(10), "{link}");
            sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(setting("pnew", "rp_filter"), "0");
    assert_ne!(mac(0), mac(1));
}

/// The settings can't name what the primary ENI's link is called: the wiring says why nothing works.
pub(super) async fn a_link_named_as_pods_is_told() {
    drop(node(&["ens5"]));
    ip("link set ens5 down");
    ip("link set ens5 name net0");
    ip("link set net0 up");
    let settings = Host {
        veth_prefix: "net".into(),
        ..settings()
    };
    let net = KernelNet::open(settings).expect("opens");
    use ipam_engine::ports::HostNet as _;
    let error = net
        .apply(wiring(1, &[]))
        .await
        .expect_err("is told")
        .to_string();
    assert!(
        error.contains("net0") && error.contains("AWS_VPC_K8S_CNI_VETHPREFIX"),
        "{error}"
    );
}

/// What comes for an egress address without the pod's having asked goes no further, whatever its flags.
pub(super) async fn egress_addresses_get_answers_alone() {
    world();
    apply(&open(true), &with_egress()).await;
    let table = out("nft", "list table ip ipamd_egress");
    assert!(
        table.contains("ct state != { established, related }"),
        "{table}"
    );
    // What the kernel has of no connection and takes for no beginning of one: SCTP's or TCP's odd ends. Here: a packet
    // that is not tracked at all.
    nft(
        &[],
        "
table inet untracked {
 chain pre { type filter hook prerouting priority raw; ip daddr 169.254.172.5 notrack; }
}
table inet seen {
 counter got { }
 chain post { type filter hook postrouting priority 0; ip daddr 169.254.172.5 counter name got; }
}
",
    );
    send("b", "10.0.3.18:0", "169.254.172.5:7001", 3);
    sleep(Duration::from_millis(50)).await;
    let seen = out("nft", "list counter inet seen got");
    assert!(seen.contains("packets 0 "), "{seen}");
    // The pod asks, and is answered.
    assert_eq!(arriving(&["169.254.172.5"], false), ["169.254.172.5"]);
}
