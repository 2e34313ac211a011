//! Reads single settings as Amazon's VPC CNI reads them, and collects what is wrong.

use super::finding::{Finding, Severity};
use super::in_force::without_password;
use super::source::Source;
use super::table::{self, Kind, Knob, Status};

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

/// A whole number, decimal or with `0x`.
pub(super) fn parse_number(text: &str) -> Option<i64> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(hex) => i64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

/// Reads settings by their row of the table. A value that can't be used is a finding, and the
/// default's stands in for it.
pub(super) struct Reader<'a> {
    source: &'a dyn Source,
    pub(super) findings: Vec<Finding>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(source: &'a dyn Source) -> Self {
        Self {
            source,
            findings: Vec::new(),
        }
    }

    pub(super) const fn source(&self) -> &'a dyn Source {
        self.source
    }

    pub(super) fn tell(&mut self, severity: Severity, setting: &str, text: impl Into<String>) {
        self.findings.push(Finding {
            severity,
            setting: setting.into(),
            text: text.into(),
        });
    }

    fn mistake(&mut self, knob: &Knob, value: &str, wanted: &str) {
        let default = if knob.default.is_empty() {
            "as if not set"
        } else {
            knob.default
        };
        self.tell(
            Severity::Mistake,
            knob.name,
            format!(
                "\"{}\" is not {wanted}; using the default ({default})",
                without_password(value).escape_debug()
            ),
        );
    }

    /// The value as it is. `None`: not set, empty (told), or not text (told).
    pub(super) fn raw(&mut self, name: &str) -> Option<String> {
        match self.source.get(name) {
            Ok(None) => None,
            Ok(Some(value)) if value.trim().is_empty() => {
                self.tell(
                    Severity::Mistake,
                    name,
                    "is set to nothing; using the default",
                );
                None
            }
            Ok(Some(value)) => Some(value.trim().to_owned()),
            Err(error) => {
                self.tell(
                    Severity::Mistake,
                    name,
                    format!("{error}; using the default"),
                );
                None
            }
        }
    }

    /// Text; an empty value is as good as none.
    pub(super) fn text(&mut self, name: &str) -> Option<String> {
        match self.source.get(name) {
            Ok(value) => value.map(|v| v.trim().to_owned()).filter(|v| !v.is_empty()),
            Err(error) => {
                self.tell(
                    Severity::Mistake,
                    name,
                    format!("{error}; using the default"),
                );
                None
            }
        }
    }

    /// Text with the table's default.
    pub(super) fn text_or_default(&mut self, name: &str) -> String {
        let default = table::find(name).map_or("", |knob| knob.default);
        self.text(name).unwrap_or_else(|| default.to_owned())
    }

    /// A boolean with the table's default.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        let Some(knob) = table::find(name) else {
            debug_assert!(false, "{name} is not in the table");
            return false;
        };
        let default = parse_bool(knob.default).unwrap_or(false);
        let Some(value) = self.raw(name) else {
            return default;
        };
        parse_bool(&value).unwrap_or_else(|| {
            self.mistake(knob, &value, "a boolean");
            default
        })
    }

    /// A number within `range`, or the table's default (`None` if it has none).
    pub(super) fn number(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        let Some(knob) = table::find(name) else {
            debug_assert!(false, "{name} is not in the table");
            return None;
        };
        let default = knob.default.parse().ok();
        let Some(value) = self.raw(name) else {
            return default;
        };
        match value
            .parse::<i64>()
            .ok()
            .and_then(|n| u32::try_from(n).ok())
        {
            Some(n) if range.contains(&n) => Some(n),
            _ => {
                let Kind::Number(words) = knob.kind else {
                    return default;
                };
                self.mistake(knob, &value, &format!("a number of {words}"));
                default
            }
        }
    }

    /// A number that must be right if it is set: anything else is a refusal.
    pub(super) fn strict_number(
        &mut self,
        name: &str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<u32> {
        let default = table::find(name).and_then(|knob| knob.default.parse().ok());
        let Some(value) = self.raw(name) else {
            return default;
        };
        match value.parse::<u32>() {
            Ok(n) if range.contains(&n) => Some(n),
            _ => {
                let bounds = match *range.end() {
                    u32::MAX => format!("{} or more", range.start()),
                    end => format!("{} to {end}", range.start()),
                };
                let text = format!(
                    "\"{}\" is not a whole number, {bounds}",
                    without_password(&value).escape_debug()
                );
                self.tell(Severity::Refusal, name, text);
                default
            }
        }
    }

    /// One of some words, whatever their case; the table's default otherwise.
    pub(super) fn word(&mut self, name: &str, words: &[&'static str]) -> String {
        let Some(knob) = table::find(name) else {
            debug_assert!(false, "{name} is not in the table");
            return String::new();
        };
        let Some(value) = self.raw(name) else {
            return knob.default.to_owned();
        };
        match words.iter().find(|word| word.eq_ignore_ascii_case(&value)) {
            Some(word) => (*word).to_owned(),
            None => {
                self.mistake(knob, &value, &format!("one of {}", words.join(", ")));
                knob.default.to_owned()
            }
        }
    }

    /// Settings that are not heeded: a note or a refusal, unless the value is what `ipamd` does
    /// anyway.
    pub(super) fn check_unheeded(&mut self) {
        for knob in table::all() {
            let (behaves_as, severity, what) = match knob.status {
                Status::Works | Status::NoEffect => continue,
                Status::WarnUnless(value) => (
                    value,
                    Severity::Note,
                    "is not supported yet; ignoring it changes nothing in the datapath",
                ),
                Status::RefuseUnless(value) => (
                    value,
                    Severity::Refusal,
                    "is not supported yet, and ignoring it would change what pods can reach or who \
                     can reach them",
                ),
            };
            let Some(value) = self.text(knob.name) else {
                continue;
            };
            if knob.kind == Kind::Bool && parse_bool(&value).is_none() {
                self.mistake(knob, &value, "a boolean");
            } else if !same(&value, behaves_as) && !as_good(knob.name, &value) {
                let text = format!(
                    "\"{}\" {what}. {}",
                    without_password(&value).escape_debug(),
                    knob.meaning
                );
                self.tell(severity, knob.name, text);
            }
        }
    }
}

/// Whether two spellings mean the same.
fn same(a: &str, b: &str) -> bool {
    if let (Some(a), Some(b)) = (parse_bool(a), parse_bool(b)) {
        return a == b;
    }
    if let (Some(a), Some(b)) = (parse_number(a), parse_number(b)) {
        return a == b;
    }
    a.eq_ignore_ascii_case(b)
}

/// Other values that come to the same.
fn as_good(name: &str, value: &str) -> bool {
    // Nothing is enforced either way.
    name == "NETWORK_POLICY_ENFORCING_MODE" && value.eq_ignore_ascii_case("none")
}
