//! The pod's network namespace: opened once, entered for a moment by the calling thread.

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// Why a namespace can't be used.
#[derive(Debug, thiserror::Error)]
pub enum NetnsError {
    /// There is nothing at the path.
    #[error("there is no network namespace at {0}: the container is gone")]
    Gone(String),
    /// Something else than a network namespace is there.
    #[error("{0} is not a network namespace")]
    Other(String),
    /// It is the namespace that the plugin runs in.
    #[error("{0} is the plugin's own network namespace (a pod on the host's network needs no CNI)")]
    Own(String),
    /// The kernel refuses it.
    #[error("network namespace {path}: {source}")]
    Refused {
        /// As in `CNI_NETNS`.
        path: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another plugin process holds its lock.
    #[error("another ADD or DEL in the network namespace {0} is still under way")]
    Busy(String),
    /// The thread could not come back: it must do nothing more.
    #[error("could not come back from the pod's network namespace: {0}")]
    Lost(Errno),
}

/// A pod's network namespace, proven to be another than ours.
#[derive(Debug)]
pub(crate) struct Netns {
    path: String,
    pod: File,
    own: File,
}

/// `/proc/self` is the main thread's, and a thread may have a namespace of its own.
const OWN: &str = "/proc/thread-self/ns/net";

/// Between two tries for the lock: from here, doubled up to there.
const PAUSE: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(16);

impl Netns {
    /// Opens the namespace and makes sure that it is another than the caller's.
    pub(crate) fn open(path: &str) -> Result<Self, NetnsError> {
        let refused = |source| NetnsError::Refused {
            path: path.into(),
            source,
        };
        // A pipe that nobody writes to must not hold us up.
        let pod = File::options()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(Path::new(path));
        let pod = pod.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => NetnsError::Gone(path.into()),
            _ => refused(source),
        })?;
        let own = File::open(OWN).map_err(refused)?;
        let id = |file: &File| file.metadata().map(|m| (m.dev(), m.ino())).map_err(refused);
        if id(&pod)? == id(&own)? {
            return Err(NetnsError::Own(path.into()));
        }
        Ok(Self {
            path: path.into(),
            pod,
            own,
        })
    }

    /// Runs `f` with the calling thread inside, and comes back.
    pub(crate) fn enter<T>(&self, f: impl FnOnce() -> T) -> Result<T, NetnsError> {
        setns(&self.pod, CloneFlags::CLONE_NEWNET).map_err(|errno| match errno {
            Errno::EINVAL => NetnsError::Other(self.path.clone()),
            errno => NetnsError::Refused {
                path: self.path.clone(),
                source: errno.into(),
            },
        })?;
        let result = f();
        setns(&self.own, CloneFlags::CLONE_NEWNET).map_err(NetnsError::Lost)?;
        Ok(result)
    }

    /// Keeps other plugin processes that lock this namespace out, by whatever path they came to it,
    /// until this value is dropped or the process ends: flock(2) belongs to the opened file, and all
    /// files of one namespace share an inode. Tries at least once. Mostly nobody else is there; a
    /// blocking flock would need a signal to end in time, so it is tried again and again.
    pub(crate) fn lock(&self, deadline: Instant) -> Result<(), NetnsError> {
        let mut pause = PAUSE;
        loop {
            match self.pod.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(source)) => {
                    return Err(NetnsError::Refused {
                        path: self.path.clone(),
                        source,
                    });
                }
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(NetnsError::Busy(self.path.clone()));
            }
            thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// For `IFLA_NET_NS_FD`.
    pub(crate) fn fd(&self) -> RawFd {
        self.pod.as_raw_fd()
    }

    /// As in `CNI_NETNS`.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }
}

/// Which boot of the kernel this is; `None` if it can't be told.
pub(crate) fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned()).filter(|id| !id.is_empty())
}
