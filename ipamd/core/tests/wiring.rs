//! The kernel's side as the design has it: rules by priority, tables by ENI, marks by block, a pod's link. By number,
//! and not by the code's own names for them.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

use ipam_core::wiring::{HostInput, HostWiring, Nat, PodInput, Rule, Six, host_wiring, pod_wiring};
use ipam_core::{AttachmentKey, Block, Lease, Mac, PodRef, Timestamp};
use ipnet::IpNet;
use std::net::IpAddr;

const HOST: Mac = Mac([2, 0, 0, 0, 0, 1]);
const POD: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn block(text: &str) -> Block {
    let net: IpNet = text.parse().unwrap();
    Block::new(net).unwrap()
}

/// A rule as `ip rule` shows it.
fn words(rule: &Rule) -> String {
    let mut words = format!("{}:", rule.priority);
    if rule.v6 {
        words.push_str(" v6");
    }
    for (name, net) in [("from", rule.from), ("to", rule.to)] {
        if let Some(net) = net {
            words.push_str(&format!(" {name} {net}"));
        }
    }
    if let Some((mark, mask)) = rule.fwmark {
        words.push_str(&format!(" mark {mark:#x}/{mask:#x}"));
    }
    words.push_str(&format!(" table {}", rule.table));
    if let Some(length) = rule.suppress_prefix_len {
        words.push_str(&format!(" suppress {length}"));
    }
    words
}

/// Two ENIs: the node's own, and one with a prefix, two addresses and a /80.
fn host(services: &[&str]) -> HostWiring {
    let blocks = [
        vec![block("10.0.0.16/28")],
        vec![
            block("10.0.1.32/28"),
            block("10.0.1.77/32"),
            block("10.0.1.99/32"),
            block("2001:db8:1::/80"),
        ],
    ];
    let eni = |index: u32, address: &str| HostInput {
        mac: Mac([2, 0, 0, 0, 1, u8::try_from(index).unwrap()]),
        primary: index == 0,
        device_index: index,
        card: 0,
        address: Some(address.parse().unwrap()),
        blocks: &blocks[index as usize],
    };
    let enis = [eni(0, "10.0.0.5/24"), eni(1, "10.0.1.5/24")];
    let services: Vec<IpNet> = services.iter().map(|s| s.parse().unwrap()).collect();
    host_wiring(&enis, 9001, Nat::default(), &services)
}

#[test]
fn a_nodes_rules_are_those_of_the_design() {
    let wiring = host(&["172.20.0.0/16"]).with_six(Six {
        forwards: true,
        egress: Vec::new(),
    });
    let rules: Vec<String> = wiring.rules.iter().map(words).collect();
    assert_eq!(
        rules,
        [
            "512: table 254 suppress 31",
            "512: v6 table 254 suppress 127",
            "1024: mark 0x80/0x80 table 254",
            "1535: to 172.20.0.0/16 table 254",
            "1536: mark 0x200/0x3f00 table 2",
            "1536: from 10.0.1.32/28 table 2",
            "1536: v6 from 2001:db8:1::/80 table 2",
            "32765: from 10.0.1.5/32 table 2",
        ]
    );
}

#[test]
fn single_addresses_have_the_mark_of_their_eni() {
    let marks = host(&[]).nat.eni_marks;
    let marks: Vec<(String, u32)> = marks.iter().map(|(ip, m)| (ip.to_string(), *m)).collect();
    assert_eq!(
        marks,
        [("10.0.1.77".into(), 0x200), ("10.0.1.99".into(), 0x200)]
    );
}

#[test]
fn every_block_is_named_as_pods() {
    let pods: Vec<String> = host(&[]).pods.iter().map(ToString::to_string).collect();
    assert_eq!(
        pods,
        [
            "10.0.0.16/28",
            "10.0.1.32/28",
            "10.0.1.77/32",
            "10.0.1.99/32",
            "2001:db8:1::/80"
        ]
    );
}

#[test]
fn an_enis_table_leads_to_its_subnets_router() {
    let wiring = host(&[]);
    let [own, further] = &wiring.enis[..] else {
        panic!("{:?}", wiring.enis)
    };
    assert_eq!((own.table, own.not_in_main, own.address), (254, None, None));
    assert_eq!(own.routes("eth0"), []);
    assert_eq!(further.table, 2);
    // What the kernel adds to main by itself must go.
    assert_eq!(further.not_in_main, Some("10.0.1.0/24".parse().unwrap()));
    let routes = further.routes("eth1");
    let routes: Vec<String> = routes
        .iter()
        .map(|r| format!("{} via {:?} table {}", r.dst, r.via, r.table))
        .collect();
    assert_eq!(
        routes,
        [
            "10.0.1.1/32 via None table 2",
            "0.0.0.0/0 via Some(10.0.1.1) table 2",
            "fe80:ec2::1/128 via None table 2",
            "::/0 via Some(fe80:ec2::1) table 2",
        ]
    );
}

fn lease(addresses: &[&str]) -> Lease {
    Lease {
        key: AttachmentKey {
            network: "n".into(),
            container_id: "c".into(),
            if_name: "eth0".into(),
        },
        pod: PodRef::default(),
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        host_if: "eni1".into(),
        host_mac: HOST,
        pod_mac: POD,
        since: Timestamp(1),
    }
}

#[test]
fn a_pods_gateway_is_the_host_end_of_its_link() {
    for (address, gateway) in [("10.0.0.17", "169.254.1.1"), ("2001:db8::17", "fe80::1")] {
        let wiring = pod_wiring(
            &lease(&[address]),
            PodInput {
                mtu: 9001,
                place: 0,
            },
        );
        let gateway: IpAddr = gateway.parse().unwrap();
        let [neighbour] = &wiring.pod_neighbours[..] else {
            panic!("{:?}", wiring.pod_neighbours)
        };
        assert_eq!((neighbour.ip, neighbour.mac), (gateway, HOST));
        assert_eq!(wiring.gateways, [gateway]);
        assert_eq!(wiring.pod_rules, []);
        assert!(wiring.pod_routes.iter().all(|r| r.table == 254));
        let no_router = wiring
            .host_sysctls
            .iter()
            .find(|s| s.key.ends_with("eni1/accept_ra"));
        assert_eq!(no_router.map(|s| s.value.as_str()), Some("0"));
    }
}

/// The first interface keeps the default route of the pod.
#[test]
fn a_further_interface_has_a_table_and_a_rule_of_its_own() {
    for place in 1..4 {
        let wiring = pod_wiring(&lease(&["10.0.0.17"]), PodInput { mtu: 9001, place });
        let table = 100 + place;
        assert!(wiring.pod_routes.len() == 2 && wiring.pod_routes.iter().all(|r| r.table == table));
        let rules: Vec<String> = wiring.pod_rules.iter().map(words).collect();
        assert_eq!(rules, [format!("1536: from 10.0.0.17/32 table {table}")]);
        // On the host it is a local pod like any other.
        assert!(wiring.host_routes.iter().all(|r| r.table == 254));
    }
}

#[test]
fn a_node_local_address_has_no_gateway_in_the_result() {
    let input = PodInput {
        mtu: 9001,
        place: 0,
    };
    let wiring = pod_wiring(&lease(&["169.254.172.9", "2001:db8::17"]), input);
    assert_eq!(wiring.gateways, ["fe80::1".parse::<IpAddr>().unwrap()]);
    let order: Vec<IpAddr> = wiring.pod_addresses.iter().map(IpNet::addr).collect();
    assert_eq!(order, lease(&["2001:db8::17", "169.254.172.9"]).addresses);
    assert_eq!(wiring.version, 2);
}
