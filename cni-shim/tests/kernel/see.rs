//! What the kernel says, read with other code than the plugin's own: the oracle of these tests.

pub(crate) mod change;

use crate::world::Netns;
use ipam_core::Mac;
use ipam_core::wiring::PodWiring;
use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteScope};
use netlink_packet_route::rule::RuleMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::net::IpAddr;

fn dump(request: RouteNetlinkMessage) -> Vec<RouteNetlinkMessage> {
    let mut socket = Socket::new(NETLINK_ROUTE).expect("a socket");
    socket.bind_auto().expect("bind");
    socket.connect(&SocketAddr::new(0, 0)).expect("connect");
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), request.into());
    message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    socket.send(&bytes, 0).expect("send");
    let mut found = Vec::new();
    loop {
        let (page, _) = socket.recv_from_full().expect("receive");
        let mut rest = page.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).expect("parses");
            let length = message.header.length as usize;
            match message.payload {
                NetlinkPayload::Done(_) => return found,
                NetlinkPayload::InnerMessage(inner) => found.push(inner),
                other => panic!("unexpected {other:?}"),
            }
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
    pub(crate) up: bool,
    pub(crate) veth: bool,
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        veth: false,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok().map(Mac),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::LinkInfo(info) => {
                link.veth = info.contains(&LinkInfo::Kind(InfoKind::Veth));
            }
            _ => {}
        }
    }
    link
}

/// All interfaces but `lo`.
pub(crate) fn links(netns: &Netns) -> Vec<Link> {
    let all = netns.run(|| dump(RouteNetlinkMessage::GetLink(LinkMessage::default())));
    let links = all.iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewLink(message) => Some(link(message)),
        _ => None,
    });
    links.filter(|link| link.name != "lo").collect()
}

pub(crate) fn link_named(netns: &Netns, name: &str) -> Option<Link> {
    links(netns).into_iter().find(|link| link.name == name)
}

/// `destination`/`length` with the gateway, interface index, scope, and metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) dst: (IpAddr, u8),
    pub(crate) via: Option<IpAddr>,
    pub(crate) index: u32,
    pub(crate) on_link: bool,
    pub(crate) metric: u32,
}

fn route_ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

fn route(message: &RouteMessage) -> Route {
    let v4 = message.header.address_family == AddressFamily::Inet;
    let any = if v4 {
        IpAddr::from([0; 4])
    } else {
        IpAddr::from([0; 16])
    };
    let length = message.header.destination_prefix_length;
    let on_link = message.header.scope == RouteScope::Link;
    let mut route = Route {
        dst: (any, length),
        via: None,
        index: 0,
        on_link,
        metric: 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(ip) => route.dst.0 = route_ip(ip).expect("an IP address"),
            RouteAttribute::Gateway(ip) => route.via = route_ip(ip),
            RouteAttribute::Oif(index) => route.index = *index,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            _ => {}
        }
    }
    route
}

/// The main table, without what the kernel does for link-local addresses.
pub(crate) fn routes(netns: &Netns) -> Vec<Route> {
    let families = [AddressFamily::Inet, AddressFamily::Inet6];
    let all = families.map(|family| {
        let mut request = RouteMessage::default();
        request.header.address_family = family;
        netns.run(|| dump(RouteNetlinkMessage::GetRoute(request)))
    });
    let main = all.iter().flatten().filter_map(|message| match message {
        RouteNetlinkMessage::NewRoute(m) if m.header.table == 254 => Some(route(m)),
        _ => None,
    });
    main.filter(|r| r.dst != ("fe80::".parse().expect("an address"), 64))
        .collect()
}

/// Index, address, prefix length; without link-local IPv6 addresses of the kernel's own.
pub(crate) fn addresses(netns: &Netns) -> Vec<(u32, IpAddr, u8)> {
    let all = netns.run(|| dump(RouteNetlinkMessage::GetAddress(AddressMessage::default())));
    let all = all.iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewAddress(m) => {
            let ip = m.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            Some((m.header.index, ip?, m.header.prefix_len))
        }
        _ => None,
    });
    all.filter(|(_, ip, _)| !matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()))
        .collect()
}

/// Permanent entries: index, address, Ethernet address.
pub(crate) fn neighbours(netns: &Netns) -> Vec<(u32, IpAddr, Mac)> {
    let all = netns.run(|| {
        dump(RouteNetlinkMessage::GetNeighbour(
            NeighbourMessage::default(),
        ))
    });
    let all = all.iter().filter_map(|message| {
        let RouteNetlinkMessage::NewNeighbour(m) = message else {
            return None;
        };
        if m.header.state != NeighbourState::Permanent {
            return None;
        }
        let (mut ip, mut mac) = (None, None);
        for attribute in &m.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(a)) => {
                    ip = Some((*a).into());
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(a)) => {
                    ip = Some((*a).into());
                }
                NeighbourAttribute::LinkLayerAddress(a) => {
                    mac = a.as_slice().try_into().ok().map(Mac);
                }
                _ => {}
            }
        }
        Some((m.header.ifindex, ip?, mac?))
    });
    all.collect()
}

/// How many rules the host has, both families.
pub(crate) fn rules(netns: &Netns) -> usize {
    let count = |family| {
        let mut request = RuleMessage::default();
        request.header.family = family;
        netns
            .run(|| dump(RouteNetlinkMessage::GetRule(request)))
            .len()
    };
    count(AddressFamily::Inet) + count(AddressFamily::Inet6)
}

/// Fails unless the kernel is exactly as the wiring says: nothing missing, nothing more. (What a DEL took down waits
/// for the daemon's sweep.)
pub(crate) fn assert_wired(host: &Netns, pod: &Netns, w: &PodWiring) {
    let host_end = link_named(host, &w.host_if).expect("the host's end");
    let up: Vec<Link> = links(pod).into_iter().filter(|link| link.up).collect();
    let [pod_end] = up.as_slice() else {
        panic!("not one link is up: {up:?}");
    };
    assert_eq!(
        (pod_end.name.as_str(), pod_end.mac),
        (w.pod_if.as_str(), Some(w.pod_mac))
    );
    assert_eq!(host_end.mac, Some(w.host_mac));
    assert_eq!((host_end.mtu, pod_end.mtu), (w.mtu, w.mtu));
    assert!(host_end.up && pod_end.up && host_end.veth && pod_end.veth);

    let wanted = w
        .pod_addresses
        .iter()
        .map(|net| (pod_end.index, net.addr(), net.prefix_len()));
    assert_eq!(sorted(addresses(pod)), sorted(wanted));
    let routes_of = |routes: &[ipam_core::wiring::Route], index| {
        let each = routes
            .iter()
            .map(|r| ((r.dst.network(), r.dst.prefix_len()), r.via, index));
        sorted(each)
    };
    let seen = |netns, index| {
        let on_link = routes(netns).into_iter().filter(move |r| r.index == index);
        sorted(on_link.map(|r| (r.dst, r.via, r.index)))
    };
    assert_eq!(
        seen(pod, pod_end.index),
        routes_of(&w.pod_routes, pod_end.index)
    );
    assert_eq!(
        seen(host, host_end.index),
        routes_of(&w.host_routes, host_end.index)
    );
    for route in routes(pod).iter().filter(|r| r.dst.0.is_ipv4()) {
        assert_eq!(route.on_link, route.via.is_none());
    }
    let wanted = w
        .pod_neighbours
        .iter()
        .map(|n| (pod_end.index, n.ip, n.mac));
    assert_eq!(sorted(neighbours(pod)), sorted(wanted));
    for sysctl in &w.host_sysctls {
        let now = std::fs::read_to_string(format!("/proc/sys/{}", sysctl.key)).expect("readable");
        assert_eq!(now.trim(), sysctl.value, "{}", sysctl.key);
    }
}

fn sorted<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut items: Vec<T> = items.into_iter().collect();
    items.sort();
    items
}

/// Nothing of any pod: no interface, no route.
pub(crate) fn assert_empty(netns: &Netns) {
    assert_eq!(links(netns), []);
    assert_eq!(routes(netns), []);
}
