//! `cargo xtask test --cluster`: the tests with a kubelet and its API server, which are built first, with etcd,
//! from the Go module in `tests/runtimes/cluster` with its lock (`go.sum`), into the target folder.
//!
//! That takes minutes, and a gigabyte of Go's caches, the first time: no other command does it.

use super::golang::{self, GoPrograms, go};
use super::runtimes;
use super::step::{Outcome, Runner};
use super::suite;
use crate::cargo;
use crate::error::{TaskError, Verdict};
use crate::plugin;
use crate::programs;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How the skip of these tests begins in a run of all others.
pub(super) const NOT_ASKED: &str = "a Kubernetes control plane takes minutes to build";

/// Which tests are meant.
const PROGRAM: [&str; 2] = ["--test", "runtimes"];
const NAMES: &str = "cluster_";

const VERSION: &str = "k8s.io/component-base/version";
/// The programs' names, and where they are.
const COMMANDS: [(&str, &str); 4] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kubelet", "k8s.io/kubernetes/cmd/kubelet"),
    ("cluster", "."),
];

/// The folder of the programs.
#[derive(Clone, Debug)]
pub(super) struct Cluster(PathBuf);

impl Cluster {
    /// Tells tests, in the variable that `tests/runtimes/cluster` reads.
    pub(super) fn tell(&self, command: &mut Command) {
        command.env("IPAMD_CLUSTER_BIN", &self.0);
    }
}

/// Builds what these tests need and runs them; a skip is a failure.
///
/// # Errors
/// A program of the system can't be had.
pub(super) fn run() -> Result<Verdict, TaskError> {
    programs::ensure(&[programs::NFT, programs::IP])?;
    let mut runner = Runner::new();
    let daemon = runner.step_with("build ipamd", cargo::build_daemon);
    let plugin = runner.step_with("build ipamd-cni", plugin::build);
    let mut runtimes = None;
    runner.step("container runtime", || {
        let outcome = runtimes::set_up(&mut runtimes)?;
        match &runtimes {
            Some(GoPrograms::Skipped(reason)) => Ok(Outcome::failed(reason.clone())),
            _ => Ok(outcome),
        }
    });
    let cluster = runner.step_with("control plane", build);
    let ready = daemon.is_some() && plugin.is_some() && cluster.is_some();
    let programs = suite::Programs {
        daemon,
        plugin,
        runtimes,
        cluster,
        ..suite::Programs::default()
    };
    if ready {
        let mut built = Vec::new();
        runner.step("build tests", || suite::build(&mut built, &PROGRAM));
        runner.step("tests", || suite::run_named(&built, &programs, NAMES));
    }
    Ok(Verdict::of(runner.summary(&[])))
}

fn build() -> Result<Cluster, TaskError> {
    let module = cargo::root().join("tests/runtimes/cluster");
    let bin = golang::folder("cluster/bin")?;
    eprintln!(
        "   building etcd, kube-apiserver and kubelet into {} (seven minutes at first)",
        bin.display()
    );
    // By the lock: a module whose content is not what it says is refused.
    cargo::output(go(&module, &["mod", "download"]))?;
    let flags = format!("-s -w {}", version_flags(&version(&module)?));
    for (name, from) in COMMANDS {
        let mut build = go(&module, &["build", "-trimpath", "-ldflags", &flags, "-o"]);
        build.arg(bin.join(name)).arg(from);
        cargo::output(build)?;
    }
    Ok(Cluster(bin))
}

/// Kubernetes' version in the lock: `v1.36.3`.
fn version(module: &Path) -> Result<String, TaskError> {
    let text = cargo::output(go(module, &["list", "-m", "-json", "k8s.io/kubernetes"]))?;
    let listed: Value = serde_json::from_str(&text).map_err(|source| TaskError::Json {
        what: "go list".into(),
        source,
    })?;
    Ok(listed["Version"].as_str().unwrap_or_default().to_owned())
}

/// A program that was not built by Kubernetes' own scripts calls itself v0.0.0 otherwise.
fn version_flags(version: &str) -> String {
    let mut parts = version.trim_start_matches('v').split('.');
    let mut part = || parts.next().unwrap_or_default().to_owned();
    let (major, minor) = (part(), part());
    format!(
        "-X {VERSION}.gitVersion={version} -X {VERSION}.gitMajor={major} -X {VERSION}.gitMinor={minor}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_told_their_version() {
        let flags = version_flags("v1.36.3");
        for wanted in ["gitVersion=v1.36.3 ", "gitMajor=1 ", "gitMinor=36"] {
            assert!(flags.contains(wanted), "{flags}");
        }
    }
}
