//! Every kind of lease at every place among its pod's interfaces, against what Amazon's CNI leaves in a pod and
//! beside it. Numbers and names are written out: they are promises to other programs.

use super::super::written;
use super::*;
use crate::{AttachmentKey, PodRef, Timestamp};
use alloc::vec;

const HOST_MAC: &str = "02:00:00:00:00:0a";
const POD_MAC: &str = "06:00:00:00:00:0b";

fn lease(addresses: &[&str], if_name: &str) -> Lease {
    Lease {
        key: AttachmentKey {
            network: "pods".into(),
            container_id: "sandbox".into(),
            if_name: if_name.into(),
        },
        pod: PodRef::default(),
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        host_if: "eni0d7763386da".into(),
        host_mac: Mac([2, 0, 0, 0, 0, 0xa]),
        pod_mac: Mac([6, 0, 0, 0, 0, 0xb]),
        since: Timestamp(0),
    }
}

/// What a pod has of one address.
struct Row {
    ip: &'static str,
    net: &'static str,
    gateway: &'static str,
    /// Whether the CNI result names it: a node-local address is no address of the pod for anybody else.
    named: bool,
}

const V4: Row = Row {
    ip: "10.0.0.17",
    net: "10.0.0.17/32",
    gateway: "169.254.1.1",
    named: true,
};
const V6: Row = Row {
    ip: "2001:db8::17",
    net: "2001:db8::17/128",
    gateway: "fe80::1",
    named: true,
};
const LOCAL_V4: Row = Row {
    ip: "169.254.172.5",
    net: "169.254.172.5/32",
    gateway: "169.254.1.1",
    named: false,
};
const LOCAL_V6: Row = Row {
    ip: "fd00::ac:5",
    net: "fd00::ac:5/128",
    gateway: "fe80::1",
    named: false,
};

/// What a lease may hold, in the order in which the pod gets it.
const LEASES: [&[&Row]; 6] = [
    &[&V4],
    &[&V6],
    &[&V4, &V6],
    // `IPAMD_FIRST_FAMILY=ipv6`
    &[&V6, &V4],
    &[&V6, &LOCAL_V4],
    &[&V4, &LOCAL_V6],
];

/// The interface, its place, and its table: main for the pod's first, which keeps the default route; 101 and up
/// for further ones.
const PLACES: [(&str, u32, u32); 4] = [
    ("eth0", 0, 254),
    ("net1", 1, 101),
    ("net2", 2, 102),
    ("net32", 32, 132),
];

fn texts<T>(list: &[T], text: impl Fn(&T) -> String) -> Vec<String> {
    list.iter().map(text).collect()
}

fn sysctls(list: &[Sysctl]) -> Vec<String> {
    texts(list, |s| {
        let must = if s.required {
            "required"
        } else {
            "if it can be"
        };
        format!("{}={} {must}", s.key, s.value)
    })
}

#[test]
fn every_lease_at_every_place() {
    for rows in LEASES {
        for (pod_if, place, table) in PLACES {
            for mtu in [9001, 1500] {
                let addresses: Vec<&str> = rows.iter().map(|row| row.ip).collect();
                let lease = lease(&addresses, pod_if);
                let wiring = pod_wiring(&lease, PodInput { mtu, place });
                let case = format!("{addresses:?} {pod_if}");
                in_the_pod(&wiring, rows, pod_if, table, &case);
                on_the_host(&wiring, rows, &case);
                assert_eq!(
                    (wiring.pod_if.as_str(), wiring.mtu),
                    (pod_if, mtu),
                    "{case}"
                );
                // A plugin that does not know of addresses without a gateway must not take one for the pod's.
                let version = if rows.iter().all(|row| row.named) {
                    1
                } else {
                    2
                };
                assert_eq!(wiring.version, version, "{case}");
                let named = rows.iter().filter(|row| row.named).map(|row| row.gateway);
                let gateways = texts(&wiring.gateways, ToString::to_string);
                assert_eq!(gateways, named.collect::<Vec<_>>(), "{case}");
            }
        }
    }
}

fn in_the_pod(wiring: &PodWiring, rows: &[&Row], pod_if: &str, table: u32, case: &str) {
    assert_eq!(wiring.pod_mac.to_string(), POD_MAC);
    let nets: Vec<&str> = rows.iter().map(|row| row.net).collect();
    assert_eq!(
        texts(&wiring.pod_addresses, ToString::to_string),
        nets,
        "{case}"
    );
    // The gateway's own route first: the kernel refuses a default route through what it can't reach.
    let routes = rows.iter().flat_map(|row| {
        let gateway = row.gateway;
        [
            format!("{gateway} dev {pod_if} table {table} scope link"),
            format!("default via {gateway} dev {pod_if} table {table}"),
        ]
    });
    assert_eq!(
        texts(&wiring.pod_routes, written::route),
        routes.collect::<Vec<_>>(),
        "{case}"
    );
    // The gateway is on no wire: the host's end is it.
    let neighbours = rows
        .iter()
        .map(|row| format!("{} dev {pod_if} lladdr {HOST_MAC}", row.gateway));
    let got = texts(&wiring.pod_neighbours, written::neighbour);
    assert_eq!(got, neighbours.collect::<Vec<_>>(), "{case}");
    // What is sent from a further interface's address leaves by it, before main is asked.
    let further = rows.iter().filter(|_| table != 254);
    let rules = further.map(|row| {
        let six = if row.ip.contains(':') { "-6 " } else { "" };
        format!("{six}1536: from {} lookup {table}", row.ip)
    });
    assert_eq!(
        texts(&wiring.pod_rules, written::rule),
        rules.collect::<Vec<_>>(),
        "{case}"
    );
    // A pod without IPv6 keeps what its runtime set.
    let six = [
        "net/ipv6/conf/lo/disable_ipv6=0 if it can be".into(),
        format!("net/ipv6/conf/{pod_if}/disable_ipv6=0 required"),
        format!("net/ipv6/conf/{pod_if}/accept_ra=0 if it can be"),
        format!("net/ipv6/conf/{pod_if}/ndisc_notify=1 if it can be"),
    ];
    let wanted = if has_six(rows) { &six[..] } else { &[] };
    assert_eq!(sysctls(&wiring.pod_sysctls), wanted, "{case}");
}

fn on_the_host(wiring: &PodWiring, rows: &[&Row], case: &str) {
    let host_if = "eni0d7763386da";
    assert_eq!(wiring.host_if, host_if);
    assert_eq!(wiring.host_mac.to_string(), HOST_MAC);
    // In main, whichever interface of the pod it is: rule 512 finds it there.
    let routes = rows
        .iter()
        .map(|row| format!("{} dev {host_if} table 254 scope link", row.ip));
    assert_eq!(
        texts(&wiring.host_routes, written::route),
        routes.collect::<Vec<_>>(),
        "{case}"
    );
    // ARP is answered at once, a new IPv6 address is not.
    let neighbours = rows.iter().filter(|row| row.ip.contains(':'));
    let neighbours = neighbours.map(|row| format!("{} dev {host_if} lladdr {POD_MAC}", row.ip));
    let got = texts(&wiring.host_neighbours, written::neighbour);
    assert_eq!(got, neighbours.collect::<Vec<_>>(), "{case}");
    // The number of rules on the host does not depend on the number of pods.
    assert_eq!(wiring.host_rules, vec![], "{case}");
    let mut wanted = vec!["net/ipv6/conf/eni0d7763386da/accept_ra=0 if it can be"];
    wanted
        .extend(has_six(rows).then_some("net/ipv6/conf/eni0d7763386da/accept_dad=0 if it can be"));
    assert_eq!(sysctls(&wiring.host_sysctls), wanted, "{case}");
}

fn has_six(rows: &[&Row]) -> bool {
    rows.iter().any(|row| row.ip.contains(':'))
}

/// The CNI result names the first addresses of the wiring, as many as there are gateways: a node-local one must
/// come behind them, wherever the lease has it.
#[test]
fn node_local_addresses_come_last() {
    for (addresses, wanted, gateway) in [
        (
            ["169.254.172.5", "2001:db8::17"],
            [V6.net, LOCAL_V4.net],
            "fe80::1",
        ),
        (
            ["fd00::ac:5", "10.0.0.17"],
            [V4.net, LOCAL_V6.net],
            "169.254.1.1",
        ),
    ] {
        let wiring = pod_wiring(
            &lease(&addresses, "eth0"),
            PodInput {
                mtu: 9001,
                place: 0,
            },
        );
        assert_eq!(texts(&wiring.pod_addresses, ToString::to_string), wanted);
        assert_eq!(texts(&wiring.gateways, ToString::to_string), [gateway]);
    }
}

#[test]
fn versions_are_by_node_local_addresses() {
    assert_eq!((version(false), version(true)), (1, 2));
}
