//! Runs a cargo build for somebody who waits: says what is built and why that takes long, then how
//! far it is.
//!
//! On a terminal cargo's own progress bar does the latter. Elsewhere (a log, CI) cargo prints a name for
//! each crate and never how many there are; there a line comes every 15 s instead. A build in which
//! nothing is to be done says nothing.
//!
//! Knows what cargo prints, and no program of the workspace.
#![forbid(unsafe_code)]

mod crates;
mod progress;
pub mod sparing;

pub use progress::Build;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's root: two levels above this package.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_owned()
}

/// A cargo command in the workspace's root, by the same cargo that runs us.
pub fn cargo<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root()).args(args);
    // Set by the `cargo run` around us for one package; other packages' build scripts would see them
    // and be built again.
    for (name, _) in std::env::vars_os() {
        let ours = name.to_str().is_some_and(|n| {
            n.starts_with("CARGO_PKG_") || n.starts_with("CARGO_MANIFEST_") || n == "CARGO_BIN_NAME"
        });
        if ours {
            command.env_remove(name);
        }
    }
    command
}

/// The package that has a program.
pub fn package(program: &str) -> &str {
    match program {
        "ipamd-cni" => "cni-shim",
        same => same,
    }
}

/// Name and path of the program that one of cargo's messages tells of.
pub fn program(message: &str) -> Option<(&str, &str)> {
    let path = crates::text(message, "executable")?;
    Some((path.rsplit('/').next()?, path))
}
