//! How often a node asks again while EC2 refuses its calls for their rate, and pods wait and give up.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod common;

use common::World;
use ipam_core::cloud::ErrorClass;
use ipam_core::outcome::{Done, finish};
use ipam_core::plan::{Action, Policy, Scope};
use ipam_core::{BlockKind, Family, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;

/// What one node may ask of one action while it is refused: in any second, and in any minute. The peer makes
/// 36 a minute.
const IN_A_SECOND: usize = 1;
const IN_A_MINUTE: usize = 36;

/// A pool that is full, with so many pods that wait. Each gives up after 30 s, and its runtime asks
/// again; they came `apart` from each other.
struct Crowd {
    world: World,
    deadlines: Vec<Timestamp>,
    refused: BTreeMap<&'static str, Vec<Timestamp>>,
}

/// What a call takes to be refused.
const ANSWER: Duration = Duration::from_millis(30);

impl Crowd {
    fn new(pods: u32, apart: Duration, seed: u64) -> Self {
        let policy = Policy {
            warm_ip: Some(1),
            ..Policy::default()
        };
        let mut world = World::new("m5.large", policy);
        world.settle();
        while world.add_without_growth() {}
        world.memory = ipam_core::plan::Memory::new(true, seed, world.now);
        let first = world.now + Duration::from_secs(30);
        Self {
            world,
            deadlines: (0..pods).map(|n| first + apart * n).collect(),
            refused: BTreeMap::new(),
        }
    }

    /// Refuses everything for so long.
    fn refuse_for(&mut self, time: Duration) {
        let end = self.world.now + time;
        while self.world.now < end {
            let now = self.world.now;
            for deadline in self.deadlines.iter_mut().filter(|at| **at <= now) {
                *deadline = now + Duration::from_secs(31);
            }
            self.world.waiting = u32::try_from(self.deadlines.len()).unwrap();
            self.world.deadline = self.deadlines.iter().min().copied();
            let plan = self.world.plan();
            self.world.memory.remember(&plan);
            let wake = plan.wake_at.unwrap_or(end);
            let calls = plan.actions.len();
            for action in plan.actions {
                self.refuse(&action);
            }
            let next = if calls > 0 { now + ANSWER } else { wake };
            let give_up = self.world.deadline.unwrap_or(end);
            self.world.now = next.min(give_up).max(now + Duration::from_millis(1));
        }
    }

    fn refuse(&mut self, action: &Action) {
        ipam_core::outcome::begin(&mut self.world.store, action, self.world.now);
        let at = self.world.now + ANSWER;
        let now = std::mem::replace(&mut self.world.now, at);
        self.world.refuse(action, ErrorClass::Throttled);
        self.world.now = now;
        let name = match action {
            Action::Describe => "describe",
            Action::DescribeSubnets { .. } => "subnets",
            Action::Create { .. } => "create",
            Action::Assign { .. } => "assign",
            _ => "other",
        };
        // What is sent side by side, before any refusal is known, is asked once.
        let times = self.refused.entry(name).or_default();
        if times.last() != Some(&at) {
            times.push(at);
        }
    }

    /// The most of any action within a time.
    fn most_in(&self, span: Duration) -> (usize, &'static str) {
        let of = |times: &Vec<Timestamp>| {
            let within = |from: &Timestamp| {
                let still = |at: &&Timestamp| **at >= *from && **at < *from + span;
                times.iter().filter(still).count()
            };
            times.iter().map(within).max().unwrap_or(0)
        };
        let most = self.refused.iter().map(|(name, times)| (of(times), *name));
        most.max().unwrap_or_default()
    }
}

#[test]
fn a_last_try_is_one_however_many_pods_give_up() {
    for seed in 0..40 {
        for (pods, apart) in [(1, 0), (30, 0), (30, 100), (30, 1_100), (110, 270)] {
            let mut crowd = Crowd::new(pods, Duration::from_millis(apart), seed);
            crowd.refuse_for(Duration::from_secs(300));
            assert!(!crowd.refused.is_empty(), "nothing was asked");
            let (in_a_second, action) = crowd.most_in(Duration::from_secs(1));
            assert!(
                in_a_second <= IN_A_SECOND,
                "{in_a_second} times {action} in a second: {pods} pods, {apart} ms apart, seed {seed}"
            );
            let (in_a_minute, action) = crowd.most_in(Duration::from_secs(60));
            assert!(
                in_a_minute <= IN_A_MINUTE,
                "{in_a_minute} times {action} in a minute: {pods} pods, {apart} ms apart, seed {seed}"
            );
        }
    }
}

/// Two calls for one subnet under way at once: that one of them goes well is no reason to repeat the other,
/// which EC2 refused meanwhile. Only what was sent after the refusal is.
#[test]
fn only_what_was_sent_after_a_refusal_ends_its_hold() {
    let mut world = World::with_minimum(4);
    let first = world.store.primary().unwrap();
    let action = Action::Assign {
        handle: first.handle,
        eni: first.id.clone().unwrap(),
        family: Family::V4,
        kind: BlockKind::Address,
        count: 1,
    };
    let scope = Scope::Subnet(first.subnet.clone(), BlockKind::Address);
    let held = |world: &World| {
        world
            .memory
            .holds(world.now)
            .any(|(held, _)| *held == scope)
    };
    let sent = world.now;
    world.now = sent + Duration::from_millis(50);
    world.refuse(&action, ErrorClass::SubnetFull);
    assert!(held(&world));
    let go_well = |world: &mut World, begun| {
        let done = Ok(Done::Assigned(Vec::new()));
        let (store, memory) = (&mut world.store, &mut world.memory);
        finish(store, memory, &action, done, begun, world.now);
    };
    go_well(&mut world, sent);
    assert!(held(&world), "it was sent beside the refused one");
    let now = world.now;
    go_well(&mut world, now);
    assert!(!held(&world));
}
