//! Every value survives the way over the wire; every misfit is named.

use ipam_core::wiring::{Neighbour, PodWiring, Route, Rule, Scope, Sysctl, WIRING_BASE};
use ipam_core::{AttachmentKey, Mac, PodRef};
use ipam_proto::{ConvertError, Problem, v1};
use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;
use std::net::IpAddr;

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9._-]{1,20}"
}

fn net() -> impl Strategy<Value = IpNet> {
    (any::<IpAddr>(), 0u8..=128).prop_map(|(ip, len)| {
        IpNet::new(ip, if ip.is_ipv4() { len % 33 } else { len }).expect("a legal length")
    })
}

fn mac() -> impl Strategy<Value = Mac> {
    any::<[u8; 6]>().prop_map(Mac)
}

fn sysctl() -> impl Strategy<Value = Sysctl> {
    (".{0,20}", ".{0,9}", any::<bool>()).prop_map(|(key, value, required)| Sysctl {
        key,
        value,
        required,
    })
}

fn route() -> impl Strategy<Value = Route> {
    (
        net(),
        any::<Option<IpAddr>>(),
        name(),
        any::<bool>(),
        any::<u32>(),
    )
        .prop_map(|(dst, via, dev, link, table)| {
            let scope = if link { Scope::Link } else { Scope::Global };
            Route {
                dst,
                via,
                dev,
                scope,
                table,
            }
        })
}

fn neighbour() -> impl Strategy<Value = Neighbour> {
    (name(), any::<IpAddr>(), mac()).prop_map(|(dev, ip, mac)| Neighbour { dev, ip, mac })
}

fn rule() -> impl Strategy<Value = Rule> {
    let nets = (proptest::option::of(net()), proptest::option::of(net()));
    let numbers = (
        any::<u32>(),
        any::<u32>(),
        any::<Option<(u32, u32)>>(),
        any::<Option<u32>>(),
    );
    (any::<bool>(), nets, numbers).prop_map(|(v6, (from, to), numbers)| {
        let (priority, table, fwmark, suppress_prefix_len) = numbers;
        Rule {
            priority,
            v6,
            from,
            to,
            fwmark,
            table,
            suppress_prefix_len,
        }
    })
}

fn wiring() -> impl Strategy<Value = PodWiring> {
    let ends = (name(), mac(), name(), mac(), any::<u32>());
    let sysctls = (vec(sysctl(), 0..4), vec(sysctl(), 0..4));
    let addresses = vec((net(), any::<IpAddr>()), 0..4);
    let lists = (
        vec(route(), 0..4),
        vec(neighbour(), 0..4),
        vec(route(), 0..4),
        vec(rule(), 0..4),
    );
    (ends, sysctls, addresses, lists).prop_map(|(ends, sysctls, addresses, lists)| PodWiring {
        version: WIRING_BASE,
        host_if: ends.0,
        host_mac: ends.1,
        pod_if: ends.2,
        pod_mac: ends.3,
        mtu: ends.4,
        host_sysctls: sysctls.0,
        pod_sysctls: sysctls.1,
        pod_addresses: addresses.iter().map(|a| a.0).collect(),
        gateways: addresses.iter().map(|a| a.1).collect(),
        pod_routes: lists.0,
        host_neighbours: lists.1.iter().rev().cloned().collect(),
        pod_neighbours: lists.1,
        host_routes: lists.2,
        pod_rules: lists.3.iter().rev().cloned().collect(),
        host_rules: lists.3,
    })
}

proptest! {
    #[test]
    fn wiring_survives_the_wire(wiring in wiring()) {
        let bytes = v1::PodWiring::from(wiring.clone()).encode_to_vec();
        let message = v1::PodWiring::decode(bytes.as_slice()).expect("decodes");
        prop_assert_eq!(PodWiring::try_from(message), Ok(wiring));
    }

    #[test]
    fn key_and_pod_survive_the_wire(key in [name(), name(), name()], pod in [".*", ".*", ".*"]) {
        let [network, container_id, if_name] = key;
        let key = AttachmentKey { network, container_id, if_name };
        prop_assert_eq!(AttachmentKey::try_from(v1::Key::from(key.clone())), Ok(key));
        let [namespace, name, uid] = pod;
        let pod = PodRef { namespace, name, uid };
        prop_assert_eq!(PodRef::from(v1::Pod::from(pod.clone())), pod);
    }

    /// Whatever bytes arrive, the answer is a value or a named field, never a panic.
    #[test]
    fn any_message_converts_or_says_why(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(message) = v1::PodWiring::decode(bytes.as_slice()) {
            drop(PodWiring::try_from(message));
        }
    }
}

fn sample() -> v1::PodWiring {
    v1::PodWiring {
        version: WIRING_BASE,
        host_if: "eni0".into(),
        host_mac: "02:00:00:00:00:01".into(),
        pod_if: "eth0".into(),
        pod_mac: "02:00:00:00:00:02".into(),
        mtu: 9001,
        pod_addresses: vec!["10.0.0.9/32".into()],
        gateways: vec!["169.254.1.1".into()],
        pod_routes: vec![v1::Route {
            dst: "0.0.0.0/0".into(),
            via: "169.254.1.1".into(),
            dev: "eth0".into(),
            on_link: false,
            table: 254,
        }],
        ..v1::PodWiring::default()
    }
}

#[test]
fn misfits_are_named() {
    assert!(PodWiring::try_from(sample()).is_ok());
    let bad = |change: fn(&mut v1::PodWiring)| {
        let mut message = sample();
        change(&mut message);
        let ConvertError { field, problem } = PodWiring::try_from(message).expect_err("a misfit");
        (field, problem)
    };
    assert_eq!(
        bad(|w| w.version = 3),
        ("version".into(), Problem::Version(3))
    );
    assert_eq!(
        bad(|w| w.version = 0),
        ("version".into(), Problem::Version(0))
    );
    assert_eq!(
        bad(|w| w.host_if.clear()),
        ("host_if".into(), Problem::Missing)
    );
    assert_eq!(
        bad(|w| w.pod_mac.clear()),
        ("pod_mac".into(), Problem::Missing)
    );
    assert_eq!(
        bad(|w| w.gateways.clear()),
        ("gateways".into(), Problem::Count(0, 1))
    );
    let text = |text: &str, wanted| Problem::Text {
        text: text.into(),
        wanted,
    };
    assert_eq!(
        bad(|w| w.pod_routes[0].dst = "10.0.0.0/33".into()),
        (
            "pod_routes[0].dst".into(),
            text("10.0.0.0/33", "a network in CIDR notation")
        )
    );
    assert_eq!(
        bad(|w| w.pod_addresses[0] = "10.0.0.9".into()),
        (
            "pod_addresses[0]".into(),
            text("10.0.0.9", "a network in CIDR notation")
        )
    );
}

/// Names are kept on disk, sent back, and written to logs.
#[test]
fn names_are_bounded_and_in_one_line() {
    let key = |container_id: String| {
        AttachmentKey::try_from(v1::Key {
            network: "net".into(),
            container_id,
            if_name: "eth0".into(),
        })
    };
    assert!(key("c".repeat(255)).is_ok());
    let error = key("c".repeat(400_000)).expect_err("is too long");
    assert_eq!(
        error.to_string(),
        "field container_id: 400000 bytes, where at most 255 are taken"
    );
    for text in ["a\nb", "a\u{1b}[2J", "a\0"] {
        let error = key(text.into()).expect_err("has a control character");
        assert_eq!(error.problem, Problem::Control);
        let named = v1::Pod {
            name: text.into(),
            ..v1::Pod::default()
        };
        let error = ipam_proto::pod(named).expect_err("has a control character");
        assert_eq!(error.field, "pod.name");
    }
    let nobody = ipam_proto::pod(v1::Pod::default());
    assert_eq!(nobody, Ok(PodRef::default()));
}
