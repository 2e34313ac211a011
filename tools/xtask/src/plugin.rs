//! Builds the plugin as it is shipped: small, and quick to start, since a runtime starts it for every pod.
//!
//! Statically linked, for the dynamic loader is a third of a start. With musl where there is Rust's
//! library for it (gotten once by rustup): glibc asks the processor for its caches some 80 times
//! before `main`, by an instruction (CPUID) that a virtual machine hands to its hypervisor each time.

use crate::cargo;
use crate::error::TaskError;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How rustup may take for a download of 20 MB, in the words of timeout(1).
const DOWNLOAD: &str = "120s";

/// How a program is linked.
enum Linkage {
    /// Statically, for this target.
    Static(String),
    /// As the machine links.
    Ordinary,
}

/// The plugin.
///
/// # Errors
/// Cargo can't build it.
pub(crate) fn build() -> Result<PathBuf, TaskError> {
    program("ipamd-cni", &["--bin", "ipamd-cni"])
}

/// The bare process with a pod's netlink messages and nothing else.
///
/// # Errors
/// Cargo can't build it.
pub(crate) fn build_floor() -> Result<PathBuf, TaskError> {
    let args = ["--features", "floor", "--bin", "cni-floor"];
    program("cni-floor", &args)
}

fn program(name: &str, args: &[&str]) -> Result<PathBuf, TaskError> {
    let mut command = cargo::building(&["-p", "cni-shim", "--profile", "shim"]);
    command.args(args);
    let mut selection = vec!["--package", "cni-shim", "--edges", "normal,build"];
    let linkage = linkage();
    if let Linkage::Static(target) = &linkage {
        let flags = format!(
            "CARGO_TARGET_{}_RUSTFLAGS",
            target.to_uppercase().replace('-', "_")
        );
        // With a target named, the flags are not those of build scripts and procedural macros.
        command.args(["--target", target]).env(
            flags,
            "-C target-feature=+crt-static -C relocation-model=static",
        );
        selection.extend(["--target", target]);
    }
    cargo::finish(name, command, &selection)
}

fn linkage() -> Linkage {
    let Some(gnu) = host().filter(|host| host.ends_with("-linux-gnu")) else {
        return Linkage::Ordinary;
    };
    let musl = gnu.replace("-gnu", "-musl");
    if has_library(&musl) || (get_library(&musl) && has_library(&musl)) {
        Linkage::Static(musl)
    } else if has_static_glibc() {
        Linkage::Static(gnu)
    } else {
        Linkage::Ordinary
    }
}

/// The target that rustc builds for of itself.
fn host() -> Option<String> {
    let text = said(Command::new("rustc").arg("-vV"))?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "))?;
    Some(host.to_owned())
}

/// Whether Rust's standard library for a target is there.
fn has_library(target: &str) -> bool {
    let dir = said(Command::new("rustc").args(["--print", "target-libdir", "--target", target]));
    dir.is_some_and(|dir| Path::new(dir.trim()).is_dir())
}

fn get_library(target: &str) -> bool {
    eprintln!("getting Rust's library for {target} (rustup, once)");
    let rustup = said(Command::new("timeout").args([DOWNLOAD, "rustup", "target", "add", target]));
    if rustup.is_none() {
        eprintln!("  rustup can't: linking with glibc, which starts 0.1 to 0.3 ms later");
    }
    rustup.is_some()
}

/// The C compiler prints a full path if it finds the library, and the bare name if it does not.
fn has_static_glibc() -> bool {
    said(Command::new("cc").arg("-print-file-name=libc.a"))
        .is_some_and(|path| path.starts_with('/'))
}

/// What a command in the workspace's root prints, if it succeeds.
fn said(command: &mut Command) -> Option<String> {
    let output = command.current_dir(cargo::root()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then_some(text)
}
