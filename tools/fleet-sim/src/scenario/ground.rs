//! What a scenario's VPC is like besides its nodes: several subnets with tags, another cluster, dead
//! nodes' ENIs, buckets that are empty, answers that lag. Thrown with dice of its own, so that what
//! else a seed stands for stays as it is.

use super::chaos::Chaos;
use super::dice::{Plan, families};
use super::known::Dice;
use super::operator;
use crate::cloud::{CLUSTER, CREATED_TAG, OWNER_TAG};
use crate::oracle::{self, Promise};
use crate::rng::Rng;
use crate::world::World;
use ipam_core::Family;
use ipam_core::plan::Subnets;
use ipnet::{IpNet, Ipv4Net};
use std::collections::BTreeMap;
use vpc_model::place::EniSpec;
use vpc_model::request::{Action, CreateTags};
use vpc_model::spec::BucketSpec;
use vpc_model::{Latency, NodeSpec, SubnetSpec};

/// `0` excludes a subnet, another value includes it (Amazon VPC CNI, "Subnet discovery").
pub(super) const ROLE_TAG: &str = "kubernetes.io/role/cni";
/// Begins the tags that keep a subnet for clusters.
pub(super) const KEPT_FOR: &str = "cni.networking.k8s.aws/cluster/";
/// The zone that no node is in.
const ELSEWHERE: &str = "eu-west-1b";

/// EC2's window of consistency, in milliseconds: the daemon's design counts on it.
const WINDOW_MS: u32 = 60_000;

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Ground {
    /// Pods may have IPv6 addresses, whatever they have at first.
    pub(super) six: bool,
    /// Subnets' tags may change while nodes run.
    pub(super) retags: bool,
    /// Describes lag by so much at most.
    pub(super) lag_ms: u32,
    /// So many ENIs are another cluster's.
    pub(super) neighbours: u32,
    /// Of these, some are attached to an instance of its own.
    host: bool,
    /// Nodes have ENIs that are tagged to be left alone.
    pub(super) left_alone: bool,
    /// Nodes have ENIs of another account.
    pub(super) foreign: bool,
    /// So many dead nodes' ENIs lie about.
    pub(super) orphans: u32,
}

/// Instances that are no nodes of ours: another cluster's, and one that is no more.
const STRANGER: &str = "i-0ffffffffffffffff";
const DEAD: &str = "i-0dddddddddddddddd";
/// The name of another cluster's node that is there.
const OTHER_NODE: &str = "other";

/// Throws the dice, and changes the plan.
pub(super) fn lay(seed: u64, dice: Dice, plan: &mut Plan) {
    let mut rng = Rng::stream(seed, "world/ground");
    let rng = &mut rng;
    let some = rng.percent(10);
    plan.ground.six = families(seed).contains(&Family::V6) || some || plan.habits.six();
    if plan.ground.six {
        plan.spec.ipv6_cidr = "2001:db8::/56".parse().ok();
        plan.spec.subnets[0].ipv6_cidr = "2001:db8::/64".parse().ok();
        for node in &mut plan.spec.nodes {
            node.launch_ipv6_addresses = 1;
        }
    }
    if rng.percent(35) {
        subnets(rng, plan);
    }
    odd_nodes(rng, dice, plan);
    if rng.percent(25) {
        plan.ground.neighbours = rng.count(1, 6);
        plan.ground.host = rng.percent(60);
        if plan.ground.host {
            plan.spec.nodes.push(NodeSpec::new(OTHER_NODE, "m5.xlarge"));
        }
    }
    if rng.percent(15) {
        plan.ground.orphans = rng.count(1, 4);
    }
    plan.ground.left_alone = rng.percent(8);
    plan.ground.foreign = rng.percent(5);
    if rng.percent(6) {
        // Other programs of the account have used them up.
        for class in ["describe", "mutate"] {
            let capacity = f64::from(rng.count(1, 20));
            let bucket = BucketSpec::empty(capacity, f64::from(rng.count(1, 10)) / 10.0);
            plan.spec.limits.buckets.insert(class.into(), bucket);
        }
    }
    if rng.percent(8) {
        let past = rng.percent(40) && dice.allow("lag past the window");
        plan.ground.lag_ms = match past {
            true => rng.count(WINDOW_MS + 1_000, 5 * WINDOW_MS),
            false => rng.count(WINDOW_MS - 15_000, WINDOW_MS - 1_000),
        };
        plan.spec.latencies.describe_lag_ms = Latency::fixed(f64::from(plan.ground.lag_ms));
    }
}

/// Instances that are not as their types are said to be.
fn odd_nodes(rng: &mut Rng, dice: Dice, plan: &mut Plan) {
    for (node, (_, kind, _)) in plan.spec.nodes.iter_mut().zip(&plan.nodes) {
        if rng.percent(4) && dice.allow("fewer slots") {
            let most = if kind.ends_with("small") { 3 } else { 4 };
            node.limits.ipv4_per_eni = Some(rng.count(3, most));
            (node.launch_addresses, node.launch_prefixes) = (0, 0);
        }
        if rng.percent(3) && dice.allow("primary elsewhere") {
            node.device_index = rng.count(1, 2);
        }
    }
}

/// The longest time by which a single answer may be older still.
pub(super) fn stale_most(plan: &Plan) -> u64 {
    // What stays within the window together with what lags anyway.
    let lag = plan.ground.lag_ms.max(25_000);
    u64::from(WINDOW_MS.saturating_sub(lag + 1_000))
}

fn subnets(rng: &mut Rng, plan: &mut Plan) {
    for (n, subnet) in plan.spec.subnets.iter_mut().enumerate() {
        subnet.id = Some(format!("subnet-{n}"));
        subnet.tags = tags(rng, 60);
    }
    for n in 1..=rng.count(1, 3) {
        let bits = *rng.pick(&[28, 27, 26, 24, 24]);
        let third = u8::try_from(n * 32).unwrap_or(32);
        let mut subnet = SubnetSpec::new(Ipv4Net::new_assert([10, 0, third, 0].into(), bits));
        subnet.id = Some(format!("subnet-{n}"));
        subnet.tags = tags(rng, 15);
        subnet.az = rng.percent(12).then(|| ELSEWHERE.to_owned());
        if plan.ground.six {
            subnet.ipv6_cidr = format!("2001:db8:0:{n}::/64").parse().ok();
        }
        plan.spec.subnets.push(subnet);
    }
    let here: Vec<String> = plan
        .spec
        .subnets
        .iter()
        .filter(|s| s.az.is_none())
        .filter_map(|s| s.id.clone())
        .collect();
    for node in &mut plan.spec.nodes {
        // The least subnets have no prefix for an instance's launch.
        if rng.percent(20) && node.launch_prefixes == 0 {
            node.subnet = Some(rng.pick(&here).clone());
        }
    }
    let all: Vec<String> = plan
        .spec
        .subnets
        .iter()
        .filter_map(|s| s.id.clone())
        .collect();
    for (_, _, settings) in &mut plan.nodes {
        settings.policy.subnets = choice(rng, &all);
    }
    plan.ground.retags = rng.percent(30);
}

/// Which subnets new ENIs go to.
pub(super) fn choice(rng: &mut Rng, all: &[String]) -> Subnets {
    match rng.range(0, 9) {
        0 => Subnets::Primary,
        1 => Subnets::Tagged { cluster: None },
        2 if !all.is_empty() => {
            let some: Vec<_> = all.iter().filter(|_| rng.percent(60)).collect();
            let some: Vec<_> = some.into_iter().map(|id| id.as_str().into()).collect();
            if some.is_empty() {
                return Subnets::Primary;
            }
            Subnets::Listed(some)
        }
        _ => Subnets::Tagged {
            cluster: Some(CLUSTER.into()),
        },
    }
}

/// Tags of a subnet; so many of a hundred have none.
pub(super) fn tags(rng: &mut Rng, none: u64) -> BTreeMap<String, String> {
    if rng.percent(none) {
        return BTreeMap::new();
    }
    let role = *rng.pick(&["1", "1", "1", "1", "0", ""]);
    let mut tags = BTreeMap::from([(ROLE_TAG.to_owned(), role.to_owned())]);
    match rng.range(0, 9) {
        0 => drop(tags.insert(format!("{KEPT_FOR}other"), "1".into())),
        1 => drop(tags.insert(format!("{KEPT_FOR}{CLUSTER}"), "1".into())),
        _ => {}
    }
    tags
}

/// An ENI of the cluster's neighbours, as it is to stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Neighbour {
    id: String,
    attachment: Option<String>,
    /// Where it hangs.
    node: Option<String>,
    blocks: Vec<IpNet>,
}

/// The oracle knows by the world's own word which instances carry less than their type.
pub(super) fn tell_oracle(world: &World, plan: &Plan) {
    for node in &plan.spec.nodes {
        if let Some(ipv4) = node.limits.ipv4_per_eni {
            let carries = (u32::MAX, ipv4);
            let mut oracle = world.oracle();
            oracle.pools.carries.insert(node.name.clone(), carries);
        }
    }
}

/// Makes what others have.
pub(super) fn populate(world: &World, plan: &Plan, seed: u64) -> Vec<Neighbour> {
    let mut rng = Rng::stream(seed, "world/populate");
    let rng = &mut rng;
    let mut ids = Vec::new();
    let now = world.time();
    for _ in 0..plan.ground.neighbours {
        let eni = EniSpec {
            addresses: rng.count(0, 3),
            ..EniSpec::default()
        };
        // Its nodes may have the same names; its instances have other ids.
        let mut eni = match rng.range(0, 3) {
            0 => eni.of_cluster("other", STRANGER),
            1 => EniSpec {
                tags: BTreeMap::from([(OWNER_TAG.to_owned(), STRANGER.to_owned())]),
                description: format!("aws-K8S-{STRANGER}"),
                ..eni
            },
            2 => eni.of_cluster(CLUSTER, STRANGER).unmanaged(),
            _ => EniSpec {
                description: "by hand".into(),
                ..eni
            },
        };
        // As old as can be: age alone makes nothing an orphan.
        eni.tags.insert(CREATED_TAG.to_owned(), "1".to_owned());
        if plan.ground.host && rng.percent(50) {
            eni = eni.on(OTHER_NODE);
        }
        // Its place or the subnet may be full.
        ids.extend(world.vpc().place_eni(&eni, now).ok());
    }
    for (name, ..) in &plan.nodes {
        if plan.ground.left_alone && rng.percent(50) {
            let eni = EniSpec {
                addresses: rng.count(0, 2),
                ..EniSpec::default()
            };
            let eni = eni.unmanaged().on(name);
            ids.extend(world.vpc().place_eni(&eni, now).ok());
        }
        if plan.ground.foreign && rng.percent(50) {
            let eni = EniSpec::default().owned_by("210987654321").on(name);
            ids.extend(world.vpc().place_eni(&eni, now).ok());
        }
    }
    for _ in 0..plan.ground.orphans {
        let mut eni = EniSpec::default().of_cluster(CLUSTER, DEAD);
        eni.tags.insert(CREATED_TAG.to_owned(), "1".to_owned());
        let _ = world.vpc().place_eni(&eni, now);
    }
    let ids: Vec<String> = ids.iter().map(|id| id.as_str().to_owned()).collect();
    neighbours(world, &ids)
}

/// What has become of what others have, and of what nobody has.
pub(super) fn judge(world: &World, chaos: &Chaos, before: &[Neighbour]) {
    let now = world.elapsed();
    // What hung on an instance that was terminated went with it.
    let mut before = before.to_vec();
    let gone = |name: &String| {
        let mut machines = chaos.machines.iter();
        machines.any(|m| m.gone && m.site.name == *name)
    };
    before.retain(|n| !n.node.as_ref().is_some_and(gone));
    for what in changed(world, &before) {
        world
            .oracle()
            .breach(now, Promise::OthersAreLeftAlone, what);
    }
    if chaos.machines.iter().any(|m| !m.gone) {
        for what in orphans_left(world) {
            world.oracle().breach(now, Promise::BooksAreClean, what);
        }
    }
}

/// Dead nodes' ENIs that nobody has deleted.
fn orphans_left(world: &World) -> Vec<String> {
    let left = oracle::enis(world).into_iter();
    let left = left.filter(|e| e.owner.as_deref() == Some(DEAD));
    left.map(|e| format!("{} of a dead node is still there", e.id))
        .collect()
}

/// What has become of others' ENIs.
fn changed(world: &World, before: &[Neighbour]) -> Vec<String> {
    let ids: Vec<String> = before.iter().map(|n| n.id.clone()).collect();
    let now = neighbours(world, &ids);
    let same = |n: &&Neighbour| {
        let is =
            |m: &Neighbour| (&m.id, &m.attachment, &m.blocks) == (&n.id, &n.attachment, &n.blocks);
        now.iter().any(is)
    };
    let wrong = before.iter().filter(|n| !same(n));
    wrong
        .map(|n| format!("{} is not this cluster's and was touched", n.id))
        .collect()
}

fn neighbours(world: &World, ids: &[String]) -> Vec<Neighbour> {
    oracle::enis(world)
        .into_iter()
        .filter(|e| ids.contains(&e.id))
        .map(|e| Neighbour {
            id: e.id,
            attachment: e.attachment,
            node: e.node,
            blocks: e.blocks,
        })
        .collect()
}

/// Somebody changes the tags of a subnet.
pub(super) fn retag(world: &World, rng: &mut Rng) {
    let ids: Vec<String> = {
        let subnets = world.vpc().subnets();
        subnets.iter().map(|s| s.id.as_str().to_owned()).collect()
    };
    let id = rng.pick(&ids).clone();
    let role = *rng.pick(&["0", "0", "1", "1", ""]);
    world.tell("operator", || format!("tags {id} {ROLE_TAG}={role}"));
    let request = CreateTags {
        resources: vec![id],
        tags: BTreeMap::from([(ROLE_TAG.to_owned(), role.to_owned())]),
    };
    // Every subnet can be tagged.
    let _ = operator::call(world, Action::CreateTags(request));
}
