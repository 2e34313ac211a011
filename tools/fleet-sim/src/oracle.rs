//! The promises, kept in mind from outside: by what pods were told, what EC2 has really given, what
//! the kernel routes and what is on the disk. Shares no code with planner, datastore or reconcile.

mod books;
pub(crate) mod bound;
#[cfg(test)]
mod controls;
mod intents;
mod kernel;
mod ledger;
mod order;
mod pool;
mod promise;
mod rate;
pub(crate) mod refusals;
pub(crate) mod room;
mod runtime;
pub(crate) mod six;
pub(crate) mod truth;

pub(crate) use books::{Eni, Given, enis, given};
pub(crate) use intents::grows;
use intents::missing_intent;
pub(crate) use kernel::{By, homes_moved};
pub(crate) use ledger::Ledger;
pub(crate) use order::Order;
pub(crate) use pool::Run;
pub use promise::Promise;
pub(crate) use rate::Answer;
pub(crate) use runtime::Gathered;

use crate::store::{Memory, Record};
use ipam_core::wiring::egress::is_local;
use ipam_core::{AttachmentKey, Family, Lease, Mac};
use ipam_engine::ports::Loaded;
use ipnet::IpNet;
use mutant::mutant;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use vpc_model::request::Action;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// When, since the beginning of the run.
    pub at: Duration,
    /// Which promise.
    pub promise: Promise,
    /// What was seen.
    pub what: String,
}

/// An attachment of a pod that was told an address and has not ended.
#[derive(Clone, Debug, Default)]
pub(crate) struct Living {
    /// One of each family, and a node-local one.
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) host_if: String,
    /// The Ethernet address of the host's end.
    pub(crate) host_mac: Option<Mac>,
    /// When it was told.
    pub(crate) since: Duration,
    /// Its host route is there.
    pub(crate) wired: bool,
    /// An operator took its address away: EC2 may give it to anybody.
    pub(crate) broken: bool,
    /// Its lease may have been lost with what the store lost.
    pub(crate) unstored: bool,
}

impl Living {
    /// The lease is of all that it was told.
    pub(crate) fn is_of(&self, lease: &Lease) -> bool {
        self.ips.iter().all(|ip| lease.addresses.contains(ip))
    }

    fn is_in(&self, nets: &[IpNet]) -> bool {
        let among = |ip| nets.iter().any(|net| net.contains(ip));
        self.ips.iter().any(among)
    }
}

/// Node and attachment: a pod with two interfaces is two of them.
pub(crate) type PodKey = (String, AttachmentKey);

/// Where an address is one and the same: a node-local one on its node, all others everywhere.
fn place(node: &str, ip: IpAddr) -> (String, IpAddr) {
    let node = if is_local(ip) { node } else { "" };
    (node.into(), ip)
}

/// An Assign whose answer never came.
#[derive(Clone, Debug)]
struct Doubt {
    sent: Duration,
    gave: Vec<String>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) breaches: Vec<Breach>,
    pub(crate) living: BTreeMap<PodKey, Living>,
    /// When the last pod with this address ended, and where; by [`place`].
    ended: BTreeMap<(String, IpAddr), (Duration, String)>,
    /// What an operator took away, and from which node, as long as EC2 has not given it to that node
    /// again: address by address, IPv6 prefix by prefix.
    by_hand: BTreeSet<(IpNet, String)>,
    /// Assigns in doubt, by node, ENI and family.
    doubts: BTreeMap<(String, String, Family), Doubt>,
    /// Nodes whose store went back in time once: what it forgot can't be held against them.
    /// When it last did.
    pub(crate) forgetful: BTreeMap<String, Duration>,
    /// The last time at which a node gave something back to EC2.
    pub(crate) gave_back: BTreeMap<String, Duration>,
    /// Whether the kernel serves the living.
    pub(crate) kernel: kernel::Watch,
    /// What each daemon was told.
    pub(crate) ledger: Ledger,
    /// ADDs that wait.
    pub(crate) order: Order,
    /// Which known faults are looked for.
    pub(crate) dice: crate::scenario::Dice,
    pub(crate) pools: pool::Pools,
    pub(crate) rates: rate::Rates,
    /// Subnets' tags were changed while nodes ran, or were not told: they hear of it within two hours.
    pub(crate) retagged: bool,
}

/// EC2's window: what a write did shows in a Describe begun so much later.
const CONSISTENCY: Duration = Duration::from_secs(60);

impl Oracle {
    pub(crate) fn breach(&mut self, at: Duration, promise: Promise, what: String) {
        mutant!(
            "judge/collects-breaches",
            self.breaches.push(Breach { at, promise, what }),
            drop(Breach { at, promise, what })
        );
    }

    /// A daemon told a pod its address.
    pub(crate) fn answered(&mut self, now: Duration, told: &Told<'_>) {
        let key: PodKey = (told.node.into(), told.attachment.clone());
        let ips: Vec<IpAddr> = told.addresses.iter().map(|a| a.ip).collect();
        let known = self.living.get(&key).cloned();
        let again = known.is_some();
        let wired = known.as_ref().is_some_and(|l| l.wired);
        let same = |l: &Living| l.ips == ips && l.host_mac == Some(told.host_mac);
        if let Some(before) = known.filter(|l| !same(l) && !l.unstored && !l.broken) {
            let what = format!("{} had {:?} and is told {ips:?}", key.1, before.ips);
            self.breach(now, Promise::PodKeepsAddress, what);
        }
        self.not_released(told.node, &ips);
        for address in &told.addresses {
            self.told_one(now, told, address, &key, again);
        }
        let living = Living {
            broken: ips.iter().any(|ip| self.is_by_hand(told.node, *ip)),
            ips,
            host_if: told.host_if.into(),
            host_mac: Some(told.host_mac),
            since: now,
            wired,
            unstored: false,
        };
        self.living.insert(key, living);
    }

    fn told_one(
        &mut self,
        now: Duration,
        told: &Told<'_>,
        address: &Address,
        key: &PodKey,
        again: bool,
    ) {
        let ip = address.ip;
        let others: Vec<String> = self
            .living
            .iter()
            .filter(|(k, l)| {
                mutant!(
                    "judge/two-pods-one-address",
                    *k != key && l.ips.contains(&ip),
                    *k == key && l.ips.is_empty()
                )
            })
            .filter(|(k, _)| place(&k.0, ip) == place(told.node, ip))
            // What an operator took from one node EC2 gives to another.
            .filter(|(k, l)| k.0 == told.node || !l.broken && !self.is_by_hand(told.node, ip))
            .map(|(k, _)| format!("{} on {}", k.1, k.0))
            .collect();
        let key = &key.1;
        for other in others {
            let what = format!("{ip} is told to {key} while {other} has it");
            self.breach(now, Promise::NoAddressInTwoPods, what);
        }
        let routed = address.routed.as_ref();
        if let Some(dev) = routed.filter(|dev| *dev != told.host_if || !again) {
            let what = format!("{ip} is told to {key} while the kernel routes it to {dev}");
            self.breach(now, Promise::NoRouteNamesIt, what);
        }
        match given(told.given, told.node, ip) {
            Given::Here => {}
            // EC2 gives no node-local addresses.
            Given::Nobody if is_local(ip) => {}
            _ if again || self.is_by_hand(told.node, ip) => {}
            other => {
                let what = format!("{ip} is told to {key} of {}: {other:?}", told.node);
                self.breach(now, Promise::OnWhatEc2Gave, what);
            }
        }
        let forgot = self.forgetful.contains_key(told.node) || self.is_by_hand(told.node, ip);
        if address.tracked && !again && !forgot {
            let what = format!("{ip} is told to {key} with connections of its last pod");
            self.breach(now, Promise::ConnectionsForgotten, what);
        }
        let rests = self
            .ended
            .get(&place(told.node, ip))
            .filter(|(at, _)| mutant!("judge/rest-is-kept", now < *at + told.cooldown, now < *at));
        if let Some((at, _)) = rests.filter(|_| !again && !self.is_by_hand(told.node, ip)) {
            let what = format!("{ip} is told to {key}; it was freed at {at:?}");
            self.breach(now, Promise::FreedAddressRests, what);
        }
        let stored = told
            .store
            .lease(told.attachment)
            .is_some_and(|l| l.addresses.contains(&ip));
        if mutant!("judge/durable-leases", !stored, false) {
            let what = format!("{ip} is told to {key} and no lease is on the disk");
            self.breach(now, Promise::DurableBeforeTold, what);
        }
    }

    /// A pod ended: from now on its address rests.
    pub(crate) fn ended(&mut self, now: Duration, key: &PodKey) {
        self.ledger.dels.insert(key.clone(), now);
        let gone = self.living.remove(key);
        // What an operator took, or the store forgot, is anybody's.
        if let Some(living) = gone.filter(|l| !l.broken && !l.unstored) {
            for ip in living.ips {
                self.ended.insert(place(&key.0, ip), (now, key.0.clone()));
            }
        }
    }

    /// Every pod of a node is gone at once. Of addresses that rest only those are remembered that are
    /// on the disk: a note that waits for the daemon is another boot's.
    pub(crate) fn rebooted(&mut self, node: &str, resting: &BTreeSet<IpAddr>) {
        self.living.retain(|(on, _), _| on != node);
        self.ended
            .retain(|(_, ip), (_, on)| on != node || resting.contains(ip));
    }

    /// The node is no more: EC2 gives its addresses to anybody at once.
    pub(crate) fn terminated(&mut self, node: &str) {
        self.rebooted(node, &BTreeSet::new());
    }

    /// A daemon starts on what its disk has.
    pub(crate) fn started(&mut self, now: Duration, node: &str, loaded: &Loaded) {
        let lost: Vec<String> = self
            .living
            .iter()
            .filter(|((on, _), l)| on == node && !l.unstored)
            .filter(|((_, key), living)| {
                let mut leases = loaded.leases.iter();
                !leases.any(|l| l.key == *key && living.is_of(l))
            })
            .map(|((_, key), living)| format!("{key} with {:?}", living.ips))
            .collect();
        for pod in mutant!("judge/survived-leases", lost, Vec::<String>::new()) {
            let what = format!("{node} starts and its disk has no lease for {pod}");
            self.breach(now, Promise::LeaseSurvives, what);
        }
    }

    /// The store of a node came back as it was at `then`, with leases on these addresses.
    pub(crate) fn went_back(
        &mut self,
        now: Duration,
        node: &str,
        then: Duration,
        leased: &BTreeSet<IpAddr>,
    ) {
        self.forgetful.insert(node.into(), now);
        self.forgot_releases(node);
        self.troubled(node);
        for ((on, _), living) in &mut self.living {
            living.unstored |= on == node && living.since >= then;
        }
        // Releases of that time are forgotten with their times. So is an older one that the disk learned of
        // later, by a note of its DEL: the lease is back, and nothing ends it any more.
        self.ended
            .retain(|(_, ip), (at, on)| on != node || *at < then && !leased.contains(ip));
        self.doubts.retain(|(on, ..), _| on != node);
    }

    /// One record of a node's store can't be read any more.
    pub(crate) fn lost(&mut self, now: Duration, node: &str, record: &Record) {
        self.forgetful.insert(node.into(), now);
        self.troubled(node);
        match record {
            Record::Lease(key) => {
                let key = (node.to_owned(), key.clone());
                // A plugin at work between answer and route: nothing witnesses what it was told.
                self.living.retain(|k, l| *k != key || l.wired);
                if let Some(living) = self.living.get_mut(&key) {
                    living.unstored = true;
                }
            }
            Record::Cooldown(ip) => self
                .ended
                .retain(|(_, ended), (_, on)| ended != ip || on != node),
            Record::Eni(_) => self.doubts.retain(|(on, ..), _| on != node),
            Record::Facts => {}
            // It may be another boot's: leases don't count.
            Record::Owner => {
                self.living.retain(|(on, _), l| on != node || l.wired);
                for ((on, _), living) in &mut self.living {
                    living.unstored |= on == node;
                }
            }
        }
    }

    /// A daemon is about to send a call: what it is about to do must be on its disk.
    pub(crate) fn sends(&mut self, now: Duration, node: &str, disk: &Memory, action: &Action) {
        if let Some(intent) = mutant!(
            "judge/intents",
            missing_intent(disk, action),
            missing_intent(disk, action).filter(|_| false)
        ) {
            let what = format!("{node} sends {} without {intent}", action.name());
            self.breach(now, Promise::IntentBeforeWrite, what);
        }
        if let Some((eni, family)) = grows(action)
            && let Some(doubt) = self.doubts.get(&(node.into(), eni.into(), family))
        {
            let what = format!(
                "{node} sends an Assign to {eni} while that of {:?} is not settled",
                doubt.sent
            );
            self.breach(now, Promise::DoubtIsSettled, what);
        }
    }

    /// EC2 does what a daemon asked.
    pub(crate) fn does(&mut self, now: Duration, node: &str, action: &Action, enis: &[books::Eni]) {
        let taken = books::taken(action, enis);
        if taken.is_empty() {
            return;
        }
        self.gave_back.insert(node.into(), now);
        self.gives_back(now, node, action.name(), &taken);
        let robbed: Vec<String> = self
            .living
            .iter()
            .filter(|((on, _), l)| on == node && !l.broken)
            .filter(|(_, l)| {
                mutant!(
                    "judge/robbed-pods",
                    l.is_in(&taken),
                    l.broken && l.is_in(&taken)
                )
            })
            .map(|((_, key), l)| format!("{key} with {:?}", l.ips))
            .collect();
        for pod in robbed {
            let what = format!("{node} gives {} back under {pod}", action.name());
            self.breach(now, Promise::NotTakenFromLiving, what);
        }
    }

    /// EC2 has done an Assign, and nobody knows yet whether the answer will come.
    pub(crate) fn assigned(
        &mut self,
        sent: Duration,
        node: &str,
        (eni, family): (&str, Family),
        gave: Vec<String>,
    ) {
        // What it asked for before its store went back it has forgotten.
        if self.forgetful.get(node).is_some_and(|at| *at >= sent) {
            return;
        }
        self.doubts
            .insert((node.into(), eni.into(), family), Doubt { sent, gave });
    }

    /// Nobody took anything by hand.
    pub(crate) fn no_hands(&self) -> bool {
        self.by_hand.is_empty()
    }

    /// A node hears of EC2 what it has now: nobody's mistake is about that any more.
    pub(crate) fn given_again(&mut self, node: &str, enis: &[books::Eni]) {
        self.by_hand
            .retain(|(net, on)| on != node || given(enis, node, net.addr()) != Given::Here);
    }

    /// The answer came.
    pub(crate) fn assign_answered(&mut self, node: &str, (eni, family): (&str, Family)) {
        self.doubts.remove(&(node.into(), eni.into(), family));
    }

    /// A Describe that began at `begun` was answered with these ENIs and their blocks.
    pub(crate) fn described(
        &mut self,
        begun: Duration,
        node: &str,
        shown: &BTreeMap<String, Vec<String>>,
    ) {
        self.ledger.showed(node, shown.keys());
        self.doubts.retain(|(on, eni, _), doubt| {
            let shows = shown
                .get(eni)
                .is_some_and(|blocks| doubt.gave.iter().all(|b| blocks.contains(b)));
            let told = shows && !doubt.gave.is_empty();
            on != node || !told && begun < doubt.sent + CONSISTENCY
        });
    }

    /// Whether an operator took any of a block's addresses away.
    pub(crate) fn hands_in(&self, node: &str, block: &ipam_core::Block) -> bool {
        self.by_hand
            .iter()
            .any(|(net, on)| on == node && block.contains(net.addr()))
    }

    /// The same of the block or of the prefix around it, which the daemon may have still.
    pub(crate) fn hands_near(&self, node: &str, block: &ipam_core::Block) -> bool {
        let around = ipam_core::Block::prefix_of(block.first());
        self.hands_in(node, block) || self.hands_in(node, &around)
    }

    /// Whether an operator took it away.
    pub(crate) fn is_by_hand(&self, node: &str, ip: IpAddr) -> bool {
        match ip {
            IpAddr::V4(_) => self.by_hand.contains(&(ip.into(), node.to_owned())),
            IpAddr::V6(_) => self
                .by_hand
                .iter()
                .any(|(net, on)| on == node && net.contains(&ip)),
        }
    }

    /// An operator took these addresses away from a node.
    pub(crate) fn taken_by_hand(&mut self, node: &str, nets: &[IpNet]) {
        self.troubled(node);
        let pieces = nets.iter().flat_map(|net| books::pieces(*net));
        self.by_hand.extend(pieces.map(|net| (net, node.into())));
        self.ended
            .retain(|(_, ip), _| !nets.iter().any(|net| net.contains(ip)));
        for ((on, _), living) in &mut self.living {
            living.broken |= on == node && living.is_in(nets);
        }
    }
}

/// One of a pod's addresses, and what the kernel says to it.
#[derive(Debug)]
pub(crate) struct Address {
    pub(crate) ip: IpAddr,
    /// By which link.
    pub(crate) routed: Option<String>,
    /// The kernel remembers connections of it, and would have forgotten them.
    pub(crate) tracked: bool,
}

/// What a pod was told, and what the world says to it at that moment.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) node: &'a str,
    pub(crate) attachment: &'a AttachmentKey,
    pub(crate) addresses: Vec<Address>,
    pub(crate) host_if: &'a str,
    pub(crate) host_mac: Mac,
    pub(crate) cooldown: Duration,
    pub(crate) given: &'a [books::Eni],
    pub(crate) store: &'a Memory,
}
