//! `/proc/sys/net` of the calling thread's network namespace.

use crate::error::SimError;

/// Writes `net.<name>`; the name uses slashes: `ipv4/ip_forward`.
pub(crate) fn set(name: &str, value: &str) -> Result<(), SimError> {
    let path = format!("/proc/sys/net/{name}");
    std::fs::write(&path, value).map_err(SimError::os(format!("writing {value} to {path}")))
}

/// Like [`set`], for switches that some kernels lack.
pub(crate) fn try_set(name: &str, value: &str) {
    if let Err(e) = set(name, value) {
        tracing::debug!("{e}");
    }
}
