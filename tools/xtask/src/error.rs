//! What can go wrong in a task. Each error says what was being done.

use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a task ended without doing its work. A task that did its work and found something wrong
/// says so by [`Verdict::Red`].
#[derive(Debug, Error)]
pub(crate) enum TaskError {
    /// A system call or file operation failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program that we started ended badly.
    #[error("`{command}` ended with {status}{words}")]
    Command {
        /// As one would type it.
        command: String,
        /// Exit code or signal.
        status: String,
        /// What it said, if that was kept.
        words: String,
    },
    /// A program's output is not what it is documented to be.
    #[error("{what} can't be read: {source}")]
    Json {
        /// Whose output.
        what: String,
        /// Where and why.
        source: serde_json::Error,
    },
    /// Cargo built nothing of that name.
    #[error("cargo built no program named {0}")]
    NotBuilt(String),
    /// A program is missing and could not be had.
    #[error("{program} is not there and can't be got: {reason}")]
    Missing {
        /// Its name.
        program: String,
        /// What was tried.
        reason: String,
    },
    /// No directory that we may write to.
    #[error("no folder for downloaded programs can be written (tried {0:?})")]
    NoCache(Vec<PathBuf>),
    /// The cluster in a box could not be built or run.
    #[error(transparent)]
    Lab(#[from] lab::LabError),
    /// What was asked makes no sense.
    #[error("{0}")]
    Usage(String),
}

impl TaskError {
    /// Wraps an I/O error with what was being done.
    pub(crate) fn io(doing: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let doing = doing.into();
        move |source| Self::Io { doing, source }
    }
}

/// What a task that did its work found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// All is as it must be.
    Green,
    /// Something is not; the task has said what.
    Red,
}

impl Verdict {
    /// Green if `ok`.
    pub(crate) fn of(ok: bool) -> Self {
        if ok { Self::Green } else { Self::Red }
    }
}
