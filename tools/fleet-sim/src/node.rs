//! One node: its kernel and disk last, its daemon comes and goes.

use crate::clock::{RunClock, SystemClock};
use crate::cloud::{CLUSTER, ModelCloud};
use crate::ear::Ear;
use crate::kernel::{Forgetting, Kernel, MortalKernel};
use crate::life::{Killed, Life};
use crate::metadata::{ModelMetadata, Mood};
use crate::oracle::{Promise, Run};
use crate::parcel::Road;
use crate::rng::Rng;
use crate::spool::Spool;
use crate::store::{Memory, MortalStore};
use crate::world::World;
use ipam_core::check::Violation;
use ipam_core::wiring::{PodWiring, WIRING_VERSION};
use ipam_core::{AttachmentKey, Lease, PodRef};
use ipam_engine::{
    Allocate, Handle, Ports, Refusal, Release, Released, Settings, Snapshot, Told, run_watched,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// See the module.
#[derive(Debug)]
pub struct Node {
    pub(crate) world: World,
    pub(crate) name: String,
    pub(crate) instance: String,
    pub(crate) kernel: Kernel,
    pub(crate) store: Memory,
    pub(crate) mood: Mood,
    pub(crate) road: Road,
    pub(crate) spool: Spool,
    pub(crate) clock: SystemClock,
    ear: Ear,
    daemon: Option<Daemon>,
    starts: u64,
    boots: u64,
}

#[derive(Debug)]
struct Daemon {
    handle: Handle,
    task: JoinHandle<()>,
    life: Life,
}

/// More turns than any run of a daemon takes in days: it spins.
const TURNS_MAX: u64 = 2_000_000;

/// The key and the name of the simulation's pod number `n`.
pub(crate) fn pod(n: u32) -> (AttachmentKey, PodRef) {
    named(&format!("sandbox-{n}"), &format!("pod-{n}"))
}

/// The ADD of the simulation's pod number `n`.
pub(crate) fn request(n: u32, timeout: Duration) -> Allocate {
    let (key, pod) = pod(n);
    Allocate {
        key,
        pod,
        timeout: Some(timeout),
        wiring_version: WIRING_VERSION,
        veth_prefix: None,
        mtu: None,
    }
}

/// The key of a sandbox and the name of its pod.
pub(crate) fn named(sandbox: &str, pod: &str) -> (AttachmentKey, PodRef) {
    let key = AttachmentKey {
        network: "sim".into(),
        container_id: sandbox.into(),
        if_name: "eth0".into(),
    };
    let pod = PodRef {
        namespace: "default".into(),
        name: pod.into(),
        uid: String::new(),
    };
    (key, pod)
}

impl Node {
    /// The node of this name in the world; `None` if there is none. Its daemon is not started.
    #[must_use]
    pub fn new(world: &World, name: &str) -> Option<Self> {
        let info = world
            .vpc()
            .nodes()
            .into_iter()
            .find(|n| n.name.as_str() == name)?;
        Some(Self {
            world: world.clone(),
            name: name.into(),
            instance: info.instance.as_str().into(),
            kernel: Kernel::new(world.clone(), name),
            store: Memory::default(),
            mood: Mood::default(),
            road: Road::default(),
            spool: Spool::default(),
            clock: SystemClock::default(),
            ear: Ear::default(),
            daemon: None,
            starts: 0,
            boots: 0,
        })
    }

    /// Sets the node's system clock, so many milliseconds ahead of the truth (behind, if negative). A
    /// daemon that runs does not see it, the next one does.
    pub fn set_clock(&self, ahead_ms: i64) {
        self.clock.set(ahead_ms);
    }

    /// Makes the wiring of the host take so long: links that come meanwhile are not seen by it.
    pub fn set_wiring_takes(&self, time: Duration) {
        self.kernel.set_apply_takes(time);
    }

    /// The next so many attempts to wire the node fail.
    pub fn fail_wirings(&self, count: u32) {
        self.kernel.fail_applies(count);
    }

    /// What the kernel does when it is asked to forget finished pods' connections.
    pub fn set_forgetting(&self, forgetting: Forgetting) {
        self.kernel.set_forgetting(forgetting);
    }

    /// How often the kernel was asked to forget connections.
    #[must_use]
    pub fn forgets(&self) -> u64 {
        self.kernel.forgets()
    }

    /// Addresses of which the kernel remembers connections.
    #[must_use]
    pub fn tracked(&self) -> BTreeSet<IpAddr> {
        self.kernel.tracked()
    }

    /// Somebody leads a pod's address through another link, or through none.
    pub async fn set_route(&self, ip: IpAddr, host_if: Option<&str>) {
        self.kernel.set_route(ip, host_if).await;
    }

    /// The link through which the kernel routes a pod's address.
    #[must_use]
    pub fn route(&self, ip: IpAddr) -> Option<String> {
        self.kernel.route(ip)
    }

    /// Whether the host's end of a pod's veth is there.
    #[must_use]
    pub fn has_link(&self, host_if: &str) -> bool {
        self.kernel.has_veth(host_if)
    }

    /// The end of a finished pod's veth, which [`Node::end`] left.
    pub async fn remove_link(&self, host_if: &str) {
        self.kernel.remove_link(host_if).await;
    }

    /// Starts the daemon on what the disk has.
    pub fn start(&mut self, settings: Settings) {
        self.start_with_fuse(settings, 0);
    }

    /// As [`Node::start`]; the daemon is killed at the `fuse`-th step that its ports take, with 0 at
    /// none.
    pub(crate) fn start_with_fuse(&mut self, settings: Settings, fuse: u64) {
        let life = Life::with_fuse(fuse);
        let (handle, door) = Handle::new();
        let ports = self.ports(&life);
        self.starts += 1;
        // How long it was off, a clock that was set forward does not tell.
        if self.is_another_boot() && self.clock.ahead() > self.store.ahead() {
            self.world.oracle().lost_time(&self.name);
        }
        let loaded = self.store.open_at(&self.boot_id(), self.clock.ahead());
        let now = self.world.elapsed();
        self.world.oracle().started(now, &self.name, &loaded);
        self.world
            .oracle()
            .ledger
            .started(now, &self.name, &settings, self.clock.ahead());
        self.begins(now, &settings);
        // Ears for the kernel before the engine's own look at it.
        self.kernel.listen(Some(handle.clone()));
        let cooldown = settings.policy.cooldown;
        self.world.oracle().rests(&self.name, cooldown);
        let (world, name) = (self.world.clone(), self.name.clone());
        let store = self.store.clone();
        let (mut turns, mut checked) = (0u64, None);
        let watch = move |owner: &ipam_engine::owner::Owner, now| {
            let at = world.elapsed();
            turns += 1;
            assert!(turns < TURNS_MAX, "{name} takes turn after turn");
            // What is not written down has not changed.
            let commits = Some(store.commits());
            if std::mem::replace(&mut checked, commits) == commits {
                return;
            }
            for violation in ipam_core::check::check(owner.store(), now) {
                // What an operator took EC2 may have given as anything; the daemon does not know yet.
                if let Violation::Overlap(a, b) = &violation
                    && (world.oracle().hands_in(&name, a) || world.oracle().hands_in(&name, b))
                {
                    continue;
                }
                if let Violation::Count(block, ..) = &violation
                    && world.oracle().hands_near(&name, block)
                {
                    continue;
                }
                let what = format!("{name}: {violation}");
                world
                    .oracle()
                    .breach(at, Promise::DatastoreConsistent, what);
            }
        };
        let seed = self.run_seed();
        let work = run_watched(settings, ports, loaded, door, seed, watch);
        let mortal = life.clone();
        let task = tokio::spawn(async move { mortal.mortal(work).await });
        self.spool
            .keep_drained(handle.clone(), life.clone(), self.notes_renamed());
        self.daemon = Some(Daemon { handle, task, life });
    }

    /// Tells the oracle of noted DELs of leases under another network's name: they wait in memory.
    fn notes_renamed(&self) -> impl Fn(&Release) + Send + Sync + 'static {
        let (world, name, store) = (self.world.clone(), self.name.clone(), self.store.clone());
        move |release| {
            let (asked, now) = (&release.key, world.elapsed());
            let same = |lease: &&Lease| {
                let key = &lease.key;
                key.network != asked.network
                    && key.container_id == asked.container_id
                    && key.if_name == asked.if_name
            };
            for lease in store.leases().iter().filter(same) {
                world.oracle().ledger.took_renamed(now, &name, &lease.key);
            }
        }
    }

    /// The disk was last opened in another boot.
    pub(crate) fn is_another_boot(&self) -> bool {
        self.store.is_of_another_boot(&self.boot_id())
    }

    /// Unlike that of any other boot of any node.
    fn boot_id(&self) -> String {
        format!("{}-boot-{}", self.name, self.boots)
    }

    /// The oracle knows what this run may do.
    fn begins(&self, now: Duration, settings: &Settings) {
        let nodes = self.world.vpc().nodes();
        let kind = nodes.iter().find(|n| n.name.as_str() == self.name);
        let kind = kind.map_or("", |n| n.instance_type.as_str());
        // What an earlier run left half-way it had decided by what it knew.
        let calm = !self.store.any_eni(|e| e.intent.is_some());
        let run = Run::new(&self.instance, CLUSTER, kind, settings, (now, calm));
        let mut oracle = self.world.oracle();
        oracle.rates_anew(&self.name);
        oracle.runs(&self.name, run);
    }

    /// Unlike that of any other run of any daemon.
    fn run_seed(&self) -> u64 {
        let name = self.name.bytes().fold(self.world.seed, |seed, byte| {
            Rng::new(seed ^ u64::from(byte)).next()
        });
        Rng::new(name ^ self.starts).next()
    }

    fn ports(&self, life: &Life) -> Ports {
        Ports {
            clock: Arc::new(RunClock {
                world: self.world.clone(),
                ahead: self.clock.ahead(),
            }),
            cloud: Arc::new(ModelCloud {
                world: self.world.clone(),
                node: self.name.clone(),
                instance: self.instance.clone(),
                life: life.clone(),
                disk: self.store.clone(),
                road: self.road.clone(),
                clock: self.clock.clone(),
            }),
            metadata: Arc::new(ModelMetadata {
                world: self.world.clone(),
                node: self.name.clone(),
                life: life.clone(),
                mood: self.mood.clone(),
            }),
            host: Arc::new(self.host(life)),
            cluster: Arc::new(self.ear.clone()),
            store: Box::new(MortalStore {
                memory: self.store.clone(),
                life: life.clone(),
            }),
        }
    }

    /// The kernel for one run of a daemon, with ears if others meddle with it.
    fn host(&self, life: &Life) -> MortalKernel {
        let host = MortalKernel::new(self.kernel.clone(), life.clone());
        if self.kernel.has_monitor() {
            host.watch();
        }
        host
    }

    /// Ends the daemon as a signal would.
    pub async fn stop(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            self.kernel.listen(None);
            daemon.handle.stop().await;
            let result = daemon.task.await;
            // What it had under way ends with its process.
            daemon.life.end("at a stop");
            show_panic(result);
        }
    }

    /// Ends it as `kill -9` would. EC2 calls that were sent go on.
    pub fn kill(&mut self) {
        if let Some(daemon) = self.daemon.take() {
            self.kernel.listen(None);
            daemon.life.end("by a kill from outside");
        }
    }

    /// Whether a daemon that was started has ended by its fuse, and where. A panic of the engine is
    /// the simulation's to show.
    pub(crate) async fn found_dead(&mut self) -> Option<&'static str> {
        let dead = self
            .daemon
            .as_ref()
            .is_some_and(|d| d.life.over() || d.task.is_finished());
        let daemon = self.daemon.take_if(|_| dead)?;
        self.kernel.listen(None);
        daemon.life.end("by itself");
        show_panic(daemon.task.await);
        Some(daemon.life.ended_at())
    }

    /// Whether the daemon that runs will end by its fuse.
    pub(crate) fn has_fuse(&self) -> bool {
        self.daemon.as_ref().is_some_and(|d| d.life.has_fuse())
    }

    /// Whether a daemon runs.
    pub(crate) const fn runs(&self) -> bool {
        self.daemon.is_some()
    }

    /// The node is switched off and on: no pod, no route, another boot. The daemon is not started.
    pub fn reboot(&mut self) {
        self.kill();
        self.kernel.clear();
        self.spool.clear();
        let resting = self.store.resting();
        self.world.oracle().rebooted(&self.name, &resting);
        self.boots += 1;
    }

    /// The door to the daemon.
    #[must_use]
    pub fn handle(&self) -> Option<&Handle> {
        self.daemon.as_ref().map(|daemon| &daemon.handle)
    }

    /// What a runtime does for pod number `n`: ADD, and the plugin's host route.
    ///
    /// # Errors
    /// The daemon's refusal; `None` inside means that no daemon runs.
    pub async fn add(&self, n: u32, timeout: Duration) -> Result<PodWiring, Option<Refusal>> {
        let handle = self.handle().ok_or(None)?.clone();
        let request = request(n, timeout);
        let wiring = handle.allocate(request).await.map_err(Some)?;
        for net in &wiring.pod_addresses {
            self.kernel
                .set_route(net.addr(), Some(&wiring.host_if))
                .await;
        }
        Ok(wiring)
    }

    /// What a runtime does when pod number `n` ends: DEL, and the plugin takes the route away.
    ///
    /// # Errors
    /// As [`Node::add`].
    pub async fn del(&self, n: u32) -> Result<Released, Option<Refusal>> {
        let released = self.end(n).await?;
        self.kernel.remove_link(&released.host_if).await;
        Ok(released)
    }

    /// The same for a pod whose namespace, and veth, stay.
    ///
    /// # Errors
    /// As [`Node::add`].
    pub async fn end(&self, n: u32) -> Result<Released, Option<Refusal>> {
        let handle = self.handle().ok_or(None)?.clone();
        let (key, pod) = pod(n);
        let request = Release {
            key,
            pod,
            addresses: Vec::new(),
        };
        let released = handle.release(request).await.map_err(Some)?;
        for ip in &released.addresses {
            self.kernel.set_route(*ip, None).await;
        }
        Ok(released)
    }

    /// The pool as the daemon sees it; `None` if none runs.
    pub async fn snapshot(&self) -> Option<Snapshot> {
        self.handle()?.inspect().await.ok().map(|s| *s)
    }

    /// What its daemons told, all starts together.
    #[must_use]
    pub fn notices(&self) -> Vec<Told> {
        self.ear.heard()
    }

    /// The disk.
    #[must_use]
    pub fn store(&self) -> &Memory {
        &self.store
    }
}

/// A panic of the engine is the simulation's to show; an end by [`Killed`] is none.
fn show_panic(result: Result<(), tokio::task::JoinError>) {
    if let Err(error) = result
        && error.is_panic()
    {
        let payload = error.into_panic();
        if !payload.is::<Killed>() {
            std::panic::resume_unwind(payload);
        }
    }
}
