//! Releases that the plugin noted because no daemon answered: read, told to the engine, removed.

use ipam_engine::{Handle, Release};
use ipam_proto::tombstone::{SPOOL_MAX, Tombstone};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;
use watch::Watch;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
mod watch;

/// More than any tombstone has, bytes.
const FILE_MAX: u64 = 64 * 1024;

/// Notes that can't be read are called so, for a person.
const DAMAGED: &str = ".damaged-";
/// So many of them are kept.
const DAMAGED_MAX: usize = 16;

/// What was refused is tried again so often; so is the directory looked at that can't be watched.
const AGAIN: Duration = Duration::from_secs(60);

/// Tells `engine` every release that is noted in `dir`, now and whenever one comes. Never ends. Must be called
/// once the socket listens: the plugin tries the socket again after it has written its file, and a daemon
/// that hung, or whose socket can't be opened, finds the note here.
///
/// `boot_ids` are all names of this boot.
pub async fn keep_drained(dir: &Path, boot_ids: &[&str], engine: &Handle) {
    loop {
        let mut watch = Watch::begin(dir)
            .inspect_err(|error| {
                tracing::warn!(dir = %dir.display(), %error, "can't watch the spool of releases");
            })
            .ok();
        loop {
            drain(dir, boot_ids, engine).await;
            match timeout(AGAIN, news(watch.as_ref())).await {
                Ok(Ok(true)) => {}
                Err(_) if watch.is_some() => {}
                Err(_) | Ok(Ok(false)) => break,
                Ok(Err(error)) => {
                    tracing::warn!(dir = %dir.display(), %error, "the spool is no longer watched");
                    watch = None;
                }
            }
        }
    }
}

/// For ever, where nothing can be watched.
async fn news(watch: Option<&Watch>) -> io::Result<bool> {
    match watch {
        Some(watch) => watch.news().await,
        None => std::future::pending().await,
    }
}

/// A note of another boot says nothing of today's leases, and is removed. One that can't be read is
/// renamed out of the way, for a person.
async fn drain(dir: &Path, boot_ids: &[&str], engine: &Handle) {
    let files = match list(dir) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => {
            tracing::warn!(dir = %dir.display(), %error, "can't read the spool of releases");
            return;
        }
    };
    for path in files {
        let stone = match read(&path) {
            Ok(stone) => stone,
            // The plugin has told it after all.
            Err(_) if fs::symlink_metadata(&path).is_err() => continue,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "a noted release can't be read");
                put_aside(dir, &path);
                continue;
            }
        };
        if boot_ids.contains(&&*stone.boot_id) || stone.boot_id.is_empty() {
            let release = Release {
                key: stone.key,
                pod: stone.pod,
                addresses: stone.addresses,
            };
            let key = release.key.clone();
            if let Err(error) = engine.release(release).await {
                tracing::warn!(%key, %error, "a noted release could not be carried out; it stays noted");
                continue;
            }
            tracing::info!(%key, "released, as noted while ipamd was away");
        }
        if let Err(error) = fs::remove_file(&path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(file = %path.display(), %error, "a noted release can't be removed");
        }
    }
}

/// Its name begins with a dot then: it is passed over from now on. Only the latest stay, or they would grow
/// for ever.
fn put_aside(dir: &Path, path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let _ = fs::rename(path, path.with_file_name(format!("{DAMAGED}{name}")));
    let mut damaged: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(DAMAGED))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    damaged.sort();
    let too_many = damaged.len().saturating_sub(DAMAGED_MAX);
    for (_, path) in damaged.iter().take(too_many) {
        // A directory stays: nobody knows what is in it.
        let _ = fs::remove_file(path);
    }
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir)?
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .map(|entry| entry.path())
        .take(2 * SPOOL_MAX)
        .collect();
    files.sort();
    Ok(files)
}

fn read(path: &Path) -> Result<Tombstone, Box<dyn std::error::Error + Send + Sync>> {
    let file = fs::symlink_metadata(path)?;
    if !file.is_file() {
        // Reading a pipe, say, would hold up the daemon.
        return Err("not a file".into());
    }
    if file.len() > FILE_MAX {
        return Err("longer than any tombstone".into());
    }
    Ok(Tombstone::parse(&fs::read_to_string(path)?)?)
}
