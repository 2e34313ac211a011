//! What the runtime of a node has noted of its sandboxes. Another boot begins with nothing.

use ipam_core::AttachmentKey;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

/// The network of pods' first interfaces, until it is renamed.
pub(super) const NETWORK: &str = "sim";
/// The network of most second interfaces.
pub(super) const SECOND: &str = "second";

/// How far an attachment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Its ADD is under way.
    UnderWay,
    /// Its ADD failed, and its DEL is to come.
    Failed,
    /// Its ADD has succeeded.
    Up,
    /// The runtime knows nothing of it any more, and no DEL will come.
    Lost,
}

#[derive(Debug)]
struct Notes {
    boot: u64,
    /// Names that the first interfaces' network has had; the last is today's.
    names: Vec<String>,
    /// And since when.
    attachments: BTreeMap<AttachmentKey, (Standing, Duration)>,
}

impl Default for Notes {
    fn default() -> Self {
        Self {
            boot: 0,
            names: vec![NETWORK.into()],
            attachments: BTreeMap::new(),
        }
    }
}

/// See the module. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Book {
    notes: Arc<Mutex<Notes>>,
    turns: Arc<RwLock<()>>,
}

impl Book {
    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All pods of earlier boots are gone.
    pub(super) fn of_boot(&self, boot: u64) {
        let mut notes = self.notes();
        if notes.boot != boot {
            notes.boot = boot;
            notes.attachments.clear();
        }
    }

    /// Held by each ADD and DEL while it is under way.
    pub(super) async fn turn(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.turns).read_owned().await
    }

    /// Held by a GC that is alone; `None` while anything else is under way.
    pub(super) fn alone(&self) -> Option<OwnedRwLockWriteGuard<()>> {
        Arc::clone(&self.turns).try_write_owned().ok()
    }

    /// The name in the network configuration now.
    pub(super) fn network(&self) -> String {
        self.notes().names.last().cloned().unwrap_or_default()
    }

    /// Every network that attachments may be of.
    pub(super) fn networks(&self) -> Vec<String> {
        let mut all = self.notes().names.clone();
        all.push(SECOND.into());
        all
    }

    /// Somebody changes the name in the network configuration.
    pub(super) fn rename(&self) -> String {
        let mut notes = self.notes();
        let name = format!("{NETWORK}-{}", notes.names.len());
        notes.names.push(name.clone());
        name
    }

    /// Whether a network is that of first interfaces, under one of its names.
    pub(super) fn is_first(&self, network: &str) -> bool {
        self.notes().names.iter().any(|name| name == network)
    }

    fn set(&self, key: &AttachmentKey, standing: Standing, now: Duration) {
        let mut notes = self.notes();
        notes.attachments.insert(key.clone(), (standing, now));
    }

    pub(super) fn begins(&self, key: &AttachmentKey, now: Duration) {
        self.set(key, Standing::UnderWay, now);
    }

    pub(super) fn is_up(&self, key: &AttachmentKey, now: Duration) {
        self.set(key, Standing::Up, now);
    }

    pub(super) fn has_failed(&self, key: &AttachmentKey, now: Duration) {
        self.set(key, Standing::Failed, now);
    }

    /// The runtime crashes and has forgotten it.
    pub(super) fn loses(&self, key: &AttachmentKey, now: Duration) {
        self.set(key, Standing::Lost, now);
    }

    /// Its DEL has succeeded, or a GC has ended it.
    pub(super) fn forgets(&self, key: &AttachmentKey) {
        self.notes().attachments.remove(key);
    }

    /// What a GC of `network` lists. A runtime knows containers and interfaces, and calls the network by
    /// the name that its configuration has today.
    pub(super) fn lists(&self, network: &str, all: bool) -> BTreeSet<AttachmentKey> {
        let notes = self.notes();
        let first = |name: &str| notes.names.iter().any(|n| n == name);
        let known = notes.attachments.iter().filter(|(key, (standing, _))| {
            let named = match standing {
                Standing::Up => true,
                Standing::UnderWay | Standing::Failed => all,
                Standing::Lost => false,
            };
            named && (key.network == network || first(network) && first(&key.network))
        });
        known
            .map(|(key, _)| AttachmentKey {
                network: network.into(),
                ..key.clone()
            })
            .collect()
    }

    /// What was lost of a network before `until`.
    pub(super) fn lost(&self, network: &str, until: Duration) -> Vec<AttachmentKey> {
        self.of(network, |standing, at| {
            standing == Standing::Lost && at <= until
        })
    }

    /// Whose ADDs have failed.
    pub(super) fn failed(&self, network: &str) -> Vec<AttachmentKey> {
        self.of(network, |standing, _| standing == Standing::Failed)
    }

    fn of(&self, network: &str, which: impl Fn(Standing, Duration) -> bool) -> Vec<AttachmentKey> {
        let notes = self.notes();
        let all = notes.attachments.iter();
        all.filter(|(key, (standing, at))| key.network == network && which(*standing, *at))
            .map(|(key, _)| key.clone())
            .collect()
    }
}
