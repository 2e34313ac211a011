//! The daemon's process on a node: how it is started, with which settings, and where its words go.

use crate::error::LabError;
use crate::process::Process;
use nix::sys::signal::Signal;
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a daemon may take to end when asked.
const STOP_LIMIT: Duration = Duration::from_secs(15);

/// What to start.
#[derive(Clone, Debug)]
pub struct DaemonSpec {
    /// The program.
    pub program: PathBuf,
    /// Its whole environment besides `PATH`, the EC2 endpoint and the node's name.
    pub env: BTreeMap<String, String>,
    /// Its socket in the node's mounts.
    pub socket: PathBuf,
}

impl DaemonSpec {
    /// `ipamd` with the settings of the shipped manifest, in this address mode.
    #[must_use]
    pub fn ipamd(program: &Path, prefixes: bool) -> Self {
        let mut spec = Self {
            program: program.to_owned(),
            env: BTreeMap::new(),
            socket: "/run/ipamd/ipamd.sock".into(),
        };
        for (name, value) in [
            ("ENABLE_IPv4", "true"),
            ("ENABLE_IPv6", "false"),
            (
                "ENABLE_PREFIX_DELEGATION",
                if prefixes { "true" } else { "false" },
            ),
            ("WARM_ENI_TARGET", "1"),
            ("WARM_PREFIX_TARGET", "1"),
            ("IPAMD_SOCKET", "/run/ipamd/ipamd.sock"),
            ("IPAMD_STATE_DIR", "/var/lib/ipamd"),
        ] {
            spec = spec.set(name, value);
        }
        spec
    }

    /// Sets a variable.
    #[must_use]
    pub fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.env.insert(name.into(), value.to_string());
        self
    }
}

/// A daemon that was started on a node.
#[derive(Debug)]
pub struct Daemon {
    node: String,
    process: Process,
    log: PathBuf,
}

impl Daemon {
    /// Starts it on `node`, its words appended to `log`.
    pub(crate) fn start(
        node: &vpc_sim::Node,
        spec: &DaemonSpec,
        extra: &[(String, String)],
        log: &Path,
    ) -> Result<Self, LabError> {
        let open = || {
            OpenOptions::new()
                .create(true)
                .append(true)
                .open(log)
                .map_err(LabError::io(format!("opening {}", log.display())))
        };
        let mut command = Command::new(&spec.program);
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(extra.iter().map(|(n, v)| (n, v)))
            .envs(&spec.env)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(open()?)
            .stderr(open()?);
        let process = Process::watch(node.spawn(command)?)?;
        Ok(Self {
            node: node.name().to_owned(),
            process,
            log: log.to_owned(),
        })
    }

    /// Its process.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Goes on, unless it has ended.
    ///
    /// # Errors
    /// [`LabError::DaemonEnded`] with its last words.
    pub fn check_running(&self) -> Result<(), LabError> {
        match self.process.ended() {
            None => Ok(()),
            Some(status) => {
                let log = tail(&self.log, 20);
                Err(LabError::DaemonEnded {
                    node: self.node.clone(),
                    status,
                    log,
                })
            }
        }
    }

    /// Ends it by SIGTERM; the answer is how long that took.
    ///
    /// # Errors
    /// It did not end in time, and was killed.
    pub fn stop(self) -> Result<Duration, LabError> {
        self.process
            .stop(STOP_LIMIT)
            .map_err(|_| LabError::TooLate {
                what: format!("the end of the daemon on {} after SIGTERM", self.node),
                limit: STOP_LIMIT,
            })
    }

    /// Ends it by SIGKILL.
    pub fn kill(self) {
        self.process.signal(Signal::SIGKILL);
    }
}

/// The last lines of a file, for people.
pub(crate) fn tail(file: &Path, lines: usize) -> String {
    let text = fs::read(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let text = text.unwrap_or_else(|e| format!("({}: {e})", file.display()));
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
