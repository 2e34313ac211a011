//! The audit log: every EC2 call in order, and counts of them by node and action.

use crate::time::Time;
use serde::Serialize;
use std::collections::BTreeMap;

/// One EC2 call.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// From 1 upwards without gaps.
    pub seq: u64,
    /// When it was judged.
    pub time: Time,
    /// Node name, `operator`, or what the caller named itself.
    pub caller: String,
    /// EC2 action.
    pub action: String,
    /// The parameters in brief, for people.
    pub params: String,
    /// `ok`, or the EC2 error code.
    pub outcome: String,
    /// The answer was thrown away by a fault.
    pub dropped: bool,
    /// Ids, addresses and prefixes that the answer brought.
    pub ids: Vec<String>,
}

/// Node (or other caller) to action to number of calls.
pub type Counts = BTreeMap<String, BTreeMap<String, u64>>;
