//! `cargo test` over the whole workspace, real-kernel tests included, with the programs that they
//! start.

use super::chains::Chains;
use super::localstack::LocalStack;
use super::output::Reader;
use super::runtimes::Runtimes;
use super::step::Outcome;
use crate::cargo;
use crate::error::TaskError;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// All tests together; a hung one must not hold a machine for ever.
const DEADLINE: Duration = Duration::from_secs(40 * 60);

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
    }
}

/// Where proptest's searches, and ours, take their seed from.
const SEED: &str = "PROPTEST_RNG_SEED";

fn cargo_test(programs: &Programs, args: &[&str]) -> Command {
    let mut command = cargo::cargo(["test", "--workspace", "--no-fail-fast"]);
    programs.tell(command.args(args));
    // The searches for odd input begin from the same seed in every run, so that a red one is about
    // the change; whoever searches on sets another.
    if std::env::var_os(SEED).is_none() {
        command.env(SEED, "20261121");
    }
    command
}

/// Compiles every test, with cargo's progress.
pub(super) fn build(programs: &Programs) -> Result<Outcome, TaskError> {
    cargo::run(cargo_test(programs, &["--no-run"])).map(|()| Outcome::passed())
}

/// Runs every test: a line for each test program, and all of a failed one's words.
pub(super) fn run(programs: &Programs) -> Result<Outcome, TaskError> {
    let mut command = cargo_test(programs, &[]);
    let doing = || TaskError::io("starting `cargo test`");
    // One pipe for both streams: cargo names the test program on stderr, tests speak on stdout.
    let (reading, writing) = std::io::pipe().map_err(doing())?;
    command
        .stdin(Stdio::null())
        .stdout(writing.try_clone().map_err(doing())?)
        .stderr(writing)
        .process_group(0);
    let mut child = command.spawn().map_err(doing())?;
    // The command holds the pipe's writing ends; the reader must see the end when cargo ends.
    drop(command);
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let (done, watched) = channel::<()>();
    let watchdog = std::thread::spawn(move || {
        if watched.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout) {
            eprintln!(
                "   tests have run for {} minutes: ending them",
                DEADLINE.as_secs() / 60
            );
            // It may just have ended by itself.
            let _ = killpg(group, Signal::SIGKILL);
        }
    });
    let mut reader = Reader::default();
    for line in BufReader::new(reading).split(b'\n') {
        let line = line.map_err(TaskError::io("reading what tests say"))?;
        reader.line(String::from_utf8_lossy(&line).trim_end());
    }
    let status = child
        .wait()
        .map_err(TaskError::io("waiting for `cargo test`"))?;
    drop(done);
    // Its only way to fail is a panic, which it has said.
    let _ = watchdog.join();
    Ok(reader.end(status.success()))
}
