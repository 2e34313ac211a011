//! Files in the spool that are no tombstones, or were.

use super::*;
use crate::fuzz::{Harm, harmed_bytes, harms, odd_text, search};
use ipam_core::{AttachmentKey, PodRef, Timestamp};
use ipam_engine::Released;
use ipam_engine::api::Request as Ask;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(Clone, Debug)]
enum Thing {
    /// Lines of a good one, some with another value.
    Stone(Vec<(usize, String)>, Vec<Harm>),
    Bytes(Vec<u8>),
    Huge,
    Directory,
    Pipe,
    LinkTo(&'static str),
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        6 => (vec((0..12_usize, odd_text()), 0..3), harms()).prop_map(|(lines, harms)| Thing::Stone(lines, harms)),
        2 => vec(any::<u8>(), 0..200).prop_map(Thing::Bytes),
        1 => Just(Thing::Huge),
        1 => Just(Thing::Directory),
        1 => Just(Thing::Pipe),
        1 => select(vec!["/nowhere", "self", "/dev/zero", ".."]).prop_map(Thing::LinkTo),
    ]
}

pub(super) fn stone() -> Tombstone {
    Tombstone {
        key: AttachmentKey {
            network: "n".into(),
            container_id: "c".into(),
            if_name: "eth0".into(),
        },
        pod: PodRef {
            namespace: "default".into(),
            name: "web-0".into(),
            uid: String::new(),
        },
        released: Timestamp(5),
        boot_id: "boot-1".into(),
        addresses: vec!["10.0.0.8".parse().expect("parses")],
    }
}

fn lay(path: &Path, thing: &Thing) -> std::io::Result<()> {
    match thing {
        Thing::Stone(lines, harms) => {
            let text = stone().to_string();
            let mut all: Vec<String> = text.lines().map(str::to_owned).collect();
            for (at, text) in lines {
                let Some(line) = all.get_mut(*at) else {
                    continue;
                };
                let name = line.split('=').next().unwrap_or_default();
                *line = format!("{name}={text}");
            }
            let text = all.join("\n") + "\n";
            fs::write(path, harmed_bytes(text.into_bytes(), harms))
        }
        Thing::Bytes(bytes) => fs::write(path, bytes),
        Thing::Huge => fs::write(path, vec![b'a'; 1 << 20]),
        Thing::Directory => fs::create_dir(path),
        Thing::Pipe => Command::new("mkfifo").arg(path).status().map(drop),
        Thing::LinkTo(to) => std::os::unix::fs::symlink(to, path),
    }
}

#[test]
fn whatever_lies_in_the_spool_is_passed() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let name = prop_oneof![
        4 => "[a-z0-9]{1,8}".prop_map(String::into_bytes),
        1 => vec(any::<u8>().prop_filter("a name", |b| *b != 0 && *b != b'/'), 1..20)
            .prop_filter("a name", |name| name != b"." && name != b".."),
    ];
    search(200, &vec((name, thing()), 1..5), |things| {
        let dir = tempfile::TempDir::new().expect("makes a directory");
        let mut laid = Vec::new();
        for (name, thing) in &things {
            let path = dir.path().join(OsString::from_vec(name.clone()));
            if lay(&path, thing).is_ok() && !name.starts_with(b".") {
                laid.push(path);
            }
        }
        let (engine, mut door) = Handle::new();
        let began = Instant::now();
        let path = dir.path().to_owned();
        let done = runtime.block_on(async {
            let played = tokio::spawn(async move {
                while let Some(Ask::Release(_, reply)) = door.recv().await {
                    let _ = reply.send(Ok(Released::default()));
                }
            });
            // On a thread, so that a drain that hangs is seen.
            let drained = std::thread::spawn(move || {
                let inner = tokio::runtime::Builder::new_current_thread().build();
                inner
                    .expect("a runtime")
                    .block_on(drain(&path, &["boot-1"], &engine));
            });
            while !drained.is_finished() && began.elapsed() < Duration::from_secs(10) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            played.abort();
            drained.is_finished().then(|| drained.join().is_ok())
        });
        prop_assert_eq!(done, Some(true), "it hangs (None) or panics");
        // Carried out or put aside, but for what nobody can move.
        for path in laid {
            prop_assert!(
                fs::symlink_metadata(&path).is_err(),
                "{:?} is still there",
                path
            );
        }
        Ok(())
    });
}
