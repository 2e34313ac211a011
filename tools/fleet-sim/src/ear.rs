//! The person who is told: keeps every notice.

use ipam_engine::Told;
use ipam_engine::ports::Cluster;
use std::sync::{Arc, Mutex, PoisonError};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ear(Arc<Mutex<Vec<Told>>>);

impl Ear {
    /// Everything that was told so far.
    pub(crate) fn heard(&self) -> Vec<Told> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl Cluster for Ear {
    fn tell(&self, told: &Told) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(told.clone());
    }
}
