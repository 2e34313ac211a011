//! Books: what must be true of a VPC and its users, recounted from scratch, and the log of who called
//! what. They read and change nothing.

pub mod audit;
mod brief;

use crate::state::State;
use crate::state::{AttachState, EniState};
use crate::words::caller::Caller;
use crate::words::time::Time;
use ipnet::IpNet;
use mutant::mutant;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which rule.
    pub class: ViolationClass,
    /// What breaks it: an id, an address, a link.
    pub subject: String,
    /// The node concerned, if one is.
    pub node: Option<String>,
    /// A sentence for people.
    pub detail: String,
    /// Since when, if known.
    pub since: Option<Time>,
}

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ViolationClass {
    /// An ENI that a node made and that nothing will ever remove.
    LeakedEni,
    /// An address or prefix outside its ENI's subnet, or one of the reserved five.
    OutsideSubnet,
    /// An address held twice, alone or within a prefix.
    HeldTwice,
    /// A prefix that is not a /28 or /80 on its boundary.
    UnalignedPrefix,
    /// A subnet's free count differs from a recount.
    FreeCount,
    /// More ENIs, addresses or prefixes than the instance type carries.
    OverLimit,
    /// Packets that an ENI sent from an address it does not hold. Reported by the wires' owner
    /// through [`crate::Vpc::report`].
    SourceCheck,
    /// Anything else that the world outside the model reports.
    Other,
}

/// Recounts everything from the ENIs alone; nothing that the allocator wrote is believed.
pub(crate) fn recount(state: &State, now: Time) -> Vec<Violation> {
    let mut all = Vec::new();
    for eni in state.enis.iter() {
        all.extend(mutant!(
            "books/leaked-eni",
            leaked(state, eni, now),
            leaked(state, eni, now).filter(|_| false)
        ));
        outside(state, eni, &mut all);
        unaligned(state, eni, &mut all);
        too_full(state, eni, now, &mut all);
    }
    mutant!("books/held-twice", held_twice(state, &mut all), ());
    free_counts(state, &mut all);
    too_many(state, now, &mut all);
    all
}

fn violation(
    state: &State,
    class: ViolationClass,
    subject: impl ToString,
    eni: Option<&EniState>,
    detail: String,
) -> Violation {
    let node = eni
        .and_then(|e| e.attachment.as_ref())
        .and_then(|a| node_of(state, a));
    let node = node.or_else(|| eni.and_then(maker));
    Violation {
        class,
        subject: subject.to_string(),
        node,
        detail,
        since: None,
    }
}

fn node_of(state: &State, attachment: &AttachState) -> Option<String> {
    state
        .instances
        .get(&attachment.instance)
        .map(|i| i.node.to_string())
}

/// The node that made an ENI, by who called.
fn maker(eni: &EniState) -> Option<String> {
    match &eni.creator {
        Caller::Node(name) => Some(name.to_string()),
        Caller::Operator | Caller::Other(_) => None,
    }
}

/// Made by a node, or marked like one that was: the peer's tag or description.
fn is_a_nodes(eni: &EniState) -> bool {
    if eni.is_strangers {
        return false;
    }
    maker(eni).is_some()
        || eni.tags.contains_key("node.k8s.amazonaws.com/instance_id")
        || eni.description.starts_with("aws-K8S-")
}

/// An ENI of a node that is on no instance, or would outlive its instance, for too long.
fn leaked(state: &State, eni: &EniState, now: Time) -> Option<Violation> {
    let grace = Duration::from_millis(state.spec.leak_after_ms);
    if !is_a_nodes(eni) || now.since(eni.settled_since) < grace {
        return None;
    }
    let (since, detail) = match eni.attachment.as_ref().filter(|a| !a.is_over(now)) {
        None => (eni.settled_since, "is attached to nothing".to_owned()),
        Some(a) if !a.delete_on_termination => (
            a.attached_at,
            format!(
                "would outlive {}: DeleteOnTermination is not set",
                a.instance
            ),
        ),
        Some(_) => return None,
    };
    let detail = format!("{} {detail}", eni.id);
    let v = violation(state, ViolationClass::LeakedEni, &eni.id, Some(eni), detail);
    Some(Violation {
        since: Some(since),
        ..v
    })
}

fn outside(state: &State, eni: &EniState, all: &mut Vec<Violation>) {
    let Some(subnet) = state.subnets.get(&eni.subnet) else {
        return;
    };
    let base = u32::from(subnet.cidr.network());
    let last = u32::from(subnet.cidr.broadcast());
    for held in eni.holdings() {
        let fine = match held {
            IpNet::V4(n) => {
                let (first, end) = (u32::from(n.network()), u32::from(n.broadcast()));
                subnet.cidr.contains(&n) && first >= base + 4 && end < last
            }
            IpNet::V6(n) => subnet.v6_cidr.is_some_and(|v6| v6.contains(&n)),
        };
        if !fine {
            let detail = format!("{} holds {held}, not to be had in {}", eni.id, subnet.cidr);
            all.push(violation(
                state,
                ViolationClass::OutsideSubnet,
                held,
                Some(eni),
                detail,
            ));
        }
    }
}

fn unaligned(state: &State, eni: &EniState, all: &mut Vec<Violation>) {
    let v4 = eni.v4_prefixes.iter().map(|p| (IpNet::V4(*p), 28));
    let v6 = eni.v6_prefixes.iter().map(|p| (IpNet::V6(*p), 80));
    for (prefix, len) in v4.chain(v6) {
        if prefix.prefix_len() != len || prefix != prefix.trunc() {
            let detail = format!("{} holds {prefix}, which is no aligned /{len}", eni.id);
            all.push(violation(
                state,
                ViolationClass::UnalignedPrefix,
                prefix,
                Some(eni),
                detail,
            ));
        }
    }
}

fn too_full(state: &State, eni: &EniState, now: Time, all: &mut Vec<Violation>) {
    let Some(attachment) = eni.attachment.as_ref().filter(|a| !a.is_over(now)) else {
        return;
    };
    let instance = state.instances.get(&attachment.instance);
    let Some(kind) = instance.map(|i| &i.kind) else {
        return;
    };
    let mut say = |what: String| {
        let detail = format!("{} on a {}: {what}", eni.id, kind.name);
        all.push(violation(
            state,
            ViolationClass::OverLimit,
            &eni.id,
            Some(eni),
            detail,
        ));
    };
    if mutant!(
        "books/over-limit",
        eni.v4_slots() > kind.ipv4_per_eni,
        false
    ) {
        say(format!(
            "{} IPv4 slots of {}",
            eni.v4_slots(),
            kind.ipv4_per_eni
        ));
    }
    if eni.v6_slots() > kind.ipv6_per_eni {
        say(format!(
            "{} IPv6 slots of {}",
            eni.v6_slots(),
            kind.ipv6_per_eni
        ));
    }
    if !kind.has_prefixes() && eni.v4_prefixes.len() + eni.v6_prefixes.len() > 0 {
        say("prefixes without Nitro".to_owned());
    }
}

/// Sorts all that is held by first address: two that overlap become neighbours.
fn held_twice(state: &State, all: &mut Vec<Violation>) {
    let mut ranges: Vec<(bool, u128, u128, IpNet, &EniState)> = Vec::new();
    for eni in state.enis.iter() {
        for held in eni.holdings() {
            let (first, last) = (number(held.network()), number(held.broadcast()));
            ranges.push((matches!(held, IpNet::V6(_)), first, last, held, eni));
        }
    }
    ranges.sort_by_key(|(v6, first, last, ..)| (*v6, *first, *last));
    let mut widest: Option<&(bool, u128, u128, IpNet, &EniState)> = None;
    for range in &ranges {
        if let Some(before) = widest.filter(|w| w.0 == range.0 && range.1 <= w.2) {
            let detail = format!(
                "{} holds {} and {} holds {}",
                before.4.id, before.3, range.4.id, range.3
            );
            let class = ViolationClass::HeldTwice;
            all.push(violation(state, class, range.3, Some(range.4), detail));
        }
        if widest.is_none_or(|w| w.0 != range.0 || range.2 > w.2) {
            widest = Some(range);
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => u128::from(u32::from(a)),
        IpAddr::V6(a) => u128::from(a),
    }
}

fn free_counts(state: &State, all: &mut Vec<Violation>) {
    let mut held: BTreeMap<&str, u64> = BTreeMap::new();
    for eni in state.enis.iter() {
        let singles = u64::try_from(eni.v4_addresses().count()).unwrap_or(0);
        let prefixes = u64::try_from(eni.v4_prefixes.len()).unwrap_or(0);
        *held.entry(eni.subnet.as_str()).or_default() += singles + 16 * prefixes;
    }
    for subnet in state.subnets.values() {
        let size = 1u64 << (32 - subnet.cidr.prefix_len());
        let used = held.get(subnet.id.as_str()).copied().unwrap_or(0);
        let want = (size - 5).checked_sub(used);
        let have = u64::from(subnet.space4.free());
        if want != Some(have) {
            let detail = format!("{} says {have} free; {used} of {size} are held", subnet.id);
            all.push(violation(
                state,
                ViolationClass::FreeCount,
                &subnet.id,
                None,
                detail,
            ));
        }
    }
}

fn too_many(state: &State, now: Time, all: &mut Vec<Violation>) {
    for instance in state.instances.values() {
        let kind = &instance.kind;
        let mut cards: BTreeMap<u32, u32> = BTreeMap::new();
        for eni in state.enis.on_instance(instance.id.as_str(), now) {
            if let Some(a) = &eni.attachment {
                *cards.entry(a.card).or_default() += 1;
            }
        }
        for (card, count) in cards {
            let room = usize::try_from(card)
                .ok()
                .and_then(|c| kind.card_enis.get(c))
                .copied();
            if count > room.unwrap_or(0) {
                let detail = format!(
                    "{count} ENIs on card {card} of {}, a {}",
                    instance.id, kind.name
                );
                let mut v = violation(state, ViolationClass::OverLimit, &instance.id, None, detail);
                v.node = Some(instance.node.to_string());
                all.push(v);
            }
        }
    }
    let quota = usize::try_from(state.spec.limits.network_interfaces).unwrap_or(usize::MAX);
    let own = state.enis.iter().filter(|e| e.owner.is_none()).count();
    if own > quota {
        let detail = format!("{own} ENIs, quota {quota}");
        all.push(violation(
            state,
            ViolationClass::OverLimit,
            &state.id,
            None,
            detail,
        ));
    }
}

#[cfg(test)]
mod tests;
