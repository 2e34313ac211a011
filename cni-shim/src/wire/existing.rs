//! A name that the wiring needs is taken: by this attachment, by a veth of ours that nobody needs
//! any more (or will need, once the DEL that is under way is done), or by something that must be left
//! alone.

use super::{Kernel, differences, failed};
use crate::error::{CniError, code};
use crate::netlink::{Batch, FibRoute, Link, News, uapi, verbs};
use ipam_core::wiring::{PodWiring, TABLE_MAIN};
use nix::errno::Errno;
use std::time::{Duration, Instant};

/// How long an ADD waits for the DEL of an earlier sandbox of the same pod. A runtime that has asked for
/// both does them side by side; one that is refused asks again after more than ten seconds.
const OTHERS_DEL: Duration = Duration::from_secs(10);

/// What is there after [`make_way`].
#[derive(Debug)]
pub(super) enum Found {
    /// The attachment, exactly as wired: an ADD was repeated.
    Complete,
    /// Nothing any more: leftovers of ours were taken away.
    Nothing,
    /// Another attachment's veth, whose lease stands, in these words. Nothing was changed.
    InUse(CniError),
}

/// [`make_way`], which waits a while, and not beyond `deadline`, for an attachment in the way to be
/// released.
pub(super) fn way(
    kernel: &mut Kernel,
    wiring: &PodWiring,
    deadline: Instant,
) -> Result<Found, CniError> {
    let found = make_way(kernel, wiring)?;
    if !matches!(found, Found::InUse(_)) {
        return Ok(found);
    }
    let until = deadline.min(Instant::now() + OTHERS_DEL);
    let waiting = |errno| failed("wait for an earlier attachment's end", errno);
    let news = News::open().map_err(waiting)?;
    // What changed before there was a socket to tell it is seen by the first look.
    loop {
        match make_way(kernel, wiring)? {
            Found::InUse(error) if !news.wait(until).map_err(waiting)? => return Err(error),
            Found::InUse(_) => {}
            found => return Ok(found),
        }
    }
}

/// Decides before it touches anything, so that a refusal leaves all as it was.
fn make_way(kernel: &mut Kernel, wiring: &PodWiring) -> Result<Found, CniError> {
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
        if let Some(error) = leftover(kernel, &host, wiring)? {
            return Ok(Found::InUse(error));
        }
        leftovers.push(host);
    }
    match (pod, pod_peer) {
        (Some(_), Some(peer)) if leftovers.contains(&peer) => {}
        (Some(pod), Some(peer)) if named_as_ours(&peer.name, wiring) => {
            if let Some(error) = leftover(kernel, &peer, wiring)? {
                return Ok(Found::InUse(error));
            }
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
pub(super) fn host_end_of(kernel: &mut Kernel, pod: &Link) -> Result<Option<Link>, Errno> {
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
/// a while yet.) If that lease stands, the answer is who is in the way.
fn leftover(
    kernel: &mut Kernel,
    link: &Link,
    wiring: &PodWiring,
) -> Result<Option<CniError>, CniError> {
    let name = &link.name;
    let own = link.mac == Some(wiring.host_mac);
    if link.kind != "veth" || !own && !named_as_ours(name, wiring) {
        let msg = format!("{name} on the host is not a veth of ours; it was left alone");
        return Err(CniError::new(code::NAME_TAKEN, msg));
    }
    if own {
        return Ok(None);
    }
    let routes = kernel
        .host
        .routes()
        .map_err(|errno| failed("look at the routes", errno))?;
    match routes.iter().find(|route| is_pod_route(route, link.index)) {
        None => Ok(None),
        Some(route) => {
            let msg = format!(
                "{name} on the host still carries {} for another attachment; its DEL comes first",
                route.dst.addr()
            );
            Ok(Some(CniError::new(code::TRY_AGAIN_LATER, msg)))
        }
    }
}

fn is_pod_route(route: &FibRoute, index: u32) -> bool {
    route.index == index
        && route.table == TABLE_MAIN
        && route.kind == uapi::RTN_UNICAST
        && route.dst.prefix_len() == route.dst.max_prefix_len()
}
