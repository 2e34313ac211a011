//! What is left out of a seed's scenario, so that its story becomes short.
//!
//! Each event has random numbers of its own, so that the others stay what they are without it.

use std::collections::BTreeSet;

/// See the module. Nothing is left out by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// Events that do not happen, by number. The time before them passes all the same.
    pub skip: BTreeSet<u32>,
    /// At most so many pods come at once.
    pub pods_max: Option<u64>,
}

impl Cut {
    pub(super) fn skips(&self, event: u32) -> bool {
        self.skip.contains(&event)
    }

    pub(super) fn pods(&self, count: u64) -> u64 {
        count.min(self.pods_max.unwrap_or(u64::MAX))
    }
}
