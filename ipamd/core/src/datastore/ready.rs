//! Whether an ENI's link serves: the host's word, which comes and goes.

use super::Datastore;
use crate::{EniHandle, Phase};
use mutant::mutant;

impl Datastore {
    /// The ENI's link, addresses, table and rules are there: its addresses can be leased.
    pub fn set_ready(&mut self, handle: EniHandle) {
        if self
            .enis
            .get(&handle)
            .is_some_and(|e| e.phase == Phase::Attached)
            && let Some(eni) = self.eni_mut(handle)
        {
            eni.phase = Phase::Ready;
        }
    }

    /// The ENI's link is not there (any more): no new leases until it is wired again.
    pub fn set_unready(&mut self, handle: EniHandle) {
        if self.enis.get(&handle).is_some_and(|e| {
            mutant!(
                "link/gone-serves-no-new-pod",
                e.phase == Phase::Ready,
                false && e.primary
            )
        }) && let Some(eni) = self.eni_mut(handle)
        {
            eni.phase = Phase::Attached;
        }
    }
}
