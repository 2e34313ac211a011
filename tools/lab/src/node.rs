//! A node of the cluster: its namespaces, and the daemon that runs on it.

use crate::daemon::{Daemon, DaemonSpec, tail};
use crate::error::LabError;
use crate::rpc::Caller;
use crate::snapshot::Snapshot;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::runtime::Handle;

/// Waits between attempts to connect to a socket that is not there yet: from the first to the
/// longest.
const CONNECT_WAIT: (Duration, Duration) = (Duration::from_micros(500), Duration::from_millis(20));

/// A node.
#[derive(Debug)]
pub struct Node {
    sim: vpc_sim::Node,
    runtime: Handle,
    spec: DaemonSpec,
    env: Vec<(String, String)>,
    log: PathBuf,
    daemon: Option<Daemon>,
}

impl Node {
    pub(crate) fn new(
        sim: vpc_sim::Node,
        runtime: Handle,
        spec: DaemonSpec,
        ec2_url: &str,
        logs: &Path,
    ) -> Self {
        let name = sim.name().to_owned();
        let env = [
            ("AWS_ENDPOINT_URL_EC2", ec2_url),
            ("MY_NODE_NAME", &name),
            ("HOSTNAME", &name),
            ("HOME", "/"),
        ];
        let env = env.map(|(n, v)| (n.to_owned(), v.to_owned())).to_vec();
        let log = logs.join(format!("{name}.log"));
        Self {
            sim,
            runtime,
            spec,
            env,
            log,
            daemon: None,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.sim.name()
    }

    /// Its namespaces.
    pub fn sim(&self) -> &vpc_sim::Node {
        &self.sim
    }

    /// What the next start of the daemon will be.
    pub fn spec_mut(&mut self) -> &mut DaemonSpec {
        &mut self.spec
    }

    /// Where the daemon's words go.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The daemon's state directory, in the node's mounts.
    pub fn state_dir(&self) -> PathBuf {
        let named = self.spec.env.get("IPAMD_STATE_DIR");
        named.map_or_else(|| "/var/lib/ipamd".into(), PathBuf::from)
    }

    /// The end of the daemon's log.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// The daemon, if it was started and not ended by us.
    ///
    /// # Errors
    /// [`LabError::NoDaemon`].
    pub fn daemon(&self) -> Result<&Daemon, LabError> {
        self.daemon
            .as_ref()
            .ok_or_else(|| LabError::NoDaemon(self.name().into()))
    }

    /// Starts the daemon, in place of the one that runs, which is killed.
    ///
    /// # Errors
    /// The program can't be started.
    pub fn start(&mut self) -> Result<(), LabError> {
        self.daemon = None;
        self.daemon = Some(Daemon::start(&self.sim, &self.spec, &self.env, &self.log)?);
        Ok(())
    }

    /// Ends the daemon by SIGTERM.
    ///
    /// # Errors
    /// None runs, or it had to be killed.
    pub fn stop(&mut self) -> Result<Duration, LabError> {
        let daemon = self
            .daemon
            .take()
            .ok_or_else(|| LabError::NoDaemon(self.name().into()))?;
        daemon.check_running()?;
        daemon.stop()
    }

    /// Ends the daemon by SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.daemon = None;
    }

    /// What a reboot changes for the daemon: the next start sees another boot. (Until then nodes
    /// share the kernel's boot id, which the plugin reads.)
    pub fn new_boot(&mut self, id: &str) {
        self.env.retain(|(name, _)| name != "IPAMD_BOOT_ID");
        self.env.push(("IPAMD_BOOT_ID".into(), id.into()));
    }

    /// Waits until the daemon's socket takes connections.
    ///
    /// # Errors
    /// It ended, or the time is over.
    pub fn wait_socket(&self, limit: Duration) -> Result<(), LabError> {
        let what = || format!("the daemon's socket {}", self.spec.socket.display());
        self.until(limit, what, || Ok(self.caller().connect().is_ok()))
    }

    /// Waits until the daemon says that it can serve ADDs.
    ///
    /// # Errors
    /// It ended, or the time is over.
    pub fn wait_ready(&self, limit: Duration) -> Result<(), LabError> {
        let mut last = String::from("no answer");
        let began = Instant::now();
        let ready = self.until(limit, String::new, || match self.caller().status() {
            Ok(status) if status.up => Ok(true),
            Ok(status) => {
                last = status.message;
                Ok(false)
            }
            Err(e) => {
                last = e.to_string();
                Ok(false)
            }
        });
        match ready {
            Err(LabError::TooLate { .. }) => Err(LabError::TooLate {
                what: format!(
                    "readiness of the daemon on {} (it says after {}: {last}; the end of its \
                     log:\n{})",
                    self.name(),
                    crate::stats::seconds(began.elapsed()),
                    self.log_tail(10)
                ),
                limit,
            }),
            other => other,
        }
    }

    /// Waits until the pool looks right. Asks again in growing steps: the daemon tells no one
    /// when its pool changes.
    ///
    /// # Errors
    /// It ended, or the time is over; the error shows the pool as it was last.
    pub fn wait_pool(
        &self,
        limit: Duration,
        what: &str,
        mut right: impl FnMut(&Snapshot) -> bool,
    ) -> Result<Snapshot, LabError> {
        let mut last = None;
        let waited = self.until(limit, String::new, || {
            let pool = self.snapshot()?;
            let done = right(&pool);
            last = Some(pool);
            Ok(done)
        });
        match (waited, last) {
            (Ok(()), Some(pool)) => Ok(pool),
            (Err(LabError::TooLate { .. }), last) => Err(LabError::TooLate {
                what: format!("{what} on {} (the pool was last {last:?})", self.name()),
                limit,
            }),
            (Err(e), _) => Err(e),
            (Ok(()), None) => Err(LabError::NoDaemon(self.name().into())),
        }
    }

    /// The pool as the daemon shows it.
    ///
    /// # Errors
    /// It does not answer, or not as documented.
    pub fn snapshot(&self) -> Result<Snapshot, LabError> {
        let json = self.caller().inspect()?;
        serde_json::from_str(&json).map_err(|e| LabError::Format {
            what: "the daemon's Inspect".into(),
            reason: format!("{e}: {json}"),
        })
    }

    /// Whether ADDs can be served, in the daemon's words.
    ///
    /// # Errors
    /// It does not answer.
    pub fn status(&self) -> Result<(bool, String), LabError> {
        let status = self.caller().status()?;
        Ok((status.up, status.message))
    }

    fn caller(&self) -> Caller<'_> {
        Caller {
            runtime: &self.runtime,
            node: &self.sim,
            socket: &self.spec.socket,
        }
    }

    fn until(
        &self,
        limit: Duration,
        what: impl Fn() -> String,
        mut done: impl FnMut() -> Result<bool, LabError>,
    ) -> Result<(), LabError> {
        let began = Instant::now();
        let mut wait = CONNECT_WAIT.0;
        loop {
            if done()? {
                return Ok(());
            }
            self.daemon()?.check_running()?;
            if began.elapsed() > limit {
                return Err(LabError::TooLate {
                    what: what(),
                    limit,
                });
            }
            crate::interrupt::sleep(wait)?;
            wait = (wait * 3 / 2).min(CONNECT_WAIT.1);
        }
    }
}
