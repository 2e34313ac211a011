//! Words for people before there is a log: findings on the settings, and reasons for not starting.

use crate::config::{Finding, InForce, Loaded, Severity};
use serde::Serialize;
use std::error::Error;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

/// Wrong settings or arguments (`EX_USAGE` of sysexits.h).
pub const EXIT_SETTINGS: u8 = 64;

/// `--check-config`: the text, and whether the settings are good. Strict: a value that the daemon
/// would replace by its default is refused, and so is a name that is nearly a setting's. Good ones are
/// listed as they are in force.
#[must_use]
pub fn check_config(loaded: &Loaded) -> (String, bool) {
    let good = are_good(loaded);
    let mut text = lines(&loaded.findings);
    if good {
        loaded.in_force.iter().for_each(|setting| {
            text.push_str(&in_force(setting));
        });
        text.push_str("settings are good\n");
    } else {
        text.push_str("settings are refused\n");
    }
    (text, good)
}

fn are_good(loaded: &Loaded) -> bool {
    loaded.at_least(Severity::Mistake).next().is_none()
}

fn in_force(setting: &InForce) -> String {
    let name = setting.name;
    match &setting.value {
        Some(value) if setting.set => format!("{name}={value}\n"),
        Some(value) => format!("{name}={value} (default)\n"),
        None => format!("{name} is not set\n"),
    }
}

/// `--check-config --json`
#[derive(Serialize)]
struct Checked<'a> {
    good: bool,
    findings: Vec<Told<'a>>,
    /// Only of good ones.
    settings: &'a [InForce],
}

#[derive(Serialize)]
struct Told<'a> {
    severity: &'static str,
    setting: &'a str,
    text: &'a str,
}

impl<'a> Told<'a> {
    fn of(finding: &'a Finding) -> Self {
        Self {
            severity: finding.severity.word(),
            setting: &finding.setting,
            text: &finding.text,
        }
    }
}

/// The same as one JSON object, for programs.
///
/// # Errors
/// None that is known: texts and booleans can always be written.
pub fn check_config_json(loaded: &Loaded) -> Result<(String, bool), serde_json::Error> {
    let good = are_good(loaded);
    let checked = Checked {
        good,
        findings: loaded.findings.iter().map(Told::of).collect(),
        settings: if good { &loaded.in_force } else { &[] },
    };
    let text = serde_json::to_string_pretty(&checked)?;
    Ok((text + "\n", good))
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

/// An error and its causes, none of which is said twice: many errors have their cause's words in their own.
#[must_use]
pub fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{words}")]
    struct Layer {
        words: &'static str,
        #[source]
        below: Option<Box<Self>>,
    }

    #[test]
    fn nothing_is_said_twice() {
        let said = |words: [&'static str; 3]| {
            let layers = words.into_iter().rev();
            let top = layers.fold(None, |below, words| Some(Box::new(Layer { words, below })));
            with_causes(&*top.expect("has layers"))
        };
        assert_eq!(said(["a", "b", "c"]), "a: b: c");
        assert_eq!(
            said(["opening: no room", "no room", "errno 28"]),
            "opening: no room: errno 28"
        );
        assert_eq!(said(["x failed", "x failed", "y"]), "x failed: y");
        assert_eq!(said(["x: y", "transport", "y"]), "x: y: transport");
    }
}
