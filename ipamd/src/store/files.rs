//! Files beside the database: the lock, the count of commits, and what was put aside.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How many damaged databases are kept for a person, beside the newest with leases.
const KEPT: usize = 3;

/// Makes the directory, for us alone, also where it was there: records name pods and their addresses. One
/// that is everybody's by its sticky bit, like `/tmp`, stays so.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let mode = fs::metadata(dir)?.permissions().mode();
    if mode & STICKY == 0 && mode & 0o777 != 0o700 {
        fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    }
    Ok(())
}

const STICKY: u32 = 0o1000;

/// Takes everybody else's access from the files of ours in the directory, which sled and an earlier
/// version made as the process's umask had it.
pub(super) fn close_to_others(dir: &Path) -> io::Result<()> {
    for name in ["lock", "commits"] {
        let path = dir.join(name);
        if path.try_exists()? {
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
        }
    }
    close_below(&dir.join("db"))
}

fn close_below(dir: &Path) -> io::Result<()> {
    fs::set_permissions(dir, Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            close_below(&entry.path())?;
        } else if kind.is_file() {
            fs::set_permissions(entry.path(), Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}

/// Bytes that a database takes when it is made: sled sets its first segments up at once.
const ROOM: usize = 1 << 20;
/// Descriptors and threads that it takes.
const DESCRIPTORS: usize = 8;
const THREADS: usize = 2;

/// Whether the system has what a database needs: room, descriptors and threads. What is made to try is
/// gone afterwards.
pub(super) fn try_resources(dir: &Path) -> Result<(), String> {
    let path = dir.join("try");
    let room = fs::write(&path, vec![0_u8; ROOM]).and_then(|()| File::open(&path)?.sync_all());
    let descriptors = room.as_ref().map_or(Ok(()), |()| {
        let open = (0..DESCRIPTORS).map(|_| File::open(&path));
        open.collect::<io::Result<Vec<_>>>().map(drop)
    });
    // Nothing else is known by this name, and the next try writes over it.
    let _ = fs::remove_file(&path);
    room.map_err(|error| format!("{} can't be written: {error}", dir.display()))?;
    descriptors.map_err(|error| format!("no file can be opened: {error}"))?;
    for _ in 0..THREADS {
        thread::Builder::new()
            .spawn(|| ())
            .map_err(|error| format!("no thread can be had: {error}"))?;
    }
    Ok(())
}

/// In the directory of a database in which no lease was ever written: nobody needs it once it is damaged.
const WITHOUT_LEASES: &str = "without-leases";

/// Notes that there is no lease in the database.
pub(super) fn mark_without_leases(db: &Path) -> io::Result<()> {
    fs::write(db.join(WITHOUT_LEASES), b"")
}

/// Notes that there may be leases in the database, before the first is written.
pub(super) fn mark_with_leases(db: &Path) -> io::Result<()> {
    match fs::remove_file(db.join(WITHOUT_LEASES)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// How long a predecessor may take to end: it stops within this.
const PREDECESSOR: Duration = Duration::from_secs(10);

/// Takes the directory, once a predecessor that is about to end has let go of it. `None`: another
/// process has it and keeps it.
pub(super) fn lock(dir: &Path) -> io::Result<Option<File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("lock"))?;
    match file.try_lock() {
        Ok(()) => return Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    tracing::warn!(dir = %dir.display(), "in use by another process; waiting for its end");
    let (send, receive) = mpsc::channel();
    thread::Builder::new()
        .name("store-lock".into())
        .spawn(move || {
            let locked = file.lock().map(|()| file);
            // Nobody listens any more after the deadline, and the lock is let go.
            let _ = send.send(locked);
        })?;
    receive
        .recv_timeout(PREDECESSOR)
        .map_or(Ok(None), |locked| locked.map(Some))
}

/// The number of commits, outside of the database: it tells whether the database came back older
/// than it was. Not flushed: within a boot the page cache keeps it, and another boot drops leases.
#[derive(Debug)]
pub(super) struct Generation(File);

impl Generation {
    /// Opens it, and reads the number; `None` if it is not there or can't be read.
    pub(super) fn open(dir: &Path) -> io::Result<(Self, Option<u64>)> {
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(dir.join("commits"))?;
        let mut bytes = [0; 12];
        let read = file.read_exact_at(&mut bytes, 0);
        let number = read.is_ok().then(|| Self::decode(bytes)).flatten();
        Ok((Self(file), number))
    }

    fn decode(bytes: [u8; 12]) -> Option<u64> {
        let (number, sum) = bytes.split_first_chunk::<8>()?;
        (crc32fast::hash(number).to_le_bytes() == sum).then(|| u64::from_le_bytes(*number))
    }

    pub(super) fn write(&self, number: u64) -> io::Result<()> {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let sum = crc32fast::hash(&bytes[..8]);
        bytes[8..].copy_from_slice(&sum.to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }
}

/// A new database, whole, that is to stand in for a damaged one.
pub(super) const FRESH: &str = "db-new";

/// Puts the damaged database aside and the new one in its place. Answers where the damaged one is.
pub(super) fn swap(dir: &Path, db: &Path) -> io::Result<PathBuf> {
    let aside = put_aside(dir, db)?;
    fs::rename(dir.join(FRESH), db)?;
    File::open(dir)?.sync_all()?;
    Ok(aside)
}

/// Ends a [`swap`] that a crash cut short: without a database the new one is it, and beside one it may
/// be half written.
pub(super) fn finish_swap(dir: &Path) -> io::Result<()> {
    let (db, fresh) = (dir.join("db"), dir.join(FRESH));
    match (db.try_exists()?, fresh.try_exists()?) {
        (_, false) => Ok(()),
        (false, true) => fs::rename(fresh, db),
        (true, true) => fs::remove_dir_all(&fresh).or_else(|_| fs::remove_file(&fresh)),
    }
}

/// Renames a damaged database aside and keeps the newest few, and the newest that may hold leases: what is
/// put aside start after start was empty, and must not push out the one that matters. Answers where it is
/// now.
fn put_aside(dir: &Path, db: &Path) -> io::Result<PathBuf> {
    let mut kept: Vec<(u64, PathBuf)> = fs::read_dir(dir)?
        .flatten()
        .filter_map(|entry| {
            let number = entry
                .file_name()
                .to_str()?
                .strip_prefix("damaged-")?
                .parse()
                .ok()?;
            Some((number, entry.path()))
        })
        .collect();
    kept.sort_unstable();
    let next = kept
        .last()
        .map_or(1, |(number, _)| number.saturating_add(1));
    let target = dir.join(format!("damaged-{next}"));
    fs::rename(db, &target)?;
    kept.push((next, target.clone()));
    let may_hold_leases = |path: &Path| !path.join(WITHOUT_LEASES).exists();
    let newest = kept.iter().rfind(|(_, path)| may_hold_leases(path));
    let newest = newest.map(|(number, _)| *number);
    let surplus = kept.len().saturating_sub(KEPT);
    for (_, old) in kept
        .iter()
        .take(surplus)
        .filter(|(n, _)| Some(*n) != newest)
    {
        // What can't be removed stays; it harms nothing.
        let _ = fs::remove_dir_all(old).or_else(|_| fs::remove_file(old));
    }
    Ok(target)
}
