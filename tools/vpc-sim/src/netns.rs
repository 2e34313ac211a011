//! Handles on network namespaces: sockets and processes of other places, for programs that live
//! in none of them.

use crate::error::SimError;
use crate::kernel::mounts;
use crate::kernel::netlink::{Change, Netlink};
use crate::kernel::place::Place;
use crate::kernel::procs::die_with_parent;
use nix::sched::{CloneFlags, unshare};
use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use tokio::net::TcpSocket;

/// A network namespace with the mounts of the node that it belongs to. Clones are handles on the
/// same one; the namespace lives while a handle, a process or a name does.
#[derive(Clone, Debug)]
pub struct NetNs {
    place: Arc<Place>,
    fd: Arc<OwnedFd>,
}

impl NetNs {
    pub(crate) fn of(place: &Arc<Place>) -> Self {
        Self {
            place: Arc::clone(place),
            fd: Arc::clone(place.net()),
        }
    }

    /// Runs short work in the namespace and waits for it. A node's namespaces share one thread:
    /// work that waits holds up the others.
    ///
    /// # Errors
    /// The place is closed, or the work panicked.
    pub fn run<T, F>(&self, work: F) -> Result<T, SimError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        if Arc::ptr_eq(&self.fd, self.place.net()) {
            self.place.run(work)
        } else {
            self.place.run_in(Arc::clone(&self.fd), work)
        }
    }

    /// Starts a process in the namespace, with the node's mounts. It is killed when the node is
    /// closed, also if this process dies first.
    ///
    /// # Errors
    /// The place is closed, or the program can't be started.
    pub fn spawn(&self, mut command: Command) -> Result<Child, SimError> {
        die_with_parent(&mut command);
        let doing = format!("starting {}", command.get_program().to_string_lossy());
        self.run(move || command.spawn())?
            .map_err(SimError::os(doing))
    }

    /// Runs a process to its end, without holding up the node's other work.
    ///
    /// # Errors
    /// As [`NetNs::spawn`].
    pub fn output(&self, mut command: Command) -> Result<Output, SimError> {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.spawn(command)?;
        child
            .wait_with_output()
            .map_err(SimError::os("waiting for a process"))
    }

    /// A UDP socket in the namespace, not blocking: ready for tokio's `from_std`.
    ///
    /// # Errors
    /// The place is closed, or the address can't be bound.
    pub fn udp(&self, address: SocketAddr) -> Result<UdpSocket, SimError> {
        self.socket(format!("binding UDP {address}"), move || {
            let socket = UdpSocket::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
    }

    /// A listening TCP socket in the namespace, not blocking.
    ///
    /// # Errors
    /// The place is closed, or the address can't be bound.
    pub fn tcp_listener(&self, address: SocketAddr) -> Result<TcpListener, SimError> {
        self.socket(format!("listening on TCP {address}"), move || {
            let socket = TcpListener::bind(address)?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        })
    }

    /// A TCP socket of the namespace, to bind and connect from any tokio runtime.
    ///
    /// # Errors
    /// The place is closed, or the kernel has no socket to give.
    pub fn tcp_socket(&self, ipv6: bool) -> Result<TcpSocket, SimError> {
        self.socket("making a TCP socket".into(), move || {
            if ipv6 {
                TcpSocket::new_v6()
            } else {
                TcpSocket::new_v4()
            }
        })
    }

    /// The namespace's inode number: the same for two handles on one namespace, and only then.
    ///
    /// # Errors
    /// The descriptor can't be read.
    pub fn inode(&self) -> Result<u64, SimError> {
        let path = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        Ok(std::fs::metadata(path)
            .map_err(SimError::os("reading a namespace"))?
            .ino())
    }

    fn socket<T, F>(&self, doing: String, make: F) -> Result<T, SimError>
    where
        T: Send + 'static,
        F: FnOnce() -> io::Result<T> + Send + 'static,
    {
        self.run(make)?.map_err(SimError::os(doing))
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A pod's network namespace on a node, named as a container runtime names it. Only `lo` is in it at
/// first.
#[derive(Debug)]
pub struct PodNs {
    net: NetNs,
    path: PathBuf,
    /// The name is ours to take away.
    named_here: bool,
}

impl PodNs {
    /// Makes a namespace in `place` and names it `/run/netns/<name>` in its mounts.
    pub(crate) fn make(place: &Arc<Place>, name: &str) -> Result<Self, SimError> {
        let path = Path::new(mounts::NETNS_DIR).join(name);
        let named = path.clone();
        // A thread of its own, started from the place's: it shares the place's mounts.
        let made = place.run(move || {
            let made = std::thread::spawn(move || new_namespace(&named)).join();
            made.unwrap_or(Err(SimError::PlaceClosed {
                place: "pod".into(),
            }))
        })??;
        let net = NetNs {
            place: Arc::clone(place),
            fd: Arc::new(made),
        };
        Ok(Self {
            net,
            path,
            named_here: true,
        })
    }

    /// A namespace that a container runtime on `place` has made; its name stays the runtime's.
    pub(crate) fn of_runtime(place: &Arc<Place>, path: &Path) -> Result<Self, SimError> {
        let doing = format!("opening {}", path.display());
        let named = path.to_owned();
        let opened = place.run(move || File::open(named))?;
        let fd = opened.map_err(SimError::os(doing))?;
        let net = NetNs {
            place: Arc::clone(place),
            fd: Arc::new(fd.into()),
        };
        Ok(Self {
            net,
            path: path.to_owned(),
            named_here: false,
        })
    }

    /// Its name as a path in the node's mounts: what `CNI_NETNS` is to be.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The handle for work, sockets and processes in it.
    pub fn net(&self) -> &NetNs {
        &self.net
    }

    /// Takes its name away, if a runtime does not own it. The namespace itself goes with its last socket, process and handle.
    ///
    /// # Errors
    /// The place is closed, or the name can't be removed.
    pub fn delete(self) -> Result<(), SimError> {
        if !self.named_here {
            return Ok(());
        }
        let path = self.path;
        self.net
            .place
            .run(move || mounts::unname_namespace(&path))?
    }
}

fn new_namespace(path: &Path) -> Result<OwnedFd, SimError> {
    unshare(CloneFlags::CLONE_NEWNET).map_err(SimError::os("making a namespace"))?;
    lo_up()?;
    mounts::name_namespace(path)?;
    let fd = File::open("/proc/thread-self/ns/net");
    Ok(fd
        .map_err(SimError::os("opening /proc/thread-self/ns/net"))?
        .into())
}

/// Sets the loopback link of the calling thread's namespace up.
pub(crate) fn lo_up() -> Result<(), SimError> {
    let mut netlink = Netlink::open()?;
    let lo = netlink.index("lo")?;
    Ok(netlink.make(Change::set_up(lo))?)
}
