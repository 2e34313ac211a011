//! What a node may hold, buy and give back, and whose ENIs it may write to: judged by EC2's own state at
//! the moment at which EC2 does a call, and by numbers of its own.

use super::books::{Eni, pieces};
use super::{CONSISTENCY, Oracle, Promise};
use ipam_engine::Settings;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;
use vpc_model::Response;
use vpc_model::request::{Action, CreateNetworkInterface};

/// ENIs and IPv4 addresses of each (EC2 user guide, "IP addresses per network interface per instance
/// type"), written down here once more: neither the daemon's table nor the model's is believed. Of types
/// that are not here nothing is judged.
const TYPES: [(&str, u32, u32); 6] = [
    ("t2.small", 3, 4),
    ("t3.small", 3, 4),
    ("t3.medium", 3, 6),
    ("m5.large", 3, 10),
    ("m5.xlarge", 4, 15),
    ("c5.2xlarge", 4, 15),
];

/// An ENI stays at least so long (README, "Calls to EC2").
const YOUNG: Duration = Duration::from_secs(60);

/// How long a need is remembered: a call that it caused may be done so much later.
const LATELY: Duration = Duration::from_secs(40);

/// Addresses that a pool which keeps growing takes in advance, or a prefix that is begun.
const STEP: u32 = 16;

/// A run of a daemon, and what it may do.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) instance: String,
    /// Its cluster: whose orphans it may delete.
    pub(crate) cluster: String,
    /// At most so many ENIs.
    enis: u32,
    /// Addresses that an ENI carries besides its own, if the type is known.
    slots: Option<u32>,
    settings: Settings,
    /// The type has prefixes.
    nitro: bool,
    /// When it began.
    since: Duration,
    /// Nothing went wrong for it yet: no call failed, and nobody did anything by hand.
    calm: bool,
    /// Pods that have or want an address, and addresses that rest, of late.
    needs: VecDeque<(Duration, u32)>,
}

/// What the oracle knows of pools.
#[derive(Debug, Default)]
pub(crate) struct Pools {
    runs: BTreeMap<String, Run>,
    /// When EC2 attached an ENI.
    attached: BTreeMap<String, Duration>,
    /// ENIs that EC2 made for daemons: when that was asked for, and how many ENIs were allowed then.
    made: BTreeMap<String, (Duration, u32)>,
    /// By client token, likewise: a Create that is repeated was decided before.
    tokens: BTreeMap<String, (Duration, u32)>,
    /// ADDs that are not answered yet, by node.
    pub(crate) waiting: BTreeMap<String, u32>,
    /// ENIs that EC2 refused to attach: they go.
    refused: BTreeSet<String>,
    /// Nodes whose disk failed once: what they bought they may not know.
    pub(crate) unwell: BTreeSet<String>,
    /// ENIs that a person detached: their nodes may not know yet.
    pub(crate) unplugged: BTreeSet<String>,
    /// ENIs, and IPv4 addresses of each, of nodes that carry other numbers than their type.
    pub(crate) carries: BTreeMap<String, (u32, u32)>,
}

impl Run {
    pub(crate) fn new(
        instance: &str,
        cluster: &str,
        kind: &str,
        settings: &Settings,
        (now, calm): (Duration, bool),
    ) -> Self {
        let row = TYPES.iter().find(|(name, ..)| *name == kind);
        let enis = settings.policy.max_eni.map_or(u32::MAX, |max| max.max(1));
        Self {
            instance: instance.into(),
            cluster: cluster.into(),
            enis: row.map_or(enis, |(_, most, _)| enis.min(*most)),
            slots: row.map(|(.., ipv4)| ipv4 - 1),
            settings: settings.clone(),
            nitro: !kind.starts_with("t2"),
            since: now,
            calm,
            needs: VecDeque::new(),
        }
    }

    fn buys_prefixes(&self) -> bool {
        self.settings.policy.prefixes && self.nitro
    }

    /// The most that these needs make a pool buy: by the words of README's table of settings.
    fn most(&self, need: u32) -> Option<u32> {
        let policy = &self.settings.policy;
        let slots = self.slots?;
        let by_address = policy.warm_ip.is_some() || policy.minimum_ip.is_some();
        let prefixes = self.buys_prefixes();
        let eni = slots * if prefixes { 16 } else { 1 };
        let wanted = if by_address {
            (need + policy.warm_ip.unwrap_or(0)).max(policy.minimum_ip.unwrap_or(0))
        } else if prefixes {
            need + 16 * policy.warm_prefix
        } else {
            (need + (policy.warm_eni * eni).max(1)).next_multiple_of(eni.max(1))
        };
        // A step ahead, and two calls' worth of prefixes that are begun.
        Some(wanted.max(need) + STEP + 2 * 15)
    }
}

impl Oracle {
    /// A daemon starts with these settings on this instance.
    pub(crate) fn runs(&mut self, node: &str, mut run: Run) {
        run.calm &= !self.forgetful.contains_key(node) && !self.pools.unwell.contains(node);
        if let Some((enis, ipv4)) = self.pools.carries.get(node) {
            run.enis = run.enis.min(*enis);
            run.slots = Some(ipv4 - 1);
        }
        self.pools.runs.insert(node.into(), run);
    }

    /// Something goes wrong for a node: what it buys from now on in this run may be too much.
    pub(crate) fn troubled(&mut self, node: &str) {
        if let Some(run) = self.pools.runs.get_mut(node) {
            run.calm = false;
        }
    }

    /// The node's clock was set forward while it was off: how old anything is its daemon can't know.
    pub(crate) fn lost_time(&mut self, node: &str) {
        self.ended.retain(|_, (_, on)| on != node);
        self.pools.attached.clear();
    }

    /// An ADD waits from now on, or no more.
    pub(crate) fn waits(&mut self, now: Duration, node: &str, more: bool) {
        let count = self.pools.waiting.entry(node.into()).or_default();
        *count = if more {
            *count + 1
        } else {
            count.saturating_sub(1)
        };
        self.note_need(now, node);
    }

    /// What pods of a node have, want, or had until a moment ago.
    pub(crate) fn note_need(&mut self, now: Duration, node: &str) {
        let has = self.living.keys().filter(|(on, _)| on == node).count();
        let Some(run) = self.pools.runs.get_mut(node) else {
            return;
        };
        let rest = run.settings.policy.cooldown + LATELY;
        // Node-local ones are no part of the pool.
        let rests = self.ended.iter().filter(|((own, _), _)| own.is_empty());
        let rests = rests.filter(|(_, (at, on))| on == node && now < *at + rest);
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let waits = self.pools.waiting.get(node).copied().unwrap_or_default();
        let need = count(has) + count(rests.count()) + waits;
        run.needs.push_back((now, need));
        while run.needs.front().is_some_and(|(at, _)| *at + LATELY < now) {
            run.needs.pop_front();
        }
    }

    /// A daemon is about to send a call.
    pub(crate) fn checks_target(
        &mut self,
        now: Duration,
        node: &str,
        action: &Action,
        enis: &[Eni],
    ) {
        let Some(run) = self.pools.runs.get(node) else {
            return;
        };
        if let Action::CreateNetworkInterface(r) = action {
            let token = r.client_token.clone().unwrap_or_default();
            let asked = (now, run.enis);
            self.pools.tokens.entry(token).or_insert(asked);
        }
        let unplugged = &self.pools.unplugged;
        let what = match refuses(run, node, action, enis, unplugged) {
            None => return,
            Some(why) => format!("{node} sends {} {why}", words(action)),
        };
        self.breach(now, Promise::OthersAreLeftAlone, what);
    }

    /// A daemon is about to give back.
    pub(crate) fn checks_doubt(
        &mut self,
        now: Duration,
        node: &str,
        action: &Action,
        enis: &[Eni],
    ) {
        let Some(eni) = gives_back(action, enis) else {
            return;
        };
        let doubts = self.doubts.iter();
        let doubt = doubts
            .filter(|((on, id, _), _)| on == node && *id == eni.id)
            .map(|(_, doubt)| doubt.sent)
            .next();
        if let Some(sent) = doubt {
            let what = format!(
                "{node} sends {} while nobody knows the outcome of the Assign that it sent at {sent:?}",
                words(action)
            );
            self.breach(now, Promise::NoShrinkInDoubt, what);
        }
    }

    /// A person gave an ENI something: what its Assign came to nobody can tell any more.
    pub(crate) fn given_by_hand(&mut self, eni: &str) {
        self.doubts.retain(|(_, id, _), _| id != eni);
    }

    /// EC2 refused what a daemon asked.
    pub(crate) fn did_not(&mut self, now: Duration, node: &str, action: &Action, code: &str) {
        if let Action::AttachNetworkInterface(r) = action {
            self.pools.refused.insert(r.eni.as_str().into());
        }
        if code == "IdempotentParameterMismatch" {
            let what = format!("{node} sends a Create again as another request");
            self.breach(now, Promise::IntentBeforeWrite, what);
        }
    }

    /// EC2 has done what a daemon asked; these are the ENIs that there are now.
    pub(crate) fn did(
        &mut self,
        now: Duration,
        node: &str,
        (action, response): (&Action, &Response),
        sent: Duration,
        enis: &[Eni],
    ) {
        if let (Response::Created { eni, .. }, Action::CreateNetworkInterface(r)) =
            (response, action)
            && let Some(asked) = self
                .pools
                .tokens
                .get(r.client_token.as_deref().unwrap_or(""))
        {
            self.pools.made.insert(eni.id.as_str().into(), *asked);
        }
        if let Action::AttachNetworkInterface(r) = action {
            self.pools.refused.remove(r.eni.as_str());
            self.pools.attached.insert(r.eni.as_str().into(), now);
        }
        self.counts_slots(now, enis);
        // What an earlier run sent is by its settings, and what was known then.
        let run = self.pools.runs.get(node);
        if run.is_none_or(|run| sent < run.since) {
            return;
        }
        match action {
            Action::AttachNetworkInterface(_) => {
                self.counts_enis(now, node, action, enis);
            }
            Action::CreateNetworkInterface(r) if self.is_new(r, node) => {
                self.counts_enis(now, node, action, enis);
                self.counts_bought(now, node, action, enis);
            }
            Action::AssignPrivateIpAddresses(_) => self.counts_bought(now, node, action, enis),
            Action::DetachNetworkInterface(r) => {
                self.is_old_enough(now, node, r.attachment.as_str(), enis);
            }
            _ => {}
        }
    }

    /// Whether the run of now has decided this, and not an earlier one.
    fn is_new(&self, create: &CreateNetworkInterface, node: &str) -> bool {
        let token = create.client_token.as_deref().unwrap_or("");
        let asked = self.pools.tokens.get(token);
        let run = self.pools.runs.get(node);
        asked
            .zip(run)
            .is_some_and(|((at, _), run)| *at >= run.since)
    }

    /// No more ENIs than the settings and the instance type allow.
    fn counts_enis(&mut self, now: Duration, node: &str, action: &Action, enis: &[Eni]) {
        let Some(run) = self.pools.runs.get(node) else {
            return;
        };
        let mine = |e: &&Eni| e.owner.as_deref() == Some(run.instance.as_str());
        let here = |e: &&Eni| e.node.as_deref() == Some(node) && e.card == 0 && !e.going;
        // Whoever forgot what it has learns it within EC2's window.
        let lost = self.forgetful.get(node);
        if lost.is_some_and(|at| now < *at + 2 * CONSISTENCY) {
            return;
        }
        let attached = enis.iter().filter(here).filter(|e| e.first || mine(e));
        // Those of an earlier run may have been forgotten.
        let coming = enis.iter().filter(|e| e.node.is_none() && mine(e));
        let made = &self.pools.made;
        let coming = coming.filter(|e| made.get(&e.id).is_some_and(|(at, _)| *at >= run.since));
        // What was attached once, or could not be, is on its way out.
        let gone =
            |id: &String| self.pools.attached.contains_key(id) || self.pools.refused.contains(id);
        let coming = coming.filter(|e| !gone(&e.id));
        let count = attached.count() + coming.count();
        // What was begun under other settings is ended.
        let begun = match action {
            Action::AttachNetworkInterface(r) => made.get(r.eni.as_str()),
            _ => None,
        };
        let most = begun.map_or(run.enis, |(_, enis)| run.enis.max(*enis));
        if u32::try_from(count).unwrap_or(u32::MAX) > most {
            let what = format!("{node} has {count} ENIs of {} by {}", most, words(action));
            self.breach(now, Promise::MaxEniKept, what);
        }
    }

    /// No ENI holds more than its instance type's ENIs have slots.
    pub(crate) fn counts_slots(&mut self, now: Duration, enis: &[Eni]) {
        let mut found = Vec::new();
        for eni in enis {
            let Some(node) = eni.node.as_ref() else {
                continue;
            };
            let slots = self.pools.runs.get(node).and_then(|run| run.slots);
            let held = eni.blocks.iter().filter(|b| b.addr().is_ipv4()).count();
            if let Some(slots) = slots.filter(|slots| held > *slots as usize) {
                found.push(format!(
                    "{} on {node} holds {held} blocks and has {slots} slots",
                    eni.id
                ));
            }
        }
        for what in found {
            self.breach(now, Promise::SlotsKept, what);
        }
    }

    /// No ENI goes back as soon as it is there.
    fn is_old_enough(&mut self, now: Duration, node: &str, attachment: &str, enis: &[Eni]) {
        let eni = enis
            .iter()
            .find(|e| e.attachment.as_deref() == Some(attachment));
        let Some(eni) = eni.filter(|_| self.pools.runs.contains_key(node)) else {
            return;
        };
        let since = self.pools.attached.get(&eni.id).copied();
        if let Some(since) = since.filter(|since| now < *since + YOUNG) {
            let what = format!("{node} gives {} back, which came at {since:?}", eni.id);
            self.breach(now, Promise::YoungEniStays, what);
        }
    }

    /// As long as nothing goes wrong, a node buys what is needed and a step, once.
    fn counts_bought(&mut self, now: Duration, node: &str, action: &Action, enis: &[Eni]) {
        self.note_need(now, node);
        let Some(run) = self.pools.runs.get(node).filter(|run| run.calm) else {
            return;
        };
        let need = run.needs.iter().map(|(_, need)| *need).max();
        let need = need.unwrap_or_default();
        let Some(most) = run.most(need) else {
            return;
        };
        let mine = |e: &&Eni| {
            e.node.as_deref() == Some(node)
                || e.node.is_none() && e.owner.as_deref() == Some(run.instance.as_str())
        };
        // Those of the other kind are left from other settings.
        let of_kind = |net: &&IpNet| {
            let single = net.prefix_len() == 32;
            net.addr().is_ipv4() && single != run.buys_prefixes()
        };
        let addresses = enis.iter().filter(mine).flat_map(|e| &e.blocks);
        let held: usize = addresses
            .filter(of_kind)
            .map(|net| pieces(*net).len())
            .sum();
        if held > most as usize {
            let what = format!(
                "{node} has {held} addresses by {} and needs {need}, so {most} at most",
                words(action)
            );
            self.breach(now, Promise::GrowthCountsInFlight, what);
        }
    }
}

/// The ENI that a call takes something from, but not its last rest: what is attached nowhere has no
/// blocks that anybody could want.
fn gives_back<'a>(action: &Action, enis: &'a [Eni]) -> Option<&'a Eni> {
    let by_id = |id: &str| enis.iter().find(|e| e.id == id);
    match action {
        Action::UnassignPrivateIpAddresses(r) => by_id(r.eni.as_str()),
        Action::UnassignIpv6Addresses(r) => by_id(r.eni.as_str()),
        Action::DetachNetworkInterface(r) => enis
            .iter()
            .find(|e| e.attachment.as_deref() == Some(r.attachment.as_str())),
        _ => None,
    }
}

/// Why a node must not send this to what it is about.
fn refuses(
    run: &Run,
    node: &str,
    action: &Action,
    enis: &[Eni],
    unplugged: &BTreeSet<String>,
) -> Option<String> {
    let by_id = |id: &str| enis.iter().find(|e| e.id == id);
    // What is there no more nobody can harm.
    let eni = match action {
        Action::AssignPrivateIpAddresses(r) => by_id(r.eni.as_str()),
        Action::AssignIpv6Addresses(r) => by_id(r.eni.as_str()),
        Action::AttachNetworkInterface(r) => by_id(r.eni.as_str()),
        Action::ModifyNetworkInterfaceAttribute(r) => by_id(r.eni.as_str()),
        Action::DeleteNetworkInterface(r) => by_id(r.eni.as_str()),
        Action::CreateTags(r) => r.resources.iter().find_map(|id| by_id(id)),
        _ => gives_back(action, enis),
    }?;
    let mine = eni.owner.as_deref() == Some(run.instance.as_str()) && eni.made_by_node;
    let here = eni.node.as_deref() == Some(node);
    if eni.foreign {
        return Some("to one of another account".into());
    }
    if eni.no_manage && !(here && eni.first) {
        return Some("to one that is tagged to be left alone".into());
    }
    let adds_or_takes_blocks = matches!(
        action,
        Action::AssignPrivateIpAddresses(_)
            | Action::AssignIpv6Addresses(_)
            | Action::UnassignPrivateIpAddresses(_)
            | Action::UnassignIpv6Addresses(_)
            | Action::CreateTags(_)
    );
    let cleans_up = matches!(
        action,
        Action::DeleteNetworkInterface(_) | Action::CreateTags(_)
    );
    let orphan = eni.attachment.is_none()
        && eni.made_by_node
        && eni.cluster.as_deref() == Some(run.cluster.as_str());
    if unplugged.contains(&eni.id) && !eni.no_manage {
        return None;
    }
    if mine || here && adds_or_takes_blocks || orphan && cleans_up {
        return None;
    }
    let or = |name: &Option<String>, none: &str| name.clone().unwrap_or_else(|| none.to_owned());
    Some(format!(
        "to an ENI whose tags name {} as its node and {} as its cluster, attached to {}",
        or(&eni.owner, "nobody"),
        or(&eni.cluster, "none"),
        or(&eni.node, "no node")
    ))
}

fn words(action: &Action) -> String {
    let name = action.name();
    match action {
        Action::AssignPrivateIpAddresses(r) => format!("{name} {}", r.eni),
        Action::UnassignPrivateIpAddresses(r) => format!("{name} {}", r.eni),
        Action::AttachNetworkInterface(r) => format!("{name} {}", r.eni),
        Action::DetachNetworkInterface(r) => format!("{name} {}", r.attachment),
        Action::DeleteNetworkInterface(r) => format!("{name} {}", r.eni),
        _ => name.to_owned(),
    }
}

#[cfg(test)]
mod tests;
