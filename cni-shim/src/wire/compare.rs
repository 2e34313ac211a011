//! Is the kernel as the wiring says? For CHECK, and for an ADD that finds its work done.

use super::Kernel;
use crate::netlink::{FibRoute, FibRule, Link, uapi};
use ipam_core::Mac;
use ipam_core::wiring::{PodWiring, Route};
use nix::errno::Errno;

/// Everything that differs, in words; empty if nothing does. `pod_mac` is the Ethernet address that
/// a later plugin of the chain gave the pod's end, if one did.
///
/// Other agents may add to what is there: a route of another metric (Calico replaces ours by its
/// own, of metric 1024), sysctls, a link-local address.
pub(crate) fn differences(
    kernel: &mut Kernel,
    wiring: &PodWiring,
    pod_mac: Option<Mac>,
) -> Result<Vec<String>, Errno> {
    let mut found = Vec::new();
    let host = kernel.host.link(&wiring.host_if)?;
    let host = link_is(&mut found, "host", host, &wiring.host_if, wiring.host_mac);
    if let Some(host) = &host {
        if host.mtu != wiring.mtu && wiring.mtu != 0 {
            found.push(format!(
                "{} has MTU {}, not {}",
                host.name, host.mtu, wiring.mtu
            ));
        }
        for route in &wiring.host_routes {
            host_route(kernel, route, host, &mut found)?;
        }
    }
    let pod = kernel.pod.link(&wiring.pod_if)?;
    let pod_mac = pod_mac.unwrap_or(wiring.pod_mac);
    if let Some(pod) = link_is(&mut found, "pod", pod, &wiring.pod_if, pod_mac) {
        if host.is_some_and(|host| pod.peer != Some(host.index)) {
            found.push(format!(
                "{} and {} are not one veth",
                wiring.pod_if, wiring.host_if
            ));
        }
        pod_side(kernel, wiring, &pod, &mut found)?;
    }
    Ok(found)
}

fn link_is(
    found: &mut Vec<String>,
    side: &str,
    link: Option<Link>,
    name: &str,
    mac: Mac,
) -> Option<Link> {
    let Some(link) = link else {
        found.push(format!("there is no {name} on the {side}'s side"));
        return None;
    };
    if link.kind != "veth" {
        found.push(format!("{name} is not a veth"));
    }
    if link.flags & uapi::IFF_UP == 0 {
        found.push(format!("{name} is down"));
    }
    if link.mac != Some(mac) {
        let is = link.mac.map_or_else(String::new, |mac| mac.to_string());
        found.push(format!("{name} has the Ethernet address {is}, not {mac}"));
    }
    Some(link)
}

/// What the kernel would choose counts, whoever added it.
fn host_route(
    kernel: &mut Kernel,
    route: &Route,
    host: &Link,
    found: &mut Vec<String>,
) -> Result<(), Errno> {
    if route.dev != host.name || route.dst.prefix_len() != route.dst.max_prefix_len() {
        return Ok(());
    }
    let taken = kernel.host.route_to(route.dst.addr())?;
    if !taken.is_some_and(|taken| taken.dst == route.dst && taken.index == host.index) {
        found.push(format!(
            "the host has no route {} dev {}",
            route.dst, host.name
        ));
    }
    Ok(())
}

fn pod_side(
    kernel: &mut Kernel,
    wiring: &PodWiring,
    pod: &Link,
    found: &mut Vec<String>,
) -> Result<(), Errno> {
    let addresses = kernel.pod.addresses()?;
    for &net in &wiring.pod_addresses {
        if !addresses
            .iter()
            .any(|a| a.index == pod.index && a.net == net)
        {
            found.push(format!("{} has no address {net}", pod.name));
        }
    }
    let routes = kernel.pod.routes()?;
    let same = |there: &FibRoute, route: &Route| {
        there.dst == route.dst && there.via == route.via && there.table == route.table
    };
    for route in wiring
        .pod_routes
        .iter()
        .filter(|route| route.dev == pod.name)
    {
        if !routes
            .iter()
            .any(|there| there.index == pod.index && same(there, route))
        {
            found.push(format!(
                "the pod has no route {} dev {}",
                route.dst, pod.name
            ));
        }
    }
    pod_rules(kernel, wiring, found)?;
    let neighbours = kernel.pod.neighbours()?;
    for wanted in &wiring.pod_neighbours {
        let there = neighbours.iter().any(|n| {
            n.index == pod.index
                && n.ip == wanted.ip
                && n.mac == Some(wanted.mac)
                && n.state & uapi::NUD_PERMANENT != 0
        });
        if !there {
            found.push(format!(
                "the pod has no permanent neighbour {} {}",
                wanted.ip, wanted.mac
            ));
        }
    }
    Ok(())
}

/// Only a further interface has any.
fn pod_rules(
    kernel: &mut Kernel,
    wiring: &PodWiring,
    found: &mut Vec<String>,
) -> Result<(), Errno> {
    if wiring.pod_rules.is_empty() {
        return Ok(());
    }
    let rules = kernel.pod.rules()?;
    for wanted in &wiring.pod_rules {
        let there = |rule: &FibRule| {
            rule.priority == wanted.priority
                && rule.from == wanted.from
                && rule.table == wanted.table
        };
        if !rules.iter().any(there) {
            let from = wanted.from.map_or_else(String::new, |net| net.to_string());
            found.push(format!(
                "the pod has no rule {}: from {from} lookup {}",
                wanted.priority, wanted.table
            ));
        }
    }
    Ok(())
}
