//! What can go wrong when a VPC is built or run. Each error says what was being done.

use crate::kernel::netlink::NetlinkError;
use std::io;
use thiserror::Error;
use vpc_model::SpecError;

/// Why a VPC can't be built, or a step in it failed.
#[derive(Debug, Error)]
pub enum SimError {
    /// The description of the VPC contradicts itself.
    #[error("the VPC's description: {0}")]
    Spec(#[from] SpecError),
    /// The file that describes the VPC can't be read as one.
    #[error("{file}: {reason}")]
    File {
        /// As given.
        file: String,
        /// Line, column and what is wrong there.
        reason: String,
    },
    /// [`crate::isolate`] was called when other threads ran already.
    #[error("namespaces can be left only by a process with one thread; this one has {threads}")]
    ThreadsRunning {
        /// How many there are.
        threads: usize,
    },
    /// The kernel does not let this user make namespaces.
    #[error(
        "can't make namespaces ({source}): run as root, or let users make them \
         (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, \
         kernel.apparmor_restrict_unprivileged_userns)"
    )]
    NoNamespaces {
        /// What the kernel said.
        source: io::Error,
    },
    /// Names in the host's `/run/netns` were asked for without the right to make them.
    #[error("namespaces with names on the host need root ({source})")]
    NotRoot {
        /// What the kernel said.
        source: io::Error,
    },
    /// A namespace of that name is there and not ours.
    #[error("{path} is there already and was not made by vpc-sim (or its maker still runs)")]
    NameTaken {
        /// Path of the name.
        path: String,
    },
    /// A system call or file operation failed.
    #[error("{doing}: {source}")]
    Os {
        /// What was being done.
        doing: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused a change of links, addresses or routes.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The program `nft` is not there.
    #[error(
        "the program nft is not there ({tried}): install the package nftables, or name it in the \
         environment variable VPC_SIM_NFT"
    )]
    NftMissing {
        /// Where it was looked for.
        tried: String,
    },
    /// `nft` refused.
    #[error("nft: {stderr}")]
    NftFailed {
        /// What it said.
        stderr: String,
    },
    /// The thread of a namespace has ended.
    #[error("namespace {place} is closed")]
    PlaceClosed {
        /// Its name.
        place: String,
    },
    /// Work done in a namespace panicked.
    #[error("work in namespace {place} panicked: {message}")]
    Panicked {
        /// Name of the namespace.
        place: String,
        /// The panic's words.
        message: String,
    },
    /// No such node.
    #[error("there is no node {0}")]
    NoNode(String),
    /// The server thread did not start or has ended.
    #[error("the servers are not running")]
    ServersGone,
}

impl SimError {
    /// Wraps an I/O or errno error with what was being done.
    pub(crate) fn os<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |e| Self::Os {
            doing,
            source: e.into(),
        }
    }
}
