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
    let drain = drain(dir.path(), &["boot-1"], &engine);
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
        notes: Vec::new(),
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

/// For a person, but not for ever.
#[tokio::test]
async fn the_latest_damaged_notes_are_kept() {
    let dir = TempDir::new().expect("makes a directory");
    for n in 0..DAMAGED_MAX + 5 {
        fs::write(dir.path().join(format!("{n:02}")), "no note").expect("writes");
        let done = Ok(Released::default());
        assert_eq!(drained(&dir, &[], done).await, 0);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let left: std::collections::BTreeSet<String> = fs::read_dir(dir.path())
        .expect("lists")
        .map(|entry| {
            entry
                .expect("reads")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    let wanted = (5..DAMAGED_MAX + 5).map(|n| format!("{DAMAGED}{n:02}"));
    assert_eq!(left, wanted.collect());
}

/// An engine that takes every release; counts them.
fn served(mut door: tokio::sync::mpsc::Receiver<Ask>) -> tokio::sync::watch::Receiver<usize> {
    let (count, counted) = tokio::sync::watch::channel(0);
    tokio::spawn(async move {
        while let Some(Ask::Release(_, reply)) = door.recv().await {
            let _ = reply.send(Ok(Released::default()));
            count.send_modify(|count| *count += 1);
        }
    });
    counted
}

/// As the plugin does it.
fn put(dir: &Path, name: &str) {
    let stone = Tombstone {
        boot_id: "boot-1".into(),
        ..stone()
    };
    let hidden = dir.join(format!(".{name}"));
    fs::write(&hidden, stone.to_string()).expect("writes");
    fs::rename(hidden, dir.join(name)).expect("renames");
}

/// A daemon that hung while the plugin gave up is no reason to wait for the next one.
#[tokio::test]
async fn a_note_that_comes_later_is_told_at_once() {
    let dir = TempDir::new().expect("makes a directory");
    let spool = dir.path().join("state/spool");
    let (engine, door) = Handle::new();
    let mut counted = served(door);
    let kept = spool.clone();
    let keeping =
        tokio::spawn(async move { keep_drained(&kept, &["boot-0", "boot-1"], &engine).await });
    // Sooner than the next look in any case.
    let limit = AGAIN / 2;
    let mut told = async |count: usize| {
        let all = counted.wait_for(|told| *told >= count);
        timeout(limit, all).await.expect("in time").expect("lives");
    };
    while !spool.is_dir() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    put(&spool, "a");
    told(1).await;
    put(&spool, "b");
    told(2).await;
    // Somebody clears the state's directory.
    fs::remove_dir_all(&spool).expect("removes");
    while !spool.is_dir() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    put(&spool, "c");
    told(3).await;
    keeping.abort();
}
