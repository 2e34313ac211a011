//! A DEL whose socket fails in any way: the release is noted, or the runtime is told to come again.

use crate::{Outcome, Scene};
use ipam_proto::tombstone::{SPOOL_MAX, Tombstone};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// An HTTP/2 answer (RFC 9113) that is no gRPC's: settings, their acknowledgement, status 200 and the end.
const NO_GRPC: [u8; 28] = [
    0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 0, 1, 1, 5, 0, 0, 0, 1, 0x88,
];

/// Answers each connection with `bytes`; for as long as the test lasts.
fn answering(path: &Path, bytes: &'static [u8]) -> std::io::Result<()> {
    let listener = UnixListener::bind(path)?;
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(bytes);
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    Ok(())
}

/// Nobody there, a dead one's socket, one that can't be connected to (as without permission), one that
/// takes calls and says nothing, one that ends each, and what is no daemon.
pub(crate) fn every_failure_is_noted() -> Outcome {
    let mut scene = Scene::new()?;
    scene.runtime.add(&scene.pod).ok();
    scene.daemon.stop();
    let dir = scene.dir.path();
    drop(UnixListener::bind(dir.join("dead"))?);
    let _datagram = UnixDatagram::bind(dir.join("other"))?;
    let _silent = UnixListener::bind(dir.join("silent"))?;
    answering(&dir.join("ends"), b"")?;
    answering(&dir.join("garbage"), b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
    answering(&dir.join("no-grpc"), &NO_GRPC)?;
    std::fs::write(dir.join("file"), "")?;
    let sockets = [
        "none", "dead", "other", "silent", "ends", "garbage", "no-grpc", "file",
    ];
    std::thread::scope(|scope| {
        for name in sockets {
            let mut runtime = scene.runtime.other(name, name);
            runtime.conf["socket"] = json!(dir.join(name));
            // Without a prevResult: nothing but the note tells of the lease.
            scope.spawn(move || runtime.command("DEL", "").ok());
        }
    });
    let noted: Result<BTreeSet<String>, _> = scene
        .spool()
        .iter()
        .map(|text| Tombstone::parse(text).map(|stone| stone.key.container_id))
        .collect();
    assert_eq!(noted?, sockets.map(String::from).into());
    Ok(())
}

/// Success would lose the release.
pub(crate) fn what_can_not_be_noted_fails() -> Outcome {
    let mut scene = Scene::new()?;
    let result = scene.runtime.add(&scene.pod).ok();
    scene.daemon.stop();
    std::fs::write(scene.dir.path().join("file"), "")?;
    let mut runtime = scene.runtime.clone();
    runtime.conf["spoolDir"] = json!(scene.dir.path().join("file/spool"));
    for runtime in [runtime.clone(), runtime.with_result(&result)] {
        let msg = runtime.command("DEL", "").error(11);
        assert!(msg.contains("the release can't be kept in"), "{msg}");
    }
    scene.daemon.again();
    runtime.command("DEL", "").ok();
    assert!(scene.daemon.state().leases.is_empty());
    Ok(())
}

/// What the daemon has put aside, and what is being written, takes no room from notes that wait.
pub(crate) fn only_what_waits_fills_the_spool() -> Outcome {
    let mut scene = Scene::new()?;
    scene.daemon.stop();
    let spool = scene.dir.path().join("spool");
    std::fs::create_dir(&spool)?;
    for n in 0..SPOOL_MAX {
        std::fs::write(spool.join(format!(".damaged-{n}")), "")?;
    }
    scene.runtime.command("DEL", "").ok();
    for n in 1..SPOOL_MAX {
        std::fs::write(spool.join(n.to_string()), "")?;
    }
    let msg = scene
        .runtime
        .other("c2", "web-1")
        .command("DEL", "")
        .error(11);
    assert!(msg.contains(&format!("{SPOOL_MAX} releases wait")), "{msg}");
    Ok(())
}

/// The variable that makes this program another user's listener.
pub(crate) const LISTEN: &str = "IPAMD_TEST_LISTEN";

/// Listens at a path until the parent ends it: a daemon that nobody should believe.
pub(crate) fn listen(path: &std::ffi::OsStr) -> std::process::ExitCode {
    let Ok(listener) = UnixListener::bind(path) else {
        return std::process::ExitCode::FAILURE;
    };
    for stream in listener.incoming().flatten() {
        drop(stream);
    }
    std::process::ExitCode::SUCCESS
}

/// Who listens has to be root, or the plugin's own user (`SO_PEERCRED`).
pub(crate) fn another_users_listener_is_not_believed() -> Outcome {
    const NOBODY: u32 = 65534;
    let scene = Scene::new()?;
    let place = scene.dir.path().join("theirs");
    std::fs::create_dir(&place)?;
    for dir in [scene.dir.path(), &place] {
        std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711))?;
    }
    let socket = place.join("ipamd.sock");
    let mut listener = Command::new("/proc/self/exe");
    listener.env(LISTEN, &socket);
    // As an ordinary user the test has no other user to be.
    let theirs = std::os::unix::fs::chown(&place, Some(NOBODY), Some(NOBODY));
    if theirs.is_err() {
        eprintln!("not root: there is no other user here");
        return Ok(());
    }
    let mut listener = listener.uid(NOBODY).gid(NOBODY).spawn()?;
    let is_there = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        UnixStream::connect(&socket).is_ok()
    });
    let result = is_there.then(|| refused(&scene, &socket));
    listener.kill()?;
    listener.wait()?;
    result.ok_or("nobody listens")?
}

/// Nothing is done that it could have said; a release is noted for the real one.
fn refused(scene: &Scene, socket: &Path) -> Outcome {
    let mut runtime = scene.runtime.clone();
    runtime.conf["socket"] = json!(socket);
    let words = "is user 65534, not root";
    for (verb, code) in [("ADD", 103), ("STATUS", 50), ("CHECK", 103), ("GC", 103)] {
        let mut runtime = runtime.with_result(&json!({}));
        runtime.conf["cni.dev/valid-attachments"] = json!([]);
        let began = std::time::Instant::now();
        let msg = runtime.command(verb, &scene.pod.path()).error(code);
        assert!(msg.contains(words), "{verb}: {msg}");
        assert!(
            began.elapsed() < Duration::from_secs(1),
            "{verb} waits for it"
        );
    }
    assert_eq!(crate::see::links(&scene.pod), []);
    runtime.command("DEL", "").ok();
    assert_eq!(scene.spool().len(), 1);
    Ok(())
}

/// The note of an attachment's DEL must not end the lease of its next ADD.
pub(crate) fn an_add_takes_its_note_away() -> Outcome {
    let mut scene = Scene::new()?;
    scene.runtime.add(&scene.pod).ok();
    scene.daemon.stop();
    scene.runtime.command("DEL", "").ok();
    scene.runtime.other("c2", "web-1").command("DEL", "").ok();
    assert_eq!(scene.spool().len(), 2);
    scene.daemon.again();
    scene.runtime.add(&scene.pod).ok();
    let left = scene.spool();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(left[0].contains("container_id=c2"), "{left:?}");
    Ok(())
}
