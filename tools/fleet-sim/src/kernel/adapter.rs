//! The kernel as one run of a daemon has it: what `ipamd/src/host_net` does by netlink and nftables, in its
//! order, with the time that it takes and the failures that it meets.

use super::faults::{Fate, Forgetting, Op};
use super::tables::kernels_own;
use super::{Kernel, lock, monitor};
use crate::life::Life;
use crate::oracle::By;
use ipam_core::Mac;
use ipam_core::wiring::{Earlier, HostWiring, Nat, host_if_prefix};
use ipam_engine::ports::{
    Applied, Connections, Forgotten, Fut, HostNet, HostNetError, KernelEvent, Leftover, Survey,
    Trace,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct MortalKernel {
    pub(super) kernel: Kernel,
    life: Life,
    made: Arc<tokio::sync::Mutex<Made>>,
}

/// What this run has made.
#[derive(Debug, Default)]
struct Made {
    wiring: Option<HostWiring>,
    /// The nftables table, made once and again only if it is suspected.
    nat: Option<Nat>,
    /// What was there before this run's first wiring, until EC2 has told.
    earlier: Option<Earlier>,
}

/// Where an operation fails.
fn failure(what: &str, cause: &str) -> HostNetError {
    HostNetError {
        what: what.into(),
        cause: cause.into(),
    }
}

const BUSY: &str = "device or resource busy";

/// An address of a wiring that goes wrong in one of its parts; the others are made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Links,
    Rules,
    Tables,
}

impl MortalKernel {
    pub(crate) fn new(kernel: Kernel, life: Life) -> Self {
        Self {
            kernel,
            life,
            made: Arc::default(),
        }
    }

    /// Listens, as long as this run lives.
    pub(crate) fn watch(&self) {
        let (net, life) = (self.clone(), self.life.clone());
        tokio::spawn(async move { life.mortal(monitor::watch(net)).await });
    }

    /// How what begins now goes; the oracle grants the daemon its time.
    fn begin(&self, op: Op) -> Fate {
        let fate = self.kernel.faults().fate(op);
        let now = self.kernel.now();
        let mut oracle = self.kernel.world.oracle();
        oracle.kernel.hears(&self.kernel.node, now + fate.takes);
        if fate.fails_at.is_some() {
            oracle.kernel.fails(&self.kernel.node, now + fate.takes);
        }
        drop(oracle);
        if fate.fails_at.is_some() {
            self.kernel
                .world
                .tell(&self.kernel.node, || format!("the kernel fails: {op:?}"));
        }
        fate
    }

    async fn pause(&self, time: Duration) {
        if !time.is_zero() {
            self.life.mortal(tokio::time::sleep(time)).await;
        }
    }

    async fn look(&self) -> Result<Survey, HostNetError> {
        let fate = self.begin(Op::Survey);
        let links = self.kernel.links();
        let names: BTreeMap<String, u32> = self.kernel.tables().veths.clone();
        self.pause(fate.takes).await;
        if fate.fails_at.is_some() {
            return Err(failure("looking at links and routes", BUSY));
        }
        let tables = self.kernel.tables();
        // A route through a link that was not there yet has no name.
        let of_pods = tables.routes.iter().filter(|(_, led)| {
            host_if_prefix(&led.link).is_some() && names.get(&led.link) == Some(&led.index)
        });
        let pod_routes = of_pods.map(|(ip, led)| (*ip, led.link.clone())).collect();
        Ok(Survey { links, pod_routes })
    }

    async fn make_so(&self, wiring: HostWiring) -> Result<Applied, HostNetError> {
        let mut made = self.made.lock().await;
        let wiring = match wiring.keeps_unnamed {
            true => wiring.keeping(made.earlier.get_or_insert_with(|| self.earlier())),
            false => wiring,
        };
        let applied = self.converge(&wiring, &mut made, false).await;
        made.wiring = Some(wiring);
        applied
    }

    /// What an earlier run left.
    fn earlier(&self) -> Earlier {
        let tables = self.kernel.tables();
        Earlier {
            rules: tables.rules.iter().cloned().collect(),
            eni_marks: tables.marks.clone().unwrap_or_default(),
        }
    }

    /// Makes the last wiring true again.
    pub(super) async fn restore(&self) -> Result<(), HostNetError> {
        let mut made = self.made.lock().await;
        let Some(wiring) = made.wiring.take() else {
            return Ok(());
        };
        let done = self.converge(&wiring, &mut made, true).await;
        made.wiring = Some(wiring);
        done.map(drop)
    }

    /// Every part is tried; the first failure is told. `suspect`: others may have changed our tables.
    async fn converge(
        &self,
        wiring: &HostWiring,
        made: &mut Made,
        suspect: bool,
    ) -> Result<Applied, HostNetError> {
        let fate = self.begin(Op::Apply);
        if fate.fails_at == Some(0) {
            self.pause(fate.takes).await;
            return Err(failure("wiring the host", BUSY));
        }
        let fails = match fate.fails_at {
            Some(1) => Some(Part::Links),
            Some(2) => Some(Part::Rules),
            Some(_) => Some(Part::Tables),
            None => None,
        };
        let seen = self.kernel.links();
        let macs = wiring.enis.iter().map(|e| e.mac);
        let missing: Vec<Mac> = macs.filter(|mac| !seen.contains(mac)).collect();
        self.kernel.tell_of(missing.clone());
        self.pause(fate.takes / 2).await;
        let links = self.links(wiring, &missing, fails);
        self.pause(fate.takes / 4).await;
        let rules = match fails == Some(Part::Rules) {
            true => Err(failure("adding a rule", BUSY)),
            false => {
                self.rules(wiring);
                Ok(())
            }
        };
        self.pause(fate.takes / 4).await;
        let nat = self.marks(wiring, made, suspect, fails);
        links.and(rules).and(nat)?;
        Ok(Applied {
            missing,
            ..Applied::default()
        })
    }

    /// Links up, and the ENIs' own tables.
    fn links(
        &self,
        wiring: &HostWiring,
        missing: &[Mac],
        fails: Option<Part>,
    ) -> Result<(), HostNetError> {
        let there = self.kernel.links();
        let mut result = Ok(());
        for eni in wiring.enis.iter().filter(|e| !missing.contains(&e.mac)) {
            if fails == Some(Part::Links) && !eni.primary {
                result = result.and(Err(failure("setting up a link", BUSY)));
            } else if there.contains(&eni.mac) {
                self.kernel.tables().set_eni_table(eni);
            } else {
                // It went since the look.
                result = result.and(Err(failure("setting up a link", "no such device")));
            }
        }
        self.kernel.judge(By::Daemon("apply"));
        result
    }

    /// What is missing comes, then what is ours and too much goes.
    fn rules(&self, wiring: &HostWiring) {
        let mut tables = self.kernel.tables();
        let wanted: BTreeSet<_> = (wiring.rules.iter().cloned())
            .chain(kernels_own())
            .collect();
        // No other program has rules here that look like ours: it can't tell them from ours.
        if tables.rules != wanted {
            tables.rules = wanted;
            tables.dirty.all = true;
        }
        drop(tables);
        self.kernel.judge(By::Daemon("apply"));
    }

    fn marks(
        &self,
        wiring: &HostWiring,
        made: &mut Made,
        suspect: bool,
        fails: Option<Part>,
    ) -> Result<(), HostNetError> {
        let marks = Some(&wiring.nat.eni_marks);
        let whole = !suspect || self.kernel.tables().marks.as_ref() == marks;
        if made.nat.as_ref() == Some(&wiring.nat) && whole {
            return Ok(());
        }
        made.nat = None;
        if fails == Some(Part::Tables) {
            return Err(failure("replacing nftables tables", BUSY));
        }
        let mut tables = self.kernel.tables();
        if tables.marks.as_ref() != marks {
            tables.marks = marks.cloned();
            tables.dirty.all = true;
        }
        drop(tables);
        self.kernel.judge(By::Daemon("apply"));
        made.nat = Some(wiring.nat.clone());
        Ok(())
    }

    async fn sweep_all(&self, leftovers: Vec<Leftover>) -> Result<(), HostNetError> {
        self.life.step("before leftovers are removed");
        self.asked_to_sweep(&leftovers);
        let fate = self.begin(Op::Sweep);
        let (by_name, seen) = {
            let tables = self.kernel.tables();
            (tables.veths.clone(), tables.routes.clone())
        };
        self.pause(fate.takes).await;
        let mut gone = BTreeMap::new();
        for (at, Leftover { address, host_if }) in leftovers.iter().enumerate() {
            if fate.fails_at == Some(at as u64) {
                return Err(failure("sweeping", BUSY));
            }
            let Some(index) = by_name.get(host_if) else {
                continue;
            };
            self.life.step("before a leftover is removed");
            let led = |ip: &IpAddr| seen.get(ip).is_some_and(|led| led.index == *index);
            if led(address) {
                let went = self.remove_route(*address, *index);
                self.kernel.judge(By::Daemon("sweep"));
                if went {
                    let event = KernelEvent::PodRouteGone(*address);
                    self.life.mortal(self.kernel.tell(event)).await;
                }
            }
            // A link that another pod has meanwhile carries another address.
            let swept = |ip: &IpAddr| leftovers.iter().any(|leftover| leftover.address == *ip);
            if !seen.keys().any(|ip| led(ip) && !swept(ip)) {
                gone.insert(host_if.clone(), *index);
            }
        }
        if fate.fails_at.is_some() {
            return Err(failure("sweeping", BUSY));
        }
        for (name, index) in gone {
            self.life.step("before a leftover's link is removed");
            let same = self.kernel.tables().veths.get(&name) == Some(&index);
            if same {
                let end = self.kernel.end_veth(&name, By::Daemon("sweep"));
                self.life.mortal(end).await;
            }
        }
        Ok(())
    }

    fn remove_route(&self, ip: IpAddr, index: u32) -> bool {
        let mut tables = self.kernel.tables();
        let same = tables.routes.get(&ip).is_some_and(|led| led.index == index);
        same && tables.unlead(ip)
    }

    fn asked_to_sweep(&self, leftovers: &[Leftover]) {
        let (now, node) = (self.kernel.now(), &self.kernel.node);
        let mut oracle = self.kernel.world.oracle();
        for leftover in leftovers {
            oracle.sweeps(now, node, leftover.address, &leftover.host_if);
        }
    }

    async fn reroute_all(&self, pods: Vec<Leftover>) -> Result<(), HostNetError> {
        self.life.step("before routes are put back");
        let (now, node) = (self.kernel.now(), &self.kernel.node);
        for pod in &pods {
            let mut oracle = self.kernel.world.oracle();
            oracle.reroutes(now, node, pod.address, &pod.host_if);
        }
        let fate = self.begin(Op::Reroute);
        let (by_name, seen) = {
            let tables = self.kernel.tables();
            (tables.veths.clone(), tables.routes.clone())
        };
        self.pause(fate.takes).await;
        for (at, Leftover { address, host_if }) in pods.iter().enumerate() {
            if fate.fails_at == Some(at as u64) {
                return Err(failure("putting routes back", BUSY));
            }
            let Some(index) = by_name.get(host_if) else {
                continue;
            };
            if seen.get(address).is_some_and(|led| led.index == *index) {
                continue;
            }
            self.life.step("before a route is put back");
            let there = self.kernel.tables().veths.get(host_if) == Some(index);
            if there {
                self.kernel.tables().lead(*address, host_if);
                self.kernel.judge(By::Daemon("reroute"));
                let event = KernelEvent::PodRouteAdded(*address, host_if.clone());
                self.life.mortal(self.kernel.tell(event)).await;
            }
        }
        match fate.fails_at {
            Some(_) => Err(failure("putting routes back", BUSY)),
            None => Ok(()),
        }
    }

    async fn forget_all(&self, traces: Vec<Trace>) -> Result<Forgotten, HostNetError> {
        self.life.step("before connections are forgotten");
        lock(&self.kernel.forgets).asked += 1;
        let fate = self.begin(Op::Forget);
        let forgetting = self.kernel.faults().forgetting.clone();
        // Links first: a pod whose link is there may still make connections.
        let there = self.kernel.tables().veths.clone();
        if fate.fails_at == Some(0) {
            lock(&self.kernel.forgets).refused();
            return Err(failure("looking for finished pods' links", BUSY));
        }
        let has_link = |trace: &&Trace| {
            let name = trace.host_if.as_deref();
            name.is_some_and(|name| there.contains_key(name))
        };
        let (linked, gone): (Vec<&Trace>, Vec<&Trace>) = traces.iter().partition(has_link);
        let time = match forgetting {
            Forgetting::Takes(time) => time + fate.takes,
            _ => fate.takes,
        };
        self.pause(time).await;
        let connections = match forgetting {
            Forgetting::Unable => Connections::Unable("no such module".into()),
            Forgetting::Fails => Connections::Failed(failure("forgetting connections", BUSY)),
            _ if fate.fails_at.is_some() => {
                Connections::Failed(failure("forgetting connections", BUSY))
            }
            Forgetting::Works | Forgetting::Takes(_) => {
                let mut tables = self.kernel.tables();
                let gone = gone.iter().filter(|t| tables.tracked.remove(&t.address));
                Connections::Removed(gone.count() as u64)
            }
        };
        let mut forgets = lock(&self.kernel.forgets);
        match connections {
            Connections::Removed(_) => forgets.failed = 0,
            Connections::Failed(_) => forgets.refused(),
            Connections::Unable(_) => forgets.failed = u32::MAX,
        }
        drop(forgets);
        self.life.step("after connections are forgotten");
        Ok(Forgotten {
            linked: linked.into_iter().map(|t| t.address).collect(),
            connections,
        })
    }
}

impl Kernel {
    /// Tells when the links come that were missing. The model knows when that is.
    fn tell_of(&self, missing: Vec<Mac>) {
        if missing.is_empty() {
            return;
        }
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

impl HostNet for MortalKernel {
    fn survey(&self) -> Fut<'_, Result<Survey, HostNetError>> {
        Box::pin(async {
            self.life.step("before a look at the kernel");
            let survey = self.look().await;
            self.life.step("after a look at the kernel");
            survey
        })
    }

    fn apply(&self, wiring: HostWiring) -> Fut<'_, Result<Applied, HostNetError>> {
        Box::pin(async move {
            self.life.step("before the host is wired");
            let blocks = wiring.pods.clone();
            let applied = self.make_so(wiring).await;
            let now = self.kernel.now();
            let mut oracle = self.kernel.world.oracle();
            oracle
                .kernel
                .applied(now, &self.kernel.node, applied.is_ok());
            oracle
                .ledger
                .wired_host(now, &self.kernel.node, applied.is_ok().then_some(blocks));
            drop(oracle);
            self.life.step("after the host is wired");
            applied
        })
    }

    fn sweep(&self, leftovers: Vec<Leftover>) -> Fut<'_, Result<(), HostNetError>> {
        Box::pin(self.sweep_all(leftovers))
    }

    fn reroute(&self, pods: Vec<Leftover>) -> Fut<'_, Result<(), HostNetError>> {
        Box::pin(self.reroute_all(pods))
    }

    fn forget(&self, traces: Vec<Trace>) -> Fut<'_, Result<Forgotten, HostNetError>> {
        Box::pin(self.forget_all(traces))
    }
}
