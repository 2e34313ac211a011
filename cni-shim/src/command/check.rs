//! CHECK: the lease, the kernel against its wiring, and what the daemon says of the node's own part.

use super::no_reply;
use crate::error::{CniError, code};
use crate::reply::told;
use crate::request::{Attachment, Conf, PrevResult};
use crate::rpc::Daemon;
use crate::wire::{Kernel, differences};
use ipam_core::Mac;
use ipam_core::wiring::{PodWiring, WIRING_VERSION};
use ipam_proto::v1;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(10);

/// Tells everything that differs.
pub(crate) fn check(attachment: &Attachment, conf: &Conf) -> Result<(), CniError> {
    let mut kernel = Kernel::open(&attachment.netns)?;
    let key = Some(attachment.key.clone().into());
    let request = v1::CheckRequest {
        wiring_version: WIRING_VERSION,
        key,
    };
    let reply = Daemon::at(&conf.socket)
        .check(&request, Instant::now() + DEADLINE)
        .map_err(|error| no_reply(&error))?;
    if let Some(refusal) = reply.refusal {
        return Err(refusal.into());
    }
    let Some(wiring) = reply.wiring else {
        let msg = format!("ipamd has no lease for {}", attachment.key);
        return Err(CniError::new(code::CHECK_FAILED, msg));
    };
    let mut wiring = PodWiring::try_from(wiring)
        .map_err(|error| CniError::new(code::PROTOCOL, format!("ipamd's wiring: {error}")))?;
    if conf.mtu > 0 {
        // The ADD's configuration went before the daemon's setting, and this is the same.
        wiring.mtu = conf.mtu;
    }
    let prev = conf.prev_result.as_ref();
    let mut found = prev.map_or_else(Vec::new, |prev| not_in_result(&wiring, prev));
    let pod_mac = prev.and_then(|prev| told_mac(&wiring, prev));
    found.extend(differences(&mut kernel, &wiring, pod_mac).map_err(|errno| {
        CniError::new(
            code::IO_FAILURE,
            format!("looking at the kernel: {}", errno.desc()),
        )
    })?);
    let of_node = reply.node.iter().map(|words| format!("the node: {words}"));
    found.extend(of_node);
    if found.is_empty() {
        return Ok(());
    }
    let msg = format!("{} is not as it was wired", attachment.key);
    Err(CniError::new(code::CHECK_FAILED, msg).with(found.join("; ")))
}

/// The lease's addresses that the runtime's result should name, and does not.
fn not_in_result(wiring: &PodWiring, prev: &PrevResult) -> Vec<String> {
    let leased = told(wiring).map(|(net, _)| net.addr());
    let missing = leased.filter(|ip| !prev.addresses.contains(ip));
    missing
        .map(|ip| format!("ipamd's lease is {ip}, which prevResult does not name"))
        .collect()
}

/// What the result says of the pod's end: a later plugin may have changed it (`tuning`).
fn told_mac(wiring: &PodWiring, prev: &PrevResult) -> Option<Mac> {
    let pod = prev
        .interfaces
        .iter()
        .find(|i| i.in_container && i.name == wiring.pod_if);
    pod.and_then(|interface| interface.mac)
}
