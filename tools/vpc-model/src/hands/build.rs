//! From spec to VPC: finds every mistake, then makes subnets and groups and launches nodes.

use crate::hands::launch::launch_node;
use crate::state::State;
use crate::state::latency::bound;
use crate::state::space4::Space4;
use crate::state::space6::Space6;
use crate::state::store::WINDOW;
use crate::state::{GroupState, SubnetState};
use crate::words::error::SpecError;
use crate::words::ids::{GroupId, SubnetId, VpcId, fresh};
use crate::words::rng::Rng;
use crate::words::spec::{GroupSpec, Latency, SubnetSpec, VpcSpec};
use crate::words::time::Time;
use ipnet::{IpNet, Ipv4Net};
use std::collections::{BTreeMap, BTreeSet};

/// The VPC that is wanted, its nodes launched.
///
/// # Errors
/// Everything that is wrong with the spec, at once.
pub(crate) fn build(spec: VpcSpec, now: Time) -> Result<State, SpecError> {
    let mut problems = check(&spec);
    if !problems.is_empty() {
        return Err(SpecError { problems });
    }
    let mut rng = Rng::new(spec.seed);
    let id = spec
        .vpc_id
        .clone()
        .unwrap_or_else(|| fresh("vpc", &mut rng));
    let mut state = State::new(spec, VpcId::from(id), rng, now);
    for subnet in state.spec.subnets.clone() {
        let made = subnet_state(&subnet, &state.spec.region, &mut state.rng);
        state.subnets.insert(made.id.clone(), made);
    }
    make_groups(&mut state);
    for (i, node) in state.spec.nodes.clone().iter().enumerate() {
        if let Err(e) = launch_node(&mut state, node, &format!("nodes[{i}]"), now) {
            problems.extend(e.problems);
        }
    }
    if problems.is_empty() {
        Ok(state)
    } else {
        Err(SpecError { problems })
    }
}

/// The spec's groups, or the `default` one that every VPC has.
fn make_groups(state: &mut State) {
    let mut groups = state.spec.security_groups.clone();
    if groups.is_empty() {
        groups.push(GroupSpec {
            id: None,
            name: "default".into(),
            description: "default VPC security group".into(),
            tags: BTreeMap::new(),
        });
    }
    for group in groups {
        let id = GroupId::from(group.id.unwrap_or_else(|| fresh("sg", &mut state.rng)));
        let GroupSpec {
            name,
            description,
            tags,
            ..
        } = group;
        state.groups.insert(
            id.clone(),
            GroupState {
                id,
                name,
                description,
                tags,
            },
        );
    }
}

fn subnet_state(spec: &SubnetSpec, region: &str, rng: &mut Rng) -> SubnetState {
    let v4: Vec<(Ipv4Net, _)> = spec
        .reservations
        .iter()
        .filter_map(|r| {
            if let IpNet::V4(n) = r.cidr {
                Some((n, r.kind))
            } else {
                None
            }
        })
        .collect();
    let zone = spec.az.clone().unwrap_or_else(|| format!("{region}a"));
    SubnetState {
        id: SubnetId::from(spec.id.clone().unwrap_or_else(|| fresh("subnet", rng))),
        cidr: spec.cidr.trunc(),
        v6_cidr: spec.ipv6_cidr.map(|n| n.trunc()),
        zone_id: zone_id(&zone, region),
        zone,
        map_public_ip: spec.map_public_ip,
        tags: spec.tags.clone(),
        space4: Space4::new(spec.cidr, &v4),
        space6: spec.ipv6_cidr.map(Space6::new),
        free_before: Vec::new(),
    }
}

/// `eu-west-1a` is `euw1-az1` here. In AWS the letter differs by account (*assumed*: it does not).
fn zone_id(zone: &str, region: &str) -> String {
    let letter = zone
        .strip_prefix(region)
        .and_then(|rest| rest.bytes().next())
        .unwrap_or(b'a');
    let parts: Vec<&str> = region.split('-').collect();
    let short: String = match parts.as_slice() {
        [area, direction, number] => {
            let compass = ["north", "south", "east", "west", "central"];
            let mut rest = *direction;
            let mut initials = String::new();
            while let Some(word) = compass.iter().find(|w| rest.starts_with(*w)) {
                initials.push_str(&word[..1]);
                rest = &rest[word.len()..];
            }
            format!("{area}{initials}{number}")
        }
        _ => region.to_owned(),
    };
    format!("{short}-az{}", letter.wrapping_sub(b'a').wrapping_add(1))
}

/// Everything that contradicts itself, but the nodes' launch, which is tried.
fn check(spec: &VpcSpec) -> Vec<String> {
    let mut problems = Vec::new();
    let mut say = |text: String| problems.push(text);
    if spec.cidrs.is_empty() {
        say("cidrs: at least one IPv4 block is needed".into());
    }
    for (i, cidr) in spec.cidrs.iter().enumerate() {
        if !(16..=28).contains(&cidr.prefix_len()) {
            say(format!("cidrs[{i}]: {cidr} is not between /16 and /28"));
        }
    }
    if spec.account_id.len() != 12 || !spec.account_id.bytes().all(|b| b.is_ascii_digit()) {
        say(format!(
            "account_id: {:?} is not twelve digits",
            spec.account_id
        ));
    }
    if spec.subnets.is_empty() {
        say("subnets: at least one is needed".into());
    }
    for (i, subnet) in spec.subnets.iter().enumerate() {
        check_subnet(spec, i, subnet, &mut say);
    }
    check_names(spec, &mut say);
    check_latencies(spec, &mut say);
    for (name, size) in &spec.limits.buckets {
        if !(size.capacity >= 1.0 && size.refill >= 0.0) {
            say(format!(
                "limits.buckets.{name}: capacity must be 1 or more, refill 0 or more"
            ));
        }
        if size
            .initial
            .is_some_and(|n| !(0.0..=size.capacity).contains(&n))
        {
            say(format!(
                "limits.buckets.{name}: initial must be between 0 and capacity"
            ));
        }
    }
    for (name, t) in &spec.limits.types {
        if t.card_enis
            .as_ref()
            .is_some_and(|c| c.first().is_none_or(|n| *n == 0))
        {
            say(format!(
                "limits.types.{name}.card_enis: card 0 needs at least one interface"
            ));
        }
        if t.ipv4_per_eni == Some(0) {
            say(format!(
                "limits.types.{name}.ipv4_per_eni: must be 1 or more"
            ));
        }
    }
    problems
}

fn check_subnet(spec: &VpcSpec, i: usize, subnet: &SubnetSpec, say: &mut impl FnMut(String)) {
    let cidr = subnet.cidr;
    if !(16..=28).contains(&cidr.prefix_len()) {
        say(format!(
            "subnets[{i}].cidr: {cidr} is not between /16 and /28"
        ));
    }
    if cidr != cidr.trunc() {
        say(format!(
            "subnets[{i}].cidr: {cidr} has host bits; {} is meant?",
            cidr.trunc()
        ));
    }
    if !spec.cidrs.iter().any(|vpc| vpc.contains(&cidr)) {
        say(format!(
            "subnets[{i}].cidr: {cidr} is in no block of the VPC"
        ));
    }
    for (j, other) in spec.subnets.iter().enumerate().take(i) {
        if other.cidr.contains(&cidr) || cidr.contains(&other.cidr) {
            say(format!(
                "subnets[{i}].cidr: {cidr} overlaps with subnets[{j}], {}",
                other.cidr
            ));
        }
    }
    if let Some(v6) = subnet.ipv6_cidr {
        if v6.prefix_len() != 64 {
            say(format!("subnets[{i}].ipv6_cidr: {v6} is not a /64"));
        }
        if spec.ipv6_cidr.is_none_or(|vpc| !vpc.contains(&v6)) {
            say(format!(
                "subnets[{i}].ipv6_cidr: {v6} is not in the VPC's ipv6_cidr"
            ));
        }
    }
    for (j, r) in subnet.reservations.iter().enumerate() {
        let inside = match r.cidr {
            IpNet::V4(n) => cidr.contains(&n),
            IpNet::V6(n) => subnet.ipv6_cidr.is_some_and(|v6| v6.contains(&n)),
        };
        if !inside {
            say(format!(
                "subnets[{i}].reservations[{j}].cidr: {} is not in the subnet",
                r.cidr
            ));
        }
    }
}

fn check_names(spec: &VpcSpec, say: &mut impl FnMut(String)) {
    let mut seen = BTreeSet::new();
    for (i, node) in spec.nodes.iter().enumerate() {
        if node.name.is_empty() || node.name == "operator" {
            say(format!(
                "nodes[{i}].name: {:?} can't be a node's name",
                node.name
            ));
        }
        if !seen.insert(("node", node.name.as_str())) {
            say(format!("nodes[{i}].name: {:?} is there twice", node.name));
        }
        if node
            .instance_id
            .as_ref()
            .is_some_and(|id| !seen.insert(("id", id)))
        {
            say(format!("nodes[{i}].instance_id: is there twice"));
        }
        if !(1..=64).contains(&node.hop_limit) {
            say(format!(
                "nodes[{i}].hop_limit: {} is not 1 to 64",
                node.hop_limit
            ));
        }
    }
    let ids = spec.subnets.iter().filter_map(|s| s.id.as_deref());
    for id in ids.chain(spec.security_groups.iter().filter_map(|g| g.id.as_deref())) {
        if !seen.insert(("id", id)) {
            say(format!("id: {id} is there twice"));
        }
    }
}

fn check_latencies(spec: &VpcSpec, say: &mut impl FnMut(String)) {
    let l = &spec.latencies;
    let named = [
        ("ec2_ms", &l.ec2_ms),
        ("imds_ms", &l.imds_ms),
        ("eni_in_imds_ms", &l.eni_in_imds_ms),
        ("eni_link_ms", &l.eni_link_ms),
        ("eni_detach_ms", &l.eni_detach_ms),
        ("address_in_imds_ms", &l.address_in_imds_ms),
        ("describe_lag_ms", &l.describe_lag_ms),
    ];
    for (name, latency) in named {
        let ok = match latency {
            Latency::Fixed(ms) => *ms >= 0.0,
            Latency::Spread(s) => s.p50 >= 0.0 && s.p99 >= s.p50,
        };
        if !ok {
            say(format!(
                "latencies.{name}: must not be negative, nor p99 below p50"
            ));
        }
    }
    if bound(&l.describe_lag_ms) > WINDOW {
        say("latencies.describe_lag_ms: the past is kept for ten minutes only".into());
    }
}
