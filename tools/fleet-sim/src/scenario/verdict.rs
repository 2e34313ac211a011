//! After the peace: the pool is at its targets, nothing is half-way, nothing leaks, and every pod has
//! what it was told. By the model's books and numbers of its own, not by the planner's.

use super::chaos::Chaos;
use super::known::RENAMED_DEL_FORGOTTEN;
use super::machine::Machine;
use super::report;
use super::waiting::Waiting;
use super::words;
use super::{operator, places};
use crate::oracle::truth::{Account, Matter};
use crate::oracle::{self, Eni, Promise, refusals};
use crate::story::list;
use crate::world::World;
use ipam_core::{AttachmentKey, BlockState, Family, Lease, Phase, Unmanaged};
use ipam_engine::Snapshot;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;
use vpc_model::request::{Action, Describe};
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
    books(world, &chaos.machines);
}

/// The model's books. What nodes that are gone or forgot left behind, the others' sweep deletes, if
/// any are left.
fn books(world: &World, machines: &[Machine]) {
    let now = world.time();
    let at = world.elapsed();
    let nobody = machines.iter().all(|m| m.gone);
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
        if leak && (nobody || machines.iter().any(pods_on)) {
            continue;
        }
        world.oracle().breach(at, Promise::BooksAreClean, v.detail);
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

    fn breach(&self, promise: Promise, what: String) {
        let now = self.world.elapsed();
        let what = format!("{}: {what}", self.machine.site.name);
        self.world.oracle().breach(now, promise, what);
    }

    async fn judge(mut self) {
        let asked = tokio::time::timeout(Duration::from_secs(5), self.machine.node.snapshot());
        let Ok(Some(snapshot)) = asked.await else {
            self.breach(Promise::AnswersInPeace, "no answer to Inspect".into());
            return;
        };
        self.world
            .tell(&self.machine.site.name, || words::snapshot(&snapshot));
        self.pods();
        let crowded = self.is_crowded();
        if snapshot.parked > 0 && !crowded {
            self.breach(
                Promise::NothingHalfWay,
                format!("{} ADDs wait", snapshot.parked),
            );
        }
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
            self.breach(Promise::NothingHalfWay, what);
        }
        self.agrees();
        self.targets(&snapshot);
        report::judge(self.machine).await;
        self.probe(&snapshot).await;
    }

    /// Every pod has its lease and its route, and there is no lease without a pod.
    fn pods(&self) {
        let name = &self.machine.site.name;
        let mut living: BTreeSet<(AttachmentKey, IpAddr)> = BTreeSet::new();
        let pods = self.world.oracle().living.clone();
        for ((on, key), pod) in pods.iter().filter(|((on, _), _)| on == name) {
            living.extend(pod.ips.iter().map(|ip| (key.clone(), *ip)));
            let has = |l: &Lease| l.key == *key && pod.is_of(l);
            if !pod.unstored && !self.leases.iter().any(has) {
                let what = format!("{key} on {on} has {} and no lease", list(&pod.ips));
                self.breach(Promise::PodKeepsLease, what);
            }
        }
        for lease in &self.leases {
            let key = &lease.key;
            let pod = (name.clone(), key.clone());
            let oracle = self.world.oracle();
            let known = !oracle.dice.allow(RENAMED_DEL_FORGOTTEN)
                && oracle.ledger.renamed_before_start(&pod);
            drop(oracle);
            if known {
                continue;
            }
            for ip in &lease.addresses {
                if !self.forgetful && !living.contains(&(key.clone(), *ip)) {
                    let what = format!("{key} has a lease on {ip} and is gone");
                    self.breach(Promise::LeaseEndsWithPod, what);
                }
            }
        }
    }

    /// Nothing is under way.
    fn half_way(&self, snapshot: &Snapshot) -> Vec<String> {
        let mut found = Vec::new();
        if snapshot.totals.cooling > 0 {
            let resting = self.machine.site.store.resting();
            found.push(format!("{} rest", resting.len()));
        }
        for eni in self.machine.site.store.enis() {
            // What was taken from under living pods stays until they end; leases that came back with
            // an older store never do.
            if eni.blocks.values().any(|s| *s == BlockState::Lost) {
                continue;
            }
            let fine = eni.unmanaged.is_some() || eni.phase == Phase::Ready;
            if eni.intent.is_some() || eni.in_doubt_since.is_some() || !fine {
                found.push(words::unsettled(&eni, &snapshot.report));
            }
        }
        found
    }

    /// The daemon's books and EC2's name the same blocks.
    fn agrees(&self) {
        let eni = |(id, blocks): (String, BTreeSet<IpNet>)| format!("{id} with {}", list(&blocks));
        let ours: BTreeSet<String> = self
            .machine
            .site
            .store
            .enis()
            .into_iter()
            .filter(|e| e.blocks.values().all(|s| *s != BlockState::Lost))
            // It has a place, and nothing more is known of it.
            .filter(|e| e.unmanaged != Some(Unmanaged::NotNamed))
            .map(|e| {
                let blocks = e.blocks.keys().map(ipam_core::Block::net).collect();
                eni((e.id.map(|id| id.0).unwrap_or_default(), blocks))
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
            .filter(|e| !lost(&e.id) && !e.foreign)
            .map(|e| eni((e.id.clone(), e.blocks.iter().copied().collect())))
            .collect();
        if ours != theirs && !broken {
            let what = format!(
                "only in its books: {}; only at EC2: {}",
                list(ours.difference(&theirs)),
                list(theirs.difference(&ours))
            );
            self.breach(Promise::KnowsWhatEc2Gave, what);
        }
    }

    /// An IPv6 prefix where pods have IPv6 addresses, or a reason. A second one, after a doubt or a stale
    /// Describe, costs nothing and stays.
    fn six(&self, snapshot: &Snapshot) {
        let wanted = self.machine.settings.policy.families.contains(&Family::V6);
        let blocks = self.on.iter().flat_map(|eni| &eni.blocks);
        let held = blocks.filter(|net| net.addr().is_ipv6()).count();
        let excused = self.forgetful || self.excuses(snapshot, Matter::Short(Family::V6));
        if wanted && held == 0 && !excused {
            let what = format!("no IPv6 prefix; {}", snapshot.report.join("; "));
            self.breach(Promise::HasIpv6Prefix, what);
        }
    }

    /// Whether the report says truly why this is so.
    fn excuses(&self, snapshot: &Snapshot, matter: Matter) -> bool {
        report::excuses(&self.machine.site, &snapshot.notes, matter)
    }

    fn total(&self) -> u32 {
        self.counting().iter().map(|eni| capacity(eni)).sum()
    }

    /// ENIs whose addresses are pods' to have.
    fn counting(&self) -> Vec<&Eni> {
        let subnets = &self.machine.settings.policy.subnets;
        let counts = |eni: &&Eni| !eni.no_manage && places::counts(self.world, subnets, eni);
        self.on.iter().filter(counts).collect()
    }

    fn retagged(&self) -> bool {
        self.world.oracle().retagged
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
        let counting = self.counting();
        // Those on what was taken by hand stand in nothing that counts.
        let stands = |l: &&Lease| {
            let mut nets = counting.iter().flat_map(|e| of_v4(e));
            nets.any(|net| l.addresses.iter().any(|ip| net.contains(ip)))
        };
        let used = self.leases.iter().filter(stands).count();
        let used = u32::try_from(used).unwrap_or(u32::MAX);
        let busy = snapshot.totals.held + snapshot.totals.cooling;
        let prefixes = policy.prefixes && kind.has_prefixes();
        let slots = self.slots(&kind);
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
        let full = count >= enis && counting.iter().all(|e| filled(e) >= slots);
        let room = self.room();
        // Leases that came back with an older store, and slots that a person filled, count for more
        // than they bring; and what EC2 refuses has its reason in the report.
        let short = self.excuses(snapshot, Matter::Short(Family::V4));
        let excused = self.forgetful || short || self.retagged();
        if total < wanted && !full && room && !excused {
            let what = format!(
                "{total} addresses of {wanted}, {count} of {enis} ENIs; {}",
                snapshot.report.join("; ")
            );
            self.breach(Promise::ReachesTarget, what);
        }
        // Where a subnet has no /28, a single address gives way now and then to try again.
        let spare = self.excuses(snapshot, Matter::Surplus);
        if self.wrote && !self.retagged() && room && !full && !short && !spare {
            let what = format!("it wrote to EC2; {}", snapshot.report.join("; "));
            self.breach(Promise::SettledPoolIsQuiet, what);
        }
        // A pool of mixed kinds, or one that EC2 refuses something, may have more than it needs.
        let right = |b: &IpNet| (b.prefix_len() < 32) == prefixes;
        let mixed = self.on.iter().any(|e| !of_v4(e).all(right));
        // Targets in whole ENIs are by the type's table, where this instance's ENIs carry less, too.
        let name = &self.machine.site.name;
        let fewer = self.world.oracle().pools.carries.contains_key(name) && short;
        if self.forgetful || busy > 0 || mixed || spare || fewer || self.retagged() {
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
                self.breach(Promise::SurplusGoesBack, what);
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
        for eni in self.counting() {
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

    /// IPv4 slots of an ENI besides its own address.
    fn slots(&self, kind: &InstanceType) -> u32 {
        let oracle = self.world.oracle();
        let carries = oracle.pools.carries.get(&self.machine.site.name);
        carries.map_or(kind.ipv4_per_eni, |(_, ipv4)| *ipv4) - 1
    }

    /// Whether pods need a node-local address beside their own, and none is left: then ADDs wait, and
    /// are refused, whatever EC2 has given.
    fn is_crowded(&self) -> bool {
        let site = &self.machine.site;
        let family = site.asks().egress;
        let account = Account::of(site.place());
        let full =
            |family| account.is_some_and(|account| refusals::free_local(&account, family) == 0);
        family.is_some_and(full)
    }

    /// Addresses that the next pod can have at once: both of its families are there.
    fn free(&self, snapshot: &Snapshot) -> u32 {
        if self.is_crowded() {
            return 0;
        }
        let six = self.machine.settings.policy.families.contains(&Family::V6);
        let counting = self.counting();
        let mut blocks = counting.iter().flat_map(|eni| &eni.blocks);
        match six && !blocks.any(|net| net.addr().is_ipv6()) {
            true => 0,
            false => snapshot.totals.free,
        }
    }

    /// Whether the subnet could still give an ENI with one address: tried, by hand.
    fn room(&self) -> bool {
        let Some(first) = self.on.iter().find(|e| e.first) else {
            return false;
        };
        let subnets = &self.machine.settings.policy.subnets;
        let admitted = places::admitted(self.world, subnets, first);
        admitted
            .iter()
            .any(|subnet| places::gives(self.world, subnet))
    }

    /// A pod that can get an address gets it, at once if there is a free one.
    async fn probe(&self, snapshot: &Snapshot) {
        let begun = self.world.elapsed();
        let free = self.free(snapshot);
        let (number, timeout) = (1_000_000, Duration::from_secs(60));
        let site = &self.machine.site;
        let waiting = Waiting::begin(site, &crate::node::request(number, timeout));
        let answer = self.machine.node.add(number, timeout).await;
        match &answer {
            Ok(wiring) => waiting.end(site, Some(&Ok(wiring.clone()))),
            Err(Some(refusal)) => waiting.end(site, Some(&Err(refusal.clone()))),
            Err(None) => waiting.end(site, None),
        }
        let took = self.world.elapsed() - begun;
        match answer {
            Ok(_) if free > 0 && took > Duration::from_millis(10) => {
                let what = format!("it took {took:?} with {free} free");
                self.breach(Promise::WarmPoolAnswersAtOnce, what);
            }
            Ok(_) => {}
            // Pods of the last probe come still, and one of them may have had the last of a range.
            Err(refusal) if free > 0 && !self.is_crowded() => {
                let why =
                    refusal.map_or_else(|| "no answer".into(), |r| format!("{r} ({})", r.cause));
                let what = format!("{why}, with {free} free");
                self.breach(Promise::GetsAddressIfItCan, what);
            }
            // Whether it is right is the oracle's of refusals.
            Err(Some(_)) => {}
            Err(None) => self.breach(Promise::AnswersInPeace, "no daemon answers an ADD".into()),
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

#[cfg(test)]
mod tests;
