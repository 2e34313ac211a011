//! What goes wrong, with the CNI code that tells the runtime what to do about it.

use crate::netns::NetnsError;
use ipam_proto::v1::Refusal;
use std::fmt::Write as _;

/// Error codes of the CNI spec 1.1.0, section 5, "Error", and ours from 100.
pub mod code {
    /// The configuration's `cniVersion` is not one of ours.
    pub const INCOMPATIBLE_VERSION: u32 = 1;
    /// A field of the configuration asks for what we don't do.
    pub const UNSUPPORTED_FIELD: u32 = 2;
    /// The container is not there; the runtime need not clean up.
    pub const UNKNOWN_CONTAINER: u32 = 3;
    /// An environment variable is missing or unusable.
    pub const INVALID_ENVIRONMENT: u32 = 4;
    /// Input or output failed.
    pub const IO_FAILURE: u32 = 5;
    /// Stdin is not JSON.
    pub const DECODING_FAILURE: u32 = 6;
    /// The configuration is JSON, and wrong.
    pub const INVALID_CONFIG: u32 = 7;
    /// A later try may succeed.
    pub const TRY_AGAIN_LATER: u32 = 11;
    /// STATUS: ADDs can't be served.
    pub const NOT_AVAILABLE: u32 = 50;
    /// The pod's interface name is taken by an interface that is not ours.
    pub const NAME_TAKEN: u32 = 100;
    /// The kernel refused a step of the wiring; everything done was undone.
    pub const WIRING_FAILED: u32 = 101;
    /// CHECK: the kernel is not as the wiring says.
    pub const CHECK_FAILED: u32 = 102;
    /// The daemon and the plugin don't understand each other.
    pub const PROTOCOL: u32 = 103;
}

/// A failed command, as the runtime is told it: what happened, why, and what comes next.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{msg}{}{details}", if .details.is_empty() { "" } else { ": " })]
pub struct CniError {
    /// One of [`code`], or what the daemon said.
    pub code: u32,
    /// A sentence.
    pub msg: String,
    /// More, if there is more to say.
    pub details: String,
}

impl CniError {
    pub(crate) fn new(code: u32, msg: impl Into<String>) -> Self {
        Self {
            code,
            msg: msg.into(),
            details: String::new(),
        }
    }

    pub(crate) fn with(mut self, details: impl std::fmt::Display) -> Self {
        let glue = if self.details.is_empty() { "" } else { "; " };
        // Writing to a String can't fail.
        let _ = write!(self.details, "{glue}{details}");
        self
    }
}

impl From<Refusal> for CniError {
    fn from(refusal: Refusal) -> Self {
        // A refusal without a code would look like success to some runtimes.
        let code = if refusal.cni_code == 0 {
            code::PROTOCOL
        } else {
            refusal.cni_code
        };
        Self {
            code,
            msg: refusal.message,
            details: refusal.details,
        }
    }
}

impl From<NetnsError> for CniError {
    fn from(error: NetnsError) -> Self {
        let code = match &error {
            NetnsError::Gone(_) => code::UNKNOWN_CONTAINER,
            NetnsError::Other(_) | NetnsError::Own(_) => code::INVALID_ENVIRONMENT,
            NetnsError::Busy(_) => code::TRY_AGAIN_LATER,
            NetnsError::Refused { .. } | NetnsError::Lost(_) => code::IO_FAILURE,
        };
        Self::new(code, error.to_string())
    }
}
