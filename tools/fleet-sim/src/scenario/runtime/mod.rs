//! A container runtime with its pods: sandboxes that come, live and go, under names that come again.
//! Tells the oracle what it was told.

mod add;
mod book;
mod check;
mod dels;
mod gc;
mod habits;
mod plugin;
mod probing;
mod sandbox;

pub(super) use book::Book;
pub(super) use gc::keep;
pub(super) use habits::Habits;
pub(super) use probing::{Answered, Prober};

use super::machine::Site;
use crate::oracle::PodKey;
use crate::rng::Rng;
use ipam_core::{AttachmentKey, Family};
use ipam_engine::Release;
use plugin::Wired;
use sandbox::Sandbox;
use std::net::IpAddr;
use std::time::Duration;
use tokio::time::sleep;

/// Nearly all of a node's node-local addresses are routed to pods that nobody knows: those that are left
/// are used again and again.
pub(super) fn crowd(site: &Site, egress: Option<Family>, dice: &mut Rng) {
    let Some(family) = egress.filter(|_| site.habits.crowded) else {
        return;
    };
    let left = usize::try_from(dice.range(12, 24)).unwrap_or(12);
    let all: Vec<IpAddr> = ipam_core::wiring::egress::addresses(family).collect();
    site.kernel.crowd(all.into_iter().skip(left));
}

/// Who acts for one pod on its node.
#[derive(Debug)]
struct Worker {
    site: Site,
    /// The boot of the node in which it acts.
    boot: u64,
    rng: Rng,
}

/// One pod on its node.
#[derive(Debug)]
pub(super) struct Pod {
    worker: Worker,
    name: String,
    lifetime: Duration,
    /// Sandboxes so far.
    sandboxes: u32,
}

impl Worker {
    /// The node was switched off under it, or is no more.
    fn over(&self) -> bool {
        self.site.boot() != self.boot
    }

    fn fork(&mut self) -> Self {
        Self {
            site: self.site.clone(),
            boot: self.boot,
            rng: self.rng.fork(),
        }
    }

    fn pod_key(&self, key: &AttachmentKey) -> PodKey {
        (self.site.name.clone(), key.clone())
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        self.site.world.tell(&self.site.name, what);
    }

    /// Whether an attachment lives, and nobody took its address or its lease away.
    fn is_sound(&self, key: &AttachmentKey) -> bool {
        let oracle = self.site.world.oracle();
        let living = oracle.living.get(&self.pod_key(key));
        living.is_some_and(|l| !l.unstored && !l.broken)
    }

    /// Every interface of a sandbox, the first first. `false`: one of them failed.
    async fn add(&mut self, sandbox: &mut Sandbox) -> bool {
        for n in 0..sandbox.attachments.len() {
            if !self.add_one(sandbox, n).await {
                return false;
            }
        }
        true
    }

    async fn add_one(&mut self, sandbox: &mut Sandbox, n: usize) -> bool {
        let _turn = self.site.book.turn().await;
        if self.over() {
            return false;
        }
        let (book, world) = (self.site.book.clone(), self.site.world.clone());
        let key = sandbox.attachments[n].key.clone();
        book.of_boot(self.boot);
        book.begins(&key, world.elapsed());
        let up = self.try_add(sandbox, n).await;
        if !up && !self.over() {
            book.has_failed(&key, world.elapsed());
        }
        up
    }

    async fn try_add(&mut self, sandbox: &mut Sandbox, n: usize) -> bool {
        let key = sandbox.attachments[n].key.clone();
        let Some(handle) = self.site.kernel.daemon() else {
            return false;
        };
        let attachment = sandbox.attachments[n].clone();
        let Some(wiring) = self.ask(&handle, &attachment, &sandbox.pod).await else {
            return false;
        };
        match self.wire(sandbox, n, &wiring).await {
            Wired::Done => {
                sandbox.attachments[n].told = Some(wiring);
                true
            }
            Wired::Died => false,
            Wired::InUse => {
                self.tell(|| format!("{} of {key} is another sandbox's", wiring.host_if));
                // The plugin gives the lease back; the runtime's DEL comes all the same.
                let world = self.site.world.clone();
                world.oracle().ended(world.elapsed(), &self.pod_key(&key));
                let release = Release {
                    key,
                    pod: sandbox.pod.clone(),
                    addresses: Vec::new(),
                };
                // Whoever can't be told now is told by that.
                drop(handle.release(release).await);
                false
            }
        }
    }
}

impl Pod {
    pub(super) fn new(site: Site, name: String, lifetime: Duration, rng: Rng) -> Self {
        let boot = site.boot();
        Self {
            worker: Worker { site, boot, rng },
            name,
            lifetime,
            sandboxes: 0,
        }
    }

    /// From its first ADD to its last DEL.
    pub(super) async fn live(mut self) {
        let habits = self.worker.site.habits;
        let lives = match habits.recreates && self.worker.rng.percent(40) {
            true => self.worker.rng.range(2, 4),
            false => 1,
        };
        for left in (0..lives).rev() {
            let Some(mut sandbox) = self.come_up().await else {
                return;
            };
            self.run(&mut sandbox).await;
            if self.worker.over() {
                return;
            }
            let rng = &mut self.worker.rng;
            if habits.gc.is_some() && !self.worker.site.quiet() && rng.percent(6) {
                self.lose(sandbox).await;
            } else if left > 0 && rng.percent(50) {
                // The next one comes before the last one's DEL.
                let mut other = self.worker.fork();
                tokio::spawn(async move {
                    let late = match other.rng.percent(70) {
                        true => other.rng.millis(1, 8_000),
                        false => other.rng.millis(8_000, 180_000),
                    };
                    other.tell(|| format!("the DEL of {} is {late:?} late", sandbox.id));
                    sleep(late).await;
                    other.end(&mut sandbox).await;
                });
            } else {
                self.worker.end(&mut sandbox).await;
            }
        }
    }

    /// A sandbox that is up; `None`: the pod gives up.
    async fn come_up(&mut self) -> Option<Sandbox> {
        for attempt in 0..8 {
            // A runtime that waits to try again ends with its boot.
            if self.worker.over() || attempt > 0 && self.worker.site.quiet() {
                return None;
            }
            self.sandboxes += 1;
            let mut sandbox = self.worker.sandbox(&self.name, self.sandboxes - 1);
            if self.worker.add(&mut sandbox).await {
                return Some(sandbox);
            }
            if self.worker.over() {
                return None;
            }
            self.worker.end(&mut sandbox).await;
            let wait = self.worker.rng.millis(300, 8_000);
            sleep(wait).await;
        }
        None
    }

    /// The runtime crashes, and knows nothing of the sandbox when it is back: no DEL, only a GC ends it.
    async fn lose(&mut self, mut sandbox: Sandbox) {
        let worker = &mut self.worker;
        worker.tell(|| format!("the runtime loses {}", sandbox.id));
        let now = worker.site.world.elapsed();
        for attachment in &sandbox.attachments {
            worker.site.book.loses(&attachment.key, now);
        }
        if worker.rng.percent(50) {
            worker.vanish(&mut sandbox).await;
        }
    }

    /// The pod is up: it may be asked for again.
    async fn run(&mut self, sandbox: &mut Sandbox) {
        let mut left = self.lifetime;
        let mut last = false;
        let worker = &mut self.worker;
        while !left.is_zero() && !worker.over() {
            let nap = left.min(worker.rng.millis(1_000, 40_000));
            left -= nap;
            sleep(nap).await;
            if last || worker.over() {
                continue;
            }
            if worker.site.quiet() {
                last = true;
                // Some stay for good, if their addresses are theirs.
                left = worker.rng.millis(0, 60_000);
                let mut keys = sandbox.attachments.iter().map(|a| &a.key);
                let stays = worker.rng.percent(60) && keys.all(|key| !worker.is_broken(key));
                if stays {
                    std::future::pending::<()>().await;
                }
                continue;
            }
            worker.meddle(sandbox).await;
        }
    }
}

impl Worker {
    fn is_broken(&self, key: &AttachmentKey) -> bool {
        let oracle = self.site.world.oracle();
        let living = oracle.living.get(&self.pod_key(key));
        living.is_some_and(|l| l.broken)
    }

    /// What happens to a pod that is up.
    async fn meddle(&mut self, sandbox: &mut Sandbox) {
        let n = sandbox.attachments.len() - 1;
        let n = usize::try_from(self.rng.range(0, n as u64)).unwrap_or(0);
        let key = sandbox.attachments[n].key.clone();
        match self.rng.range(0, 99) {
            0..10 if self.is_sound(&key) => self.add_again(sandbox, n).await,
            10..25 => self.check(&sandbox.attachments[n], true).await,
            // A renamed DEL waits for a link that stays in a living pod.
            25..40 if n > 0 && !self.site.habits.renames => self.replug(sandbox, n).await,
            40..43 if self.site.habits.odd_dels => self.del_of_nothing(sandbox).await,
            _ => {}
        }
    }

    /// A second ADD of an attachment that is there.
    async fn add_again(&mut self, sandbox: &mut Sandbox, n: usize) {
        let _turn = self.site.book.turn().await;
        let attachment = sandbox.attachments[n].clone();
        let Some(handle) = self.site.kernel.daemon().filter(|_| !self.over()) else {
            return;
        };
        if let Some(wiring) = self.ask(&handle, &attachment, &sandbox.pod).await {
            self.wire(sandbox, n, &wiring).await;
        }
    }

    /// A further interface is taken out of a living pod, and perhaps put in again.
    async fn replug(&mut self, sandbox: &mut Sandbox, n: usize) {
        let attachment = sandbox.attachments[n].clone();
        self.tell(|| format!("{} is taken out", attachment.key));
        self.del_once(&attachment, &sandbox.pod).await;
        let again = &mut sandbox.attachments[n];
        again.told = None;
        if self.site.book.is_first(&again.key.network) {
            again.key.network = self.site.book.network();
        }
        sleep(self.rng.millis(0, 30_000)).await;
        if !self.over() && !self.add_one(sandbox, n).await {
            // What was begun is ended.
            let failed = sandbox.attachments.remove(n);
            self.del_once(&failed, &sandbox.pod).await;
        }
    }
}
