//! A kernel as a table: ENI links come and go with the model's wires, pods' routes and veths are set by
//! the simulation's plugin, and a pod that had a route has had connections.

use crate::world::World;
use ipam_core::Mac;
use ipam_core::wiring::HostWiring;
use ipam_engine::Handle;
use ipam_engine::ports::{
    Applied, Connections, Forgotten, Fut, HostNet, HostNetError, KernelEvent, Leftover, Survey,
    Trace,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What the kernel does when it is asked to forget connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Forgetting {
    /// It does.
    #[default]
    Works,
    /// It does, after so long.
    Takes(Duration),
    /// It refuses.
    Fails,
    /// It has no such module.
    Unable,
}

#[derive(Debug, Default)]
struct Pods {
    /// Host routes: address -> link.
    routes: BTreeMap<IpAddr, String>,
    /// Veths' names.
    links: BTreeSet<String>,
    /// Addresses with remembered connections.
    tracked: BTreeSet<IpAddr>,
    forgetting: Forgetting,
    /// Looks made by [`HostNet::forget`].
    forgets: u64,
}

/// See the module. Survives restarts of the daemon; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    world: World,
    node: String,
    pods: Arc<Mutex<Pods>>,
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
            pods: Arc::default(),
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

    fn pods(&self) -> MutexGuard<'_, Pods> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_forgetting(&self, forgetting: Forgetting) {
        self.pods().forgetting = forgetting;
    }

    /// How often it was asked to forget.
    pub(crate) fn forgets(&self) -> u64 {
        self.pods().forgets
    }

    /// Addresses with remembered connections.
    pub(crate) fn tracked(&self) -> BTreeSet<IpAddr> {
        self.pods().tracked.clone()
    }

    /// A pod's host route comes or goes, and the monitor tells.
    pub(crate) async fn set_route(&self, ip: IpAddr, host_if: Option<&str>) {
        let event = match host_if {
            Some(dev) => {
                let mut pods = self.pods();
                pods.routes.insert(ip, dev.into());
                pods.links.insert(dev.into());
                pods.tracked.insert(ip);
                KernelEvent::PodRouteAdded(ip, dev.into())
            }
            None => {
                self.pods().routes.remove(&ip);
                KernelEvent::PodRouteGone(ip)
            }
        };
        self.tell(event).await;
    }

    /// A pod's veth goes with its namespace, and its routes with it, without a word about them.
    pub(crate) async fn remove_link(&self, host_if: &str) {
        let there = {
            let mut pods = self.pods();
            pods.routes.retain(|_, dev| dev != host_if);
            pods.links.remove(host_if)
        };
        if there {
            self.tell(KernelEvent::PodLinkGone(host_if.into())).await;
        }
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
                pod_routes: self.pods().routes.clone(),
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
            Ok(Applied {
                missing,
                ..Applied::default()
            })
        })
    }

    fn sweep(&self, leftovers: Vec<Leftover>) -> Fut<'_, Result<(), HostNetError>> {
        Box::pin(async move {
            for leftover in leftovers {
                self.set_route(leftover.address, None).await;
                self.remove_link(&leftover.host_if).await;
            }
            Ok(())
        })
    }

    fn forget(&self, traces: Vec<Trace>) -> Fut<'_, Result<Forgotten, HostNetError>> {
        Box::pin(async move {
            let forgetting = {
                let mut pods = self.pods();
                pods.forgets += 1;
                pods.forgetting.clone()
            };
            if let Forgetting::Takes(time) = forgetting {
                tokio::time::sleep(time).await;
            }
            let (mut linked, mut removed) = (Vec::new(), 0);
            let mut pods = self.pods();
            for Trace {
                address, host_if, ..
            } in traces
            {
                if host_if.is_some_and(|name| pods.links.contains(&name)) {
                    linked.push(address);
                } else if matches!(forgetting, Forgetting::Works | Forgetting::Takes(_)) {
                    removed += u64::from(pods.tracked.remove(&address));
                }
            }
            let connections = match forgetting {
                Forgetting::Works | Forgetting::Takes(_) => Connections::Removed(removed),
                Forgetting::Fails => Connections::Failed(HostNetError {
                    what: "forgetting connections".into(),
                    cause: "the simulation said so".into(),
                }),
                Forgetting::Unable => Connections::Unable("no such module".into()),
            };
            Ok(Forgotten {
                linked,
                connections,
            })
        })
    }
}
