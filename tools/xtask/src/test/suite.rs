//! Every test program of the workspace, real-kernel tests included, several side by side, with the
//! programs that they start.
//!
//! Cargo builds them and says where they are; they are run from here, since cargo would run one after
//! the other, and most of them wait: for a cooldown, a refused call's next try, a killed daemon.

mod lanes;

use super::chains::Chains;
use super::localstack::LocalStack;
use super::output::Report;
use super::runtimes::Runtimes;
use super::step::Outcome;
use crate::cargo;
use crate::error::TaskError;
use lanes::Job;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Programs under test; `None` if one could not be built, which is a failure already.
#[derive(Debug)]
pub(super) struct Programs {
    pub(super) daemon: Option<PathBuf>,
    pub(super) plugin: Option<PathBuf>,
    pub(super) floor: Option<PathBuf>,
    /// A judge that we did not write.
    pub(super) localstack: Option<LocalStack>,
    /// Other projects' plugins, and a runtime on libcni.
    pub(super) chains: Option<Chains>,
    /// A container runtime.
    pub(super) runtimes: Option<Runtimes>,
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
            chains.tell(command);
        }
        if let Some(runtimes) = &self.runtimes {
            runtimes.tell(command);
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
}

/// Compiles every test, with cargo's progress.
pub(super) fn build(built: &mut Vec<Built>) -> Result<Outcome, TaskError> {
    let messages = cargo::messages(cargo::cargo([
        "test",
        "--workspace",
        "--no-run",
        "--message-format=json-render-diagnostics",
    ]))?;
    let root = cargo::root();
    built.extend(messages.iter().filter_map(|m| Built::read(m, &root)));
    Ok(Outcome::passed())
}

/// Runs every test: a line for each test program as it ends, and all of a failed one's words.
pub(super) fn run(built: &[Built], programs: &Programs) -> Result<Outcome, TaskError> {
    let mut docs = cargo::cargo(["test", "--workspace", "--doc", "--no-fail-fast"]);
    programs.tell(&mut docs);
    let mut jobs = vec![Job::new("doc tests", docs)];
    for test in built {
        let mut command = Command::new(&test.program);
        command
            .current_dir(&test.folder)
            .env("CARGO_MANIFEST_DIR", &test.folder);
        programs.tell(&mut command);
        jobs.push(Job::new(&test.name, command));
    }
    let mut report = Report::default();
    lanes::run(jobs, &cargo::target()?, |ended| {
        report.program(&ended.name, ended.took, &ended.words, ended.well);
    })?;
    Ok(report.end())
}
