//! What the kernel has, read without any program: the witness against which the daemon's and the
//! plugin's words are held.

use crate::error::LabError;
use nix::ifaddrs::getifaddrs;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use vpc_sim::NetNs;

/// Addresses of every link of a namespace but `lo`, without link-local ones: link name to
/// addresses.
///
/// # Errors
/// The namespace is gone.
pub fn addresses(net: &NetNs) -> Result<BTreeMap<String, BTreeSet<IpAddr>>, LabError> {
    let all = net.run(|| getifaddrs().map(Iterator::collect::<Vec<_>>))?;
    let all = all.map_err(LabError::io("reading addresses"))?;
    let mut links: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for entry in all.into_iter().filter(|entry| entry.interface_name != "lo") {
        let Some(address) = entry.address else {
            continue;
        };
        let ip = match (address.as_sockaddr_in(), address.as_sockaddr_in6()) {
            (Some(v4), _) => IpAddr::V4(v4.ip()),
            (None, Some(v6)) if !v6.ip().is_unicast_link_local() => IpAddr::V6(v6.ip()),
            _ => continue,
        };
        links.entry(entry.interface_name).or_default().insert(ip);
    }
    Ok(links)
}

/// Host routes (/32, /128) through links whose name begins with `prefix`: address to every link that
/// such a route goes through.
///
/// The kernel prints its table a page at a time, and when a route before the page's end comes or
/// goes meanwhile, the next page begins with a line that was printed already (`fib_route_get_idx`
/// in net/ipv4/fib_trie.c). Two routes never have the same line, since the kernel refuses the
/// second one, so a line that comes again is the same route.
///
/// # Errors
/// The namespace is gone, or `/proc` is not as the kernel documents it.
pub fn pod_routes(net: &NetNs, prefix: &str) -> Result<BTreeMap<IpAddr, Vec<String>>, LabError> {
    let mut routes = pod_routes_v4(net, prefix)?;
    routes.extend(pod_routes_v6(net, prefix)?);
    Ok(routes)
}

/// Link-local and multicast ones are the kernel's own.
fn pod_routes_v6(net: &NetNs, prefix: &str) -> Result<BTreeMap<IpAddr, Vec<String>>, LabError> {
    // The kernel counts lines to find the page that comes next: one that comes or goes meanwhile (new links get
    // routes of their own for a second) hides others. What one of some looks has seen is there.
    let read = || fs::read_to_string("/proc/thread-self/net/ipv6_route");
    let mut text = String::new();
    for look in 0..4 {
        std::thread::sleep(Duration::from_millis(15) * look);
        // A kernel without IPv6 has no such file.
        text += &net.run(read)?.unwrap_or_default();
    }
    let mut routes: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [destination, "80", _, _, _, metric, .., link] = fields[..] else {
            continue;
        };
        let Ok(raw) = u128::from_str_radix(destination, 16) else {
            continue;
        };
        let address = Ipv6Addr::from(raw);
        // How often it was used stands in the line, too.
        if !seen.insert((destination, metric, link)) {
            continue;
        }
        let kernels = address.is_unicast_link_local() || address.is_multicast();
        if link.starts_with(prefix) && !kernels {
            let links = routes.entry(address.into()).or_default();
            links.push(link.to_owned());
        }
    }
    Ok(routes)
}

fn pod_routes_v4(net: &NetNs, prefix: &str) -> Result<BTreeMap<IpAddr, Vec<String>>, LabError> {
    let file = "/proc/thread-self/net/route";
    let text = net.run(move || fs::read_to_string(file))?;
    let text = text.map_err(LabError::io(format!("reading {file}")))?;
    let mut routes: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for line in text.lines().skip(1) {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [link, destination, ..] = fields[..] else {
            continue;
        };
        if !seen.insert(line) {
            continue;
        }
        if fields.get(7) != Some(&"FFFFFFFF") || !link.starts_with(prefix) {
            continue;
        }
        let bad = |e: std::num::ParseIntError| LabError::Format {
            what: file.into(),
            reason: format!("{e}: {line}"),
        };
        // Bytes in network order, printed as a number of this machine.
        let raw = u32::from_str_radix(destination, 16).map_err(bad)?;
        let address = Ipv4Addr::from(raw.to_ne_bytes());
        routes
            .entry(address.into())
            .or_default()
            .push(link.to_owned());
    }
    Ok(routes)
}

/// Names of the links in a namespace that begin with `prefix`.
///
/// # Errors
/// The namespace is gone.
pub fn links(net: &NetNs, prefix: &str) -> Result<BTreeSet<String>, LabError> {
    let file = "/proc/thread-self/net/dev";
    let text = net.run(move || fs::read_to_string(file))?;
    let text = text.map_err(LabError::io(format!("reading {file}")))?;
    let names = text
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    Ok(names.filter(|name| name.starts_with(prefix)).collect())
}
