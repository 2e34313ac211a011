//! What Describe calls see of the VPC.

use crate::words::fault::Omission;
use crate::words::time::Time;

/// What Describe calls see.
#[derive(Debug)]
pub(crate) struct Sight {
    /// The VPC as it was then.
    pub(crate) then: Time,
    /// But without these.
    pub(crate) left_out: Vec<Omission>,
}

impl Sight {
    /// Whether a thing is left out; `primary` is only asked where it matters.
    pub(super) fn lacks(&self, id: &str, primary: impl Fn() -> bool) -> bool {
        !self.left_out.is_empty() && {
            let primary = primary();
            self.left_out.iter().any(|o| o.takes(id, primary))
        }
    }
}
