//! Builds the programs of `tests/chains`: a runtime on libcni, and the reference plugins, from the Go
//! module there with its lock (`go.sum`), into the target folder.
//!
//! Go keeps modules and compiled packages in its own caches: a second run takes a second or two.

use super::step::Outcome;
use crate::cargo;
use crate::error::TaskError;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How a skip begins that is right on a machine without Go, or without a way to its modules.
pub(super) const NO_GO: &str = "chains of real plugins need Go 1.25 or newer and its modules";

/// What is built besides our own programs.
const PLUGINS: [&str; 5] = [
    "main/loopback",
    "meta/bandwidth",
    "meta/firewall",
    "meta/portmap",
    "meta/tuning",
];
const FROM: &str = "github.com/containernetworking/plugins/plugins";

/// The programs, or why there are none.
#[derive(Clone, Debug)]
pub(super) enum Chains {
    /// In this folder.
    Ready(PathBuf),
    /// Tests that need them are skipped for this reason.
    Skipped(String),
}

impl Chains {
    /// Tells tests, in the variables that `tests/chains` reads.
    pub(super) fn tell(&self, command: &mut Command) {
        match self {
            Self::Ready(bin) => command.env("IPAMD_CHAINS_BIN", bin),
            Self::Skipped(reason) => command
                .env_remove("IPAMD_CHAINS_BIN")
                .env("IPAMD_CHAINS_SKIP", reason),
        };
    }
}

/// Builds them.
///
/// # Errors
/// The modules are there, and can't be compiled.
pub(super) fn set_up(made: &mut Option<Chains>) -> Result<Outcome, TaskError> {
    let module = cargo::root().join("tests/chains");
    // By the lock: a module whose content is not what it says is refused.
    if let Err(error) = cargo::output(go(&module, &["mod", "download"])) {
        let words = error.to_string();
        let last = words.lines().rfind(|line| !line.trim().is_empty());
        let reason = format!("{NO_GO}: {}", last.unwrap_or_default().trim());
        *made = Some(Chains::Skipped(reason));
        return Ok(Outcome::default());
    }
    let bin = cargo::target()?.join("chains/bin");
    std::fs::create_dir_all(&bin).map_err(TaskError::io(format!("making {}", bin.display())))?;
    eprintln!(
        "   building libcni's and the reference plugins' programs into {} (a minute at first)",
        bin.display()
    );
    let mut build = go(&module, &["build", "-trimpath", "-o"]);
    build.arg(&bin).args([".", "./cilium-cni"]);
    build.args(PLUGINS.map(|plugin| format!("{FROM}/{plugin}")));
    cargo::output(build)?;
    *made = Some(Chains::Ready(bin));
    Ok(Outcome::passed())
}

/// Go, in the module's folder, without a C compiler.
pub(super) fn go(module: &Path, args: &[&str]) -> Command {
    let mut go = Command::new("go");
    go.args(args).current_dir(module).env("CGO_ENABLED", "0");
    go
}
