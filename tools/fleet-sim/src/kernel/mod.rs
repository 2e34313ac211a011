//! The kernel of one node. ENIs' links come and go with the model's wires, pods' links and routes with
//! the simulation's plugin, rules and tables with the daemon; and other programs change all of it.
//!
//! It does what a real one can be seen to do, and nothing else: a link that goes takes its routes along
//! without a word (about IPv4), what is begun works on what it saw when it began, events come late or
//! are lost as a whole buffer is. After every change the oracle looks at what it concerns.

mod adapter;
mod faults;
mod monitor;
mod others;
mod tables;
#[cfg(test)]
mod tests;
mod veth;

pub(crate) use adapter::MortalKernel;
pub use faults::Forgetting;
pub(crate) use tables::{Dirty, Home, Lack, Tables};

use crate::oracle::{self, By};
use crate::rng::Rng;
use crate::world::World;
use faults::{Faults, Op};
use ipam_core::{AttachmentKey, Mac};
use ipam_engine::Handle;
use ipam_engine::ports::KernelEvent;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tables::EniDev;
use vpc_model::Time;

/// See the module. Survives restarts of the daemon; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Kernel {
    world: World,
    node: String,
    tables: Arc<Mutex<Tables>>,
    faults: Arc<Mutex<Faults>>,
    links: Arc<Mutex<Links>>,
    monitor: monitor::Monitor,
    forgets: Arc<Mutex<Forgets>>,
}

/// What is known of the ENIs' links.
#[derive(Debug, Default)]
struct Links {
    /// Gone although their ENI is attached.
    hidden: BTreeSet<Mac>,
    /// Told of.
    told: BTreeSet<Mac>,
    /// The state of the wires at the last look, and when it changes by itself.
    seen: Option<(u64, Option<Time>)>,
}

/// How the daemon's requests to forget went.
#[derive(Clone, Copy, Debug, Default)]
struct Forgets {
    asked: u64,
    /// In a row, in one run of the daemon.
    failed: u32,
    /// So often in a row, at some time, that the daemon may have given up.
    often: bool,
}

impl Forgets {
    const fn refused(&mut self) {
        /// After so many refusals a daemon gives an address that has connections if there is no other.
        const OFTEN: u32 = 5;
        self.failed = self.failed.saturating_add(1);
        self.often |= self.failed >= OFTEN;
    }
}

impl Kernel {
    pub(crate) fn new(world: World, node: &str) -> Self {
        Self {
            world,
            node: node.into(),
            tables: Arc::default(),
            faults: Arc::default(),
            links: Arc::default(),
            monitor: monitor::Monitor::default(),
            forgets: Arc::default(),
        }
    }

    fn now(&self) -> Duration {
        self.world.elapsed()
    }

    /// A daemon opens its ears, or is gone.
    pub(crate) fn listen(&self, handle: Option<Handle>) {
        let runs = handle.is_some();
        self.monitor.listen(handle);
        lock(&self.forgets).failed = 0;
        let now = self.now();
        let mut oracle = self.world.oracle();
        oracle.kernel.daemon(now, &self.node, runs);
    }

    /// The door of the daemon that runs now.
    pub(crate) fn daemon(&self) -> Option<Handle> {
        self.monitor.daemon()
    }

    pub(crate) fn tables(&self) -> MutexGuard<'_, Tables> {
        lock(&self.tables)
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        lock(&self.faults)
    }

    pub(crate) fn set_apply_takes(&self, time: Duration) {
        self.faults().set_takes(Op::Apply, time);
    }

    pub(crate) fn set_forgetting(&self, forgetting: Forgetting) {
        self.faults().forgetting = forgetting;
    }

    /// How often it was asked to forget.
    pub(crate) fn forgets(&self) -> u64 {
        lock(&self.forgets).asked
    }

    /// Whether the daemon may give addresses whose connections are remembered: the kernel has refused to
    /// forget so often that they are given if there is no other.
    pub(crate) fn will_not_forget(&self) -> bool {
        let forgets = lock(&self.forgets);
        forgets.often || forgets.failed == u32::MAX
    }

    /// Addresses with remembered connections.
    pub(crate) fn tracked(&self) -> BTreeSet<IpAddr> {
        self.tables().tracked.clone()
    }

    pub(crate) fn fail_applies(&self, count: u32) {
        self.faults().set_fails(Op::Apply, count);
    }

    /// Whether a daemon needs a monitor: where nobody meddles there is nothing to see.
    pub(crate) fn has_monitor(&self) -> bool {
        self.faults().raging()
    }

    /// From now on things take time, fail, and are told late, by dice of this stream.
    pub(crate) fn rage(&self, rng: Rng) {
        self.faults().rage(rng);
    }

    /// All is well with it again.
    pub(crate) fn calm(&self) {
        self.faults().calm();
        self.show_all();
    }

    /// The node was switched off and on: nothing of pods and wiring is left.
    pub(crate) fn clear(&self) {
        *self.tables() = Tables::default();
        lock(&self.links).seen = None;
    }

    /// A host route comes, or goes, and no event tells.
    #[cfg(test)]
    pub(crate) fn lead_in_silence(&self, ip: IpAddr, link: Option<&str>) {
        let mut tables = self.tables();
        match link {
            Some(link) => {
                if !tables.veths.contains_key(link) {
                    tables.new_veth(link);
                }
                tables.lead(ip, link);
            }
            None => drop(tables.unlead(ip)),
        }
    }

    /// Addresses that are routed to pods' links.
    pub(crate) fn routed(&self) -> Vec<IpAddr> {
        self.tables().routes.keys().copied().collect()
    }

    /// Whether traffic from `ip` finds the table of the further ENI with this Ethernet address.
    pub(crate) fn serves(&self, ip: IpAddr, mac: Mac) -> bool {
        let home = Home { mac, first: false };
        self.tables().path_lacks(ip, Some(home)).is_empty()
    }

    /// The link through which an address is routed.
    pub(crate) fn route(&self, ip: IpAddr) -> Option<String> {
        self.tables().route(ip).map(str::to_owned)
    }

    /// Whether the host's end of a pod's veth is there.
    pub(crate) fn has_veth(&self, host_if: &str) -> bool {
        self.tables().veths.contains_key(host_if)
    }

    /// A pod's host route comes or goes, whoever does it, and the monitor tells.
    pub(crate) async fn set_route(&self, ip: IpAddr, host_if: Option<&str>) {
        let event = match host_if {
            Some(dev) => {
                let mut tables = self.tables();
                if !tables.veths.contains_key(dev) {
                    tables.new_veth(dev);
                }
                tables.lead(ip, dev);
                tables.tracked.insert(ip);
                KernelEvent::PodRouteAdded(ip, dev.into())
            }
            None => {
                self.tables().unlead(ip);
                KernelEvent::PodRouteGone(ip)
            }
        };
        self.judge(By::Other("somebody"));
        self.tell(event).await;
    }

    /// Takes a pod's host route away if it is still through this link.
    pub(crate) async fn clear_route(&self, ip: IpAddr, host_if: &str) {
        if self.take_route(ip, host_if) {
            self.judge(By::Plugin);
            self.tell(KernelEvent::PodRouteGone(ip)).await;
        }
    }

    fn take_route(&self, ip: IpAddr, host_if: &str) -> bool {
        let mut tables = self.tables();
        tables.route(ip) == Some(host_if) && tables.unlead(ip)
    }

    /// A pod's veth goes with its namespace, and its routes with it.
    pub(crate) async fn remove_link(&self, host_if: &str) {
        self.end_veth(host_if, By::Plugin).await;
    }

    async fn end_veth(&self, host_if: &str, by: By) {
        let told = self.tables().remove_veth(host_if);
        let Some(told) = told else { return };
        self.judge(by);
        for ip in told {
            self.tell(KernelEvent::PodRouteGone(ip)).await;
        }
        self.tell(KernelEvent::PodLinkGone(host_if.into())).await;
    }

    /// A link goes although its ENI is attached, or comes back.
    pub(crate) fn hide(&self, mac: Mac, hidden: bool) {
        {
            let mut links = lock(&self.links);
            if hidden {
                links.hidden.insert(mac);
            } else {
                links.hidden.remove(&mac);
            }
            links.seen = None;
        }
        self.see_links();
    }

    /// All links are back.
    pub(crate) fn show_all(&self) {
        {
            let mut links = lock(&self.links);
            links.hidden.clear();
            links.seen = None;
        }
        self.see_links();
    }

    /// Tells of links that came or went since the last time.
    pub(crate) async fn tell_links(&self) {
        let links: BTreeSet<Mac> = self.links().into_iter().collect();
        let told = std::mem::replace(&mut lock(&self.links).told, links.clone());
        for mac in told.difference(&links) {
            self.tell(KernelEvent::LinkGone(*mac)).await;
        }
        for mac in links.difference(&told) {
            self.tell(KernelEvent::LinkAppeared(*mac)).await;
        }
    }

    /// The ENIs' links that are there.
    pub(crate) fn links(&self) -> Vec<Mac> {
        self.see_links();
        self.tables().enis.keys().copied().collect()
    }

    /// Brings the ENIs' links to where the model's wires are.
    fn see_links(&self) {
        let now = self.world.time();
        let wires = {
            let vpc = self.world.vpc();
            let mut links = lock(&self.links);
            let generation = vpc.generation();
            let fresh = links.seen.is_some_and(|(seen, until)| {
                seen == generation && until.is_none_or(|until| now < until)
            });
            if fresh {
                return;
            }
            links.seen = Some((generation, vpc.next_wake(now)));
            let mut wires = vpc.wires(now);
            wires.retain(|w| w.node.as_str() == self.node && !links.hidden.contains(&Mac(w.mac.0)));
            wires
        };
        let mut tables = self.tables();
        let there: BTreeSet<Mac> = wires.iter().map(|w| Mac(w.mac.0)).collect();
        let gone = tables.enis.keys().filter(|mac| !there.contains(mac));
        for mac in gone.copied().collect::<Vec<_>>() {
            tables.enis.remove(&mac);
            tables.drop_routes_of(mac);
        }
        for wire in wires {
            let mac = Mac(wire.mac.0);
            if tables.enis.contains_key(&mac) {
                continue;
            }
            let primary = wire.device_index == 0;
            let dev = EniDev {
                name: wire.link,
                primary,
                // The system brings its own up.
                up: primary,
            };
            tables.enis.insert(mac, dev);
            tables.dirty.all = true;
        }
        drop(tables);
        self.judge(By::Link);
    }

    /// Has the oracle look at what was changed, and by whom.
    pub(crate) fn judge(&self, by: By) {
        let moved = oracle::homes_moved(&self.world, &self.node);
        let mut dirty = std::mem::take(&mut self.tables().dirty);
        dirty.all |= moved;
        if dirty.is_empty() {
            return;
        }
        let now = self.now();
        let mut oracle = self.world.oracle();
        let tables = self.tables();
        let lame = oracle.kernel_changed(now, &self.node, &tables, &dirty, by);
        drop((tables, oracle));
        for sandbox in lame {
            tokio::spawn(self.clone().follow(sandbox));
        }
    }

    /// The pod of a sandbox has its link and routes now.
    pub(crate) fn wired(&self, ips: &[IpAddr]) {
        self.tables().dirty.ips.extend(ips);
        self.judge(By::Plugin);
    }

    /// Waits until a pod that is not served is, or should be.
    async fn follow(self, sandbox: AttachmentKey) {
        loop {
            let now = self.now();
            let due = self.world.oracle().repair_due(now, &self.node, &sandbox);
            let Some(due) = due else { return };
            tokio::time::sleep(due.saturating_sub(now) + Duration::from_millis(1)).await;
        }
    }
}

fn lock<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
