//! Builds programs of a Go module of ours with its lock (`go.sum`) into the target folder.
//!
//! Go keeps modules and compiled packages in its own caches: a second run takes a second or two.

use super::step::Outcome;
use crate::cargo;
use crate::error::TaskError;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to build.
#[derive(Clone, Copy, Debug)]
pub(super) struct Module {
    /// Below the workspace's root.
    pub(super) folder: &'static str,
    /// Below the target folder.
    pub(super) bin: &'static str,
    /// How a skip begins where there is no Go, or no way to the modules.
    pub(super) no_go: &'static str,
    /// For whoever waits: what, and how long at first.
    pub(super) words: &'static str,
    /// The packages.
    pub(super) packages: &'static [&'static str],
}

/// The programs, or why there are none.
#[derive(Clone, Debug)]
pub(super) enum GoPrograms {
    /// In this folder.
    Ready(PathBuf),
    /// Tests that need them are skipped for this reason.
    Skipped(String),
}

impl GoPrograms {
    /// Tells tests, in the variables `NAME_BIN` and `NAME_SKIP`.
    pub(super) fn tell(&self, name: &str, command: &mut Command) {
        let bin = format!("{name}_BIN");
        match self {
            Self::Ready(folder) => command.env(bin, folder),
            Self::Skipped(reason) => command.env_remove(bin).env(format!("{name}_SKIP"), reason),
        };
    }

    /// A skip is told by the tests themselves.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::Ready(_) => Outcome::passed(),
            Self::Skipped(_) => Outcome::default(),
        }
    }
}

impl Module {
    /// Builds the programs.
    ///
    /// # Errors
    /// The modules are there, and can't be compiled.
    pub(super) fn build(&self) -> Result<GoPrograms, TaskError> {
        let module = cargo::root().join(self.folder);
        // By the lock: a module whose content is not what it says is refused.
        if let Err(error) = cargo::output(go(&module, &["mod", "download"])) {
            let words = error.to_string();
            let last = words.lines().rfind(|line| !line.trim().is_empty());
            let reason = format!("{}: {}", self.no_go, last.unwrap_or_default().trim());
            return Ok(GoPrograms::Skipped(reason));
        }
        let bin = folder(self.bin)?;
        eprintln!("   building {} into {}", self.words, bin.display());
        let mut build = go(&module, &["build", "-trimpath", "-ldflags", "-s -w", "-o"]);
        cargo::output({
            build.arg(&bin).args(self.packages);
            build
        })?;
        Ok(GoPrograms::Ready(bin))
    }
}

/// A folder for programs, below the target folder.
pub(super) fn folder(name: &str) -> Result<PathBuf, TaskError> {
    let bin = cargo::target()?.join(name);
    std::fs::create_dir_all(&bin).map_err(TaskError::io(format!("making {}", bin.display())))?;
    Ok(bin)
}

/// Go, in the module's folder, without a C compiler.
pub(super) fn go(module: &Path, args: &[&str]) -> Command {
    let mut go = Command::new("go");
    go.args(args).current_dir(module).env("CGO_ENABLED", "0");
    go
}
