//! A name that the wiring needs is taken: by this attachment, by a veth of ours that nobody needs
//! any more, or by something that must be left alone.

use super::{Kernel, differences, failed};
use crate::error::{CniError, code};
use crate::netlink::{Batch, FibRoute, Link, uapi, verbs};
use ipam_core::wiring::{PodWiring, TABLE_MAIN};
use nix::errno::Errno;

/// What is there after [`make_way`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The attachment, exactly as wired: an ADD was repeated.
    Complete,
    /// Nothing any more: leftovers of ours were taken away.
    Nothing,
}

/// Decides before it touches anything, so that a refusal leaves all as it was.
pub(super) fn make_way(kernel: &mut Kernel, wiring: &PodWiring) -> Result<Found, CniError> {
    let netlink = |errno| failed("look at the interfaces", errno);
    let host = kernel.host.link(&wiring.host_if).map_err(netlink)?;
    let pod = kernel.pod.link(&wiring.pod_if).map_err(netlink)?;
    let pod_peer = match &pod {
        Some(pod) => host_end_of(kernel, pod).map_err(netlink)?,
        None => None,
    };
    let own = host
        .as_ref()
        .is_some_and(|host| host.mac == Some(wiring.host_mac));
    if own && host == pod_peer {
        let found = differences(kernel, wiring, None).map_err(netlink)?;
        if found.is_empty() {
            return Ok(Found::Complete);
        }
    }
    let mut leftovers = Vec::new();
    if let Some(host) = host {
        leftover(kernel, &host, wiring)?;
        leftovers.push(host);
    }
    match (pod, pod_peer) {
        (Some(_), Some(peer)) if leftovers.contains(&peer) => {}
        (Some(pod), Some(peer)) if named_as_ours(&peer.name, wiring) => {
            leftover(kernel, &peer, wiring)?;
            leftovers.push(peer);
            drop(pod);
        }
        (Some(pod), _) => {
            let (path, name) = (kernel.netns.path(), &pod.name);
            let what = if pod.kind.is_empty() {
                "interface"
            } else {
                pod.kind.as_str()
            };
            let msg =
                format!("{what} {name} is already in {path} and is not ours; it was left alone");
            return Err(CniError::new(code::NAME_TAKEN, msg));
        }
        (None, _) => {}
    }
    let mut batch = Batch::default();
    for link in &leftovers {
        verbs::delete_link(&mut batch, link.index);
    }
    for errno in kernel
        .host
        .exchange(batch)
        .map_err(netlink)?
        .iter()
        .filter_map(|a| a.error)
    {
        if errno != Errno::ENODEV {
            return Err(failed("take away a veth of an earlier attachment", errno));
        }
    }
    Ok(Found::Nothing)
}

/// The host's end of a veth in the pod, proven by its pointing back into this very namespace.
fn host_end_of(kernel: &mut Kernel, pod: &Link) -> Result<Option<Link>, Errno> {
    let Some(index) = pod.peer.filter(|_| pod.kind == "veth") else {
        return Ok(None);
    };
    let netns_id = kernel.host.netns_id(kernel.netns.fd())?;
    let host = kernel.host.link_by_index(index)?;
    let points_back = |host: &Link| {
        host.kind == "veth"
            && host.peer == Some(pod.index)
            && host.peer_netns.is_some()
            && host.peer_netns == netns_id
    };
    Ok(host.filter(points_back))
}

/// Whether a name is the wiring's prefix and 11 hex digits (see `ipam_core::wiring::host_if_name`).
fn named_as_ours(name: &str, wiring: &PodWiring) -> bool {
    let prefix = wiring.host_if.len().saturating_sub(11);
    let (Some(ours), Some(theirs)) = (wiring.host_if.get(..prefix), name.get(..prefix)) else {
        return false;
    };
    let digits = &name[prefix..];
    ours == theirs && digits.len() == 11 && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a host end may be taken away: it is a veth with a name of ours, and this attachment's own, or one whose lease
/// was released: its host routes are gone, since that is the first thing a DEL does. (A pod that is
/// created again under its old name gets the old veth's name, and the old namespace may be dying for
/// a while yet.)
fn leftover(kernel: &mut Kernel, link: &Link, wiring: &PodWiring) -> Result<(), CniError> {
    let name = &link.name;
    let own = link.mac == Some(wiring.host_mac);
    if link.kind != "veth" || !own && !named_as_ours(name, wiring) {
        let msg = format!("{name} on the host is not a veth of ours; it was left alone");
        return Err(CniError::new(code::NAME_TAKEN, msg));
    }
    if own {
        return Ok(());
    }
    let routes = kernel
        .host
        .routes()
        .map_err(|errno| failed("look at the routes", errno))?;
    match routes.iter().find(|route| is_pod_route(route, link.index)) {
        None => Ok(()),
        Some(route) => {
            let msg = format!(
                "{name} on the host still carries {} for another attachment; its DEL comes first",
                route.dst.addr()
            );
            Err(CniError::new(code::TRY_AGAIN_LATER, msg))
        }
    }
}

fn is_pod_route(route: &FibRoute, index: u32) -> bool {
    route.index == index
        && route.table == TABLE_MAIN
        && route.kind == uapi::RTN_UNICAST
        && route.dst.prefix_len() == route.dst.max_prefix_len()
}
