//! A node of a scenario: what its pods need of it, and how its daemon comes and goes.

use super::known::Dice;
use super::runtime::{Book, Habits};
use crate::kernel::Kernel;
use crate::node::Node;
use crate::oracle::{self, Living};
use crate::rng::Rng;
use crate::spool::Spool;
use crate::store::Memory;
use crate::world::World;
use ipam_core::{Eni, Family, Intent};
use ipam_engine::Settings;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What pods need of their node. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) world: World,
    pub(super) name: String,
    pub(super) kernel: Kernel,
    pub(super) spool: Spool,
    pub(super) store: Memory,
    pub(super) cooldown: Duration,
    pub(super) habits: Habits,
    pub(super) book: Book,
    boot: Arc<AtomicU64>,
    quiet: Arc<AtomicBool>,
    adds: Arc<AtomicU64>,
    runs: Arc<AtomicU64>,
    asks: Arc<Mutex<Asks>>,
}

/// What the settings of the daemon that runs ask for each pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Asks {
    pub(super) families: Vec<Family>,
    pub(super) egress: Option<Family>,
}

impl Site {
    /// Changes when all pods are gone at once.
    pub(super) fn boot(&self) -> u64 {
        self.boot.load(Ordering::Relaxed)
    }

    /// No trouble any more: pods that are not up give up.
    pub(super) fn quiet(&self) -> bool {
        self.quiet.load(Ordering::Relaxed)
    }

    /// Changes with each start of the daemon.
    pub(super) fn run(&self) -> u64 {
        self.runs.load(Ordering::Relaxed)
    }

    pub(super) fn asks(&self) -> Asks {
        let asks = self.asks.lock();
        asks.unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn starts(&self, settings: &Settings) {
        self.runs.fetch_add(1, Ordering::Relaxed);
        // Where the node has no address of its own, they would lead nowhere.
        let enis = oracle::enis(&self.world);
        let first = |e: &&oracle::Eni| e.first && e.node.as_deref() == Some(&self.name);
        let own = enis.iter().find(first).map_or(&[][..], |e| &e.own);
        let leads = |family: &Family| own.iter().any(|ip| Family::of(*ip) == *family);
        *self.asks.lock().unwrap_or_else(PoisonError::into_inner) = Asks {
            families: settings.policy.families.clone(),
            egress: settings.egress.filter(leads),
        };
    }

    pub(super) fn count_add(&self) {
        self.adds.fetch_add(1, Ordering::Relaxed);
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) node: Node,
    pub(super) site: Site,
    pub(super) settings: Settings,
    pub(super) instance_type: String,
    /// Its instance is no more.
    pub(super) gone: bool,
    /// When the daemon that died is started again.
    restart_at: Option<Duration>,
    pub(super) dice: Dice,
}

impl Machine {
    pub(super) fn new(
        node: Node,
        settings: Settings,
        instance_type: &str,
        (dice, habits): (Dice, Habits),
    ) -> Self {
        let site = Site {
            world: node.world.clone(),
            name: node.name.clone(),
            kernel: node.kernel.clone(),
            spool: node.spool.clone(),
            store: node.store.clone(),
            cooldown: settings.policy.cooldown,
            habits,
            book: Book::default(),
            boot: Arc::default(),
            quiet: Arc::default(),
            adds: Arc::default(),
            runs: Arc::default(),
            asks: Arc::default(),
        };
        Self {
            node,
            site,
            settings,
            instance_type: instance_type.into(),
            gone: false,
            restart_at: Some(Duration::ZERO),
            dice,
        }
    }

    pub(super) fn tell(&self, what: impl FnOnce() -> String) {
        self.site.world.tell(&self.site.name, what);
    }

    /// ADDs so far.
    pub(super) fn adds(&self) -> u64 {
        self.site.adds.load(Ordering::Relaxed)
    }

    /// Looks after the daemon: one that is dead is started again after a while.
    pub(super) async fn look_after(&mut self, rng: &mut Rng, fuses: bool) {
        if self.gone {
            return;
        }
        if let Some(at) = self.node.found_dead().await {
            self.tell(|| format!("the daemon is found dead: {at}"));
            self.restart_later(rng);
        }
        let now = self.site.world.elapsed();
        if !self.node.runs() && self.restart_at.is_some_and(|at| at <= now) {
            let fuse = match fuses && rng.percent(40) {
                true => 1 << rng.range(1, 7),
                false => 0,
            };
            let fuse = rng.range(fuse / 2, fuse);
            self.start(fuse);
        }
        self.node.kernel.tell_links().await;
    }

    fn start(&mut self, fuse: u64) {
        self.tell(|| format!("the daemon starts (fuse {fuse})"));
        self.restart_at = None;
        self.site.starts(&self.settings);
        if self.must_not_see_clock() {
            self.node.clock.set(self.site.store.ahead());
        }
        self.node.start_with_fuse(self.settings.clone(), fuse);
    }

    /// The system's clock was set since the last run, and what follows from that is a known fault.
    fn must_not_see_clock(&self) -> bool {
        let creates = |e: &Eni| matches!(e.intent, Some(Intent::Create { .. }));
        let repeats = self.site.store.any_eni(creates);
        // The oracle of refusals reads the times on the disk as they are; the daemon cuts those of the
        // future down to its start.
        let back = self.node.clock.ahead() < self.site.store.ahead();
        let future = back && self.node.is_another_boot() && !self.site.store.resting().is_empty();
        future || repeats && !self.dice.allow("repeated create")
    }

    fn restart_later(&mut self, rng: &mut Rng) {
        let wait = match rng.percent(15) {
            true => rng.millis(10_000, 60_000),
            false => rng.millis(0, 4_000),
        };
        self.restart_at = Some(self.site.world.elapsed() + wait);
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self, rng: &mut Rng) {
        self.tell(|| "kill -9".into());
        self.node.kill();
        self.restart_later(rng);
    }

    /// A stop and a start, perhaps with other settings.
    pub(super) async fn restart(&mut self, settings: Option<Settings>) {
        self.tell(|| "the daemon is told to stop".into());
        self.node.stop().await;
        self.tell(|| "the daemon has stopped".into());
        if let Some(settings) = settings {
            self.settings = settings;
        }
        self.restart_at = Some(self.site.world.elapsed());
    }

    /// Another boot.
    pub(super) fn reboot(&mut self, rng: &mut Rng) {
        self.tell(|| "the node reboots".into());
        self.node.reboot();
        self.site.boot.fetch_add(1, Ordering::Relaxed);
        self.restart_later(rng);
    }

    /// Its instance ends, and it never comes back.
    pub(super) fn terminate(&mut self) {
        self.tell(|| "the instance is terminated".into());
        self.node.reboot();
        self.site.boot.fetch_add(1, Ordering::Relaxed);
        self.gone = true;
        self.site.world.oracle().terminated(&self.site.name);
        let now = self.site.world.time();
        // The node is there: it was launched with the world.
        let _ = self
            .site
            .world
            .vpc()
            .terminate_instance(&self.site.name, now);
    }

    /// The daemon dies and its store comes back older than it was. In silence only where nothing was
    /// given back to EC2 meanwhile: what EC2 may have given to others nobody but EC2 can tell.
    pub(super) fn go_back(&mut self, rng: &mut Rng) {
        self.node.kill();
        self.restart_later(rng);
        let commits = usize::try_from(rng.range(1, 10)).unwrap_or(1);
        let world = self.site.world.clone();
        let told = {
            let oracle = world.oracle();
            let quiet_for = Duration::from_secs(90);
            let gave = oracle.gave_back.get(&self.site.name);
            let lately = gave.is_some_and(|at| world.elapsed() < *at + quiet_for);
            // A loss that was told of stays told, until EC2 has made up for it.
            lately || rng.percent(70) || self.site.store.is_damaged()
        };
        let name = self.site.name.clone();
        // Plugins at work between answer and route: nothing witnesses what they were told.
        world
            .oracle()
            .living
            .retain(|(on, _), l| *on != name || l.wired);
        let Some(back) = self.site.store.go_back(commits, told) else {
            return;
        };
        let then = world.elapsed().saturating_sub(back);
        let leases = self.site.store.leases();
        let leased = leases.into_iter().flat_map(|l| l.addresses).collect();
        world
            .oracle()
            .went_back(world.elapsed(), &self.site.name, then, &leased);
        self.forget_unwitnessed();
        self.tell(|| {
            let how = if told { "and says so" } else { "in silence" };
            format!("the store comes back as it was {back:?} ago, {how}")
        });
    }

    /// What pods were told whose leases are lost, and whose routes others have taken, nothing witnesses.
    fn forget_unwitnessed(&self) {
        let mut oracle = self.site.world.oracle();
        let tables = self.site.kernel.tables();
        let name = &self.site.name;
        let witnessed = |l: &Living| !l.unstored || tables.witnesses(&l.ips, &l.host_if);
        oracle
            .living
            .retain(|(on, _), l| on != name || witnessed(l));
    }

    /// The daemon dies, and one record of its store can't be read any more.
    pub(super) fn lose_record(&mut self, rng: &mut Rng) {
        self.node.kill();
        self.restart_later(rng);
        let at = usize::try_from(rng.range(0, 10_000)).unwrap_or(0);
        let Some(record) = self.site.store.lose(at) else {
            return;
        };
        let world = self.site.world.clone();
        let now = world.elapsed();
        world.oracle().lost(now, &self.site.name, &record);
        self.forget_unwitnessed();
        self.tell(|| format!("a record can't be read any more: {record:?}"));
    }

    /// The daemon dies, and its state directory is removed.
    pub(super) fn lose_state(&mut self, rng: &mut Rng) {
        self.node.kill();
        self.restart_later(rng);
        let world = self.site.world.clone();
        let name = &self.site.name;
        {
            let mut oracle = world.oracle();
            oracle.living.retain(|(on, _), l| on != name || l.wired);
            oracle.went_back(world.elapsed(), name, Duration::ZERO, &BTreeSet::new());
        }
        self.forget_unwitnessed();
        self.site.store.remove();
        self.tell(|| "the state directory is removed".into());
    }

    /// The node is made anew from an image of another one's disk.
    pub(super) fn made_from(&mut self, image: &Memory, rng: &mut Rng) {
        self.tell(|| "the node is made anew from another one's disk".into());
        self.node.kill();
        self.site.store.become_copy_of(image);
        let (world, name) = (self.site.world.clone(), self.site.name.clone());
        world
            .oracle()
            .went_back(world.elapsed(), &name, Duration::ZERO, &BTreeSet::new());
        self.reboot(rng);
    }

    /// No trouble any more: a daemon runs, and lives.
    pub(super) async fn settle(&mut self, rng: &mut Rng) {
        self.site.quiet.store(true, Ordering::Relaxed);
        self.site.store.heal();
        self.node.mood.clear();
        self.node.road.clear();
        self.node.kernel.calm();
        if self.gone {
            return;
        }
        // One with a fuse may be there.
        if self.node.found_dead().await.is_none() && self.node.has_fuse() {
            self.kill(rng);
        }
        if !self.node.runs() {
            self.start(0);
        }
    }
}
