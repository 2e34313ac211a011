//! What can go wrong in the lab. Each error says what was being done.

use std::io;
use std::path::PathBuf;
use std::time::Duration;
use thiserror::Error;
use vpc_sim::SimError;

/// Why the lab could not do what it was asked to.
#[derive(Debug, Error)]
pub enum LabError {
    /// The mini VPC refused.
    #[error(transparent)]
    Sim(#[from] SimError),
    /// A system call or file operation failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program under test is not where it is looked for.
    #[error(
        "{program} is not built (looked for {looked_for:?}): `cargo xtask test` builds it, or name \
         it in the environment variable {variable}"
    )]
    NotBuilt {
        /// Its name.
        program: &'static str,
        /// Where it was looked for.
        looked_for: Vec<PathBuf>,
        /// What names it.
        variable: &'static str,
    },
    /// Something did not happen in time.
    #[error("{what} took longer than {}", crate::stats::seconds(*limit))]
    TooLate {
        /// What was waited for, and what was there instead.
        what: String,
        /// How long was waited.
        limit: Duration,
    },
    /// The daemon ended by itself.
    #[error("the daemon on {node} ended with {status}; the end of its log:\n{log}")]
    DaemonEnded {
        /// Where.
        node: String,
        /// Exit code or signal.
        status: String,
        /// Its last words.
        log: String,
    },
    /// The daemon is not running.
    #[error("no daemon runs on {0}")]
    NoDaemon(String),
    /// The daemon refused a request or did not answer.
    #[error("asking the daemon on {node} for {what}: {reason}")]
    Rpc {
        /// Where.
        node: String,
        /// Which request.
        what: &'static str,
        /// Its or the transport's words.
        reason: String,
    },
    /// Output of a program is not what its contract says.
    #[error("{what} can't be read: {reason}")]
    Format {
        /// Whose output.
        what: String,
        /// Why not.
        reason: String,
    },
    /// The plugin failed where it must not.
    #[error("{command} of {pod} failed: {reason}")]
    Plugin {
        /// `ADD` or `DEL`.
        command: &'static str,
        /// Which pod.
        pod: String,
        /// The plugin's own error, or how it ended.
        reason: String,
    },
    /// A person asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl LabError {
    /// Wraps an I/O or errno error with what was being done.
    pub(crate) fn io<E: Into<io::Error>>(doing: impl Into<String>) -> impl FnOnce(E) -> Self {
        let doing = doing.into();
        move |e| Self::Io {
            doing,
            source: e.into(),
        }
    }
}
