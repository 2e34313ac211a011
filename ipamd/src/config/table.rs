//! Every setting, in one table: what it is called, what it means, and whether it is heeded.
//!
//! The names are those of Amazon's VPC CNI (v1.23), so that a cluster's settings carry over; new
//! ones begin with `IPAMD_`. Parsing takes defaults from here, and the README's table is printed
//! from here.

use super::rows::{OURS, PEER, STANDARD};

/// What becomes of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It does what it says.
    Works,
    /// `ipamd` always behaves as with this value; another one is told about and passed over, since
    /// that changes nothing for a packet.
    WarnUnless(&'static str),
    /// The same, but passing over another value would change what happens to packets, or who may
    /// send them: `ipamd` does not start.
    RefuseUnless(&'static str),
    /// Has no meaning for the daemon, whatever its value.
    NoEffect,
}

/// How a value is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// As Go's `strconv.ParseBool` reads it.
    Bool,
    /// A whole number, with unit and range in words.
    Number(&'static str),
    /// One of these words.
    OneOf(&'static str),
    /// Anything, described in words.
    Text(&'static str),
}

/// One setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knob {
    /// The environment variable.
    pub name: &'static str,
    /// Its value if it is not set; empty for "none".
    pub default: &'static str,
    /// How it is written.
    pub kind: Kind,
    /// Whether it is heeded.
    pub status: Status,
    /// What it does.
    pub meaning: &'static str,
}

/// All settings, the peer's first.
pub fn all() -> impl Iterator<Item = &'static Knob> {
    PEER.iter().chain(OURS).chain(STANDARD)
}

/// The setting of this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Knob> {
    all().find(|knob| knob.name == name)
}

/// The table as Markdown, for the README.
#[must_use]
pub fn markdown() -> String {
    let mut out =
        String::from("| setting | default | values | heeded | meaning |\n|---|---|---|---|---|\n");
    for knob in all() {
        let default = match knob.default {
            "" => String::from("none"),
            text => format!("`{text}`"),
        };
        let values = match knob.kind {
            Kind::Bool => "true or false",
            Kind::Number(words) | Kind::OneOf(words) | Kind::Text(words) => words,
        };
        let heeded = match knob.status {
            Status::Works => String::from("yes"),
            Status::WarnUnless("") => String::from("not yet: a warning if set"),
            Status::WarnUnless(value) => format!("not yet: a warning unless `{value}`"),
            Status::RefuseUnless("") => String::from("not yet: refused if set"),
            Status::RefuseUnless(value) => format!("not yet: refused unless `{value}`"),
            Status::NoEffect => String::from("no effect"),
        };
        let row = format!(
            "| `{}` | {default} | {values} | {heeded} | {} |\n",
            knob.name, knob.meaning
        );
        out.push_str(&row.replace("||", "\\|\\|"));
    }
    out
}
