//! The programs of `tests/chains`: a runtime on libcni, the reference plugins, and a stand-in for Cilium's.

use super::golang::{GoPrograms, Module};
use super::step::Outcome;
use crate::error::TaskError;

/// How a skip begins that is right on a machine without Go, or without a way to its modules.
pub(super) const NO_GO: &str = "chains of real plugins need Go 1.25 or newer and its modules";

const MODULE: Module = Module {
    folder: "tests/chains",
    bin: "chains/bin",
    no_go: NO_GO,
    words: "libcni's and the reference plugins' programs (a minute at first)",
    packages: &[
        ".",
        "./cilium-cni",
        "github.com/containernetworking/plugins/plugins/main/loopback",
        "github.com/containernetworking/plugins/plugins/meta/bandwidth",
        "github.com/containernetworking/plugins/plugins/meta/firewall",
        "github.com/containernetworking/plugins/plugins/meta/portmap",
        "github.com/containernetworking/plugins/plugins/meta/tuning",
    ],
};

/// Builds them.
///
/// # Errors
/// The modules are there, and can't be compiled.
pub(super) fn set_up(made: &mut Option<GoPrograms>) -> Result<Outcome, TaskError> {
    Ok(made.insert(MODULE.build()?).outcome())
}
