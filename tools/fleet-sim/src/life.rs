//! One run of a daemon, which can end anywhere as by `kill -9`: at a step that its ports count, or
//! from outside.
//!
//! What ends is unwound without a word, the engine's task and those that it started alike. What was
//! sent to EC2 is not the daemon's any more and goes on.

use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Notify;

/// What a task that is killed unwinds with.
#[derive(Debug)]
pub(crate) struct Killed;

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Life(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    over: AtomicBool,
    /// Steps until the end; 0 is for ever.
    fuse: AtomicU64,
    ended: Notify,
    at: Mutex<&'static str>,
}

impl Life {
    /// A run that ends at its `steps`-th step; with 0 at none.
    pub(crate) fn with_fuse(steps: u64) -> Self {
        let life = Self::default();
        life.0.fuse.store(steps, Ordering::Relaxed);
        life
    }

    pub(crate) fn over(&self) -> bool {
        self.0.over.load(Ordering::Relaxed)
    }

    /// Whether it will end by itself.
    pub(crate) fn has_fuse(&self) -> bool {
        self.0.fuse.load(Ordering::Relaxed) > 0
    }

    /// Where it ended.
    pub(crate) fn ended_at(&self) -> &'static str {
        *self.0.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it here.
    pub(crate) fn end(&self, at: &'static str) {
        if !self.0.over.swap(true, Ordering::Relaxed) {
            *self.0.at.lock().unwrap_or_else(PoisonError::into_inner) = at;
            self.0.ended.notify_waiters();
        }
    }

    /// One step, seen by somebody who is not the daemon.
    pub(crate) fn burn(&self, at: &'static str) {
        match self.0.fuse.load(Ordering::Relaxed) {
            0 => {}
            1 => self.end(at),
            left => self.0.fuse.store(left - 1, Ordering::Relaxed),
        }
    }

    /// One step of the daemon itself: it may not come back from it.
    pub(crate) fn step(&self, at: &'static str) {
        if !self.over() {
            self.burn(at);
        }
        if self.over() {
            resume_unwind(Box::new(Killed));
        }
    }

    /// The work of a task of the daemon.
    pub(crate) async fn mortal<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::select! {
            biased;
            () = self.ended() => resume_unwind(Box::new(Killed)),
            result = work => result,
        }
    }

    async fn ended(&self) {
        // Made before the look: an end in between wakes it.
        let ended = self.0.ended.notified();
        if !self.over() {
            ended.await;
        }
    }
}
