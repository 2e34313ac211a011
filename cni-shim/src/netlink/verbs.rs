//! The requests that wiring needs, as verbs on a [`Batch`].

use super::batch::Batch;
use super::uapi as k;
use ipam_core::Mac;
use ipam_core::wiring::{Neighbour, Route, Rule, Scope};
use ipnet::IpNet;
use std::net::IpAddr;
use std::os::fd::RawFd;

/// Add or take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Add,
    Delete,
}

/// One end of a veth.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Mac,
}

fn family(ip: IpAddr) -> u8 {
    if ip.is_ipv4() {
        k::AF_INET
    } else {
        k::AF_INET6
    }
}

fn bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// `struct ifinfomsg` that sets or clears the flags in `change`.
fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

fn end_attributes(batch: &mut Batch, end: End<'_>, mtu: u32) {
    batch.attr_text(k::IFLA_IFNAME, end.name);
    batch.attr(k::IFLA_ADDRESS, &end.mac.0);
    if mtu > 0 {
        batch.attr_u32(k::IFLA_MTU, mtu);
    }
    // One queue each way, as a veth has of itself. Without a word the kernel first makes one for each
    // processor, then takes all but one away and waits an RCU grace period for it (veth_init_queues,
    // netif_set_real_num_tx_queues).
    batch.attr_u32(k::IFLA_NUM_TX_QUEUES, 1);
    batch.attr_u32(k::IFLA_NUM_RX_QUEUES, 1);
}

/// Creates both ends in place, both down: `host` here, `pod` in the namespace `netns`. Fails with
/// `EEXIST` if either name is taken. (The kernel can't create an end up: `veth_open` wants the pair.)
pub(crate) fn create_veth(batch: &mut Batch, host: End<'_>, pod: End<'_>, mtu: u32, netns: RawFd) {
    batch.begin(
        k::RTM_NEWLINK,
        k::NLM_F_CREATE | k::NLM_F_EXCL,
        &ifinfo(0, 0, 0),
    );
    end_attributes(batch, host, mtu);
    let info = batch.nest(k::IFLA_LINKINFO);
    batch.attr(k::IFLA_INFO_KIND, b"veth");
    let data = batch.nest(k::IFLA_INFO_DATA);
    let peer = batch.nest(k::VETH_INFO_PEER);
    batch.put(&ifinfo(0, 0, 0));
    end_attributes(batch, pod, mtu);
    batch.attr(k::IFLA_NET_NS_FD, &netns.to_ne_bytes());
    batch.close(peer);
    batch.close(data);
    batch.close(info);
}

pub(crate) fn get_link(batch: &mut Batch, name: &str) {
    batch.begin(k::RTM_GETLINK, 0, &ifinfo(0, 0, 0));
    batch.attr_text(k::IFLA_IFNAME, name);
    batch.attr_u32(k::IFLA_EXT_MASK, k::RTEXT_FILTER_SKIP_STATS);
}

pub(crate) fn get_link_by_index(batch: &mut Batch, index: u32) {
    batch.begin(k::RTM_GETLINK, 0, &ifinfo(index, 0, 0));
    batch.attr_u32(k::IFLA_EXT_MASK, k::RTEXT_FILTER_SKIP_STATS);
}

pub(crate) fn set_up(batch: &mut Batch, index: u32) {
    batch.begin(k::RTM_NEWLINK, 0, &ifinfo(index, k::IFF_UP, k::IFF_UP));
}

pub(crate) fn set_down(batch: &mut Batch, index: u32) {
    batch.begin(k::RTM_NEWLINK, 0, &ifinfo(index, 0, k::IFF_UP));
}

/// Gives an interface another name. Before Linux 6.2 it must be down.
pub(crate) fn rename(batch: &mut Batch, index: u32, name: &str) {
    batch.begin(k::RTM_NEWLINK, 0, &ifinfo(index, 0, 0));
    batch.attr_text(k::IFLA_IFNAME, name);
}

/// Takes away a veth with its other end. Waits for an RCU grace period (some 20 ms).
pub(crate) fn delete_link(batch: &mut Batch, index: u32) {
    batch.begin(k::RTM_DELLINK, 0, &ifinfo(index, 0, 0));
}

/// `struct ifaddrmsg` of an address on an interface.
fn ifaddr(index: u32, net: IpNet) -> [u8; 8] {
    let [a, b, c, d] = index.to_ne_bytes();
    let (family, scope) = (family(net.addr()), k::RT_SCOPE_UNIVERSE);
    [family, net.prefix_len(), 0, scope, a, b, c, d]
}

/// Adds an address; no duplicate address detection, and no route of the kernel's own, for IPv6.
pub(crate) fn add_address(batch: &mut Batch, index: u32, net: IpNet) {
    let ip = net.addr();
    let flags = k::NLM_F_CREATE | k::NLM_F_EXCL;
    batch.begin(k::RTM_NEWADDR, flags, &ifaddr(index, net));
    batch.attr(k::IFA_LOCAL, &bytes(ip));
    batch.attr(k::IFA_ADDRESS, &bytes(ip));
    if ip.is_ipv6() {
        batch.attr_u32(k::IFA_FLAGS, k::IFA_F_NODAD | k::IFA_F_NOPREFIXROUTE);
    }
}

pub(crate) fn delete_address(batch: &mut Batch, index: u32, net: IpNet) {
    batch.begin(k::RTM_DELADDR, 0, &ifaddr(index, net));
    batch.attr(k::IFA_LOCAL, &bytes(net.addr()));
}

/// Adds a unicast route, or takes away one that leaves by just this interface, whatever its metric.
pub(crate) fn route(batch: &mut Batch, change: Change, route: &Route, index: u32) {
    let scope = match (change, route.scope) {
        (Change::Delete, _) => k::RT_SCOPE_NOWHERE,
        (Change::Add, Scope::Link) => k::RT_SCOPE_LINK,
        (Change::Add, Scope::Global) => k::RT_SCOPE_UNIVERSE,
    };
    let (message, flags, protocol, kind) = match change {
        Change::Add => (
            k::RTM_NEWROUTE,
            k::NLM_F_CREATE | k::NLM_F_EXCL,
            k::RTPROT_BOOT,
            k::RTN_UNICAST,
        ),
        Change::Delete => (k::RTM_DELROUTE, 0, 0, k::RTN_UNSPEC),
    };
    let dst = route.dst.trunc();
    let table = u8::try_from(route.table).unwrap_or(0);
    let length = dst.prefix_len();
    let header = [
        family(dst.addr()),
        length,
        0,
        0,
        table,
        protocol,
        scope,
        kind,
        0,
        0,
        0,
        0,
    ];
    batch.begin(message, flags, &header);
    if length > 0 {
        batch.attr(k::RTA_DST, &bytes(dst.addr()));
    }
    if let Some(via) = route.via {
        batch.attr(k::RTA_GATEWAY, &bytes(via));
    }
    batch.attr_u32(k::RTA_OIF, index);
    batch.attr_u32(k::RTA_TABLE, route.table);
}

/// The route that the kernel would take to `ip`, as it stands in its table.
pub(crate) fn get_route(batch: &mut Batch, ip: IpAddr) {
    let length = if ip.is_ipv4() { 32 } else { 128 };
    let [a, b, c, d] = k::RTM_F_FIB_MATCH.to_ne_bytes();
    batch.begin(
        k::RTM_GETROUTE,
        0,
        &[family(ip), length, 0, 0, 0, 0, 0, 0, a, b, c, d],
    );
    batch.attr(k::RTA_DST, &bytes(ip));
}

/// An entry of this state (`NUD_*`).
pub(crate) fn add_neighbour(batch: &mut Batch, neighbour: &Neighbour, index: u32, state: u16) {
    let mut header = [0; 12];
    header[0] = family(neighbour.ip);
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    batch.begin(k::RTM_NEWNEIGH, k::NLM_F_CREATE | k::NLM_F_EXCL, &header);
    batch.attr(k::NDA_DST, &bytes(neighbour.ip));
    batch.attr(k::NDA_LLADDR, &neighbour.mac.0);
}

pub(crate) fn rule(batch: &mut Batch, change: Change, rule: &Rule) {
    let family = if rule.v6 { k::AF_INET6 } else { k::AF_INET };
    let length = |net: Option<IpNet>| net.map_or(0, |net| net.prefix_len());
    let table = u8::try_from(rule.table).unwrap_or(0);
    let (dst_len, src_len) = (length(rule.to), length(rule.from));
    let header = [
        family,
        dst_len,
        src_len,
        0,
        table,
        0,
        0,
        k::FR_ACT_TO_TBL,
        0,
        0,
        0,
        0,
    ];
    match change {
        Change::Add => {
            batch.begin(k::RTM_NEWRULE, k::NLM_F_CREATE | k::NLM_F_EXCL, &header);
        }
        Change::Delete => batch.begin(k::RTM_DELRULE, 0, &header),
    }
    batch.attr_u32(k::FRA_PRIORITY, rule.priority);
    batch.attr_u32(k::FRA_TABLE, rule.table);
    if let Some(net) = rule.from {
        batch.attr(k::FRA_SRC, &bytes(net.network()));
    }
    if let Some(net) = rule.to {
        batch.attr(k::FRA_DST, &bytes(net.network()));
    }
    if let Some((mark, mask)) = rule.fwmark {
        batch.attr_u32(k::FRA_FWMARK, mark);
        batch.attr_u32(k::FRA_FWMASK, mask);
    }
    if let Some(length) = rule.suppress_prefix_len {
        batch.attr_u32(k::FRA_SUPPRESS_PREFIXLEN, length);
    }
}

/// All entries of a kind (`RTM_GETADDR`, `RTM_GETROUTE`, `RTM_GETNEIGH`) and family. Must be alone in
/// its batch: a socket takes one dump at a time.
pub(crate) fn dump(batch: &mut Batch, kind: u16, family: u8) {
    let mut header = [0; 12];
    header[0] = family;
    let length = if kind == k::RTM_GETADDR { 8 } else { 12 };
    batch.begin(kind, k::NLM_F_DUMP, &header[..length]);
}

/// The id by which this socket's namespace knows the namespace `netns`; -1 if by none.
pub(crate) fn get_nsid(batch: &mut Batch, netns: RawFd) {
    batch.begin(k::RTM_GETNSID, 0, &[k::AF_UNSPEC, 0, 0, 0]);
    batch.attr(k::NETNSA_FD, &netns.to_ne_bytes());
}
