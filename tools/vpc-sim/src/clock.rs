//! The model's clock: the machine's, moved forward by hand when a person wants to see a lease end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};
use vpc_model::Time;

/// Never runs backwards. Clones share the offset.
#[derive(Clone, Debug)]
pub struct Clock {
    started: Instant,
    at_start: Time,
    ahead_us: Arc<AtomicU64>,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock {
    /// Starts with the machine's time of day.
    pub fn new() -> Self {
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let micros = since_epoch.map_or(0, micros);
        Self {
            started: Instant::now(),
            at_start: Time::from_unix_micros(micros),
            ahead_us: Arc::default(),
        }
    }

    /// The model's time.
    pub fn now(&self) -> Time {
        let ahead = Duration::from_micros(self.ahead_us.load(Ordering::Relaxed));
        self.at_start + self.started.elapsed() + ahead
    }

    /// Jumps forward.
    pub(crate) fn advance(&self, by: Duration) {
        let ahead = |us: u64| Some(us.saturating_add(micros(by)));
        // The closure never refuses.
        let _ = self
            .ahead_us
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, ahead);
    }
}

fn micros(d: Duration) -> u64 {
    u64::try_from(d.as_micros()).unwrap_or(u64::MAX)
}
