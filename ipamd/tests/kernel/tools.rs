//! What host tools do to ENIs is noticed, undone where it takes traffic, and told; the rest stays.

use super::{apply, ip, mac, node, out, prefix, rules, wiring};
use ipam_core::wiring::HostWiring;
use ipam_core::{Block, BlockKind};
use ipam_engine::Handle;
use ipam_engine::api::Request;
use ipam_engine::ports::{Foreign, HostNet, KernelEvent};
use ipamd::host_net::{KernelNet, watch};
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::time::sleep;

type Told = Arc<Mutex<Vec<Foreign>>>;

/// A node with two ENIs, wired and watched, and what it tells of others.
async fn watched() -> (Arc<KernelNet>, HostWiring, Told) {
    let net = node(&["ens5", "ens6"]);
    let wiring = with_blocks();
    let (engine, mut door) = Handle::new();
    tokio::spawn(watch(net.clone(), engine).expect("listens"));
    let told = Told::default();
    let notes = told.clone();
    tokio::spawn(async move {
        while let Some(request) = door.recv().await {
            if let Request::Kernel(KernelEvent::Foreign(foreign)) = request {
                notes.lock().expect("whole").push(foreign);
            }
        }
    });
    apply(&net, &wiring).await;
    (net, wiring, told)
}

/// A prefix and a single address on the secondary ENI, and a prefix on the primary.
fn with_blocks() -> HostWiring {
    let single = Block::address(IpAddr::from([10, 0, 5, 1]));
    let mut wiring = wiring(2, &[prefix("10.0.3.16/28"), single]);
    wiring.pods.push("10.0.4.0/28".parse().expect("parses"));
    wiring
}

/// Until the look that follows our own changes is over: it would find what the monitor must notice.
async fn calm() {
    sleep(Duration::from_millis(500)).await;
}

/// Until it is so; generous, since the machine may be busy.
async fn soon(what: &str, so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(
            begin.elapsed() < Duration::from_secs(15),
            "{what}: {}\n{}",
            ip("addr"),
            ip("route")
        );
        sleep(Duration::from_millis(20)).await;
    }
}

fn told(told: &Told, words: &str) -> Option<Foreign> {
    let told = told.lock().expect("whole");
    told.iter().find(|f| f.what.contains(words)).cloned()
}

pub(super) async fn pods_addresses_are_taken_off_the_host() {
    let (_net, _, notes) = watched().await;
    for (address, link) in [
        ("10.0.3.17", "ens6"),
        ("10.0.5.1", "ens6"),
        ("10.0.4.3", "ens5"),
    ] {
        for length in [32, 18] {
            calm().await;
            ip(&format!("addr add {address}/{length} dev {link}"));
            soon(address, || !ip("-o addr").contains(&format!("{address}/"))).await;
        }
        let note = told(&notes, address);
        soon(address, || told(&notes, address).is_some()).await;
        assert!(note.is_none_or(|note| note.undone && note.what.contains(link)));
    }
    // The ENIs' own, and others', stay.
    ip("addr add 192.0.2.9/24 dev ens6");
    ip("addr add 10.0.9.9/32 dev ens5");
    sleep(Duration::from_millis(600)).await;
    let addresses = ip("-o addr");
    for own in ["10.0.0.9/18", "10.0.0.10/18", "192.0.2.9/24", "10.0.9.9/32"] {
        assert!(addresses.contains(own), "{own} is gone: {addresses}");
    }
}

pub(super) async fn routes_that_steal_the_nodes_traffic_go() {
    let (_net, _, notes) = watched().await;
    let before = ip("route show");
    for (route, words, tool) in [
        (
            "default via 10.0.0.1 dev ens6 onlink proto dhcp metric 1024",
            "0.0.0.0/0",
            "systemd-networkd",
        ),
        (
            "default via 10.0.0.1 dev ens6 onlink proto dhcp metric 101",
            "0.0.0.0/0",
            "NetworkManager",
        ),
        (
            "10.0.0.1 dev ens6 proto dhcp scope link metric 512",
            "10.0.0.1/32",
            "systemd-networkd",
        ),
        (
            "10.0.0.2 via 10.0.0.1 dev ens6 onlink proto dhcp metric 512",
            "10.0.0.2/32",
            "systemd-networkd",
        ),
        (
            "10.0.0.0/18 dev ens6 proto static metric 5",
            "10.0.0.0/18",
            "a script",
        ),
    ] {
        calm().await;
        ip(&format!("route add {route}"));
        soon(route, || ip("route show") == before).await;
        let by = |f: &Foreign| f.what.contains(words) && f.tool.contains(tool) && f.undone;
        soon(tool, || notes.lock().expect("whole").iter().any(by)).await;
    }
    // The same by a DHCP client's address: the kernel adds the route by itself.
    ip("addr replace 10.0.0.10/18 dev ens6 valid_lft 3600 preferred_lft 3600");
    ip("addr add 10.0.0.77/18 dev ens6");
    soon("connected", || ip("route show") == before).await;
    assert!(ip("-o addr").contains("10.0.0.77/18"));
    // IPv6 the same.
    calm().await;
    ip("-6 route add default via fe80::1 dev ens6 metric 1024");
    soon("default", || !ip("-6 route show").contains("default")).await;
    // Told, and left: through a secondary ENI to elsewhere. Neither: the primary ENI's own.
    for route in ["192.168.0.0/16 dev ens6", "198.51.100.0/24 dev ens5"] {
        ip(&format!("route add {route}"));
    }
    ip("route add default via 10.0.0.3 dev ens5 metric 300");
    soon("told", || told(&notes, "192.168.0.0/16").is_some()).await;
    sleep(Duration::from_millis(600)).await;
    assert_eq!(
        told(&notes, "192.168.0.0/16").map(|f| f.undone),
        Some(false)
    );
    assert_eq!(told(&notes, "198.51.100"), None);
    let routes = ip("route show");
    for left in [
        "192.168.0.0/16 dev ens6",
        "198.51.100.0/24 dev ens5",
        "via 10.0.0.3 dev ens5",
    ] {
        assert!(routes.contains(left), "{left}: {routes}");
    }
}

pub(super) async fn links_are_put_right() {
    let (_net, _, _) = watched().await;
    let table = ip("route show table 2");
    for damage in [
        "link set ens6 mtu 1500",
        "link set ens5 mtu 1500",
        "link set ens6 down",
    ] {
        calm().await;
        ip(damage);
        soon(damage, || {
            let links = ip("link show ens5") + &ip("link show ens6");
            links.matches("mtu 9001").count() == 2
                && !links.contains("state DOWN")
                && ip("route show table 2") == table
        })
        .await;
    }
}

pub(super) async fn foreign_rules_are_told_and_left() {
    let (_net, _, notes) = watched().await;
    // Longer, until the links' IPv6 addresses are settled: their news are looked at, too.
    sleep(Duration::from_secs(3)).await;
    ip("rule add pref 10000 from 10.0.0.10 lookup 10001");
    ip("rule add pref 100 from 10.0.3.17 lookup 77");
    ip("rule add pref 200 from 192.0.2.1 lookup 77");
    soon("told", || {
        told(&notes, "from 10.0.0.10").is_some() && told(&notes, "from 10.0.3.17").is_some()
    })
    .await;
    let note = told(&notes, "from 10.0.0.10").expect("is there");
    assert_eq!((note.tool, note.undone), ("amazon-ec2-net-utils", false));
    assert_eq!(told(&notes, "192.0.2.1"), None);
    let rules = rules();
    for rule in [
        "10000: from 10.0.0.10 lookup 10001",
        "100: from 10.0.3.17 lookup 77",
    ] {
        assert!(rules.iter().any(|line| line == rule), "{rules:#?}");
    }
    // Ours that are removed come back.
    calm().await;
    ip("rule del pref 1536 from 10.0.3.16/28");
    soon("ours", || {
        self::rules()
            .iter()
            .any(|l| l.starts_with("1536: from 10.0.3.16/28"))
    })
    .await;
}

/// What was there before the daemon is found by the first apply.
pub(super) async fn what_was_done_before_the_start_is_undone() {
    let net = node(&["ens5", "ens6"]);
    ip("link set ens6 up");
    ip("addr add 10.0.0.10/18 dev ens6");
    ip("addr add 10.0.3.17/32 dev ens6");
    ip("route add default via 10.0.0.1 dev ens6 proto dhcp metric 1024");
    let applied = net.apply(with_blocks()).await.expect("applies");
    assert_eq!(applied.missing, []);
    assert!(
        applied.foreign.iter().all(|f| f.undone),
        "{:?}",
        applied.foreign
    );
    assert_eq!(applied.foreign.len(), 2, "{:?}", applied.foreign);
    assert!(!ip("-o addr").contains("10.0.3.17"));
    assert!(!ip("route show").contains("ens6"), "{}", ip("route show"));
    let again = net.apply(with_blocks()).await.expect("applies");
    assert_eq!(again.foreign, []);
    assert_ne!(mac(0), mac(1));
}

/// A tool that does it again and again: it is told, the pauses grow, and it is not a busy loop.
pub(super) async fn a_fight_is_not_fought_for_ever() {
    let (_net, _, notes) = watched().await;
    let begin = Instant::now();
    let mut added = 0_u32;
    let there = || ip("-o addr show dev ens6").contains("10.0.3.17/32");
    while begin.elapsed() < Duration::from_secs(8) {
        if !there() {
            ip("addr add 10.0.3.17/32 dev ens6");
            added += 1;
        }
        sleep(Duration::from_millis(10)).await;
    }
    // 31 at once, each after a tenth of a second; then after 1 s, 2 s, 4 s.
    assert!((5..=36).contains(&added), "{added}");
    if added > 31 {
        assert!(told(&notes, "again and again").is_some());
    }
}

pub(super) async fn single_addresses_go_by_mark() {
    let net = node(&["ens5", "ens6"]);
    let blocks: Vec<Block> = (1..=40)
        .map(|n| Block::address(IpAddr::from([10, 0, 5, n])))
        .collect();
    assert!(
        blocks
            .iter()
            .all(|block| block.kind() == BlockKind::Address)
    );
    apply(&net, &wiring(2, &blocks)).await;
    // One rule for all of them.
    let marked: Vec<String> = rules()
        .into_iter()
        .filter(|rule| rule.starts_with("1536:"))
        .collect();
    assert_eq!(marked, ["1536: from all fwmark 0x200/0x3f00 lookup 2"]);
    let table = out("nft", "list table ip ipamd");
    assert!(table.contains("10.0.5.40 : jump eni-200"), "{table}");
    assert!(ip("route get 10.0.20.20 mark 0x200").contains("ens6"));
    apply(&net, &wiring(2, &blocks[..1])).await;
    assert!(!out("nft", "list table ip ipamd").contains("10.0.5.40"));
}
