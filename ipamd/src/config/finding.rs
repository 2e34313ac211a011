//! What is wrong with the settings, in words.

use std::fmt;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A setting that is passed over; nothing is wrong with its value.
    Note,
    /// A value that can't be used: the default stands in for it, as in Amazon's CNI.
    /// `--check-config` refuses it.
    Mistake,
    /// The daemon must not start like this.
    Refusal,
}

impl Severity {
    /// As people and programs read it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Mistake => "warning",
            Self::Refusal => "error",
        }
    }
}

/// One thing to tell a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The setting, or settings.
    pub setting: String,
    /// What is the matter, and what follows.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = self.severity.word();
        write!(f, "{word}: {}: {}", self.setting, self.text)
    }
}
