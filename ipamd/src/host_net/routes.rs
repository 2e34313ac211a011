//! Routes: the ENIs' own tables, and the pods' host routes in main.

use super::links::family;
use super::netlink::{EAFNOSUPPORT, EEXIST, EOPNOTSUPP, ESRCH, Netlink, Refused};
use ipam_core::wiring::{EniLink, Route, Scope, TABLE_MAIN};
use ipam_engine::ports::HostNetError;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A route as the kernel tells it.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    pub(super) dst: IpNet,
    pub(super) via: Option<IpAddr>,
    /// 0: through none (it drops), or through several.
    pub(super) link: u32,
    pub(super) table: u32,
    pub(super) metric: u32,
    pub(super) protocol: RouteProtocol,
    /// It leads to one link, and says nothing else (a source, an MTU): as ours do.
    pub(super) plain: bool,
    /// As it came: by this it is removed, and no other that is like it.
    raw: RouteMessage,
}

/// What makes a route another one.
type Key = (IpNet, Option<IpAddr>, u32, u32);

impl Seen {
    const fn key(&self) -> Key {
        (self.dst, self.via, self.link, self.table)
    }
}

/// Every route of every table that leads packets away or drops them, both families.
pub(super) async fn all(netlink: &Netlink) -> Result<Vec<Seen>, Refused> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        match netlink.dump(RouteNetlinkMessage::GetRoute(request)).await {
            Ok(messages) => found.extend(messages.iter().filter_map(|message| match message {
                RouteNetlinkMessage::NewRoute(route) => read(route),
                _ => None,
            })),
            Err(error) if error.is(&[EAFNOSUPPORT, EOPNOTSUPP]) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// `None`: one of the kernel's own for local addresses, or of another family.
pub(super) fn read(message: &RouteMessage) -> Option<Seen> {
    let header = &message.header;
    let drops = match header.kind {
        RouteType::Unicast => false,
        RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit | RouteType::Throw => {
            true
        }
        _ => return None,
    };
    let any: IpAddr = match header.address_family {
        AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    let mut dst = any;
    let mut via = None;
    let mut link = None;
    let mut table = u32::from(header.table);
    let mut metric = 0;
    let mut plain = !drops && header.tos == 0;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => dst = ip(address)?,
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(number) => metric = *number,
            RouteAttribute::PrefSource(_)
            | RouteAttribute::Metrics(_)
            | RouteAttribute::MultiPath(_)
            | RouteAttribute::NhId(_)
            | RouteAttribute::Encap(_) => plain = false,
            _ => {}
        }
    }
    let dst = IpNet::new(dst, header.destination_prefix_length).ok()?;
    Some(Seen {
        dst,
        via,
        link: link.filter(|_| !drops).unwrap_or(0),
        table,
        metric,
        protocol: header.protocol,
        plain,
        raw: message.clone(),
    })
}

/// Of any route.
pub(super) fn destination(message: &RouteMessage) -> Option<IpNet> {
    let mut attributes = message.attributes.iter();
    let address = attributes.find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip(address),
        _ => None,
    });
    IpNet::new(address?, message.header.destination_prefix_length).ok()
}

const fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some(IpAddr::V4(*ip)),
        RouteAddress::Inet6(ip) => Some(IpAddr::V6(*ip)),
        _ => None,
    }
}

/// The pods' host routes: single addresses in main through a link of a pod's name, whatever
/// their metric.
pub(super) fn of_pods(
    routes: &[Seen],
    names: &BTreeMap<u32, String>,
    is_pods: impl Fn(&str) -> bool,
) -> BTreeMap<IpAddr, String> {
    let mut of_pods: Vec<&Seen> = routes.iter().filter(|r| is_host_route(r)).collect();
    // The one that is used comes last, and stays.
    of_pods.sort_by_key(|route| std::cmp::Reverse(route.metric));
    of_pods
        .iter()
        .filter_map(|route| Some((route.dst.addr(), names.get(&route.link)?.clone())))
        .filter(|(_, name)| is_pods(name))
        .collect()
}

/// Whether this leads a single address to one link, in the main table.
pub(super) fn is_host_route(route: &Seen) -> bool {
    is_single(route) && route.link != 0
}

/// Whether this is about a single address in the main table.
pub(super) fn is_single(route: &Seen) -> bool {
    route.table == TABLE_MAIN && route.dst.prefix_len() == route.dst.max_prefix_len()
}

/// Makes an ENI's table hold its routes and nothing else.
pub(super) async fn apply(
    netlink: &Netlink,
    seen: &[Seen],
    eni: &EniLink,
    dev: (&str, u32),
) -> Result<(), HostNetError> {
    let (name, index) = dev;
    let wanted = eni.routes(name);
    let mut keep = BTreeSet::new();
    for route in &wanted {
        let key: Key = (route.dst, route.via, index, route.table);
        if !seen.iter().any(|seen| seen.plain && seen.key() == key) {
            let new = RouteNetlinkMessage::NewRoute(message(route, index));
            netlink
                .change(new, NLM_F_CREATE | NLM_F_REPLACE)
                .await
                .map_err(|error| {
                    error.while_doing(format!(
                        "adding route {} to table {}",
                        route.dst, route.table
                    ))
                })?;
        }
        keep.insert(key);
    }
    for route in seen {
        let of_table = !eni.primary && eni.table != TABLE_MAIN && route.table == eni.table;
        if of_table && !(route.plain && keep.contains(&route.key())) {
            remove(netlink, route).await.map_err(|error| {
                error.while_doing(format!("removing {} from table {}", route.dst, route.table))
            })?;
        }
    }
    Ok(())
}

/// Removes a route, and none that only resembles it; one that is gone is fine.
pub(super) async fn remove(netlink: &Netlink, route: &Seen) -> Result<(), Refused> {
    let mut message = route.raw.clone();
    // What the kernel says of its state is no part of it.
    message.header.flags = RouteFlags::empty();
    netlink
        .change_unless(RouteNetlinkMessage::DelRoute(message), 0, &[ESRCH])
        .await
}

/// Routes in main through a link that somebody made, and not the kernel for its addresses or for what a
/// router told (which end).
pub(super) fn made_through(seen: &[Seen], link: u32) -> Vec<Seen> {
    let kernels = [RouteProtocol::Kernel, RouteProtocol::Ra];
    let made = seen.iter().filter(|route| {
        route.table == TABLE_MAIN && route.link == link && !kernels.contains(&route.protocol)
    });
    made.cloned().collect()
}

/// Puts back what went with its link. What can't be is left to the program that had made it.
pub(super) async fn restore(netlink: &Netlink, gone: &[Seen]) {
    // Those of a subnet first: gateways are found by them.
    let (direct, by_gateway): (Vec<&Seen>, Vec<&Seen>) =
        gone.iter().partition(|route| route.via.is_none());
    for route in direct.into_iter().chain(by_gateway) {
        let mut message = route.raw.clone();
        message.header.flags = RouteFlags::empty();
        let new = RouteNetlinkMessage::NewRoute(message);
        let fine = &[EEXIST];
        let put = netlink.change_unless(new, NLM_F_CREATE | NLM_F_EXCL, fine);
        let dst = route.dst;
        match put.await {
            Ok(()) => tracing::info!(%dst, "a route through the primary ENI is back"),
            Err(error) => tracing::warn!(%dst, %error, "a route through the primary ENI is gone"),
        }
    }
}

/// A pod's host route, as the plugin makes it.
pub(super) fn of_pod(address: IpAddr, link: u32) -> RouteMessage {
    let route = Route {
        dst: address.into(),
        via: None,
        dev: String::new(),
        scope: Scope::Link,
        table: TABLE_MAIN,
    };
    let mut message = message(&route, link);
    message.header.protocol = RouteProtocol::Boot;
    message
}

fn message(route: &Route, link: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(route.dst.addr());
    header.destination_prefix_length = route.dst.prefix_len();
    header.table = u8::try_from(route.table).unwrap_or(0);
    header.protocol = RouteProtocol::Static;
    header.kind = RouteType::Unicast;
    header.scope = match route.scope {
        Scope::Link => RouteScope::Link,
        Scope::Global => RouteScope::Universe,
    };
    message.attributes = vec![
        RouteAttribute::Table(route.table),
        RouteAttribute::Oif(link),
    ];
    if route.dst.prefix_len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(route.dst.addr().into()));
    }
    message
        .attributes
        .extend(route.via.map(|via| RouteAttribute::Gateway(via.into())));
    message
}
