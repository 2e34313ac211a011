//! One run of the plugin, as a container runtime does it: environment, configuration on stdin,
//! result on stdout.

use crate::error::LabError;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::Value;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// One run, ended.
#[derive(Clone, Debug)]
pub struct Call {
    /// From before the process was started until it had ended.
    pub wall: Duration,
    /// How it ended.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained of.
    pub stderr: String,
}

/// An error in the plugin's own words (CNI spec 1.1.0, section 5, "Error").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CniError {
    /// The spec's or the plugin's code.
    pub code: u64,
    /// Short.
    pub msg: String,
    /// Long.
    pub details: String,
}

impl Call {
    /// Whether it succeeded.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.status.success()
    }

    /// What it printed, as JSON; `Null` if it printed nothing that is.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or(Value::Null)
    }

    /// The plugin's error, if it failed and said why as the spec asks.
    #[must_use]
    pub fn error(&self) -> Option<CniError> {
        if self.ok() {
            return None;
        }
        let json = self.json();
        let text = |name: &str| json[name].as_str().unwrap_or_default().to_owned();
        Some(CniError {
            code: json["code"].as_u64()?,
            msg: text("msg"),
            details: text("details"),
        })
    }

    /// How it ended, for people.
    #[must_use]
    pub fn words(&self) -> String {
        match self.error() {
            None if self.ok() => "success".into(),
            Some(e) => format!("code {}: {} {}", e.code, e.msg, e.details)
                .trim_end()
                .to_owned(),
            None => {
                let said = [self.stdout.trim(), self.stderr.trim()].join(" ");
                format!("{} without a CNI error: {}", self.status, said.trim())
            }
        }
    }
}

/// Runs `command` with `stdin` on the node's thread and waits for its end here, so that others can
/// be started meanwhile.
///
/// # Errors
/// It can't be started, or took longer than `limit` and was killed.
pub fn run(
    node: &vpc_sim::Node,
    mut command: Command,
    stdin: &str,
    limit: Duration,
) -> Result<Call, LabError> {
    pipe_all(&mut command);
    let started = Instant::now();
    let doing = "starting the plugin";
    let child = node
        .run(move || command.spawn())?
        .map_err(LabError::io(doing))?;
    attend(child, stdin, started, limit)
}

/// As [`run`], all of it on the node's thread: no other thread's wake-up is in the time that it
/// measures. Holds up the node's other work.
///
/// # Errors
/// As [`run`].
pub fn run_alone(
    node: &vpc_sim::Node,
    mut command: Command,
    stdin: &str,
    limit: Duration,
) -> Result<Call, LabError> {
    pipe_all(&mut command);
    let stdin = stdin.to_owned();
    node.run(move || {
        let started = Instant::now();
        let child = command
            .spawn()
            .map_err(LabError::io("starting the plugin"))?;
        attend(child, &stdin, started, limit)
    })?
}

fn pipe_all(command: &mut Command) {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
}

fn attend(
    mut child: Child,
    stdin: &str,
    started: Instant,
    limit: Duration,
) -> Result<Call, LabError> {
    if let Some(mut pipe) = child.stdin.take() {
        // A plugin that reads nothing (killed, or VERSION) is not our failure: its end tells.
        let _ = pipe.write_all(stdin.as_bytes());
    }
    let said = listen(&mut child, started, limit);
    if said.is_err() {
        // It may have ended between the deadline and here.
        let _ = child.kill();
    }
    let status = child
        .wait()
        .map_err(LabError::io("waiting for the plugin"))?;
    let wall = started.elapsed();
    let (stdout, stderr) = said?;
    Ok(Call {
        wall,
        status,
        stdout,
        stderr,
    })
}

/// Everything that the process says, until it says no more.
fn listen(
    child: &mut Child,
    started: Instant,
    limit: Duration,
) -> Result<(String, String), LabError> {
    let mut out = child.stdout.take();
    let mut err = child.stderr.take();
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    while out.is_some() || err.is_some() {
        let late = || LabError::TooLate {
            what: "a run of the plugin".into(),
            limit,
        };
        let left = limit.checked_sub(started.elapsed()).ok_or_else(late)?;
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let ready = {
            let watch = |fd| PollFd::new(fd, PollFlags::POLLIN);
            let mut fds: Vec<PollFd<'_>> = Vec::new();
            fds.extend(out.as_ref().map(|pipe| watch(pipe.as_fd())));
            fds.extend(err.as_ref().map(|pipe| watch(pipe.as_fd())));
            poll(&mut fds, timeout).map_err(LabError::io("waiting for the plugin's words"))?;
            let mut any = fds.iter().map(|fd| fd.any().unwrap_or(true));
            let of = |there: bool, any: &mut dyn Iterator<Item = bool>| {
                there && any.next().unwrap_or(false)
            };
            (of(out.is_some(), &mut any), of(err.is_some(), &mut any))
        };
        if ready.0 && !more(out.as_mut(), &mut stdout)? {
            out = None;
        }
        if ready.1 && !more(err.as_mut(), &mut stderr)? {
            err = None;
        }
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((text(stdout), text(stderr)))
}

/// Reads what is there; false at the end.
fn more(pipe: Option<&mut impl Read>, into: &mut Vec<u8>) -> Result<bool, LabError> {
    let mut buffer = [0; 8192];
    let Some(pipe) = pipe else { return Ok(false) };
    let length = pipe
        .read(&mut buffer)
        .map_err(LabError::io("reading the plugin's words"))?;
    into.extend_from_slice(buffer.get(..length).unwrap_or_default());
    Ok(length > 0)
}
