//! Every test program of the workspace, real-kernel tests included, several side by side, with the
//! programs that they start.
//!
//! Cargo builds them and says where they are; they are run from here, since cargo would run one after
//! the other, and most of them wait: for a cooldown, a refused call's next try, a killed daemon.

mod lanes;

use super::cluster::Cluster;
use super::golang::GoPrograms;
use super::localstack::LocalStack;
use super::output::Report;
use super::step::Outcome;
use crate::cargo;
use crate::error::TaskError;
use lanes::Job;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs under test; `None` if one could not be built, which is a failure already.
#[derive(Debug, Default)]
pub(super) struct Programs {
    pub(super) daemon: Option<PathBuf>,
    pub(super) plugin: Option<PathBuf>,
    pub(super) floor: Option<PathBuf>,
    /// A judge that we did not write.
    pub(super) localstack: Option<LocalStack>,
    /// Other projects' plugins, and a runtime on libcni.
    pub(super) chains: Option<GoPrograms>,
    /// A container runtime.
    pub(super) runtimes: Option<GoPrograms>,
    /// Kubernetes.
    pub(super) cluster: Option<Cluster>,
}

impl Programs {
    /// Tells tests where the programs are, in the variables that `lab` reads.
    fn tell(&self, command: &mut Command) {
        for (name, path) in [
            ("IPAMD_BIN", &self.daemon),
            ("IPAMD_CNI_BIN", &self.plugin),
            ("IPAMD_FLOOR_BIN", &self.floor),
        ] {
            match path {
                Some(path) => command.env(name, path),
                None => command.env_remove(name),
            };
        }
        if let Some(localstack) = &self.localstack {
            localstack.tell(command);
        }
        if let Some(chains) = &self.chains {
            chains.tell("IPAMD_CHAINS", command);
        }
        if let Some(runtimes) = &self.runtimes {
            runtimes.tell("IPAMD_RUNTIMES", command);
        }
        if let Some(cluster) = &self.cluster {
            cluster.tell(command);
        }
        // The searches for odd input begin from the same seed in every run, so that a red one is
        // about the change; whoever searches on sets another.
        if std::env::var_os(SEED).is_none() {
            command.env(SEED, "20261121");
        }
    }
}

/// Where proptest's searches, and ours, take their seed from.
const SEED: &str = "PROPTEST_RNG_SEED";

/// A test program that cargo has built.
#[derive(Debug)]
pub(super) struct Built {
    /// Its source below the workspace's root: `tests/crash.rs`.
    name: String,
    program: PathBuf,
    /// The package's folder: where cargo runs its tests.
    folder: PathBuf,
}

impl Built {
    /// From one of cargo's messages; `None` if it tells of something else.
    fn read(message: &Value, root: &Path) -> Option<Self> {
        if message["profile"]["test"] != true {
            return None;
        }
        let folder = Path::new(message["manifest_path"].as_str()?).parent()?;
        let source = Path::new(message["target"]["src_path"].as_str()?);
        let name = source.strip_prefix(root).unwrap_or(source);
        Some(Self {
            name: name.display().to_string(),
            program: message["executable"].as_str()?.into(),
            folder: folder.to_owned(),
        })
    }

    fn job(&self, name: &str, programs: &Programs) -> Job {
        let mut command = Command::new(&self.program);
        command
            .current_dir(&self.folder)
            .env("CARGO_MANIFEST_DIR", &self.folder);
        programs.tell(&mut command);
        Job::new(name, command)
    }
}

/// Compiles every test, or those that cargo's arguments `only` choose, with cargo's progress.
pub(super) fn build(built: &mut Vec<Built>, only: &[&str]) -> Result<Outcome, TaskError> {
    let all = ["test", "--workspace", "--no-run"];
    let format = "--message-format=json-render-diagnostics";
    let command = cargo::cargo([&all[..], &[format], only].concat());
    let selection: &[&str] = if only.is_empty() {
        &["--workspace"]
    } else {
        &["--package", "ipamd-tests"]
    };
    let messages = cargo::messages("tests", command, selection)?;
    let root = cargo::root();
    built.extend(messages.iter().filter_map(|m| Built::read(m, &root)));
    Ok(Outcome::passed())
}

/// Runs every test: a line for each test program as it ends, and all of a failed one's words.
pub(super) fn run(built: &[Built], programs: &Programs) -> Result<Outcome, TaskError> {
    let mut docs = cargo::cargo(["test", "--workspace", "--doc", "--no-fail-fast"]);
    programs.tell(&mut docs);
    let mut jobs = vec![Job::new("doc tests", docs)];
    jobs.extend(built.iter().map(|test| test.job(&test.name, programs)));
    finish(jobs)
}

/// Runs the tests whose names have `word` in them.
pub(super) fn run_named(
    built: &[Built],
    programs: &Programs,
    word: &str,
) -> Result<Outcome, TaskError> {
    let job = |test: &Built| {
        // Under a name of its own: the whole program takes another time.
        let mut job = test.job(&format!("{} {word}", test.name), programs);
        job.arg(word);
        job
    };
    finish(built.iter().map(job).collect())
}

fn finish(jobs: Vec<Job>) -> Result<Outcome, TaskError> {
    let mut report = Report::default();
    lanes::run(jobs, &cargo::target()?, |ended| {
        report.program(&ended.name, ended.took, &ended.words, ended.well);
    })?;
    Ok(report.end())
}
