//! Builds the programs of `tests/runtimes`: containerd, its shim, and the kubelet's part of CRI, from the Go
//! module there with its lock (`go.sum`), into the target folder. runc is the distribution's.

use super::golang::{GoPrograms, Module};
use super::step::Outcome;
use crate::error::TaskError;
use crate::programs;

/// How skips begin that are right where there is no Go or no way to its modules, no runc, or no root.
pub(super) const NO_GO: &str = "a container runtime needs Go 1.26 or newer and its modules";
pub(super) const NO_RUNC: &str = "a container runtime needs runc";
pub(super) const NO_ROOT: &str = "containerd needs root";

const MODULE: Module = Module {
    folder: "tests/runtimes",
    bin: "runtimes/bin",
    no_go: NO_GO,
    words: "containerd (two minutes at first)",
    packages: &[
        ".",
        "./pause",
        "github.com/containerd/containerd/v2/cmd/containerd",
        "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2",
    ],
};

/// Builds them, where they can be used.
///
/// # Errors
/// The modules are there, and can't be compiled.
pub(super) fn set_up(made: &mut Option<GoPrograms>) -> Result<Outcome, TaskError> {
    let programs = match unusable() {
        Some(reason) => GoPrograms::Skipped(reason),
        None => MODULE.build()?,
    };
    Ok(made.insert(programs).outcome())
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
