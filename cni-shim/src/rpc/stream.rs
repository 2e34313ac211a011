//! A Unix socket for one task, and the loop that drives that task: no runtime, no thread. The task
//! waits for nothing but this socket, so `poll(2)` with the deadline is all the event loop it needs.

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::cell::RefCell;
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

/// A connection that never blocks. What is written is held until the task waits, so that greeting,
/// settings and request leave in one `send` and wake the daemon once.
#[derive(Clone, Debug)]
pub(super) struct Stream(Rc<RefCell<Flow>>);

#[derive(Debug)]
struct Flow {
    socket: UnixStream,
    /// Not sent yet. HTTP/2's flow control bounds it: 64 KiB and some frames.
    out: Vec<u8>,
    /// The last read got less than it asked for: the next one would only say "would block".
    drained: bool,
}

impl Stream {
    /// `socket` is non-blocking.
    pub(super) fn new(socket: UnixStream) -> Self {
        Self(Rc::new(RefCell::new(Flow {
            socket,
            out: Vec::new(),
            drained: false,
        })))
    }
}

impl Flow {
    /// Sends what is held, as far as the socket takes it.
    fn send(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.socket.write(&self.out) {
                Ok(count) => drop(self.out.drain(..count)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut flow = self.0.borrow_mut();
        if flow.drained {
            return Poll::Pending;
        }
        let space = into.initialize_unfilled();
        match flow.socket.read(space) {
            Ok(count) => {
                flow.drained = count > 0 && count < space.len();
                into.advance(count);
                Poll::Ready(Ok(()))
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                flow.drained = true;
                Poll::Pending
            }
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
        self.0.borrow_mut().out.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut flow = self.0.borrow_mut();
        Poll::Ready(
            flow.send()
                .and_then(|()| flow.socket.shutdown(std::net::Shutdown::Write)),
        )
    }
}

/// Parts of the task wake each other within one turn.
struct Again(AtomicBool);

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Drives a task that waits for `stream` only; `None` at the deadline.
pub(super) fn block_on<T>(
    task: impl Future<Output = T>,
    stream: &Stream,
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
        if !again.0.load(Ordering::Relaxed) && !wait(&mut stream.0.borrow_mut(), deadline)? {
            return Ok(None);
        }
    }
}

/// Sends what is held and waits for the socket; `false` at the deadline.
fn wait(flow: &mut Flow, deadline: Instant) -> io::Result<bool> {
    flow.drained = false;
    loop {
        flow.send()?;
        let mut events = PollFlags::POLLIN;
        if !flow.out.is_empty() {
            events |= PollFlags::POLLOUT;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(false);
        }
        // Whole milliseconds, rounded up: a wait of 0 would spin.
        let millis = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        let mut polled = [PollFd::new(flow.socket.as_fd(), events)];
        match poll(&mut polled, timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            // Room to send is no news for the task.
            Ok(_) if polled[0].revents() == Some(PollFlags::POLLOUT) => {}
            Ok(_) => return Ok(true),
            Err(errno) => return Err(errno.into()),
        }
    }
}
