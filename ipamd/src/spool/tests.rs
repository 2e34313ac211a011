//! A noted release stays noted until the engine has carried it out.

use super::fuzz::stone;
use super::*;
use ipam_engine::api::Request as Ask;
use ipam_engine::{Refusal, RefusalKind, Released};
use std::time::Duration;
use tempfile::TempDir;

fn note(dir: &TempDir, name: &str, boot_id: &str) -> PathBuf {
    let path = dir.path().join(name);
    let stone = Tombstone {
        boot_id: boot_id.into(),
        ..stone()
    };
    fs::write(&path, stone.to_string()).expect("writes");
    path
}

/// Drains with an engine that answers so; how often it was asked. No note may be gone before.
async fn drained(dir: &TempDir, notes: &[&Path], answer: Result<Released, Refusal>) -> usize {
    let (engine, mut door) = Handle::new();
    let drain = drain(dir.path(), "boot-1", &engine);
    let mut asked = 0;
    let serve = async {
        while let Some(Ask::Release(_, reply)) = door.recv().await {
            asked += 1;
            assert!(notes.iter().all(|note| note.exists()), "gone too early");
            let _ = reply.send(answer.clone());
        }
    };
    let drained = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::select! {
            () = drain => {}
            () = serve => {}
        }
    });
    drained.await.expect("ends");
    asked
}

#[tokio::test]
async fn a_note_goes_when_its_release_is_done() {
    let dir = TempDir::new().expect("makes a directory");
    let path = note(&dir, "a", "boot-1");
    let done = Ok(Released::default());
    assert_eq!(drained(&dir, &[&path], done).await, 1);
    assert!(!path.exists());
}

#[tokio::test]
async fn a_note_stays_when_its_release_is_refused() {
    let dir = TempDir::new().expect("makes a directory");
    let path = note(&dir, "a", "boot-1");
    let refusal = Refusal {
        kind: RefusalKind::Internal,
        message: "the disk is full".into(),
        cause: "store_failed",
    };
    assert_eq!(drained(&dir, &[&path], Err(refusal)).await, 1);
    assert!(path.exists());
}

/// The same attachment may have a lease of this boot.
#[tokio::test]
async fn a_note_of_another_boot_ends_no_lease() {
    let dir = TempDir::new().expect("makes a directory");
    let path = note(&dir, "a", "boot-0");
    let done = Ok(Released::default());
    assert_eq!(drained(&dir, &[], done).await, 0);
    assert!(!path.exists());
}

/// It is being written, or was put aside.
#[tokio::test]
async fn a_name_with_a_dot_is_passed_over() {
    let dir = TempDir::new().expect("makes a directory");
    let path = note(&dir, ".a", "boot-1");
    let done = Ok(Released::default());
    assert_eq!(drained(&dir, &[], done).await, 0);
    assert!(path.exists());
}
