//! The promises, kept in mind from outside: by what pods were told, what EC2 has really given, what
//! the kernel routes and what is on the disk. Shares no code with planner, datastore or reconcile.

mod books;

pub(crate) use books::{Eni, Given, enis, given};

use crate::store::Memory;
use ipam_core::{Family, Intent, Lease, Phase};
use ipam_engine::ports::Loaded;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use vpc_model::request::{Action, EniAttribute, UnassignIpv6Addresses, UnassignPrivateIpAddresses};

/// A broken promise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    /// When, since the beginning of the run.
    pub at: Duration,
    /// Which promise.
    pub promise: &'static str,
    /// What was seen.
    pub what: String,
}

/// A pod that was told an address and has not ended.
#[derive(Clone, Debug)]
pub(crate) struct Living {
    /// One of each family.
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) host_if: String,
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

/// Node and sandbox.
pub(crate) type PodKey = (String, String);

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
    /// When the last pod with this address ended, and where.
    ended: BTreeMap<IpAddr, (Duration, String)>,
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
}

/// EC2's window: what a write did shows in a Describe begun so much later.
const CONSISTENCY: Duration = Duration::from_secs(60);

impl Oracle {
    pub(crate) fn breach(&mut self, at: Duration, promise: &'static str, what: String) {
        self.breaches.push(Breach { at, promise, what });
    }

    /// A daemon told a pod its address.
    pub(crate) fn answered(&mut self, now: Duration, told: &Told<'_>) {
        let key: PodKey = (told.node.into(), told.sandbox.into());
        let ips: Vec<IpAddr> = told.addresses.iter().map(|a| a.ip).collect();
        let known = self.living.get(&key).cloned();
        if let Some(before) = known.filter(|l| l.ips != ips && !l.unstored && !l.broken) {
            let what = format!("{key:?} had {:?} and is told {ips:?}", before.ips);
            self.breach(now, "a living pod keeps its address", what);
        }
        let again = self.living.contains_key(&key);
        for address in &told.addresses {
            self.told_one(now, told, address, &key, again);
        }
        let living = Living {
            broken: ips.iter().any(|ip| self.is_by_hand(told.node, *ip)),
            ips,
            host_if: told.host_if.into(),
            since: now,
            wired: again,
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
            .filter(|(k, l)| *k != key && l.ips.contains(&ip))
            // What an operator took from one node EC2 gives to another.
            .filter(|(k, l)| k.0 == told.node || !l.broken && !self.is_by_hand(told.node, ip))
            .map(|(k, _)| format!("{k:?}"))
            .collect();
        for other in others {
            let what = format!("{ip} is told to {key:?} while {other} has it");
            self.breach(now, "no address in two pods", what);
        }
        let routed = address.routed.as_ref();
        if let Some(dev) = routed.filter(|dev| *dev != told.host_if || !again) {
            let what = format!("{ip} is told to {key:?} while the kernel routes it to {dev}");
            self.breach(now, "an address is given only when no route names it", what);
        }
        match given(told.given, told.node, ip) {
            Given::Here => {}
            _ if again || self.is_by_hand(told.node, ip) => {}
            other => {
                let what = format!("{ip} is told to {key:?} of {}: {other:?}", told.node);
                self.breach(now, "a lease is on what EC2 gave to this node", what);
            }
        }
        let forgot = self.forgetful.contains_key(told.node) || self.is_by_hand(told.node, ip);
        if address.tracked && !again && !forgot {
            let what = format!("{ip} is told to {key:?} with connections of its last pod");
            self.breach(
                now,
                "connections are forgotten before an address is given",
                what,
            );
        }
        let rests = self
            .ended
            .get(&ip)
            .filter(|(at, _)| now < *at + told.cooldown);
        if let Some((at, _)) = rests.filter(|_| !again && !self.is_by_hand(told.node, ip)) {
            let what = format!("{ip} is told to {key:?}; it was freed at {at:?}");
            self.breach(now, "a freed address rests", what);
        }
        let stored = told
            .store
            .any_lease(|l| l.key.container_id == told.sandbox && l.addresses.contains(&ip));
        if !stored {
            let what = format!("{ip} is told to {key:?} and no lease is on the disk");
            self.breach(now, "a lease is durable before it is told", what);
        }
    }

    /// A pod ended: from now on its address rests.
    pub(crate) fn ended(&mut self, now: Duration, key: &PodKey) {
        let gone = self.living.remove(key);
        // What an operator took, or the store forgot, is anybody's.
        if let Some(living) = gone.filter(|l| !l.broken && !l.unstored) {
            for ip in living.ips {
                self.ended.insert(ip, (now, key.0.clone()));
            }
        }
    }

    /// Every pod of a node is gone at once. Of addresses that rest only those are remembered that are
    /// on the disk: a note that waits for the daemon is another boot's.
    pub(crate) fn rebooted(&mut self, node: &str, resting: &BTreeSet<IpAddr>) {
        self.living.retain(|(on, _), _| on != node);
        self.ended
            .retain(|ip, (_, on)| on != node || resting.contains(ip));
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
            .filter(|((_, sandbox), living)| {
                !loaded
                    .leases
                    .iter()
                    .any(|l| l.key.container_id == *sandbox && living.is_of(l))
            })
            .map(|((_, sandbox), living)| format!("{sandbox} with {:?}", living.ips))
            .collect();
        for pod in lost {
            let what = format!("{node} starts and its disk has no lease for {pod}");
            self.breach(now, "a lease that was told survives", what);
        }
    }

    /// The store of a node came back as it was at `then`.
    pub(crate) fn went_back(&mut self, now: Duration, node: &str, then: Duration) {
        self.forgetful.insert(node.into(), now);
        for ((on, _), living) in &mut self.living {
            living.unstored |= on == node && living.since >= then;
        }
        // Releases of that time are forgotten with their times.
        self.ended.retain(|_, (at, on)| *at < then || on != node);
        self.doubts.retain(|(on, ..), _| on != node);
    }

    /// A daemon is about to send a call: what it is about to do must be on its disk.
    pub(crate) fn sends(&mut self, now: Duration, node: &str, disk: &Memory, action: &Action) {
        if let Some(intent) = missing_intent(disk, action) {
            let what = format!("{node} sends {} without {intent}", action.name());
            self.breach(now, "a durable intent before every write", what);
        }
        if let Some((eni, family)) = grows(action)
            && let Some(doubt) = self.doubts.get(&(node.into(), eni.into(), family))
        {
            let what = format!(
                "{node} sends an Assign to {eni} while that of {:?} is not settled",
                doubt.sent
            );
            self.breach(now, "an Assign in doubt is settled before the next", what);
        }
    }

    /// EC2 does what a daemon asked.
    pub(crate) fn does(&mut self, now: Duration, node: &str, action: &Action, enis: &[books::Eni]) {
        let taken = books::taken(action, enis);
        if taken.is_empty() {
            return;
        }
        self.gave_back.insert(node.into(), now);
        let robbed: Vec<String> = self
            .living
            .iter()
            .filter(|((on, _), l)| on == node && !l.broken)
            .filter(|(_, l)| l.is_in(&taken))
            .map(|((_, sandbox), l)| format!("{sandbox} with {:?}", l.ips))
            .collect();
        for pod in robbed {
            let what = format!("{node} gives {} back under {pod}", action.name());
            self.breach(now, "no address is taken from a living pod", what);
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
        self.doubts.retain(|(on, eni, _), doubt| {
            let shows = shown
                .get(eni)
                .is_some_and(|blocks| doubt.gave.iter().all(|b| blocks.contains(b)));
            let told = shows && !doubt.gave.is_empty();
            on != node || !told && begun < doubt.sent + CONSISTENCY
        });
    }

    /// Whether a pod on this node has a link of this name.
    pub(crate) fn has_link(&self, node: &str, host_if: &str) -> bool {
        self.living
            .iter()
            .any(|((on, _), l)| on == node && l.host_if == host_if)
    }

    /// Whether an operator took any of a block's addresses away.
    pub(crate) fn hands_in(&self, node: &str, block: &ipam_core::Block) -> bool {
        self.by_hand
            .iter()
            .any(|(net, on)| on == node && block.contains(net.addr()))
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
        let pieces = nets.iter().flat_map(|net| books::pieces(*net));
        self.by_hand.extend(pieces.map(|net| (net, node.into())));
        self.ended
            .retain(|ip, _| !nets.iter().any(|net| net.contains(ip)));
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
    /// The kernel remembers connections of it.
    pub(crate) tracked: bool,
}

/// What a pod was told, and what the world says to it at that moment.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) node: &'a str,
    pub(crate) sandbox: &'a str,
    pub(crate) addresses: Vec<Address>,
    pub(crate) host_if: &'a str,
    pub(crate) cooldown: Duration,
    pub(crate) given: &'a [books::Eni],
    pub(crate) store: &'a Memory,
}

/// The ENI that a call gives blocks to, and their family.
pub(crate) fn grows(action: &Action) -> Option<(&str, Family)> {
    match action {
        Action::AssignPrivateIpAddresses(r) => Some((r.eni.as_str(), Family::V4)),
        Action::AssignIpv6Addresses(r) => Some((r.eni.as_str(), Family::V6)),
        _ => None,
    }
}

/// Words for the record that a write needs and the disk lacks.
fn missing_intent(disk: &Memory, action: &Action) -> Option<&'static str> {
    let on = |eni: &str, what: &dyn Fn(&Intent) -> bool| {
        disk.any_eni(|e| {
            e.id.as_ref().is_some_and(|id| id.as_str() == eni)
                && e.intent.as_ref().is_some_and(what)
        })
    };
    let (there, words) = match action {
        Action::CreateNetworkInterface(r) => {
            let token = r.client_token.as_deref();
            let is = |i: &Intent| matches!(i, Intent::Create { token: t, .. } if Some(t.as_str()) == token);
            (
                disk.any_eni(|e| e.intent.as_ref().is_some_and(is)),
                "the intent of this token",
            )
        }
        Action::AttachNetworkInterface(r) => (
            on(r.eni.as_str(), &|i| *i == Intent::Attach),
            "the intent to attach",
        ),
        Action::ModifyNetworkInterfaceAttribute(r)
            if matches!(r.attribute, Some(EniAttribute::DeleteOnTermination { .. })) =>
        {
            let is = |i: &Intent| *i == Intent::SetDeleteOnTermination;
            (on(r.eni.as_str(), &is), "the intent to modify")
        }
        Action::UnassignPrivateIpAddresses(UnassignPrivateIpAddresses { eni, .. })
        | Action::UnassignIpv6Addresses(UnassignIpv6Addresses { eni, .. }) => {
            let is = |i: &Intent| matches!(i, Intent::Unassign { .. });
            (on(eni.as_str(), &is), "the intent to unassign")
        }
        Action::DetachNetworkInterface(r) => (
            disk.any_eni(|e| {
                e.attachment.as_deref() == Some(r.attachment.as_str())
                    && e.phase == Phase::Leaving
                    && e.intent == Some(Intent::Detach)
            }),
            "the intent to detach",
        ),
        Action::DeleteNetworkInterface(r) => {
            // The sweep deletes what nobody remembers: that needs no intent.
            let known = disk.any_eni(|e| {
                e.id.as_ref()
                    .is_some_and(|id| id.as_str() == r.eni.as_str())
            });
            (
                !known || on(r.eni.as_str(), &|i| *i == Intent::Delete),
                "the intent to delete",
            )
        }
        _ => {
            let is = |i: &Intent| matches!(i, Intent::Assign { .. });
            let there = grows(action).is_none_or(|(eni, _)| on(eni, &is));
            (there, "the intent to assign")
        }
    };
    (!there).then_some(words)
}
