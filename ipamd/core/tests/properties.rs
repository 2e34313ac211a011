//! The core against a naive model: random pods, time, refusals, lost answers, restarts and operator's
//! mistakes; `check` and the model after every step, and the target at the end.
//!
//! What a search has found once is a test below; it writes nothing down, and begins at `PROPTEST_RNG_SEED`.
#![allow(
    clippy::tests_outside_test_module,
    clippy::unwrap_used,
    clippy::cast_possible_truncation
)] // tests fail by panicking

mod common;

use common::{World, free_in_pool, key};
use ipam_core::check::check;
use ipam_core::cloud::ErrorClass;
use ipam_core::datastore::{Datastore, Request};
use ipam_core::outcome::{begin, resume};
use ipam_core::plan::{Action, Memory, Policy, target};
use ipam_core::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

#[derive(Clone, Debug)]
enum Step {
    Add(u32),
    Del(u32),
    /// The kernel still has the pod's route after its DEL.
    DelSlowly(u32),
    /// The pod's veth is still there after its DEL and its namespace's end.
    DelHalf(u32),
    Pass(u16),
    /// The kernel is asked to forget what is due. Or it refuses, for good.
    Forget(bool),
    /// What was left of finished pods is swept.
    Sweep,
    /// Plans, and this is what becomes of each call.
    Plan(Vec<Fate>),
    Restart,
    /// `ENABLE_PREFIX_DELEGATION` is switched.
    Toggle,
    /// Somebody takes the last block of an ENI away by hand.
    Meddle(u8),
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Works,
    /// Refused with this class; nothing was done.
    Refused(ErrorClass),
    /// Done, but the answer was lost.
    Lost,
}

fn fate() -> impl Strategy<Value = Fate> {
    use ErrorClass::*;
    let classes = vec![
        SubnetFull,
        NoFreePrefix,
        EniFull,
        InstanceFull,
        AccountFull,
        IndexTaken,
        Throttled,
        Unauthorized,
        WrongState,
        Unreachable,
        Other,
    ];
    prop_oneof![
        6 => Just(Fate::Works),
        2 => prop::sample::select(classes).prop_map(Fate::Refused),
        1 => Just(Fate::Lost),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..40u32).prop_map(Step::Add),
        4 => (0..40u32).prop_map(Step::Del),
        1 => (0..40u32).prop_map(Step::DelSlowly),
        1 => (0..40u32).prop_map(Step::DelHalf),
        4 => prop::bool::weighted(0.8).prop_map(Step::Forget),
        1 => Just(Step::Sweep),
        3 => (0..120u16).prop_map(Step::Pass),
        6 => prop::collection::vec(fate(), 4).prop_map(Step::Plan),
        1 => Just(Step::Restart),
        1 => Just(Step::Toggle),
        1 => any::<u8>().prop_map(Step::Meddle),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    (
        any::<bool>(),
        0..3u32,
        0..6u32,
        0..12u32,
        0..3u32,
        prop::option::of(1..4u32),
        0..40u64,
    )
        .prop_map(
            |(prefixes, warm_eni, warm_ip, minimum, warm_prefix, max_eni, cooldown)| Policy {
                prefixes,
                warm_eni,
                warm_ip: (warm_ip > 0).then_some(warm_ip),
                minimum_ip: (minimum > 0).then_some(minimum),
                warm_prefix,
                max_eni,
                max_pods: Some(60),
                cooldown: Duration::from_secs(cooldown),
                ..Policy::default()
            },
        )
}

/// What must be true, kept as simply as can be.
#[derive(Default)]
struct Naive {
    leased: BTreeMap<IpAddr, AttachmentKey>,
    released: BTreeMap<IpAddr, Timestamp>,
    routed: BTreeMap<IpAddr, AttachmentKey>,
    /// The kernel has connections of a pod that had the address.
    tracked: BTreeSet<IpAddr>,
    /// The kernel has refused to forget them; after a restart some that it has nothing of, too.
    refused: BTreeSet<IpAddr>,
    /// Veths of finished pods: address -> name.
    linked: BTreeMap<IpAddr, String>,
    /// Taken away by hand: nobody can know before EC2 tells.
    meddled: Vec<Block>,
}

impl Naive {
    /// A lease that was just given may be given.
    fn given(&mut self, world: &World, lease: &Lease, free: &[IpAddr]) {
        for &ip in &lease.addresses {
            if self.leased.get(&ip) == Some(&lease.key) {
                continue;
            }
            assert_eq!(self.leased.get(&ip), None, "{ip} is another pod's");
            assert_eq!(self.routed.get(&ip), None, "{ip} is still in the kernel");
            if let Some(at) = self.released.get(&ip) {
                let rested = world.now.since(*at);
                assert!(
                    rested >= world.policy.cooldown,
                    "{ip} rested {rested:?} only"
                );
            }
            assert!(!self.linked.contains_key(&ip), "{ip}'s last veth is there");
            if self.tracked.contains(&ip) {
                assert!(self.refused.contains(&ip), "{ip}'s connections are there");
                let other = |ip: &IpAddr| !self.tracked.contains(ip) && !self.refused.contains(ip);
                assert!(
                    !free.iter().any(other),
                    "{ip} was given with stale connections before {free:?}"
                );
            }
            let primaries = world.ec2.values().filter_map(|v| v.address);
            assert!(
                primaries.into_iter().all(|net| net.addr() != ip),
                "{ip} is an ENI's own"
            );
            let holds = |b: &Block| b.contains(ip);
            let held = world
                .ec2
                .values()
                .any(|v| v.attachment.is_some() && v.blocks.iter().any(holds));
            assert!(
                held || self.meddled.iter().any(holds),
                "{ip} is no longer this node's"
            );
            self.leased.insert(ip, lease.key.clone());
            self.routed.insert(ip, lease.key.clone());
            self.tracked.insert(ip);
            self.refused.remove(&ip);
            // The plugin replaces a finished pod's link of the same name, and its routes go along.
            self.linked.retain(|_, name| *name != lease.host_if);
            self.routed
                .retain(|old, key| *key != lease.key || lease.addresses.contains(old));
        }
    }

    fn ended(&mut self, key: &AttachmentKey, now: Timestamp, slowly: bool) {
        let gone: Vec<IpAddr> = self
            .leased
            .iter()
            .filter(|(_, k)| *k == key)
            .map(|(ip, _)| *ip)
            .collect();
        for ip in gone {
            self.leased.remove(&ip);
            self.released.insert(ip, now);
            if !slowly {
                self.routed.remove(&ip);
            }
        }
    }
}

fn add(world: &mut World, naive: &mut Naive, n: u32) {
    let pod = PodRef {
        namespace: "d".into(),
        name: format!("p{n}"),
        uid: String::new(),
    };
    let key = key(n);
    let before = world.store.lease(&key).cloned();
    let request = Request {
        key: &key,
        pod: &pod,
        families: &[Family::V4],
        local: None,
        veth_prefix: "eni",
        prefixes: world.policy.prefixes,
    };
    let free = free_in_pool(world);
    if let Ok(lease) = world.store.assign(&request, world.now) {
        let lease = lease.clone();
        assert!(
            before.is_none_or(|b| b == lease),
            "the same key gets the same lease"
        );
        naive.given(world, &lease, &free);
        world.store.link_gone(&lease.host_if, world.now);
        for ip in &lease.addresses {
            world.store.set_routed(*ip, lease.host_if.clone());
        }
    } else {
        world.waiting = (world.waiting + 1).min(20);
    }
}

/// As the engine does it: what is linked waits, the rest is forgotten or stuck.
fn forget(world: &mut World, naive: &mut Naive, works: bool) {
    let due = world.store.to_forget(world.now);
    let mut linked = Vec::new();
    for trace in &due {
        let there = naive.linked.get(&trace.address);
        if there.is_some() && there == trace.host_if.as_ref() {
            linked.push(trace.address);
        } else if works {
            naive.tracked.remove(&trace.address);
            naive.refused.remove(&trace.address);
        } else {
            naive.refused.insert(trace.address);
        }
    }
    world.store.set_linked(&due, &linked);
    if works {
        world.store.forgotten(&due);
    } else {
        world.store.set_stuck(&due);
    }
}

fn sweep(world: &mut World, naive: &mut Naive) {
    for (ip, name) in world.store.leftovers(world.now) {
        if naive.linked.remove(&ip).is_some() || naive.routed.remove(&ip).is_some() {
            world.store.clear_routed(ip, world.now);
            world.store.link_gone(&name, world.now);
        }
    }
}

fn del(world: &mut World, naive: &mut Naive, n: u32, slowly: bool, half: bool) {
    let key = key(n);
    let lease = world.store.lease(&key).filter(|_| half);
    for ip in lease.iter().flat_map(|l| &l.addresses) {
        naive
            .linked
            .insert(*ip, lease.map_or_else(String::new, |l| l.host_if.clone()));
    }
    if let Some(lease) = world.store.release(&key, world.now)
        && !slowly
    {
        lease
            .addresses
            .iter()
            .for_each(|ip| world.store.clear_routed(*ip, world.now));
    }
    naive.ended(&key, world.now, slowly);
}

fn plan(world: &mut World, fates: &[Fate]) {
    let plan = world.plan();
    world.memory.remember(&plan);
    let handles: Vec<_> = plan.actions.iter().filter_map(Action::handle).collect();
    for handle in &handles {
        assert_eq!(
            handles.iter().filter(|h| *h == handle).count(),
            1,
            "one call per ENI"
        );
    }
    for (n, action) in plan.actions.iter().enumerate() {
        match fates[n % fates.len()] {
            Fate::Works => world.carry_out(action),
            // EC2 looks for the token before it looks for room.
            Fate::Refused(class) if world.made_before(action) && room(class) => {
                world.carry_out(action);
            }
            Fate::Refused(class) => {
                begin(&mut world.store, action, world.now);
                world.refuse(action, class);
            }
            Fate::Lost => {
                // EC2 does it, and we don't hear.
                let (store, memory) = (world.store.clone(), world.memory.clone());
                world.carry_out(action);
                world.store = store;
                world.memory = memory;
                begin(&mut world.store, action, world.now);
                world.refuse(action, ErrorClass::UnknownOutcome);
            }
        }
        world.wire();
    }
}

fn room(class: ErrorClass) -> bool {
    use ErrorClass::*;
    matches!(class, SubnetFull | NoFreePrefix | AccountFull)
}

/// As after kill -9: what was durable comes back, what was learned does not.
fn restart(world: &mut World) {
    let (enis, leases) = (world.store.enis().clone(), world.store.leases().clone());
    let released: BTreeMap<IpAddr, Released> = leases_of_released(&world.store);
    let routed = world.store.routed().clone();
    world.store = Datastore::restore(
        world.policy.cooldown,
        enis.into_values().collect(),
        leases.into_values().collect(),
        released,
    );
    world.store.replace_routed(routed, world.now);
    world.memory = Memory::new(false, 11, world.now);
    resume(&mut world.store, &mut world.memory, world.now);
    world.waiting = 0;
    world.run.push('x');
    world.wire();
}

fn leases_of_released(store: &Datastore) -> BTreeMap<IpAddr, Released> {
    let blocks = store.enis().values().flat_map(|e| e.blocks.keys());
    blocks
        .flat_map(|b| (0..b.capacity()).filter_map(|n| b.nth(n)))
        .filter_map(|ip| Some((ip, store.released(ip)?.clone())))
        .collect()
}

fn meddle(world: &mut World, naive: &mut Naive, n: u8) {
    let count = world.ec2.len();
    if let Some(view) = world.ec2.values_mut().nth(usize::from(n) % count) {
        naive.meddled.extend(view.blocks.pop());
    }
}

/// The pool has what the settings ask for, or the instance can't give it.
fn converged(world: &mut World, naive: &mut Naive) {
    world.waiting = 0;
    world.now = world.now + Duration::from_secs(3600);
    let stale: Vec<IpAddr> = world.store.routed().keys().copied().collect();
    for ip in stale {
        if world.store.owner(ip).is_none() {
            world.store.clear_routed(ip, world.now);
        }
    }
    // Within two looks: at the links, and again once they are swept.
    for _ in 0..2 {
        forget(world, naive, true);
        sweep(world, naive);
    }
    forget(world, naive, true);
    let tally = world.store.tally(ipam_core::Family::V4, world.now);
    assert_eq!((tally.held, tally.unsettled), (0, 0));
    for _ in 0..4 {
        world.settle();
        world.now = world.now + Duration::from_secs(1900);
    }
    world.settle();
    let tally = world.store.tally(ipam_core::Family::V4, world.now);
    let goal = target(
        &world.policy,
        &world.limits,
        world.policy.prefixes,
        &tally,
        0,
    );
    let enis = world
        .policy
        .max_eni
        .map_or(world.limits.enis, |m| m.min(world.limits.enis));
    let slots = enis * (world.limits.ipv4_per_eni - 1);
    let held: usize = world.store.enis().values().map(|e| e.blocks.len()).sum();
    let full = held as u32 >= slots || world.store.enis().len() as u32 > enis;
    assert!(
        tally.addresses >= goal.keep || full,
        "{tally:?} {goal:?} {:?}",
        world.plan()
    );
    // A prefix can't go in part.
    let unit = 16;
    // What pods pin down can't go; all else must.
    let idle: u32 = world
        .store
        .enis()
        .values()
        .filter(|e| e.ours && !goal.whole_enis)
        .flat_map(|e| e.blocks.keys())
        .filter(|b| tally.of(b).idle())
        .map(Block::capacity)
        .sum();
    let surplus = tally.addresses.saturating_sub(goal.keep);
    assert!(
        idle.min(surplus) < unit,
        "idle {idle}, surplus {surplus}: {:?}",
        world.plan()
    );
    for view in world.ec2.values() {
        assert!(
            view.attachment.is_some(),
            "{} leaked: {:?}",
            view.id,
            world.store.enis()
        );
    }
}

fn play(policy: &Policy, steps: &[Step]) {
    let mut world = World::new("c5.large", policy.clone());
    let mut naive = Naive::default();
    for step in steps {
        match step {
            Step::Add(n) => add(&mut world, &mut naive, *n),
            Step::Del(n) => del(&mut world, &mut naive, *n, false, false),
            Step::DelSlowly(n) => del(&mut world, &mut naive, *n, true, false),
            Step::DelHalf(n) => del(&mut world, &mut naive, *n, false, true),
            Step::Forget(works) => forget(&mut world, &mut naive, *works),
            Step::Sweep => sweep(&mut world, &mut naive),
            Step::Pass(seconds) => world.now = world.now + Duration::from_secs((*seconds).into()),
            Step::Plan(fates) => plan(&mut world, fates),
            Step::Restart => restart(&mut world),
            Step::Meddle(n) => meddle(&mut world, &mut naive, *n),
            Step::Toggle => world.policy.prefixes = !world.policy.prefixes,
        }
        assert_eq!(check(&world.store, world.now), vec![], "after {step:?}");
        let leased: BTreeMap<IpAddr, AttachmentKey> = world
            .store
            .leases()
            .values()
            .flat_map(|l| l.addresses.iter().map(|ip| (*ip, l.key.clone())))
            .collect();
        assert_eq!(leased, naive.leased);
    }
    converged(&mut world, &mut naive);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_doubled_and_all_settles(
        policy in policy(),
        steps in prop::collection::vec(step(), 1..80),
    ) {
        play(&policy, &steps);
    }
}

/// An ENI made by a call whose answer was lost, after the kind of blocks was changed, while pods waited.
#[test]
fn a_lost_answer_after_a_change_of_kind() {
    use ErrorClass::{EniFull, Throttled};
    use Fate::{Lost, Refused, Works};
    let plan = |first, second| Step::Plan(vec![first, second, Works, Works]);
    let policy = Policy {
        warm_eni: 0,
        warm_ip: Some(1),
        warm_prefix: 0,
        max_pods: Some(60),
        cooldown: Duration::ZERO,
        ..Policy::default()
    };
    let mut steps = vec![Step::Add(0), plan(Works, Works)];
    steps.extend((0..8).map(|_| Step::Add(0)));
    steps.extend([
        plan(Works, Refused(EniFull)),
        Step::Toggle,
        plan(Lost, Works),
        Step::Pass(25),
        Step::Pass(35),
        plan(Works, Refused(EniFull)),
        plan(Refused(Throttled), Works),
        Step::Add(0),
    ]);
    play(&policy, &steps);
}
