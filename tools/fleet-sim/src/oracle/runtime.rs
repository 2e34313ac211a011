//! Promises about what a container runtime asks: ADDs that wait and are refused, DELs, GC, CHECK.

use super::{Living, Oracle, PodKey, Promise};
use crate::store::Memory;
use ipam_core::wiring::PodWiring;
use ipam_core::{AttachmentKey, Family, Mac};
use ipam_engine::{Allocate, Collected, Refusal, RefusalKind};
use std::collections::BTreeSet;
use std::time::Duration;

/// A GC that was answered.
#[derive(Debug)]
pub(crate) struct Gathered<'a> {
    pub(crate) node: &'a str,
    pub(crate) network: &'a str,
    /// What the runtime listed.
    pub(crate) listed: &'a BTreeSet<AttachmentKey>,
    /// What it no longer knows, though the daemon may, and that is old enough to be judged.
    pub(crate) forgotten: &'a [AttachmentKey],
    pub(crate) collected: &'a [Collected],
    pub(crate) store: &'a Memory,
}

impl Oracle {
    /// An ADD's caller waited in vain until the deadline and a grace.
    pub(crate) fn unanswered(&mut self, now: Duration, key: &AttachmentKey, waited: Duration) {
        let what = format!("{key} waited {waited:?} for an answer");
        self.breach(now, Promise::AnsweredByDeadline, what);
    }

    /// An ADD was refused. `own_del`: its runtime had sent a DEL of the same attachment meanwhile.
    pub(crate) fn add_refused(
        &mut self,
        now: Duration,
        key: &AttachmentKey,
        refusal: &Refusal,
        own_del: bool,
    ) {
        if refusal.cause.is_empty() || refusal.message.is_empty() {
            let what = format!("{key} is refused ({}): {refusal}", refusal.cause);
            self.breach(now, Promise::RefusalHasCause, what);
        }
        if refusal.kind == RefusalKind::Cancelled && !own_del {
            let what = format!("{key} is refused without a DEL of it: {refusal}");
            self.breach(now, Promise::WithdrawnByItsOwnDel, what);
        }
    }

    /// Whether a plugin can carry out what it was told, and has what the settings ask for. `again`: the
    /// attachment was told before.
    pub(crate) fn understood(
        &mut self,
        now: Duration,
        request: &Allocate,
        wiring: &PodWiring,
        (families, egress): (&[Family], Option<Family>),
        again: bool,
    ) {
        let key = &request.key;
        let knows = request.wiring_version;
        // Version 1 has a gateway for each address; the plugin names them in pairs.
        let nameless = wiring.pod_addresses.len() > wiring.gateways.len();
        if wiring.version > knows || knows < 2 && nameless {
            let what = format!(
                "{key} knows version {knows} and is told version {} with {:?} and gateways {:?}",
                wiring.version, wiring.pod_addresses, wiring.gateways
            );
            self.breach(now, Promise::OldPluginUnderstands, what);
        }
        let got = wiring
            .pod_addresses
            .iter()
            .map(|net| Family::of(net.addr()));
        let got: Vec<Family> = got.collect();
        let wanted: Vec<Family> = families.iter().copied().chain(egress).collect();
        if got != wanted && !again {
            let what = format!("{key} is told {got:?}, and the settings ask for {wanted:?}");
            self.breach(now, Promise::EveryFamilyTold, what);
        }
    }

    /// A DEL was refused.
    pub(crate) fn del_refused(&mut self, now: Duration, key: &AttachmentKey, refusal: &Refusal) {
        if refusal.kind != RefusalKind::Internal {
            let what = format!("DEL {key} is refused: {refusal}");
            self.breach(now, Promise::DelIsServed, what);
        }
    }

    /// A DEL had no answer in time, and the daemon lives.
    pub(crate) fn del_unanswered(&mut self, now: Duration, key: &AttachmentKey, waited: Duration) {
        let what = format!("DEL {key} waited {waited:?} for an answer");
        self.breach(now, Promise::DelIsServed, what);
    }

    /// A DEL was answered: every other attachment of the node has its lease.
    pub(crate) fn del_answered(
        &mut self,
        now: Duration,
        node: &str,
        asked: &AttachmentKey,
        store: &Memory,
    ) {
        for key in self.without_lease(node, store) {
            let what = format!("after DEL {asked} there is no lease of {key}, which lives");
            self.breach(now, Promise::DelEndsItsOwn, what);
        }
    }

    /// A GC was answered.
    pub(crate) fn gathered(&mut self, now: Duration, gc: &Gathered<'_>) {
        let mut wrong: Vec<String> = Vec::new();
        for ended in gc.collected {
            let words = format!("GC of {} ends {ended:?}", gc.network);
            match &ended.key {
                Some(key) if key.network != gc.network => wrong.push(words),
                Some(key) if gc.listed.contains(key) => wrong.push(words),
                Some(key) if self.lives(gc.node, key) => wrong.push(words),
                None if self.has_link(gc.node, &ended.host_if, ended.host_mac) => {
                    wrong.push(words);
                }
                _ => {}
            }
        }
        let robbed = self.without_lease(gc.node, gc.store).into_iter();
        wrong.extend(robbed.map(|key| format!("after GC of {} {key} lives without", gc.network)));
        for what in wrong {
            self.breach(now, Promise::GcSparesTheListed, what);
        }
        for key in gc.forgotten {
            let listed = key.network != gc.network || gc.listed.contains(key);
            if !listed && gc.store.lease(key).is_some() {
                let what = format!("after GC of {} there is a lease of {key}", gc.network);
                self.breach(now, Promise::GcEndsTheUnlisted, what);
            }
        }
    }

    /// CHECK of an attachment was answered. `told`: what it was told, if it lives and is wired.
    pub(crate) fn checked(
        &mut self,
        now: Duration,
        (node, key): (&str, &AttachmentKey),
        told: Option<&PodWiring>,
        answer: Option<&PodWiring>,
    ) {
        let pod: PodKey = (node.into(), key.clone());
        let known = self.living.get(&pod);
        let doubtful = known.is_some_and(|l| l.unstored || l.broken);
        // It may have ended while the answer was on its way.
        let over = told.is_some() && known.is_none();
        if doubtful || over || answer == told {
            return;
        }
        let what = format!("CHECK {key} names {answer:?}, and it was told {told:?}");
        self.breach(now, Promise::CheckTellsTheTruth, what);
    }

    fn lives(&self, node: &str, key: &AttachmentKey) -> bool {
        let pod: PodKey = (node.into(), key.clone());
        self.living.get(&pod).is_some_and(|l| !l.unstored)
    }

    /// Whether a living pod on this node has this very link.
    fn has_link(&self, node: &str, host_if: &str, mac: Mac) -> bool {
        let has = |l: &Living| l.wired && l.host_if == host_if && l.host_mac == Some(mac);
        self.living.iter().any(|((on, _), l)| on == node && has(l))
    }

    /// Living pods of a node whose lease is not on the disk, and should be.
    fn without_lease(&self, node: &str, store: &Memory) -> Vec<AttachmentKey> {
        let here = self.living.iter().filter(|((on, _), _)| on == node);
        let kept = |key: &AttachmentKey, l: &Living| {
            l.unstored || l.broken || store.lease(key).is_some_and(|lease| l.is_of(&lease))
        };
        here.filter(|((_, key), l)| !kept(key, l))
            .map(|((_, key), _)| key.clone())
            .collect()
    }
}
