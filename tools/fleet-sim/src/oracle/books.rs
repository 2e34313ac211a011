//! What EC2 has really given to whom, by the model's own state.

use crate::world::World;
use ipnet::{IpNet, Ipv4Net};
use std::net::IpAddr;
use vpc_model::request::Action;

/// One ENI of the model, in brief.
#[derive(Clone, Debug)]
pub(crate) struct Eni {
    pub(crate) id: String,
    pub(crate) attachment: Option<String>,
    /// The node that it is attached to.
    pub(crate) node: Option<String>,
    pub(crate) mac: [u8; 6],
    pub(crate) subnet: String,
    /// Its own addresses, of either family: never a pod's.
    pub(crate) own: Vec<IpAddr>,
    /// Secondary addresses and prefixes.
    pub(crate) blocks: Vec<IpNet>,
    /// An instance's primary ENI.
    pub(crate) first: bool,
    /// Network card, if it is attached.
    pub(crate) card: u32,
    /// A node's daemon made it.
    pub(crate) made_by_node: bool,
    /// The instance that a tag says it is of.
    pub(crate) owner: Option<String>,
    /// The cluster that a tag says it is of.
    pub(crate) cluster: Option<String>,
    /// Another account's.
    pub(crate) foreign: bool,
    /// Tagged to be left alone.
    pub(crate) no_manage: bool,
    /// A Detach is under way.
    pub(crate) going: bool,
}

/// Whose an address is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// A secondary address, or in a prefix, of an ENI on this node.
    Here,
    /// The primary address of an ENI.
    Primary(String),
    /// On an ENI elsewhere, or on none that is attached.
    Elsewhere(String),
    /// Nobody's.
    Nobody,
}

/// Every ENI of the model as it is now.
pub(crate) fn enis(world: &World) -> Vec<Eni> {
    let now = world.time();
    let vpc = world.vpc();
    let nodes = vpc.nodes();
    let account = vpc.spec().account_id.clone();
    let primaries: Vec<_> = nodes.iter().filter_map(|n| n.primary_eni.clone()).collect();
    vpc.enis(now)
        .into_iter()
        .map(|e| {
            let tag = |key: &str| e.tags.get(key).cloned();
            let attachment = e.attachment.as_ref();
            let node = attachment.and_then(|a| {
                let node = nodes.iter().find(|n| n.instance == a.instance)?;
                Some(node.name.as_str().to_owned())
            });
            let single = e.addresses.iter().filter(|a| !a.primary);
            let blocks = single
                .map(|a| IpNet::V4(Ipv4Net::from(a.address)))
                .chain(e.v4_prefixes.iter().copied().map(IpNet::V4))
                .chain(e.v6_prefixes.iter().copied().map(IpNet::V6))
                .collect();
            let own = e.v6.iter().copied().map(IpAddr::V6);
            Eni {
                id: e.id.as_str().into(),
                attachment: attachment.map(|a| a.id.as_str().into()),
                node,
                mac: e.mac.0,
                subnet: e.subnet.as_str().into(),
                own: own.chain([e.private_ip.into()]).collect(),
                blocks,
                first: primaries.contains(&e.id),
                card: attachment.map_or(0, |a| a.card),
                made_by_node: e.description.starts_with("aws-K8S-"),
                owner: tag("node.k8s.amazonaws.com/instance_id"),
                cluster: tag("cluster.k8s.amazonaws.com/name"),
                foreign: e.owner != account,
                no_manage: tag("node.k8s.amazonaws.com/no_manage").as_deref() == Some("true"),
                going: attachment.is_some_and(|a| a.status == "detaching"),
            }
        })
        .collect()
}

/// Whose `ip` is, seen from `node`.
pub(crate) fn given(enis: &[Eni], node: &str, ip: IpAddr) -> Given {
    if let Some(eni) = enis.iter().find(|e| e.own.contains(&ip)) {
        return Given::Primary(eni.id.clone());
    }
    match enis
        .iter()
        .find(|e| e.blocks.iter().any(|b| b.contains(&ip)))
    {
        Some(eni) if eni.node.as_deref() == Some(node) => Given::Here,
        Some(eni) => Given::Elsewhere(eni.id.clone()),
        None => Given::Nobody,
    }
}

/// What a call takes away from its ENI.
pub(crate) fn taken(action: &Action, enis: &[Eni]) -> Vec<IpNet> {
    let all = |eni: Option<&Eni>| eni.map_or_else(Vec::new, |e| e.blocks.clone());
    match action {
        Action::UnassignPrivateIpAddresses(r) => r
            .addresses
            .iter()
            .map(|ip| IpNet::V4(Ipv4Net::from(*ip)))
            .chain(r.prefixes.iter().copied().map(IpNet::V4))
            .collect(),
        Action::UnassignIpv6Addresses(r) => r.prefixes.iter().copied().map(IpNet::V6).collect(),
        Action::DetachNetworkInterface(r) => all(enis
            .iter()
            .find(|e| e.attachment.as_deref() == Some(r.attachment.as_str()))),
        Action::DeleteNetworkInterface(r) => all(enis.iter().find(|e| e.id == r.eni.as_str())),
        _ => Vec::new(),
    }
}

/// Every address of a block; one of IPv6 as a whole, since it has too many.
pub(crate) fn pieces(net: IpNet) -> Vec<IpNet> {
    match net {
        IpNet::V4(net) => net
            .subnets(32)
            .into_iter()
            .flatten()
            .map(IpNet::V4)
            .collect(),
        IpNet::V6(_) => Vec::from([net]),
    }
}
