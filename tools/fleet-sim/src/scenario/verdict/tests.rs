//! Controls: each promise that is judged in the peace, broken on purpose in the smallest world, must be
//! said to be broken; the same world left alone breaks none.

use super::super::known::Dice;
use super::super::probe::Probe;
use super::super::runtime::Habits;
use super::*;
use crate::node::Node;
use crate::oracle::refusals::Asked;
use crate::rng::Rng;
use crate::settle::settings;
use ipam_core::cloud::{CloudError, ErrorClass};
use ipam_core::plan::{Note, Policy};
use ipam_core::{Intent, Timestamp};
use ipam_engine::ports::{Clock, Store, Write};
use ipam_engine::{Refusal, RefusalKind};
use vpc_model::request::{AssignPrivateIpAddresses, CreateNetworkInterface, WantedV4};
use vpc_model::{Admission, Caller};

/// An m5.large with a daemon that has settled.
async fn settled(policy: Policy) -> (World, Machine) {
    let world = World::of_one_node().expect("is a world");
    let node = Node::new(&world, "a").expect("is there");
    let mut machine = Machine::new(
        node,
        settings(policy),
        "m5.large",
        (Dice::default(), Habits::default()),
    );
    machine.site.starts(&machine.settings);
    machine.node.start(machine.settings.clone());
    machine.node.kernel.tell_links().await;
    tokio::time::sleep(Duration::from_secs(1200)).await;
    (world, machine)
}

fn few() -> Policy {
    Policy {
        minimum_ip: Some(4),
        max_eni: Some(1),
        ..Policy::default()
    }
}

/// What the judge says.
async fn said(world: &World, machine: &Machine, wrote: bool) -> Vec<Promise> {
    Judge::new(world, machine, wrote).judge().await;
    heard(world)
}

fn heard(world: &World) -> Vec<Promise> {
    let breaches = std::mem::take(&mut world.oracle().breaches);
    breaches.into_iter().map(|b| b.promise).collect()
}

#[tokio::test(start_paused = true)]
async fn a_world_that_is_well_breaks_nothing() {
    let (world, machine) = settled(few()).await;
    assert_eq!(said(&world, &machine, false).await, vec![]);
    books(&world, std::slice::from_ref(&machine));
    assert_eq!(heard(&world), vec![]);
}

#[tokio::test(start_paused = true)]
async fn targets_that_are_missed_are_seen() {
    for (wanted, promise) in [(9, Promise::ReachesTarget), (1, Promise::SurplusGoesBack)] {
        let (world, mut machine) = settled(few()).await;
        // The daemon goes on with other settings than the judge believes.
        machine.settings.policy.minimum_ip = Some(wanted);
        let said = said(&world, &machine, false).await;
        assert!(said.contains(&promise), "{promise:?}: {said:?}");
    }
    let (world, mut machine) = settled(few()).await;
    machine.settings.policy.families = vec![Family::V6];
    assert!(
        said(&world, &machine, false)
            .await
            .contains(&Promise::HasIpv6Prefix)
    );
    machine.settings.policy.families = vec![Family::V4];
    let said = said(&world, &machine, true).await;
    assert!(said.contains(&Promise::SettledPoolIsQuiet), "{said:?}");
}

#[tokio::test(start_paused = true)]
async fn what_ec2_gave_and_nobody_knows_is_seen() {
    let (world, machine) = settled(few()).await;
    let first = oracle::enis(&world).remove(0);
    let request = AssignPrivateIpAddresses {
        eni: first.id.as_str().into(),
        wanted: WantedV4 {
            address_count: Some(1),
            ..WantedV4::default()
        },
        allow_reassignment: false,
    };
    operator::call(&world, Action::AssignPrivateIpAddresses(request)).expect("is done");
    assert!(
        said(&world, &machine, false)
            .await
            .contains(&Promise::KnowsWhatEc2Gave)
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_half_way_for_ever_is_seen() {
    let (world, machine) = settled(few()).await;
    let mut eni = machine.site.store.enis().remove(0);
    eni.intent = Some(Intent::Attach);
    let mut disk = machine.site.store.clone();
    disk.commit(&[Write::Eni(eni)]).expect("is written");
    assert!(
        said(&world, &machine, false)
            .await
            .contains(&Promise::NothingHalfWay)
    );
}

#[tokio::test(start_paused = true)]
async fn pods_and_leases_that_do_not_fit_are_seen() {
    let (world, machine) = settled(few()).await;
    machine
        .node
        .add(7, Duration::from_secs(5))
        .await
        .expect("fits");
    assert!(
        said(&world, &machine, false)
            .await
            .contains(&Promise::LeaseEndsWithPod)
    );
    let (world, machine) = settled(few()).await;
    let living = oracle::Living {
        ips: vec!["10.0.0.77".parse().expect("is an address")],
        host_if: "eni1".into(),
        host_mac: None,
        since: Duration::ZERO,
        wired: true,
        broken: false,
        unstored: false,
    };
    let key = ("a".to_owned(), crate::node::named("gone", "gone").0);
    world.oracle().living.insert(key, living);
    assert!(
        said(&world, &machine, false)
            .await
            .contains(&Promise::PodKeepsLease)
    );
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_answers_nothing_is_seen() {
    let (world, mut machine) = settled(few()).await;
    machine.node.kill();
    assert_eq!(
        said(&world, &machine, false).await,
        vec![Promise::AnswersInPeace]
    );
}

#[tokio::test(start_paused = true)]
async fn a_warm_pool_that_refuses_or_waits_is_seen() {
    let (world, machine) = settled(few()).await;
    let mut shown = machine.node.snapshot().await.expect("runs");
    for n in 0..4 {
        machine
            .node
            .add(n, Duration::from_secs(5))
            .await
            .expect("fits");
    }
    shown.totals.free = 1;
    // It must grow for this one.
    Judge::new(&world, &machine, false).probe(&shown).await;
    assert!(heard(&world).contains(&Promise::WarmPoolAnswersAtOnce));
    for n in 4..8 {
        machine
            .node
            .add(n, Duration::from_secs(5))
            .await
            .expect("fits");
    }
    machine.node.del(1_000_000).await.expect("is there");
    tokio::time::sleep(Duration::from_secs(120)).await;
    machine
        .node
        .add(8, Duration::from_secs(5))
        .await
        .expect("fits");
    Judge::new(&world, &machine, false).probe(&shown).await;
    assert!(heard(&world).contains(&Promise::GetsAddressIfItCan));
}

#[tokio::test(start_paused = true)]
async fn a_leak_is_seen() {
    let (world, machine) = settled(few()).await;
    let first = oracle::enis(&world).remove(0);
    let request = CreateNetworkInterface {
        subnet: Some(first.subnet.as_str().into()),
        ..CreateNetworkInterface::default()
    };
    let request = Action::CreateNetworkInterface(request).into();
    let (by, now) = (Caller::node("a"), world.time());
    let made = world
        .vpc()
        .execute(&Admission::immediate(), &by, &request, now);
    made.expect("is made");
    tokio::time::sleep(Duration::from_secs(900)).await;
    books(&world, std::slice::from_ref(&machine));
    assert!(heard(&world).contains(&Promise::BooksAreClean));
}

fn refusal(kind: RefusalKind, cause: &'static str, notes: Vec<Note>) -> Refusal {
    Refusal {
        kind,
        message: "no address".into(),
        cause,
        notes,
    }
}

fn held(world: &World, code: &str, wait: u64) -> Note {
    Note::Held {
        error: CloudError {
            action: "AssignPrivateIpAddresses",
            class: ErrorClass::Unauthorized,
            code: code.into(),
            message: String::new(),
        },
        subnet: None,
        kind: None,
        until: Clock::now(world) + Duration::from_secs(wait),
    }
}

fn judged(world: &World, machine: &Machine, refusal: &Refusal) -> bool {
    let account = Account::of(machine.site.place()).expect("is there");
    let asked = Asked {
        key: crate::node::named("s", "s").0,
        wiring: ipam_core::wiring::WIRING_VERSION,
        since: world.elapsed(),
        deadline: world.elapsed() + Duration::from_secs(30),
        before: 0,
        waiting: 1,
        local: None,
    };
    refusals::judge(&account, &asked, refusal).is_empty()
}

#[tokio::test(start_paused = true)]
async fn refusals_that_are_wrong_are_seen() {
    let (world, machine) = settled(few()).await;
    let wrong = |kind, cause, notes| !judged(&world, &machine, &refusal(kind, cause, notes));
    use RefusalKind::{BadRequest, Cancelled, Internal, Stopping, TryAgain};
    assert!(wrong(BadRequest, "plugin_too_old", vec![]));
    assert!(wrong(Internal, "store_failed", vec![]));
    assert!(wrong(Cancelled, "withdrawn", vec![]));
    assert!(wrong(Stopping, "stopping", vec![]));
    assert!(wrong(TryAgain, "too_many_waiting", vec![]));
    assert!(wrong(TryAgain, "node_not_wired", vec![]));
    let limit = |blocks_per_eni| Note::AtLimit {
        enis: 1,
        blocks_per_eni,
        by_setting: true,
    };
    // Slots are open, and addresses free.
    assert!(wrong(TryAgain, "instance_limit", vec![limit(9)]));
    let said = held(&world, "UnauthorizedOperation", 60);
    assert!(wrong(TryAgain, "unauthorized", vec![said]));
    let rests = Note::Cooling(3, Timestamp(0));
    assert!(wrong(TryAgain, "cooling", vec![rests]));
    assert!(wrong(TryAgain, "growing", vec![Note::Unknown]));
    let key = ("a".to_owned(), crate::node::named("s", "s").0);
    world.oracle().ended(world.elapsed(), &key);
    assert!(!wrong(Cancelled, "withdrawn", vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_full_node_refuses_rightly_and_not_for_another_limit() {
    let (world, machine) = settled(few()).await;
    for n in 0..9 {
        machine
            .node
            .add(n, Duration::from_secs(20))
            .await
            .expect("fits");
    }
    let refused = machine.node.add(9, Duration::from_secs(30)).await;
    let right = refused.expect_err("is full").expect("a daemon answers");
    assert!(judged(&world, &machine, &right), "{right:?}");
    let mut wrong = right;
    wrong.notes = vec![Note::AtLimit {
        enis: 1,
        blocks_per_eni: 8,
        by_setting: true,
    }];
    assert!(!judged(&world, &machine, &wrong));
}

#[tokio::test(start_paused = true)]
async fn reports_that_are_untrue_or_endless_are_seen() {
    let (world, machine) = settled(few()).await;
    let note = held(&world, "UnauthorizedOperation", 300);
    let account = || Account::of(machine.site.place()).expect("is there");
    assert!(account().untrue(&note).is_some(), "EC2 never said so");
    let (now, code) = (world.elapsed(), "UnauthorizedOperation");
    let action = "AssignPrivateIpAddresses";
    world.oracle().ledger.heard(now, "a", action, code);
    assert_eq!(
        (account().untrue(&note), account().endless(&note)),
        (None, None)
    );
    tokio::time::sleep(Duration::from_secs(2400)).await;
    let later = held(&world, code, 300);
    assert!(
        account().endless(&later).is_some(),
        "forty minutes are too long"
    );
    assert!(
        account().endless(&Note::Growing(3)).is_some(),
        "no call is made"
    );
    assert!(!account().excuses(&later, Matter::Short(Family::V4)));
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_waits_too_long_is_seen() {
    let (world, machine) = settled(few()).await;
    let probe = |name: &str| {
        let bound = Duration::from_secs(20);
        Probe::new(&machine.site, name.into(), bound, Rng::new(4))
    };
    probe("fits").live().await;
    assert_eq!(heard(&world), vec![]);
    for n in 0..8 {
        let _ = machine.node.add(n, Duration::from_secs(20)).await;
    }
    for n in 8..12 {
        let _ = machine.node.add(n, Duration::from_secs(60)).await;
    }
    probe("too-many").live().await;
    assert!(heard(&world).contains(&Promise::ServedInTime));
}

/// What the daemon might say of itself, each without a reason.
#[tokio::test(start_paused = true)]
async fn reports_that_are_not_so_are_seen() {
    let (_, machine) = settled(few()).await;
    assert_eq!(report::broken_by(&machine, &[]), vec![]);
    for (note, promise) in [
        (Note::Growing(3), Promise::NoEndlessHold),
        (Note::NotProvisioning, Promise::ReportIsTrue),
        (Note::NoPrefixesHere, Promise::ReportIsTrue),
    ] {
        let words = note.to_string();
        assert_eq!(
            report::broken_by(&machine, &[note]),
            vec![promise],
            "{words}"
        );
    }
}
