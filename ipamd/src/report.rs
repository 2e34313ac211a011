//! Words for people before there is a log: findings on the settings, and reasons for not starting.

use crate::config::{Finding, Loaded, Severity};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

/// Wrong settings or arguments (`EX_USAGE` of sysexits.h).
pub const EXIT_SETTINGS: u8 = 64;

/// `--check-config`: the text, and whether the settings are good. Strict: a value that the daemon
/// would replace by its default is refused.
#[must_use]
pub fn check_config(loaded: &Loaded) -> (String, bool) {
    let good = loaded.at_least(Severity::Mistake).next().is_none();
    let mut text = lines(&loaded.findings);
    text.push_str(if good {
        "settings are good\n"
    } else {
        "settings are refused\n"
    });
    (text, good)
}

/// One finding a line.
#[must_use]
pub fn lines<'a>(findings: impl IntoIterator<Item = &'a Finding>) -> String {
    findings
        .into_iter()
        .map(|finding| format!("{finding}\n"))
        .collect()
}

/// Writes the reason for not starting to stderr and, if that file is there, to the termination log
/// (Kubernetes shows it in the pod's status).
pub fn last_words(text: &str, termination_log: &Path) {
    // Without stderr nobody is listening.
    let _ = std::io::stderr().write_all(text.as_bytes());
    if let Ok(mut file) = OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(termination_log)
    {
        let _ = file.write_all(text.as_bytes());
    }
}
