//! A store in memory, with the faults of a disk: what is committed is durable at once, unless a
//! commit is made to fail, or the whole is made to come back older than it was.
//!
//! It stands for `ipamd/src/store`, whose test `differential.rs` holds it to the real database: what
//! that shows after a close, a kill, a reboot or damage, this can show.

use crate::life::Life;
use ipam_core::orphans::Fleet;
use ipam_core::{AttachmentKey, Eni, EniHandle, InstanceId, Lease, Timestamp};
use ipam_engine::ports::{Loaded, NodeFacts, Released, Store, StoreError, Write};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

#[derive(Clone, Debug, Default)]
struct Records {
    boot: Option<String>,
    leases: BTreeMap<AttachmentKey, Lease>,
    cooldowns: BTreeMap<IpAddr, Released>,
    enis: BTreeMap<EniHandle, Eni>,
    facts: Option<NodeFacts>,
    trusted: bool,
    instance: Option<InstanceId>,
    fleet: Option<Fleet>,
    /// By how many milliseconds the system's clock was ahead when the times in here were noted.
    ahead: i64,
    /// Opens tell of damage, until EC2 has made up for it.
    damaged: bool,
}

/// One record of the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Record {
    Lease(AttachmentKey),
    Cooldown(IpAddr),
    Eni(EniHandle),
    /// What IMDS said last.
    Facts,
    /// Of which boot and instance the state is.
    Owner,
}

/// How a commit can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitFault {
    /// Nothing is written, and that is told.
    Lost,
    /// All of it is written, and the opposite is told: a flush that failed after the write.
    WrittenAfterAll,
}

#[derive(Clone, Debug, Default)]
struct Disk {
    now: Records,
    commits: u64,
    /// What undoes the last commits, write by write, and when each was: oldest first. An open that
    /// notes something is one of them.
    past: VecDeque<(Instant, Arc<[Undo]>)>,
    /// How many of them to keep.
    keep: usize,
    /// The next open finds that it came back older than it was.
    told: bool,
    faults: VecDeque<CommitFault>,
    /// When a commit last failed, and whether none went well since.
    failed: Option<Instant>,
    failing: bool,
}

impl Disk {
    /// Keeps all as it is now, for [`Memory::go_back`].
    fn note_all(&mut self) {
        let was = Undo::Open(Box::new(self.now.clone()));
        self.note(vec![was]);
    }

    /// Keeps what undoes the last thing that was written.
    fn note(&mut self, undo: Vec<Undo>) {
        if self.keep == 0 {
            return;
        }
        self.past.push_back((Instant::now(), undo.into()));
        while self.past.len() > self.keep {
            self.past.pop_front();
        }
    }
}

/// See the module. Survives restarts of the daemon; cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Disk>>);

/// The boot of a node that never was restarted.
const FIRST_BOOT: &str = "boot-0";

impl Memory {
    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many batches were committed.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.disk().commits
    }

    /// Loses everything, as a disk that was replaced.
    pub fn wipe(&self) {
        *self.disk() = Disk::default();
    }

    /// What a daemon finds that starts now, in the same boot.
    #[must_use]
    pub fn load(&self) -> Loaded {
        self.open(FIRST_BOOT)
    }

    /// What a daemon finds that starts in this boot. What another boot may not use is dropped for
    /// good.
    pub fn open(&self, boot: &str) -> Loaded {
        let ahead = self.disk().now.ahead;
        self.open_at(boot, ahead)
    }

    /// The same when the system's clock is ahead of the truth by so many milliseconds. Times that were
    /// noted in the same boot with the clock at another place are moved with it.
    pub(crate) fn open_at(&self, boot: &str, ahead: i64) -> Loaded {
        let mut disk = self.disk();
        let same_boot = disk.now.boot.as_deref() == Some(boot);
        let told = std::mem::take(&mut disk.told);
        let step = ahead - disk.now.ahead;
        // Less is the clocks' own inaccuracy.
        let was_set = step.unsigned_abs() >= 1_000;
        if told || !same_boot || was_set {
            disk.note_all();
            disk.now.ahead = ahead;
        }
        if told || !same_boot {
            disk.now.trusted = false;
            disk.now.damaged |= told;
        }
        if same_boot && was_set {
            disk.now.move_times(step);
        }
        if !same_boot {
            disk.now.another_boot(boot);
        }
        let damage = match disk.now.damaged {
            true => vec!["the database came back older than it was".to_owned()],
            false => Vec::new(),
        };
        let records = disk.now.clone();
        Loaded {
            served: false,
            same_boot,
            instance: records.instance,
            leases: records.leases.into_values().collect(),
            cooldowns: records.cooldowns,
            enis: records.enis.into_values().collect(),
            facts: records.facts,
            trusted: records.trusted,
            fleet: records.fleet,
            damage,
        }
    }

    /// Another disk with the same on it.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.disk().clone())))
    }

    /// Whether the next open tells of damage.
    pub(crate) fn is_damaged(&self) -> bool {
        let disk = self.disk();
        disk.told || disk.now.damaged
    }

    /// Remembers states before so many of the last commits, for [`Memory::go_back`].
    pub fn keep_past(&self, states: usize) {
        self.disk().keep = states;
    }

    /// Comes back as it was before the last `commits` commits, or as many as are remembered. With
    /// `told`, the next open reports damage. Answers how long ago that was. An open in another boot,
    /// or the first that reports damage, counts as a commit: it writes.
    pub fn go_back(&self, commits: usize, told: bool) -> Option<Duration> {
        let mut disk = self.disk();
        let mut since = None;
        for _ in 0..commits {
            let Some((until, undo)) = disk.past.pop_back() else {
                break;
            };
            for step in undo.iter().rev() {
                disk.now.undo(step.clone());
            }
            since = Some(until);
        }
        disk.told |= told && since.is_some();
        since.map(|at| at.elapsed())
    }

    /// One record can't be read any more; the next open leaves it out and says so. `at` chooses among
    /// those that there are.
    pub(crate) fn lose(&self, at: usize) -> Option<Record> {
        let mut disk = self.disk();
        let now = &disk.now;
        let leases = now.leases.keys().cloned().map(Record::Lease);
        let cooldowns = now.cooldowns.keys().copied().map(Record::Cooldown);
        let enis = now.enis.keys().copied().map(Record::Eni);
        let facts = now.facts.iter().map(|_| Record::Facts);
        let owner = now.boot.iter().map(|_| Record::Owner);
        let all: Vec<Record> = leases
            .chain(cooldowns)
            .chain(enis)
            .chain(facts)
            .chain(owner)
            .collect();
        let record = all.get(at.checked_rem(all.len())?)?.clone();
        disk.note_all();
        match &record {
            Record::Lease(key) => drop(disk.now.leases.remove(key)),
            Record::Cooldown(ip) => drop(disk.now.cooldowns.remove(ip)),
            Record::Eni(handle) => drop(disk.now.enis.remove(handle)),
            Record::Facts => disk.now.facts = None,
            Record::Owner => (disk.now.boot, disk.now.instance) = (None, None),
        }
        disk.told = true;
        Some(record)
    }

    /// The whole state is removed: nothing is left to tell of it.
    pub(crate) fn remove(&self) {
        let mut disk = self.disk();
        disk.now = Records::default();
        disk.told = false;
        disk.past.clear();
    }

    /// This disk has from now on what another one has.
    pub(crate) fn become_copy_of(&self, other: &Self) {
        let theirs = other.disk().now.clone();
        let mut disk = self.disk();
        disk.now = theirs;
        disk.told = false;
        disk.past.clear();
    }

    /// The next commits go wrong so.
    pub fn fail(&self, faults: impl IntoIterator<Item = CommitFault>) {
        self.disk().faults.extend(faults);
    }

    /// No commit goes wrong any more.
    pub fn heal(&self) {
        self.disk().faults.clear();
    }

    /// The ENIs as they are stored now, with their intents.
    #[must_use]
    pub fn enis(&self) -> Vec<Eni> {
        self.disk().now.enis.values().cloned().collect()
    }

    /// The leases as they are stored now.
    #[must_use]
    pub fn leases(&self) -> Vec<Lease> {
        self.disk().now.leases.values().cloned().collect()
    }

    /// The lease of an attachment as it is stored now.
    pub(crate) fn lease(&self, key: &AttachmentKey) -> Option<Lease> {
        self.disk().now.leases.get(key).cloned()
    }

    /// Released addresses as they are stored now.
    pub(crate) fn resting(&self) -> BTreeSet<IpAddr> {
        self.disk().now.cooldowns.keys().copied().collect()
    }

    /// Released addresses and when they were released, as they are stored now.
    pub(crate) fn released(&self) -> BTreeMap<IpAddr, Timestamp> {
        let disk = self.disk();
        let cooldowns = disk.now.cooldowns.iter();
        cooldowns.map(|(ip, released)| (*ip, released.at)).collect()
    }

    /// The host's ends of the links that released addresses were on.
    pub(crate) fn released_links(&self) -> BTreeMap<IpAddr, String> {
        let disk = self.disk();
        let cooldowns = disk.now.cooldowns.iter();
        let links = cooldowns.map(|(ip, released)| (*ip, released.host_if.clone()));
        links.filter(|(_, host_if)| !host_if.is_empty()).collect()
    }

    /// How long ago a commit last failed, and whether none went well since.
    pub(crate) fn last_failure(&self) -> Option<(Duration, bool)> {
        let disk = self.disk();
        let failed = disk.failed.map(|at| at.elapsed());
        failed.map(|ago| (ago, disk.failing))
    }

    /// Whether an open in this boot would drop what another boot may not use.
    pub(crate) fn is_of_another_boot(&self, boot: &str) -> bool {
        self.disk().now.boot.as_deref() != Some(boot)
    }

    /// How far the system's clock was ahead when its times were noted, in milliseconds.
    pub(crate) fn ahead(&self) -> i64 {
        self.disk().now.ahead
    }

    pub(crate) fn any_eni(&self, fits: impl Fn(&Eni) -> bool) -> bool {
        self.disk().now.enis.values().any(fits)
    }
}

/// A record as it was before a write.
#[derive(Clone, Debug)]
enum Undo {
    Lease(AttachmentKey, Option<Lease>),
    Cooldown(IpAddr, Option<Released>),
    Eni(EniHandle, Option<Eni>),
    Fleet(Option<Fleet>),
    /// Trusted or not, damaged or not.
    Trusted(bool, bool),
    Facts(Option<InstanceId>, Option<NodeFacts>),
    /// All as it was before an open that wrote.
    Open(Box<Records>),
}

impl Records {
    /// The system's clock was set by so much: what was 10 s ago is 10 s ago.
    fn move_times(&mut self, step: i64) {
        let moved = |at: &mut Timestamp| {
            // Zero is "never".
            if at.0 > 0 {
                at.0 = at.0.saturating_add_signed(step).max(1);
            }
        };
        self.leases.values_mut().for_each(|l| moved(&mut l.since));
        self.cooldowns.values_mut().for_each(|r| moved(&mut r.at));
        for eni in self.enis.values_mut() {
            moved(&mut eni.since);
            moved(&mut eni.written_at);
            eni.in_doubt_since.as_mut().into_iter().for_each(moved);
        }
    }

    /// Drops what another boot may not use.
    fn another_boot(&mut self, boot: &str) {
        self.leases.clear();
        self.facts = None;
        self.boot = Some(boot.into());
    }

    fn before(&self, write: &Write) -> Undo {
        let lease = |key: &AttachmentKey| Undo::Lease(key.clone(), self.leases.get(key).cloned());
        let cooldown = |ip: &IpAddr| Undo::Cooldown(*ip, self.cooldowns.get(ip).cloned());
        let eni = |handle: &EniHandle| Undo::Eni(*handle, self.enis.get(handle).cloned());
        match write {
            Write::Lease(new) => lease(&new.key),
            Write::NoLease(key) => lease(key),
            Write::Cooldown(ip, _) | Write::NoCooldown(ip) => cooldown(ip),
            Write::Eni(new) => eni(&new.handle),
            Write::NoEni(handle) => eni(handle),
            Write::Fleet(_) => Undo::Fleet(self.fleet),
            Write::Trusted => Undo::Trusted(self.trusted, self.damaged),
            Write::Facts(_) => Undo::Facts(self.instance.clone(), self.facts.clone()),
        }
    }

    fn undo(&mut self, step: Undo) {
        fn put<K: Ord, V>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) {
            match value {
                Some(value) => drop(map.insert(key, value)),
                None => drop(map.remove(&key)),
            }
        }
        match step {
            Undo::Lease(key, was) => put(&mut self.leases, key, was),
            Undo::Cooldown(ip, was) => put(&mut self.cooldowns, ip, was),
            Undo::Eni(handle, was) => put(&mut self.enis, handle, was),
            Undo::Fleet(was) => self.fleet = was,
            Undo::Trusted(trusted, damaged) => (self.trusted, self.damaged) = (trusted, damaged),
            Undo::Facts(instance, facts) => (self.instance, self.facts) = (instance, facts),
            Undo::Open(was) => *self = *was,
        }
    }

    fn write(&mut self, write: Write) {
        match write {
            Write::Lease(lease) => drop(self.leases.insert(lease.key.clone(), lease)),
            Write::NoLease(key) => drop(self.leases.remove(&key)),
            Write::Cooldown(ip, released) => drop(self.cooldowns.insert(ip, released)),
            Write::NoCooldown(ip) => drop(self.cooldowns.remove(&ip)),
            Write::Eni(eni) => drop(self.enis.insert(eni.handle, eni)),
            Write::NoEni(handle) => drop(self.enis.remove(&handle)),
            Write::Fleet(fleet) => self.fleet = Some(fleet),
            Write::Trusted => (self.trusted, self.damaged) = (true, false),
            Write::Facts(facts) => {
                self.instance = Some(facts.instance_id.clone());
                self.facts = Some(facts);
            }
        }
    }
}

impl Store for Memory {
    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        let mut disk = self.disk();
        let fault = disk.faults.pop_front();
        if fault != Some(CommitFault::Lost) {
            disk.commits += 1;
            let mut undo = Vec::new();
            for write in batch.iter().cloned() {
                if disk.keep > 0 {
                    undo.push(disk.now.before(&write));
                }
                disk.now.write(write);
            }
            disk.note(undo);
        }
        disk.failing = fault.is_some();
        disk.failed = fault.map(|_| Instant::now()).or(disk.failed);
        match fault {
            None => Ok(()),
            Some(_) => Err(StoreError {
                what: "writing".into(),
                source: "no space left on the simulated disk".into(),
            }),
        }
    }
}

/// The store of one run of a daemon: killed before a commit, nothing of it is there; killed after
/// it, all of it, and nobody was answered.
#[derive(Debug)]
pub(crate) struct MortalStore {
    pub(crate) memory: Memory,
    pub(crate) life: Life,
}

impl Store for MortalStore {
    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError> {
        self.life.step("before a commit");
        let result = self.memory.commit(batch);
        self.life.step("after a commit");
        result
    }
}
