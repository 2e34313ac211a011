//! Opens a database, and tells damage from want: a full disk is no reason to put a sound one aside.

use super::files;
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long opening a database may take. A node's is read in milliseconds; but a node that boots may have
/// no processor or disk to spare for many seconds.
pub(super) const OPEN_DEADLINE: Duration = Duration::from_secs(30);
/// Pages that sled keeps in memory, bytes. The whole state of a node is about 100 kB.
const CACHE_BYTES: u64 = 256 * 1024;

pub(super) type Records = Vec<(sled::IVec, sled::IVec)>;

/// Why a database did not open.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unopened {
    /// What is on the disk can't be read, and another try would find the same.
    #[error("{0}")]
    Damaged(String),
    /// The system lacks something, or is slow: nothing is said of the database.
    #[error("{0}")]
    Unavailable(String),
}

/// Opens and reads everything, in a thread of its own: on a damaged file sled may fail, panic, or never
/// come back.
///
/// A panic says that something is damaged only where the system has what a database needs, since sled
/// panics for want of it, too. Time that runs out says nothing: a disk may be slow.
pub(super) fn open(path: &Path) -> Result<(sled::Db, Records), Unopened> {
    let (send, receive) = mpsc::channel();
    let config = sled::Config::new()
        .path(path)
        .cache_capacity(CACHE_BYTES)
        .use_compression(false)
        .flush_every_ms(None);
    let work = move || {
        let opened = open_unlocked(&config).and_then(|db| {
            let records = db.iter().collect::<Result<Records, _>>()?;
            Ok((db, records))
        });
        // Nobody listens any more after the deadline.
        let _ = send.send(opened);
    };
    thread::Builder::new()
        .name("store-open".into())
        .spawn(work)
        .map_err(|error| Unopened::Unavailable(format!("no thread can be had: {error}")))?;
    let cause = match receive.recv_timeout(OPEN_DEADLINE) {
        Ok(Ok(opened)) => return Ok(opened),
        Ok(Err(error)) if !is_damage(&error, path) => {
            return Err(Unopened::Unavailable(error.to_string()));
        }
        Ok(Err(error)) => error.to_string(),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let seconds = OPEN_DEADLINE.as_secs();
            let cause = format!("opening it has not ended within {seconds} s");
            return Err(Unopened::Unavailable(cause));
        }
        Err(mpsc::RecvTimeoutError::Disconnected) => "opening it panicked".into(),
    };
    let dir = path.parent().unwrap_or(path);
    match files::try_resources(dir) {
        Ok(()) => Err(Unopened::Damaged(cause)),
        Err(want) => Err(Unopened::Unavailable(format!("{cause}; {want}"))),
    }
}

/// sled's threads hold its own lock for a moment after a database is dropped. Nobody else of ours can
/// have it: the directory's is taken before.
fn open_unlocked(config: &sled::Config) -> sled::Result<sled::Db> {
    let mut result = config.open();
    for pause_ms in [1, 4, 16, 64, 256, 1024] {
        if !matches!(&result, Err(sled::Error::Io(error)) if error.kind() == ErrorKind::Other) {
            break;
        }
        thread::sleep(Duration::from_millis(pause_ms));
        result = config.open();
    }
    result
}

/// Whether this error tells of what is on the disk. Of errors of input and output only those do that a
/// file of another shape gives; what the system refuses for other reasons (no room, no descriptors, no
/// permission, a failing device) is no damage.
fn is_damage(error: &sled::Error, path: &Path) -> bool {
    let sled::Error::Io(error) = error else {
        return true;
    };
    match error.kind() {
        ErrorKind::UnexpectedEof
        | ErrorKind::InvalidData
        | ErrorKind::InvalidInput
        | ErrorKind::NotFound
        | ErrorKind::AlreadyExists
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory => true,
        // sled's own: damage in most cases, and its lock that another process holds.
        ErrorKind::Other => !is_locked(path),
        _ => false,
    }
}

/// Whether another process has sled's lock.
fn is_locked(path: &Path) -> bool {
    let file = File::open(path.join("db"));
    file.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

impl From<io::Error> for Unopened {
    fn from(error: io::Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}
