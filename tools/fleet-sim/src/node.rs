//! One node: its kernel and disk last, its daemon comes and goes.

use crate::cloud::ModelCloud;
use crate::ear::Ear;
use crate::kernel::{Forgetting, Kernel};
use crate::metadata::ModelMetadata;
use crate::store::Memory;
use crate::world::World;
use ipam_core::wiring::{PodWiring, WIRING_VERSION};
use ipam_core::{AttachmentKey, PodRef};
use ipam_engine::{
    Allocate, Handle, Ports, Refusal, Release, Released, Settings, Snapshot, Told, run,
};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// See the module.
#[derive(Debug)]
pub struct Node {
    world: World,
    name: String,
    instance: String,
    kernel: Kernel,
    store: Memory,
    ear: Ear,
    daemon: Option<(Handle, JoinHandle<()>)>,
    starts: u64,
}

/// The key and the name of the simulation's pod number `n`.
fn pod(n: u32) -> (AttachmentKey, PodRef) {
    let key = AttachmentKey {
        network: "sim".into(),
        container_id: format!("sandbox-{n}"),
        if_name: "eth0".into(),
    };
    let pod = PodRef {
        namespace: "default".into(),
        name: format!("pod-{n}"),
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
            ear: Ear::default(),
            daemon: None,
            starts: 0,
        })
    }

    /// Makes the wiring of the host take so long: links that come meanwhile are not seen by it.
    pub fn set_wiring_takes(&self, time: Duration) {
        self.kernel.set_apply_takes(time);
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

    /// The end of a finished pod's veth, which [`Node::end`] left.
    pub async fn remove_link(&self, host_if: &str) {
        self.kernel.remove_link(host_if).await;
    }

    /// Starts the daemon on what the disk has.
    pub fn start(&mut self, settings: Settings) {
        let (handle, door) = Handle::new();
        let ports = Ports {
            clock: Arc::new(self.world.clone()),
            cloud: Arc::new(ModelCloud {
                world: self.world.clone(),
                node: self.name.clone(),
                instance: self.instance.clone(),
            }),
            metadata: Arc::new(ModelMetadata {
                world: self.world.clone(),
                node: self.name.clone(),
            }),
            host: Arc::new(self.kernel.clone()),
            cluster: Arc::new(self.ear.clone()),
            store: Box::new(self.store.clone()),
        };
        self.kernel.listen(Some(handle.clone()));
        self.starts += 1;
        let loaded = self.store.load();
        let task = tokio::spawn(run(settings, ports, loaded, door, self.seed()));
        self.daemon = Some((handle, task));
    }

    /// Another number for each run of each node: client tokens and jitter come from it.
    fn seed(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        (&self.name, self.starts).hash(&mut hasher);
        hasher.finish()
    }

    /// Ends the daemon as a signal would.
    pub async fn stop(&mut self) {
        if let Some((handle, task)) = self.daemon.take() {
            self.kernel.listen(None);
            handle.stop().await;
            // A panic of the engine is the simulation's to show.
            if let Err(error) = task.await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    /// Ends it as `kill -9` would. EC2 calls that were sent go on.
    pub fn kill(&mut self) {
        if let Some((_, task)) = self.daemon.take() {
            self.kernel.listen(None);
            task.abort();
        }
    }

    /// The door to the daemon.
    #[must_use]
    pub fn handle(&self) -> Option<&Handle> {
        self.daemon.as_ref().map(|(handle, _)| handle)
    }

    /// What a runtime does for pod number `n`: ADD, and the plugin's host route.
    ///
    /// # Errors
    /// The daemon's refusal; `None` inside means that no daemon runs.
    pub async fn add(&self, n: u32, timeout: Duration) -> Result<PodWiring, Option<Refusal>> {
        let handle = self.handle().ok_or(None)?.clone();
        let (key, pod) = pod(n);
        let request = Allocate {
            key,
            pod,
            timeout: Some(timeout),
            wiring_version: WIRING_VERSION,
            veth_prefix: None,
            mtu: None,
        };
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
