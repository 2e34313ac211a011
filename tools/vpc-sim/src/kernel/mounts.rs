//! A node's own file system view: private `/run` and `/var/lib`, a `/sys` that shows the node's
//! links. Works on the calling thread's mount namespace.

use crate::error::SimError;
use nix::fcntl::{OFlag, open};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Where namespaces get their names, as `ip netns` does.
pub(crate) const NETNS_DIR: &str = "/run/netns";

/// Mounts an empty tmpfs on each of `private` and makes `/run/netns`. What lies below them and is
/// in use by this process (its program, working directory, home, temporary files) is kept in place,
/// or a program built below `/var/lib` could not be started in a node.
pub(crate) fn make_private(private: &[PathBuf]) -> Result<(), SimError> {
    let kept = in_use();
    for dir in private {
        if !dir.is_dir() || fs::symlink_metadata(dir).is_ok_and(|m| m.is_symlink()) {
            continue;
        }
        let below = kept.iter().filter(|p| p.starts_with(dir));
        let held: Vec<(&PathBuf, OwnedFd)> =
            below.filter_map(|p| Some((p, hold(p).ok()?))).collect();
        tmpfs(dir)?;
        for (path, fd) in held {
            put_back(path, &fd)?;
        }
    }
    fs::create_dir_all(NETNS_DIR).map_err(SimError::os(format!("making {NETNS_DIR}")))
}

/// Mounts a sysfs that shows this network namespace; some containers forbid it.
pub(crate) fn fresh_sysfs() {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    if let Err(e) = mount(Some("sysfs"), "/sys", Some("sysfs"), flags, None::<&str>) {
        tracing::debug!("no sysfs of its own: {e}");
    }
}

/// Gives the calling thread's network namespace a name: a file that is it.
pub(crate) fn name_namespace(path: &Path) -> Result<(), SimError> {
    let doing = || format!("naming a namespace {}", path.display());
    fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(SimError::os(doing()))?;
    bind(Path::new("/proc/thread-self/ns/net"), path).inspect_err(|_| drop(fs::remove_file(path)))
}

/// Mounts `source` on the file or directory `target`.
pub(crate) fn bind(source: &Path, target: &Path) -> Result<(), SimError> {
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(SimError::os(format!(
        "binding {} to {}",
        source.display(),
        target.display()
    )))
}

/// Takes a name away. A name that is gone is no error.
pub(crate) fn unname_namespace(path: &Path) -> Result<(), SimError> {
    // An error means that nothing is mounted there; then only the file is left.
    let _ = umount2(path, MntFlags::MNT_DETACH);
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(SimError::os(format!("removing {}", path.display()))(e))
        }
        _ => Ok(()),
    }
}

fn tmpfs(dir: &Path) -> Result<(), SimError> {
    mount(
        Some("tmpfs"),
        dir,
        Some("tmpfs"),
        MsFlags::MS_NOSUID,
        Some("mode=755"),
    )
    .map_err(SimError::os(format!(
        "mounting a private {}",
        dir.display()
    )))
}

fn in_use() -> Vec<PathBuf> {
    let program = std::env::current_exe().ok();
    let program_dir = program.and_then(|p| p.parent().map(Path::to_path_buf));
    let vars =
        ["HOME", "TMPDIR", "CARGO_TARGET_DIR"].map(|v| std::env::var_os(v).map(PathBuf::from));
    let all = [program_dir, std::env::current_dir().ok()]
        .into_iter()
        .chain(vars)
        .flatten();
    let mut paths: Vec<PathBuf> = all.filter(|p| p.is_dir()).collect();
    paths.sort();
    paths.dedup();
    // A directory brings those below it.
    let all = paths.clone();
    paths.retain(|p| !all.iter().any(|q| q != p && p.starts_with(q)));
    paths
}

fn hold(path: &Path) -> nix::Result<OwnedFd> {
    open(
        path,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

fn put_back(path: &Path, fd: &OwnedFd) -> Result<(), SimError> {
    fs::create_dir_all(path).map_err(SimError::os(format!("making {}", path.display())))?;
    let source = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
    mount(
        Some(&source),
        path,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .map_err(SimError::os(format!("keeping {}", path.display())))
}
