//! Many seeds side by side, in order, until one fails or the time is over.

use crate::scenario::{Report, play};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// What to search through.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// The first seed.
    pub from: u64,
    /// The seed after the last.
    pub to: u64,
    /// Not longer than this.
    pub time: Option<Duration>,
    /// After so many failed seeds it is enough.
    pub failures_max: usize,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Seeds that were played.
    pub seeds: u64,
    /// Virtual time that passed in them.
    pub lasted: Duration,
    /// ADDs in them.
    pub adds: u64,
    /// EC2 calls in them.
    pub calls: u64,
    /// Seeds that broke a promise, with their stories, by seed.
    pub failed: Vec<Report>,
}

impl Search {
    /// Plays the seeds on all processors.
    #[must_use]
    pub fn run(&self) -> Found {
        let begun = Instant::now();
        let next = AtomicU64::new(self.from);
        let enough = AtomicBool::new(false);
        let found = Mutex::new(Found::default());
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !enough.load(Ordering::Relaxed) {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        let late = self.time.is_some_and(|time| begun.elapsed() > time);
                        if seed >= self.to || late {
                            return;
                        }
                        let report = play(seed, false);
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        if found.take(report) >= self.failures_max {
                            enough.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.failed.sort_by_key(|r| r.seed);
        for report in &mut found.failed {
            // The same seed tells the same story.
            *report = play(report.seed, true);
        }
        found
    }
}

impl Found {
    /// Adds what another search found.
    pub fn join(&mut self, other: Self) {
        self.seeds += other.seeds;
        self.lasted += other.lasted;
        self.adds += other.adds;
        self.calls += other.calls;
        self.failed.extend(other.failed);
    }

    /// Adds a report; answers how many have failed.
    fn take(&mut self, report: Report) -> usize {
        self.seeds += 1;
        self.lasted += report.lasted;
        self.adds += report.adds;
        self.calls += report.calls;
        if !report.breaches.is_empty() {
            self.failed.push(report);
        }
        self.failed.len()
    }
}
