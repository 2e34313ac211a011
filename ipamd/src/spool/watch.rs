//! Tells when a note is put into the spool (inotify(7)).

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::fs::DirBuilder;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use tokio::net::unix::pipe;

/// A note gets its name when it is whole. The others end the watch.
const EVENTS: AddWatchFlags = AddWatchFlags::IN_MOVED_TO
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);
/// The directory is gone, or elsewhere.
const OVER: AddWatchFlags = AddWatchFlags::IN_IGNORED
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_UNMOUNT);

/// `struct inotify_event` without the name: watch, mask, cookie, length of the name.
const HEADER: usize = 16;

/// The spool's directory, watched.
pub(super) struct Watch(pipe::Receiver);

impl Watch {
    /// Makes the directory if it is not there, for root alone as the plugin would. Must be called within the
    /// runtime.
    ///
    /// # Errors
    /// No such directory can be made, or the kernel has no more watches.
    pub(super) fn begin(dir: &Path) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        inotify.add_watch(dir, EVENTS)?;
        // To be waited for and read from, as a pipe is.
        pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(inotify)).map(Self)
    }

    /// Waits for news. `false`: the directory itself is gone, or elsewhere.
    ///
    /// # Errors
    /// The watch is of no use any more.
    pub(super) async fn news(&self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            self.0.readable().await?;
            match self.0.try_read(&mut buffer) {
                Ok(length) => return Ok(!is_over(&buffer[..length])),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
    }
}

fn is_over(mut events: &[u8]) -> bool {
    while let Some((header, rest)) = events.split_at_checked(HEADER) {
        let number = |at: usize| {
            let bytes = header[at..at + 4].try_into();
            bytes.map_or(0, u32::from_ne_bytes)
        };
        if AddWatchFlags::from_bits_truncate(number(4)).intersects(OVER) {
            return true;
        }
        let name = usize::try_from(number(12)).unwrap_or(usize::MAX);
        events = rest.get(name..).unwrap_or_default();
    }
    false
}
