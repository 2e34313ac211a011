//! What the kernel alone takes: the netlink messages of an ADD or a DEL with values made up on the
//! spot, no call and no JSON. Only for the benchmark (`cni-floor`).

use crate::command::forget;
use crate::error::{CniError, code};
use crate::wire::Kernel;
use ipam_core::wiring::{MTU_DEFAULT, PodInput, pod_macs, pod_wiring};
use ipam_core::{AttachmentKey, Lease, PodRef, Timestamp};
use std::net::IpAddr;

/// `add NETNS HOST_IF POD_IF ADDRESS...` or `del NETNS HOST_IF POD_IF ADDRESS...`, as the plugin would.
///
/// # Errors
/// The arguments are others, or the kernel refuses.
pub fn run(arguments: &[String]) -> Result<(), CniError> {
    match arguments {
        [verb, netns, host_if, pod_if, addresses @ ..] if verb == "add" => {
            let lease = lease(host_if, pod_if, parse(addresses)?);
            let wiring = pod_wiring(
                &lease,
                PodInput {
                    mtu: MTU_DEFAULT,
                    place: 0,
                },
            );
            Kernel::open(netns)?
                .wire(&wiring, std::time::Instant::now())
                .map_err(|failed| failed.error)
        }
        [verb, netns, host_if, pod_if, addresses @ ..] if verb == "del" => {
            forget(netns, &key(host_if, pod_if), host_if, parse(addresses)?)
        }
        _ => {
            let usage = "add|del NETNS HOST_IF POD_IF ADDRESS...";
            Err(CniError::new(code::INVALID_ENVIRONMENT, usage))
        }
    }
}

fn parse(addresses: &[String]) -> Result<Vec<IpAddr>, CniError> {
    let each = addresses.iter().map(|text| {
        let msg = format!("{text} is not an address");
        text.parse()
            .map_err(|_| CniError::new(code::INVALID_ENVIRONMENT, msg))
    });
    each.collect()
}

fn key(host_if: &str, pod_if: &str) -> AttachmentKey {
    AttachmentKey {
        network: "floor".into(),
        container_id: host_if.into(),
        if_name: pod_if.into(),
    }
}

fn lease(host_if: &str, pod_if: &str, addresses: Vec<IpAddr>) -> Lease {
    let key = key(host_if, pod_if);
    let (host_mac, pod_mac) = pod_macs(&key, 0);
    Lease {
        key,
        pod: PodRef::default(),
        addresses,
        host_if: host_if.into(),
        host_mac,
        pod_mac,
        since: Timestamp(0),
    }
}
