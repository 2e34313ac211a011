//! `cargo xtask test`: everything that must hold before a change is handed in, in one command.
//!
//! Owns the order of the steps and the summary. Each step says what it checked; nothing is passed
//! over in silence: what is skipped is listed with its reason, and a skip that [`EXPECTED_SKIPS`] does
//! not name is a failure.

mod arrows;
mod chains;
mod cluster;
mod golang;
mod localstack;
mod output;
mod runtimes;
mod step;
mod suite;
mod tidy;

use crate::cargo;
use crate::error::{TaskError, Verdict};
use crate::plugin;
use crate::programs;
use std::process::{Command, Stdio};
pub(crate) use step::Outcome;
use step::Runner;

/// Skips that are right, by what they contain, and why. On a machine with Rust, its components and a
/// Python everything runs.
const EXPECTED_SKIPS: [(&str, &str); 7] = [
    (
        localstack::NO_PYTHON,
        "an ordinary user can't install one; nothing but these tests needs it",
    ),
    (
        "matrix_beside_ipvs",
        "a kernel without IPVS can't translate by it",
    ),
    (
        chains::NO_GO,
        "nothing but the tests with other projects' plugins needs it",
    ),
    (
        runtimes::NO_GO,
        "nothing but the tests with a container runtime needs it",
    ),
    (runtimes::NO_RUNC, "it can't be built from Rust"),
    (
        runtimes::NO_ROOT,
        "all else is tested with a runtime on libcni, as anyone",
    ),
    (
        cluster::NOT_ASKED,
        "`cargo xtask test --cluster` builds it and runs them",
    ),
];

/// What to run.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Only the tests with a kubelet and its API server, which take minutes to build.
    #[arg(long)]
    cluster: bool,
}

/// Runs all steps; goes on after a failed one, so that one run shows everything.
///
/// # Errors
/// Something that the steps need (a program, cargo itself) can't be had.
pub(crate) fn run(options: &Options) -> Result<Verdict, TaskError> {
    if options.cluster {
        return cluster::run();
    }
    let [nft, legacy] = programs::IPTABLES;
    programs::ensure(&[programs::NFT, programs::IP, nft, legacy])?;
    let mut runner = Runner::new();
    runner.step("formatting", || {
        component("fmt", &["fmt", "--all", "--", "--check"])
    });
    runner.step("architecture", arrows::check);
    runner.step("tidiness", tidy::check);
    // Beside the compilers: they wait for the network, and rustc for one core while it reads the AWS SDK.
    let set_up = Runner::beside(|runner| {
        let (mut localstack, mut chains, mut runtimes) = (None, None, None);
        runner.step("LocalStack", || localstack::set_up(&mut localstack));
        runner.step("CNI chains", || chains::set_up(&mut chains));
        runner.step("container runtime", || runtimes::set_up(&mut runtimes));
        (localstack, chains, runtimes)
    });
    runner.step("clippy", || {
        let features = ["--features", "cni-shim/floor"];
        let all = ["clippy", "--workspace", "--all-targets"];
        component(
            "clippy",
            &[&all[..], &features, &["--", "--deny", "warnings"]].concat(),
        )
    });
    let daemon = runner.step_with("build ipamd", cargo::build_daemon);
    let plugin = runner.step_with("build ipamd-cni", plugin::build);
    let floor = runner.step_with("build cni-floor", plugin::build_floor);
    if let Some(daemon) = &daemon {
        runner.step("README", || tidy::readme(daemon));
    }
    let (localstack, chains, runtimes) = runner.join(set_up).unwrap_or_default();
    let programs = suite::Programs {
        daemon,
        plugin,
        floor,
        localstack,
        chains,
        runtimes,
        cluster: None,
    };
    let mut built = Vec::new();
    runner.step("build tests", || suite::build(&mut built, &[]));
    runner.step("tests", || suite::run(&built, &programs));
    runner.step("simulation", crate::sim::check);
    runner.step("deliberate mistakes", crate::mutants::check);
    Ok(Verdict::of(runner.summary(&EXPECTED_SKIPS)))
}

/// A step of a cargo component that a minimal toolchain may lack.
fn component(name: &str, args: &[&str]) -> Result<Outcome, TaskError> {
    let there = Command::new("cargo")
        .args([name, "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !there {
        return Ok(Outcome::failed(format!(
            "cargo {name} is not installed: `rustup component add {}`",
            if name == "fmt" { "rustfmt" } else { name }
        )));
    }
    match cargo::run(cargo::cargo(args)) {
        Ok(()) => Ok(Outcome::passed()),
        Err(e @ TaskError::Command { .. }) => Ok(Outcome::failed(e.to_string())),
        Err(e) => Err(e),
    }
}
