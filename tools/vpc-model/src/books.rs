//! The model's own books: what must be true of a VPC and its users, recounted from scratch.

use crate::time::Time;
use serde::Serialize;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which rule.
    pub class: ViolationClass,
    /// What breaks it: an id, an address, a link.
    pub subject: String,
    /// The node concerned, if one is.
    pub node: Option<String>,
    /// A sentence for people.
    pub detail: String,
    /// Since when, if known.
    pub since: Option<Time>,
}

/// The rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ViolationClass {
    /// An ENI that a node made and that nothing will ever remove.
    LeakedEni,
    /// An address or prefix outside its ENI's subnet, or one of the reserved five.
    OutsideSubnet,
    /// An address held twice, alone or within a prefix.
    HeldTwice,
    /// A prefix that is not a /28 or /80 on its boundary.
    UnalignedPrefix,
    /// A subnet's free count differs from a recount.
    FreeCount,
    /// More ENIs, addresses or prefixes than the instance type carries.
    OverLimit,
    /// Packets that an ENI sent from an address it does not hold. Reported by the wires' owner
    /// through [`crate::Vpc::report`].
    SourceCheck,
    /// Anything else that the world outside the model reports.
    Other,
}
