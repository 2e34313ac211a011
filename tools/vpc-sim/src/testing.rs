//! A small runner for tests that need namespaces. The usual harness starts threads before any test,
//! and a process with threads can't leave its namespaces; so each test here is a process of its own
//! that isolates itself first, has a deadline, and takes everything along when it ends.
//!
//! In `Cargo.toml`: `[[test]] name = "kernel"` with `harness = false`; in `tests/kernel.rs`:
//!
//! ```no_run
//! use vpc_sim::testing::{Failure, Test, run};
//!
//! fn adds() -> Result<(), Failure> {
//!     if 1 + 1 != 2 {
//!         return Err("no".into());
//!     }
//!     Ok(())
//! }
//!
//! fn main() -> std::process::ExitCode {
//!     run(&[Test { name: "adds", run: adds }])
//! }
//! ```
//!
//! Arguments: words that a test's name must contain one of, `--exact`, `--list`, `--nocapture`;
//! others that the usual harness knows are accepted and do nothing.

use crate::isolate::isolate;
use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// A test may take so long, unless `VPC_SIM_TEST_SECONDS` says otherwise.
const DEADLINE: Duration = Duration::from_secs(120);
/// Says to the process that it is the one that runs the test.
const VARIABLE: &str = "VPC_SIM_TEST";
const SKIPPED: u8 = 77;

/// Why a test did not pass.
#[derive(Debug)]
pub enum Failure {
    /// It found something wrong.
    Wrong(String),
    /// It can't run here, and says why. Shown, and not counted as passed.
    Skip(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wrong(what) => f.write_str(what),
            Self::Skip(why) => write!(f, "skipped: {why}"),
        }
    }
}

impl<E: Into<Box<dyn std::error::Error>>> From<E> for Failure {
    fn from(e: E) -> Self {
        let error = e.into();
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(e) = cause {
            // Causes are mostly in the words of their effect already.
            let words = e.to_string();
            if !text.contains(&words) {
                text += ": ";
                text += &words;
            }
            cause = e.source();
        }
        Self::Wrong(text)
    }
}

/// One test.
#[derive(Clone, Copy, Debug)]
pub struct Test {
    /// Shown and filtered by.
    pub name: &'static str,
    /// Passes if it returns `Ok` and does not panic.
    pub run: fn() -> Result<(), Failure>,
}

/// Runs the tests that the command line asks for, each in a process and namespaces of its own, and
/// prints each name and the sums. The whole body of a test program's `main`.
pub fn run(tests: &[Test]) -> ExitCode {
    run_side_by_side(tests, 1, DEADLINE)
}

/// As [`run`], with so many tests at a time, each of which may take so long: for tests that mostly
/// wait. Results are printed in the tests' order.
pub fn run_side_by_side(tests: &[Test], at_once: usize, deadline: Duration) -> ExitCode {
    if let Some(name) = std::env::var_os(VARIABLE) {
        let test = tests.iter().find(|t| *t.name == *name);
        return test.map_or(ExitCode::FAILURE, run_here);
    }
    let arguments = Arguments::parse(std::env::args().skip(1));
    let chosen: Vec<&Test> = tests.iter().filter(|t| arguments.chooses(t.name)).collect();
    if arguments.list {
        for test in &chosen {
            println!("{}: test", test.name);
        }
        return ExitCode::SUCCESS;
    }
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    let run_one = |test: &Test| run_there(test, arguments.nocapture, limit(deadline));
    let tell = |verdict| match verdict {
        Verdict::Passed => {
            passed += 1;
            println!("ok");
        }
        Verdict::Skipped(why) => {
            skipped += 1;
            println!("{why}");
        }
        Verdict::Failed(why) => {
            failed += 1;
            println!("FAILED\n{why}");
        }
    };
    verdicts(&chosen, at_once, run_one, tell);
    let left_out = tests.len() - chosen.len();
    println!("{passed} passed, {failed} failed, {skipped} skipped, {left_out} filtered out");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs the tests and tells each verdict in the tests' order, after the test's name is printed.
fn verdicts(
    chosen: &[&Test],
    at_once: usize,
    run_one: impl Fn(&Test) -> Verdict + Sync,
    mut tell: impl FnMut(Verdict),
) {
    let next = AtomicUsize::new(0);
    let (done, heard): (Vec<_>, Vec<_>) = chosen.iter().map(|_| mpsc::channel()).unzip();
    std::thread::scope(|scope| {
        for _ in 0..at_once.clamp(1, chosen.len().max(1)) {
            scope.spawn(|| {
                let take = || next.fetch_add(1, Ordering::Relaxed);
                let mut here = take();
                while let (Some(test), Some(tell)) = (chosen.get(here), done.get(here)) {
                    // It is heard to the end of the scope.
                    drop(tell.send(run_one(test)));
                    here = take();
                }
            });
        }
        for (test, verdict) in chosen.iter().zip(heard) {
            print!("test {} ... ", test.name);
            drop(std::io::stdout().flush());
            if let Ok(verdict) = verdict.recv() {
                tell(verdict);
            }
        }
    });
}

/// Starts a process in the test's own namespaces, as leader of a group of its own. It is killed when
/// the thread that starts it ends, however that comes about.
///
/// # Errors
/// The program can't be started.
pub fn spawn_here(mut command: Command) -> std::io::Result<Child> {
    crate::kernel::procs::die_with_parent(&mut command);
    command.process_group(0).spawn()
}

enum Verdict {
    Passed,
    Skipped(String),
    Failed(String),
}

#[derive(Debug, Default)]
struct Arguments {
    words: Vec<String>,
    exact: bool,
    list: bool,
    nocapture: bool,
}

impl Arguments {
    fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let mut parsed = Self::default();
        let mut value_next = false;
        for argument in arguments {
            match argument.as_str() {
                _ if std::mem::take(&mut value_next) => {}
                "--exact" => parsed.exact = true,
                "--list" => parsed.list = true,
                "--nocapture" | "--show-output" => parsed.nocapture = true,
                "--test-threads" | "--format" | "--color" | "--skip" | "-Z" => value_next = true,
                flag if flag.starts_with('-') => {}
                _ => parsed.words.push(argument),
            }
        }
        parsed
    }

    fn chooses(&self, name: &str) -> bool {
        let hit = |w: &String| {
            if self.exact {
                name == w
            } else {
                name.contains(w.as_str())
            }
        };
        self.words.is_empty() || self.words.iter().any(hit)
    }
}

/// In the test's own process.
fn run_here(test: &Test) -> ExitCode {
    let result = match isolate() {
        Ok(_) => catch_unwind(AssertUnwindSafe(|| {
            crate::netns::lo_up()?;
            (test.run)()
        })),
        Err(e) => Ok(Err(Failure::Wrong(e.to_string()))),
    };
    match result {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(failure)) => {
            println!("{failure}");
            match failure {
                Failure::Skip(_) => ExitCode::from(SKIPPED),
                Failure::Wrong(_) => ExitCode::FAILURE,
            }
        }
        // The panic has printed its own words.
        Err(_) => ExitCode::FAILURE,
    }
}

fn run_there(test: &Test, nocapture: bool, limit: Duration) -> Verdict {
    match try_run_there(test, nocapture, limit) {
        Ok(verdict) => verdict,
        Err(e) => Verdict::Failed(format!("can't run the test: {e}")),
    }
}

fn try_run_there(test: &Test, nocapture: bool, limit: Duration) -> std::io::Result<Verdict> {
    let mut command = Command::new(std::env::current_exe()?);
    command.env(VARIABLE, test.name).stdin(Stdio::null());
    if !nocapture {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    }
    crate::kernel::procs::die_with_parent(&mut command);
    let mut child = command.spawn()?;
    let output = [pour(child.stdout.take()), pour(child.stderr.take())];
    let status = wait(&mut child, limit)?;
    let said: String = output
        .into_iter()
        .map(|o| o.join().unwrap_or_default())
        .collect();
    Ok(match status.map(|s| s.code()) {
        Some(Some(0)) => Verdict::Passed,
        Some(Some(code)) if code == i32::from(SKIPPED) => {
            Verdict::Skipped(said.lines().last().unwrap_or("skipped").to_owned())
        }
        Some(_) => Verdict::Failed(said),
        None => Verdict::Failed(format!("{said}not done within {limit:?}")),
    })
}

/// Reads a pipe to its end beside the test, so that the test never waits for its reader.
fn pour<R: Read + Send + 'static>(pipe: Option<R>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            drop(pipe.read_to_end(&mut bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// `None`: it was killed at its deadline.
fn wait(child: &mut Child, limit: Duration) -> std::io::Result<Option<std::process::ExitStatus>> {
    let end = Instant::now() + limit;
    // std has no wait with a deadline; a test takes far longer than this step.
    while Instant::now() < end {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// The environment's word goes before the program's.
fn limit(deadline: Duration) -> Duration {
    let named = std::env::var("VPC_SIM_TEST_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok());
    named.map_or(deadline, Duration::from_secs)
}
