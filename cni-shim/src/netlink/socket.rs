//! One rtnetlink socket: it belongs to the network namespace in which it was opened.

use super::batch::{Batch, HEADER};
use super::uapi::{NLMSG_DONE, NLMSG_ERROR};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket,
};
use std::os::fd::{AsRawFd, OwnedFd};

/// A record that answers a request: its `RTM_*` kind and what follows the netlink header.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) kind: u16,
    pub(crate) body: Vec<u8>,
}

/// What became of one request of a batch.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// What the kernel sent for it.
    pub(crate) records: Vec<Record>,
    /// Why it failed, if it did.
    pub(crate) error: Option<Errno>,
}

/// Larger than any single message; the kernel cuts dumps to what the reader takes.
const BUFFER: usize = 16 * 1024;

/// A socket of rtnetlink in the namespace of the calling thread.
pub(super) fn route_socket() -> Result<OwnedFd, Errno> {
    socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )
}

#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket in the namespace of the calling thread. The kernel binds it at the first send.
    pub(crate) fn open() -> Result<Self, Errno> {
        Ok(Self {
            fd: route_socket()?,
            buffer: Vec::new(),
        })
    }

    /// Sends all requests at once and reads until the last is done: one [`Answer`] for each. The
    /// kernel works inside `send`, so the answers are there already and reading can't block.
    /// A request that fails does not keep later ones of the batch from being carried out.
    pub(crate) fn exchange(&mut self, batch: Batch) -> Result<Vec<Answer>, Errno> {
        let count = batch.len();
        let mut answers: Vec<Answer> = (0..count).map(|_| Answer::default()).collect();
        if count == 0 {
            return Ok(answers);
        }
        let bytes = batch.finish();
        retry(|| send(self.fd.as_raw_fd(), &bytes, MsgFlags::empty()))?;
        self.buffer.resize(BUFFER, 0);
        loop {
            let fd = self.fd.as_raw_fd();
            let received = retry(|| recv(fd, &mut self.buffer, MsgFlags::empty()))?;
            if take_answers(&self.buffer[..received], &mut answers)? {
                return Ok(answers);
            }
        }
    }
}

fn retry<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// Sorts one datagram's messages to their requests; `true` when the last request is answered.
fn take_answers(mut bytes: &[u8], answers: &mut [Answer]) -> Result<bool, Errno> {
    let mut done = false;
    while let Some((length, kind, sequence)) = header(bytes) {
        let body = bytes.get(HEADER..length).ok_or(Errno::EBADMSG)?;
        let at = (sequence as usize)
            .checked_sub(1)
            .filter(|&n| n < answers.len());
        if let Some(at) = at {
            match kind {
                NLMSG_ERROR | NLMSG_DONE => {
                    answers[at].error = error_code(body).filter(|&e| e != 0).map(Errno::from_raw);
                    done |= at + 1 == answers.len();
                }
                _ => answers[at].records.push(Record {
                    kind,
                    body: body.to_vec(),
                }),
            }
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(done)
}

/// `nlmsg_len`, `nlmsg_type`, `nlmsg_seq`.
fn header(bytes: &[u8]) -> Option<(usize, u16, u32)> {
    let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let length = usize::try_from(word(0)?).ok().filter(|&n| n >= HEADER)?;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    Some((length, kind, word(8)?))
}

fn error_code(body: &[u8]) -> Option<i32> {
    let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    Some(code.wrapping_neg())
}
