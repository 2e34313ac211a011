//! Controls: each promise is broken on purpose and must be told of, and the same without the mistake
//! must not.

use super::*;
use crate::settle::settings;
use ipam_core::Family;
use ipam_core::plan::Policy;
use ipnet::Ipv4Net;
use vpc_model::request::{
    AssignPrivateIpAddresses, AttachNetworkInterface, DeleteNetworkInterface,
    DetachNetworkInterface, UnassignPrivateIpAddresses, WantedV4,
};

const NODE: &str = "n";
const MINE: &str = "i-mine";

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn oracle(policy: Policy) -> Oracle {
    let mut oracle = Oracle::default();
    let run = Run::new(MINE, "sim", "m5.large", &settings(policy), (at(0), true));
    oracle.runs(NODE, run);
    oracle
}

/// One that this node's daemon made, attached to it.
fn eni(id: &str) -> Eni {
    Eni {
        id: id.into(),
        attachment: Some(format!("attach-{id}")),
        node: Some(NODE.into()),
        mac: [0; 6],
        subnet: "subnet-1".into(),
        own: Vec::new(),
        blocks: Vec::new(),
        first: false,
        card: 0,
        made_by_node: true,
        owner: Some(MINE.into()),
        cluster: Some("sim".into()),
        foreign: false,
        no_manage: false,
        going: false,
    }
}

fn with_addresses(id: &str, count: u8) -> Eni {
    let single = |n| IpNet::V4(Ipv4Net::from(std::net::Ipv4Addr::new(10, 0, 0, n)));
    Eni {
        blocks: (1..=count).map(single).collect(),
        ..eni(id)
    }
}

fn enis(count: usize) -> Vec<Eni> {
    (0..count).map(|n| eni(&format!("eni-{n}"))).collect()
}

fn attach(id: &str) -> Action {
    Action::AttachNetworkInterface(AttachNetworkInterface {
        eni: id.into(),
        instance: MINE.into(),
        device_index: 1,
        card: Some(0),
    })
}

fn detach(id: &str) -> Action {
    Action::DetachNetworkInterface(DetachNetworkInterface {
        attachment: format!("attach-{id}").as_str().into(),
        force: false,
    })
}

fn delete(id: &str) -> Action {
    Action::DeleteNetworkInterface(DeleteNetworkInterface { eni: id.into() })
}

fn assign(id: &str) -> Action {
    Action::AssignPrivateIpAddresses(AssignPrivateIpAddresses {
        eni: id.into(),
        wanted: WantedV4::default(),
        allow_reassignment: false,
    })
}

fn unassign(id: &str) -> Action {
    Action::UnassignPrivateIpAddresses(UnassignPrivateIpAddresses {
        eni: id.into(),
        addresses: Vec::new(),
        prefixes: Vec::new(),
    })
}

fn told(oracle: &Oracle) -> Vec<Promise> {
    oracle.breaches.iter().map(|b| b.promise).collect()
}

#[test]
fn more_enis_than_the_type_or_the_setting_allows() {
    // An m5.large takes three.
    for (max_eni, count, broken) in [(None, 3, false), (None, 4, true), (Some(1), 2, true)] {
        let mut oracle = oracle(Policy {
            max_eni,
            ..Policy::default()
        });
        oracle.counts_enis(at(9), NODE, &attach("eni-0"), &enis(count));
        assert_eq!(
            !oracle.breaches.is_empty(),
            broken,
            "{count} of {max_eni:?}"
        );
        assert!(told(&oracle).iter().all(|p| *p == Promise::MaxEniKept));
    }
    // One that waits to be attached counts as well, if it is to be.
    let mut three = enis(3);
    three.push(Eni {
        node: None,
        attachment: None,
        ..eni("eni-new")
    });
    let mut judge = oracle(Policy::default());
    judge.pools.made.insert("eni-new".into(), (at(1), 3));
    judge.counts_enis(at(9), NODE, &attach("eni-0"), &three);
    assert_eq!(told(&judge), [Promise::MaxEniKept]);
    let mut judge = oracle(Policy::default());
    judge.pools.made.insert("eni-new".into(), (at(1), 3));
    judge.did_not(at(2), NODE, &attach("eni-new"), "IncorrectState");
    judge.counts_enis(at(9), NODE, &attach("eni-0"), &three);
    assert_eq!(told(&judge), []);
}

#[test]
fn more_addresses_than_an_eni_has_slots() {
    for (count, carries, broken) in [(9, None, false), (10, None, true), (4, Some(4), true)] {
        let mut oracle = Oracle::default();
        if let Some(ipv4) = carries {
            oracle.pools.carries.insert(NODE.into(), (3, ipv4));
        }
        let settings = settings(Policy::default());
        let run = Run::new(MINE, "sim", "m5.large", &settings, (at(0), true));
        oracle.runs(NODE, run);
        oracle.counts_slots(at(9), &[with_addresses("eni-0", count)]);
        assert_eq!(!oracle.breaches.is_empty(), broken, "{count}");
        assert!(told(&oracle).iter().all(|p| *p == Promise::SlotsKept));
    }
}

#[test]
fn what_is_others_is_written_to() {
    let free = || Eni {
        node: None,
        attachment: None,
        owner: Some("i-dead".into()),
        ..eni("eni-0")
    };
    let others = |cluster: &str| Eni {
        cluster: Some(cluster.into()),
        ..free()
    };
    let by_hand = || Eni {
        owner: None,
        cluster: None,
        made_by_node: false,
        ..eni("eni-0")
    };
    let table: [(&str, Action, Eni, bool); 11] = [
        ("its own", detach("eni-0"), eni("eni-0"), false),
        ("a dead node's", delete("eni-0"), free(), false),
        ("a dead node's is attached", attach("eni-0"), free(), true),
        ("another cluster's", delete("eni-0"), others("other"), true),
        (
            "nobody's cluster's",
            delete("eni-0"),
            Eni {
                cluster: None,
                ..free()
            },
            true,
        ),
        (
            "another node's",
            assign("eni-0"),
            Eni {
                node: Some("m".into()),
                owner: Some("i-other".into()),
                ..eni("eni-0")
            },
            true,
        ),
        ("one plugged in by hand", assign("eni-0"), by_hand(), false),
        ("the same is detached", detach("eni-0"), by_hand(), true),
        (
            "one to be left alone",
            assign("eni-0"),
            Eni {
                no_manage: true,
                ..by_hand()
            },
            true,
        ),
        (
            "the primary can't be left alone",
            assign("eni-0"),
            Eni {
                no_manage: true,
                first: true,
                ..by_hand()
            },
            false,
        ),
        (
            "another account's",
            unassign("eni-0"),
            Eni {
                foreign: true,
                ..by_hand()
            },
            true,
        ),
    ];
    for (what, action, eni, broken) in table {
        let mut oracle = oracle(Policy::default());
        oracle.checks_target(at(9), NODE, &action, &[eni]);
        assert_eq!(!oracle.breaches.is_empty(), broken, "{what}");
        assert!(
            told(&oracle)
                .iter()
                .all(|p| *p == Promise::OthersAreLeftAlone)
        );
    }
}

#[test]
fn an_eni_goes_as_soon_as_it_is_there() {
    for (now, broken) in [(69, true), (70, false)] {
        let mut oracle = oracle(Policy::default());
        oracle.pools.attached.insert("eni-0".into(), at(10));
        oracle.is_old_enough(at(now), NODE, "attach-eni-0", &enis(1));
        assert_eq!(!oracle.breaches.is_empty(), broken, "at {now}");
        assert!(told(&oracle).iter().all(|p| *p == Promise::YoungEniStays));
    }
}

#[test]
fn something_goes_while_an_assign_is_in_doubt() {
    for action in [unassign("eni-0"), detach("eni-0")] {
        let mut oracle = oracle(Policy::default());
        let call = ("eni-0", Family::V4);
        oracle.assigned(at(1), NODE, call, Vec::new());
        oracle.checks_doubt(at(9), NODE, &action, &enis(2));
        assert_eq!(told(&oracle), [Promise::NoShrinkInDoubt]);
        oracle.breaches.clear();
        oracle.checks_doubt(at(9), NODE, &unassign("eni-1"), &enis(2));
        oracle.assign_answered(NODE, call);
        oracle.checks_doubt(at(9), NODE, &action, &enis(2));
        assert_eq!(told(&oracle), []);
    }
}

#[test]
fn more_is_bought_than_is_needed() {
    let policy = Policy {
        warm_ip: Some(2),
        ..Policy::default()
    };
    // 2 warm ones, a step, and what two calls round up.
    for (count, calm, waiting, broken) in [
        (48, true, 0, false),
        (49, true, 0, true),
        (49, false, 0, false),
        (49, true, 5, false),
    ] {
        let mut oracle = oracle(policy.clone());
        if !calm {
            oracle.troubled(NODE);
        }
        for _ in 0..waiting {
            oracle.waits(at(8), NODE, true);
        }
        let eni = with_addresses("eni-0", count);
        oracle.counts_bought(at(9), NODE, &assign("eni-0"), &[eni]);
        assert_eq!(
            !oracle.breaches.is_empty(),
            broken,
            "{count} {calm} {waiting}"
        );
        assert!(
            told(&oracle)
                .iter()
                .all(|p| *p == Promise::GrowthCountsInFlight)
        );
    }
}

#[test]
fn a_create_is_repeated_as_another_request() {
    let create = Action::CreateNetworkInterface(CreateNetworkInterface::default());
    for (code, broken) in [
        ("IdempotentParameterMismatch", true),
        ("RequestLimitExceeded", false),
    ] {
        let mut oracle = oracle(Policy::default());
        oracle.did_not(at(9), NODE, &create, code);
        assert_eq!(!oracle.breaches.is_empty(), broken, "{code}");
        assert!(
            told(&oracle)
                .iter()
                .all(|p| *p == Promise::IntentBeforeWrite)
        );
    }
}
