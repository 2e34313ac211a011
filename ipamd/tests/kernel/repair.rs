//! What others flush or change comes back within a second; what is not ours stays as they left it.

use super::{apply, ip, node, out, pod, prefix, rules, settings, wiring};
use ipam_core::Block;
use ipam_core::wiring::HostWiring;
use ipam_engine::Handle;
use ipam_engine::ports::{HostNet, Leftover};
use ipamd::host_net::{KernelNet, watch};
use ipamd::rpc::Node;
use ipnet::IpNet;
use std::fs;
use std::net::IpAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// Longer than the promised second, for a machine that is busy.
const BOUND: Duration = Duration::from_secs(10);

async fn watched() -> (Arc<KernelNet>, HostWiring) {
    let net = node(&["ens5", "ens6"]);
    let single = Block::address(IpAddr::from([10, 0, 5, 1]));
    let wiring = wiring(2, &[prefix("10.0.3.16/28"), single]);
    let (engine, mut door) = Handle::new();
    tokio::spawn(watch(net.clone(), engine).expect("listens"));
    tokio::spawn(async move { while door.recv().await.is_some() {} });
    apply(&net, &wiring).await;
    (net, wiring)
}

/// Our table, or nothing if it is not there.
fn table() -> String {
    let output = Command::new("nft")
        .args(["list", "table", "ip", "ipamd"])
        .output()
        .expect("runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn everything() -> (Vec<String>, String, String, String) {
    let links = ip("link show ens5") + &ip("link show ens6") + &ip("-4 addr show ens6");
    let routes = ip("route show table 2") + &ip("route show table all type unreachable");
    let mut rules = rules();
    rules.push(ip("-6 rule"));
    (rules, routes, table(), links)
}

async fn until_as(before: &(Vec<String>, String, String, String), what: &str) {
    let begin = Instant::now();
    while everything() != *before {
        assert!(
            begin.elapsed() < BOUND,
            "{what}: {:#?}\ninstead of {before:#?}",
            everything()
        );
        sleep(Duration::from_millis(20)).await;
    }
    println!("  {what}: whole again after {:?}", begin.elapsed());
}

/// The looks that follow our own changes are over: they would find what the monitor must notice.
async fn calm() {
    sleep(Duration::from_millis(700)).await;
}

/// Each is undone at once: so few in a row are no fight.
async fn all_are_undone(damages: &[&str]) {
    let (_net, _) = watched().await;
    let before = everything();
    assert!(before.2.contains("snat to"), "{}", before.2);
    for damage in damages {
        calm().await;
        let (program, args) = damage.split_once(' ').expect("has both");
        out(program, args);
        assert_ne!(
            everything(),
            before,
            "{damage} does nothing, or was undone before it was seen"
        );
        until_as(&before, damage).await;
    }
}

pub(super) async fn what_others_take_away_comes_back() {
    all_are_undone(&[
        "ip rule flush",
        "ip rule del pref 512",
        "ip rule del pref 1024",
        "ip rule del pref 513 iif ens6",
        "ip route flush table 2",
        "ip route flush table 20000",
        "ip link set ens6 down",
        "ip link set ens6 mtu 1500",
        "ip link set ens5 mtu 1500",
        "ip addr flush dev ens6",
        "ip -6 rule flush",
    ])
    .await;
}

/// The kernel tells nobody of them.
pub(super) async fn settings_that_host_tools_write_come_back() {
    let net = node(&["ens5", "ens6"]);
    let mut wiring = wiring(2, &[prefix("10.0.3.16/28")]);
    wiring.six.forwards = true;
    let (engine, mut door) = Handle::new();
    tokio::spawn(watch(net.clone(), engine).expect("listens"));
    tokio::spawn(async move { while door.recv().await.is_some() {} });
    apply(&net, &wiring).await;
    let read = |key: &str| {
        let text = fs::read_to_string(format!("/proc/sys/net/{key}"));
        text.expect("reads").trim().to_owned()
    };
    for (key, right, wrong) in [
        ("ipv4/ip_forward", "1", "0"),
        ("ipv4/conf/ens5/rp_filter", "2", "1"),
        ("ipv4/conf/ens6/rp_filter", "2", "0"),
        ("ipv6/conf/default/disable_ipv6", "0", "1"),
        ("ipv6/conf/all/forwarding", "1", "0"),
    ] {
        assert_eq!(read(key), right, "{key}");
        calm().await;
        fs::write(format!("/proc/sys/net/{key}"), wrong).expect("writes");
        let begin = Instant::now();
        while read(key) != right {
            assert!(begin.elapsed() < BOUND, "{key}");
            sleep(Duration::from_millis(20)).await;
        }
        println!("  {key}: right again after {:?}", begin.elapsed());
    }
    // Where it can't be written, it is told: by CHECK, and by the probe.
    out("mount", "-t tmpfs tmpfs /proc/sys/net/ipv4");
    fs::write("/proc/sys/net/ipv4/ip_forward", "0").expect("writes");
    out("mount", "-o remount,ro /proc/sys/net/ipv4");
    let begin = Instant::now();
    while net.trouble().await.is_none() {
        assert!(begin.elapsed() < BOUND);
        sleep(Duration::from_millis(20)).await;
    }
    let told = net.lacking().await.join("; ");
    assert!(told.contains("net.ipv4.ip_forward"), "{told}");
}

/// Of whatever kind, and whatever else they say.
pub(super) async fn routes_of_every_kind_are_put_right() {
    all_are_undone(&[
        "ip route replace blackhole default table 2",
        "ip route add blackhole 10.0.9.0/24 table 2",
        "ip route add unreachable 10.0.9.0/24 table 2 metric 7",
        "ip route add throw 10.0.9.0/24 table 2",
        "ip route add prohibit 10.0.9.0/24 table 2",
        "ip route replace default via 10.0.0.1 dev ens6 onlink table 2 src 10.0.0.9",
        "ip route replace default via 10.0.0.1 dev ens6 onlink table 2 mtu 1400",
        "ip route append default via 10.0.0.1 dev ens6 onlink table 2 src 10.0.0.9",
        "ip route prepend default via 10.0.0.7 dev ens6 onlink table 2",
        "ip route add 10.0.9.0/24 table 2 nexthop via 10.0.0.1 dev ens6 onlink nexthop via 10.0.0.7 dev ens6 onlink",
        "ip route add 192.0.2.0/24 dev lo table 2",
    ])
    .await;
}

/// Its own routes in main went with it, and nobody else brings them back.
pub(super) async fn the_primarys_link_comes_back() {
    let (_net, _) = watched().await;
    let main = || {
        let text = ip("route show table main");
        let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        lines.sort();
        lines
    };
    ip("route add 198.51.100.0/24 via 10.0.0.1 dev ens5 metric 5");
    calm().await;
    let (before, whole) = (everything(), main());
    assert_eq!(whole.len(), 3, "{whole:?}");
    ip("link set ens5 down");
    until_as(&before, "ens5 down").await;
    let begin = Instant::now();
    while main() != whole {
        assert!(begin.elapsed() < BOUND, "{:?}, not {whole:?}", main());
        sleep(Duration::from_millis(20)).await;
    }
    // What somebody takes away with the link up is taken away.
    ip("route del 198.51.100.0/24");
    calm().await;
    ip("link set ens6 down");
    until_as(&before, "ens6 down").await;
    calm().await;
    assert_eq!(main().len(), 2, "{:?}", main());
}

pub(super) async fn the_nftables_table_comes_back() {
    all_are_undone(&[
        "nft flush ruleset",
        "nft delete table ip ipamd",
        "nft flush chain ip ipamd prerouting",
        "nft delete element ip ipamd inside { 10.0.0.0/16 }",
        "nft add element ip ipamd inside { 192.0.2.0/24 }",
        "nft delete element ip ipamd enis { 10.0.5.1 }",
        "nft insert rule ip ipamd prerouting drop",
        "nft flush table ip ipamd",
    ])
    .await;
}

/// CNI CHECK is told what the node lacks; looking puts nothing right.
pub(super) async fn what_is_missing_is_told() {
    let net = node(&["ens5", "ens6"]);
    let told = || async { net.lacking().await.join("\n") };
    // What an earlier run wired stands; this one knows of nothing amiss yet.
    assert_eq!(told().await, "");
    apply(&net, &wiring(2, &[prefix("10.0.3.16/28")])).await;
    assert_eq!(told().await, "");
    for (damage, words, mend) in [
        (
            "ip rule del pref 512",
            "512:",
            Some("rule add pref 512 lookup main suppress_prefixlength 31"),
        ),
        (
            "ip rule del pref 1536",
            "1536: from 10.0.3.16/28 lookup 2",
            None,
        ),
        (
            "nft flush chain ip ipamd prerouting",
            "table ip ipamd",
            None,
        ),
    ] {
        let (program, args) = damage.split_once(' ').expect("has both");
        out(program, args);
        let first = told().await;
        assert!(first.contains(words), "{damage}: {first}");
        assert_eq!(told().await, first, "a look changed something");
        if let Some(mend) = mend {
            ip(mend);
            assert_eq!(told().await, "", "{mend}");
        }
    }
}

/// What looks like ours and is in no wiring, in rules, ENIs' tables and our table.
pub(super) async fn what_is_ours_and_nobodys_goes() {
    let (_net, _) = watched().await;
    calm().await;
    let before = everything();
    for stray in [
        "ip rule add pref 1536 from 10.0.77.0/28 lookup 3",
        "ip rule add pref 1535 to 198.51.100.0/24 lookup main",
        "ip rule add pref 1024 fwmark 0x40/0x40 lookup main",
        "ip rule add pref 32765 from 10.0.0.99 lookup 2",
        "ip route add 192.0.2.0/24 dev ens6 table 2",
        "ip route add 192.0.2.0/24 dev ens5 table 2",
        "nft add chain ip ipamd stray",
    ] {
        calm().await;
        let (program, args) = stray.split_once(' ').expect("has both");
        out(program, args);
        until_as(&before, stray).await;
    }
}

/// Another program's tables, rules and routes go through all repairs as they are.
pub(super) async fn others_are_left_through_repairs() {
    let (_net, _) = watched().await;
    ip("rule add pref 700 from 192.0.2.1 lookup 77");
    ip("rule add pref 1536 from 10.0.9.9 lookup 2");
    ip("route add 192.0.2.0/24 dev ens5 table 77");
    out("nft", "add table ip other");
    out(
        "nft",
        "add chain ip other c { type filter hook input priority 0; }",
    );
    out("nft", "add rule ip other c counter");
    calm().await;
    let others = || {
        (
            ip("route show table 77"),
            out("nft", "-a list table ip other"),
        )
    };
    let before = others();
    let all = rules();
    out("nft", "delete table ip ipamd");
    ip("rule del pref 512");
    ip("route flush table 2");
    let begin = Instant::now();
    while table().is_empty() || rules() != all || !ip("route show table 2").contains("default") {
        assert!(begin.elapsed() < BOUND, "{:#?}", rules());
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(others(), before);
}

/// A change that is the same in the end is none: the table is not replaced again and again by looks.
pub(super) async fn looks_replace_nothing() {
    let (net, wiring) = watched().await;
    let handles = || out("nft", "-a list table ip ipamd");
    calm().await;
    let before = handles();
    for round in 0..3 {
        out("nft", "add table ip other");
        out("nft", "delete table ip other");
        ip("addr add 192.0.2.9/24 dev ens6");
        ip("addr del 192.0.2.9/24 dev ens6");
        // Ours is named by somebody, who changes nothing.
        out("nft", "add element ip ipamd inside { 10.0.0.0/16 }");
        apply(&net, &wiring).await;
        calm().await;
        assert_eq!(handles(), before, "round {round}");
    }
}

pub(super) async fn pods_routes_are_put_back() {
    let net = node(&["ens5"]);
    pod("eniaaa", "10.0.3.17");
    pod("enibbb", "10.0.3.18");
    pod("eniccc", "10.0.3.19");
    pod("eniddd", "10.0.3.20");
    let before = ip("route show 10.0.3.17");
    let pods: Vec<Leftover> = [
        ("10.0.3.17", "eniaaa"),
        ("10.0.3.18", "enibbb"),
        ("10.0.3.19", "eniccc"),
        ("10.0.3.20", "eniddd"),
        ("10.0.3.21", "enigone"),
        ("10.0.0.44", "ens5"),
    ]
    .map(|(address, host_if)| Leftover {
        address: address.parse().expect("parses"),
        host_if: host_if.into(),
    })
    .into();
    ip("route del 10.0.3.17/32");
    // Calico's Felix replaces ours by its own; a link that is down has none.
    ip("route del 10.0.3.18/32");
    ip("route add 10.0.3.18/32 dev enibbb scope link metric 1024");
    ip("link set eniddd down");
    net.reroute(pods.clone()).await.expect("puts back");
    let whole = ip("route show");
    net.reroute(pods).await.expect("again");
    assert_eq!(ip("route show"), whole);
    assert_eq!(ip("route show 10.0.3.17"), before);
    let count = |text: &str| whole.matches(text).count();
    assert_eq!((count("10.0.3.18"), count("10.0.3.19")), (1, 1), "{whole}");
    assert!(
        whole.contains("10.0.3.18 dev enibbb scope link metric 1024"),
        "{whole}"
    );
    for none in ["10.0.3.20", "10.0.3.21", "10.0.0.44"] {
        assert!(!whole.contains(none), "{whole}");
    }
}

/// Of one metric, before or after ours; of another one; and what drops.
pub(super) async fn pods_routes_that_lead_elsewhere_are_put_right() {
    let net = node(&["ens5"]);
    pod("eniaaa", "10.0.3.17");
    pod("enibbb", "10.0.3.18");
    ip("addr add fe80::1/64 dev eniaaa");
    ip("-6 route add 2001:db8::17/128 dev eniaaa");
    let pods: Vec<Leftover> = ["10.0.3.17", "2001:db8::17"]
        .map(|address| Leftover {
            address: address.parse().expect("parses"),
            host_if: "eniaaa".into(),
        })
        .into();
    let look = || ip("route show table main") + &ip("-6 route show 2001:db8::17");
    let whole = look();
    // `true`: nobody's business.
    for (damage, stays) in [
        ("route replace 10.0.3.17/32 dev enibbb scope link", false),
        ("route replace 10.0.3.17/32 via 10.0.0.7 dev ens5", false),
        ("route replace blackhole 10.0.3.17/32", false),
        ("route prepend 10.0.3.17/32 dev enibbb scope link", false),
        (
            "route replace 10.0.3.17/32 dev eniaaa scope link src 10.0.0.9",
            false,
        ),
        ("route append 10.0.3.17/32 dev enibbb scope link", true),
        ("route add unreachable 10.0.3.17/32 metric 50", true),
        ("route add 10.0.3.16/28 dev enibbb", true),
        ("-6 route replace 2001:db8::17/128 dev enibbb", false),
        ("-6 route add 2001:db8::17/128 dev enibbb metric 7", false),
        ("-6 route add unreachable 2001:db8::17/128 metric 9", false),
        ("-6 route add 2001:db8::17/128 dev enibbb metric 2000", true),
    ] {
        ip(damage);
        let hurt = look();
        assert_ne!(hurt, whole, "{damage} does nothing");
        net.reroute(pods.clone()).await.expect("puts right");
        assert_eq!(look() == hurt, stays, "{damage}: {}", look());
        assert_eq!(
            look() == whole,
            !stays,
            "{damage}: {}\ninstead of {whole}",
            look()
        );
        if stays {
            ip(&damage.replace("append", "del").replace("add", "del"));
        }
        assert_eq!(look(), whole, "{damage}");
    }
}

/// A daemon that restarts with another mark takes its old rule along.
pub(super) async fn the_mark_may_change() {
    let net = node(&["ens5", "ens6"]);
    let mut wiring = wiring(2, &[prefix("10.0.3.16/28")]);
    apply(&net, &wiring).await;
    let services = ["198.18.0.0/15".parse().expect("parses")];
    let nat = ipam_core::wiring::Nat {
        mark: 0x20,
        ..wiring.nat.clone()
    };
    let other = ipam_core::wiring::host_wiring(&[], 9001, nat, &services);
    wiring.rules = other.rules;
    wiring.nat = other.nat;
    let again = KernelNet::open(settings()).expect("opens");
    apply(&again, &wiring).await;
    let ours: Vec<String> = rules()
        .into_iter()
        .filter(|rule| rule.starts_with("1024:") || rule.starts_with("1535:"))
        .collect();
    assert_eq!(
        ours,
        [
            "1024: from all fwmark 0x20/0x20 lookup main",
            "1535: from all to 198.18.0.0/15 lookup main"
        ]
    );
    assert!(!table().contains("0x00000080"), "{}", table());
}

/// A daemon whose store has lost the further ENI: its rules, marks and table stay until EC2 has told, through
/// repairs, too; and what is known of its blocks by then outranks them.
pub(super) async fn what_an_earlier_run_wired_stays() {
    let single = |text: &str| Block::address(text.parse::<IpAddr>().expect("parses"));
    let blocks = [
        prefix("10.0.3.16/28"),
        single("10.0.4.4"),
        single("10.0.4.5"),
    ];
    let net = node(&["ens5", "ens6"]);
    apply(&net, &wiring(2, &blocks)).await;
    drop(net);
    let looks = || {
        (
            rules(),
            ip("route show table 2"),
            out("nft", "list map ip ipamd enis"),
        )
    };
    let before = looks();
    let of_enis = |rules: &[String]| -> Vec<String> {
        let ours = |rule: &&String| rule.starts_with("1536:") || rule.starts_with("32765:");
        rules.iter().filter(ours).cloned().collect()
    };
    assert_eq!(of_enis(&before.0).len(), 3, "{before:?}");

    let net = Arc::new(KernelNet::open(settings()).expect("opens"));
    let unsure = HostWiring {
        keeps_unnamed: true,
        ..wiring(1, &[])
    };
    for _ in 0..2 {
        apply(&net, &unsure).await;
        let now = looks();
        assert_eq!(of_enis(&now.0), of_enis(&before.0));
        assert_eq!((now.1, now.2), (before.1.clone(), before.2.clone()));
    }

    // One of its addresses is a pod's on the primary ENI by now.
    let mut moved = unsure.clone();
    moved.pods = vec![IpNet::from("10.0.4.4".parse::<IpAddr>().expect("parses"))];
    apply(&net, &moved).await;
    let marks = out("nft", "list map ip ipamd enis");
    assert!(
        marks.contains("10.0.4.5") && !marks.contains("10.0.4.4"),
        "{marks}"
    );

    apply(&net, &wiring(1, &[])).await;
    assert_eq!(of_enis(&rules()), Vec::<String>::new());
    assert!(!out("nft", "list table ip ipamd").contains("enis"));
}
