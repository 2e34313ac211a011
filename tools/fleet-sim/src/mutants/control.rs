//! The oracle can collect breaches: for each promise that it keeps in mind a breach is shown to it. Without this, an
//! oracle that swallows all would be as green as a perfect daemon.

use crate::oracle::{Address, Oracle, Told};
use crate::store::Memory;
use std::net::IpAddr;
use std::time::Duration;
use vpc_model::request::{Action, AssignPrivateIpAddresses, UnassignPrivateIpAddresses, WantedV4};

const IP: &str = "10.0.0.9";

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn ip() -> IpAddr {
    IP.parse().unwrap()
}

fn key(sandbox: &str) -> ipam_core::AttachmentKey {
    crate::node::named(sandbox, sandbox).0
}

/// Tells the oracle that a pod was answered with [`IP`].
fn answer(oracle: &mut Oracle, now: Duration, sandbox: &str) {
    let told = Told {
        node: "a",
        attachment: &key(sandbox),
        addresses: vec![Address {
            ip: ip(),
            routed: None,
            tracked: false,
        }],
        host_if: "eni1",
        host_mac: ipam_core::Mac([2, 0, 0, 0, 0, 1]),
        cooldown: at(30),
        given: &[],
        store: &Memory::default(),
    };
    oracle.answered(now, &told);
}

/// Whether a breach was collected whose words have this in them.
fn saw(oracle: &Oracle, words: &str) -> bool {
    oracle.breaches.iter().any(|b| b.what.contains(words))
}

#[test]
fn a_breach_is_kept() {
    let mut oracle = Oracle::default();
    answer(&mut oracle, at(1), "p");
    assert!(
        !oracle.breaches.is_empty(),
        "nothing is on the disk, and nothing is given"
    );
}

#[test]
fn an_address_in_two_pods_is_seen() {
    let mut oracle = Oracle::default();
    answer(&mut oracle, at(1), "p");
    assert!(!saw(&oracle, "while"));
    answer(&mut oracle, at(2), "q");
    assert!(saw(&oracle, "while"), "{:?}", oracle.breaches);
}

#[test]
fn an_address_without_rest_is_seen() {
    let mut oracle = Oracle::default();
    answer(&mut oracle, at(1), "p");
    oracle.ended(at(10), &("a".into(), key("p")));
    answer(&mut oracle, at(50), "q");
    assert!(!saw(&oracle, "was freed at"));
    oracle.ended(at(60), &("a".into(), key("q")));
    answer(&mut oracle, at(80), "r");
    assert!(saw(&oracle, "was freed at"), "{:?}", oracle.breaches);
}

#[test]
fn a_robbed_pod_is_seen() {
    let mut oracle = Oracle::default();
    answer(&mut oracle, at(1), "p");
    let IpAddr::V4(v4) = ip() else { return };
    let action = Action::UnassignPrivateIpAddresses(UnassignPrivateIpAddresses {
        eni: "eni-1".into(),
        addresses: vec![v4],
        prefixes: Vec::new(),
    });
    oracle.does(at(2), "b", &action, &[]);
    assert!(!saw(&oracle, "back under"), "another node's pod");
    oracle.does(at(2), "a", &action, &[]);
    assert!(saw(&oracle, "back under"), "{:?}", oracle.breaches);
}

#[test]
fn a_lease_that_is_not_stored_is_seen() {
    let mut oracle = Oracle::default();
    answer(&mut oracle, at(1), "p");
    assert!(
        saw(&oracle, "no lease is on the disk"),
        "{:?}",
        oracle.breaches
    );
}

#[test]
fn a_write_without_an_intent_is_seen() {
    let mut oracle = Oracle::default();
    let action = Action::AssignPrivateIpAddresses(AssignPrivateIpAddresses {
        eni: "eni-1".into(),
        wanted: WantedV4 {
            address_count: Some(1),
            ..WantedV4::default()
        },
        allow_reassignment: false,
    });
    oracle.sends(at(1), "a", &Memory::default(), &action);
    assert!(saw(&oracle, "without"), "{:?}", oracle.breaches);
}

#[test]
fn a_lease_that_a_restart_lost_is_seen() {
    let mut oracle = Oracle::default();
    answer(&mut oracle, at(1), "p");
    oracle.started(at(2), "a", &Memory::default().load());
    assert!(
        saw(&oracle, "its disk has no lease"),
        "{:?}",
        oracle.breaches
    );
}
