//! A system that lacks what a database needs, and copies that are put aside start after start.

use super::tests::{files, key, lease, lived_in};
use super::*;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// Where the child of [`limited`] finds its state.
const STATE: &str = "STORE_OF_THE_CHILD";

/// Opens the store in a process of its own, under a shell's limit.
fn limited(dir: &Path, limit: &str) -> String {
    let program = std::env::current_exe().expect("is known");
    let script = format!("trap '' XFSZ; {limit} && exec \"$0\" \"$@\"");
    let child = Command::new("sh")
        .arg("-c")
        .arg(script)
        .arg(program)
        .args(["--exact", "store::want::child_opens", "--nocapture"])
        .args(["--test-threads", "1"])
        .env(STATE, dir)
        .output()
        .expect("starts");
    String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr)
}

/// A part of the tests of this file, which start it with less than a database needs.
#[test]
fn child_opens() {
    let Some(dir) = std::env::var_os(STATE) else {
        return;
    };
    match open(Path::new(&dir), "boot-1") {
        Ok(opened) => println!("opened with {}", opened.loaded.leases.len()),
        Err(error) => println!("refused: {error}"),
    }
}

fn asides(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("lists").flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("damaged-")).collect();
    names.sort();
    names
}

/// Too few descriptors and a limit on a file's size, which meets a write as a full disk does.
#[test]
fn want_is_not_damage() {
    let mut refused = 0;
    let descriptors = (4..20).map(|n| format!("ulimit -n {n}"));
    let sizes = [0, 1, 16, 512].map(|blocks| format!("ulimit -f {blocks}"));
    for limit in descriptors.chain(sizes) {
        let dir = TempDir::new().expect("makes a directory");
        lived_in(dir.path());
        for _ in 0..4 {
            let said = limited(dir.path(), &limit);
            refused += usize::from(said.contains("refused: "));
        }
        assert_eq!(asides(dir.path()), Vec::<String>::new(), "{limit}");
        let loaded = open(dir.path(), "boot-1").expect("opens").loaded;
        assert_eq!(
            (loaded.leases.len(), loaded.damage.len()),
            (20, 0),
            "{limit}"
        );
    }
    assert!(
        refused > 10,
        "only {refused} starts were refused: do the limits bite?"
    );
}

/// The first copy has the leases; those that follow it are of empty databases.
#[test]
fn the_newest_copy_with_leases_is_kept() {
    let dir = TempDir::new().expect("makes a directory");
    lived_in(dir.path());
    let break_it = || {
        let file = dir.path().join("db/db");
        fs::remove_file(&file).expect("removes");
        fs::create_dir(&file).expect("makes");
    };
    for _ in 0..6 {
        break_it();
        let damage = open(dir.path(), "boot-1").expect("opens").loaded.damage;
        assert!(
            damage.iter().any(|text| text.contains("damaged-")),
            "{damage:?}"
        );
    }
    assert_eq!(
        asides(dir.path()),
        ["damaged-1", "damaged-4", "damaged-5", "damaged-6"]
    );
    // Once it has leases, a newer one is the one that matters.
    let mut opened = open(dir.path(), "boot-1").expect("opens");
    opened
        .store
        .commit(&[Write::Lease(lease(1))])
        .expect("commits");
    drop(opened);
    for _ in 0..4 {
        break_it();
        open(dir.path(), "boot-1").expect("opens");
    }
    assert_eq!(
        asides(dir.path()),
        ["damaged-10", "damaged-7", "damaged-8", "damaged-9"]
    );
    let mut opened = open(dir.path(), "boot-1").expect("opens");
    let gone = opened.store.commit(&[Write::NoLease(key(1))]);
    gone.expect("commits");
}

/// Records name pods and their addresses.
#[test]
fn nobody_else_reads_the_state() {
    let dir = TempDir::new().expect("makes a directory");
    lived_in(dir.path());
    let mode = |path: &Path| fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    let open_up = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("sets");
    };
    open_up(dir.path(), 0o755);
    open_up(&dir.path().join("db"), 0o755);
    files(dir.path())
        .iter()
        .for_each(|file| open_up(file, 0o644));
    open(dir.path(), "boot-1").expect("opens");
    assert_eq!(
        (mode(dir.path()), mode(&dir.path().join("db"))),
        (0o700, 0o700)
    );
    for file in files(dir.path()) {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}
