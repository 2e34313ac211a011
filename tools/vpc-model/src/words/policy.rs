//! An IAM policy as it is told: as much of the language as ENI policies use.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A policy document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// Version of the language; not interpreted.
    #[serde(rename = "Version", default)]
    pub version: Option<String>,
    /// A Deny that matches wins; else an Allow must match.
    #[serde(rename = "Statement")]
    pub statements: Vec<Statement>,
}

/// One statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// For people.
    #[serde(rename = "Sid", default)]
    pub sid: Option<String>,
    /// Allow or Deny.
    #[serde(rename = "Effect")]
    pub effect: PolicyEffect,
    /// `ec2:CreateTags`, `ec2:Describe*`, `*`.
    #[serde(rename = "Action")]
    pub action: OneOrMany,
    /// ARNs with wildcards; all when absent.
    #[serde(rename = "Resource", default)]
    pub resource: Option<OneOrMany>,
    /// Operator to condition key to values.
    #[serde(rename = "Condition", default)]
    pub condition: BTreeMap<String, BTreeMap<String, OneOrMany>>,
}

/// Allow or Deny.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PolicyEffect {
    /// Lets matching calls pass.
    Allow,
    /// Refuses matching calls, whatever is allowed elsewhere.
    Deny,
}

/// A string or a list of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum OneOrMany {
    /// One.
    One(String),
    /// Many.
    Many(Vec<String>),
}

impl OneOrMany {
    /// The strings.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        match self {
            Self::One(s) => std::slice::from_ref(s),
            Self::Many(v) => v.as_slice(),
        }
        .iter()
        .map(String::as_str)
    }
}
