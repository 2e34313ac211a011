//! Calling cargo: where the workspace is, how its programs are built. Knows nothing of what they do.
//!
//! Programs of the workspace are built with the features of the *whole* workspace
//! (`--workspace --bin NAME`), as `launch` builds this one and `cargo test --workspace` all tests: with
//! `-p NAME` cargo would unify features over that package alone, and the AWS SDK, minutes of work, would
//! be built once more for each selection. Only the plugin is built alone, in its own profile: it must be small.

use crate::error::TaskError;
use launch::Build;
pub(crate) use launch::{cargo, root};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A command as one would type it.
pub(crate) fn typed(command: &Command) -> String {
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words
        .map(|w| w.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs a command with its output on our stderr (stdout is for results).
///
/// # Errors
/// It can't be started, or ends with anything but 0.
pub(crate) fn run(mut command: Command) -> Result<(), TaskError> {
    let shown = typed(&command);
    let status = command
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .map_err(TaskError::io(format!("starting `{shown}`")))?;
    if status.success() {
        return Ok(());
    }
    Err(TaskError::Command {
        command: shown,
        status: status.to_string(),
        words: String::new(),
    })
}

/// Runs a command and gives what it printed.
///
/// # Errors
/// It can't be started, or ends with anything but 0.
pub(crate) fn output(mut command: Command) -> Result<String, TaskError> {
    let shown = typed(&command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(TaskError::io(format!("starting `{shown}`")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = format!(":\n{}", String::from_utf8_lossy(&output.stderr).trim_end());
    Err(TaskError::Command {
        command: shown,
        status: output.status.to_string(),
        words,
    })
}

/// `cargo metadata`: packages and who depends on whom.
pub(crate) fn metadata() -> Result<Value, TaskError> {
    let text = output(cargo(["metadata", "--format-version", "1"]))?;
    serde_json::from_str(&text).map_err(|source| TaskError::Json {
        what: "cargo metadata".into(),
        source,
    })
}

/// The folder that cargo builds into.
pub(crate) fn target() -> Result<PathBuf, TaskError> {
    let metadata = metadata()?;
    let folder = metadata["target_directory"].as_str();
    Ok(folder.map_or_else(|| root().join("target"), PathBuf::from))
}

/// `cargo build` with these arguments, telling in JSON what it makes.
pub(crate) fn building(args: &[&str]) -> Command {
    let mut command = cargo(["build", "--message-format=json-render-diagnostics"]);
    command.args(args);
    command
}

/// Runs a cargo command that makes the program `name`, of the crates that `selection` names, and gives the
/// program's path.
///
/// # Errors
/// As [`messages`], or the program was not among what was made.
pub(crate) fn finish(
    name: &str,
    command: Command,
    selection: &[&str],
) -> Result<PathBuf, TaskError> {
    let built = messages(name, command, selection)?
        .iter()
        .filter(|message| message["target"]["name"] == name)
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back();
    built.ok_or_else(|| TaskError::NotBuilt(name.to_owned()))
}

/// Runs a cargo command that makes `what` and says in JSON what it made, with its progress on our
/// stderr, and gives its messages. `selection` are arguments of `cargo tree` that list its crates.
///
/// # Errors
/// It can't be started, or ends with anything but 0.
pub(crate) fn messages(
    what: &str,
    command: Command,
    selection: &[&str],
) -> Result<Vec<Value>, TaskError> {
    let shown = typed(&command);
    let mut messages = Vec::new();
    let status = Build::new(what, command, selection)
        .run(|message| messages.extend(serde_json::from_str::<Value>(message)))
        .map_err(TaskError::io(format!("running `{shown}`")))?;
    if status.success() {
        return Ok(messages);
    }
    Err(TaskError::Command {
        command: shown,
        status: status.to_string(),
        words: String::new(),
    })
}

/// The daemon, in the profile that tests and demo share.
pub(crate) fn build_daemon() -> Result<PathBuf, TaskError> {
    let selection = ["--package", "ipamd", "--edges", "normal,build"];
    finish(
        "ipamd",
        building(&["--workspace", "--bin", "ipamd"]),
        &selection,
    )
}
