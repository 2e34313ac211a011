//! A process of ours that runs on its own: its end is an event, not something to ask for.

use crate::error::LabError;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::{Child, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A running process. Killed when this value goes.
#[derive(Debug)]
pub struct Process {
    pid: u32,
    end: Arc<End>,
}

#[derive(Debug, Default)]
struct End {
    status: Mutex<Option<Result<ExitStatus, String>>>,
    came: Condvar,
}

impl Process {
    /// Watches over a child.
    ///
    /// # Errors
    /// The kernel has no thread to give.
    pub fn watch(mut child: Child) -> Result<Self, LabError> {
        let end = Arc::new(End::default());
        let (pid, told) = (child.id(), Arc::clone(&end));
        let wait = move || {
            let status = child.wait().map_err(|e| e.to_string());
            *told.status.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
            told.came.notify_all();
        };
        std::thread::Builder::new()
            .name("wait".into())
            .spawn(wait)
            .map_err(LabError::io("starting a thread"))?;
        Ok(Self { pid, end })
    }

    /// Its id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Option<String> {
        let status = self
            .end
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        status.as_ref().map(words)
    }

    /// Its exit code, once it has ended by itself.
    pub fn exit_code(&self) -> Option<i32> {
        let status = self
            .end
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        status
            .as_ref()
            .and_then(|s| s.as_ref().ok())
            .and_then(ExitStatus::code)
    }

    /// Sends a signal. Nothing happens if the process has ended: its id is not another's before
    /// we have waited for it.
    pub fn signal(&self, signal: Signal) {
        let status = self
            .end
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if status.is_none() {
            let pid = Pid::from_raw(i32::try_from(self.pid).unwrap_or(i32::MAX));
            // It may be dying at this moment.
            let _ = kill(pid, signal);
        }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// [`LabError::TooLate`].
    pub fn wait(&self, limit: Duration) -> Result<String, LabError> {
        let status = self
            .end
            .status
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let waited = self
            .end
            .came
            .wait_timeout_while(status, limit, |s| s.is_none());
        let (status, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let what = || format!("the end of process {}", self.pid);
        status.as_ref().map(words).ok_or_else(|| LabError::TooLate {
            what: what(),
            limit,
        })
    }

    /// Ends it in the kind way, and the other one if that does not help.
    ///
    /// # Errors
    /// [`LabError::TooLate`]: it had to be killed.
    pub fn stop(&self, limit: Duration) -> Result<Duration, LabError> {
        let began = Instant::now();
        self.signal(Signal::SIGTERM);
        let kind = self.wait(limit);
        self.kill();
        kind.map(|_| began.elapsed())
    }

    /// Kills it and waits until it is gone.
    pub fn kill(&self) {
        self.signal(Signal::SIGKILL);
        // Only a process stuck in the kernel survives this; then there is nothing more to do.
        let _ = self.wait(Duration::from_secs(5));
    }

    /// Resident memory, MiB.
    ///
    /// # Errors
    /// The process has ended.
    pub fn rss_mib(&self) -> Result<f64, LabError> {
        let file = format!("/proc/{}/status", self.pid);
        let text = fs::read_to_string(&file).map_err(LabError::io(format!("reading {file}")))?;
        let kib = text.lines().find_map(|l| {
            l.strip_prefix("VmRSS:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<f64>()
                .ok()
        });
        let reason = || LabError::Format {
            what: file.clone(),
            reason: "no VmRSS".into(),
        };
        kib.map(|kib| kib / 1024.0).ok_or_else(reason)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn words(status: &Result<ExitStatus, String>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(e) => format!("an unknown status ({e})"),
    }
}
