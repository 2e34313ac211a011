//! Who calls.

use crate::words::ids::NodeName;
use std::fmt;

/// The role of every node, and the name of its instance profile.
pub(crate) const ROLE: &str = "vpc-sim-node";
/// The role's unique id.
pub(crate) const ROLE_ID: &str = "AROAVPCSIMNODEROLE001";

/// Who makes a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Caller {
    /// A program on a node, with the instance role's rights.
    Node(NodeName),
    /// A person with all rights: hand-made mistakes, and the simulation's own controls.
    Operator,
    /// Somebody else with all rights, by name.
    Other(String),
}

impl Caller {
    /// A program on this node.
    pub fn node(name: &str) -> Self {
        Self::Node(NodeName::from(name))
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => f.write_str(name.as_str()),
            Self::Operator => f.write_str("operator"),
            Self::Other(name) => f.write_str(name),
        }
    }
}
