//! The three promises as checks that an outsider can make: what pods have in the kernel, what the
//! daemon says, and what EC2 has given, held against each other.
//!
//! Each check lists what is wrong; an empty list is good. They change nothing.

use crate::cluster::Cluster;
use crate::error::LabError;
use crate::kernel;
use crate::node::Node;
use crate::pod::Pod;
use crate::snapshot::Snapshot;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Prefix of pods' links on nodes.
pub const POD_LINK: &str = "eni";

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Wrong {
    /// Which rule, a word.
    pub rule: &'static str,
    /// What breaks it: an address, a pod, an ENI.
    pub subject: String,
    /// Where.
    pub node: Option<String>,
    /// A sentence for people.
    pub detail: String,
}

fn wrong(rule: &'static str, subject: impl ToString, node: &str, detail: String) -> Wrong {
    Wrong {
        rule,
        subject: subject.to_string(),
        node: Some(node.to_owned()),
        detail,
    }
}

/// A pod with what the kernel has in its namespace.
#[derive(Debug)]
struct Seen<'a> {
    pod: &'a Pod,
    addresses: BTreeSet<IpAddr>,
    /// Those that mean something on the pod's node alone, and that no CNI result names.
    local: BTreeSet<IpAddr>,
}

/// Whether an address is of the ranges by which pods reach the family that they have no address of.
#[must_use]
pub fn is_node_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[..2] == [169, 254],
        IpAddr::V6(ip) => ip.octets()[..8] == [0xfd, 0, 0, 0, 0, 0, 0, 0],
    }
}

/// Everything that must hold while pods are up: no address in two pods, each pod has what its ADD
/// said, leases and host routes name the same pods, and EC2 has given every address to an ENI of the
/// pod's node.
///
/// # Errors
/// A namespace is gone, or a daemon does not answer.
pub fn while_up(cluster: &Cluster, pods: &[Pod]) -> Result<Vec<Wrong>, LabError> {
    let seen = see(pods)?;
    let mut wrongs = doubled(&seen);
    for node in cluster.nodes() {
        let here: Vec<&Seen<'_>> = seen
            .iter()
            .filter(|s| s.pod.node.name() == node.name())
            .collect();
        wrongs.extend(here.iter().filter_map(|s| not_as_told(s)));
        wrongs.extend(leases_and_routes(node, &node.snapshot()?, &here)?);
        wrongs.extend(not_ours(cluster, node, &here));
    }
    Ok(wrongs)
}

/// No address is in two pods' namespaces, whatever anyone says. Needs no daemon.
///
/// # Errors
/// A namespace is gone.
pub fn no_address_twice(pods: &[Pod]) -> Result<Vec<Wrong>, LabError> {
    Ok(doubled(&see(pods)?))
}

/// Every pod has in the kernel what its ADD said. Needs no daemon.
///
/// # Errors
/// A namespace is gone.
pub fn pods_as_told(pods: &[Pod]) -> Result<Vec<Wrong>, LabError> {
    Ok(see(pods)?.iter().filter_map(not_as_told).collect())
}

fn see(pods: &[Pod]) -> Result<Vec<Seen<'_>>, LabError> {
    let mut seen = Vec::new();
    for pod in pods {
        let Some(netns) = &pod.netns else { continue };
        let all = kernel::addresses(netns.net())?.into_values().flatten();
        let (local, addresses) = all.partition(is_node_local);
        seen.push(Seen {
            pod,
            addresses,
            local,
        });
    }
    Ok(seen)
}

fn doubled(seen: &[Seen<'_>]) -> Vec<Wrong> {
    // One that means something on one node alone may be on another as well.
    let mut holders: BTreeMap<(Option<&str>, IpAddr), Vec<&Pod>> = BTreeMap::new();
    for s in seen {
        for address in &s.addresses {
            holders.entry((None, *address)).or_default().push(s.pod);
        }
        for address in &s.local {
            let here = Some(s.pod.node.name());
            holders.entry((here, *address)).or_default().push(s.pod);
        }
    }
    let twice = holders.into_iter().filter(|(_, pods)| pods.len() > 1);
    twice
        .map(|((_, address), pods)| {
            let names: Vec<_> = pods
                .iter()
                .map(|p| format!("{} on {}", p.full_name(), p.node.name()))
                .collect();
            let detail = format!("the kernel has {address} in {}", names.join(" and in "));
            wrong("address_twice", address, pods[0].node.name(), detail)
        })
        .collect()
}

fn not_as_told(seen: &Seen<'_>) -> Option<Wrong> {
    let told: BTreeSet<IpAddr> = seen.pod.addresses().into_iter().collect();
    (told != seen.addresses).then(|| {
        let pod = seen.pod.full_name();
        let detail = format!(
            "{pod} was told {told:?} and has {:?} in the kernel",
            seen.addresses
        );
        wrong("not_as_told", &pod, seen.pod.node.name(), detail)
    })
}

/// Leases, host routes and pods name the same addresses, and the same pods.
fn leases_and_routes(
    node: &Node,
    pool: &Snapshot,
    pods: &[&Seen<'_>],
) -> Result<Vec<Wrong>, LabError> {
    let leases = pool.leases();
    let all = kernel::pod_routes(&node.sim().net(), POD_LINK)?;
    let (local, routes): (BTreeMap<_, _>, BTreeMap<_, _>) =
        all.into_iter().partition(|(ip, _)| is_node_local(ip));
    let mut wrongs = Vec::new();
    let mut say = |rule, subject: String, detail| {
        wrongs.push(wrong(rule, subject, node.name(), detail));
    };
    for (address, links) in &routes {
        if links.len() > 1 {
            say(
                "route_twice",
                address.to_string(),
                format!("{address} is routed by {links:?}"),
            );
        }
        if !leases.contains_key(address) {
            let detail = format!("{address} is routed by {links:?} and no lease names it");
            say("route_without_lease", address.to_string(), detail);
        }
    }
    for (address, pod) in &leases {
        if !routes.contains_key(address) {
            let detail = format!("{address} is leased to {pod} and has no host route");
            say("lease_without_route", address.to_string(), detail);
        }
        if !pods
            .iter()
            .any(|s| s.pod.full_name() == *pod && s.addresses.contains(address))
        {
            let detail = format!("{address} is leased to {pod}, which does not have it");
            say("lease_without_pod", address.to_string(), detail);
        }
    }
    let has: BTreeSet<IpAddr> = pods.iter().flat_map(|s| s.local.clone()).collect();
    for address in has.iter().filter(|ip| !local.contains_key(ip)) {
        let detail = format!("a pod has {address}, and there is no host route");
        say("pod_without_route", address.to_string(), detail);
    }
    for address in local.keys().filter(|ip| !has.contains(ip)) {
        let detail = format!("{address} is routed, and no pod has it");
        say("route_without_pod", address.to_string(), detail);
    }
    for seen in pods.iter().filter(|s| s.pod.is_up()) {
        for address in seen.addresses.iter().filter(|a| !leases.contains_key(a)) {
            let detail = format!(
                "{} has {address} and no lease names it",
                seen.pod.full_name()
            );
            say("pod_without_lease", address.to_string(), detail);
        }
    }
    Ok(wrongs)
}

/// Addresses that EC2 has not given to any ENI attached to the node, or that are ENIs' own.
fn not_ours(cluster: &Cluster, node: &Node, pods: &[&Seen<'_>]) -> Vec<Wrong> {
    let sim = cluster.sim();
    let wires = sim.vpc().wires(sim.clock().now());
    let wires: Vec<_> = wires
        .iter()
        .filter(|w| w.node.as_str() == node.name())
        .collect();
    let given = |address: &IpAddr| {
        let inside = wires
            .iter()
            .any(|w| w.allowed.iter().any(|net| net.contains(address)));
        inside
            && !wires
                .iter()
                .any(|w| IpAddr::V4(w.primary.addr()) == *address)
    };
    let all = pods
        .iter()
        .flat_map(|s| s.addresses.iter().map(|a| (s.pod, a)));
    all.filter(|(_, address)| !given(address))
        .map(|(pod, address)| {
            let detail = format!(
                "{} has {address}, which EC2 has not given to {}",
                pod.full_name(),
                node.name()
            );
            wrong("not_given", address, node.name(), detail)
        })
        .collect()
}

/// What a node's pods must not leave behind once all have been deleted: leases, routes, links.
///
/// # Errors
/// The daemon does not answer.
pub fn leftovers(node: &Node) -> Result<Vec<Wrong>, LabError> {
    let mut wrongs = Vec::new();
    for (address, pod) in node.snapshot()?.leases() {
        let detail = format!("{address} is still leased to {pod}, which is gone");
        wrongs.push(wrong("lease_left", address, node.name(), detail));
    }
    for (address, links) in kernel::pod_routes(&node.sim().net(), POD_LINK)? {
        let detail = format!("the host route of {address} by {links:?} is still there");
        wrongs.push(wrong("route_left", address, node.name(), detail));
    }
    for link in kernel::links(&node.sim().net(), POD_LINK)? {
        let detail = format!("the link {link} is still there");
        wrongs.push(wrong("link_left", link, node.name(), detail));
    }
    Ok(wrongs)
}

/// What EC2 has given and no daemon knows of, and what a daemon believes and EC2 has not given. Holds
/// when nothing is under way or in doubt.
///
/// # Errors
/// A daemon does not answer.
pub fn bought(cluster: &Cluster) -> Result<Vec<Wrong>, LabError> {
    let mut known: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in cluster.nodes() {
        for eni in node.snapshot()?.enis {
            let blocks = eni.blocks.into_iter().map(|block| block.block).collect();
            known.insert(eni.id, blocks);
        }
    }
    let sim = cluster.sim();
    let given = sim.vpc().enis(sim.clock().now());
    let mut wrongs = Vec::new();
    let mut say = |rule, id: &str, detail| {
        wrongs.push(Wrong {
            rule,
            subject: id.to_owned(),
            node: None,
            detail,
        });
    };
    for eni in given {
        let id = eni.id.to_string();
        let single = eni.addresses.iter().filter(|a| a.address != eni.private_ip);
        let prefixes = eni.v4_prefixes.iter().map(ToString::to_string);
        let v6 = eni.v6_prefixes.iter().map(ToString::to_string);
        let blocks: BTreeSet<String> = single
            .map(|a| a.address.to_string())
            .chain(prefixes)
            .chain(v6)
            .collect();
        match known.remove(&id) {
            None => {
                let detail = format!("{id} ({}) is known to no daemon", eni.status);
                say("eni_unknown", &id, detail);
            }
            Some(believed) if believed != blocks => {
                let detail = format!("{id} has {blocks:?}, and its daemon believes {believed:?}");
                say("blocks_differ", &id, detail);
            }
            Some(_) => {}
        }
    }
    for id in known.keys() {
        let detail = format!("{id} is known to a daemon and not there");
        say("eni_gone", id, detail);
    }
    Ok(wrongs)
}

/// ENIs that are in the VPC and attached to no running instance's device 0, once every node is
/// terminated: nobody will ever remove them.
#[must_use]
pub fn leaked_enis(cluster: &Cluster) -> Vec<Wrong> {
    let sim = cluster.sim();
    let enis = sim.vpc().enis(sim.clock().now());
    enis.iter()
        .map(|eni| Wrong {
            rule: "eni_left",
            subject: eni.id.to_string(),
            node: None,
            detail: format!(
                "{} ({}, {}) is {} and no node is left that could remove it",
                eni.id, eni.private_ip, eni.description, eni.status
            ),
        })
        .collect()
}

/// What the books of the mini VPC name: addresses outside subnets, packets that an ENI may not
/// send, leaked ENIs, and what the kernel did not follow.
///
/// # Errors
/// The router's counters can't be read.
pub fn books(cluster: &Cluster) -> Result<Vec<Wrong>, LabError> {
    let violations = cluster.sim().books()?.violations;
    let class = |v: &vpc_model::Violation| match v.class {
        vpc_model::ViolationClass::LeakedEni => "leaked_eni",
        vpc_model::ViolationClass::OutsideSubnet => "outside_subnet",
        vpc_model::ViolationClass::HeldTwice => "held_twice",
        vpc_model::ViolationClass::UnalignedPrefix => "unaligned_prefix",
        vpc_model::ViolationClass::FreeCount => "free_count",
        vpc_model::ViolationClass::OverLimit => "over_limit",
        vpc_model::ViolationClass::SourceCheck => "source_check",
        vpc_model::ViolationClass::Other => "other",
    };
    let list = violations.into_iter().map(|v| Wrong {
        rule: class(&v),
        subject: v.subject,
        node: v.node,
        detail: v.detail,
    });
    Ok(list.collect())
}
