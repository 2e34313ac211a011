//! Releases that the plugin noted while no daemon answered, as the daemon's directory of them:
//! told to the next daemon, kept until it has answered.

use crate::life::Life;
use ipam_engine::{Handle, Release};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spool(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    next: u64,
    notes: BTreeMap<u64, Release>,
}

impl Spool {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a release; the number takes it back.
    pub(crate) fn note(&self, release: Release) -> u64 {
        let mut notes = self.notes();
        let number = notes.next;
        notes.next += 1;
        notes.notes.insert(number, release);
        number
    }

    /// The release was carried out.
    pub(crate) fn remove(&self, number: u64) {
        self.notes().notes.remove(&number);
    }

    /// Another boot: nothing of it counts.
    pub(crate) fn clear(&self) {
        self.notes().notes.clear();
    }

    /// What the daemon does with it when it starts.
    pub(crate) fn drain(&self, engine: Handle, life: Life) {
        let (spool, mortal) = (self.clone(), life.clone());
        if spool.notes().notes.is_empty() {
            return;
        }
        let work = async move {
            let all = spool.notes().notes.clone();
            for (number, release) in all {
                if engine.release(release).await.is_ok() {
                    life.step("before a noted release is removed");
                    spool.remove(number);
                }
            }
        };
        tokio::spawn(async move { mortal.mortal(work).await });
    }
}
