//! After the peace: the pool is at its targets, nothing is half-way, nothing leaks, and every pod has
//! what it was told. By the model's books and numbers of its own, not by the planner's.

use super::chaos::Chaos;
use super::machine::Machine;
use super::operator;
use crate::oracle::{self, Eni};
use crate::world::World;
use ipam_core::{BlockState, Family, Lease, Phase};
use ipam_engine::Snapshot;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use vpc_model::request::{Action, CreateNetworkInterface, DeleteNetworkInterface, Describe};
use vpc_model::response::InstanceType;
use vpc_model::{Response, ViolationClass};

/// Says what is wrong.
pub(super) async fn judge(world: &World, chaos: &Chaos) {
    let steady = chaos.writes();
    for (at, machine) in chaos.machines.iter().enumerate() {
        if machine.gone {
            continue;
        }
        let short = chaos.short_before.get(at).copied().unwrap_or_default();
        let wrote =
            steady[at] != chaos.writes_before.get(at).copied().unwrap_or_default() && !short;
        Judge::new(world, machine, wrote).judge().await;
    }
    books(world, chaos);
}

/// The model's books. What nodes that are gone or forgot left behind, the others' sweep deletes, if
/// any are left.
fn books(world: &World, chaos: &Chaos) {
    let now = world.time();
    let at = world.elapsed();
    let nobody = chaos.machines.iter().all(|m| m.gone);
    let violations = world.vpc().books(now);
    for v in violations {
        let leak = v.class == ViolationClass::LeakedEni;
        // One that was detached by hand under living pods is its node's until they end.
        let pods_on = |m: &Machine| {
            m.site.store.any_eni(|e| {
                let lost = e.blocks.values().any(|s| *s == BlockState::Lost);
                lost && e
                    .id
                    .as_ref()
                    .is_some_and(|id| v.detail.contains(id.as_str()))
            })
        };
        if leak && (nobody || chaos.machines.iter().any(pods_on)) {
            continue;
        }
        world
            .oracle()
            .breach(at, "the books of the VPC are clean", v.detail);
    }
}

struct Judge<'a> {
    world: &'a World,
    machine: &'a Machine,
    /// It wrote to EC2 in the steady time.
    wrote: bool,
    forgetful: bool,
    /// ENIs of the model on this node.
    on: Vec<Eni>,
    leases: Vec<Lease>,
}

impl<'a> Judge<'a> {
    fn new(world: &'a World, machine: &'a Machine, wrote: bool) -> Self {
        let name = machine.site.name.as_str();
        let forgetful = world.oracle().forgetful.contains_key(name);
        let mut judge = Self {
            world,
            machine,
            wrote,
            forgetful,
            on: Vec::new(),
            leases: Vec::new(),
        };
        judge.look();
        judge
    }

    /// What is there now.
    fn look(&mut self) {
        let name = self.machine.site.name.as_str();
        self.on = oracle::enis(self.world)
            .into_iter()
            .filter(|e| e.node.as_deref() == Some(name))
            .collect();
        self.leases = self.machine.site.store.leases();
    }

    fn breach(&self, promise: &'static str, what: String) {
        let now = self.world.elapsed();
        let what = format!("{}: {what}", self.machine.site.name);
        self.world.oracle().breach(now, promise, what);
    }

    async fn judge(mut self) {
        let asked = tokio::time::timeout(Duration::from_secs(5), self.machine.node.snapshot());
        let Ok(Some(snapshot)) = asked.await else {
            self.breach("a daemon answers in peace", "no answer to Inspect".into());
            return;
        };
        self.world
            .tell(&self.machine.site.name, || format!("{snapshot:?}"));
        self.pods();
        // A try that EC2 refuses time and again may be under way just now, and just then.
        let mut half_way = self.half_way(&snapshot);
        for pause in [25, 37, 41] {
            if half_way.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_secs(pause)).await;
            self.look();
            half_way = self.half_way(&snapshot);
        }
        for what in half_way {
            self.breach("nothing is half-way in the end", what);
        }
        self.agrees();
        self.targets(&snapshot);
        self.probe(&snapshot).await;
    }

    /// Every pod has its lease and its route, and there is no lease without a pod.
    fn pods(&self) {
        let name = &self.machine.site.name;
        let mut living: BTreeSet<(String, IpAddr)> = BTreeSet::new();
        let pods = self.world.oracle().living.clone();
        for ((on, sandbox), pod) in pods.iter().filter(|((on, _), _)| on == name) {
            living.extend(pod.ips.iter().map(|ip| (sandbox.clone(), *ip)));
            let has = |l: &Lease| l.key.container_id == *sandbox && pod.is_of(l);
            if !pod.unstored && !self.leases.iter().any(has) {
                let what = format!("{sandbox} on {on} has {:?} and no lease", pod.ips);
                self.breach("a living pod keeps its lease", what);
            }
        }
        for lease in &self.leases {
            for ip in &lease.addresses {
                let id = &lease.key.container_id;
                if !self.forgetful && !living.contains(&(id.clone(), *ip)) {
                    let what = format!("{id} has a lease on {ip} and is gone");
                    self.breach("a lease ends with its pod", what);
                }
            }
        }
    }

    /// Nothing is under way.
    fn half_way(&self, snapshot: &Snapshot) -> Vec<String> {
        let mut found = Vec::new();
        if snapshot.parked > 0 {
            found.push(format!("{} ADDs wait", snapshot.parked));
        }
        for eni in self.machine.site.store.enis() {
            // What was taken from under living pods stays until they end; leases that came back with
            // an older store never do.
            if eni.blocks.values().any(|s| *s == BlockState::Lost) {
                continue;
            }
            let fine = eni.unmanaged.is_some() || eni.phase == Phase::Ready;
            if eni.intent.is_some() || eni.in_doubt_since.is_some() || !fine {
                found.push(format!(
                    "{:?} {:?} intent {:?} doubt {:?}; {}",
                    eni.id,
                    eni.phase,
                    eni.intent,
                    eni.in_doubt_since,
                    snapshot.report.join("; ")
                ));
            }
        }
        found
    }

    /// The daemon's books and EC2's name the same blocks.
    fn agrees(&self) {
        let list = |(id, blocks): (String, BTreeSet<IpNet>)| format!("{id} {blocks:?}");
        let ours: BTreeSet<String> = self
            .machine
            .site
            .store
            .enis()
            .into_iter()
            .filter(|e| e.blocks.values().all(|s| *s != BlockState::Lost))
            .map(|e| {
                let blocks = e.blocks.keys().map(ipam_core::Block::net).collect();
                list((e.id.map(|id| id.0).unwrap_or_default(), blocks))
            })
            .collect();
        let broken = self.world.oracle().living.values().any(|l| l.broken);
        let lost = |id: &str| {
            let same = |e: &ipam_core::Eni| e.id.as_ref().is_some_and(|i| i.as_str() == id);
            let lost = |e: &ipam_core::Eni| e.blocks.values().any(|s| *s == BlockState::Lost);
            self.machine.site.store.any_eni(|e| same(e) && lost(e))
        };
        let theirs: BTreeSet<String> = self
            .on
            .iter()
            .filter(|e| !lost(&e.id))
            .map(|e| list((e.id.clone(), e.blocks.iter().copied().collect())))
            .collect();
        if ours != theirs && !broken {
            let what = format!(
                "only here: {:?}; only at EC2: {:?}",
                ours.difference(&theirs).collect::<Vec<_>>(),
                theirs.difference(&ours).collect::<Vec<_>>()
            );
            self.breach("the daemon knows what EC2 gave", what);
        }
    }

    /// An IPv6 prefix where pods have IPv6 addresses, or a reason. A second one, after a doubt or a stale
    /// Describe, costs nothing and stays.
    fn six(&self, snapshot: &Snapshot) {
        let wanted = self.machine.settings.policy.families.contains(&Family::V6);
        let blocks = self.on.iter().flat_map(|eni| &eni.blocks);
        let held = blocks.filter(|net| net.addr().is_ipv6()).count();
        let excused = self.forgetful || !snapshot.report.is_empty();
        if wanted && held == 0 && !excused {
            let what = format!("no IPv6 prefix; {}", snapshot.report.join("; "));
            self.breach("a node has its IPv6 prefix", what);
        }
    }

    fn total(&self) -> u32 {
        self.on.iter().map(capacity).sum()
    }

    /// As many addresses as the settings ask for, or a reason; and no more.
    fn targets(&self, snapshot: &Snapshot) {
        let policy = &self.machine.settings.policy;
        self.six(snapshot);
        if !policy.families.contains(&Family::V4) {
            return;
        }
        let Some(kind) = instance_type(self.world, &self.machine.instance_type) else {
            return;
        };
        // Those on what was taken by hand stand in nothing that counts.
        let stands = |l: &&Lease| {
            let mut nets = self.on.iter().flat_map(|e| &e.blocks);
            nets.any(|net| l.addresses.iter().any(|ip| net.contains(ip)))
        };
        let used = self.leases.iter().filter(stands).count();
        let used = u32::try_from(used).unwrap_or(u32::MAX);
        let busy = snapshot.totals.held + snapshot.totals.cooling;
        let prefixes = policy.prefixes && kind.has_prefixes();
        let slots = kind.ipv4_per_eni - 1;
        let enis = kind.card_enis[0].min(policy.max_eni.unwrap_or(u32::MAX).max(1));
        let by_address = policy.warm_ip.is_some() || policy.minimum_ip.is_some();
        let wanted = if by_address {
            (used + policy.warm_ip.unwrap_or(0)).max(policy.minimum_ip.unwrap_or(0))
        } else if prefixes {
            used + 16 * policy.warm_prefix
        } else {
            used + (policy.warm_eni * slots).max(1)
        };
        let wanted = wanted.min(policy.max_pods.unwrap_or(u32::MAX)).max(used);
        let total = self.total();
        let count = u32::try_from(self.on.len()).unwrap_or(u32::MAX);
        let full = count >= enis && self.on.iter().all(|e| filled(e) >= slots);
        let room = self.room();
        // Leases that came back with an older store, and slots that a person filled, count for more
        // than they bring; and what EC2 refuses has its reason in the report.
        let excused = self.forgetful || !snapshot.report.is_empty();
        if total < wanted && !full && room && !excused {
            let what = format!(
                "{total} addresses of {wanted}, {count} of {enis} ENIs; {}",
                snapshot.report.join("; ")
            );
            self.breach("the pool reaches its target", what);
        }
        // Where a subnet has no /28, a single address gives way now and then to try again.
        if self.wrote && room && !full && snapshot.report.is_empty() {
            let what = format!("it wrote to EC2; {}", snapshot.report.join("; "));
            self.breach("a settled pool writes nothing to EC2", what);
        }
        // A pool of mixed kinds, or one that EC2 refuses something, may have more than it needs.
        let right = |b: &IpNet| (b.prefix_len() < 32) == prefixes;
        let mixed = self.on.iter().any(|e| !of_v4(e).all(right));
        if self.forgetful || busy > 0 || mixed || !snapshot.report.is_empty() {
            return;
        }
        let whole = !by_address && !prefixes;
        for idle in self.idle(whole) {
            if total - idle.1 >= wanted {
                let what = format!(
                    "{} could go: {total} addresses, {wanted} wanted, {used} used; {}",
                    idle.0,
                    snapshot.report.join("; ")
                );
                self.breach("a surplus is given back", what);
                return;
            }
        }
    }

    /// What nobody uses and could go back: whole ENIs that the daemon made, or blocks.
    fn idle(&self, whole: bool) -> Vec<(String, u32)> {
        let used = |net: &IpNet| {
            let leased = |l: &Lease| l.addresses.iter().any(|ip| net.contains(ip));
            self.leases.iter().any(leased)
        };
        let mut idle = Vec::new();
        for eni in &self.on {
            let empty = !of_v4(eni).any(used);
            if empty && !eni.first && eni.made_by_node {
                idle.push((eni.id.clone(), capacity(eni)));
            }
            for block in of_v4(eni).filter(|b| !used(b)) {
                if !whole || block.prefix_len() < 32 {
                    idle.push((block.to_string(), size(block)));
                }
            }
        }
        idle
    }

    /// Whether the subnet could still give an ENI with one address: tried, by hand.
    fn room(&self) -> bool {
        let Some(first) = self.on.iter().find(|e| e.first) else {
            return false;
        };
        let request = CreateNetworkInterface {
            subnet: Some(first.subnet.as_str().into()),
            v4: vpc_model::request::WantedV4 {
                address_count: Some(1),
                ..Default::default()
            },
            ..CreateNetworkInterface::default()
        };
        let answer = operator::call(self.world, Action::CreateNetworkInterface(request));
        let Ok(Response::Created { eni, .. }) = answer else {
            return false;
        };
        let request = DeleteNetworkInterface { eni: eni.id };
        operator::call(self.world, Action::DeleteNetworkInterface(request)).is_ok()
    }

    /// A pod that can get an address gets it, at once if there is a free one.
    async fn probe(&self, snapshot: &Snapshot) {
        let begun = self.world.elapsed();
        let answer = self
            .machine
            .node
            .add(1_000_000, Duration::from_secs(60))
            .await;
        let took = self.world.elapsed() - begun;
        match answer {
            Ok(_) if snapshot.totals.free > 0 && took > Duration::from_millis(10) => {
                let what = format!("it took {took:?} with {} free", snapshot.totals.free);
                self.breach("a warm pool answers at once", what);
            }
            Ok(_) => {}
            Err(refusal) if snapshot.totals.free > 0 => {
                let what = format!("{refusal:?} with {} free", snapshot.totals.free);
                self.breach("a pod that can get an address gets it", what);
            }
            Err(Some(refusal)) if !refusal.cause.is_empty() && !refusal.message.is_empty() => {}
            Err(refusal) => self.breach("a refusal carries a cause", format!("{refusal:?}")),
        }
    }
}

fn size(net: &IpNet) -> u32 {
    1 << (net.max_prefix_len() - net.prefix_len()).min(16)
}

fn capacity(eni: &Eni) -> u32 {
    of_v4(eni).map(size).sum()
}

fn filled(eni: &Eni) -> u32 {
    u32::try_from(of_v4(eni).count()).unwrap_or(u32::MAX)
}

/// Blocks that the targets are about: of IPv6 one is enough for any node.
fn of_v4(eni: &Eni) -> impl Iterator<Item = &IpNet> {
    eni.blocks.iter().filter(|net| net.addr().is_ipv4())
}

fn instance_type(world: &World, name: &str) -> Option<InstanceType> {
    let by = Describe::ids([name.to_owned()]);
    match operator::call(world, Action::DescribeInstanceTypes(by)) {
        Ok(Response::InstanceTypes(page)) => page.items.into_iter().next(),
        _ => None,
    }
}
