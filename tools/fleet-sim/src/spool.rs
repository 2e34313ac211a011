//! Releases that the plugin noted while no daemon answered, as the daemon's directory of them:
//! told to the next daemon, kept until it has answered.

use crate::life::Life;
use ipam_core::AttachmentKey;
use ipam_engine::{Handle, Release};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::timeout;

/// What was refused is tried again so often.
const AGAIN: Duration = Duration::from_secs(60);

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spool(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    next: u64,
    news: Arc<Notify>,
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
        // Kept for a daemon that is just looking.
        notes.news.notify_one();
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

    /// An ADD of the attachment comes after its noted DEL.
    pub(crate) fn withdraw(&self, key: &AttachmentKey) {
        self.notes().notes.retain(|_, noted| noted.key != *key);
    }

    /// What the daemon does with it, from its start on. What it can't carry out stays, and is tried
    /// again later, or when another note comes. `taken` hears of each release that was answered.
    pub(crate) fn keep_drained(
        &self,
        engine: Handle,
        life: Life,
        taken: impl Fn(&Release) + Send + Sync + 'static,
    ) {
        let (spool, mortal) = (self.clone(), life.clone());
        let work = async move {
            loop {
                // Made before the look: a note that comes in between is heard of.
                let news = spool.news();
                let left = spool.drain(&engine, &life, &taken).await;
                if left {
                    drop(timeout(AGAIN, news.notified()).await);
                } else {
                    news.notified().await;
                }
            }
        };
        tokio::spawn(async move { mortal.mortal(work).await });
    }

    fn news(&self) -> Arc<Notify> {
        self.notes().news.clone()
    }

    /// `true`: something is left.
    async fn drain(
        &self,
        engine: &Handle,
        life: &Life,
        taken: &(impl Fn(&Release) + Sync),
    ) -> bool {
        let all: Vec<u64> = self.notes().notes.keys().copied().collect();
        for number in all {
            // The plugin may have taken it back meanwhile.
            let Some(release) = self.notes().notes.get(&number).cloned() else {
                continue;
            };
            if engine.release(release.clone()).await.is_ok() {
                taken(&release);
                life.step("before a noted release is removed");
                self.remove(number);
            }
        }
        !self.notes().notes.is_empty()
    }
}
