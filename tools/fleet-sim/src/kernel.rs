//! A kernel as a table: ENI links come and go with the model's wires, pods' routes and veths are set by
//! the simulation's plugin, and a pod that had a route has had connections.

use crate::life::Life;
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

/// See the module. Survives restarts of the daemon; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    world: World,
    node: String,
    tables: Arc<Mutex<Tables>>,
    /// The netlink monitor's listener, if a daemon runs.
    listener: Arc<Mutex<Option<Handle>>>,
}

#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// Host routes of pods: address -> host link.
    pub(crate) routes: BTreeMap<IpAddr, String>,
    /// Names of pods' veths.
    veths: BTreeSet<String>,
    /// Addresses with remembered connections.
    pub(crate) tracked: BTreeSet<IpAddr>,
    forgetting: Forgetting,
    /// How often it was asked to forget.
    forgets: u64,
    /// Links that are gone although their ENI is attached.
    hidden: BTreeSet<Mac>,
    /// Links that were told of.
    told: BTreeSet<Mac>,
    /// From the look at the links to the end of an apply.
    apply_takes: Duration,
    /// So many applies fail.
    apply_fails: u32,
    /// ENI links and rules as they were made last.
    applied: HostWiring,
}

impl Kernel {
    pub(crate) fn new(world: World, node: &str) -> Self {
        Self {
            world,
            node: node.into(),
            tables: Arc::default(),
            listener: Arc::default(),
        }
    }

    pub(crate) fn listen(&self, handle: Option<Handle>) {
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = handle;
    }

    /// The door of the daemon that runs now.
    pub(crate) fn daemon(&self) -> Option<Handle> {
        self.listener
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_apply_takes(&self, time: Duration) {
        self.tables().apply_takes = time;
    }

    pub(crate) fn set_forgetting(&self, forgetting: Forgetting) {
        self.tables().forgetting = forgetting;
    }

    /// How often it was asked to forget.
    pub(crate) fn forgets(&self) -> u64 {
        self.tables().forgets
    }

    /// Addresses with remembered connections.
    pub(crate) fn tracked(&self) -> BTreeSet<IpAddr> {
        self.tables().tracked.clone()
    }

    pub(crate) fn fail_applies(&self, count: u32) {
        self.tables().apply_fails = count;
    }

    /// The node was switched off and on: nothing of pods and wiring is left.
    pub(crate) fn clear(&self) {
        let mut tables = self.tables();
        tables.routes.clear();
        tables.veths.clear();
        tables.tracked.clear();
        tables.applied = HostWiring::default();
    }

    /// The link through which an address is routed.
    pub(crate) fn route(&self, ip: IpAddr) -> Option<String> {
        self.tables().routes.get(&ip).cloned()
    }

    /// A pod's host route comes or goes, and the monitor tells.
    pub(crate) async fn set_route(&self, ip: IpAddr, host_if: Option<&str>) {
        let event = match host_if {
            Some(dev) => {
                let mut tables = self.tables();
                tables.routes.insert(ip, dev.into());
                tables.veths.insert(dev.into());
                tables.tracked.insert(ip);
                KernelEvent::PodRouteAdded(ip, dev.into())
            }
            None => {
                self.tables().routes.remove(&ip);
                KernelEvent::PodRouteGone(ip)
            }
        };
        self.tell(event).await;
    }

    /// Takes a pod's host route away if it is still through this link.
    pub(crate) async fn clear_route(&self, ip: IpAddr, host_if: &str) {
        let is_its = self.tables().routes.get(&ip).is_some_and(|d| d == host_if);
        if is_its {
            self.set_route(ip, None).await;
        }
    }

    /// A pod's veth goes with its namespace, and its routes with it, without a word about them.
    pub(crate) async fn remove_link(&self, host_if: &str) {
        let there = {
            let mut tables = self.tables();
            tables.routes.retain(|_, dev| dev != host_if);
            tables.veths.remove(host_if)
        };
        if there {
            self.tell(KernelEvent::PodLinkGone(host_if.into())).await;
        }
    }

    /// Hands an event to the daemon that runs, as the netlink monitor does.
    pub(crate) async fn tell(&self, event: KernelEvent) {
        if let Some(handle) = self.daemon() {
            handle.kernel(event).await;
        }
    }

    /// A link goes although its ENI is attached, or comes back.
    pub(crate) fn hide(&self, mac: Mac, hidden: bool) {
        let mut tables = self.tables();
        if hidden {
            tables.hidden.insert(mac);
        } else {
            tables.hidden.remove(&mac);
        }
    }

    /// All links are back.
    pub(crate) fn show_all(&self) {
        self.tables().hidden.clear();
    }

    /// Tells of links that came or went since the last time.
    pub(crate) async fn tell_links(&self) {
        let links: BTreeSet<Mac> = self.links().into_iter().collect();
        let told = std::mem::replace(&mut self.tables().told, links.clone());
        for mac in told.difference(&links) {
            self.tell(KernelEvent::LinkGone(*mac)).await;
        }
        for mac in links.difference(&told) {
            self.tell(KernelEvent::LinkAppeared(*mac)).await;
        }
    }

    pub(crate) fn links(&self) -> Vec<Mac> {
        let wires = self.world.vpc().wires(self.world.time());
        let tables = self.tables();
        wires
            .iter()
            .filter(|w| w.node.as_str() == self.node)
            .map(|w| Mac(w.mac.0))
            .filter(|mac| !tables.hidden.contains(mac))
            .collect()
    }

    /// Whether traffic from `ip` finds the table of the ENI with this Ethernet address.
    pub(crate) fn serves(&self, ip: IpAddr, mac: Mac) -> bool {
        let tables = self.tables();
        let wiring = &tables.applied;
        let Some(link) = wiring.enis.iter().find(|e| e.mac == mac) else {
            return false;
        };
        let own = |from: Option<ipnet::IpNet>| from.is_some_and(|net| net.contains(&ip));
        let by_block = wiring
            .rules
            .iter()
            .any(|r| r.table == link.table && own(r.from));
        let by_mark = wiring.nat.eni_marks.get(&ip).is_some_and(|mark| {
            let marked = |r: &&ipam_core::wiring::Rule| r.fwmark.is_some_and(|(m, _)| m == *mark);
            wiring
                .rules
                .iter()
                .filter(marked)
                .any(|r| r.table == link.table)
        });
        link.primary || by_block || by_mark
    }

    fn forget(&self, traces: Vec<Trace>, forgetting: &Forgetting) -> Forgotten {
        let (mut linked, mut removed) = (Vec::new(), 0);
        let mut tables = self.tables();
        for Trace {
            address, host_if, ..
        } in traces
        {
            if host_if.is_some_and(|name| tables.veths.contains(&name)) {
                linked.push(address);
            } else if matches!(forgetting, Forgetting::Works | Forgetting::Takes(_)) {
                removed += u64::from(tables.tracked.remove(&address));
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
        Forgotten {
            linked,
            connections,
        }
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

/// The kernel as one run of a daemon has it.
#[derive(Clone, Debug)]
pub(crate) struct MortalKernel {
    pub(crate) kernel: Kernel,
    pub(crate) life: Life,
}

impl HostNet for MortalKernel {
    fn survey(&self) -> Fut<'_, Result<Survey, HostNetError>> {
        Box::pin(async {
            self.life.step("before a look at the kernel");
            let survey = Survey {
                links: self.kernel.links(),
                pod_routes: self.kernel.tables().routes.clone(),
            };
            self.life.step("after a look at the kernel");
            Ok(survey)
        })
    }

    fn apply(&self, wiring: HostWiring) -> Fut<'_, Result<Applied, HostNetError>> {
        Box::pin(async move {
            self.life.step("before the host is wired");
            let links = self.kernel.links();
            let macs = wiring.enis.iter().map(|e| e.mac);
            let missing: Vec<Mac> = macs.filter(|mac| !links.contains(mac)).collect();
            self.kernel.watch(missing.clone());
            let (time, fails) = {
                let mut tables = self.kernel.tables();
                let fails = tables.apply_fails > 0;
                tables.apply_fails = tables.apply_fails.saturating_sub(1);
                (tables.apply_takes, fails)
            };
            self.life.mortal(tokio::time::sleep(time)).await;
            if fails {
                return Err(HostNetError {
                    what: "wiring the host".into(),
                    cause: "device or resource busy".into(),
                });
            }
            let mut made = wiring;
            made.enis.retain(|e| !missing.contains(&e.mac));
            self.kernel.tables().applied = made;
            self.life.step("after the host is wired");
            Ok(Applied {
                missing,
                ..Applied::default()
            })
        })
    }

    fn sweep(&self, leftovers: Vec<Leftover>) -> Fut<'_, Result<(), HostNetError>> {
        Box::pin(async move {
            for leftover in leftovers {
                self.life.step("before a leftover is removed");
                let (ip, dev) = (leftover.address, &leftover.host_if);
                self.life.mortal(self.kernel.clear_route(ip, dev)).await;
                self.life.mortal(self.kernel.remove_link(dev)).await;
            }
            Ok(())
        })
    }

    fn reroute(&self, pods: Vec<Leftover>) -> Fut<'_, Result<(), HostNetError>> {
        Box::pin(async move {
            for Leftover { address, host_if } in pods {
                self.life.step("before a route is put back");
                let lost = {
                    let tables = self.kernel.tables();
                    tables.veths.contains(&host_if) && tables.routes.get(&address) != Some(&host_if)
                };
                if lost {
                    let put = self.kernel.set_route(address, Some(&host_if));
                    self.life.mortal(put).await;
                }
            }
            Ok(())
        })
    }

    fn forget(&self, traces: Vec<Trace>) -> Fut<'_, Result<Forgotten, HostNetError>> {
        Box::pin(async move {
            self.life.step("before connections are forgotten");
            let forgetting = {
                let mut tables = self.kernel.tables();
                tables.forgets += 1;
                tables.forgetting.clone()
            };
            if let Forgetting::Takes(time) = forgetting {
                self.life.mortal(tokio::time::sleep(time)).await;
            }
            let forgotten = self.kernel.forget(traces, &forgetting);
            self.life.step("after connections are forgotten");
            Ok(forgotten)
        })
    }
}
