//! The troubled time of a scenario, and the quiet one after it.

use super::cut::Cut;
use super::dice::{self, Plan};
use super::machine::Machine;
use super::operator;
use super::probe::Probes;
use super::report;
use super::runtime::{self, Pod};
use super::trouble::{Trouble, fault, hold_ups};
use super::wide::Breadth;
use super::{change, ground, words};
use crate::node::Node;
use crate::oracle;
use crate::rng::Rng;
use crate::store::CommitFault;
use crate::world::World;
use ipam_core::{Block, EniId, EniView, Mac};
use std::time::Duration;
use vpc_model::Effect;

/// How long peace lasts before the verdict: EC2 is asked for its word every half an hour, and
/// twice for an absence; what a write without a given answer leaves behind is closed by then, too.
pub(super) const PEACE: Duration = Duration::from_secs(80 * 60);

/// The end of the peace, in which nobody has a reason to write to EC2.
pub(super) const STEADY: Duration = Duration::from_secs(10 * 60);

/// See the module.
#[derive(Debug)]
pub(super) struct Chaos {
    world: World,
    plan: Plan,
    cut: Cut,
    rng: Rng,
    pub(super) machines: Vec<Machine>,
    pods: u32,
    faults: Vec<u64>,
    breadth: Breadth,
    /// EC2 calls that change something, by node, when the steady time began.
    pub(super) writes_before: Vec<u64>,
    /// Nodes that truly lacked something then, or had too much: what they were waiting for may come.
    pub(super) short_before: Vec<bool>,
}

impl Chaos {
    pub(super) fn new(world: &World, plan: Plan, cut: Cut, rng: Rng) -> Result<Self, String> {
        let machines = plan
            .nodes
            .iter()
            .map(|(name, kind, settings)| {
                let node = Node::new(world, name).ok_or_else(|| format!("no node {name}"))?;
                let goes_back = plan.may(Trouble::GoBack);
                node.store.keep_past(if goes_back { 12 } else { 0 });
                if plan.may(Trouble::Kernel) {
                    let dice = Rng::stream(world.seed, &format!("kernel {name}"));
                    node.kernel.rage(dice);
                }
                Ok(Machine::new(
                    node,
                    settings.clone(),
                    kind,
                    (plan.dice, plan.habits),
                ))
            })
            .collect::<Result<Vec<_>, String>>()?;
        let mut dice = Rng::stream(plan.spec.seed, "keepers");
        for machine in &machines {
            runtime::crowd(&machine.site, machine.settings.egress, &mut dice);
            tokio::spawn(runtime::keep(machine.site.clone(), dice.fork()));
        }
        Ok(Self {
            world: world.clone(),
            breadth: Breadth::new(&plan),
            plan,
            cut,
            rng,
            machines,
            pods: 0,
            faults: Vec::new(),
            writes_before: Vec::new(),
            short_before: Vec::new(),
        })
    }

    fn broken(&self) -> bool {
        !self.world.oracle().breaches.is_empty()
    }

    async fn look_after(&mut self, fuses: bool) {
        for machine in &mut self.machines {
            machine.look_after(&mut self.rng, fuses).await;
        }
    }

    /// Waits, and looks after the daemons meanwhile.
    async fn wait(&mut self, time: Duration) {
        let mut left = time;
        while !left.is_zero() {
            let nap = left.min(Duration::from_millis(700));
            left -= nap;
            tokio::time::sleep(nap).await;
            self.look_after(self.plan.fuses).await;
        }
    }

    /// Things happen.
    pub(super) async fn rage(&mut self) {
        self.look_after(self.plan.fuses).await;
        for event in 0..self.plan.events {
            // Random numbers of its own: it is the same whatever else happens or is cut.
            self.rng = Rng::stream(self.world.seed, &format!("event {event}"));
            let most = u64::try_from(self.plan.gap.as_millis()).unwrap_or(1_000);
            let wait = self.rng.millis(5, most);
            let trouble = Trouble::ALL[self.rng.weighted(&self.plan.weights)];
            let details = self.rng.fork();
            self.wait(wait).await;
            if self.broken() {
                return;
            }
            if self.cut.skips(event) {
                continue;
            }
            self.rng = details;
            self.make(trouble).await;
            let fault = self.breadth.happen(event, &self.world, &mut self.machines);
            if let Some(fault) = fault {
                self.world.tell("EC2", || words::fault(&fault));
                self.faults.push(self.world.vpc().add_fault(fault));
            }
        }
    }

    /// From now on, until long after, what goes wrong may have its cause in it.
    fn troubled(&self) {
        let now = self.world.elapsed();
        self.world.oracle().ledger.trouble = now;
    }

    /// How many events there are.
    pub(super) const fn events(&self) -> u32 {
        self.plan.events
    }

    /// A machine that is still there.
    fn any(&mut self) -> Option<usize> {
        let at = usize::try_from(self.rng.range(0, self.machines.len() as u64 - 1)).unwrap_or(0);
        (!self.machines[at].gone).then_some(at)
    }

    async fn make(&mut self, trouble: Trouble) {
        let Some(at) = self.any() else { return };
        if trouble != Trouble::Pods {
            self.troubled();
        }
        let rng = &mut self.rng;
        let machine = &mut self.machines[at];
        match trouble {
            Trouble::Pods => self.pods_come(at),
            Trouble::Kill if machine.node.runs() => machine.kill(rng),
            Trouble::Restart if machine.node.runs() => {
                let mut settings = machine.settings.clone();
                let change = rng.percent(60);
                if change {
                    let before = settings.policy;
                    settings.policy = dice::policy(rng);
                    settings.policy.families = before.families;
                    settings.policy.subnets = before.subnets;
                    change::more(rng, &self.plan, machine, &mut settings);
                    let families = &settings.policy.families;
                    settings.egress = self.plan.habits.other_egress(families, rng);
                }
                machine.restart(change.then_some(settings)).await;
                let policy = &machine.settings.policy;
                let words = words::policy(policy);
                self.world
                    .tell(&machine.site.name, || format!("settings: {words}"));
            }
            Trouble::Reboot => machine.reboot(rng),
            Trouble::GoBack => machine.go_back(rng),
            Trouble::Terminate => machine.terminate(),
            Trouble::Ec2 => {
                let mut fault = fault(rng);
                if let Effect::Stale { ms } = &mut fault.effect {
                    *ms = (*ms).min(ground::stale_most(&self.plan));
                }
                self.world.tell("EC2", || words::fault(&fault));
                self.faults.push(self.world.vpc().add_fault(fault));
            }
            Trouble::Road => {
                let times = hold_ups(rng);
                self.world.tell("road", || format!("holds up {times:?}"));
                machine.node.road.hold_up(times);
            }
            Trouble::Operator => operator::meddle(&self.world, &machine.site.name, rng),
            Trouble::Disk => {
                let fault = *rng.pick(&[CommitFault::Lost, CommitFault::WrittenAfterAll]);
                let faults = vec![fault; usize::try_from(rng.range(1, 4)).unwrap_or(1)];
                self.world
                    .tell(&machine.site.name, || format!("commits fail: {faults:?}"));
                machine.site.store.fail(faults);
                let mut oracle = self.world.oracle();
                oracle.troubled(&machine.site.name);
                oracle.pools.unwell.insert(machine.site.name.clone());
            }
            Trouble::Imds => self.imds(at),
            Trouble::Link => self.link(at).await,
            Trouble::Kernel => self.kernel(at).await,
            Trouble::Kill | Trouble::Restart => {}
        }
    }

    fn pods_come(&mut self, at: usize) {
        let site = self.machines[at].site.clone();
        let many = self.rng.percent(10);
        let count = if many {
            self.rng.range(10, 40)
        } else {
            self.rng.range(1, 6)
        };
        let count = self.cut.pods(count);
        for _ in 0..count {
            self.pods += 1;
            let lifetime = match self.rng.percent(30) {
                true => self.rng.millis(100, 4_000),
                false => self.rng.millis(4_000, 200_000),
            };
            let name = format!("p{}", self.pods);
            let pod = Pod::new(site.clone(), name, lifetime, self.rng.fork());
            tokio::spawn(pod.live());
        }
    }

    fn imds(&mut self, at: usize) {
        let machine = &self.machines[at];
        let rng = &mut self.rng;
        let kind = rng.range(0, 5);
        let enis = oracle::enis(&self.world);
        let others: Vec<oracle::Eni> = enis.into_iter().filter(|e| !e.first).collect();
        let mut mood = machine.node.mood.lock();
        match kind {
            0 => mood.silent = true,
            1 => mood.frozen = true,
            2 if !others.is_empty() => mood.hides = Some(Mac(rng.pick(&others).mac)),
            3 if !others.is_empty() => mood.ghosts.push(ghost(rng.pick(&others), rng)),
            4 => {
                let dead = std::net::Ipv4Addr::new(10, 0, 0, rng.count(4, 250).to_be_bytes()[3]);
                mood.dead.push(Block::address(dead.into()));
            }
            _ => {
                drop(mood);
                machine.node.mood.clear();
                return;
            }
        }
        self.world.tell(&machine.site.name, || words::moods(&mood));
    }

    async fn link(&mut self, at: usize) {
        let machine = &self.machines[at];
        let links = machine.node.kernel.links();
        if links.is_empty() || self.rng.percent(40) {
            self.world
                .tell(&machine.site.name, || "all links are back".into());
            machine.node.kernel.show_all();
        } else {
            let mac = *self.rng.pick(&links);
            self.world
                .tell(&machine.site.name, || format!("link {mac} goes"));
            machine.node.kernel.hide(mac, true);
        }
        machine.node.kernel.tell_links().await;
    }

    async fn kernel(&mut self, at: usize) {
        let kernel = self.machines[at].node.kernel.clone();
        for _ in 0..self.rng.range(1, 3) {
            let stay = self.plan.daemons_stay() && self.breadth.daemons_stay();
            let bends = stay || self.plan.dice.allow("bent_at_start");
            kernel.meddle(&mut self.rng, bends).await;
        }
    }

    /// No trouble any more; what is under way comes to its end.
    pub(super) async fn calm(&mut self) {
        self.world.tell("scenario", || "peace".into());
        self.troubled();
        for id in std::mem::take(&mut self.faults) {
            self.world.vpc().remove_fault(id);
        }
        for machine in &mut self.machines {
            machine.settle(&mut self.rng).await;
        }
        let begun = self.world.elapsed();
        let mut left = PEACE;
        let mut nap = Duration::from_millis(500);
        let mut probes = Probes::new(&self.world, self.plan.spec.seed);
        while !left.is_zero() && !self.broken() {
            tokio::time::sleep(nap).await;
            self.look_after(false).await;
            let due = probes.due_in(self.world.elapsed());
            if due == Some(Duration::ZERO) {
                probes.send(&self.world, &self.machines).await;
                nap = Duration::from_millis(250);
            }
            let now = self.world.elapsed();
            left = PEACE.saturating_sub(now - begun);
            if left <= STEADY && self.writes_before.is_empty() {
                self.writes_before = self.writes();
                for machine in &self.machines {
                    self.short_before.push(report::is_unsettled(machine).await);
                }
            }
            // The first minutes bring most of what there is to see.
            nap = (nap * 2).min(Duration::from_secs(60)).min(left);
            nap = probes.due_in(now).map_or(nap, |due| nap.min(due));
        }
    }

    /// EC2 calls of each machine that changed something. A refused one changed nothing: prefixes
    /// are asked for again, seldom, where there were none.
    pub(super) fn writes(&self) -> Vec<u64> {
        let vpc = self.world.vpc();
        let mut writes = vec![0; self.machines.len()];
        for entry in vpc.audit(0) {
            let at = (self.machines.iter()).position(|m| m.site.name == entry.caller);
            let changed = !entry.action.starts_with("Describe") && entry.outcome == "ok";
            if let Some(at) = at.filter(|_| changed) {
                writes[at] += 1;
            }
        }
        writes
    }
}

/// An ENI as IMDS still shows it after it went, or under a name that never was.
fn ghost(eni: &oracle::Eni, rng: &mut Rng) -> EniView {
    let id = match rng.percent(50) {
        true => eni.id.clone(),
        false => format!("eni-0dead{:012x}", rng.next() & 0xffff_ffff_ffff),
    };
    EniView {
        id: EniId(id),
        mac: Mac(eni.mac),
        attachment: Some(ipam_core::AttachmentView {
            id: None,
            device_index: rng.count(1, 4),
            card: 0,
            delete_on_termination: None,
        }),
        subnet: eni.subnet.as_str().into(),
        address: None,
        blocks: eni
            .blocks
            .iter()
            .map(|net| match net.prefix_len() {
                28 => Block::prefix_of(net.addr()),
                _ => Block::address(net.addr()),
            })
            .collect(),
        unmanaged: None,
        ours: false,
    }
}
