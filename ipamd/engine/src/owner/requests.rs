//! What callers ask.

use super::{Answer, Owner};
use crate::api::{Allocate, Leased, Origin, Refusal, RefusalKind, Release, Released, Request};
use crate::host::egress;
use crate::parked::{Parked, Reply, no_address};
use crate::snapshot::snapshot;
use ipam_core::datastore;
use ipam_core::plan::Note;
use ipam_core::wiring::egress::{addresses, range};
use ipam_core::wiring::{self, PodInput, PodWiring, pod_wiring};
use ipam_core::{AttachmentKey, BlockKind, Family, Lease, Timestamp};
use mutant::mutant;
use std::collections::BTreeSet;

impl Owner {
    pub(super) fn request(&mut self, request: Request, answers: &mut Vec<Answer>, now: Timestamp) {
        match request {
            Request::Allocate(request, reply) => self.allocate(request, reply, answers, now),
            Request::Release(request, reply) => {
                for parked in mutant!(
                    "del/withdraws-its-add",
                    self.lot.take_key(&request.key),
                    std::collections::VecDeque::<Parked>::new()
                ) {
                    answers.push(Answer::refused(parked.reply, withdrawn(&request.key)));
                }
                let released = self.release(&request, now);
                answers.push(Answer::released(reply, released));
            }
            Request::Collect(request, reply) => {
                let collected = self.collect(&request, now);
                answers.push(Answer::collected(reply, collected));
            }
            Request::Served(reply) => self.served.ask(reply),
            Request::Check(key, reply) => {
                let wiring = self.store.lease(&key).map(|l| self.wiring(l, None));
                answers.push(Answer::checked(reply, wiring));
            }
            Request::Status(reply) => {
                let status = self.status(now);
                answers.push(Answer::status(reply, status));
            }
            Request::Inspect(reply) => {
                let status = self.status(now);
                let mut picture = snapshot(
                    &self.store,
                    self.policy.scarce(),
                    &self.report,
                    status,
                    self.lot.len(),
                    now,
                );
                picture.limits = self.limits_snapshot();
                picture.holds = self.hold_snapshots(now);
                picture.counters = self.counters();
                answers.push(Answer::inspected(reply, picture));
            }
            Request::Kernel(event) => self.kernel(event, now),
            Request::Stop => self.stop(answers),
        }
    }

    fn allocate(
        &mut self,
        request: Allocate,
        reply: Reply,
        answers: &mut Vec<Answer>,
        now: Timestamp,
    ) {
        // A lease keeps what it was given under other settings.
        let emits = match self.store.lease(&request.key) {
            Some(lease) => self.wiring(lease, None).version,
            None => wiring::version(self.settings.egress.is_some()),
        };
        if mutant!(
            "plugin/too-old-is-told",
            request.wiring_version < emits,
            false && request.wiring_version < emits
        ) {
            let refusal = Refusal {
                kind: RefusalKind::BadRequest,
                message: format!(
                    "this ipamd-cni carries out wiring version {} and this ipamd emits {emits}; \
                     ipamd's init step installs the matching plugin",
                    request.wiring_version
                ),
                cause: "plugin_too_old",
                notes: Vec::new(),
            };
            answers.push(Answer::refused(reply, refusal));
            return;
        }
        let timeout = request.timeout.unwrap_or(self.settings.add_timeout);
        let parked = Parked {
            request,
            reply,
            deadline: now + timeout,
        };
        // Those who came earlier come first, and before the first look at the kernel nobody does.
        let parked = if mutant!("start/not-before-the-kernel-was-seen", self.surveyed, true)
            && mutant!("queue/no-overtaking", self.lot.len() == 0, true)
        {
            match self.try_assign(parked, now) {
                Ok(answer) => return answers.push(answer),
                Err(parked) => parked,
            }
        } else {
            parked
        };
        if let Some(parked) = self.lot.park(parked) {
            let refusal = no_address(
                &parked.request,
                false,
                "too many ADDs are waiting",
                "too_many_waiting",
                &[],
            );
            answers.push(Answer::refused(parked.reply, refusal));
        }
    }

    /// ADDs that wait, first come, first served.
    pub(super) fn serve_parked(&mut self, answers: &mut Vec<Answer>, now: Timestamp) {
        if !self.surveyed || self.lot.len() == 0 {
            return;
        }
        self.lot.forget_gone();
        let mut empty = false;
        for parked in self.lot.take_all() {
            let known = self.store.lease(&parked.request.key).is_some();
            let parked = if empty && !known {
                parked
            } else {
                match self.try_assign(parked, now) {
                    Ok(answer) => {
                        answers.push(answer);
                        continue;
                    }
                    Err(parked) => {
                        empty = true;
                        parked
                    }
                }
            };
            // It came out of the lot, so there is room for it.
            drop(self.lot.park(parked));
        }
    }

    #[allow(clippy::result_large_err)] // the ADD goes back where it came from
    fn try_assign(&mut self, parked: Parked, now: Timestamp) -> Result<Answer, Parked> {
        let request = &parked.request;
        let fresh = self.store.lease(&request.key).is_none();
        // What a store of another boot, or one that lost something, says of blocks is for EC2 to confirm.
        if fresh
            && mutant!(
                "start/unconfirmed-serves-nobody",
                !self.memory.known(),
                false
            )
        {
            return Err(parked);
        }
        let prefix = request
            .veth_prefix
            .as_deref()
            .unwrap_or(&self.settings.veth_prefix);
        let ask = datastore::Request {
            key: &request.key,
            pod: &request.pod,
            families: &self.policy.families,
            local: self.facts.as_ref().and_then(|f| egress(&self.settings, f)),
            veth_prefix: prefix,
            prefixes: self.policy.prefixes,
        };
        let stuck = self.store.stuck();
        let Ok(lease) = self.store.assign(&ask, now) else {
            return Err(parked);
        };
        let lease = lease.clone();
        self.forget.warn_of(&stuck, &lease.addresses);
        if fresh {
            self.unwired.leased(&lease, now);
            if !lease.host_if.starts_with(&self.settings.veth_prefix) {
                // The node's rules may not know of such links yet.
                self.host.changed();
            }
        }
        let leased = Leased {
            wiring: self.wiring(&lease, request.mtu),
            origin: self.origin(&lease),
        };
        Ok(Answer::wired(lease.key, fresh, parked.reply, leased))
    }

    /// By its first address: one of each family is leased in one piece.
    fn origin(&self, lease: &Lease) -> Origin {
        let mut blocks = lease
            .addresses
            .iter()
            .filter_map(|ip| self.store.block_of(*ip));
        let Some((handle, block)) = blocks.next() else {
            return Origin::default();
        };
        let eni = self.store.eni(handle);
        let family = match block.family() {
            Family::V4 => "ipv4",
            Family::V6 => "ipv6",
        };
        let kind = match block.kind() {
            BlockKind::Address => "secondary",
            BlockKind::Prefix => "prefix",
        };
        let card = eni.map_or(0, |eni| eni.card);
        Origin {
            eni: eni
                .and_then(|eni| eni.id.as_ref())
                .map(ToString::to_string)
                .unwrap_or_default(),
            pool: format!("card{card}/{family}/{kind}"),
        }
    }

    fn wiring(&self, lease: &Lease, mtu: Option<u32>) -> PodWiring {
        pod_wiring(
            lease,
            PodInput {
                mtu: mtu.unwrap_or(self.settings.pod_mtu),
                place: self.store.place(lease),
            },
        )
    }

    fn release(&mut self, request: &Release, now: Timestamp) -> Released {
        let lease = self.store.lease(&request.key);
        let pod_rules = lease.map(|lease| self.wiring(lease, None).pod_rules);
        let origin = lease.map(|lease| self.origin(lease)).unwrap_or_default();
        if let Some(lease) = self.store.release(&request.key, now) {
            return Released {
                released: true,
                host_if: lease.host_if,
                addresses: lease.addresses,
                pod_rules: pod_rules.unwrap_or_default(),
                origin,
            };
        }
        mutant!(
            "del/of-another-name",
            self.release_renamed(&request.key, now),
            ()
        );
        // Nothing of ours: but the caller may name an address that the kernel uses.
        let mut released = Released::default();
        for &ip in mutant!(
            "del/unknown-key-names-addresses",
            &request.addresses,
            &request.addresses[..0]
        ) {
            if let Some(host_if) = self.store.release_unowned(ip, now) {
                released.host_if = host_if;
                released.addresses.push(ip);
            }
        }
        released
    }

    /// What keeps an ADD from an address, and its label: what the plan says; else what the plan knows nothing of.
    pub(super) fn why_no_address(&self, now: Timestamp) -> (String, &'static str) {
        let (why, cause) = (self.report.why(), self.report.cause());
        // That addresses are there, put off, or of which kind they are, explains nothing.
        let explains = |note: &Note| {
            !matches!(
                note,
                Note::Arriving(_) | Note::Later(_) | Note::NoPrefixesHere
            )
        };
        if self.report.notes.iter().any(explains) {
            return (why, cause);
        }
        // Addresses that are there, and that the node can't route, are no matter of the plan's.
        if let Some(error) = self.host.failure() {
            return (
                format!("the node can't be wired: {error}"),
                "node_not_wired",
            );
        }
        let egress = self.facts.as_ref().and_then(|f| egress(&self.settings, f));
        let free = |family| addresses(family).any(|ip| self.store.is_free(ip, now));
        match egress.filter(|family| !free(*family)) {
            Some(family) => (
                format!(
                    "every node-local address of {} is used by a pod, or was within the last {} s",
                    range(family),
                    self.policy.cooldown.as_secs()
                ),
                "egress_full",
            ),
            None => (why, cause),
        }
    }

    /// Takes back the leases of answers whose records could not be stored.
    pub fn undo(&mut self, answers: Vec<Answer>, error: &str) {
        let withdrawn = answers.iter().filter_map(Answer::fresh).cloned();
        let withdrawn: BTreeSet<AttachmentKey> = withdrawn.collect();
        for key in &withdrawn {
            self.store.withdraw(key);
        }
        for answer in answers {
            answer.fail(error, &withdrawn);
        }
        self.collect_writes();
    }

    fn stop(&mut self, answers: &mut Vec<Answer>) {
        self.stopping = true;
        for parked in mutant!(
            "stop/parked-are-answered",
            self.lot.take_all(),
            self.lot.take_expired(Timestamp::default())
        ) {
            let refusal = Refusal {
                kind: RefusalKind::Stopping,
                message: "ipamd is stopping; the runtime will try again".into(),
                cause: "stopping",
                notes: Vec::new(),
            };
            answers.push(Answer::refused(parked.reply, refusal));
        }
    }
}

fn withdrawn(key: &AttachmentKey) -> Refusal {
    Refusal {
        kind: RefusalKind::Cancelled,
        message: format!("the ADD of {key} was withdrawn by its DEL"),
        cause: "withdrawn",
        notes: Vec::new(),
    }
}
