//! The marker beside the socket that says that pods could be served in this boot
//! ([`ipam_proto::served`]).
//!
//! Owns that file and nothing else. It is never removed, and put back if somebody else removes it: another
//! boot's, or another machine's, is told by the boot's id.

use ipam_engine::Handle;
use ipam_proto::served::{Marker, path};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a file is looked at: whether it is there, and while it can't be written (a full disk is mended by
/// people).
const LOOK: Duration = Duration::from_secs(1);

/// Where the marker is, and what it must say.
#[derive(Clone, Debug)]
pub struct Place {
    file: PathBuf,
    marker: Marker,
}

impl Place {
    /// Beside `socket`, for the boot that the daemon goes by.
    #[must_use]
    pub fn beside(socket: &Path, kernel_boot_id: &str, boot_id: &str) -> Self {
        Self {
            file: path(&socket.to_string_lossy()).into(),
            marker: Marker {
                kernel_boot_id: kernel_boot_id.into(),
                boot_id: boot_id.into(),
            },
        }
    }

    /// Whether an earlier run has left it in this boot.
    #[must_use]
    pub fn is_marked(&self) -> bool {
        let text = fs::read_to_string(&self.file);
        text.is_ok_and(|text| Marker::parse(&text).as_ref() == Some(&self.marker))
    }

    /// Waits for the first address, then leaves the marker, and keeps it.
    pub async fn mark(self, engine: Handle) {
        // An engine that has ended serves nobody.
        if engine.served().await.is_ok() {
            let what = format!("writing {}", self.file.display());
            keep(&what, || {
                if self.is_marked() {
                    return Ok(());
                }
                put(&self.file, self.marker.to_string().as_bytes())
            })
            .await;
        }
    }
}

/// Does it again and again, for as long as it is polled: what is done already costs a look. Each other
/// failure is told.
pub(crate) async fn keep(what: &str, mut act: impl FnMut() -> io::Result<()>) {
    let mut told = None;
    loop {
        let failure = act().err().map(|error| error.to_string());
        if let Some(error) = &failure
            && told != failure
        {
            tracing::warn!(error, "{what} failed; it is tried again every {LOOK:?}");
        }
        told = failure;
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes a file under another name beside it, and renames: nobody sees half of it. World-readable.
pub(crate) fn put(file: &Path, text: &[u8]) -> io::Result<()> {
    let mut hidden = OsString::from(".");
    hidden.push(file.file_name().unwrap_or_default());
    hidden.push(".ipamd");
    let beside = file.with_file_name(hidden);
    let written = write(&beside, text).and_then(|()| fs::rename(&beside, file));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

fn write(file: &Path, text: &[u8]) -> io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt as _;
    // What is left of an earlier try must not be written through, if it is a link.
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = fs::File::create_new(file)?;
    file.write_all(text)?;
    file.set_permissions(fs::Permissions::from_mode(0o644))?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipam_engine::api::Request;

    async fn until(so: impl Fn() -> bool) {
        let begin = std::time::Instant::now();
        while !so() {
            assert!(begin.elapsed() < Duration::from_secs(10));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn a_marker_is_left_when_the_engine_says_so_and_holds_for_one_boot() {
        let dir = tempfile::TempDir::new().expect("makes a directory");
        let socket = dir.path().join("ipamd.sock");
        let place = Place::beside(&socket, "kernel", "first");
        let (engine, mut door) = Handle::new();
        let marking = tokio::spawn(place.clone().mark(engine));
        let Some(Request::Served(reply)) = door.recv().await else {
            panic!("not asked")
        };
        assert!(!place.is_marked());
        reply.send(()).expect("is waited for");
        until(|| place.is_marked()).await;
        // What somebody removes comes back.
        fs::remove_file(dir.path().join("ipamd.sock.served")).expect("removes");
        until(|| place.is_marked()).await;
        marking.abort();
        assert!(!Place::beside(&socket, "kernel", "second").is_marked());
        assert!(!Place::beside(&socket, "other", "first").is_marked());
        assert_eq!(fs::read_dir(&dir).expect("reads").count(), 1);
    }
}
