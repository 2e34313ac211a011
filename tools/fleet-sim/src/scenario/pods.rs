//! A container runtime with one pod: ADD until it is up, life, DEL until it is gone. Tells the oracle
//! what it was told.

use super::machine::Site;
use crate::node::named;
use crate::oracle::{self, Address, PodKey, Told};
use crate::rng::Rng;
use ipam_core::wiring::{PodWiring, WIRING_VERSION};
use ipam_core::{AttachmentKey, Mac, PodRef};
use ipam_engine::{Allocate, Handle, RefusalKind, Release};
use ipnet::IpNet;
use std::net::IpAddr;
use std::time::Duration;

/// Who waits for an answer grants it this much beyond its deadline.
const GRACE: Duration = Duration::from_secs(1);

/// A CNI DEL is given up after this long.
const DEL_LIMIT: Duration = Duration::from_secs(10);

/// One pod on its node.
#[derive(Debug)]
pub(super) struct Pod {
    pub(super) site: Site,
    pub(super) name: String,
    /// The boot of the node in which the pod lives.
    pub(super) boot: u64,
    pub(super) lifetime: Duration,
    pub(super) rng: Rng,
}

/// A sandbox of the pod.
struct Sandbox {
    id: String,
    key: AttachmentKey,
    pod: PodRef,
    /// What its ADD was answered, for its DEL.
    up: Option<(Vec<IpAddr>, String)>,
}

impl Pod {
    /// From its first ADD to its last DEL.
    pub(super) async fn live(mut self) {
        for attempt in 0..8 {
            // A runtime that waits to try again ends with its boot.
            if self.over() || attempt > 0 && self.site.quiet() {
                return;
            }
            let mut sandbox = self.sandbox(attempt);
            let up = self.add(&mut sandbox).await.is_some();
            if up {
                self.run(&mut sandbox).await;
            }
            if self.over() {
                return;
            }
            self.del(&sandbox).await;
            if up {
                return;
            }
            let wait = self.rng.millis(300, 8_000);
            tokio::time::sleep(wait).await;
        }
    }

    fn sandbox(&self, attempt: u32) -> Sandbox {
        let id = format!("{}.{attempt}", self.name);
        let (key, pod) = named(&id, &self.name);
        Sandbox {
            id,
            key,
            pod,
            up: None,
        }
    }

    /// The node was switched off under it, or is no more.
    fn over(&self) -> bool {
        self.site.boot() != self.boot
    }

    /// Somebody took its address away.
    fn broken(&self, sandbox: &Sandbox) -> bool {
        let oracle = self.site.world.oracle();
        oracle
            .living
            .get(&self.key(sandbox))
            .is_some_and(|l| l.broken)
    }

    fn key(&self, sandbox: &Sandbox) -> PodKey {
        (self.site.name.clone(), sandbox.id.clone())
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        self.site.world.tell(&self.site.name, what);
    }

    /// One ADD, and the plugin's wiring.
    async fn add(&mut self, sandbox: &mut Sandbox) -> Option<()> {
        let handle = self.site.kernel.daemon()?;
        let wiring = self.ask(&handle, sandbox).await?;
        let ips: Vec<IpAddr> = wiring.pod_addresses.iter().map(IpNet::addr).collect();
        sandbox.up = Some((ips.clone(), wiring.host_if.clone()));
        tokio::time::sleep(self.rng.millis(0, 20)).await;
        let key = self.key(sandbox);
        let lives = self.site.world.oracle().living.contains_key(&key);
        if self.over() || !lives || self.rng.percent(2) {
            self.tell(|| format!("the plugin of {} dies before it wired {ips:?}", sandbox.id));
            return None;
        }
        for ip in ips {
            self.site.kernel.set_route(ip, Some(&wiring.host_if)).await;
        }
        if let Some(living) = self.site.world.oracle().living.get_mut(&key) {
            living.wired = true;
        }
        Some(())
    }

    /// What the daemon says to an ADD, told to the oracle.
    async fn ask(&mut self, handle: &Handle, sandbox: &Sandbox) -> Option<PodWiring> {
        let timeout = Duration::from_secs(*self.rng.pick(&[1, 5, 30, 30, 60]));
        let leaves = self.rng.percent(8);
        let patience = if leaves {
            self.rng.millis(1, 3_000)
        } else {
            timeout + GRACE
        };
        let request = Allocate {
            key: sandbox.key.clone(),
            pod: sandbox.pod.clone(),
            timeout: Some(timeout),
            wiring_version: WIRING_VERSION,
            veth_prefix: None,
            mtu: None,
        };
        let world = self.site.world.clone();
        self.site.count_add();
        match tokio::time::timeout(patience, handle.allocate(request)).await {
            Err(_) if leaves => {
                self.tell(|| format!("ADD {}: the caller goes away", sandbox.id));
                None
            }
            Err(_) => {
                let what = format!("{} waited {patience:?} for an answer", sandbox.id);
                let now = world.elapsed();
                world
                    .oracle()
                    .breach(now, "an ADD is answered by its deadline", what);
                None
            }
            Ok(Err(refusal)) => {
                self.tell(|| format!("ADD {}: {} ({})", sandbox.id, refusal, refusal.cause));
                if refusal.cause.is_empty() || refusal.message.is_empty() {
                    let now = world.elapsed();
                    let what = format!("{}: {refusal:?}", sandbox.id);
                    world
                        .oracle()
                        .breach(now, "a refusal carries a cause", what);
                }
                None
            }
            Ok(Ok(wiring)) => {
                self.tell(|| format!("ADD {}: {:?}", sandbox.id, wiring.pod_addresses));
                self.told(sandbox, &wiring);
                Some(wiring)
            }
        }
    }

    /// The oracle's part of an answer.
    fn told(&self, sandbox: &Sandbox, wiring: &PodWiring) {
        let (world, kernel) = (&self.site.world, &self.site.kernel);
        let now = world.elapsed();
        let enis = oracle::enis(world);
        let tables = kernel.tables();
        let ips = wiring.pod_addresses.iter().map(IpNet::addr);
        let looked_up = ips.map(|ip| Address {
            ip,
            routed: tables.routes.get(&ip).cloned(),
            tracked: tables.tracked.contains(&ip),
        });
        let addresses = looked_up.collect();
        drop(tables);
        let told = Told {
            node: &self.site.name,
            sandbox: &sandbox.id,
            addresses,
            host_if: &wiring.host_if,
            cooldown: self.site.cooldown,
            given: &enis,
            store: &self.site.store,
        };
        let again = world.oracle().living.contains_key(&self.key(sandbox));
        let mut oracle = world.oracle();
        oracle.answered(now, &told);
        for Address { ip, .. } in told.addresses {
            let on = enis
                .iter()
                .find(|e| e.blocks.iter().any(|b| b.contains(&ip)));
            // The main table serves the first ENI, whatever is wired.
            let serves = |eni: &oracle::Eni| eni.first || kernel.serves(ip, Mac(eni.mac));
            let served = again || on.is_none_or(serves);
            if !served && !oracle.is_by_hand(&self.site.name, ip) {
                let on = on.map(|e| (&e.id, e.first, Mac(e.mac)));
                let what = format!("{ip} of {on:?} is told to {} unserved", sandbox.id);
                oracle.breach(now, "an address is given when the host serves it", what);
            }
        }
    }

    /// The pod is up: it may be asked for again.
    async fn run(&mut self, sandbox: &mut Sandbox) {
        let mut left = self.lifetime;
        let mut last = false;
        while !left.is_zero() && !self.over() {
            let nap = left.min(self.rng.millis(1_000, 40_000));
            left -= nap;
            tokio::time::sleep(nap).await;
            if last {
                continue;
            }
            if self.site.quiet() {
                last = true;
                // Some stay for good, if their address is one.
                left = self.rng.millis(0, 60_000);
                let stays = self.rng.percent(60) && !self.broken(sandbox);
                if stays {
                    std::future::pending::<()>().await;
                }
            } else if self.rng.percent(10) && !self.over() {
                let known = self
                    .site
                    .world
                    .oracle()
                    .living
                    .get(&self.key(sandbox))
                    .is_some_and(|l| !l.unstored && !l.broken);
                if let Some(handle) = self.site.kernel.daemon().filter(|_| known) {
                    self.ask(&handle, sandbox).await;
                }
            }
        }
    }

    /// What a runtime does when a pod ends, and after each ADD that failed.
    async fn del(&mut self, sandbox: &Sandbox) {
        let key = self.key(sandbox);
        let now = self.site.world.elapsed();
        self.site.world.oracle().ended(now, &key);
        let release = Release {
            key: sandbox.key.clone(),
            pod: sandbox.pod.clone(),
            addresses: sandbox.up.iter().flat_map(|(ips, _)| ips.clone()).collect(),
        };
        for _ in 0..30 {
            if self.over() {
                return;
            }
            match self.release(&release).await {
                Some(addresses) => {
                    self.tell(|| format!("DEL {}: {addresses:?}", sandbox.id));
                    self.unwire(sandbox, &addresses).await;
                    return;
                }
                None => tokio::time::sleep(self.rng.millis(500, 5_000)).await,
            }
        }
    }

    /// One CNI DEL: told to the daemon, or noted for it. `None`: it failed, and is tried again.
    async fn release(&mut self, release: &Release) -> Option<Vec<IpAddr>> {
        let kernel = self.site.kernel.clone();
        if let Some(handle) = kernel.daemon() {
            let answer = tokio::time::timeout(DEL_LIMIT, handle.release(release.clone())).await;
            match answer {
                Ok(Ok(released)) => return Some(released.addresses),
                Ok(Err(refusal)) if refusal.kind != RefusalKind::Stopping => {
                    self.tell(|| format!("DEL {}: {refusal}", release.key.container_id));
                    return None;
                }
                _ => {}
            }
        }
        let note = self.site.spool.note(release.clone());
        self.tell(|| format!("DEL {} is noted", release.key.container_id));
        // A daemon that has just come may have looked before the note was there.
        if let Some(handle) = kernel.daemon()
            && let Ok(Ok(_)) =
                tokio::time::timeout(Duration::from_secs(1), handle.release(release.clone())).await
        {
            self.site.spool.remove(note);
        }
        Some(release.addresses.clone())
    }

    /// The plugin takes the routes away, or dies and the veth goes with the namespace.
    async fn unwire(&mut self, sandbox: &Sandbox, released: &[IpAddr]) {
        let wait = match self.rng.percent(5) {
            true => self.rng.millis(1_000, 50_000),
            false => self.rng.millis(0, 10),
        };
        tokio::time::sleep(wait).await;
        let Some((ips, host_if)) = &sandbox.up else {
            return;
        };
        // A new sandbox of the same pod has a veth of the same name.
        if self.site.world.oracle().has_link(&self.site.name, host_if) {
            return;
        }
        for ip in released.iter().chain(ips) {
            self.site.kernel.clear_route(*ip, host_if).await;
        }
        // The veth goes with the pod's namespace.
        tokio::time::sleep(self.rng.millis(0, 300)).await;
        if !self.site.world.oracle().has_link(&self.site.name, host_if) {
            self.site.kernel.remove_link(host_if).await;
        }
    }
}
