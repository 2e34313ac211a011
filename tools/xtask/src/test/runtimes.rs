//! Builds the programs of `tests/runtimes`: containerd, its shim, and the kubelet's part of CRI, from the Go
//! module there with its lock (`go.sum`), into the target folder. runc is the distribution's.

use super::chains::go;
use super::step::Outcome;
use crate::cargo;
use crate::error::TaskError;
use crate::programs;
use std::path::PathBuf;
use std::process::Command;

/// How skips begin that are right where there is no Go or no way to its modules, no runc, or no root.
pub(super) const NO_GO: &str = "a container runtime needs Go 1.26 or newer and its modules";
pub(super) const NO_RUNC: &str = "a container runtime needs runc";
pub(super) const NO_ROOT: &str = "containerd needs root";

/// What is built besides our own two.
const COMMANDS: [&str; 2] = ["containerd", "containerd-shim-runc-v2"];
const FROM: &str = "github.com/containerd/containerd/v2/cmd";

/// The programs, or why there are none.
#[derive(Clone, Debug)]
pub(super) enum Runtimes {
    /// In this folder.
    Ready(PathBuf),
    /// Tests that need them are skipped for this reason.
    Skipped(String),
}

impl Runtimes {
    /// Tells tests, in the variables that `tests/runtimes` reads.
    pub(super) fn tell(&self, command: &mut Command) {
        match self {
            Self::Ready(bin) => command.env("IPAMD_RUNTIMES_BIN", bin),
            Self::Skipped(reason) => command
                .env_remove("IPAMD_RUNTIMES_BIN")
                .env("IPAMD_RUNTIMES_SKIP", reason),
        };
    }
}

/// Builds them, where they can be used.
///
/// # Errors
/// The modules are there, and can't be compiled.
pub(super) fn set_up(made: &mut Option<Runtimes>) -> Result<Outcome, TaskError> {
    if let Some(reason) = unusable() {
        *made = Some(Runtimes::Skipped(reason));
        return Ok(Outcome::default());
    }
    let module = cargo::root().join("tests/runtimes");
    // By the lock: a module whose content is not what it says is refused.
    if let Err(error) = cargo::output(go(&module, &["mod", "download"])) {
        let words = error.to_string();
        let last = words.lines().rfind(|line| !line.trim().is_empty());
        let reason = format!("{NO_GO}: {}", last.unwrap_or_default().trim());
        *made = Some(Runtimes::Skipped(reason));
        return Ok(Outcome::default());
    }
    let bin = cargo::target()?.join("runtimes/bin");
    std::fs::create_dir_all(&bin).map_err(TaskError::io(format!("making {}", bin.display())))?;
    eprintln!(
        "   building containerd into {} (two minutes at first)",
        bin.display()
    );
    let mut build = go(&module, &["build", "-trimpath", "-ldflags", "-s -w", "-o"]);
    build.arg(&bin).args([".", "./pause"]);
    build.args(COMMANDS.map(|command| format!("{FROM}/{command}")));
    cargo::output(build)?;
    *made = Some(Runtimes::Ready(bin));
    Ok(Outcome::passed())
}

/// Why containers can't be run here.
fn unusable() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        return Some(format!("{NO_ROOT}: an ordinary user can't make cgroups"));
    }
    let found = || programs::on_path("runc");
    if found() {
        return None;
    }
    if !programs::has_apt() {
        return Some(format!("{NO_RUNC}, and there is no apt-get to install it"));
    }
    eprintln!("   runc missing: installing it (apt-get)");
    let failed = programs::install(&["runc"]).err();
    (!found()).then(|| match failed {
        Some(error) => format!("{NO_RUNC}: {error}"),
        None => format!("{NO_RUNC}, and its package brought none"),
    })
}
