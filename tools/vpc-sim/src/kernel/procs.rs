//! Processes in a namespace: started so that they end with their place, found and killed when the
//! namespace has to go.

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// Makes the child die when the thread that starts it ends, also if this process is killed.
///
/// `prctl(PR_SET_PDEATHSIG)` can be set only by the child itself, between fork and exec.
#[allow(unsafe_code)]
pub(crate) fn die_with_parent(command: &mut Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: the closure makes one system call and touches no memory of the parent: it neither
    // allocates nor takes a lock, as the time between fork and exec demands.
    unsafe {
        command.pre_exec(|| nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(Into::into));
    }
}

/// Kills (SIGKILL) each process, but this one, that shares its network or its mount namespace with
/// thread `tid`. Returns how many there were.
pub(crate) fn kill_sharing(tid: i32) -> usize {
    let spaces = |id: i32| ["net", "mnt"].map(|ns| inode(id, ns));
    let theirs = spaces(tid);
    let me = getpid().as_raw();
    let ours = spaces(me);
    let Ok(entries) = fs::read_dir("/proc") else {
        return 0;
    };
    let pids = entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok());
    let shares = |pid: &i32| {
        let both = spaces(*pid).into_iter().zip(theirs).zip(ours);
        both.into_iter()
            .any(|((a, b), own)| a.is_some() && a == b && a != own)
    };
    let doomed = pids.filter(|pid| *pid != me).filter(shares);
    doomed
        .filter(|pid| kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok())
        .count()
}

fn inode(id: i32, space: &str) -> Option<u64> {
    fs::metadata(format!("/proc/{id}/ns/{space}"))
        .ok()
        .map(|m| m.ino())
}
