//! Calls to the daemon: when to try again, when to give up. One deadline covers it all.

mod grpc;
mod stream;

use crate::trust::is_trusted;
use grpc::Connected;
use ipam_proto::v1;
use nix::errno::Errno;
use nix::sys::socket::sockopt::PeerCredentials;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, socket};
use std::cell::LazyCell;
use std::hash::{BuildHasher, RandomState};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A call that waited so long was waiting for the pool, at a daemon that was there.
const WAS_THERE: Duration = Duration::from_secs(1);

/// Why a call got no reply.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// Nobody listens at the socket.
    #[error(
        "ipamd does not listen at {path}: {source}; is its pod on this node running? The runtime will \
         try again"
    )]
    Absent {
        /// The socket's path.
        path: String,
        /// What `connect` said.
        source: Errno,
    },
    /// Somebody listens there whose word is not taken: the plugin would carry it out as root.
    #[error(
        "who listens at {path} is user {uid}, not root: nothing of it is believed. Who may write to that \
         directory?"
    )]
    Stranger {
        /// The socket's path.
        path: String,
        /// The user that the listening process ran as.
        uid: u32,
    },
    /// The connection ended before the reply.
    #[error("the connection to ipamd broke: {0}")]
    Broken(std::io::Error),
    /// No reply in time.
    #[error("ipamd did not answer in time")]
    Deadline,
    /// The daemon, or its gRPC library, refused the call (gRPC status codes).
    #[error("ipamd refused the call: {message} (gRPC status {code})")]
    Status {
        /// 1 to 16.
        code: u32,
        /// In words.
        message: String,
    },
    /// The reply is not one.
    #[error("ipamd's reply can't be read: {0}")]
    Reply(String),
}

/// gRPC status `UNAVAILABLE`.
const UNAVAILABLE: u32 = 14;

impl RpcError {
    /// Whether the daemon was away, or went away, or hangs: it may not have heard of the call.
    #[must_use]
    pub const fn daemon_away(&self) -> bool {
        match self {
            Self::Absent { .. } | Self::Broken(_) | Self::Deadline => true,
            Self::Status { code, .. } => *code == UNAVAILABLE,
            Self::Stranger { .. } | Self::Reply(_) => false,
        }
    }

    /// Whether nothing says that the daemon has heard the call: it was away, or something else answers.
    /// What the daemon refuses in gRPC's words it has heard.
    #[must_use]
    pub const fn unheard(&self) -> bool {
        self.daemon_away() || matches!(self, Self::Stranger { .. } | Self::Reply(_))
    }

    /// Whether the daemon may be there in a moment.
    const fn worth_a_retry(&self) -> bool {
        match self {
            Self::Absent { source, .. } => {
                matches!(source, Errno::ENOENT | Errno::ECONNREFUSED | Errno::EAGAIN)
            }
            Self::Deadline => false,
            other => other.daemon_away(),
        }
    }
}

/// The daemon, at the other end of its socket.
#[derive(Debug)]
pub(crate) struct Daemon<'a> {
    path: &'a str,
    connected: Option<Connected>,
}

impl<'a> Daemon<'a> {
    pub(crate) const fn at(path: &'a str) -> Self {
        Self {
            path,
            connected: None,
        }
    }

    /// One call. A connection that ends, or a daemon that is not there, is tried again for
    /// `patience`, which is asked for only then: a restart takes less than that. (Every call may be
    /// repeated: the same key gets the same lease, and releasing twice is releasing.)
    fn call<Q: prost::Message, P: prost::Message + Default>(
        &mut self,
        method: &str,
        request: &Q,
        patience: impl FnOnce() -> Duration,
        deadline: Instant,
    ) -> Result<P, RpcError> {
        let (mut since, mut tries) = (Instant::now(), 0);
        let patience = LazyCell::new(patience);
        loop {
            let asked = Instant::now();
            let error = match self.try_call(method, request, deadline) {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            let now = Instant::now();
            if now.duration_since(asked) > WAS_THERE {
                // It was there until now: its restart begins only here.
                since = now;
            }
            let pause = pause(tries);
            tries += 1;
            if !error.worth_a_retry() || now + pause >= (since + *patience).min(deadline) {
                return Err(error);
            }
            std::thread::sleep(pause);
        }
    }

    fn try_call<Q: prost::Message, P: prost::Message + Default>(
        &mut self,
        method: &str,
        request: &Q,
        deadline: Instant,
    ) -> Result<P, RpcError> {
        let mut connected = match self.connected.take() {
            Some(connected) => connected,
            None => Connected::new(self.connect()?, deadline)?,
        };
        let result = connected.call(method, request, deadline);
        if matches!(result, Ok(_) | Err(RpcError::Status { .. })) {
            self.connected = Some(connected);
        }
        result
    }

    /// Without blocking: a daemon whose queue is full (`EAGAIN`) is one that is not there yet.
    fn connect(&self) -> Result<UnixStream, RpcError> {
        let connected = || {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
            connect(fd.as_raw_fd(), &UnixAddr::new(self.path)?)?;
            Ok(UnixStream::from(fd))
        };
        let absent = |source| RpcError::Absent {
            path: self.path.into(),
            source,
        };
        let stream = connected().map_err(absent)?;
        // Who called `listen` (unix(7), SO_PEERCRED), in the plugin's own user namespace.
        let peer = getsockopt(&stream, PeerCredentials).map_err(absent)?;
        if is_trusted(peer.uid()) {
            Ok(stream)
        } else {
            Err(RpcError::Stranger {
                path: self.path.into(),
                uid: peer.uid(),
            })
        }
    }

    pub(crate) fn allocate(
        &mut self,
        request: &v1::AllocateRequest,
        patience: impl FnOnce() -> Duration,
        deadline: Instant,
    ) -> Result<v1::AllocateReply, RpcError> {
        self.call("Allocate", request, patience, deadline)
    }

    pub(crate) fn release(
        &mut self,
        request: &v1::ReleaseRequest,
        deadline: Instant,
    ) -> Result<v1::ReleaseReply, RpcError> {
        self.call("Release", request, || Duration::from_millis(500), deadline)
    }

    /// One try.
    pub(crate) fn release_now(
        &mut self,
        request: &v1::ReleaseRequest,
        deadline: Instant,
    ) -> Result<v1::ReleaseReply, RpcError> {
        self.call("Release", request, || Duration::ZERO, deadline)
    }

    pub(crate) fn check(
        &mut self,
        request: &v1::CheckRequest,
        deadline: Instant,
    ) -> Result<v1::CheckReply, RpcError> {
        self.call("Check", request, || Duration::from_secs(2), deadline)
    }

    pub(crate) fn collect(
        &mut self,
        request: &v1::CollectRequest,
        deadline: Instant,
    ) -> Result<v1::CollectReply, RpcError> {
        self.call("Collect", request, || Duration::from_secs(2), deadline)
    }

    pub(crate) fn status(&mut self, deadline: Instant) -> Result<v1::StatusReply, RpcError> {
        self.call(
            "Status",
            &v1::StatusRequest {},
            || Duration::from_millis(500),
            deadline,
        )
    }
}

/// 20 to 60 ms, after some seconds 100 to 140: a restart is over sooner. Plugins that wait for the same
/// daemon don't come back all at once.
fn pause(tries: u64) -> Duration {
    let random = RandomState::new().hash_one(std::process::id());
    Duration::from_millis(20 + tries.min(80) + random % 40)
}
