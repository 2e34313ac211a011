//! A Unix socket for one task, and the loop that drives that task: no runtime, no thread. The task
//! waits for nothing but this socket, so `poll(2)` with the deadline is all the event loop it needs.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::cell::Cell;
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Whether the task waits until the socket takes bytes; it waits for bytes from it in any case.
#[derive(Clone, Debug, Default)]
pub(super) struct Interest(Rc<Cell<bool>>);

/// A connection that never blocks.
#[derive(Debug)]
pub(super) struct Stream {
    socket: Rc<UnixStream>,
    interest: Interest,
}

impl Stream {
    /// `socket` is non-blocking.
    pub(super) fn new(socket: Rc<UnixStream>) -> (Self, Interest) {
        let interest = Interest::default();
        (
            Self {
                socket,
                interest: interest.clone(),
            },
            interest,
        )
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match (&*self.socket).read(into.initialize_unfilled()) {
            Ok(count) => {
                into.advance(count);
                Poll::Ready(Ok(()))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(e) => Poll::Ready(Err(e)),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match (&*self.socket).write(bytes) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                self.interest.0.set(true);
                Poll::Pending
            }
            other => Poll::Ready(other),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.socket.shutdown(std::net::Shutdown::Write))
    }
}

/// Parts of the task wake each other within one turn.
struct Again(AtomicBool);

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Drives a task that waits for `socket` only; `None` at the deadline.
pub(super) fn block_on<T>(
    task: impl Future<Output = T>,
    socket: &UnixStream,
    interest: &Interest,
    deadline: Instant,
) -> io::Result<Option<T>> {
    let mut task = pin!(task);
    let again = Arc::new(Again(AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&again));
    let mut context = Context::from_waker(&waker);
    loop {
        again.0.store(false, Ordering::Relaxed);
        if let Poll::Ready(result) = task.as_mut().poll(&mut context) {
            return Ok(Some(result));
        }
        if !again.0.load(Ordering::Relaxed) && !wait(socket, interest, deadline)? {
            return Ok(None);
        }
    }
}

/// Waits for the socket; `false` at the deadline.
fn wait(socket: &UnixStream, interest: &Interest, deadline: Instant) -> io::Result<bool> {
    let mut events = PollFlags::POLLIN;
    if interest.0.take() {
        events |= PollFlags::POLLOUT;
    }
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // Whole milliseconds, rounded up: a wait of 0 would spin.
        let millis = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(socket.as_fd(), events)], timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}
