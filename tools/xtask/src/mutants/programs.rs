//! The programs that mistakes are played in: built once with all mistakes in them, and run one process each.

use crate::cargo;
use crate::error::TaskError;
use fleet_sim::mutants::{Suite, VARIABLE};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// All that mistakes are in. None of it links the AWS SDK.
const PACKAGES: [&str; 5] = [
    "fleet-sim",
    "ipam-core",
    "ipam-engine",
    "ipam-proto",
    "vpc-model",
];

/// Plays seeds: `tools/fleet-sim/src/bin/play-mutant.rs`.
const PLAYER: &str = "play-mutant";

/// What does not end in this time never does: a mistake may be a loop. On a quiet machine the longest suite takes
/// a quarter of it.
const DEADLINE: Duration = Duration::from_secs(180);

/// How often a process is looked after.
const LOOK: Duration = Duration::from_millis(10);

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It noticed nothing.
    Green,
    /// It noticed.
    Red {
        /// How many seeds that took, if seeds were played.
        seeds: Option<u64>,
        /// The promise that was broken, or the test that failed first.
        words: String,
    },
}

struct Test {
    program: PathBuf,
    /// The package's folder, where cargo runs its tests.
    folder: PathBuf,
}

/// See the module.
pub(super) struct Programs {
    player: PathBuf,
    /// By source below the workspace's root.
    tests: BTreeMap<String, Test>,
}

impl Programs {
    /// Builds them all, with cargo's progress.
    pub(super) fn build() -> Result<Self, TaskError> {
        let packages = PACKAGES.iter().flat_map(|name| ["--package", name]);
        let args = ["test", "--no-run", "--features", "fleet-sim/mutants"]
            .into_iter()
            .chain(["--message-format=json-render-diagnostics"])
            .chain(packages);
        let messages = cargo::messages(
            "tests with mistakes",
            cargo::cargo(args),
            &["--package", "fleet-sim"],
        )?;
        let root = cargo::root();
        let player = messages
            .iter()
            .filter(|m| m["target"]["name"] == PLAYER && m["profile"]["test"] != true)
            .find_map(|m| m["executable"].as_str());
        Ok(Self {
            player: player
                .map(PathBuf::from)
                .ok_or_else(|| TaskError::NotBuilt(PLAYER.into()))?,
            tests: messages.iter().filter_map(|m| read(m, &root)).collect(),
        })
    }

    /// Runs a suite, with a mistake or without.
    pub(super) fn play(
        &self,
        mistake: Option<&str>,
        suite: &Suite,
        within: u64,
    ) -> Result<End, TaskError> {
        let mut command = match suite {
            Suite::Seeds(pods) => {
                let from = pods.first_seed();
                let mut command = Command::new(&self.player);
                command.args([from, from + within].map(|seed| seed.to_string()));
                command
            }
            Suite::Tests(source) => {
                let test = self.tests.get(*source);
                let test = test.ok_or_else(|| TaskError::NotBuilt((*source).into()))?;
                let mut command = Command::new(&test.program);
                command
                    .current_dir(&test.folder)
                    .env("CARGO_MANIFEST_DIR", &test.folder)
                    // Searches begin from the same seed in every run, and leave nothing behind.
                    .env("PROPTEST_RNG_SEED", "20261121")
                    .env("PROPTEST_FAILURE_PERSISTENCE", "off");
                command
            }
        };
        match mistake {
            Some(name) => command.env(VARIABLE, name),
            None => command.env_remove(VARIABLE),
        };
        let (status, words) = finish(command)?;
        Ok(end(status, &words, suite))
    }
}

/// A test program, from one of cargo's messages.
fn read(message: &Value, root: &Path) -> Option<(String, Test)> {
    if message["profile"]["test"] != true {
        return None;
    }
    let source = Path::new(message["target"]["src_path"].as_str()?);
    let source = source.strip_prefix(root).unwrap_or(source);
    let test = Test {
        program: message["executable"].as_str()?.into(),
        folder: Path::new(message["manifest_path"].as_str()?)
            .parent()?
            .into(),
    };
    Some((source.display().to_string(), test))
}

/// Runs it to its end; no status if it had to be killed.
fn finish(mut command: Command) -> Result<(Option<ExitStatus>, String), TaskError> {
    let shown = cargo::typed(&command);
    let doing = || TaskError::io(format!("running `{shown}`"));
    let mut words = tempfile::tempfile().map_err(doing())?;
    command
        .stdin(Stdio::null())
        .stdout(words.try_clone().map_err(doing())?)
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(doing())?;
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().map_err(doing())? {
            Some(status) => break Some(status),
            None if begun.elapsed() > DEADLINE => {
                child.kill().map_err(doing())?;
                child.wait().map_err(doing())?;
                break None;
            }
            None => std::thread::sleep(LOOK),
        }
    };
    let mut bytes = Vec::new();
    words.seek(SeekFrom::Start(0)).map_err(doing())?;
    words.read_to_end(&mut bytes).map_err(doing())?;
    Ok((status, String::from_utf8_lossy(&bytes).into_owned()))
}

fn end(status: Option<ExitStatus>, words: &str, suite: &Suite) -> End {
    let Some(status) = status else {
        let words = format!("it did not end within {} s", DEADLINE.as_secs());
        return End::Red { seeds: None, words };
    };
    if status.success() {
        return End::Green;
    }
    match suite {
        Suite::Seeds(pods) => {
            let told = words.lines().find_map(|line| line.strip_prefix("red "));
            let told = told.and_then(|line| line.split_once(' '));
            let seed = told.and_then(|(seed, _)| seed.parse::<u64>().ok());
            End::Red {
                seeds: seed.map(|seed| seed + 1 - pods.first_seed()),
                words: told.map_or_else(|| status.to_string(), |(_, promise)| promise.to_owned()),
            }
        }
        Suite::Tests(_) => {
            let failed = |line: &&str| line.starts_with("test ") && line.ends_with("FAILED");
            let first = words.lines().find(failed);
            End::Red {
                seeds: None,
                words: first.map_or_else(|| status.to_string(), str::to_owned),
            }
        }
    }
}
