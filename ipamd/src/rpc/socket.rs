//! The Unix socket: made for its owner alone, and never taken from a daemon that lives.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// The socket can't be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("{0} is served already: is another ipamd running?")]
    Taken(PathBuf),
    /// The path can't be used.
    #[error("{what} {path}")]
    Files {
        /// What was tried.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A listening socket. Its file goes when this is dropped.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    file: SocketFile,
}

/// The socket's place in the file system.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
    owner: u32,
}

impl Bound {
    /// Listens at `path`, mode 0600 from the first moment. A socket that nobody serves any more is
    /// replaced. Must be called within the runtime.
    ///
    /// # Errors
    /// A live daemon has it, or the path can't be used.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |what| {
            move |source| SocketError::Files {
                what,
                path: path.to_owned(),
                source,
            }
        };
        if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(dir)
                .map_err(failed("making the directory of"))?;
        }
        if UnixStream::connect(path).is_ok() {
            return Err(SocketError::Taken(path.to_owned()));
        }
        // Made beside, then renamed: at no time is there a socket with other rights, and an old
        // one is replaced in one step.
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let beside = PathBuf::from(beside);
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("making room for")(error));
            }
            _ => {}
        }
        let listener = UnixListener::bind(&beside).map_err(failed("listening at"))?;
        fs::set_permissions(&beside, Permissions::from_mode(0o600))
            .map_err(failed("setting the rights of"))?;
        fs::rename(&beside, path).map_err(failed("putting in place"))?;
        let metadata = fs::symlink_metadata(path).map_err(failed("looking at"))?;
        let file = SocketFile {
            path: path.to_owned(),
            inode: (metadata.dev(), metadata.ino()),
            // A new file is its maker's.
            owner: metadata.uid(),
        };
        Ok(Self { listener, file })
    }

    /// The user who made it.
    pub(super) const fn owner(&self) -> u32 {
        self.file.owner
    }

    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

impl SocketFile {
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is there, and this one: a successor may have put its own there.
    pub(super) fn is_there(&self) -> bool {
        fs::symlink_metadata(&self.path).is_ok_and(|now| (now.dev(), now.ino()) == self.inode)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            let _ = fs::remove_file(&self.path);
        }
    }
}
