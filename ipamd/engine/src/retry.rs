//! When to try something local again: IMDS, the kernel.

use ipam_core::Timestamp;
use std::time::Duration;

const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(30);

/// Doubling waits between 0.2 s and 30 s. Nobody else shares what is behind it, so no jitter.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    failures: u32,
    at: Option<Timestamp>,
}

impl Retry {
    /// The next try, after a failure.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        self.at
    }

    pub(crate) fn failed(&mut self, now: Timestamp) -> Timestamp {
        let wait = FIRST
            .saturating_mul(1 << self.failures.min(10))
            .min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let at = now + wait;
        self.at = Some(at);
        at
    }

    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }
}
