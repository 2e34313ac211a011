//! The promises, kept in mind from outside: by what pods were told, what EC2 has really given, what
//! the kernel routes and what is on the disk. Shares no code with planner, datastore or reconcile.

mod books;

pub(crate) use books::{Eni, Given, enis, given};

use crate::store::Memory;
use ipam_core::{Intent, Phase};
use ipam_engine::ports::Loaded;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use vpc_model::request::{Action, EniAttribute};

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
    pub(crate) ip: IpAddr,
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
    /// Addresses that an operator took away, and from which node, as long as EC2 has not given them
    /// to that node again.
    by_hand: BTreeSet<(IpAddr, String)>,
    /// Assigns in doubt, by node and ENI.
    doubts: BTreeMap<(String, String), Doubt>,
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
        let ip = told.ip;
        let key: PodKey = (told.node.into(), told.sandbox.into());
        let known = self.living.get(&key).cloned();
        if let Some(before) = known.filter(|l| l.ip != ip && !l.unstored && !l.broken) {
            let what = format!("{key:?} had {} and is told {ip}", before.ip);
            self.breach(now, "a living pod keeps its address", what);
        }
        let again = self.living.contains_key(&key);
        let others: Vec<String> = self
            .living
            .iter()
            .filter(|(k, l)| **k != key && l.ip == ip)
            // What an operator took from one node EC2 gives to another.
            .filter(|(k, l)| k.0 == told.node || !l.broken && !self.is_by_hand(told.node, ip))
            .map(|(k, _)| format!("{k:?}"))
            .collect();
        for other in others {
            let what = format!("{ip} is told to {key:?} while {other} has it");
            self.breach(now, "no address in two pods", what);
        }
        if let Some(dev) = told.routed.filter(|dev| *dev != told.host_if || !again) {
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
        if told.tracked && !again && !forgot {
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
        let living = Living {
            ip,
            host_if: told.host_if.into(),
            since: now,
            wired: again,
            broken: self.is_by_hand(told.node, ip),
            unstored: false,
        };
        self.living.insert(key, living);
    }

    /// A pod ended: from now on its address rests.
    pub(crate) fn ended(&mut self, now: Duration, key: &PodKey) {
        let gone = self.living.remove(key);
        // What an operator took, or the store forgot, is anybody's.
        if let Some(living) = gone.filter(|l| !l.broken && !l.unstored) {
            self.ended.insert(living.ip, (now, key.0.clone()));
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
                    .any(|l| l.key.container_id == *sandbox && l.addresses.contains(&living.ip))
            })
            .map(|((_, sandbox), living)| format!("{sandbox} with {}", living.ip))
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
        self.doubts.retain(|(on, _), _| on != node);
    }

    /// A daemon is about to send a call: what it is about to do must be on its disk.
    pub(crate) fn sends(&mut self, now: Duration, node: &str, disk: &Memory, action: &Action) {
        if let Some(intent) = missing_intent(disk, action) {
            let what = format!("{node} sends {} without {intent}", action.name());
            self.breach(now, "a durable intent before every write", what);
        }
        if let Action::AssignPrivateIpAddresses(r) = action
            && let Some(doubt) = self.doubts.get(&(node.into(), r.eni.as_str().into()))
        {
            let what = format!(
                "{node} sends an Assign to {} while that of {:?} is not settled",
                r.eni, doubt.sent
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
            .filter(|(_, l)| taken.iter().any(|net| net.contains(&l.ip)))
            .map(|((_, sandbox), l)| format!("{sandbox} with {}", l.ip))
            .collect();
        for pod in robbed {
            let what = format!("{node} gives {} back under {pod}", action.name());
            self.breach(now, "no address is taken from a living pod", what);
        }
    }

    /// EC2 has done an Assign, and nobody knows yet whether the answer will come.
    pub(crate) fn assigned(&mut self, sent: Duration, node: &str, eni: &str, gave: Vec<String>) {
        // What it asked for before its store went back it has forgotten.
        if self.forgetful.get(node).is_some_and(|at| *at >= sent) {
            return;
        }
        self.doubts
            .insert((node.into(), eni.into()), Doubt { sent, gave });
    }

    /// Nobody took anything by hand.
    pub(crate) fn no_hands(&self) -> bool {
        self.by_hand.is_empty()
    }

    /// A node hears of EC2 what it has now: nobody's mistake is about that any more.
    pub(crate) fn given_again(&mut self, node: &str, enis: &[books::Eni]) {
        self.by_hand
            .retain(|(ip, on)| on != node || given(enis, node, *ip) != Given::Here);
    }

    /// The answer came.
    pub(crate) fn assign_answered(&mut self, node: &str, eni: &str) {
        self.doubts.remove(&(node.into(), eni.into()));
    }

    /// A Describe that began at `begun` was answered with these ENIs and their blocks.
    pub(crate) fn described(
        &mut self,
        begun: Duration,
        node: &str,
        shown: &BTreeMap<String, Vec<String>>,
    ) {
        self.doubts.retain(|(on, eni), doubt| {
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
            .any(|(ip, on)| on == node && block.contains(*ip))
    }

    /// Whether an operator took it away.
    pub(crate) fn is_by_hand(&self, node: &str, ip: IpAddr) -> bool {
        self.by_hand.contains(&(ip, node.to_owned()))
    }

    /// An operator took these addresses away from a node.
    pub(crate) fn taken_by_hand(&mut self, node: &str, nets: &[ipnet::IpNet]) {
        for ip in nets.iter().flat_map(|net| books::addresses(*net)) {
            self.by_hand.insert((ip, node.into()));
            self.ended.remove(&ip);
        }
        for ((on, _), living) in &mut self.living {
            living.broken |= on == node && nets.iter().any(|net| net.contains(&living.ip));
        }
    }
}

/// What a pod was told, and what the world says to it at that moment.
#[derive(Debug)]
pub(crate) struct Told<'a> {
    pub(crate) node: &'a str,
    pub(crate) sandbox: &'a str,
    pub(crate) ip: IpAddr,
    pub(crate) host_if: &'a str,
    pub(crate) routed: Option<&'a str>,
    /// The kernel remembers connections of it.
    pub(crate) tracked: bool,
    pub(crate) cooldown: Duration,
    pub(crate) given: &'a [books::Eni],
    pub(crate) store: &'a Memory,
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
        Action::AssignPrivateIpAddresses(r) => {
            let is = |i: &Intent| matches!(i, Intent::Assign { .. });
            (on(r.eni.as_str(), &is), "the intent to assign")
        }
        Action::UnassignPrivateIpAddresses(r) => {
            let is = |i: &Intent| matches!(i, Intent::Unassign { .. });
            (on(r.eni.as_str(), &is), "the intent to unassign")
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
        _ => (true, ""),
    };
    (!there).then_some(words)
}
