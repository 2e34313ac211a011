//! What a seed stands for: the VPC, the nodes, their settings, and which troubles there are.

use super::ground::{self, Ground};
use super::known::Dice;
use super::runtime::Habits;
use super::trouble::Trouble;
use crate::rng::Rng;
use crate::settle::settings;
use ipam_core::Family;
use ipam_core::plan::Policy;
use ipam_engine::Settings;
use ipam_engine::settings::OrphanScope;
use ipnet::{IpNet, Ipv4Net};
use std::time::Duration;
use vpc_model::spec::{BucketSpec, ReservationKind, ReservationSpec};
use vpc_model::{Latencies, Latency, NodeSpec, Placement, SubnetSpec, VpcSpec};

/// A scenario before it begins.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) spec: VpcSpec,
    /// Name, instance type and settings of each node.
    pub(super) nodes: Vec<(String, String, Settings)>,
    /// How many things happen.
    pub(super) events: u32,
    /// At most so long between two.
    pub(super) gap: Duration,
    /// How likely each kind of thing is, by [`super::trouble::Trouble::ALL`].
    pub(super) weights: Vec<u64>,
    /// Daemons are killed at their ports' steps.
    pub(super) fuses: bool,
    /// Addresses that others have, scattered over the subnet.
    pub(super) strangers: u32,
    /// Which kinds of trouble may come at all.
    pub(super) dice: Dice,
    /// Of the nodes' runtimes.
    pub(super) habits: Habits,
    /// What the VPC is like besides.
    pub(super) ground: Ground,
}

impl Plan {
    /// Whether this kind of trouble is in it.
    pub(super) fn may(&self, trouble: Trouble) -> bool {
        let at = Trouble::ALL.iter().position(|t| *t == trouble);
        at.and_then(|at| self.weights.get(at))
            .is_some_and(|w| *w > 0)
    }

    /// Whether no common trouble ends a daemon.
    pub(super) fn daemons_stay(&self) -> bool {
        let ends = [
            Trouble::Kill,
            Trouble::Restart,
            Trouble::GoBack,
            Trouble::Reboot,
        ];
        !self.fuses && !ends.into_iter().any(|trouble| self.may(trouble))
    }
}

/// Small ones: an ENI's end is near.
const TYPES: [&str; 7] = [
    "t3.small",
    "t3.small",
    "t3.medium",
    "m5.large",
    "m5.xlarge",
    "t2.small",
    "c5.2xlarge",
];

/// Seeds below it are of IPv4 alone, as many from it on of IPv6 alone, and then of both, and so on.
pub const FAMILY_SEEDS: u64 = 1_000_000_000;

/// The families of a seed's pods: not by dice, so that each has seeds of its own.
pub(super) fn families(seed: u64) -> Vec<Family> {
    match seed / FAMILY_SEEDS % 3 {
        0 => Vec::from([Family::V4]),
        1 => Vec::from([Family::V6]),
        _ => Vec::from([Family::V4, Family::V6]),
    }
}

/// Has a node serve these families. An old instance type has no prefixes, and those of IPv6 are all
/// that there is.
fn of_families(kind: &mut String, policy: &mut Policy, families: &[Family]) {
    if families.contains(&Family::V6) && kind.starts_with("t2") {
        *kind = "t3.medium".into();
    }
    families.clone_into(&mut policy.families);
}

/// Throws the dice.
pub(super) fn throw(rng: &mut Rng, seed: u64, dice: Dice) -> Plan {
    let long = rng.percent(3);
    let habits = Habits::throw(seed, dice);
    let nodes: Vec<(String, String, Settings)> = (0..*rng.pick(&[1, 1, 1, 2, 3]))
        .map(|n| {
            let mut kind = (*rng.pick(&TYPES)).to_owned();
            let mut policy = policy(rng);
            of_families(&mut kind, &mut policy, &families(seed));
            let settings = Settings {
                egress: habits.egress(&policy.families),
                orphans: OrphanScope::Cluster,
                ..settings(policy)
            };
            (format!("n{n}"), kind, settings)
        })
        .collect();
    let spec = spec(rng, seed, &nodes);
    let events = if long {
        rng.count(100, 250)
    } else {
        rng.count(6, 36)
    };
    // Each scenario has some kinds of trouble and not others: more room for each.
    let weights = Trouble::ALL
        .iter()
        .map(|t| {
            let weight = t.weight();
            if t.optional() && rng.percent(55) {
                0
            } else {
                weight
            }
        })
        .collect();
    let mut plan = Plan {
        spec,
        nodes,
        events,
        gap: Duration::from_millis(*rng.pick(&[300, 2_000, 8_000, 20_000])),
        weights,
        fuses: rng.percent(60),
        strangers: if rng.percent(30) { rng.count(1, 60) } else { 0 },
        dice,
        habits,
        ground: Ground::default(),
    };
    ground::lay(seed, dice, &mut plan);
    plan
}

/// Warm targets and modes.
pub(super) fn policy(rng: &mut Rng) -> Policy {
    let mut policy = Policy {
        prefixes: rng.percent(50),
        max_pods: Some(*rng.pick(&[4, 11, 29, 58, 110])),
        ..Policy::default()
    };
    match rng.range(0, 5) {
        0 => policy.warm_eni = rng.count(0, 2),
        1 => policy.warm_ip = Some(rng.count(1, 6)),
        2 => {
            policy.warm_ip = Some(rng.count(1, 4));
            policy.minimum_ip = Some(rng.count(1, 20));
        }
        3 => policy.warm_prefix = rng.count(0, 2),
        4 => policy.minimum_ip = Some(rng.count(1, 20)),
        _ => {}
    }
    if rng.percent(15) {
        policy.max_eni = Some(rng.count(1, 3));
    }
    policy
}

fn spec(rng: &mut Rng, seed: u64, nodes: &[(String, String, Settings)]) -> VpcSpec {
    let bits = *rng.pick(&[28, 27, 26, 25, 24, 24, 22, 20]);
    let cidr = Ipv4Net::new_assert([10, 0, 0, 0].into(), bits);
    let mut subnet = SubnetSpec::new(cidr);
    let six = families(seed).contains(&Family::V6);
    if six {
        subnet.ipv6_cidr = "2001:db8::/64".parse().ok();
    }
    if bits < 27 && rng.percent(20) {
        subnet.reservations.push(reservation(rng, cidr));
    }
    let mut spec = VpcSpec {
        seed,
        subnets: vec![subnet],
        nodes: nodes
            .iter()
            .map(|(name, kind, s)| {
                let mut node = NodeSpec::new(name, kind);
                node.launch_ipv6_addresses = u32::from(six);
                if rng.percent(10) {
                    node.launch_addresses = rng.count(1, 3);
                } else if rng.percent(10)
                    && s.policy.prefixes
                    && !kind.starts_with("t2")
                    && bits < 26
                {
                    node.launch_prefixes = 1;
                }
                node
            })
            .collect(),
        latencies: latencies(rng),
        ipv6_cidr: six.then(|| "2001:db8::/56".parse().ok()).flatten(),
        placement: *rng.pick(&[Placement::Random, Placement::Random, Placement::Lowest]),
        ..VpcSpec::default()
    };
    if rng.percent(25) {
        for class in ["describe", "mutate"] {
            let capacity = f64::from(rng.count(2, 12));
            let bucket = BucketSpec::full(capacity, f64::from(rng.count(2, 20)) / 10.0);
            spec.limits.buckets.insert(class.into(), bucket);
        }
    }
    spec
}

/// A quarter of the subnet is not for single addresses, or not for anybody.
fn reservation(rng: &mut Rng, cidr: Ipv4Net) -> ReservationSpec {
    let size = cidr.prefix_len() + 2;
    let quarters: Vec<Ipv4Net> = cidr.subnets(size).into_iter().flatten().collect();
    ReservationSpec {
        cidr: IpNet::V4(*rng.pick(&quarters[1..])),
        kind: *rng.pick(&[ReservationKind::Prefix, ReservationKind::Explicit]),
    }
}

fn latencies(rng: &mut Rng) -> Latencies {
    let mut ms = |from, to| Latency::fixed(f64::from(rng.count(from, to)));
    let mut latencies = Latencies {
        ec2_ms: ms(20, 1_500),
        eni_in_imds_ms: ms(1_000, 30_000),
        eni_link_ms: ms(200, 5_000),
        eni_detach_ms: ms(200, 5_000),
        ..Latencies::default()
    };
    if rng.percent(30) {
        latencies.describe_lag_ms = Latency::fixed(f64::from(rng.count(100, 25_000)));
    }
    latencies
}
