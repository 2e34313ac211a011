//! Changes of links, addresses, neighbours and routes as rtnetlink messages. Pure.

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// One change to be made.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(super) doing: String,
    pub(super) flags: u16,
    pub(super) message: RouteNetlinkMessage,
}

/// Both ends of a veth pair to be made.
#[derive(Debug)]
pub(crate) struct Veth<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Option<[u8; 6]>,
    pub(crate) peer_name: &'a str,
    pub(crate) peer_mac: Option<[u8; 6]>,
    pub(crate) peer_net: BorrowedFd<'a>,
    pub(crate) mtu: u32,
}

/// A route to be made or removed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Route {
    pub(crate) to: IpNet,
    pub(crate) link: u32,
    pub(crate) via: Option<IpAddr>,
    /// The neighbour is on the link, whatever the link's addresses say.
    pub(crate) onlink: bool,
    pub(crate) source: Option<IpAddr>,
    pub(crate) metric: Option<u32>,
    pub(crate) protocol: RouteProtocol,
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

impl Change {
    fn new(doing: String, flags: u16, message: RouteNetlinkMessage) -> Self {
        Self {
            doing,
            flags,
            message,
        }
    }

    /// A veth pair, one end here and one there.
    pub(crate) fn add_veth(veth: &Veth<'_>) -> Self {
        let end = |name: &str, mac: Option<[u8; 6]>| {
            let mut link = LinkMessage::default();
            link.attributes.push(LinkAttribute::IfName(name.to_owned()));
            link.attributes.push(LinkAttribute::Mtu(veth.mtu));
            link.attributes
                .extend(mac.map(|m| LinkAttribute::Address(m.to_vec())));
            link
        };
        let mut peer = end(veth.peer_name, veth.peer_mac);
        peer.attributes
            .push(LinkAttribute::NetNsFd(veth.peer_net.as_raw_fd()));
        let mut link = end(veth.name, veth.mac);
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        Self::new(
            format!("adding link {} with peer {}", veth.name, veth.peer_name),
            NLM_F_CREATE | NLM_F_EXCL,
            RouteNetlinkMessage::NewLink(link),
        )
    }

    /// Sets a link up.
    pub(crate) fn set_up(link: u32) -> Self {
        let mut message = LinkMessage::default();
        message.header.index = link;
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        Self::new(
            format!("setting link {link} up"),
            0,
            RouteNetlinkMessage::SetLink(message),
        )
    }

    /// Removes a link, and its peer.
    pub(crate) fn remove_link(link: u32) -> Self {
        let mut message = LinkMessage::default();
        message.header.index = link;
        Self::new(
            format!("removing link {link}"),
            0,
            RouteNetlinkMessage::DelLink(message),
        )
    }

    /// Gives a link an address with its prefix length; no duplicate address detection.
    pub(crate) fn add_address(link: u32, address: IpNet) -> Self {
        let ip = address.addr();
        let mut message = AddressMessage::default();
        message.header.family = family(ip);
        message.header.prefix_len = address.prefix_len();
        message.header.index = link;
        message.header.scope = match ip {
            IpAddr::V6(v6) if v6.is_unicast_link_local() => AddressScope::Link,
            _ if ip.is_loopback() => AddressScope::Host,
            _ => AddressScope::Universe,
        };
        message.attributes.push(AddressAttribute::Local(ip));
        message.attributes.push(AddressAttribute::Address(ip));
        match address {
            IpNet::V4(v4) if v4.prefix_len() < 31 => {
                message
                    .attributes
                    .push(AddressAttribute::Broadcast(v4.broadcast()));
            }
            IpNet::V4(_) => {}
            IpNet::V6(_) => {
                message.header.flags = AddressHeaderFlags::Nodad;
                message
                    .attributes
                    .push(AddressAttribute::Flags(AddressFlags::Nodad));
            }
        }
        Self::new(
            format!("adding address {address} to link {link}"),
            NLM_F_CREATE | NLM_F_REPLACE,
            RouteNetlinkMessage::NewAddress(message),
        )
    }

    /// A neighbour whose Ethernet address never changes.
    pub(crate) fn add_neighbour(link: u32, ip: IpAddr, mac: [u8; 6]) -> Self {
        let mut message = NeighbourMessage::default();
        message.header.family = family(ip);
        message.header.ifindex = link;
        message.header.state = NeighbourState::Permanent;
        message
            .attributes
            .push(NeighbourAttribute::Destination(match ip {
                IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
                IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
            }));
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        Self::new(
            format!("adding neighbour {ip} on link {link}"),
            NLM_F_CREATE | NLM_F_REPLACE,
            RouteNetlinkMessage::NewNeighbour(message),
        )
    }

    /// Adds a route, replacing one to the same place.
    pub(crate) fn add_route(route: &Route) -> Self {
        Self::new(
            format!("adding route to {} by link {}", route.to, route.link),
            NLM_F_CREATE | NLM_F_REPLACE,
            RouteNetlinkMessage::NewRoute(route.message()),
        )
    }

    /// Removes a route by its link.
    pub(crate) fn remove_route(route: &Route) -> Self {
        Self::new(
            format!("removing route to {} by link {}", route.to, route.link),
            0,
            RouteNetlinkMessage::DelRoute(route.message()),
        )
    }

    /// What is not routed more closely is thrown away.
    pub(crate) fn add_blackhole(to: IpNet) -> Self {
        let mut message = route_message(to, RouteProtocol::Static);
        message.header.kind = RouteType::BlackHole;
        Self::new(
            format!("adding black hole {to}"),
            NLM_F_CREATE | NLM_F_REPLACE,
            RouteNetlinkMessage::NewRoute(message),
        )
    }
}

impl Route {
    /// To there by that link and neighbour.
    pub(crate) fn new(to: IpNet, link: u32, via: Option<IpAddr>) -> Self {
        let protocol = RouteProtocol::Static;
        Self {
            to,
            link,
            via,
            onlink: via.is_some(),
            source: None,
            metric: None,
            protocol,
        }
    }

    fn message(&self) -> RouteMessage {
        let mut message = route_message(self.to, self.protocol);
        if self.onlink {
            message.header.flags = RouteFlags::Onlink;
        }
        if self.via.is_none() && self.to.addr().is_ipv4() {
            message.header.scope = RouteScope::Link;
        }
        message.attributes.push(RouteAttribute::Oif(self.link));
        message
            .attributes
            .extend(self.via.map(|v| RouteAttribute::Gateway(v.into())));
        message
            .attributes
            .extend(self.source.map(|s| RouteAttribute::PrefSource(s.into())));
        message
            .attributes
            .extend(self.metric.map(RouteAttribute::Priority));
        message
    }
}

fn route_message(to: IpNet, protocol: RouteProtocol) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(to.addr());
    message.header.destination_prefix_length = to.prefix_len();
    message.header.table = 254;
    message.header.protocol = protocol;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    if to.prefix_len() > 0 {
        message
            .attributes
            .push(RouteAttribute::Destination(RouteAddress::from(
                to.network(),
            )));
    }
    message
}
