//! Takes connections at the socket: so many at once, with pauses while none can be taken, and at a socket that is
//! put back when somebody removes it.

use super::socket::{Bound, SocketFile};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use tokio_stream::Stream;
use tonic::transport::server::{Connected, UdsConnectInfo};

/// Connections at once: an ADD that waits has one, and a node has some hundred pods.
const CONNECTIONS: usize = 4096;
/// Between two tries to take a connection: from here, doubled up to there.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The same trouble is told again after so long.
const TOLD_AGAIN: Duration = Duration::from_secs(60);
/// How often the socket's file is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Door {
    listener: UnixListener,
    file: SocketFile,
    free: Arc<Semaphore>,
    pause: Duration,
    told: Option<Instant>,
    look: Interval,
}

impl Door {
    /// Must be called within the runtime.
    pub(super) fn new(bound: Bound) -> Self {
        let (listener, file) = bound.into_parts();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            listener,
            file,
            free: Arc::new(Semaphore::new(CONNECTIONS)),
            pause: PAUSE,
            told: None,
            look,
        }
    }

    /// All that come.
    pub(super) fn guests(self) -> impl Stream<Item = io::Result<Guest>> {
        futures_util::stream::unfold(self, |mut door| async {
            let guest = door.next().await;
            Some((guest, door))
        })
    }

    async fn next(&mut self) -> io::Result<Guest> {
        if self.free.available_permits() == 0 {
            self.tell(&format!(
                "{CONNECTIONS} connections are open; further ones wait"
            ));
        }
        let permit = self.free.clone().acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?;
        loop {
            tokio::select! {
                taken = self.listener.accept() => match taken {
                    Ok((stream, _)) => {
                        self.pause = PAUSE;
                        return Ok(Guest { stream, _permit: permit });
                    }
                    Err(error) => {
                        self.tell(&error.to_string());
                        sleep(self.pause).await;
                        self.pause = (self.pause * 2).min(PAUSE_MAX);
                    }
                },
                _ = self.look.tick() => self.put_back(),
            }
        }
    }

    fn tell(&mut self, error: &str) {
        if self.told.is_none_or(|at| at.elapsed() >= TOLD_AGAIN) {
            self.told = Some(Instant::now());
            tracing::warn!(
                cause = "socket",
                error,
                "no connection can be taken at the socket; it is tried again and again"
            );
        }
    }

    /// Whoever removed the file left pods without a daemon. A successor's is left alone.
    fn put_back(&mut self) {
        if self.file.is_there() {
            return;
        }
        match Bound::bind(self.file.path()) {
            Ok(bound) => {
                (self.listener, self.file) = bound.into_parts();
                let socket = self.file.path().display();
                tracing::warn!(cause = "socket", %socket, "the socket was removed and is put back");
            }
            Err(error) => self.tell(&crate::report::with_causes(&error)),
        }
    }
}

/// A connection, counted as long as it is open.
#[derive(Debug)]
pub(super) struct Guest {
    stream: UnixStream,
    _permit: OwnedSemaphorePermit,
}

impl Connected for Guest {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Guest {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Guest {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
