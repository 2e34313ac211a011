//! Makes the kernel forget connections of given addresses (conntrack entries), by netlink.
//!
//! One look through the table for any number of addresses: the kernel deletes by filter only since
//! Linux 6.11, and never by "either end, either direction, translated or not". So the table is
//! dumped, and what names one of the addresses is deleted by its own tuple and id while the dump goes
//! on: memory stays bounded, and nothing else is touched. Other tasks run between any two pieces.

mod wire;

use ipam_engine::ports::{Connections, HostNetError};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{AsyncSocket, AsyncSocketExt, SocketAddr, TokioSocket};
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::task::yield_now;
use tokio::time::timeout;
use wire::{Answer, Entry};

/// For one answer of the kernel, which comes at once.
const DEADLINE: Duration = Duration::from_secs(10);
/// The largest piece of a dump that the kernel makes, bytes.
const PIECE: usize = 32 << 10;
/// Deletions that are sent together: their answers fit into a socket's default buffer.
const BATCH: usize = 64;

const EPERM: i32 = 1;
const ENOENT: i32 = 2;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const EPROTONOSUPPORT: i32 = 93;
const EOPNOTSUPP: i32 = 95;
const EAFNOSUPPORT: i32 = 97;

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Kernel(io::Error),
    #[error("the kernel does not answer")]
    Silent,
    #[error("the kernel's answer can't be read")]
    Unreadable,
}

/// Forgets every connection that names one of `addresses` as source or destination, as it was sent or
/// as it is answered.
pub(super) async fn forget(addresses: &BTreeSet<IpAddr>) -> Connections {
    let families = [
        (wire::AF_INET, addresses.iter().any(IpAddr::is_ipv4)),
        (wire::AF_INET6, addresses.iter().any(IpAddr::is_ipv6)),
    ];
    let mut removed = 0;
    for (family, _) in families.into_iter().filter(|(_, wanted)| *wanted) {
        match forget_family(family, addresses).await {
            Ok(count) => removed += count,
            Err(failure) => return unable(&failure),
        }
    }
    Connections::Removed(removed)
}

/// No such protocol or module, or no right to use it: for good, as far as trying again goes.
fn unable(failure: &Failure) -> Connections {
    if let Failure::Kernel(error) = failure {
        let why = match error.raw_os_error() {
            Some(EPERM | EACCES) => Some("CAP_NET_ADMIN is missing"),
            // nfnetlink knows no such subsystem.
            Some(EINVAL | EPROTONOSUPPORT | EOPNOTSUPP | EAFNOSUPPORT) => {
                Some("the kernel has no nf_conntrack_netlink")
            }
            _ => None,
        };
        if let Some(why) = why {
            return Connections::Unable(format!("{why} ({error})"));
        }
    }
    Connections::Failed(HostNetError {
        what: "removing connections (conntrack)".into(),
        cause: failure.to_string(),
    })
}

async fn forget_family(family: u8, addresses: &BTreeSet<IpAddr>) -> Result<u64, Failure> {
    let dump = Socket::open()?;
    let delete = Socket::open()?;
    dump.send(&wire::dump(family)).await?;
    let mut buffer = Vec::with_capacity(PIECE);
    let mut removed = 0;
    loop {
        dump.receive(&mut buffer).await?;
        let mut found = Vec::new();
        let mut end = false;
        for answer in wire::answers(&buffer) {
            match answer.ok_or(Failure::Unreadable)? {
                Answer::Entry(entry) if entry.names(addresses) => found.push(entry),
                Answer::Entry(_) => {}
                Answer::End => end = true,
                Answer::Code(0) => {}
                Answer::Code(code) => return Err(kernel(code)),
            }
        }
        for batch in found.chunks(BATCH) {
            removed += delete.delete(batch).await?;
        }
        if end {
            return Ok(removed);
        }
        yield_now().await;
    }
}

fn kernel(code: i32) -> Failure {
    Failure::Kernel(io::Error::from_raw_os_error(code.saturating_abs()))
}

/// One socket, one request at a time.
struct Socket(TokioSocket);

impl Socket {
    fn open() -> Result<Self, Failure> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER).map_err(Failure::Kernel)?;
        let inner = socket.socket_mut();
        inner.bind_auto().map_err(Failure::Kernel)?;
        inner
            .connect(&SocketAddr::new(0, 0))
            .map_err(Failure::Kernel)?;
        Ok(Self(socket))
    }

    async fn send(&self, bytes: &[u8]) -> Result<(), Failure> {
        timeout(DEADLINE, self.0.send(bytes))
            .await
            .map_err(|_| Failure::Silent)?
            .map_err(Failure::Kernel)?;
        Ok(())
    }

    async fn receive(&self, buffer: &mut Vec<u8>) -> Result<(), Failure> {
        buffer.clear();
        timeout(DEADLINE, self.0.recv(buffer))
            .await
            .map_err(|_| Failure::Silent)?
            .map_err(Failure::Kernel)
    }

    /// Deletes entries; how many there still were.
    async fn delete(&self, entries: &[Entry<'_>]) -> Result<u64, Failure> {
        let mut request = Vec::new();
        for entry in entries {
            wire::delete(entry, &mut request);
        }
        self.send(&request).await?;
        let mut buffer = Vec::with_capacity(PIECE);
        let (mut answered, mut removed) = (0, 0);
        while answered < entries.len() {
            self.receive(&mut buffer).await?;
            for answer in wire::answers(&buffer) {
                answered += 1;
                match answer.ok_or(Failure::Unreadable)? {
                    Answer::Code(0) => removed += 1,
                    // It ended by itself meanwhile.
                    Answer::Code(code) if code.saturating_abs() == ENOENT => {}
                    Answer::Code(code) => return Err(kernel(code)),
                    Answer::Entry(_) | Answer::End => return Err(Failure::Unreadable),
                }
            }
        }
        Ok(removed)
    }
}
