//! Commands about the network as a whole: STATUS and GC.

use super::{del, no_reply};
use crate::error::{CniError, code};
use crate::netns::boot_id;
use crate::request::Conf;
use crate::rpc::{Daemon, RpcError};
use ipam_proto::served::{Marker, path};
use ipam_proto::v1;
use nix::fcntl::OFlag;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

const STATUS_TIME: Duration = Duration::from_secs(5);
const GC_TIME: Duration = Duration::from_secs(30);

/// The marker is some hundred bytes.
const MARKER_MAX: u64 = 4096;

/// gRPC status `UNIMPLEMENTED`: the daemon is older than the call.
const UNIMPLEMENTED: u32 = 12;

/// Whether ADDs can be served. "No" makes the kubelet take the whole node for unready within seconds, and
/// every pod on it: it is only for a node that has not had an address since it was booted. After that a
/// daemon that is away is one that comes back, and ADDs wait for it. The kubelet shows the message.
pub(crate) fn status(conf: &Conf) -> Result<(), CniError> {
    if served_in_this_boot(conf) {
        return Ok(());
    }
    match Daemon::at(&conf.socket).status(Instant::now() + STATUS_TIME) {
        Ok(reply) if reply.ready => Ok(()),
        Ok(reply) => {
            let code = if reply.cni_code == 0 {
                code::NOT_AVAILABLE
            } else {
                reply.cni_code
            };
            let words = Some(reply.message).filter(|text| !text.is_empty());
            Err(CniError::new(
                code,
                words.unwrap_or_else(|| "ipamd is not ready".into()),
            ))
        }
        Err(error) => Err(CniError::new(code::NOT_AVAILABLE, error.to_string())),
    }
}

/// Whether the daemon has left word that it could serve pods, in this boot.
pub(super) fn served_in_this_boot(conf: &Conf) -> bool {
    let marker = read_marker(Path::new(&path(&conf.socket))).ok();
    let marker = marker.and_then(|text| Marker::parse(&text));
    marker.is_some_and(|marker| Some(marker.kernel_boot_id) == boot_id())
}

/// A FIFO in its place would hold the plugin up for ever, so it is opened as a file alone is.
fn read_marker(path: &Path) -> io::Result<String> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    let mut text = String::new();
    if file.metadata()?.is_file() {
        (&mut file).take(MARKER_MAX).read_to_string(&mut text)?;
    }
    Ok(text)
}

/// Ends the leases of this network that the runtime no longer names, and removes what they left in the
/// host's namespace. `began`: when this process did; a lease that is younger is an ADD's that the list
/// can't know. Without a list nothing is stale.
pub(crate) fn gc(conf: &Conf, began: Instant) -> Result<(), CniError> {
    let Some(valid) = &conf.valid else {
        return Ok(());
    };
    let valid = valid.iter().map(|attachment| v1::Valid {
        container_id: attachment.container_id.clone(),
        if_name: attachment.if_name.clone(),
    });
    let request = v1::CollectRequest {
        network: conf.name.clone(),
        valid: valid.collect(),
        age_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    let reply = Daemon::at(&conf.socket).collect(&request, Instant::now() + GC_TIME);
    let reply = match reply {
        Err(RpcError::Status { code, .. }) if code == UNIMPLEMENTED => return Ok(()),
        other => other.map_err(|error| no_reply(&error))?,
    };
    if let Some(refusal) = reply.refusal {
        return Err(refusal.into());
    }
    del::clear_collected(&reply.collected)
}
