//! One pod's wiring.

use super::{
    Neighbour, POD_GATEWAY_V4, POD_GATEWAY_V6, PRIO_BLOCK, Route, Rule, Scope, TABLE_MAIN,
    WIRING_BASE, WIRING_LOCAL, egress,
};
use crate::{Family, Lease, Mac};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::net::IpAddr;
use ipnet::IpNet;
use mutant::mutant;
use serde::{Deserialize, Serialize};

/// A setting under `/proc/sys`, e.g. key `net/ipv6/conf/eniabc/accept_ra`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Sysctl {
    /// Path below `/proc/sys`.
    pub key: String,
    /// Text to write.
    pub value: String,
    /// Whether the pod can't work without it; otherwise a refusal (read-only `/proc/sys`, no IPv6
    /// in the kernel) is passed over.
    pub required: bool,
}

/// Everything that one pod needs in the kernel. All of it is decided; carrying it out needs no choice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodWiring {
    /// See [`super::WIRING_VERSION`].
    pub version: u32,
    /// The veth's end in the host's namespace, created there (no rename, no move).
    pub host_if: String,
    /// Its Ethernet address.
    pub host_mac: Mac,
    /// The pod's end: `CNI_IFNAME`.
    pub pod_if: String,
    /// Its Ethernet address.
    pub pod_mac: Mac,
    /// MTU of both ends.
    pub mtu: u32,
    /// Set in the host's namespace before the host end is up.
    pub host_sysctls: Vec<Sysctl>,
    /// Set in the pod's namespace before the pod's end gets addresses.
    pub pod_sysctls: Vec<Sysctl>,
    /// On the pod's end, /32 or /128 each, without duplicate address detection. Node-local ones
    /// ([`egress`]) come last, beyond `gateways`: they are not in the CNI result's `ips`.
    pub pod_addresses: Vec<IpNet>,
    /// In the pod, in this order (a gateway's own route comes before the routes through it).
    pub pod_routes: Vec<Route>,
    /// In the pod: what it sends from this attachment's addresses goes by its routes. For a further
    /// interface, whose routes are in a table of their own; a plugin that doesn't know them passes them
    /// over.
    pub pod_rules: Vec<Rule>,
    /// In the pod: the gateway is the host end.
    pub pod_neighbours: Vec<Neighbour>,
    /// In the host's namespace.
    pub host_routes: Vec<Route>,
    /// On the host's end, to be used at once and checked by the kernel later: the pod's IPv6 address.
    /// A new address answers neighbour requests only once a worker of the kernel has joined its
    /// multicast group; on a busy node the first request comes before that, and the next one a second
    /// later.
    pub host_neighbours: Vec<Neighbour>,
    /// In the host's namespace: none today, since no rule is per pod; a shim must carry out any.
    pub host_rules: Vec<Rule>,
    /// For the CNI result: the gateway of each address that it names, in the order of
    /// `pod_addresses`.
    pub gateways: Vec<IpAddr>,
}

/// What the wiring of a pod depends on besides its lease.
#[derive(Clone, Copy, Debug)]
pub struct PodInput {
    /// `POD_MTU`
    pub mtu: u32,
    /// The place of the attachment among the pod's ([`crate::datastore::Datastore::place`]): the first
    /// one has its default routes.
    pub place: u32,
}

/// The pod's routing tables of further interfaces begin here: table 101 is the second one's.
const FURTHER_TABLES: u32 = 100;

/// The version of wirings of pods that have node-local addresses, or none.
#[must_use]
pub const fn version(local: bool) -> u32 {
    if local { WIRING_LOCAL } else { WIRING_BASE }
}

/// The wiring of a lease.
#[must_use]
pub fn pod_wiring(lease: &Lease, input: PodInput) -> PodWiring {
    let pod_if = lease.key.if_name.clone();
    let table = match input.place {
        0 => TABLE_MAIN,
        place => mutant!(
            "wiring/first-interface-keeps-the-default",
            FURTHER_TABLES + place,
            TABLE_MAIN + 0 * place
        ),
    };
    let mut wiring = PodWiring {
        version: version(lease.addresses.iter().any(|ip| egress::is_local(*ip))),
        host_if: lease.host_if.clone(),
        host_mac: lease.host_mac,
        pod_if: pod_if.clone(),
        pod_mac: lease.pod_mac,
        mtu: input.mtu,
        host_sysctls: host_sysctls(&lease.host_if),
        pod_sysctls: Vec::new(),
        pod_addresses: Vec::new(),
        pod_routes: Vec::new(),
        pod_rules: Vec::new(),
        pod_neighbours: Vec::new(),
        host_routes: Vec::new(),
        host_neighbours: Vec::new(),
        host_rules: Vec::new(),
        gateways: Vec::new(),
    };
    let v6 = lease.addresses.iter().any(IpAddr::is_ipv6);
    if v6 {
        wiring.pod_sysctls = pod_sysctls(&pod_if);
        wiring.host_sysctls.push(no_dad(&lease.host_if));
    }
    let (local, native): (Vec<IpAddr>, Vec<IpAddr>) = lease
        .addresses
        .iter()
        .partition(|ip| egress::is_local(**ip));
    for &ip in native.iter().chain(&local) {
        let (gateway, default): (IpAddr, IpNet) = match Family::of(ip) {
            Family::V4 => (POD_GATEWAY_V4.into(), IpNet::V4(ipnet::Ipv4Net::default())),
            Family::V6 => (POD_GATEWAY_V6.into(), IpNet::V6(ipnet::Ipv6Net::default())),
        };
        wiring.pod_addresses.push(ip.into());
        if mutant!(
            "wiring/node-local-is-nobodys-address",
            !egress::is_local(ip),
            true
        ) {
            wiring.gateways.push(gateway);
        }
        wiring.pod_routes.push(Route {
            table,
            ..on_link(gateway.into(), &pod_if)
        });
        wiring.pod_routes.push(Route {
            dst: default,
            via: Some(gateway),
            dev: pod_if.clone(),
            scope: Scope::Global,
            table,
        });
        if mutant!(
            "wiring/further-interface-has-a-table",
            table != TABLE_MAIN,
            false && table != TABLE_MAIN
        ) {
            wiring.pod_rules.push(from_itself(ip, table));
        }
        wiring.pod_neighbours.push(Neighbour {
            dev: pod_if.clone(),
            ip: gateway,
            mac: mutant!(
                "wiring/neighbour-is-the-host-end",
                lease.host_mac,
                lease.pod_mac
            ),
        });
        wiring.host_routes.push(on_link(ip.into(), &lease.host_if));
        if ip.is_ipv6() {
            wiring.host_neighbours.push(Neighbour {
                dev: lease.host_if.clone(),
                ip,
                mac: lease.pod_mac,
            });
        }
    }
    wiring
}

/// Without it, a further interface's answers leave by the first one, where a strict reverse-path filter
/// drops them, as it does in the pod with what arrives; policy agents, too, drop a source that is not the
/// link's.
fn from_itself(ip: IpAddr, table: u32) -> Rule {
    Rule {
        priority: PRIO_BLOCK,
        v6: ip.is_ipv6(),
        from: Some(ip.into()),
        to: None,
        fwmark: None,
        table,
        suppress_prefix_len: None,
    }
}

fn on_link(dst: IpNet, dev: &str) -> Route {
    Route {
        dst,
        via: None,
        dev: dev.into(),
        scope: Scope::Link,
        table: TABLE_MAIN,
    }
}

/// A pod must not be able to give the host a route by a router advertisement. (Amazon's CNI also
/// writes `accept_redirects` and `forwarding`, to what the kernel has anyway.)
fn host_sysctls(host_if: &str) -> Vec<Sysctl> {
    Vec::from([Sysctl {
        key: format!("net/ipv6/conf/{host_if}/accept_ra"),
        value: mutant!(
            "wiring/no-routes-from-pods",
            "0".to_string(),
            "1".to_string()
        ),
        required: false,
    }])
}

/// A runtime may have switched IPv6 off; a pod has its routes from us alone; and the host must hear of
/// it if a later plugin changes the pod's Ethernet address (RFC 4861 section 7.2.6).
fn pod_sysctls(pod_if: &str) -> Vec<Sysctl> {
    let setting = |key: &str, value: &str, required| Sysctl {
        key: format!("net/ipv6/conf/{key}"),
        value: value.to_string(),
        required,
    };
    Vec::from([
        setting("lo/disable_ipv6", "0", false),
        setting(&format!("{pod_if}/disable_ipv6"), "0", true),
        setting(&format!("{pod_if}/accept_ra"), "0", false),
        setting(&format!("{pod_if}/ndisc_notify"), "1", false),
    ])
}

/// The host asks for the pod from its end's link-local address, and may not while that is being looked
/// for on the link (duplicate address detection, a second or two). Nobody else is on it.
fn no_dad(host_if: &str) -> Sysctl {
    Sysctl {
        key: format!("net/ipv6/conf/{host_if}/accept_dad"),
        value: "0".to_string(),
        required: false,
    }
}

#[cfg(test)]
mod tests;
