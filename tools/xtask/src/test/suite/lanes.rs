//! Runs programs side by side, so many at a time, each with a deadline, and gives what each said.
//!
//! Owns the order: those that took longest in the last run begin first, so that the last one to end
//! is not one that began late. Knows nothing of tests.

use crate::error::TaskError;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::collections::{BTreeMap, VecDeque};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A hung program must not hold a machine for ever.
const DEADLINE: Duration = Duration::from_secs(15 * 60);

/// Programs at a time for each core: most of them wait, and those that don't have room to be late.
const A_CORE: usize = 2;

/// What the programs took, for the next run's order; below the folder that cargo builds into.
const TIMES: &str = "xtask-test-times.json";

/// One program to run.
#[derive(Debug)]
pub(super) struct Job {
    name: String,
    command: Command,
}

impl Job {
    pub(super) fn new(name: &str, command: Command) -> Self {
        Self {
            name: name.to_owned(),
            command,
        }
    }

    /// With one more argument.
    pub(super) fn arg(&mut self, arg: &str) {
        self.command.arg(arg);
    }
}

/// A program that has ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) name: String,
    pub(super) took: Duration,
    /// Both its streams.
    pub(super) words: String,
    /// With 0, in time.
    pub(super) well: bool,
}

/// Runs all jobs and calls `tell` for each as it ends.
pub(super) fn run(
    mut jobs: Vec<Job>,
    target: &Path,
    mut tell: impl FnMut(&Ended),
) -> Result<(), TaskError> {
    let times = target.join(TIMES);
    // A file that is not there, or not ours, costs a worse order.
    let mut took: BTreeMap<String, u64> = std::fs::read(&times)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .unwrap_or_default();
    // What was never timed may be long; scenarios, the longest, come last in cargo's order.
    jobs.reverse();
    jobs.sort_by_key(|job| std::cmp::Reverse(took.get(&job.name).copied().unwrap_or(u64::MAX)));
    let queue = Mutex::new(VecDeque::from(jobs));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let (done, ended) = channel();
    std::thread::scope(|scope| {
        for _ in 0..cores * A_CORE {
            let (done, queue) = (done.clone(), &queue);
            scope.spawn(move || work(queue, &done));
        }
        drop(done);
        for result in ended {
            let program: Ended = result?;
            took.insert(
                program.name.clone(),
                u64::try_from(program.took.as_millis()).unwrap_or(u64::MAX),
            );
            tell(&program);
        }
        Ok::<(), TaskError>(())
    })?;
    let text = serde_json::to_vec_pretty(&took).unwrap_or_default();
    std::fs::write(&times, text).map_err(TaskError::io(format!("writing {}", times.display())))
}

/// One lane: takes jobs until there are none.
fn work(queue: &Mutex<VecDeque<Job>>, done: &Sender<Result<Ended, TaskError>>) {
    let next = || {
        let mut queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    };
    while let Some(job) = next() {
        // If nobody listens any more, the run has failed.
        if done.send(one(job)).is_err() {
            return;
        }
    }
}

/// Runs one program to its end, or to its deadline.
fn one(job: Job) -> Result<Ended, TaskError> {
    let Job { name, mut command } = job;
    let doing = || TaskError::io(format!("running {name}"));
    let started = Instant::now();
    let (mut reading, writing) = std::io::pipe().map_err(doing())?;
    command
        .stdin(Stdio::null())
        .stdout(writing.try_clone().map_err(doing())?)
        .stderr(writing)
        .process_group(0);
    let mut child = command.spawn().map_err(doing())?;
    // The command holds the pipe's writing ends; the reader must see the end when the program ends.
    drop(command);
    let group = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
    let (over, watched) = channel::<()>();
    let mut words = Vec::new();
    let (read, late) = std::thread::scope(|scope| {
        let watchdog = scope.spawn(move || {
            let late = watched.recv_timeout(DEADLINE) == Err(RecvTimeoutError::Timeout);
            if late {
                // It may just have ended by itself.
                let _ = killpg(group, Signal::SIGKILL);
            }
            late
        });
        let read = reading.read_to_end(&mut words);
        drop(over);
        (read, watchdog.join().unwrap_or(true))
    });
    let status = child.wait().map_err(doing())?;
    read.map_err(doing())?;
    let mut words = String::from_utf8_lossy(&words).into_owned();
    if late {
        let minutes = DEADLINE.as_secs() / 60;
        words += &format!("\nnot done after {minutes} minutes: ended\n");
    }
    Ok(Ended {
        name,
        took: started.elapsed(),
        words,
        well: status.success() && !late,
    })
}
