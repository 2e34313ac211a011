//! Names of nodes' network namespaces in the host's `/run/netns`, for `ip netns exec NAME`. Each
//! has a note beside it that says whose it is, so that a run that was killed can be cleaned up
//! after, and nobody else's namespace is ever touched.

use crate::error::SimError;
use crate::kernel::mounts::{self, NETNS_DIR};
use serde::{Deserialize, Serialize};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where the notes are.
const NOTES_DIR: &str = "/run/vpc-sim";

/// A name that goes when this value does.
#[derive(Debug)]
pub(crate) struct HostName {
    path: PathBuf,
    note: PathBuf,
    /// Directories that were not there before.
    made: Vec<&'static str>,
}

/// Who made a name, and of which namespace.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    pid: u32,
    /// Field 22 of `/proc/PID/stat`: a pid that was given again has another.
    started: u64,
    inode: u64,
}

impl HostName {
    /// Names the namespace of thread `tid` in the calling thread's mounts. A name left by a run
    /// that is dead is replaced.
    ///
    /// # Errors
    /// [`SimError::NameTaken`]: the name is somebody else's, or its maker still runs.
    pub(crate) fn make(name: &str, tid: i32) -> Result<Self, SimError> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            let doing = format!("naming a namespace {name:?}");
            return Err(SimError::os(doing)(std::io::Error::from(
                std::io::ErrorKind::InvalidInput,
            )));
        }
        let path = Path::new(NETNS_DIR).join(name);
        let note = Path::new(NOTES_DIR).join(name);
        let mut made = Vec::new();
        for dir in [NETNS_DIR, NOTES_DIR] {
            if !Path::new(dir).is_dir() {
                fs::create_dir_all(dir).map_err(SimError::os(format!("making {dir}")))?;
                made.push(dir);
            }
        }
        if path.symlink_metadata().is_ok() {
            remove_stale(&path, &note)?;
        }
        let source = PathBuf::from(format!("/proc/{tid}/ns/net"));
        let inode = inode(&source).unwrap_or_default();
        let pid = std::process::id();
        let written = Note {
            pid,
            started: started(pid).unwrap_or_default(),
            inode,
        };
        let text = serde_json::to_string(&written).unwrap_or_default();
        fs::write(&note, text).map_err(SimError::os(format!("writing {}", note.display())))?;
        let name = Self { path, note, made };
        fs::write(&name.path, "").map_err(SimError::os("naming a namespace"))?;
        mounts::bind(&source, &name.path)?;
        Ok(name)
    }
}

impl Drop for HostName {
    fn drop(&mut self) {
        if let Err(e) = mounts::unname_namespace(&self.path) {
            tracing::warn!("{e}");
        }
        drop(fs::remove_file(&self.note));
        drop(fs::remove_dir(NOTES_DIR));
        for dir in &self.made {
            // Fails while other names are there, as it should.
            drop(fs::remove_dir(dir));
        }
    }
}

fn remove_stale(path: &Path, note: &Path) -> Result<(), SimError> {
    let taken = || SimError::NameTaken {
        path: path.display().to_string(),
    };
    let text = fs::read_to_string(note).map_err(|_| taken())?;
    let told: Note = serde_json::from_str(&text).map_err(|_| taken())?;
    let alive = started(told.pid) == Some(told.started);
    // The mount may be gone while the file is left: then nothing is lost with it.
    let ours = inode(path) == Some(told.inode)
        || fs::metadata(path).is_ok_and(|m| m.len() == 0 && m.is_file() && !is_nsfs(path));
    if alive || !ours {
        return Err(taken());
    }
    tracing::warn!(
        "{} was left by a run that is dead; replacing it",
        path.display()
    );
    mounts::unname_namespace(path)
}

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|m| m.ino())
}

/// Whether a namespace is mounted there.
fn is_nsfs(path: &Path) -> bool {
    nix::sys::statfs::statfs(path)
        .is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::NSFS_MAGIC)
}

/// When the process started, in clock ticks since boot.
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The program's name, in parentheses, may hold spaces.
    let after = stat.rsplit_once(')')?.1;
    after.split_whitespace().nth(19)?.parse().ok()
}
