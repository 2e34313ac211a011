//! Which subnet a new ENI goes to, and when EC2 is asked for the list.
//!
//! EC2 shows how many addresses a subnet has free, not whether they lie together: what it refused of
//! late tells the rest. A refusal holds its own subnet and nothing else, so the next plan takes the
//! next one.

use super::{Action, Call, Draft, Note, Scope, Subnets, Why};
use crate::datastore::Datastore;
use crate::{BlockKind, EniHandle, Family, SubnetId, SubnetView, Timestamp};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::time::Duration;
use mutant::mutant;

/// EC2's list is good for so long; what we take and give back meanwhile is counted by ourselves.
pub const SUBNETS_LAST: Duration = Duration::from_secs(300);

/// Beside a regular Describe, a list older than this is asked for anew: the subnet of an ENI may
/// have been excluded by now.
const REVIEW: Duration = Duration::from_secs(3600);

/// What EC2 told of the zone's subnets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Book {
    views: BTreeMap<SubnetId, SubnetView>,
    /// Those that give pods no addresses.
    excluded: BTreeSet<SubnetId>,
    /// When EC2 last told.
    at: Option<Timestamp>,
    /// EC2 has told or refused to, or the store knows what it once said.
    heard: bool,
}

impl Book {
    /// `heard`: what an earlier run heard of the subnets of today's ENIs is in the store.
    pub(crate) fn new(heard: bool) -> Self {
        Self {
            heard,
            ..Self::default()
        }
    }

    /// Takes EC2's list in.
    pub(crate) fn learn(&mut self, views: &[SubnetView], by: &Subnets, now: Timestamp) {
        let drains = |view: &&SubnetView| match by {
            Subnets::Tagged { cluster } => view.excludes(cluster.as_deref()),
            Subnets::Primary | Subnets::Listed(_) => false,
        };
        self.excluded = views.iter().filter(drains).map(|v| v.id.clone()).collect();
        self.views = views.iter().map(|v| (v.id.clone(), v.clone())).collect();
        self.at = Some(now);
        self.heard = true;
    }

    /// EC2 did not tell: the primary ENI's subnet must do.
    pub(crate) const fn unanswered(&mut self) {
        self.heard = true;
    }

    /// Addresses that a call of ours took from a subnet.
    pub(crate) fn took(&mut self, subnet: &SubnetId, addresses: u32) {
        if let Some(view) = self.views.get_mut(subnet) {
            view.available = mutant!(
                "subnet/own-use-is-counted",
                view.available.saturating_sub(addresses),
                view.available
            );
        }
    }

    /// Addresses that a call of ours gave back to it.
    pub(crate) fn gave(&mut self, subnet: &SubnetId, addresses: u32) {
        if let Some(view) = self.views.get_mut(subnet) {
            view.available = view.available.saturating_add(addresses);
        }
    }

    /// Tells the ENIs which of them give pods no addresses. One whose subnet EC2 does not list stays
    /// as it is.
    pub(crate) fn mark(&self, store: &mut Datastore) {
        let wrong: Vec<(EniHandle, bool)> = store
            .enis()
            .values()
            .filter(|eni| self.views.contains_key(&eni.subnet))
            .map(|eni| {
                (
                    eni.handle,
                    eni.excluded,
                    self.excluded.contains(&eni.subnet),
                )
            })
            .filter(|(_, is, should)| is != should)
            .map(|(handle, _, should)| (handle, should))
            .collect();
        for (handle, should) in wrong {
            if let Some(eni) = store.eni_mut(handle) {
                eni.excluded = should;
            }
        }
    }

    fn is_fresh(&self, now: Timestamp) -> bool {
        self.at.is_some_and(|at| {
            mutant!(
                "subnet/list-gets-old",
                now.since(at) < SUBNETS_LAST,
                now >= at
            )
        })
    }
}

/// Asks for the list before anything is bought for the first time, side by side with the first
/// Describe, and now and then beside a later one. `false` while growth has to wait for it.
pub(super) fn review(draft: &mut Draft<'_>) -> bool {
    let memory = draft.input.memory;
    if !draft.input.policy.subnets.asks() {
        return true;
    }
    let book = &memory.subnets;
    let looking = draft.plan.actions.contains(&Action::Describe) && memory.described.is_some();
    let since = book.at.unwrap_or(memory.started);
    if !book.heard {
        let at = memory.first_subnets();
        if draft.input.waiting > 0 || at <= draft.now {
            ask(draft);
        } else {
            draft.wake(at);
        }
    } else if looking && draft.now.since(since) >= REVIEW {
        ask(draft);
    }
    book.heard
}

/// Whether a prefix may be had of a subnet: EC2's list, asked for anew when it is old, shows room for
/// one. Where EC2 is not asked or does not tell, only a try does.
pub(super) fn may_have_prefix(draft: &mut Draft<'_>, subnet: &SubnetId) -> bool {
    let book = &draft.input.memory.subnets;
    let Some(available) = book.views.get(subnet).map(|view| view.available) else {
        return true;
    };
    if book.is_fresh(draft.now) {
        draft.wakes.extend(book.at.map(|at| at + SUBNETS_LAST));
        return available >= BlockKind::Prefix.capacity(Family::V4);
    }
    !ask(draft)
}

/// Asks unless that is under way or held; whether an answer is to be waited for.
fn ask(draft: &mut Draft<'_>) -> bool {
    if draft.input.asking_subnets {
        return true;
    }
    let by = draft.input.policy.subnets.clone();
    let action = Action::DescribeSubnets { by };
    if draft.plan.actions.contains(&action) {
        return true;
    }
    let held = draft.input.memory.held(&[Scope::Subnets], draft.now);
    if held.is_some() || !draft.may(Call::Subnets, Why::waiting(draft.input.waiting > 0)) {
        return false;
    }
    draft.act(action);
    true
}

/// Where a new ENI may go, in no order but that of the setting. `None` while EC2 is being asked.
pub(super) fn candidates(draft: &mut Draft<'_>) -> Option<Vec<SubnetId>> {
    let (policy, memory) = (draft.input.policy, draft.input.memory);
    let book = &memory.subnets;
    if policy.subnets.asks() && !book.is_fresh(draft.now) && ask(draft) {
        return None;
    }
    if policy.subnets.asks()
        && book.at.is_none()
        && let Some(hold) = memory.held(&[Scope::Subnets], draft.now)
    {
        let (error, until) = (hold.error.clone(), hold.until);
        draft.plan.report.note(Note::Undiscovered { error, until });
    }
    let primary = draft.store.primary();
    let own = || {
        primary
            .filter(|eni| !eni.excluded)
            .map(|eni| eni.subnet.clone())
    };
    let found: Vec<SubnetId> = match &policy.subnets {
        Subnets::Primary => own().into_iter().collect(),
        Subnets::Listed(ids) if book.at.is_none() => ids.clone(),
        Subnets::Listed(ids) => {
            let (here, elsewhere): (Vec<_>, Vec<_>) =
                ids.iter().partition(|id| book.views.contains_key(*id));
            for id in elsewhere {
                draft.plan.report.note(Note::NotInZone(id.clone()));
            }
            here.into_iter().cloned().collect()
        }
        Subnets::Tagged { .. } if book.at.is_none() => own().into_iter().collect(),
        Subnets::Tagged { cluster } => {
            let is_own = |id: &SubnetId| primary.is_some_and(|eni| eni.subnet == *id);
            // A primary ENI may be in a subnet that is not listed: another account's.
            let unlisted = own().filter(|id| !book.views.contains_key(id));
            book.views
                .values()
                .filter(|view| view.admits(cluster.as_deref(), is_own(&view.id)))
                .map(|view| view.id.clone())
                .chain(unlisted)
                .collect()
        }
    };
    if found.is_empty() && primary.is_some() {
        draft.plan.report.note(Note::NoSubnet);
    }
    Some(found)
}

/// A place for a new ENI.
pub(super) struct Place {
    pub(super) subnet: SubnetId,
    pub(super) kind: BlockKind,
    /// Blocks to ask for in the call.
    pub(super) count: u32,
    /// Blocks that the ENI is expected to have in the end.
    pub(super) wanted: u32,
}

/// The best of `candidates` for `wanted` blocks of a kind, if any can be asked now: one that refused
/// nothing of late, with the most room. `planned` is what this plan takes already.
pub(super) fn place(
    draft: &mut Draft<'_>,
    candidates: &[SubnetId],
    (kind, wanted): (BlockKind, u32),
    planned: &BTreeMap<SubnetId, u32>,
) -> Option<Place> {
    let mut open = Vec::new();
    for subnet in candidates {
        if super::grow::can_have(draft, subnet, kind)
            && mutant!(
                "subnet/refusing-one-is-passed-over",
                !draft.held_new_eni(&Scope::NewEniIn(subnet.clone()))
                    && !draft.held_new_eni(&Scope::AttachFrom(subnet.clone())),
                true
            )
        {
            open.push(subnet);
        }
    }
    let memory = draft.input.memory;
    let room = |subnet: &SubnetId| {
        let view = memory.subnets.views.get(subnet)?;
        // The ENI's own address comes first.
        let left = view
            .available
            .saturating_sub(planned.get(subnet).copied().unwrap_or(0) + 1);
        Some(left / kind.capacity(Family::V4))
    };
    let limit = |subnet: &SubnetId| memory.batch.get(&(subnet.clone(), kind)).map(|b| b.limit);
    let subnet = open.into_iter().min_by_key(|subnet| {
        let limit = limit(subnet).filter(|n| *n < wanted);
        (
            memory.blemished(subnet, kind),
            limit.is_some(),
            Reverse(limit),
            mutant!(
                "subnet/most-room-first",
                Reverse(room(subnet)),
                Reverse(room(subnet).map(|n| u32::MAX - n))
            ),
        )
    })?;
    // What EC2 counts may be old: at least one is asked for, and EC2 has the word.
    let fits = room(subnet).map_or(wanted, |room| wanted.min(room.max(1)));
    let count = limit(subnet).map_or(fits, |limit| fits.min(limit.max(1)));
    Some(Place {
        subnet: subnet.clone(),
        kind,
        count,
        wanted: fits,
    })
}
