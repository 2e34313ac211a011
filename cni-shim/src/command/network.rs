//! Commands about the network as a whole: STATUS and GC.

use crate::error::{CniError, code};
use crate::request::Conf;
use crate::rpc::Daemon;
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(5);

/// Whether ADDs can be served. The kubelet shows the message as the node's reason to be not ready.
pub(crate) fn status(conf: &Conf) -> Result<(), CniError> {
    match Daemon::at(&conf.socket).status(Instant::now() + DEADLINE) {
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

/// Releases nothing yet: libcni sends a DEL for each stale attachment that it knows of before it
/// sends GC, and the daemon frees addresses whose veth is gone by itself.
pub(crate) const fn gc(_: &Conf) -> Result<(), CniError> {
    Ok(())
}
