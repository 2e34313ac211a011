//! A small synchronous rtnetlink client: requests go out in batches, each is acknowledged by the
//! kernel before `send` returns. Works in the network namespace in which it was opened.

use ipnet::IpNet;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
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
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::libc::MSG_DONTWAIT;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use thiserror::Error;

/// Requests in one datagram: their acknowledgements must fit into the receive buffer.
const BATCH: usize = 64;

/// The kernel refused a request.
#[derive(Debug, Error)]
#[error("{doing}: {source}")]
pub struct NetlinkError {
    /// What was asked for.
    pub doing: String,
    /// What the kernel said.
    pub source: io::Error,
}

impl NetlinkError {
    /// What it wanted to remove was not there.
    pub(crate) fn is_gone(&self) -> bool {
        use nix::libc::{EADDRNOTAVAIL, ENODEV, ENOENT, ESRCH};
        matches!(
            self.source.raw_os_error(),
            Some(ESRCH | ENODEV | ENOENT | EADDRNOTAVAIL)
        )
    }
}

/// One change to be made.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    doing: String,
    flags: u16,
    message: RouteNetlinkMessage,
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

/// A socket to the kernel's routing part.
#[derive(Debug)]
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> Result<Self, NetlinkError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            socket.set_cap_ack(true)?;
            io::Result::Ok(socket)
        };
        let socket = open().map_err(|source| NetlinkError {
            doing: "opening a netlink socket".into(),
            source,
        })?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Makes one change.
    pub(crate) fn make(&mut self, change: Change) -> Result<(), NetlinkError> {
        self.make_all(vec![change]).pop().map_or(Ok(()), Err)
    }

    /// Makes each change in order, also after one failed; returns the failures.
    pub(crate) fn make_all(&mut self, changes: Vec<Change>) -> Vec<NetlinkError> {
        let mut failures = Vec::new();
        for batch in changes.chunks(BATCH) {
            if let Err(source) = self.make_batch(batch, &mut failures) {
                let doing = batch.first().map(|c| c.doing.clone()).unwrap_or_default();
                failures.push(NetlinkError { doing, source });
            }
        }
        failures
    }

    /// The link of that name.
    pub(crate) fn index(&mut self, name: &str) -> Result<u32, NetlinkError> {
        let failed = |source| NetlinkError {
            doing: format!("looking for link {name}"),
            source,
        };
        let mut get = LinkMessage::default();
        get.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.sequence += 1;
        let request = bytes_of(
            RouteNetlinkMessage::GetLink(get),
            NLM_F_REQUEST,
            self.sequence,
        );
        self.socket.send(&request, 0).map_err(failed)?;
        let mut found = Err(io::Error::other("no answer"));
        for (_, payload) in self.receive().map_err(failed)? {
            match payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                    found = Ok(link.header.index);
                }
                NetlinkPayload::Error(e) => found = Err(e.to_io()),
                _ => {}
            }
        }
        found.map_err(failed)
    }

    fn make_batch(&mut self, batch: &[Change], failures: &mut Vec<NetlinkError>) -> io::Result<()> {
        let first = self.sequence + 1;
        let mut request = Vec::new();
        for change in batch {
            self.sequence += 1;
            let flags = change.flags | NLM_F_REQUEST | NLM_F_ACK;
            request.extend(bytes_of(change.message.clone(), flags, self.sequence));
        }
        self.socket.send(&request, 0)?;
        let mut acknowledged = 0;
        while acknowledged < batch.len() {
            // The kernel works inside send(): whatever it has to say is there already.
            for (sequence, payload) in self.receive()? {
                let NetlinkPayload::Error(answer) = payload else {
                    continue;
                };
                let Some(change) = sequence
                    .checked_sub(first)
                    .and_then(|i| batch.get(i as usize))
                else {
                    continue;
                };
                acknowledged += 1;
                if answer.code.is_some() {
                    let doing = change.doing.clone();
                    failures.push(NetlinkError {
                        doing,
                        source: answer.to_io(),
                    });
                }
            }
        }
        Ok(())
    }

    /// One datagram's messages, each with its sequence number.
    fn receive(&self) -> io::Result<Vec<(u32, NetlinkPayload<RouteNetlinkMessage>)>> {
        let mut buffer = Vec::with_capacity(1 << 16);
        self.socket.recv(&mut buffer, MSG_DONTWAIT)?;
        let mut messages = Vec::new();
        let mut rest = buffer.as_slice();
        while rest.len() >= 16 {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e.to_string()))?;
            let length = (message.header.length as usize).next_multiple_of(4).max(16);
            rest = rest.get(length..).unwrap_or_default();
            messages.push((message.header.sequence_number, message.payload));
        }
        Ok(messages)
    }
}

fn bytes_of(message: RouteNetlinkMessage, flags: u16, sequence: u32) -> Vec<u8> {
    let mut message = NetlinkMessage::from(message);
    message.header.flags = flags;
    message.header.sequence_number = sequence;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
    message.serialize(&mut bytes);
    bytes
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
