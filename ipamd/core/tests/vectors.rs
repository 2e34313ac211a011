//! The warm-pool tables of Amazon's VPC CNI (docs/eni-and-ip-target.md, docs/prefix-and-ip-target.md):
//! the pool that each setting settles to.
#![allow(clippy::tests_outside_test_module)]

mod common;

use common::World;
use ipam_core::plan::Policy;

struct Row {
    instance_type: &'static str,
    policy: Policy,
    pods: u32,
    blocks: u32,
    unused: u32,
    per_eni: &'static [u32],
}

fn secondary(w: u32, i: u32, m: u32) -> Policy {
    Policy {
        warm_eni: w,
        warm_ip: (i > 0).then_some(i),
        minimum_ip: (m > 0).then_some(m),
        ..Policy::default()
    }
}

fn prefix(p: u32, i: u32, m: u32) -> Policy {
    Policy {
        prefixes: true,
        warm_prefix: p,
        max_pods: Some(110),
        ..secondary(1, i, m)
    }
}

fn row(
    instance_type: &'static str,
    policy: &Policy,
    pods: u32,
    blocks: u32,
    unused: u32,
    per_eni: &'static [u32],
) -> Row {
    Row {
        instance_type,
        policy: policy.clone(),
        pods,
        blocks,
        unused,
        per_eni,
    }
}

fn run(rows: &[Row]) {
    for r in rows {
        let mut world = World::new(r.instance_type, r.policy.clone());
        world.settle();
        for _ in 0..r.pods {
            assert!(world.add_pod());
            world.settle();
            assert_eq!(ipam_core::check::check(&world.store, world.now), vec![]);
        }
        let got = (
            world.per_eni().iter().sum::<u32>(),
            world.total() - world.used(),
            world.per_eni(),
        );
        let want = (r.blocks, r.unused, r.per_eni.to_vec());
        assert_eq!(
            got, want,
            "{} {:?} with {} pods",
            r.instance_type, r.policy, r.pods
        );
    }
}

/// Where the table says "2,3" for per-ENI counts, ours is "3,2": the first ENI is filled first.
#[test]
fn secondary_addresses() {
    let (t3, p3) = ("t3.small", "p3dn.24xlarge");
    let (w1, i1, i2) = (secondary(1, 0, 0), secondary(1, 1, 1), secondary(1, 2, 5));
    let i5 = secondary(1, 5, 10);
    run(&[
        row(t3, &w1, 0, 3, 3, &[3]),
        row(t3, &w1, 5, 9, 4, &[3, 3, 3]),
        row(t3, &w1, 9, 9, 0, &[3, 3, 3]),
        row(t3, &i1, 0, 1, 1, &[1]),
        row(t3, &i1, 5, 6, 1, &[3, 3]),
        row(t3, &i1, 9, 9, 0, &[3, 3, 3]),
        row(t3, &i2, 0, 5, 5, &[3, 2]),
        row(t3, &i2, 5, 7, 2, &[3, 3, 1]),
        row(t3, &i2, 9, 9, 0, &[3, 3, 3]),
        row(p3, &w1, 0, 49, 49, &[49]),
        row(p3, &w1, 3, 98, 95, &[49, 49]),
        row(p3, &w1, 95, 147, 52, &[49, 49, 49]),
        row(p3, &i5, 0, 10, 10, &[10]),
        row(p3, &i5, 7, 12, 5, &[12]),
        row(p3, &i5, 15, 20, 5, &[20]),
        row(p3, &i5, 45, 50, 5, &[49, 1]),
    ]);
}

#[test]
fn prefixes() {
    let t3 = "t3.small";
    let (p1, i1, i7) = (prefix(1, 0, 0), prefix(1, 1, 1), prefix(1, 7, 20));
    run(&[
        row(t3, &p1, 0, 1, 16, &[1]),
        row(t3, &p1, 5, 2, 27, &[2]),
        row(t3, &p1, 16, 2, 16, &[2]),
        row(t3, &p1, 17, 3, 31, &[3]),
        row(t3, &p1, 58, 5, 22, &[3, 2]),
        row(t3, &i1, 0, 1, 16, &[1]),
        row(t3, &i1, 5, 1, 11, &[1]),
        row(t3, &i1, 17, 2, 15, &[2]),
        row(t3, &i1, 58, 4, 6, &[3, 1]),
        // The document's row says 1 prefix, and contradicts its own rule: 20 addresses take 2.
        row(t3, &i7, 0, 2, 32, &[2]),
        row(t3, &i7, 5, 2, 27, &[2]),
        row(t3, &i7, 17, 2, 15, &[2]),
        row(t3, &i7, 58, 5, 22, &[3, 2]),
    ]);
}

/// Amazon's CNI with only `MINIMUM_IP_TARGET` never grows past it, and pods beyond it wait for
/// ever. Here a pod that waits is demand.
#[test]
fn minimum_alone_grows_on_demand() {
    let policy = secondary(1, 0, 2);
    run(&[
        row("t3.small", &policy, 2, 2, 0, &[2]),
        row("t3.small", &policy, 5, 5, 0, &[3, 2]),
    ]);
}

/// Amazon's CNI only stops growing once the total has reached max-pods, and attaches whole ENIs
/// past it; ours asks for no warm address beyond it.
#[test]
fn no_warm_address_beyond_max_pods() {
    let policy = Policy {
        max_pods: Some(20),
        ..secondary(1, 0, 0)
    };
    run(&[
        row("p3dn.24xlarge", &policy, 0, 20, 20, &[20]),
        row("p3dn.24xlarge", &policy, 20, 20, 0, &[20]),
    ]);
    let policy = Policy {
        warm_prefix: 3,
        ..prefix(3, 0, 0)
    };
    run(&[row("m5.large", &policy, 105, 7, 7, &[7])]);
}

/// `WARM_ENI_TARGET=0` keeps one address free; `WARM_PREFIX_TARGET=0` keeps none (Amazon's CNI
/// refuses to start with it, since it would allocate and free for ever).
#[test]
fn targets_of_zero() {
    let w0 = secondary(0, 0, 0);
    run(&[
        row("t3.small", &w0, 0, 3, 3, &[3]),
        row("t3.small", &w0, 2, 3, 1, &[3]),
        row("t3.small", &w0, 3, 6, 3, &[3, 3]),
    ]);
    let p0 = prefix(0, 0, 0);
    run(&[
        row("t3.small", &p0, 0, 0, 0, &[0]),
        row("t3.small", &p0, 1, 1, 15, &[1]),
    ]);
}

#[test]
fn max_eni_caps() {
    let policy = Policy {
        max_eni: Some(2),
        ..secondary(3, 0, 0)
    };
    run(&[row("t3.small", &policy, 0, 6, 6, &[3, 3])]);
    let mut world = World::new("t3.small", policy);
    world.settle();
    for n in 0..6 {
        assert!(world.add_pod(), "pod {n}");
    }
    assert!(!world.add_pod());
    world.waiting = 1;
    let plan = world.plan();
    assert_eq!(
        (plan.report.unmet, plan.report.cause()),
        (1, "instance_limit")
    );
    assert!(
        plan.report.why().contains("MAX_ENI allows 2 ENIs"),
        "{}",
        plan.report.why()
    );
}

/// Seven prefixes are one call; three ENIs are made side by side.
#[test]
fn growth_asks_for_all_at_once() {
    let mut world = World::new("m5.large", prefix(1, 0, 0));
    world.waiting = 110;
    // Which ENIs there are, and which subnets pods may be in.
    let look = world.plan();
    assert_eq!(look.actions.len(), 2, "{look:?}");
    look.actions.iter().for_each(|a| world.carry_out(a));
    assert_eq!(world.plan().actions.len(), 1, "{:?}", world.plan());
    world.settle();
    assert_eq!((world.calls["assign"], world.total()), (1, 7 * 16));

    let mut world = World::new(
        "m5.4xlarge",
        Policy {
            max_pods: Some(110),
            ..secondary(1, 0, 0)
        },
    );
    world.waiting = 110;
    let look = world.plan();
    look.actions.iter().for_each(|a| world.carry_out(a));
    assert_eq!(world.plan().actions.len(), 4, "{:?}", world.plan());
    world.settle();
    let calls: Vec<_> = world.calls.iter().map(|(c, n)| (*c, *n)).collect();
    assert_eq!(
        calls,
        [
            ("assign", 1),
            ("attach", 3),
            ("create", 3),
            ("describe", 1),
            ("modify", 3),
            ("subnets", 1)
        ]
    );
    assert_eq!(world.total(), 110);
}

/// Demand that comes while a call is under way waits for its ENI's room: no further ENI for it.
#[test]
fn a_busy_eni_with_room_is_waited_for() {
    let mut world = World::new("m5.large", prefix(1, 0, 0));
    let look = world.plan();
    look.actions.iter().for_each(|a| world.carry_out(a));
    let assign = world.plan();
    ipam_core::outcome::begin(&mut world.store, &assign.actions[0], world.now);
    world.in_flight.extend(assign.actions[0].handle());
    world.waiting = 30;
    assert_eq!(world.plan().actions, vec![]);
    // More than the first ENI can hold in all: the rest comes from another one at once.
    world.waiting = 150;
    let plan = world.plan();
    assert!(
        matches!(
            plan.actions[..],
            [ipam_core::plan::Action::Create { count: 1, .. }]
        ),
        "{plan:?}"
    );
}

/// What is too much goes back, after a while, whole ENIs first; a short dip gives nothing back.
#[test]
fn shrinks_with_hysteresis() {
    let mut world = World::new("t3.small", secondary(1, 1, 1));
    world.settle();
    for _ in 0..8 {
        assert!(world.add_pod());
        world.settle();
    }
    assert_eq!(world.per_eni(), [3, 3, 3]);
    world.calls.clear();
    for n in 3..8 {
        world.del_pod(n);
    }
    world.now = world.now + world.policy.cooldown;
    assert_eq!(world.plan().actions, vec![]);
    world.settle();
    assert_eq!(world.per_eni(), [3, 1], "3 pods and one warm address");
    assert_eq!(
        (world.calls.get("detach"), world.calls.get("delete")),
        (Some(&1), Some(&1))
    );
    assert_eq!(world.calls.get("unassign"), Some(&1));
}
