//! What the kernel answers: links, addresses, routes, neighbours.

use super::socket::Record;
use super::uapi::{
    AF_INET, AF_INET6, FRA_PRIORITY, FRA_SRC, FRA_TABLE, IFA_ADDRESS, IFA_LOCAL, IFLA_ADDRESS,
    IFLA_IFNAME, IFLA_INFO_KIND, IFLA_LINK, IFLA_LINK_NETNSID, IFLA_LINKINFO, IFLA_MTU, NDA_DST,
    NDA_LLADDR, NETNSA_NSID, NLA_TYPE_MASK, RTA_DST, RTA_GATEWAY, RTA_OIF, RTA_TABLE, RTM_NEWADDR,
    RTM_NEWLINK, RTM_NEWNEIGH, RTM_NEWNSID, RTM_NEWROUTE, RTM_NEWRULE,
};
use ipam_core::Mac;
use ipnet::IpNet;
use std::net::IpAddr;

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) flags: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<Mac>,
    pub(crate) mtu: u32,
    /// `veth` and so on; empty for a plain device.
    pub(crate) kind: String,
    /// Of a veth: the index of its other end, in the namespace of id `peer_netns`, or in this one.
    pub(crate) peer: Option<u32>,
    pub(crate) peer_netns: Option<i32>,
}

/// An address on an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) index: u32,
    pub(crate) net: IpNet,
}

/// A route, as far as wiring names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FibRoute {
    pub(crate) dst: IpNet,
    pub(crate) via: Option<IpAddr>,
    pub(crate) index: u32,
    pub(crate) table: u32,
    /// `RTN_*`
    pub(crate) kind: u8,
}

/// A routing rule, as far as wiring names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FibRule {
    pub(crate) priority: u32,
    pub(crate) from: Option<IpNet>,
    pub(crate) table: u32,
}

/// A neighbour entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Neighbour {
    pub(crate) index: u32,
    pub(crate) ip: IpAddr,
    pub(crate) mac: Option<Mac>,
    /// `NUD_*`
    pub(crate) state: u16,
}

/// Attributes behind a family header of `skip` bytes.
struct Attributes<'a>(&'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & NLA_TYPE_MASK;
        let value = self.0.get(4..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    }
}

fn attributes(body: &[u8], skip: usize) -> Attributes<'_> {
    Attributes(body.get(skip..).unwrap_or_default())
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&b| b == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

fn mac(value: &[u8]) -> Option<Mac> {
    value.try_into().ok().map(Mac)
}

fn ip(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => <[u8; 4]>::try_from(value).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(value).ok().map(IpAddr::from),
        _ => None,
    }
}

/// The body of `struct ifinfomsg` and its attributes.
pub(crate) fn link(record: &Record) -> Option<Link> {
    let body = &record.body;
    if record.kind != RTM_NEWLINK {
        return None;
    }
    let mut link = Link {
        index: u32_at(body, 4)?,
        flags: u32_at(body, 8)?,
        ..Link::default()
    };
    for (kind, value) in attributes(body, 16) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_ADDRESS => link.mac = mac(value),
            IFLA_MTU => link.mtu = u32_at(value, 0).unwrap_or_default(),
            IFLA_LINK => link.peer = u32_at(value, 0).filter(|&n| n != 0),
            IFLA_LINK_NETNSID => link.peer_netns = u32_at(value, 0).map(u32::cast_signed),
            IFLA_LINKINFO => {
                let kind = attributes(value, 0).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = kind.map_or_else(String::new, |(_, value)| text(value));
            }
            _ => {}
        }
    }
    Some(link)
}

/// `struct ifaddrmsg`.
pub(crate) fn address(record: &Record) -> Option<Address> {
    let body = &record.body;
    if record.kind != RTM_NEWADDR {
        return None;
    }
    let (length, index) = (*body.get(1)?, u32_at(body, 4)?);
    let find = |wanted| attributes(body, 8).find(|(kind, _)| *kind == wanted);
    // IFA_ADDRESS is the far end of a point-to-point link; IPv6 has no IFA_LOCAL otherwise.
    let (_, value) = find(IFA_LOCAL).or_else(|| find(IFA_ADDRESS))?;
    Some(Address {
        index,
        net: IpNet::new(ip(value)?, length).ok()?,
    })
}

/// `struct rtmsg`.
pub(crate) fn route(record: &Record) -> Option<FibRoute> {
    let body = &record.body;
    if record.kind != RTM_NEWROUTE {
        return None;
    }
    let (family, length) = (*body.first()?, *body.get(1)?);
    let mut dst = match family {
        AF_INET => IpNet::new(IpAddr::from([0; 4]), length).ok()?,
        AF_INET6 => IpNet::new(IpAddr::from([0; 16]), length).ok()?,
        _ => return None,
    };
    let (mut table, kind) = (u32::from(*body.get(4)?), *body.get(7)?);
    let (mut via, mut index) = (None, 0);
    for (kind, value) in attributes(body, 12) {
        match kind {
            RTA_DST => dst = IpNet::new(ip(value)?, length).ok()?,
            RTA_GATEWAY => via = ip(value),
            RTA_OIF => index = u32_at(value, 0)?,
            RTA_TABLE => table = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some(FibRoute {
        dst,
        via,
        index,
        table,
        kind,
    })
}

/// `struct fib_rule_hdr`.
pub(crate) fn rule(record: &Record) -> Option<FibRule> {
    let body = &record.body;
    if record.kind != RTM_NEWRULE {
        return None;
    }
    let length = *body.get(2)?;
    let (mut from, mut table, mut priority) = (None, u32::from(*body.get(4)?), 0);
    for (kind, value) in attributes(body, 12) {
        match kind {
            FRA_SRC => from = Some(IpNet::new(ip(value)?, length).ok()?),
            FRA_TABLE => table = u32_at(value, 0)?,
            FRA_PRIORITY => priority = u32_at(value, 0)?,
            _ => {}
        }
    }
    Some(FibRule {
        priority,
        from,
        table,
    })
}

/// `struct ndmsg`.
pub(crate) fn neighbour(record: &Record) -> Option<Neighbour> {
    let body = &record.body;
    if record.kind != RTM_NEWNEIGH {
        return None;
    }
    let (index, state) = (u32_at(body, 4)?, u16_at(body, 8)?);
    let (mut address, mut lladdr) = (None, None);
    for (kind, value) in attributes(body, 12) {
        match kind {
            NDA_DST => address = ip(value),
            NDA_LLADDR => lladdr = mac(value),
            _ => {}
        }
    }
    Some(Neighbour {
        index,
        ip: address?,
        mac: lladdr,
        state,
    })
}

/// `struct rtgenmsg`.
pub(crate) fn netns_id(record: &Record) -> Option<i32> {
    if record.kind != RTM_NEWNSID {
        return None;
    }
    let (_, value) = attributes(&record.body, 4).find(|(kind, _)| *kind == NETNSA_NSID)?;
    u32_at(value, 0).map(u32::cast_signed)
}
