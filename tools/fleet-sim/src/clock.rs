//! The clock of one node: virtual time as the node's system clock tells it, right or wrong.
//!
//! The system's clock may be set at any time. A run of a daemon goes on from what it showed at its
//! start, as `ipamd/src/clock.rs` does: what is set later is the next run's.

use crate::world::World;
use ipam_core::Timestamp;
use ipam_engine::ports::Clock;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// A node's system clock: by how many milliseconds it is ahead. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct SystemClock(Arc<AtomicI64>);

impl SystemClock {
    /// Milliseconds ahead of the truth; negative if it is behind.
    pub(crate) fn ahead(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Somebody sets it.
    pub(crate) fn set(&self, ahead: i64) {
        self.0.store(ahead, Ordering::Relaxed);
    }

    /// What it shows.
    pub(crate) fn now(&self, world: &World) -> Timestamp {
        shown(world, self.ahead())
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct RunClock {
    pub(crate) world: World,
    pub(crate) ahead: i64,
}

impl Clock for RunClock {
    fn now(&self) -> Timestamp {
        shown(&self.world, self.ahead)
    }
}

fn shown(world: &World, ahead: i64) -> Timestamp {
    Timestamp(world.now().0.saturating_add_signed(ahead))
}
