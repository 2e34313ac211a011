//! `host_net` on the real kernel, in a network namespace of its own: works as root and as an ordinary
//! user (a user namespace), and leaves nothing behind.

mod connections;
mod repair;
mod sockets;
mod sources;
mod tools;

use ipam_core::Block;
use ipam_core::Mac;
use ipam_core::wiring::{HostInput, HostWiring, Nat, host_wiring};
use ipam_engine::Handle;
use ipam_engine::api::Request;
use ipam_engine::ports::{HostNet, KernelEvent, Leftover};
use ipamd::config::{Config, Host};
use ipamd::host_net::{KernelNet, watch};
use ipnet::IpNet;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Set in the process that runs inside the namespace.
const INSIDE: &str = "IPAMD_KERNEL_TEST_INSIDE";

type Case = (&'static str, fn() -> Pin<Box<dyn Future<Output = ()>>>);

const CASES: &[Case] = &[
    ("eni_is_wired_and_unwired", || {
        Box::pin(eni_is_wired_and_unwired())
    }),
    ("applying_again_changes_nothing", || {
        Box::pin(applying_again_changes_nothing())
    }),
    ("others_things_are_left_alone", || {
        Box::pin(others_things_are_left_alone())
    }),
    ("a_missing_link_is_told_and_awaited", || {
        Box::pin(a_missing_link_is_told_and_awaited())
    }),
    ("pods_are_seen_told_and_swept", || {
        Box::pin(pods_are_seen_told_and_swept())
    }),
    ("single_addresses_go_by_mark", || {
        Box::pin(tools::single_addresses_go_by_mark())
    }),
    ("connections_of_finished_pods_are_forgotten", || {
        Box::pin(connections::connections_of_finished_pods_are_forgotten())
    }),
    ("a_pods_link_is_seen_and_its_end_told", || {
        Box::pin(connections::a_pods_link_is_seen_and_its_end_told())
    }),
    ("many_connections_are_forgotten_in_pieces", || {
        Box::pin(connections::many_connections_are_forgotten_in_pieces())
    }),
    ("without_rights_it_says_so", || {
        Box::pin(connections::without_rights_it_says_so())
    }),
    ("pods_addresses_are_taken_off_the_host", || {
        Box::pin(tools::pods_addresses_are_taken_off_the_host())
    }),
    ("routes_that_steal_the_nodes_traffic_go", || {
        Box::pin(tools::routes_that_steal_the_nodes_traffic_go())
    }),
    ("links_are_put_right", || {
        Box::pin(tools::links_are_put_right())
    }),
    ("what_is_missing_is_told", || {
        Box::pin(repair::what_is_missing_is_told())
    }),
    ("foreign_rules_are_told_and_left", || {
        Box::pin(tools::foreign_rules_are_told_and_left())
    }),
    ("what_was_done_before_the_start_is_undone", || {
        Box::pin(tools::what_was_done_before_the_start_is_undone())
    }),
    ("what_others_take_away_comes_back", || {
        Box::pin(repair::what_others_take_away_comes_back())
    }),
    ("the_nftables_table_comes_back", || {
        Box::pin(repair::the_nftables_table_comes_back())
    }),
    ("what_is_ours_and_nobodys_goes", || {
        Box::pin(repair::what_is_ours_and_nobodys_goes())
    }),
    ("others_are_left_through_repairs", || {
        Box::pin(repair::others_are_left_through_repairs())
    }),
    ("settings_that_host_tools_write_come_back", || {
        Box::pin(repair::settings_that_host_tools_write_come_back())
    }),
    ("looks_replace_nothing", || {
        Box::pin(repair::looks_replace_nothing())
    }),
    ("pods_routes_are_put_back", || {
        Box::pin(repair::pods_routes_are_put_back())
    }),
    ("pods_routes_that_lead_elsewhere_are_put_right", || {
        Box::pin(repair::pods_routes_that_lead_elsewhere_are_put_right())
    }),
    ("routes_of_every_kind_are_put_right", || {
        Box::pin(repair::routes_of_every_kind_are_put_right())
    }),
    ("the_primarys_link_comes_back", || {
        Box::pin(repair::the_primarys_link_comes_back())
    }),
    ("what_an_earlier_run_wired_stays", || {
        Box::pin(repair::what_an_earlier_run_wired_stays())
    }),
    ("the_mark_may_change", || {
        Box::pin(repair::the_mark_may_change())
    }),
    ("pods_send_from_their_own_addresses_alone", || {
        Box::pin(sources::pods_send_from_their_own_addresses_alone())
    }),
    ("a_pods_link_is_hardened", || {
        Box::pin(sources::a_pods_link_is_hardened())
    }),
    ("without_descriptors_the_socket_waits", || {
        Box::pin(sockets::without_descriptors_the_socket_waits())
    }),
    ("the_socket_comes_back", || {
        Box::pin(sockets::the_socket_comes_back())
    }),
    ("a_link_named_as_pods_is_told", || {
        Box::pin(sources::a_link_named_as_pods_is_told())
    }),
    ("egress_addresses_get_answers_alone", || {
        Box::pin(sources::egress_addresses_get_answers_alone())
    }),
    ("a_fight_is_not_fought_for_ever", || {
        Box::pin(tools::a_fight_is_not_fought_for_ever())
    }),
];

/// Run by another case, inside its namespaces.
const HELPERS: &[Case] = &[
    ("without_rights_inside", || {
        Box::pin(connections::without_rights_inside())
    }),
    ("send_inside", || Box::pin(sources::send_inside())),
];

fn main() -> ExitCode {
    let filter = std::env::args().skip(1).find(|arg| !arg.starts_with('-'));
    if std::env::args().any(|arg| arg == "--list") {
        CASES.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let wanted = CASES
        .iter()
        .filter(|(name, _)| filter.as_ref().is_none_or(|f| name.contains(f)));
    if let Ok(name) = std::env::var(INSIDE) {
        let all = CASES.iter().chain(HELPERS);
        all.filter(|(case, _)| *case == name)
            .for_each(|(_, test)| run(test()));
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed) = (0_u32, 0_u32);
    for (name, _) in wanted {
        // A namespace a case: none sees what another did.
        let status = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "--mount"])
            .arg(std::env::current_exe().expect("has a path"))
            .env(INSIDE, name)
            .status();
        let good = status.as_ref().is_ok_and(std::process::ExitStatus::success);
        println!("test {name} ... {}", if good { "ok" } else { "FAILED" });
        passed += u32::from(good);
        failed += u32::from(!good);
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("runs")
        .block_on(async {
            timeout(Duration::from_secs(30), test)
                .await
                .expect("ends in time");
        });
}

fn out(program: &str, args: &str) -> String {
    let output = Command::new(program)
        .args(args.split_whitespace())
        .output()
        .expect("runs");
    assert!(
        output.status.success(),
        "{program} {args}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn ip(args: &str) -> String {
    out("ip", args)
}

fn mac(n: u8) -> Mac {
    Mac([2, 0, 0, 0, 0, n])
}

fn settings() -> Host {
    Config::load(&BTreeMap::<String, String>::new()).config.host
}

/// A node with its primary ENI `ens5`, and `ens6` if asked for.
fn node(links: &[&str]) -> Arc<KernelNet> {
    ip("link set lo up");
    for (n, link) in links.iter().enumerate() {
        let address = mac(u8::try_from(n).expect("fits"));
        ip(&format!(
            "link add {link} address {address} mtu 1500 type veth peer name wire{n}"
        ));
        ip(&format!("link set wire{n} up"));
    }
    ip("link set ens5 up");
    ip("addr add 10.0.0.9/18 dev ens5");
    ip("route add default via 10.0.0.1 dev ens5");
    Arc::new(KernelNet::open(settings()).expect("opens"))
}

fn wiring(enis: u8, blocks: &[Block]) -> HostWiring {
    let nat = Nat {
        pod_if_prefixes: ["eni".to_owned()].into(),
        inside: vec!["10.0.0.0/16".parse().expect("parses")],
        source: "10.0.0.9".parse().ok(),
        ..Nat::default()
    };
    let inputs: Vec<HostInput<'_>> = (0..enis)
        .map(|n| HostInput {
            mac: mac(n),
            primary: n == 0,
            device_index: n.into(),
            card: 0,
            address: format!("10.0.0.{}/18", 9 + n).parse().ok(),
            blocks: if n == 0 { &[] } else { blocks },
        })
        .collect();
    host_wiring(&inputs, 9001, nat, &[])
}

fn prefix(text: &str) -> Block {
    Block::new(text.parse::<IpNet>().expect("parses")).expect("is a block")
}

async fn apply(net: &KernelNet, wiring: &HostWiring) {
    let applied = net.apply(wiring.clone()).await.expect("applies");
    assert_eq!(applied.missing, []);
}

fn rules() -> Vec<String> {
    ip("rule")
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

async fn eni_is_wired_and_unwired() {
    let net = node(&["ens5", "ens6"]);
    apply(&net, &wiring(2, &[prefix("10.0.3.16/28")])).await;
    assert_eq!(
        rules(),
        [
            "0: from all lookup local",
            "512: from all lookup main suppress_prefixlength 31",
            "513: from all iif ens5 lookup 20000",
            "513: from all iif ens6 lookup 20000",
            "1024: from all fwmark 0x80/0x80 lookup main",
            "1536: from 10.0.3.16/28 lookup 2",
            "32765: from 10.0.0.10 lookup 2",
            "32766: from all lookup main",
            "32767: from all lookup default",
        ]
    );
    let table = ip("route show table 2");
    assert!(table.contains("default via 10.0.0.1 dev ens6"), "{table}");
    assert!(
        table.contains("10.0.0.1 dev ens6") && table.contains("scope link"),
        "{table}"
    );
    let link = ip("link show ens6");
    assert!(link.contains("mtu 9001") && link.contains("UP"), "{link}");
    assert!(ip("addr show ens6").contains("10.0.0.10/18"));
    // The node's own traffic to its subnet leaves by the primary ENI.
    assert!(!ip("route show").contains("ens6"), "{}", ip("route show"));
    assert!(ip("route get 10.0.20.20").contains("ens5"));
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").expect("writes");
    // Nobody has that: what comes in for it goes no further, what leaves for it does.
    let stray = ip("route show table 20000");
    assert_eq!(stray.trim(), "unreachable 10.0.3.16/28 proto static");
    assert!(ip("route get 10.0.3.18").contains("ens5"));
    // A pod that is there, as a source.
    ip("route add 10.0.3.17 dev ens5");
    assert!(ip("route get 10.0.20.20 from 10.0.3.17 iif ens5").contains("ens6"));
    for link in ["ens5", "ens6"] {
        let path = format!("/proc/sys/net/ipv4/conf/{link}/rp_filter");
        assert_eq!(
            std::fs::read_to_string(path).expect("reads").trim(),
            "2",
            "{link}"
        );
    }

    apply(&net, &wiring(1, &[])).await;
    assert_eq!(rules().len(), 5, "{:?}", rules());
    assert!(!ip("route show table all").contains("unreachable 10.0.3.16"));
    assert!(out("nft", "list table ip ipamd").contains("snat to 10.0.0.9 fully-random"));
}

async fn applying_again_changes_nothing() {
    let net = node(&["ens5", "ens6"]);
    let wiring = wiring(
        2,
        &[
            prefix("10.0.3.16/28"),
            Block::address("10.0.4.4".parse::<IpAddr>().expect("parses")),
        ],
    );
    apply(&net, &wiring).await;
    let look = || {
        (
            rules(),
            ip("route show table all"),
            ip("-o addr"),
            out("nft", "-a list ruleset"),
        )
    };
    let before = look();
    // Also by a daemon that knows nothing of the first's work.
    apply(&net, &wiring).await;
    assert_eq!(look(), before);
    apply(&KernelNet::open(settings()).expect("opens"), &wiring).await;
    let after = look();
    assert_eq!((after.0, after.1, after.2), (before.0, before.1, before.2));
}

async fn others_things_are_left_alone() {
    let net = node(&["ens5", "ens6"]);
    let foreign = [
        "512 to 10.0.9.9 lookup main",
        "1536 from 10.0.9.9 lookup 2",
        "1536 from 192.0.2.0/24 iif ens5 lookup 77",
        "1024 fwmark 0x40/0x40 lookup 77",
        "32765 from 192.0.2.7 lookup 77",
        "100 from 192.0.2.8 lookup 2",
    ];
    for rule in foreign {
        ip(&format!("rule add pref {rule}"));
    }
    ip("route add 192.0.2.0/24 dev ens5 table 77");
    out("nft", "add table ip calico");
    out("nft", "add table inet ipamd");
    apply(&net, &wiring(2, &[prefix("10.0.3.16/28")])).await;
    apply(&net, &wiring(1, &[])).await;
    let rules = rules();
    for rule in foreign {
        let (pref, rest) = rule.split_once(' ').expect("has both");
        let told = rules.iter().any(|line| {
            line.starts_with(&format!("{pref}: "))
                && rest.split(' ').all(|word| line.contains(word))
        });
        assert!(told, "{rule} is gone: {rules:#?}");
    }
    assert!(ip("route show table 77").contains("192.0.2.0/24"));
    let tables = out("nft", "list tables");
    assert!(
        tables.contains("table ip calico") && tables.contains("table inet ipamd"),
        "{tables}"
    );
}

async fn a_missing_link_is_told_and_awaited() {
    let net = node(&["ens5"]);
    let (engine, mut door) = Handle::new();
    tokio::spawn(watch(net.clone(), engine).expect("listens"));
    let wiring = wiring(2, &[prefix("10.0.3.16/28")]);
    let applied = net.apply(wiring.clone()).await.expect("applies");
    assert_eq!(applied.missing, [mac(1)]);
    ip(&format!(
        "link add ens6 address {} type veth peer name wire1",
        mac(1)
    ));
    loop {
        if let Some(Request::Kernel(KernelEvent::LinkAppeared(found))) = door.recv().await
            && found == mac(1)
        {
            break;
        }
    }
    apply(&net, &wiring).await;
    assert!(ip("route show table 2").contains("default via 10.0.0.1 dev ens6"));
    ip("link del ens6");
    loop {
        if let Some(Request::Kernel(KernelEvent::LinkGone(found))) = door.recv().await
            && found == mac(1)
        {
            break;
        }
    }
}

fn pod(name: &str, address: &str) {
    ip(&format!("link add {name} type veth peer name p{name}"));
    ip(&format!("link set {name} up"));
    ip(&format!("link set p{name} up"));
    ip(&format!("route add {address}/32 dev {name} scope link"));
}

async fn pods_are_seen_told_and_swept() {
    let net = node(&["ens5"]);
    let (engine, mut door) = Handle::new();
    tokio::spawn(watch(net.clone(), engine).expect("listens"));
    sleep(Duration::from_millis(50)).await;
    pod("eniaaa", "10.0.3.17");
    pod("enibbb", "10.0.3.18");
    // Calico's Felix gives its routes another metric.
    ip("route add 10.0.3.19/32 dev enibbb scope link metric 1024");
    let mut told = Vec::new();
    while told.len() < 3 {
        if let Some(Request::Kernel(KernelEvent::PodRouteAdded(ip, link))) = door.recv().await {
            told.push((ip.to_string(), link));
        }
    }
    let survey = net.survey().await.expect("looks");
    assert_eq!(
        survey
            .links
            .iter()
            .filter(|found| **found == mac(0))
            .count(),
        1
    );
    let seen: Vec<(String, String)> = survey
        .pod_routes
        .iter()
        .map(|(ip, link)| (ip.to_string(), link.clone()))
        .collect();
    let want = [
        ("10.0.3.17", "eniaaa"),
        ("10.0.3.18", "enibbb"),
        ("10.0.3.19", "enibbb"),
    ]
    .map(|(ip, link)| (ip.to_owned(), link.to_owned()));
    assert_eq!(seen, want);
    assert_eq!(told, want);

    let leftover = |address: &str, link: &str| Leftover {
        address: address.parse().expect("parses"),
        host_if: link.into(),
    };
    // A link that carries another address too stays; a link that is no pod's is not touched.
    let leftovers = vec![
        leftover("10.0.3.17", "eniaaa"),
        leftover("10.0.3.18", "enibbb"),
        leftover("10.0.0.9", "ens5"),
    ];
    net.sweep(leftovers.clone()).await.expect("sweeps");
    net.sweep(leftovers).await.expect("sweeps again");
    let links = ip("-br link");
    assert!(
        !links.contains("eniaaa@") && links.contains("enibbb@") && links.contains("ens5@"),
        "{links}"
    );
    let routes = ip("route show");
    assert!(
        !routes.contains("10.0.3.17") && !routes.contains("10.0.3.18"),
        "{routes}"
    );
    assert!(routes.contains("10.0.3.19"), "{routes}");
    let mut gone = Vec::new();
    while gone.len() < 2 {
        if let Some(Request::Kernel(KernelEvent::PodRouteGone(ip))) = door.recv().await {
            gone.push(ip.to_string());
        }
    }
    gone.sort();
    assert_eq!(gone, ["10.0.3.17", "10.0.3.18"]);
}
