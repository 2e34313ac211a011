//! A DEL that found no daemon, on disk until one comes (see [`ipam_proto::tombstone`]).

use crate::netns::boot_id;
use crate::request::{Attachment, Conf};
use ipam_core::Timestamp;
use ipam_proto::tombstone::{SPOOL_MAX, Tombstone, file_name};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A tombstone on disk.
#[derive(Debug)]
pub(crate) struct Spooled(PathBuf);

impl Spooled {
    /// The daemon has heard of it after all. If the file can't go, a second release harms nobody.
    pub(crate) fn remove(self) {
        let _ = fs::remove_file(self.0);
    }
}

/// Writes the tombstone of an attachment: whole or not at all, and durable.
pub(crate) fn spool(attachment: &Attachment, conf: &Conf) -> io::Result<Spooled> {
    let dir = Path::new(&conf.spool_dir);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    if is_full(dir)? {
        let msg = format!("{SPOOL_MAX} releases wait there already");
        return Err(io::Error::new(io::ErrorKind::StorageFull, msg));
    }
    let mut stone = tombstone(attachment, conf);
    let path = dir.join(stone.file_name());
    if let Some(earlier) = fs::read_to_string(&path)
        .ok()
        .and_then(|t| Tombstone::parse(&t).ok())
    {
        remember(&mut stone, earlier);
    }
    let temporary = dir.join(format!(".{}.{}", stone.file_name(), std::process::id()));
    let written = write(&temporary, &stone).and_then(|()| fs::rename(&temporary, &path));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(error);
    }
    fs::File::open(dir)?.sync_all()?;
    Ok(Spooled(path))
}

/// Whether as many releases wait as may. What begins with a dot is none: a damaged note that the daemon has put
/// aside, or one that is being written.
fn is_full(dir: &Path) -> io::Result<bool> {
    let notes = fs::read_dir(dir)?.filter(|entry| {
        let name = entry.as_ref().map(fs::DirEntry::file_name);
        name.is_ok_and(|name| !name.as_encoded_bytes().starts_with(b"."))
    });
    Ok(notes.take(SPOOL_MAX).count() == SPOOL_MAX)
}

/// An ADD of the attachment comes after its noted DEL: that one must not end the lease that this one gets.
pub(crate) fn withdraw(attachment: &Attachment, conf: &Conf) {
    // Nearly always there is none.
    let _ = fs::remove_file(Path::new(&conf.spool_dir).join(file_name(&attachment.key)));
}

/// A runtime sends a second DEL that knows less: it must not take away what the first one said.
fn remember(stone: &mut Tombstone, earlier: Tombstone) {
    if earlier.key != stone.key || earlier.boot_id != stone.boot_id {
        return;
    }
    stone.released = stone.released.min(earlier.released);
    stone.addresses.extend(earlier.addresses);
    stone.addresses.sort_unstable();
    stone.addresses.dedup();
}

fn write(path: &Path, stone: &Tombstone) -> io::Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(stone.to_string().as_bytes())?;
    file.sync_all()
}

fn tombstone(attachment: &Attachment, conf: &Conf) -> Tombstone {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Tombstone {
        key: attachment.key.clone(),
        pod: attachment.pod.clone(),
        released: Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)),
        boot_id: boot_id().unwrap_or_default(),
        addresses: conf
            .prev_result
            .as_ref()
            .map(|p| p.addresses.clone())
            .unwrap_or_default(),
    }
}
