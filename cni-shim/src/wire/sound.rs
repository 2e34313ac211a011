//! Whether a wiring can be meant, before anything of it is done. What the kernel itself refuses is
//! left to it: then all is undone. Here is what it would take, and what could not be undone.

use crate::error::{CniError, code};
use ipam_core::wiring::{PodWiring, Rule, Sysctl};
use ipnet::IpNet;
use std::path::{Component, Path};

/// Entries of any list. A pod has a few; the kernel's answers to thousands of requests at once would
/// overflow the socket, and nobody would know which of them were done.
const LIST_MAX: usize = 64;
/// `IFNAMSIZ` without its zero.
const NAME_MAX: usize = 15;
/// No setting is so long, bytes.
const VALUE_MAX: usize = 256;

/// Goes on, or says what makes no sense.
pub(super) fn check(w: &PodWiring) -> Result<(), CniError> {
    match problem(w) {
        None => Ok(()),
        Some(problem) => {
            let msg = format!("ipamd's wiring makes no sense: {problem}");
            Err(CniError::new(code::PROTOCOL, msg))
        }
    }
}

fn problem(w: &PodWiring) -> Option<String> {
    let names = [&w.host_if, &w.pod_if];
    if let Some(name) = names.into_iter().find(|name| !is_name(name)) {
        return Some(format!("{:?} is no interface's name", shown(name)));
    }
    let lengths = [
        w.pod_addresses.len(),
        w.pod_routes.len(),
        w.pod_rules.len(),
        w.pod_neighbours.len(),
        w.host_neighbours.len(),
        w.host_routes.len(),
        w.host_rules.len(),
        w.host_sysctls.len() + w.pod_sysctls.len(),
    ];
    if let Some(length) = lengths.into_iter().find(|length| *length > LIST_MAX) {
        return Some(format!("a list of {length} entries"));
    }
    // Routes and neighbours go with the link: those of another would stay after a failure.
    let routes = w.host_routes.iter().map(|r| &r.dev);
    let neighbours = w.host_neighbours.iter().map(|n| &n.dev);
    let on_host = routes.chain(neighbours).map(|dev| (dev, &w.host_if));
    let routes = w.pod_routes.iter().map(|r| &r.dev);
    let in_pod = routes.chain(w.pod_neighbours.iter().map(|n| &n.dev));
    let mut devices = on_host.chain(in_pod.map(|dev| (dev, &w.pod_if)));
    if let Some((dev, _)) = devices.find(|(dev, own)| dev != own) {
        return Some(format!("{:?} is not an end of this veth", shown(dev)));
    }
    // Rules stay when the link goes: those of others' traffic could not be told from the pod's own.
    let own = |rule: &Rule| {
        rule.from
            .is_some_and(|from| w.pod_addresses.contains(&from))
    };
    if !w.pod_rules.iter().all(own) {
        return Some("a rule in the pod for other addresses than its own".into());
    }
    // What is in the host's namespace concerns every pod and the node itself.
    let own = |net: &IpNet| w.pod_addresses.contains(net);
    if let Some(route) = w.host_routes.iter().find(|route| !own(&route.dst)) {
        return Some(format!("a route for {}, not the pod's address", route.dst));
    }
    let of_pod = |rule: &Rule| rule.from.iter().chain(&rule.to).any(own);
    if !w.host_rules.iter().all(of_pod) {
        return Some("a rule on the host for other addresses than the pod's".into());
    }
    let mut on_host = w.host_sysctls.iter().map(|setting| (setting, &w.host_if));
    let mut in_pod = w.pod_sysctls.iter().map(|setting| (setting, &w.pod_if));
    let odd = on_host
        .find(|(setting, dev)| !is_of_link(setting, dev))
        .or_else(|| in_pod.find(|(setting, dev)| !is_of_pod(setting, dev)));
    let (odd, _) = odd?;
    Some(format!(
        "{:?} is no setting of the pod's link",
        shown(&odd.key)
    ))
}

/// A name that an interface can have and then has: `%` would make it a template (`eth%d`).
fn is_name(name: &str) -> bool {
    let odd = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control();
    (1..=NAME_MAX).contains(&name.len()) && name != "." && name != ".." && !name.contains(odd)
}

/// One link's own setting, `net/FAMILY/conf/LINK/NAME` or `net/FAMILY/neigh/LINK/NAME`, and nothing that
/// others have.
fn is_of_link(setting: &Sysctl, link: &str) -> bool {
    let mut parts = Path::new(&setting.key).components();
    let mut next = || match parts.next() {
        Some(Component::Normal(part)) => part.to_str(),
        _ => None,
    };
    let of_link = next() == Some("net")
        && matches!(next(), Some("ipv4" | "ipv6"))
        && matches!(next(), Some("conf" | "neigh"))
        && next() == Some(link)
        && next().is_some();
    of_link && parts.next().is_none() && setting.value.len() <= VALUE_MAX
}

/// In the pod's namespace its loopback is the pod's, too.
fn is_of_pod(setting: &Sysctl, link: &str) -> bool {
    is_of_link(setting, link) || is_of_link(setting, "lo")
}

fn shown(text: &str) -> String {
    text.chars().take(40).collect()
}
