//! The folder of a cluster's logs. It goes with the cluster; the folder of a run that was killed is
//! taken away by the next one.
//!
//! A file in it is locked for as long as the run lives: the kernel lets the lock go, however the process
//! ends. A folder without that file is not ours to take away.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use tempfile::TempDir;

const PREFIX: &str = "ipamd-lab-";
/// The locked file, and its name before it is locked.
const LOCK: [&str; 2] = ["running", "running.new"];

/// A folder, and the lock that says that somebody uses it.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: TempDir,
    _lock: Option<File>,
}

impl Folder {
    /// A folder in `parent` that goes with the value, once those of killed runs are gone.
    pub(crate) fn make(parent: &Path) -> io::Result<Self> {
        sweep(parent);
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        // Under its own name it is never seen without its lock.
        let [name, first] = LOCK.map(|name| dir.path().join(name));
        let lock = File::create(&first)?;
        lock.lock()?;
        fs::rename(first, name)?;
        Ok(Self {
            dir,
            _lock: Some(lock),
        })
    }

    /// A folder in `parent` that stays.
    pub(crate) fn to_keep(parent: &Path) -> io::Result<Self> {
        let mut folder = tempfile::Builder::new();
        let dir = folder.prefix(PREFIX).disable_cleanup(true);
        Ok(Self {
            dir: dir.tempdir_in(parent)?,
            _lock: None,
        })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Takes away what killed runs of this user left. What can't be taken away stays: the next run tries
/// again, and this one does not need it.
fn sweep(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    for entry in entries {
        let path = entry.path();
        let named = entry.file_name().to_string_lossy().starts_with(PREFIX);
        if named && is_own_folder(&path) && is_left(&path) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

fn is_own_folder(path: &Path) -> bool {
    let own = nix::unistd::geteuid().as_raw();
    fs::symlink_metadata(path).is_ok_and(|found| found.is_dir() && found.uid() == own)
}

fn is_left(path: &Path) -> bool {
    let mut open = OpenOptions::new();
    open.read(true)
        .custom_flags(nix::fcntl::OFlag::O_NOFOLLOW.bits());
    let lock = open.open(path.join(LOCK[0]));
    lock.is_ok_and(|lock| lock.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_killed_runs_are_swept() {
        let parent = tempfile::tempdir().unwrap();
        let runs = Folder::make(parent.path()).unwrap();
        let kept = Folder::to_keep(parent.path()).unwrap();
        let killed = parent.path().join("ipamd-lab-killed");
        let others = parent.path().join("somebody");
        for dir in [&killed, &others] {
            fs::create_dir(dir).unwrap();
            File::create(dir.join(LOCK[0])).unwrap();
        }
        let link = parent.path().join("ipamd-lab-link");
        std::os::unix::fs::symlink(&others, &link).unwrap();

        let next = Folder::make(parent.path()).unwrap();
        assert!(!killed.exists());
        for stays in [runs.path(), kept.path(), next.path(), &others, &link] {
            assert!(stays.exists(), "{}", stays.display());
        }
        let path = next.path().to_owned();
        drop(next);
        assert!(!path.exists());
    }
}
