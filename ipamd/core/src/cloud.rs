//! What EC2's answers mean to the pool.

mod classify;
mod reaction;

pub use classify::classify;
pub use reaction::{Effect, Next, Reaction};

use crate::BlockKind;
use alloc::format;
use alloc::string::String;
use serde::{Deserialize, Serialize};

/// What an EC2 error means to us, by action, code and (where EC2 leaves no other way) message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// No free address in the subnet.
    SubnetFull,
    /// Free addresses, but no free aligned prefix.
    NoFreePrefix,
    /// The ENI holds as many addresses as it can.
    EniFull,
    /// The instance has as many ENIs as it can.
    InstanceFull,
    /// The account has as many ENIs as it may.
    AccountFull,
    /// The device index is taken.
    IndexTaken,
    /// Prefixes can't be had on this instance type.
    PrefixUnsupported,
    /// The client token was used for another request: what that one made is not known by this one.
    TokenUsed,
    /// Slow down.
    Throttled,
    /// The policy does not allow it.
    Unauthorized,
    /// The thing is not there.
    NotFound,
    /// The thing is in a state in which this can't be done (yet).
    WrongState,
    /// Not answered in time, or the connection broke: it may have been done.
    UnknownOutcome,
    /// Not reached at all: nothing was done.
    Unreachable,
    /// An answer that can't be about this instance: nothing of it is believed.
    Implausible,
    /// Anything else that EC2 refuses.
    Other,
    /// Never sent: this node lacks something for it. EC2 has no part in it.
    Unsent,
}

impl ErrorClass {
    /// The label in logs, metrics and answers.
    #[must_use]
    pub const fn label(self) -> &'static str {
        self.reaction().label
    }
}

/// A refused or failed EC2 call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("EC2 {action}: {code}: {message}")]
pub struct CloudError {
    /// The API action.
    pub action: &'static str,
    /// What it means.
    pub class: ErrorClass,
    /// EC2's code, or ours where EC2 gave none.
    pub code: String,
    /// EC2's message.
    pub message: String,
}

impl CloudError {
    /// The same of a call that asked for blocks of this kind: CreateNetworkInterface has one
    /// message for both ("free Ipv4 addresses or prefixes").
    #[must_use]
    pub fn about(mut self, kind: BlockKind) -> Self {
        if self.class == ErrorClass::NoFreePrefix && kind == BlockKind::Address {
            self.class = ErrorClass::SubnetFull;
        }
        self
    }

    /// What it means and what a person can do about it; EC2's own words are [`fmt::Display`]'s.
    #[must_use]
    pub fn meaning(&self) -> String {
        if self.class == ErrorClass::Unauthorized {
            return format!(
                "the node's IAM role may not do {}: allow it in its policy (deploy/ has one)",
                self.permission()
            );
        }
        self.class.reaction().words.into()
    }

    /// The IAM permission that a refusal lacks: the one that EC2's words name (a Create with tags
    /// needs `ec2:CreateTags` as well), else the action's own.
    #[must_use]
    pub fn permission(&self) -> String {
        const BEFORE: &str = "not authorized to perform: ";
        let named = self.message.split_once(BEFORE).map(|(_, rest)| {
            let word = |c: char| c.is_ascii_alphanumeric() || c == ':';
            rest.split(|c| !word(c)).next().unwrap_or_default()
        });
        match named.filter(|name| name.contains(':')) {
            Some(name) => name.into(),
            None => format!("ec2:{}", self.action),
        }
    }
}
