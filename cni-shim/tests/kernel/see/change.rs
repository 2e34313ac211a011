//! Damage, strangers and other agents: changes in the calling thread's namespace, by the other
//! netlink crate.

use super::{addresses, neighbours, routes};
use crate::world::Netns;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;
use std::net::IpAddr;

fn request(inner: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), inner.into());
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer);
    match answer.map_err(io::Error::other)?.payload {
        NetlinkPayload::Error(error) => match error.code {
            None => Ok(()),
            Some(_) => Err(error.to_io()),
        },
        other => Err(io::Error::other(format!("{other:?}"))),
    }
}

const CREATE: u16 = NLM_F_CREATE | NLM_F_EXCL;

fn set_flags(index: u32, flags: LinkFlags) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.flags = flags;
    message.header.change_mask = LinkFlags::Up;
    request(RouteNetlinkMessage::SetLink(message), 0)
}

pub(crate) fn set_up(index: u32) -> io::Result<()> {
    set_flags(index, LinkFlags::Up)
}

pub(crate) fn set_down(index: u32) -> io::Result<()> {
    set_flags(index, LinkFlags::empty())
}

pub(crate) fn delete(index: u32) -> io::Result<()> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    request(RouteNetlinkMessage::DelLink(message), 0)
}

pub(crate) fn add_address(index: u32, ip: IpAddr) -> io::Result<()> {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.index = index;
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    request(RouteNetlinkMessage::NewAddress(message), CREATE)
}

fn named(name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.into()));
    message
}

/// `here` in this namespace, `there` in the other.
pub(crate) fn add_veth(here: &str, there: &str, netns: &Netns) -> io::Result<()> {
    add_veth_at((here, 0), (there, 0), netns)
}

/// With interface indexes; 0: the kernel's choice.
pub(crate) fn add_veth_at(here: (&str, u32), there: (&str, u32), netns: &Netns) -> io::Result<()> {
    let mut peer = named(there.0);
    peer.header.index = there.1;
    peer.attributes.push(LinkAttribute::NetNsFd(netns.fd()));
    let info = vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ];
    let mut message = named(here.0);
    message.header.index = here.1;
    message.attributes.push(LinkAttribute::LinkInfo(info));
    request(RouteNetlinkMessage::NewLink(message), CREATE)
}

pub(crate) fn add_bridge(name: &str) -> io::Result<()> {
    let mut message = named(name);
    message
        .attributes
        .push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(
            InfoKind::Bridge,
        )]));
    request(RouteNetlinkMessage::NewLink(message), CREATE)
}

fn route(dst: IpAddr, length: u8, index: u32, metric: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, dst) = match dst {
        IpAddr::V4(ip) => (AddressFamily::Inet, RouteAddress::Inet(ip)),
        IpAddr::V6(ip) => (AddressFamily::Inet6, RouteAddress::Inet6(ip)),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.header.table = 254;
    message.header.scope = RouteScope::Link;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(dst),
        RouteAttribute::Oif(index),
        RouteAttribute::Priority(metric),
    ];
    message
}

/// Whoever added it.
fn delete_route(mut message: RouteMessage) -> io::Result<()> {
    message.header.protocol = RouteProtocol::Unspec;
    message.header.scope = RouteScope::NoWhere;
    message.header.kind = RouteType::Unspec;
    request(RouteNetlinkMessage::DelRoute(message), 0)
}

/// As Calico does: a route of its own metric, then ours away.
pub(crate) fn move_route(ip: IpAddr, index: u32, metric: u32) -> io::Result<()> {
    request(
        RouteNetlinkMessage::NewRoute(route(ip, 32, index, metric)),
        CREATE,
    )?;
    // Metric 0 means any, and the kernel takes the best: ours.
    delete_route(route(ip, 32, index, 0))
}

pub(crate) fn flush_routes(index: u32) -> io::Result<()> {
    let here = Netns::host_of_thread()?;
    for r in routes(&here).iter().filter(|r| r.index == index) {
        delete_route(route(r.dst.0, r.dst.1, index, r.metric))?;
    }
    Ok(())
}

pub(crate) fn flush_addresses(index: u32) -> io::Result<()> {
    let here = Netns::host_of_thread()?;
    for (_, ip, length) in addresses(&here).into_iter().filter(|a| a.0 == index) {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = length;
        message.header.index = index;
        message.attributes = vec![AddressAttribute::Local(ip)];
        request(RouteNetlinkMessage::DelAddress(message), 0)?;
    }
    Ok(())
}

pub(crate) fn flush_neighbours(index: u32) -> io::Result<()> {
    let here = Netns::host_of_thread()?;
    for (_, ip, _) in neighbours(&here).into_iter().filter(|n| n.0 == index) {
        let IpAddr::V4(ip) = ip else { continue };
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.ifindex = index;
        message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(ip))];
        request(RouteNetlinkMessage::DelNeighbour(message), 0)?;
    }
    Ok(())
}
