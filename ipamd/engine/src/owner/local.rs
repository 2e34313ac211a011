//! What the node itself tells and needs: IMDS, the kernel's links and routes, leftovers.

use super::{Owner, start};
use crate::host::egress;
use crate::notice::Notice;
use crate::ports::{Foreign, HostNetError, KernelEvent, Leftover, NodeFacts, Write};
use crate::reroute::Reroute;
use crate::retry::Retry;
use crate::task::Task;
use ipam_core::limits::{MaxPodsInput, limits_of, max_pods};
use ipam_core::reconcile::learn_from_metadata;
use ipam_core::{Family, Phase, Timestamp};
use mutant::mutant;
use std::time::Duration;

/// What IMDS says of ENIs is heeded this often: one that nobody knows is asked of EC2, and IMDS may name
/// a dead one for minutes.
const ENIS_EVERY: Duration = Duration::from_secs(300);

impl Owner {
    /// IMDS, the kernel, leftovers: what needs no plan.
    pub(super) fn local_tasks(&mut self, tasks: &mut Vec<Task>, now: Timestamp) {
        let due = |retry: &Retry| retry.at().is_none_or(|at| at <= now);
        let old = self.metadata_due.is_none_or(|at| at <= now);
        if old && !self.reading_metadata && due(&self.metadata_retry) {
            self.reading_metadata = true;
            tasks.push(Task::ReadMetadata);
        }
        if !self.surveyed && !self.surveying && due(&self.survey_retry) {
            self.surveying = true;
            tasks.push(Task::Survey);
        }
        if let Some(facts) = self.facts.as_ref().filter(|_| self.surveyed)
            && let Some(task) =
                self.host
                    .next(&self.store, &self.settings, facts, self.memory.heard(), now)
        {
            tasks.push(task);
        }
        if self.surveyed {
            let urgent = self.lot.len() > 0;
            tasks.extend(self.forget.next(&self.store, urgent, now));
            tasks.extend(self.reroute.next(&self.store, now));
        }
        if self.surveyed && !self.sweeping && due(&self.sweep_retry) {
            let leftovers: Vec<Leftover> = self
                .store
                .leftovers(now)
                .into_iter()
                .map(|(address, host_if)| Leftover { address, host_if })
                .collect();
            // Not before the pause is over: a look finds by then what the last sweep has left.
            if leftovers.is_empty() {
                self.sweep_retry.succeeded();
            } else {
                self.sweeping = true;
                tasks.push(Task::Sweep(leftovers));
            }
        }
    }

    /// When one of them is due without an event.
    pub(super) fn local_wake(&self) -> Option<Timestamp> {
        if !self.surveyed {
            return None;
        }
        let sweep = self.store.next_leftover().filter(|_| !self.sweeping);
        let sweep = sweep.map(|at| at.max(self.sweep_retry.at().unwrap_or_default()));
        let urgent = self.lot.len() > 0;
        [self.forget.wake_at(&self.store, urgent), sweep]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is swept is looked at again before its address is given; what remains there is swept again, but
    /// not at once.
    pub(super) fn swept(
        &mut self,
        leftovers: &[Leftover],
        result: Result<(), HostNetError>,
        now: Timestamp,
    ) {
        self.sweeping = false;
        let at = self.sweep_retry.failed(now);
        if mutant!("sweep/failure-is-not-done", result.is_ok(), true) {
            for leftover in leftovers {
                mutant!(
                    "sweep/says-nothing-of-namesakes",
                    self.store.swept(leftover.address, &leftover.host_if, now),
                    self.store.link_gone(&leftover.host_if, now)
                );
            }
        }
        if let Err(error) = result {
            tracing::warn!(%error, next_try = %at, "leftovers of finished pods could not be removed");
        }
    }

    pub(super) fn learn_facts(&mut self, facts: NodeFacts, now: Timestamp) {
        self.reading_metadata = false;
        self.metadata_retry.succeeded();
        let every = self.settings.metadata_every;
        let jitter = (every / 3).mul_f64(self.memory.fraction());
        self.metadata_due = Some(now + every + jitter);
        if let Some(stored) = self.unproven.take()
            && mutant!(
                "start/stored-instance-is-proved",
                stored != facts.instance_id,
                false && stored != facts.instance_id
            )
        {
            let ours = facts.instance_id.clone();
            self.notices
                .add(Notice::OtherInstance { stored, ours }, now);
            start::drop_all(self, now);
        }
        self.use_facts(&facts, now);
        self.memory
            .imds_shows(facts.enis.iter().map(|eni| eni.id.clone()));
        if self.enis_due.is_none_or(|at| at <= now) {
            self.enis_due = Some(now + ENIS_EVERY);
            learn_from_metadata(&mut self.store, &mut self.memory, &facts.enis, now);
        }
        if self.facts.as_ref() != Some(&facts) {
            self.writes.push(Write::Facts(facts.clone()));
            self.facts = Some(facts);
            self.host.changed();
        }
    }

    /// Limits and max-pods follow from the instance type.
    pub(super) fn use_facts(&mut self, facts: &NodeFacts, now: Timestamp) {
        self.store.set_primary(facts.primary_mac);
        self.limits = limits_of(&facts.instance_type);
        if !self.limits.known {
            let name = facts.instance_type.clone();
            self.notices.add(Notice::UnknownInstanceType(name), now);
        }
        if self.settings.egress.is_some() && egress(&self.settings, facts).is_none() {
            self.notices.add(Notice::NoEgress, now);
        }
        let input = MaxPodsInput {
            ipv6: self.policy.scarce() == Family::V6,
            prefixes: self.policy.prefixes,
            max_eni: self.policy.max_eni,
            // Kubelets of current AMIs are capped only where somebody chose prefixes.
            show_max_allowed: !self.policy.prefixes,
            ..MaxPodsInput::default()
        };
        let computed = max_pods(&self.limits, &input).pods;
        self.policy.max_pods = self.settings.policy.max_pods.or(Some(computed));
    }

    pub(super) fn tell_foreign(&mut self, foreign: Foreign, now: Timestamp) {
        let Foreign { what, tool, undone } = foreign;
        self.notices
            .add(Notice::ForeignTool { what, tool, undone }, now);
    }

    pub(super) fn kernel(&mut self, event: KernelEvent, now: Timestamp) {
        match event {
            KernelEvent::LinkAppeared(mac) => {
                if self
                    .store
                    .eni_by_mac(mac)
                    .is_some_and(|e| e.phase != Phase::Ready)
                {
                    mutant!("kernel/eni-link-appears", self.host.distrust(), ());
                }
            }
            KernelEvent::LinkGone(mac) => {
                if let Some(handle) = self.store.eni_by_mac(mac).map(|e| e.handle) {
                    mutant!("kernel/eni-link-gone", self.store.set_unready(handle), ());
                    mutant!("kernel/eni-link-gone-is-rewired", self.host.distrust(), ());
                    self.memory.look_at_ec2();
                }
            }
            KernelEvent::PodRouteAdded(ip, host_if) => {
                if let Some(key) = self.store.owner(ip) {
                    self.unwired.wired(key, now);
                }
                // A second one beside its own, or its own again: changed, or led elsewhere.
                if Reroute::is_doubtful(&self.store, ip, &host_if) {
                    self.reroute.gone(&self.store, ip, now);
                } else {
                    mutant!(
                        "kernel/pod-route-added",
                        self.store.set_routed(ip, host_if),
                        ()
                    );
                }
            }
            KernelEvent::PodRouteBent(ip) => self.reroute.gone(&self.store, ip, now),
            KernelEvent::PodRouteGone(ip) => {
                mutant!(
                    "kernel/pod-route-gone",
                    self.store.clear_routed(ip, now),
                    ()
                );
                mutant!(
                    "kernel/lost-route-is-put-back",
                    self.reroute.gone(&self.store, ip, now),
                    ()
                );
            }
            KernelEvent::PodLinkGone(host_if) => {
                mutant!(
                    "kernel/pod-link-gone",
                    self.store.link_gone(&host_if, now),
                    ()
                );
                self.renamed_link_gone(&host_if, now);
                mutant!(
                    "kernel/link-goes-during-a-look",
                    self.forget.link_gone(&host_if),
                    ()
                );
            }
            KernelEvent::PodLinkBack(host_if) => {
                let on_link = self.store.routed().iter();
                let on_link = on_link.filter(|(ip, dev)| {
                    mutant!(
                        "kernel/link-back-takes-routes",
                        ip.is_ipv4() && **dev == host_if,
                        false && ip.is_ipv4()
                    )
                });
                for ip in on_link.map(|(ip, _)| *ip).collect::<Vec<_>>() {
                    self.store.clear_routed(ip, now);
                }
                self.reroute.back(&self.store, &host_if, now);
            }
            KernelEvent::PodRoutes(routes) => {
                self.store.replace_routed(routes, now);
                self.reroute.surveyed(&self.store, now);
            }
            KernelEvent::Foreign(foreign) => self.tell_foreign(foreign, now),
            KernelEvent::Overrun => {
                mutant!("kernel/overrun-looks-anew", self.surveyed = false, ());
                self.survey_retry.succeeded();
            }
        }
    }
}
