//! From what happened to notices and counters.

use super::{Owner, log};
use crate::api::{Counters, HoldSnapshot, Limits};
use crate::notice::{LostPod, Notice};
use crate::notices::Told;
use ipam_core::cloud::{CloudError, Next};
use ipam_core::plan::{Action, Call, Scope, per_eni};
use ipam_core::reconcile::Drift;
use ipam_core::{Block, EniHandle, Family, Timestamp};
use mutant::mutant;
use std::collections::BTreeMap;
use std::time::Duration;

/// EC2's lag explains a doubt of a minute; one more for the Describe that settles it.
const DOUBT_TOO_LONG: Duration = Duration::from_secs(180);

impl Owner {
    /// What is to be told now.
    pub fn take_notices(&mut self) -> Vec<Told> {
        self.notices.take()
    }

    /// A commit went well.
    pub fn stored(&mut self) {
        self.unwritten = None;
    }

    /// A commit failed.
    pub fn store_failed(&mut self, error: &str, now: Timestamp) {
        let since = self.unwritten.take().map_or(now, |(since, _)| since);
        self.unwritten = Some((since, error.into()));
        self.notices.add(Notice::StoreFailed(error.into()), now);
    }

    /// EC2's names of all ENIs, before a Describe that may remove some.
    pub(super) fn names(&self, action: &Action) -> BTreeMap<EniHandle, String> {
        if *action != Action::Describe {
            return BTreeMap::new();
        }
        let enis = self.store.enis().keys();
        enis.map(|handle| (*handle, self.name(*handle))).collect()
    }

    fn name(&self, handle: EniHandle) -> String {
        self.store
            .eni(handle)
            .and_then(|eni| eni.id.as_ref())
            .map_or_else(|| format!("ENI #{}", handle.0), ToString::to_string)
    }

    pub(super) fn note_drift(
        &mut self,
        drift: &[Drift],
        names: &BTreeMap<EniHandle, String>,
        now: Timestamp,
    ) {
        for drift in drift {
            *self.counters.drift.entry(drift.label()).or_default() += 1;
            let name = |handle: &EniHandle| {
                let known = names.get(handle).cloned();
                known.unwrap_or_else(|| self.name(*handle))
            };
            let notice = match drift {
                Drift::NewEni(eni) | Drift::NewBlock(eni, _) => {
                    log::drift(drift, &name(eni));
                    continue;
                }
                Drift::BlockGone(eni, block) => Notice::BlockGone(name(eni), *block),
                Drift::EniGone(eni) => Notice::EniGone(name(eni)),
                Drift::EniDoubted(eni, leases) => {
                    let eni = name(eni);
                    // The kernel speaks for it: what it was last heard to say is looked at again.
                    mutant!("describe/witness-is-asked-again", self.host.distrust(), ());
                    Notice::EniDoubted {
                        eni,
                        leases: *leases,
                    }
                }
                Drift::BlockLost(eni, block, _) => Notice::BlockLost {
                    eni: name(eni),
                    block: *block,
                    pods: self.pods_in(&[*block]),
                },
                Drift::EniLost(eni, _) => {
                    let blocks: Vec<Block> = self
                        .store
                        .eni(*eni)
                        .map(|e| e.blocks.keys().copied().collect())
                        .unwrap_or_default();
                    Notice::EniLost {
                        eni: name(eni),
                        pods: self.pods_in(&blocks),
                    }
                }
            };
            let lost = u64::try_from(notice.pods().len()).unwrap_or(u64::MAX);
            self.counters.lost_addresses = self.counters.lost_addresses.saturating_add(lost);
            self.notices.add(notice, now);
        }
    }

    fn pods_in(&self, blocks: &[Block]) -> Vec<LostPod> {
        let leases = self.store.leases().values();
        leases
            .flat_map(|lease| lease.addresses.iter().map(move |ip| (ip, lease)))
            .filter(|(ip, _)| blocks.iter().any(|block| block.contains(**ip)))
            .map(|(ip, lease)| LostPod {
                pod: lease.pod.clone(),
                address: *ip,
            })
            .collect()
    }

    /// What EC2 refused, if it lies in a person's hands.
    pub(super) fn note_refusal(&mut self, action: &Action, mut error: CloudError, now: Timestamp) {
        if let Action::Create { kind, .. } | Action::Assign { kind, .. } = action {
            error = error.about(*kind);
        }
        if !error.class.reaction().tell {
            return;
        }
        let subnet = match action {
            Action::Create { subnet, kind, .. } => Some((subnet.clone(), *kind)),
            // IPv6 has a hold of its own.
            Action::Assign {
                family: Family::V6, ..
            } => None,
            Action::Assign { handle, kind, .. } => {
                self.store.eni(*handle).map(|e| (e.subnet.clone(), *kind))
            }
            _ => None,
        };
        let subnets_fault = error.class.reaction().next == Next::Smaller;
        let subnet = subnet.filter(|_| subnets_fault);
        let own = action.handle().map(Scope::Eni);
        let place = match action {
            Action::Create { subnet, .. } => Some(Scope::NewEniIn(subnet.clone())),
            Action::DescribeSubnets { .. } => Some(Scope::Subnets),
            Action::Assign {
                handle,
                family: Family::V6,
                ..
            } => Some(Scope::Ipv6(*handle)),
            _ => None,
        };
        let scopes = subnet
            .iter()
            .map(|(subnet, kind)| Scope::Subnet(subnet.clone(), *kind))
            .chain(own)
            .chain(place)
            .chain([
                Scope::NewEni,
                Scope::Attach,
                Scope::Describe,
                Scope::Calls(Call::of(action)),
            ]);
        let held = scopes
            .filter_map(|scope| self.memory.held(&[scope], now))
            .find(|hold| hold.error.code == error.code);
        let next = held.map(|hold| hold.until);
        // A batch that was too large is halved and asked for again at once: no news.
        if subnets_fault && next.is_none() {
            return;
        }
        let notice = Notice::Refused {
            error,
            subnet,
            next,
        };
        self.notices.add(notice, now);
    }

    /// After each Describe: what is left alone, and why.
    pub(super) fn note_unmanaged(&mut self, action: &Action, now: Timestamp) {
        if *action != Action::Describe {
            return;
        }
        let alone: Vec<Notice> = self
            .store
            .enis()
            .values()
            .filter_map(|eni| {
                Some(Notice::Unmanaged {
                    eni: self.name(eni.handle),
                    why: eni.unmanaged?,
                    leases: self.store.leases_on(eni.handle),
                })
            })
            .collect();
        for notice in alone {
            self.notices.add(notice, now);
        }
    }

    /// Doubts that last too long.
    pub(super) fn note_doubts(&mut self, now: Timestamp) {
        let old: Vec<(EniHandle, Timestamp)> = self
            .store
            .enis()
            .values()
            .filter_map(|eni| Some((eni.handle, eni.in_doubt_since?)))
            .filter(|(_, since)| now.since(*since) > DOUBT_TOO_LONG)
            .collect();
        for (handle, since) in old {
            let eni = self.name(handle);
            self.notices.add(Notice::InDoubt { eni, since }, now);
        }
    }

    pub(super) fn counters(&self) -> Counters {
        Counters {
            notices: self.notices.counts.clone(),
            notices_dropped: self.notices.dropped,
            ..self.counters.clone()
        }
    }

    pub(super) fn hold_snapshots(&self, now: Timestamp) -> Vec<HoldSnapshot> {
        let holds = self.memory.holds(now);
        holds
            .map(|(scope, hold)| HoldSnapshot {
                scope: scope.label(),
                cause: hold.error.class.label(),
                until: hold.until,
                words: hold.to_string(),
            })
            .collect()
    }

    pub(super) fn limits_snapshot(&self) -> Limits {
        let limits = &self.limits;
        if self.policy.scarce() == Family::V6 {
            return Limits {
                enis: limits.enis,
                addresses: self.policy.max_pods.unwrap_or(0),
                max_pods: self.policy.max_pods,
            };
        }
        let max = self.policy.max_eni.map_or(limits.enis, |max| max.max(1));
        let enis = max.min(limits.enis);
        let prefixes = self.policy.prefixes && limits.prefixes;
        Limits {
            enis,
            addresses: enis.saturating_mul(per_eni(limits, prefixes)),
            max_pods: self.policy.max_pods,
        }
    }
}
