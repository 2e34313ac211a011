//! What must never come of the store's records, EC2's word and the kernel's: an address with two pods, one that is
//! given too early, or one that leads nowhere.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::{World, key};
use ipam_core::check::check;
use ipam_core::datastore::{Datastore, Request, Touched};
use ipam_core::outcome::{Done, finish};
use ipam_core::plan::{Action, Memory};
use ipam_core::reconcile::{Drift, reconcile};
use ipam_core::*;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_767_225_600_000);
const REST: Duration = Duration::from_secs(30);
/// Past the window in which a Describe may lag, and past the time between two that agree.
const LATER: Duration = Duration::from_secs(120);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn block(text: &str) -> Block {
    Block::new(text.parse().unwrap()).unwrap()
}

/// The `n`th ENI, 0 is the primary: attached and wired, with these blocks.
fn eni(n: u8, blocks: &[&str]) -> Eni {
    let place = u32::from(n);
    Eni {
        handle: EniHandle(u64::from(n)),
        id: Some(EniId(format!("eni-{n}"))),
        mac: Some(Mac([2, 0, 0, 0, 0, n])),
        primary: n == 0,
        device_index: place,
        card: 0,
        subnet: "subnet-1".into(),
        address: format!("10.0.0.{}/18", 11 + n).parse().ok(),
        attachment: Some(format!("eni-attach-{n}")),
        delete_on_termination: true,
        phase: Phase::Ready,
        unmanaged: None,
        ours: n > 0,
        excluded: false,
        blocks: blocks
            .iter()
            .map(|text| (block(text), BlockState::Confirmed))
            .collect(),
        intent: None,
        in_doubt_since: None,
        written_at: Timestamp(0),
        since: Timestamp(0),
    }
}

/// What EC2 shows of an ENI.
fn view(eni: &Eni, blocks: &[&str]) -> EniView {
    EniView {
        id: eni.id.clone().unwrap(),
        mac: eni.mac.unwrap(),
        attachment: eni.attachment.clone().map(|id| AttachmentView {
            id: Some(id),
            device_index: eni.device_index,
            card: eni.card,
            delete_on_termination: Some(true),
        }),
        subnet: eni.subnet.clone(),
        address: eni.address,
        blocks: blocks.iter().map(|text| block(text)).collect(),
        unmanaged: None,
        ours: eni.ours,
    }
}

fn lease(n: u32, address: &str) -> Lease {
    Lease {
        key: key(n),
        pod: PodRef::default(),
        addresses: vec![ip(address)],
        host_if: format!("eni{n:011x}"),
        host_mac: Mac([2, 0, 0, 0, 1, 0]),
        pod_mac: Mac([2, 0, 0, 0, 1, 1]),
        since: NOW,
    }
}

fn store(enis: Vec<Eni>, leases: Vec<Lease>) -> Datastore {
    let mut store = Datastore::restore(REST, enis, leases, BTreeMap::new());
    let all: Vec<Block> = store
        .enis()
        .values()
        .flat_map(|e| e.blocks.keys().copied())
        .collect();
    store.set_wired(all);
    store
}

fn memory() -> Memory {
    Memory::new(true, 11, NOW)
}

/// Records that contradict each other are none of a pod's: the first stands, the other one's goes.
#[test]
fn two_records_of_one_address_are_one_pods() {
    let leases = vec![lease(1, "10.0.0.17"), lease(2, "10.0.0.17")];
    let mut store = store(vec![eni(0, &["10.0.0.17/32"])], leases);
    assert_eq!(store.leases().len(), 1);
    assert_eq!(store.owner(ip("10.0.0.17")), Some(&key(1)));
    assert_eq!(store.take_touched(), [Touched::Lease(key(2))]);
    assert_eq!(common::parts::lease(&mut store, 3, NOW), None);
    assert_eq!(check(&store, NOW), vec![]);
}

/// An ENI's own address is never a pod's, whatever a record says. Unless EC2 has taken the pod's block away and
/// given the address to that ENI since: the pod has it still.
#[test]
fn an_enis_own_address_is_no_lease() {
    let with = |enis| store(enis, vec![lease(1, "10.0.0.12")]);
    assert_eq!(with(vec![eni(0, &[]), eni(1, &[])]).leases().len(), 0);
    let mut lost = eni(2, &["10.0.0.12/32"]);
    lost.blocks = [(block("10.0.0.12/32"), BlockState::Lost)].into();
    assert_eq!(with(vec![eni(0, &[]), eni(1, &[]), lost]).leases().len(), 1);
}

fn assigned(store: &mut Datastore, n: u8, text: &str) {
    let action = Action::Assign {
        handle: EniHandle(u64::from(n)),
        eni: EniId(format!("eni-{n}")),
        family: Family::V4,
        kind: block(text).kind(),
        count: 1,
    };
    let done = Done::Assigned(vec![block(text)]);
    finish(store, &mut memory(), &action, Ok(done), NOW, NOW);
}

/// A block of a further ENI leads nowhere before the host's rules know it: when it is new, when it comes back,
/// and when it comes to another ENI.
#[test]
fn a_block_is_given_only_once_it_is_wired() {
    let enis = || vec![eni(0, &[]), eni(1, &["10.0.0.17/32"]), eni(2, &[])];
    let mut fresh = Datastore::restore(REST, enis(), vec![], BTreeMap::new());
    assert_eq!(common::parts::lease(&mut fresh, 1, NOW), None);
    fresh.set_wired([block("10.0.0.17/32")]);
    assert_eq!(
        common::parts::lease(&mut fresh, 1, NOW),
        Some(ip("10.0.0.17"))
    );

    let mut back = store(enis(), vec![]);
    let action = Action::Unassign {
        handle: EniHandle(1),
        eni: EniId("eni-1".into()),
        blocks: vec![block("10.0.0.17/32")],
    };
    finish(
        &mut back,
        &mut memory(),
        &action,
        Ok(Done::Unassigned),
        NOW,
        NOW,
    );
    assigned(&mut back, 1, "10.0.0.17/32");
    assert_eq!(common::parts::lease(&mut back, 1, NOW), None);

    let mut moved = store(enis(), vec![]);
    assigned(&mut moved, 2, "10.0.0.17/32");
    let holders = moved.enis().values().filter(|e| !e.blocks.is_empty());
    assert_eq!(
        holders.map(|e| e.handle).collect::<Vec<_>>(),
        [EniHandle(2)]
    );
    assert_eq!(common::parts::lease(&mut moved, 1, NOW), None);
    moved.set_wired([block("10.0.0.17/32")]);
    assert_eq!(
        common::parts::lease(&mut moved, 1, NOW),
        Some(ip("10.0.0.17"))
    );
}

/// A Describe that lags shows a block on two ENIs, or where it was: it is one ENI's.
#[test]
fn a_block_is_one_enis() {
    let mut first = eni(1, &["10.0.0.17/32"]);
    first.written_at = NOW;
    let mut store = store(vec![eni(0, &[]), first, eni(2, &[])], vec![]);
    let enis: Vec<Eni> = store.enis().values().cloned().collect();
    let views = [
        view(&enis[0], &[]),
        view(&enis[1], &["10.0.0.17/32"]),
        view(&enis[2], &["10.0.0.17/32"]),
    ];
    reconcile(&mut store, &mut memory(), &views, NOW, NOW);
    let holders = store.enis().values().filter(|e| !e.blocks.is_empty());
    assert_eq!(holders.count(), 1);
    assert_eq!(check(&store, NOW), vec![]);
}

/// What overlaps a block that EC2 has just given is nobody's.
#[test]
fn two_blocks_never_overlap() {
    let mut store = store(
        vec![eni(0, &[]), eni(1, &["10.0.3.16/28"]), eni(2, &[])],
        vec![],
    );
    assigned(&mut store, 2, "10.0.3.17/32");
    assert_eq!(
        store.block_of(ip("10.0.3.17")),
        Some((EniHandle(2), block("10.0.3.17/32")))
    );
    assert_eq!(store.block_of(ip("10.0.3.18")), None);
    assert_eq!(check(&store, NOW), vec![]);
}

/// EC2 makes an ENI whose own address we had as a block of another: it is no pod's from then on, and a pod that
/// has it keeps it.
#[test]
fn an_address_that_becomes_an_enis_own_is_given_no_more() {
    for leased in [false, true] {
        let leases = leased.then(|| lease(1, "10.0.0.13"));
        let enis = vec![eni(0, &[]), eni(1, &["10.0.0.13/32"])];
        let mut store = store(enis, leases.into_iter().collect());
        let mut made = eni(2, &[]);
        made.attachment = None;
        let mut making = made.clone();
        (making.id, making.phase, making.address) = (None, Phase::Creating, None);
        let create = Action::Create {
            handle: EniHandle(2),
            token: "t".into(),
            subnet: "subnet-1".into(),
            card: 0,
            device_index: 2,
            family: Family::V4,
            kind: BlockKind::Address,
            count: 0,
            asked: NOW,
        };
        outcome::begin(&mut store, &create, NOW);
        let done = Done::Created(view(&made, &[]));
        finish(&mut store, &mut memory(), &create, Ok(done), NOW, NOW);
        assert_eq!(
            common::parts::lease(&mut store, 9, NOW),
            None,
            "leased: {leased}"
        );
        assert_eq!(store.leases().len(), usize::from(leased));
        let state = store.eni(EniHandle(1)).unwrap().blocks.values().next();
        assert_eq!(state, leased.then_some(&BlockState::Lost));
    }
}

/// A finished pod's link is swept only if this run has seen its end, and only where its address leads through it:
/// a pod that lives may have either since.
#[test]
fn only_what_this_run_saw_end_is_swept() {
    for (restored, through, swept) in [
        (NOW, "eni00000000001", true),
        // The store is older than the release that it remembers.
        (NOW + Duration::from_secs(1), "eni00000000001", false),
        (NOW, "eni00000000002", false),
    ] {
        let mut store = store(vec![eni(0, &["10.0.0.17/32"])], vec![lease(1, "10.0.0.17")]);
        store.restored_at(restored);
        store.set_routed(ip("10.0.0.17"), through.into());
        store.release(&key(1), NOW);
        let left = store.leftovers(NOW + LATER);
        assert_eq!(!left.is_empty(), swept, "{restored:?} {through}");
    }
}

/// A DEL that names an address which no lease has, nor the kernel: it rests as any other. One of another pod's
/// lease is that pod's.
#[test]
fn an_address_that_only_a_del_names_rests() {
    let mut store = store(
        vec![eni(0, &["10.0.0.17/32", "10.0.0.18/32"])],
        vec![lease(1, "10.0.0.18")],
    );
    assert_eq!(store.release_unowned(ip("10.0.0.17"), NOW), None);
    assert_eq!(common::parts::lease(&mut store, 2, NOW), None);
    assert_eq!(store.cooling_until(ip("10.0.0.17"), NOW), Some(NOW + REST));
    assert_eq!(store.release_unowned(ip("10.0.0.18"), NOW), None);
    assert_eq!(store.released(ip("10.0.0.18")), None);
    assert_eq!(store.owner(ip("10.0.0.18")), Some(&key(1)));
    assert_eq!(check(&store, NOW), vec![]);
}

/// The kernel's answer about an address that it routes again meanwhile, and one from before it was looked at
/// anew, tell nothing.
#[test]
fn an_answer_that_is_out_of_date_is_not_believed() {
    let (address, due) = (ip("10.0.0.17"), NOW + LATER);
    let mut store = store(vec![eni(0, &["10.0.0.17/32"])], vec![lease(1, "10.0.0.17")]);
    store.release(&key(1), NOW);
    let asked = store.to_forget(due);
    assert_eq!(asked.len(), 1);
    store.set_routed(address, "eni-of-somebody".into());
    store.forgotten(&asked);
    store.clear_routed(address, due);
    assert_eq!(
        common::parts::lease(&mut store, 2, due),
        None,
        "nobody has looked since"
    );

    let asked = store.to_forget(due);
    store.set_linked(&asked, &[address]);
    assert_eq!(store.to_forget(due), []);
    store.replace_routed(BTreeMap::new(), due);
    assert_eq!(store.to_forget(due), asked, "a new look at all links");
}

/// Two interfaces of one sandbox have two links.
#[test]
fn siblings_have_names_of_their_own() {
    let mut store = store(
        vec![eni(0, &["10.0.0.17/32", "10.0.0.18/32", "10.0.0.19/32"])],
        vec![],
    );
    let pod = PodRef {
        namespace: "default".into(),
        name: "web-0".into(),
        uid: String::new(),
    };
    let mut names = Vec::new();
    for (if_name, prefix) in [("eth0", "eni"), ("net1", "eni"), ("net2", "mul")] {
        let key = AttachmentKey {
            network: if_name.into(),
            container_id: "sandbox".into(),
            if_name: if_name.into(),
        };
        let request = Request {
            key: &key,
            pod: &pod,
            families: &[Family::V4],
            local: None,
            veth_prefix: prefix,
            prefixes: false,
        };
        let lease = store.assign(&request, NOW).unwrap().clone();
        names.push((lease.host_if.clone(), store.place(&lease)));
    }
    // sha1("default.web-0"), sha1("default.web-0.1"), sha1("default.web-0.2")
    let wanted = ["eni0d7763386da", "enib813f772d20", "mul68e8eca5cc4"];
    assert_eq!(
        names,
        [0, 1, 2].map(|n| (wanted[n].into(), u32::try_from(n).unwrap()))
    );
}

/// EC2 names a block, or an ENI of ours, no more, twice: what a pod has of it stays the pod's and is told; what
/// nobody uses goes; and our ENI, which may be somewhere attached to nothing, is to be deleted.
#[test]
fn what_ec2_names_no_more() {
    for leased in [false, true] {
        for whole in [false, true] {
            let leases: Vec<Lease> = leased.then(|| lease(1, "10.0.0.17")).into_iter().collect();
            let mut store = store(vec![eni(0, &[]), eni(1, &["10.0.0.17/32"])], leases);
            let enis: Vec<Eni> = store.enis().values().cloned().collect();
            let mut views = vec![view(&enis[0], &[]), view(&enis[1], &[])];
            views.truncate(if whole { 1 } else { 2 });
            if whole {
                // Nor has the kernel its link.
                store.set_unready(EniHandle(1));
            }
            let mut memory = memory();
            let first = reconcile(&mut store, &mut memory, &views, NOW + LATER, NOW + LATER);
            assert_eq!(first, vec![], "one Describe is not enough");
            let now = NOW + LATER + LATER;
            let drift = reconcile(&mut store, &mut memory, &views, now, now);
            let (one, block) = (EniHandle(1), block("10.0.0.17/32"));
            let wanted = match (leased, whole) {
                (false, false) => Drift::BlockGone(one, block),
                (true, false) => Drift::BlockLost(one, block, 1),
                (false, true) => Drift::EniGone(one),
                (true, true) => Drift::EniLost(one, 1),
            };
            assert_eq!(drift, [wanted]);
            assert_eq!(common::parts::lease(&mut store, 2, now), None);
            assert_eq!(store.leases().len(), usize::from(leased));
            let state = store.eni(one).unwrap().blocks.get(&block);
            assert_eq!(state, leased.then_some(&BlockState::Lost));
            store.release(&key(1), now);
            let left = store.eni(one).unwrap();
            assert!(left.blocks.is_empty(), "it ends with its last pod");
            let phase = if whole { Phase::Detached } else { Phase::Ready };
            assert_eq!(left.phase, phase, "leased: {leased}, whole: {whole}");
        }
    }
}

/// An Assign without an answer gives all or nothing: some new blocks, by a Describe that may lag, settle nothing.
#[test]
fn some_of_the_blocks_settle_no_doubt() {
    let four = [
        "10.0.0.17/32",
        "10.0.0.18/32",
        "10.0.0.19/32",
        "10.0.0.20/32",
    ];
    for seen in 0..=4 {
        let mut store = store(vec![eni(0, &[]), eni(1, &[])], vec![]);
        let enis: Vec<Eni> = store.enis().values().cloned().collect();
        let mut memory = memory();
        let before = [view(&enis[0], &[]), view(&enis[1], &[])];
        reconcile(&mut store, &mut memory, &before, NOW, NOW);
        let action = Action::Assign {
            handle: EniHandle(1),
            eni: EniId("eni-1".into()),
            family: Family::V4,
            kind: BlockKind::Address,
            count: 4,
        };
        let sent = NOW + Duration::from_secs(10);
        outcome::begin(&mut store, &action, sent);
        let lost = cloud::CloudError {
            class: cloud::ErrorClass::UnknownOutcome,
            action: "AssignPrivateIpAddresses",
            code: String::new(),
            message: "no answer".into(),
        };
        finish(&mut store, &mut memory, &action, Err(lost), sent, sent);
        let soon = sent + Duration::from_secs(5);
        let views = [view(&enis[0], &[]), view(&enis[1], &four[..seen])];
        reconcile(&mut store, &mut memory, &views, soon, soon);
        let doubt = store.eni(EniHandle(1)).unwrap().in_doubt_since;
        assert_eq!(doubt.is_some(), seen < 4, "{seen} of 4");
    }
}

/// An ENI that somebody else attached is used, and never detached or deleted, however empty it is.
#[test]
fn somebody_elses_eni_stays() {
    let mut world = World::with_minimum(1);
    world.settle();
    let mut theirs = eni(1, &["10.0.50.17/32", "10.0.50.18/32"]);
    theirs.ours = false;
    theirs.id = Some(EniId("eni-by-hand".into()));
    theirs.mac = Some(Mac([2, 0, 0, 0, 9, 9]));
    theirs.address = "10.0.99.9/16".parse().ok();
    theirs.subnet = world.subnet.clone();
    let shown = view(&theirs, &["10.0.50.17/32", "10.0.50.18/32"]);
    world.ec2.insert(shown.id.clone(), shown.clone());
    for round in 0..4 {
        world.carry_out(&Action::Describe);
        world.wire();
        if round == 0 {
            assert_eq!(world.total(), 3, "it is used");
        }
        world.now = world.now + Duration::from_secs(3600);
        world.settle();
    }
    assert!(world.ec2[&shown.id].attachment.is_some());
    assert_eq!(
        (world.calls.get("detach"), world.calls.get("delete")),
        (None, None)
    );
}

/// The fullest block first, so that others empty and can be given back; in it, what has been idle longest.
#[test]
fn the_fullest_block_is_filled_first() {
    let enis = vec![eni(0, &["10.0.3.0/28", "10.0.3.16/28", "10.0.3.32/28"])];
    let leases = vec![
        lease(1, "10.0.3.20"),
        lease(2, "10.0.3.21"),
        lease(3, "10.0.3.40"),
    ];
    let mut store = store(enis, leases);
    for n in 10..24 {
        let got = common::parts::lease(&mut store, n, NOW).unwrap();
        assert!(block("10.0.3.16/28").contains(got), "{got}");
    }
    // It is full: the next fullest.
    let got = common::parts::lease(&mut store, 24, NOW).unwrap();
    assert!(block("10.0.3.32/28").contains(got), "{got}");
}
