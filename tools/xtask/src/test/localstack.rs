//! Sets LocalStack up for the tests of `tests/localstack`: a Python environment below the target
//! folder, with exactly the packages of the lock file there.
//!
//! It is made once and kept until the lock, the Python or its place changes. Where packages come
//! from is pip's own business: its configuration and environment are left alone. Starting LocalStack
//! is the tests'.

use super::step::Outcome;
use crate::cargo;
use crate::error::TaskError;
use crate::programs;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Named, with the versions that the lock has files for.
const PYTHONS: [&str; 4] = ["python3", "python3.13", "python3.12", "python3.11"];
const VERSIONS: [&str; 3] = ["3.11", "3.12", "3.13"];
/// Of Debian and its children.
const PACKAGES: [&str; 2] = ["python3", "python3-venv"];
/// Prints the version, if environments can be made with it.
const PROBE: &str = "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])";

/// How a skip begins that is right on a machine without a fitting Python.
pub(super) const NO_PYTHON: &str = "LocalStack needs Python 3.11 to 3.13";

/// LocalStack, ready to be started, or why it can't be.
#[derive(Clone, Debug)]
pub(super) enum LocalStack {
    /// The environment, and a folder for what LocalStack may keep between runs.
    Ready { venv: PathBuf, cache: PathBuf },
    /// Tests that need it are skipped for this reason.
    Skipped(String),
}

impl LocalStack {
    /// Tells tests, in the variables that `tests/localstack` reads.
    pub(super) fn tell(&self, command: &mut Command) {
        match self {
            Self::Ready { venv, cache } => command
                .env("IPAMD_LOCALSTACK_VENV", venv)
                .env("IPAMD_LOCALSTACK_CACHE", cache)
                .env_remove("IPAMD_LOCALSTACK_SKIP"),
            Self::Skipped(reason) => command.env("IPAMD_LOCALSTACK_SKIP", reason),
        };
    }
}

/// Makes the environment, or finds it made.
///
/// # Errors
/// Packages can't be had, or not as the lock names them.
pub(super) fn set_up(made: &mut Option<LocalStack>) -> Result<Outcome, TaskError> {
    let Some((python, version)) = python()? else {
        let reason = format!("{NO_PYTHON} with its venv module, and there is none");
        *made = Some(LocalStack::Skipped(reason));
        return Ok(Outcome::default());
    };
    let home = cargo::target()?.join("localstack");
    let (venv, cache) = (home.join("venv"), home.join("cache"));
    fs::create_dir_all(&cache).map_err(TaskError::io(format!("making {}", cache.display())))?;
    let lock = cargo::root().join("tests/localstack/requirements.lock");
    let wanted =
        fs::read_to_string(&lock).map_err(TaskError::io(format!("reading {}", lock.display())))?;
    let wanted = format!("# Python {version} in {}\n{wanted}", venv.display());
    let stamp = home.join("venv.stamp");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && venv.is_dir() {
        eprintln!("   as it was made before, in {}", venv.display());
    } else {
        make(&python, &version, &venv, &lock, &stamp)?;
        write(&stamp, &wanted)?;
    }
    *made = Some(LocalStack::Ready { venv, cache });
    Ok(Outcome::passed())
}

fn make(
    python: &str,
    version: &str,
    venv: &Path,
    lock: &Path,
    stamp: &Path,
) -> Result<(), TaskError> {
    eprintln!(
        "   Python {version}: installing what tests/localstack/requirements.lock names into {} \
         (about half a minute, 220 MB)",
        venv.display()
    );
    // Without its stamp, an environment that is left half made is made anew.
    for (old, gone) in [
        (stamp, fs::remove_file(stamp)),
        (venv, fs::remove_dir_all(venv)),
    ] {
        match gone {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(TaskError::io(format!("removing {}", old.display()))(e));
            }
            _ => {}
        }
    }
    let mut create = Command::new(python);
    create.args(["-m", "venv"]).arg(venv);
    cargo::output(create)?;
    let mut install = Command::new(venv.join("bin/python"));
    install
        .args(["-m", "pip", "install", "--quiet", "--no-input"])
        .args(["--disable-pip-version-check", "--no-deps"])
        .args([
            "--require-hashes",
            "--only-binary",
            ":all:",
            "--requirement",
        ])
        .arg(lock);
    cargo::output(install).map(drop)
}

fn write(file: &Path, text: &str) -> Result<(), TaskError> {
    fs::write(file, text).map_err(TaskError::io(format!("writing {}", file.display())))
}

/// A Python that will do, and its version; root installs one if there is none.
fn python() -> Result<Option<(String, String)>, TaskError> {
    if let Some(found) = find_python() {
        return Ok(Some(found));
    }
    if !nix::unistd::geteuid().is_root() || !programs::has_apt() {
        return Ok(None);
    }
    eprintln!("   installing {} (apt-get)", PACKAGES.join(", "));
    programs::install(&PACKAGES)?;
    Ok(find_python())
}

fn find_python() -> Option<(String, String)> {
    let version = |python: &&str| {
        let mut probe = Command::new(python);
        probe.args(["-c", PROBE]);
        let version = cargo::output(probe).ok()?.trim().to_owned();
        VERSIONS
            .contains(&version.as_str())
            .then(|| ((*python).to_owned(), version))
    };
    PYTHONS.iter().find_map(version)
}

#[cfg(test)]
mod tests {

    /// Every package by version and hash, and no word of where it comes from.
    #[test]
    fn the_lock_pins_everything_and_names_no_place() {
        let lock = include_str!("../../../../tests/localstack/requirements.lock");
        let words = |line: &str| line.trim_end_matches('\\').trim().to_owned();
        let mut packages = 0;
        let mut hashes = Some(1);
        for line in lock.lines() {
            if let Some(hash) = words(line).strip_prefix("--hash=sha256:") {
                assert!(hash.len() == 64, "{line}");
                hashes = hashes.map(|n| n + 1);
            } else {
                assert!(hashes > Some(0), "no hash before {line}");
                let (name, version) = words(line).split_once("==").map_or_else(
                    || panic!("neither package nor hash: {line}"),
                    |(n, v)| (n.to_owned(), v.to_owned()),
                );
                assert!(!name.is_empty() && !version.contains(' '), "{line}");
                (packages, hashes) = (packages + 1, Some(0));
            }
        }
        assert!(hashes > Some(0) && packages > 60, "{packages} packages");
        assert!(lock.contains("localstack-core==4.14.0"));
        assert!(!lock.contains("://") && !lock.contains("index"));
    }
}
