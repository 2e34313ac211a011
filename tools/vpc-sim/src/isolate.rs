//! Leaving the host's namespaces, first thing in a program. Owns the process's own namespaces;
//! those of nodes are made later, each by its own thread.

use crate::error::SimError;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{getegid, geteuid};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// How the process came to its namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// It had the right to make them (root).
    Root,
    /// In a user namespace of its own, where it is root.
    User,
}

/// Moves the process into a network and a mount namespace of its own, so that nothing it does to
/// links, routes and mounts is seen outside and all of it goes when it ends. An ordinary user gets
/// a user namespace too (user_namespaces(7)) and is root in there.
///
/// Call it first in `main`: the kernel refuses a user namespace to a process with threads. Sockets
/// bound before stay outside.
///
/// # Errors
/// [`SimError::ThreadsRunning`], or [`SimError::NoNamespaces`] with what the administrator can do.
pub fn isolate() -> Result<Isolation, SimError> {
    let threads = std::fs::read_dir("/proc/self/task")
        .map_err(SimError::os("reading /proc/self/task"))?
        .count();
    if threads != 1 {
        return Err(SimError::ThreadsRunning { threads });
    }
    let spaces = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS;
    match unshare(spaces) {
        Ok(()) => {}
        Err(Errno::EPERM) => {
            let (uid, gid) = (geteuid(), getegid());
            unshare(spaces | CloneFlags::CLONE_NEWUSER)
                .map_err(|e| SimError::NoNamespaces { source: e.into() })?;
            map_self_to_root(uid.as_raw(), gid.as_raw())
                .map_err(SimError::os("mapping this user to root"))?;
            IN_USER_NAMESPACE.store(true, Ordering::Relaxed);
        }
        Err(e) => return Err(SimError::NoNamespaces { source: e.into() }),
    }
    private_mounts()?;
    Ok(isolation())
}

/// Set once, before any other thread runs.
static IN_USER_NAMESPACE: AtomicBool = AtomicBool::new(false);

/// How this process came to its namespaces, or would: an ordinary user never without [`isolate`].
pub(crate) fn isolation() -> Isolation {
    if IN_USER_NAMESPACE.load(Ordering::Relaxed) {
        Isolation::User
    } else {
        Isolation::Root
    }
}

/// Whether this process may make network and mount namespaces without a user namespace: needed
/// for names in the host's `/run/netns`. Reads its capabilities, changes nothing.
///
/// # Errors
/// [`SimError::NotRoot`] when not.
pub fn may_use_host_names() -> Result<(), SimError> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(SimError::os("reading /proc/self/status"))?;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |capability: u32| bits >> capability & 1 == 1;
    if has(CAP_SYS_ADMIN) && has(CAP_NET_ADMIN) {
        Ok(())
    } else {
        Err(SimError::NotRoot {
            source: io::Error::from(io::ErrorKind::PermissionDenied),
        })
    }
}

/// linux/capability.h
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// user_namespaces(7): setgroups must be denied before an ordinary user may write `gid_map`.
fn map_self_to_root(uid: u32, gid: u32) -> io::Result<()> {
    std::fs::write("/proc/self/setgroups", "deny")?;
    std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
    std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Mounts made from here on don't reach the namespace that this one was copied from.
pub(crate) fn private_mounts() -> Result<(), SimError> {
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )
    .map_err(SimError::os("making all mounts private"))
}
