//! Negative controls: each promise is broken on purpose, and the oracle must say so; beside it stands
//! the truth, of which it must say nothing.

use super::{Address, Eni, Gathered, Oracle, Promise, Told};
use crate::store::Memory;
use ipam_core::wiring::{PodInput, PodWiring, pod_wiring};
use ipam_core::{AttachmentKey, Family, Lease, Mac, PodRef, Timestamp};
use ipam_engine::ports::{Loaded, Store, Write};
use ipam_engine::{Allocate, Collected, Refusal, RefusalKind};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use vpc_model::request::{Action, AssignPrivateIpAddresses, UnassignPrivateIpAddresses, WantedV4};

const NOW: Duration = Duration::from_secs(1_000);
const MAC: Mac = Mac([2, 0, 0, 0, 0, 1]);

fn key(container: &str) -> AttachmentKey {
    AttachmentKey {
        network: "sim".into(),
        container_id: container.into(),
        if_name: "eth0".into(),
    }
}

fn ip(last: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, last])
}

fn lease(container: &str, last: u8) -> Lease {
    Lease {
        key: key(container),
        pod: PodRef::default(),
        addresses: vec![ip(last)],
        host_if: format!("eni{container}"),
        host_mac: MAC,
        pod_mac: MAC,
        since: Timestamp(0),
    }
}

fn disk(leases: &[Lease]) -> Memory {
    let mut disk = Memory::default();
    // An open in another boot drops leases.
    drop(disk.load());
    let writes: Vec<Write> = leases.iter().cloned().map(Write::Lease).collect();
    disk.commit(&writes)
        .map_or_else(|error| panic!("{error}"), |()| disk)
}

/// An ENI of node `n` with 10.0.0.1 to 10.0.0.9.
fn eni() -> Eni {
    Eni {
        id: "eni-1".into(),
        attachment: None,
        node: Some("n".into()),
        mac: [2; 6],
        subnet: "subnet-1".into(),
        own: vec![ip(100)],
        blocks: (1..10).map(|n| ip(n).into()).collect(),
        first: true,
        card: 0,
        made_by_node: true,
        owner: None,
        cluster: None,
        foreign: false,
        no_manage: false,
        going: false,
    }
}

/// An answer to an ADD: an address, and what the world says to it.
struct Scene {
    container: &'static str,
    last: u8,
    routed: Option<String>,
    tracked: bool,
    leases: Vec<Lease>,
    enis: Vec<Eni>,
}

fn fine(container: &'static str, last: u8) -> Scene {
    Scene {
        container,
        last,
        routed: None,
        tracked: false,
        leases: vec![lease(container, last)],
        enis: vec![eni()],
    }
}

fn tell(oracle: &mut Oracle, now: Duration, scene: &Scene) {
    let store = disk(&scene.leases);
    let attachment = key(scene.container);
    let host_if = format!("eni{}", scene.container);
    oracle.answered(
        now,
        &Told {
            node: "n",
            attachment: &attachment,
            addresses: vec![Address {
                ip: ip(scene.last),
                routed: scene.routed.clone(),
                tracked: scene.tracked,
            }],
            host_if: &host_if,
            host_mac: MAC,
            cooldown: Duration::from_secs(30),
            given: &scene.enis,
            store: &store,
        },
    );
}

fn promises(oracle: &Oracle) -> Vec<Promise> {
    oracle
        .breaches
        .iter()
        .map(|breach| breach.promise)
        .collect()
}

/// An oracle that knows of pod `a` with 10.0.0.1.
fn with_a() -> Oracle {
    let mut oracle = Oracle::default();
    tell(&mut oracle, NOW, &fine("a", 1));
    assert_eq!(promises(&oracle), [], "the truth");
    oracle
}

fn told(scene: &Scene) -> Vec<Promise> {
    let mut oracle = with_a();
    tell(&mut oracle, NOW, scene);
    promises(&oracle)
}

#[test]
fn answers_to_adds() {
    assert_eq!(told(&fine("b", 2)), []);
    assert_eq!(told(&fine("a", 1)), [], "the same again");
    assert_eq!(told(&fine("a", 2)), [Promise::PodKeepsAddress]);
    assert_eq!(told(&fine("b", 1)), [Promise::NoAddressInTwoPods]);
    let routed = Scene {
        routed: Some("enia".into()),
        ..fine("b", 2)
    };
    assert_eq!(told(&routed), [Promise::NoRouteNamesIt]);
    let tracked = Scene {
        tracked: true,
        ..fine("b", 2)
    };
    assert_eq!(told(&tracked), [Promise::ConnectionsForgotten]);
    let unstored = Scene {
        leases: Vec::new(),
        ..fine("b", 2)
    };
    assert_eq!(told(&unstored), [Promise::DurableBeforeTold]);
    assert_eq!(told(&fine("b", 100)), [Promise::OnWhatEc2Gave]);
    assert_eq!(told(&fine("b", 50)), [Promise::OnWhatEc2Gave]);
}

#[test]
fn freed_addresses_rest() {
    for (after, broken) in [(29, true), (31, false)] {
        let mut oracle = with_a();
        oracle.ended(NOW, &("n".into(), key("a")));
        tell(&mut oracle, NOW + Duration::from_secs(after), &fine("b", 1));
        let rests = promises(&oracle) == [Promise::FreedAddressRests];
        assert_eq!(rests, broken, "{:?}", oracle.breaches);
    }
}

#[test]
fn leases_survive_a_start() {
    for (leases, broken) in [(vec![], true), (vec![lease("a", 1)], false)] {
        let mut oracle = with_a();
        let loaded: Loaded = disk(&leases).load();
        oracle.started(NOW, "n", &loaded);
        assert_eq!(promises(&oracle) == [Promise::LeaseSurvives], broken);
    }
}

#[test]
fn calls_to_ec2() {
    let mut oracle = with_a();
    let assign = Action::AssignPrivateIpAddresses(AssignPrivateIpAddresses {
        eni: "eni-1".into(),
        wanted: WantedV4::default(),
        allow_reassignment: false,
    });
    oracle.sends(NOW, "n", &Memory::default(), &assign);
    assert_eq!(promises(&oracle), [Promise::IntentBeforeWrite]);
    oracle.assigned(NOW, "n", ("eni-1", Family::V4), Vec::new());
    oracle.sends(NOW, "n", &Memory::default(), &assign);
    assert!(promises(&oracle).contains(&Promise::DoubtIsSettled));

    for (last, broken) in [(1, true), (2, false)] {
        let mut oracle = with_a();
        let unassign = Action::UnassignPrivateIpAddresses(UnassignPrivateIpAddresses {
            eni: "eni-1".into(),
            addresses: vec![[10, 0, 0, last].into()],
            prefixes: Vec::new(),
        });
        oracle.does(NOW, "n", &unassign, &[eni()]);
        assert_eq!(promises(&oracle) == [Promise::NotTakenFromLiving], broken);
    }
}

fn refusal(kind: RefusalKind, cause: &'static str) -> Refusal {
    Refusal {
        kind,
        message: "words".into(),
        cause,
        notes: Vec::new(),
    }
}

#[test]
fn refusals_and_silence() {
    let refused = |kind, cause, own_del| {
        let mut oracle = Oracle::default();
        oracle.add_refused(NOW, &key("a"), &refusal(kind, cause), own_del);
        promises(&oracle)
    };
    assert_eq!(refused(RefusalKind::TryAgain, "cooling", false), []);
    let wordless = refused(RefusalKind::TryAgain, "", false);
    assert_eq!(wordless, [Promise::RefusalHasCause]);
    assert_eq!(refused(RefusalKind::Cancelled, "withdrawn", true), []);
    let withdrawn = refused(RefusalKind::Cancelled, "withdrawn", false);
    assert_eq!(withdrawn, [Promise::WithdrawnByItsOwnDel]);
    let mut oracle = Oracle::default();
    oracle.unanswered(NOW, &key("a"), NOW);
    assert_eq!(promises(&oracle), [Promise::AnsweredByDeadline]);

    for (kind, broken) in [
        (RefusalKind::Internal, false),
        (RefusalKind::TryAgain, true),
    ] {
        let mut oracle = Oracle::default();
        oracle.del_refused(NOW, &key("a"), &refusal(kind, "cause"));
        assert_eq!(promises(&oracle) == [Promise::DelIsServed], broken);
    }
}

fn wiring(lease: &Lease) -> PodWiring {
    pod_wiring(lease, PodInput { mtu: 0, place: 0 })
}

#[test]
fn what_plugins_understand() {
    let heard = |wiring_version, local: bool, egress| {
        let mut one = lease("a", 1);
        if local {
            one.addresses
                .push(IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0xac, 1]));
        }
        let request = Allocate {
            key: key("a"),
            pod: PodRef::default(),
            timeout: None,
            wiring_version,
            veth_prefix: None,
            mtu: None,
        };
        let mut oracle = Oracle::default();
        oracle.understood(NOW, &request, &wiring(&one), (&[Family::V4], egress), false);
        promises(&oracle)
    };
    assert_eq!(heard(1, false, None), []);
    assert_eq!(heard(2, true, Some(Family::V6)), []);
    assert_eq!(
        heard(1, true, Some(Family::V6)),
        [Promise::OldPluginUnderstands]
    );
    assert_eq!(
        heard(2, false, Some(Family::V6)),
        [Promise::EveryFamilyTold]
    );
}

#[test]
fn dels_and_gcs() {
    for (leases, broken) in [(vec![], true), (vec![lease("a", 1)], false)] {
        let mut oracle = with_a();
        oracle.del_answered(NOW, "n", &key("b"), &disk(&leases));
        assert_eq!(promises(&oracle) == [Promise::DelEndsItsOwn], broken);
    }
    let gathered = |ended: Option<AttachmentKey>, forgotten: &[AttachmentKey]| {
        let mut oracle = with_a();
        let collected = ended.map(|key| Collected {
            key: Some(key),
            host_if: "enix".into(),
            host_mac: MAC,
            addresses: Vec::new(),
        });
        let gc = Gathered {
            node: "n",
            network: "sim",
            listed: &BTreeSet::from([key("listed")]),
            forgotten,
            collected: collected.as_slice(),
            store: &disk(&[lease("a", 1), lease("old", 2)]),
        };
        oracle.gathered(NOW, &gc);
        promises(&oracle)
    };
    assert_eq!(gathered(None, &[]), []);
    assert_eq!(gathered(Some(key("gone")), &[key("gone")]), []);
    assert_eq!(gathered(None, &[key("old")]), [Promise::GcEndsTheUnlisted]);
    let other = AttachmentKey {
        network: "other".into(),
        ..key("gone")
    };
    for wrong in [key("listed"), key("a"), other] {
        let found = gathered(Some(wrong), &[]);
        assert_eq!(found, [Promise::GcSparesTheListed]);
    }
}

#[test]
fn checks() {
    let (right, wrong) = (wiring(&lease("a", 1)), wiring(&lease("a", 2)));
    let (a, b) = (key("a"), key("b"));
    let asked = |key, told, answer| {
        let mut oracle = with_a();
        oracle.checked(NOW, ("n", key), told, answer);
        promises(&oracle)
    };
    assert_eq!(asked(&a, Some(&right), Some(&right)), []);
    assert_eq!(asked(&b, None, None), []);
    let lies = [Promise::CheckTellsTheTruth];
    assert_eq!(asked(&a, Some(&right), Some(&wrong)), lies);
    assert_eq!(asked(&a, Some(&right), None), lies);
    assert_eq!(asked(&b, None, Some(&wrong)), lies);
}
