//! ADD: a lease, then the wiring that it names.

use super::network::served_in_this_boot;
use super::no_reply;
use crate::error::{CniError, code};
use crate::reply;
use crate::request::{Attachment, Conf};
use crate::rpc::Daemon;
use crate::spool::withdraw;
use crate::wire::Kernel;
use ipam_core::wiring::{PodWiring, WIRING_VERSION};
use ipam_proto::v1;
use ipam_proto::v1::allocate_reply::Result as Allocated;
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long a daemon may be away: longer than its pod takes to be replaced. The kubelet gives a sandbox
/// twice its `runtimeRequestTimeout`, 4 min by default (`RunPodSandbox` in its CRI client), and containerd
/// gives a plugin all of it.
const AWAY: Duration = Duration::from_secs(90);
/// Then the daemon's own deadline counts (30 s by default), and a daemon may hang.
const ANSWERS: Duration = Duration::from_secs(60);
/// Without a daemon in this boot so far: a start takes well under a second, and a runtime that gets
/// its answer within five can tell the pod why.
const FIRST_START: Duration = Duration::from_secs(4);

/// The veth, once the address is there, and a release if that fails.
const WIRING_TIME: Duration = Duration::from_millis(250);
const RELEASE_TIME: Duration = Duration::from_secs(2);

/// Leases, wires, and tells what is there. On a failure all of it is undone.
///
/// From lease to answer the pod's namespace is locked. A second ADD of the same attachment at the
/// same time is given the same lease: it must neither take the first one's half-made veth for a
/// leftover, nor wire an address that the first one releases because it failed.
pub(crate) fn add(attachment: &Attachment, conf: &Conf) -> Result<Value, CniError> {
    let timeout = conf.add_timeout.unwrap_or(AWAY + ANSWERS);
    let deadline = Instant::now() + timeout;
    // Behind the lock there must be time for the rest; without `addTimeout` for the daemon's.
    let spare = conf
        .add_timeout
        .map_or(ANSWERS / 2, |timeout| WIRING_TIME.min(timeout / 4));
    // The namespace first: without it there is nothing to lease an address for.
    let mut kernel = Kernel::open(&attachment.netns)?;
    kernel.netns.lock(deadline - spare)?;
    let mut daemon = Daemon::at(&conf.socket);
    let told = allocate(&mut daemon, attachment, conf, deadline, spare)?;
    let (host_if, host_mac) = (told.host_if.clone(), told.host_mac.clone());
    let failed = match PodWiring::try_from(told) {
        Ok(wiring) => match kernel.wire(&wiring, deadline) {
            Ok(()) => return Ok(reply::added(conf, &wiring, kernel.netns.path())),
            Err(failed) => failed,
        },
        Err(error) => {
            let msg = format!("ipamd's wiring can't be carried out by this plugin: {error}");
            CniError::new(code::PROTOCOL, msg).into()
        }
    };
    // A lease that is in use stays: that of an earlier ADD, whose veth this one has left alone. So
    // does one that another process may count on; the runtime sends DEL after each failed ADD.
    if failed.taken_away || kernel.stands(&host_if, &host_mac) {
        return Err(failed.error);
    }
    Err(give_back(&mut daemon, attachment, failed.error))
}

/// How long an ADD waits for a daemon that is not there. One that has served comes back, and the
/// runtime has been told that the node is well: the ADD waits as it would for an address. One that has
/// never come says why with its STATUS, and the pod should hear soon.
fn patience(conf: &Conf) -> Duration {
    if served_in_this_boot(conf) {
        conf.add_timeout.unwrap_or(AWAY)
    } else {
        FIRST_START
    }
}

/// A lease, as the daemon tells it.
fn allocate(
    daemon: &mut Daemon<'_>,
    attachment: &Attachment,
    conf: &Conf,
    deadline: Instant,
    spare: Duration,
) -> Result<v1::PodWiring, CniError> {
    let timeout_ms = conf.add_timeout.map_or(0, |_| {
        let left = deadline.saturating_duration_since(Instant::now());
        let waits = left.saturating_sub(spare).as_millis();
        u32::try_from(waits).unwrap_or(u32::MAX).max(1)
    });
    let request = v1::AllocateRequest {
        wiring_version: WIRING_VERSION,
        key: Some(attachment.key.clone().into()),
        pod: Some(attachment.pod.clone().into()),
        netns: attachment.netns.clone(),
        timeout_ms,
        veth_prefix: conf.veth_prefix.clone(),
        mtu: conf.mtu,
    };
    withdraw(attachment, conf);
    // A lease that was given while we gave up stays: it may be that of an earlier ADD of the same
    // attachment, and the runtime sends DEL after each failed ADD.
    let asked = Instant::now();
    let reply = daemon
        .allocate(&request, || patience(conf), deadline)
        .map_err(|error| {
            let waited = asked.elapsed().as_secs_f32();
            no_reply(&error).with(format_args!("waited {waited:.1} s for it"))
        })?;
    match reply.result {
        None => Err(CniError::new(
            code::PROTOCOL,
            "ipamd's reply is of a kind unknown here",
        )),
        Some(Allocated::Refusal(refusal)) => Err(refusal.into()),
        Some(Allocated::Wiring(wiring)) => Ok(wiring),
    }
}

fn give_back(daemon: &mut Daemon<'_>, attachment: &Attachment, error: CniError) -> CniError {
    let request = v1::ReleaseRequest {
        key: Some(attachment.key.clone().into()),
        pod: Some(attachment.pod.clone().into()),
        addresses: Vec::new(),
        reason: "add_failed".into(),
    };
    match daemon.release(&request, Instant::now() + RELEASE_TIME) {
        Ok(v1::ReleaseReply { refusal: None, .. }) => error,
        Ok(v1::ReleaseReply {
            refusal: Some(refusal),
            ..
        }) => error.with(format_args!(
            "the address was not released: {}",
            refusal.message
        )),
        Err(why) => error.with(format_args!("the address was not released: {why}")),
    }
}
