//! A kernel as a table: ENI links come and go with the model's wires, pods' routes are set by the
//! simulation's plugin.

use crate::world::World;
use ipam_core::Mac;
use ipam_core::wiring::HostWiring;
use ipam_engine::Handle;
use ipam_engine::ports::{Applied, Fut, HostNet, HostNetError, KernelEvent, Leftover, Survey};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// See the module. Survives restarts of the daemon; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    world: World,
    node: String,
    routes: Arc<Mutex<BTreeMap<IpAddr, String>>>,
    /// From the look at the links to the end of an apply.
    apply_takes: Arc<Mutex<Duration>>,
    /// The netlink monitor's listener, if a daemon runs.
    listener: Arc<Mutex<Option<Handle>>>,
}

impl Kernel {
    pub(crate) fn new(world: World, node: &str) -> Self {
        Self {
            world,
            node: node.into(),
            routes: Arc::default(),
            apply_takes: Arc::default(),
            listener: Arc::default(),
        }
    }

    pub(crate) fn listen(&self, handle: Option<Handle>) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    }

    pub(crate) fn set_apply_takes(&self, time: Duration) {
        *self
            .apply_takes
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = time;
    }

    pub(crate) fn routes(&self) -> MutexGuard<'_, BTreeMap<IpAddr, String>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pod's host route comes or goes, and the monitor tells.
    pub(crate) async fn set_route(&self, ip: IpAddr, host_if: Option<&str>) {
        let event = match host_if {
            Some(dev) => {
                self.routes().insert(ip, dev.into());
                KernelEvent::PodRouteAdded(ip, dev.into())
            }
            None => {
                self.routes().remove(&ip);
                KernelEvent::PodRouteGone(ip)
            }
        };
        self.tell(event).await;
    }

    async fn tell(&self, event: KernelEvent) {
        let handle = self
            .listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(handle) = handle {
            handle.kernel(event).await;
        }
    }

    fn links(&self) -> Vec<Mac> {
        let wires = self.world.vpc().wires(self.world.time());
        wires
            .iter()
            .filter(|w| w.node.as_str() == self.node)
            .map(|w| Mac(w.mac.0))
            .collect()
    }

    /// Tells when the links come that were missing. The model knows when that is.
    fn watch(&self, missing: Vec<Mac>) {
        let kernel = self.clone();
        tokio::spawn(async move {
            let mut missing = missing;
            while !missing.is_empty() {
                let now = kernel.world.time();
                let Some(at) = kernel.world.vpc().next_wake(now) else {
                    return;
                };
                tokio::time::sleep(at.since(now)).await;
                let links = kernel.links();
                let (came, still) = missing.into_iter().partition(|m| links.contains(m));
                missing = still;
                for mac in came {
                    kernel.tell(KernelEvent::LinkAppeared(mac)).await;
                }
            }
        });
    }
}

impl HostNet for Kernel {
    fn survey(&self) -> Fut<'_, Result<Survey, HostNetError>> {
        Box::pin(async {
            Ok(Survey {
                links: self.links(),
                pod_routes: self.routes().clone(),
            })
        })
    }

    fn apply(&self, wiring: HostWiring) -> Fut<'_, Result<Applied, HostNetError>> {
        Box::pin(async move {
            let links = self.links();
            let macs = wiring.enis.iter().map(|e| e.mac);
            let missing: Vec<Mac> = macs.filter(|mac| !links.contains(mac)).collect();
            self.watch(missing.clone());
            let time = *self
                .apply_takes
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            tokio::time::sleep(time).await;
            Ok(Applied { missing })
        })
    }

    fn sweep(&self, leftovers: Vec<Leftover>) -> Fut<'_, Result<(), HostNetError>> {
        Box::pin(async move {
            for leftover in leftovers {
                self.set_route(leftover.address, None).await;
            }
            Ok(())
        })
    }
}
