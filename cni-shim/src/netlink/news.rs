//! Changes of links and routes, told by the kernel: for a step that must wait until something has gone.

use super::socket::route_socket;
use super::uapi::{RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE, RTMGRP_LINK};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, recv};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// On a busy node changes come in crowds; one look for each crowd is enough.
const CROWD: Duration = Duration::from_millis(2);

/// A socket that is told of changes in the namespace in which it was opened, from then on.
#[derive(Debug)]
pub(crate) struct News {
    fd: OwnedFd,
}

impl News {
    /// Subscribed when it returns: what changes later is told.
    pub(crate) fn open() -> Result<Self, Errno> {
        let fd = route_socket()?;
        let groups = RTMGRP_LINK | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        Ok(Self { fd })
    }

    /// Waits for a change, of whatever; `false` when the time is over.
    pub(crate) fn wait(&self, until: Instant) -> Result<bool, Errno> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(false);
            }
            // Rounded up: a wait that is too short by less than a millisecond would spin.
            let left = left + Duration::from_millis(1);
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => break,
                Err(errno) => return Err(errno),
            }
        }
        std::thread::sleep(CROWD);
        self.drain();
        Ok(true)
    }

    /// What the messages say is seen by the next look at the kernel; so it is if some were lost (ENOBUFS).
    fn drain(&self) {
        let mut buffer = [0; 8192];
        loop {
            match recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
                Err(_) => return,
            }
        }
    }
}
