//! What host tools (NetworkManager, systemd-networkd, amazon-ec2-net-utils, a person) do to ENIs, and
//! what of it is undone.
//!
//! Undone: a pod's address on the host, which keeps the pod's packets; on secondary ENIs, routes in
//! main of everything, or inside the subnet, which take the node's own traffic there. Told only: other
//! routes through a secondary ENI, and rules about pods' or ENIs' addresses. The primary ENI's own
//! address and routes are the host's.

use super::links::{self, Link};
use super::netlink::{EADDRNOTAVAIL, Netlink, Refused};
use super::routes::{self, Seen};
use super::rules;
use ipam_core::wiring::{EniLink, HostWiring, Rule, TABLE_MAIN};
use ipam_engine::ports::Foreign;
use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::route::RouteProtocol;
use std::collections::BTreeSet;
use std::net::IpAddr;

const NETWORK_MANAGER: &str = "NetworkManager";
const NETWORKD: &str = "systemd-networkd";
const EC2_NET_UTILS: &str = "amazon-ec2-net-utils";
const KERNEL_RA: &str = "IPv6 router advertisements (accept_ra)";
const SOMEBODY: &str = "a script or a person";

/// NetworkManager gives Ethernet links' routes metrics from here (`ipv4.route-metric`).
const NM_METRICS: std::ops::Range<u32> = 100..512;
/// amazon-ec2-net-utils numbers its tables from here, by device.
const EC2_NET_UTILS_TABLES: std::ops::Range<u32> = 10_000..20_000;

/// Takes pods' addresses off the ENIs' links.
pub(super) async fn addresses(
    netlink: &Netlink,
    wiring: &HostWiring,
    present: &[(&EniLink, &Link)],
) -> Result<Vec<Foreign>, Refused> {
    let mut found = Vec::new();
    for message in links::addresses(netlink).await? {
        let Some((_, link)) = present
            .iter()
            .find(|(_, link)| link.index == message.header.index)
        else {
            continue;
        };
        let Some(ip) = own_address(&message).filter(|ip| is_pods(wiring, *ip)) else {
            continue;
        };
        netlink
            .change_unless(
                RouteNetlinkMessage::DelAddress(message),
                0,
                &[EADDRNOTAVAIL],
            )
            .await?;
        found.push(Foreign {
            what: format!("pods' address {ip} was on the host's link {}", link.name),
            tool: EC2_NET_UTILS,
            undone: true,
        });
    }
    Ok(found)
}

/// The address that the host answers to.
fn own_address(message: &AddressMessage) -> Option<IpAddr> {
    let of = |local: bool| {
        let mut attributes = message.attributes.iter();
        attributes.find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) if local => Some(*ip),
            AddressAttribute::Address(ip) if !local => Some(*ip),
            _ => None,
        })
    };
    of(true).or_else(|| of(false))
}

/// Inside a block, and no ENI's own.
fn is_pods(wiring: &HostWiring, ip: IpAddr) -> bool {
    let enis = wiring.enis.iter();
    let own = enis
        .filter_map(|eni| eni.address)
        .any(|net| net.addr() == ip);
    !own && wiring.nat.source.map(IpAddr::V4) != Some(ip)
        && wiring.pods.iter().any(|block| block.contains(&ip))
}

/// Takes routes through a secondary ENI out of main that take the node's own traffic there.
pub(super) async fn routes(
    netlink: &Netlink,
    seen: &[Seen],
    eni: &EniLink,
    link: &Link,
) -> Result<Vec<Foreign>, Refused> {
    let mut found = Vec::new();
    let through = |route: &&Seen| route.table == TABLE_MAIN && route.link == link.index;
    for route in seen.iter().filter(through).filter(|_| !eni.primary) {
        let Some(undone) = steals(route, eni) else {
            continue;
        };
        if undone {
            routes::remove(netlink, route).await?;
        }
        // What the kernel makes of any address: nobody's doing.
        if route.protocol != RouteProtocol::Kernel {
            let (dst, name) = (route.dst, &link.name);
            found.push(Foreign {
                what: format!("the node's traffic to {dst} was routed through {name}"),
                tool: maker(route),
                undone,
            });
        }
    }
    Ok(found)
}

/// `None`: it takes nothing (link-local, multicast). Else whether it is to go: what is not about this
/// subnet may be somebody's purpose.
fn steals(route: &Seen, eni: &EniLink) -> Option<bool> {
    let local = match route.dst {
        IpNet::V4(net) => net.addr().is_link_local() || net.addr().is_multicast(),
        IpNet::V6(net) => net.addr().is_unicast_link_local() || net.addr().is_multicast(),
    };
    if local {
        return None;
    }
    let inside = eni.not_in_main.is_some_and(|net| net.contains(&route.dst));
    Some(inside || route.dst.prefix_len() == 0)
}

fn maker(route: &Seen) -> &'static str {
    match route.protocol {
        RouteProtocol::Ra => KERNEL_RA,
        _ if NM_METRICS.contains(&route.metric) => NETWORK_MANAGER,
        RouteProtocol::Dhcp => NETWORKD,
        _ => SOMEBODY,
    }
}

/// Rules of others about pods' or ENIs' addresses.
pub(super) fn others_rules(all: &BTreeSet<Rule>, wiring: &HostWiring) -> Vec<Foreign> {
    let ours: Vec<IpNet> = wiring.enis.iter().filter_map(|eni| eni.address).collect();
    let about = |net: &IpNet| {
        let pods = wiring
            .pods
            .iter()
            .any(|b| b.contains(net) || net.contains(b));
        pods || ours.iter().any(|own| own.addr() == net.addr())
    };
    let foreign = |rule: &&Rule| {
        let of_cni = rules::is_eni_table(rule.table) || rule.table == TABLE_MAIN;
        let narrow = rule.from.filter(|net| net.prefix_len() > 0);
        narrow.as_ref().is_some_and(about) && !rules::is_ours(rule) && !of_cni
    };
    all.iter()
        .filter(foreign)
        .map(|rule| Foreign {
            what: format!(
                "traffic of pods or ENIs is led by rule {}",
                rules::spelled(rule)
            ),
            tool: if EC2_NET_UTILS_TABLES.contains(&rule.table) {
                EC2_NET_UTILS
            } else {
                SOMEBODY
            },
            undone: false,
        })
        .collect()
}
