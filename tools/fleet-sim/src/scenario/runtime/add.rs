//! ADD: what the daemon is asked and says, told to the oracle.

use super::Worker;
use super::sandbox::{Attachment, addresses};
use crate::oracle::{self, Address, Promise, Told};
use crate::scenario::waiting::Waiting;
use ipam_core::wiring::{PodWiring, WIRING_BASE, WIRING_VERSION};
use ipam_core::{AttachmentKey, PodRef};
use ipam_engine::{Allocate, Handle, Refusal, Release};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Who waits for an answer grants it this much beyond its deadline.
const GRACE: Duration = Duration::from_secs(1);

/// What becomes of a request while it waits.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// It waits for its answer.
    Waits,
    /// Its plugin is killed, and its connection with it.
    Leaves(Duration),
    /// The runtime kills the plugin and tries again, and the daemon does not know of it yet.
    Doubled(Duration),
    /// The runtime gives up and sends a DEL, and the daemon does not know of it yet.
    Withdrawn(Duration),
}

impl Worker {
    fn fate(&mut self) -> Fate {
        let after = self.rng.millis(1, 3_000);
        match self.rng.range(0, 99) {
            0..8 => Fate::Leaves(after),
            8..13 => Fate::Doubled(after),
            13..17 => Fate::Withdrawn(after),
            _ => Fate::Waits,
        }
    }

    /// A plugin of the version that is installed, or one that was started before it was.
    fn version(&mut self) -> u32 {
        if self.site.habits.old_plugins && self.rng.percent(25) {
            WIRING_BASE
        } else if self.rng.percent(3) {
            WIRING_VERSION + 1
        } else {
            WIRING_VERSION
        }
    }

    fn request(&mut self, key: &AttachmentKey, pod: &PodRef) -> Allocate {
        Allocate {
            key: key.clone(),
            pod: pod.clone(),
            timeout: Some(Duration::from_secs(*self.rng.pick(&[1, 5, 30, 30, 60]))),
            wiring_version: self.version(),
            veth_prefix: None,
            mtu: None,
        }
    }

    /// What the daemon says to an ADD.
    pub(super) async fn ask(
        &mut self,
        handle: &Handle,
        attachment: &Attachment,
        pod: &PodRef,
    ) -> Option<PodWiring> {
        // An ADD comes after its noted DEL: that one must not end its lease.
        self.site.spool.withdraw(&attachment.key);
        let request = self.request(&attachment.key, pod);
        match self.fate() {
            Fate::Waits => self.wait(handle, request).await,
            Fate::Leaves(after) => {
                self.site.count_add();
                let key = request.key.clone();
                let run = self.site.run();
                self.waits(true);
                let waiting = self.waiting(&request);
                let answer = timeout(after, handle.allocate(request.clone())).await;
                self.waits(false);
                waiting.end(&self.site, answer.as_ref().ok());
                match answer {
                    Ok(answer) => self.heard(&request, run, answer),
                    Err(_) => {
                        self.tell(|| format!("ADD {key}: the caller goes away"));
                        None
                    }
                }
            }
            Fate::Doubled(after) => {
                let second = Allocate {
                    wiring_version: self.version(),
                    ..request.clone()
                };
                let this = &*self;
                let again = async {
                    sleep(after).await;
                    let handle = this.site.kernel.daemon().filter(|_| !this.over())?;
                    this.tell(|| format!("ADD {}: once more", second.key));
                    this.wait(&handle, second).await
                };
                let (first, second) = tokio::join!(this.wait(handle, request), again);
                second.or(first)
            }
            // A pod that is up would be ended by that DEL, and goes by a DEL of its own.
            Fate::Withdrawn(_) if self.lives(&request.key) => self.wait(handle, request).await,
            Fate::Withdrawn(after) => {
                self.withdrawn(handle, request, after).await;
                None
            }
        }
    }

    fn lives(&self, key: &AttachmentKey) -> bool {
        let oracle = self.site.world.oracle();
        oracle.living.contains_key(&self.pod_key(key))
    }

    /// One more ADD waits, or one less.
    fn waits(&self, more: bool) {
        let world = &self.site.world;
        world.oracle().waits(world.elapsed(), &self.site.name, more);
    }

    fn waiting(&self, request: &Allocate) -> Waiting {
        Waiting::begin(&self.site, request)
    }

    async fn wait(&self, handle: &Handle, request: Allocate) -> Option<PodWiring> {
        self.site.count_add();
        let patience = request.timeout.unwrap_or_default() + GRACE;
        let run = self.site.run();
        self.waits(true);
        let waiting = self.waiting(&request);
        let answer = timeout(patience, handle.allocate(request.clone())).await;
        self.waits(false);
        waiting.end(&self.site, answer.as_ref().ok());
        match answer {
            Ok(answer) => self.heard(&request, run, answer),
            Err(_) => {
                let now = self.site.world.elapsed();
                let mut oracle = self.site.world.oracle();
                oracle.unanswered(now, &request.key, patience);
                None
            }
        }
    }

    /// A DEL while the ADD waits: nobody hears what that is answered, but it is, and soon.
    async fn withdrawn(&self, handle: &Handle, request: Allocate, after: Duration) {
        self.site.count_add();
        let world = &self.site.world;
        let run = self.site.run();
        let mut add = pin!(handle.allocate(request.clone()));
        self.waits(true);
        let waiting = self.waiting(&request);
        let early = timeout(after, &mut add).await;
        self.waits(false);
        // What it is answered after its DEL is no word about addresses.
        waiting.end(&self.site, early.as_ref().ok());
        if let Ok(answer) = early {
            self.heard(&request, run, answer);
            return;
        }
        self.tell(|| format!("ADD {}: its DEL comes before its answer", request.key));
        let release = Release {
            key: request.key.clone(),
            pod: request.pod.clone(),
            addresses: Vec::new(),
        };
        let del = async {
            let daemon = self.site.kernel.daemon();
            let told = match daemon {
                Some(handle) => handle.release(release).await.is_ok(),
                None => false,
            };
            // One that could not be told of the DEL ends, or answers by the deadline.
            if !told {
                sleep(request.timeout.unwrap_or_default()).await;
            }
            sleep(GRACE).await;
        };
        tokio::select! {
            biased;
            answer = add => if let Err(refusal) = answer {
                world.oracle().add_refused(world.elapsed(), &request.key, &refusal, true);
            },
            () = del => world.oracle().unanswered(world.elapsed(), &request.key, GRACE),
        }
    }

    fn heard(
        &self,
        request: &Allocate,
        run: u64,
        answer: Result<PodWiring, Refusal>,
    ) -> Option<PodWiring> {
        let world = &self.site.world;
        let now = world.elapsed();
        match answer {
            Err(refusal) => {
                self.tell(|| format!("ADD {}: {refusal} ({})", request.key, refusal.cause));
                world
                    .oracle()
                    .add_refused(now, &request.key, &refusal, false);
                None
            }
            Ok(wiring) => {
                self.tell(|| format!("ADD {}: {:?}", request.key, wiring.pod_addresses));
                self.told(request, run, &wiring);
                Some(wiring)
            }
        }
    }

    /// The oracle's part of an answer.
    pub(super) fn told(&self, request: &Allocate, run: u64, wiring: &PodWiring) {
        let (world, kernel) = (&self.site.world, &self.site.kernel);
        let now = world.elapsed();
        let enis = oracle::enis(world);
        // What a store that went back tells an attachment again is its own still.
        let own = kernel.veth(&wiring.host_if) == Some(wiring.host_mac);
        let other = |dev: &&str| !own || *dev != wiring.host_if;
        let tables = kernel.tables();
        let looked_up = addresses(wiring).into_iter().map(|ip| Address {
            ip,
            routed: tables.pod_route(ip).filter(other).map(str::to_owned),
            tracked: tables.tracks(ip) && !kernel.will_not_forget(),
        });
        let looked_up = looked_up.collect();
        drop(tables);
        let told = Told {
            node: &self.site.name,
            attachment: &request.key,
            addresses: looked_up,
            host_if: &wiring.host_if,
            host_mac: wiring.host_mac,
            cooldown: self.site.cooldown,
            given: &enis,
            store: &self.site.store,
        };
        let mut oracle = world.oracle();
        let again = oracle.living.contains_key(&self.pod_key(&request.key));
        let asks = self.site.asks();
        // Over a restart the settings may have changed, and the lease may be of before.
        let older = again || run != self.site.run();
        oracle.understood(now, request, wiring, (&asks.families, asks.egress), older);
        oracle.answered(now, &told);
        let tables = kernel.tables();
        for Address { ip, .. } in told.addresses {
            let lack = oracle.unserved(now, &self.site.name, &tables, ip);
            let excused = again || oracle.is_by_hand(&self.site.name, ip);
            if let Some(lack) = lack.filter(|_| !excused) {
                let what = format!("{ip} is told to {} unserved: {lack}", request.key);
                oracle.breach(now, Promise::GivenWhenServed, what);
            }
        }
    }
}
