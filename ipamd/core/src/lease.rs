//! A lease: the addresses of one attachment.

use crate::{Mac, Timestamp};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// What names an attachment (CNI spec 1.1.0, section 2, "Parameters"): unique on a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentKey {
    /// `name` of the network configuration.
    pub network: String,
    /// `CNI_CONTAINERID`: the sandbox.
    pub container_id: String,
    /// `CNI_IFNAME`.
    pub if_name: String,
}

impl fmt::Display for AttachmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.network, self.container_id, self.if_name)
    }
}

/// The pod of an attachment, as the runtime told it in `CNI_ARGS`; empty where it told nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodRef {
    /// `K8S_POD_NAMESPACE`
    pub namespace: String,
    /// `K8S_POD_NAME`
    pub name: String,
    /// `K8S_POD_UID`
    pub uid: String,
}

/// The addresses of one attachment: at most one per family. Everything that an answer to a repeated
/// ADD, or a DEL after a restart, needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Whose.
    pub key: AttachmentKey,
    /// The pod, for people and for names.
    pub pod: PodRef,
    /// Each of them is inside a block of the pool, or was when the lease was made.
    pub addresses: Vec<IpAddr>,
    /// The veth's end in the host's network namespace.
    pub host_if: String,
    /// Its Ethernet address.
    pub host_mac: Mac,
    /// The Ethernet address of the pod's end.
    pub pod_mac: Mac,
    /// When it was made.
    pub since: Timestamp,
}

/// The end of a lease, as far as it must be remembered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Released {
    /// When.
    pub at: Timestamp,
    /// The host's end of its veth.
    pub host_if: String,
}
