//! EC2's word against the datastore, with care for its lag.
//!
//! The answer to a write outranks a Describe begun less than [`CONSISTENCY`] after it, and an
//! absence needs two Describes [`ABSENCE`] apart. What leases stand on is never handed on silently:
//! it becomes [`BlockState::Lost`] and is told.

mod imds;
mod place;
mod settle;
mod witness;

pub use imds::learn_from_metadata;
pub(crate) use place::has_its_place;

use crate::datastore::Datastore;
use crate::plan::{CONSISTENCY, Memory, Scope};
use crate::{Block, BlockState, Eni, EniHandle, EniView, Intent, Phase, Timestamp};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;
use core::time::Duration;
use imds::is_unnamed;
use mutant::mutant;
use place::place_is_free;
use settle::{settle_attaches, settle_doubt};
use witness::{is_witnessed, unnamed};

/// Two Describes this far apart agree on an absence before it counts.
pub const ABSENCE: Duration = Duration::from_secs(30);

/// Something that EC2 should name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// An ENI.
    Eni(EniHandle),
    /// A block on an ENI.
    Block(EniHandle, Block),
}

/// What was not as the datastore had it, for a person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// An ENI of this instance that was not known.
    NewEni(EniHandle),
    /// A block that was not known.
    NewBlock(EniHandle, Block),
    /// A block is gone; nobody had a lease in it.
    BlockGone(EniHandle, Block),
    /// A block is gone and this many leases stand in it.
    BlockLost(EniHandle, Block, u32),
    /// EC2 does not name an ENI, time and again, on which this many leases stand, and whose link the kernel or
    /// IMDS still shows: it is kept.
    EniDoubted(EniHandle, u32),
    /// An ENI is gone; nobody had a lease on it.
    EniGone(EniHandle),
    /// An ENI is gone and this many leases stand on it.
    EniLost(EniHandle, u32),
}

impl Drift {
    /// The label in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NewEni(_) => "new_eni",
            Self::NewBlock(..) => "new_block",
            Self::BlockGone(..) => "block_gone",
            Self::BlockLost(..) => "block_lost",
            Self::EniDoubted(..) => "eni_doubted",
            Self::EniGone(_) => "eni_gone",
            Self::EniLost(..) => "eni_lost",
        }
    }
}

/// Takes a Describe in that was begun at `begun`.
pub fn reconcile(
    store: &mut Datastore,
    memory: &mut Memory,
    views: &[EniView],
    begun: Timestamp,
    now: Timestamp,
) -> Vec<Drift> {
    let knew = core::mem::replace(&mut memory.known, true);
    memory.look = false;
    memory.described = Some(begun);
    memory.heard = true;
    let forgetful = memory.forgetful;
    let held_back = core::mem::take(&mut memory.held_back);
    let mut drift = Vec::new();
    let mut seen = BTreeSet::new();
    // First every ENI, then every block: a block must be held against all primary addresses.
    for view in views {
        let gone = memory.deleted.get(&view.id).is_some_and(|at| {
            mutant!(
                "describe/deleted-stays-deleted",
                begun < *at + CONSISTENCY,
                false && begun < *at
            )
        });
        if gone || !place_is_free(store, memory, views, view, begun, &mut drift) {
            memory.look |= !gone;
            continue;
        }
        let was = store.eni_by_id(&view.id).map(|eni| eni.phase);
        let handle = take_eni(store, view, &mut drift, begun, now);
        // An Attach was refused since an earlier run's had been done: the next step is held by nothing.
        if was == Some(Phase::Created) && store.eni(handle).is_some_and(attached_as_we_know) {
            memory.succeeded(&Scope::Eni(handle), now);
        }
        seen.insert(handle);
    }
    let_go_of_moved(store, views, begun);
    for view in views {
        if let Some(handle) = store.eni_by_id(&view.id).map(|e| e.handle) {
            let new = take_blocks(store, memory, handle, view, begun, &mut drift);
            // What is new only to us, who knew nothing or waited, tells nothing of a call in doubt.
            let tells = |b: &Block| knew && !forgetful && !held_back.contains(b);
            let new: Vec<Block> = new.into_iter().filter(tells).collect();
            settle_doubt(store, handle, &new, begun, memory.told);
        }
    }
    settle_attaches(store, &seen, begun);
    let unseen: Vec<EniHandle> = store
        .enis()
        .values()
        // An instance always has its first interface, whatever a Describe does not show.
        .filter(|e| !seen.contains(&e.handle) && attached_as_we_know(e) && !e.primary)
        // EC2 has never named it: it goes when IMDS does not show it any more.
        .filter(|e| !is_unnamed(e))
        .filter(|e| !lost_already(store, e))
        .map(|e| e.handle)
        .collect();
    memory.missing.retain(|thing, _| match thing {
        Thing::Eni(handle) => unseen.contains(handle),
        Thing::Block(handle, block) => store
            .eni(*handle)
            .is_some_and(|e| e.blocks.contains_key(block)),
    });
    memory.doubted.retain(|handle| unseen.contains(handle));
    for handle in unseen {
        unnamed(store, memory, handle, begun, &mut drift);
    }
    memory.subnets.mark(store);
    store.recount();
    // What this Describe shows is younger than anything that an earlier run did, or else the store may
    // have lost something: by its own word, or since the kernel routes a pod that no block explains.
    let lagging = begun < memory.started + CONSISTENCY;
    memory.forgetful = lagging && (forgetful || routes_unexplained(store));
    memory.told.get_or_insert(now);
    memory.forget_past(begun);
    store.forget_strangers(now);
    drift
}

/// Whether the kernel routes a pod's address that is in no block we know of: it was given to an earlier
/// run, which left no word of it.
fn routes_unexplained(store: &Datastore) -> bool {
    let mut routed = store.routed().keys();
    routed.any(|ip| store.owner(*ip).is_none() && store.block_of(*ip).is_none())
}

/// Blocks that EC2 shows on another ENI than we have them on, and no longer on ours.
fn let_go_of_moved(store: &mut Datastore, views: &[EniView], begun: Timestamp) {
    for view in views {
        let Some(to) = store.eni_by_id(&view.id).map(|e| e.handle) else {
            continue;
        };
        for block in &view.blocks {
            let ours = store.enis().values().find(|e| {
                e.handle != to
                    && e.blocks.contains_key(block)
                    && begun >= e.written_at + CONSISTENCY
            });
            let still = |eni: &Eni| {
                let same = |v: &&EniView| Some(&v.id) == eni.id.as_ref();
                views
                    .iter()
                    .find(same)
                    .is_some_and(|v| v.blocks.contains(block))
            };
            if ours.is_some_and(|eni| {
                mutant!(
                    "describe/moved-block-follows",
                    !still(eni),
                    false && still(eni)
                )
            }) {
                store.let_go(*block, to);
            }
        }
    }
}

/// Told already, and nothing changes until its leases end.
fn lost_already(store: &Datastore, eni: &Eni) -> bool {
    eni.has_left() && store.leases_on(eni.handle) > 0
}

fn attached_as_we_know(eni: &Eni) -> bool {
    matches!(eni.phase, Phase::Attached | Phase::Ready | Phase::Leaving)
}

/// Whether a thing that this Describe does not name is really gone.
fn absent(store: &Datastore, memory: &mut Memory, thing: Thing, begun: Timestamp) -> bool {
    let handle = match thing {
        Thing::Eni(handle) | Thing::Block(handle, _) => handle,
    };
    let Some(eni) = store.eni(handle) else {
        return false;
    };
    if mutant!(
        "describe/write-outranks",
        begun < eni.written_at + CONSISTENCY,
        false
    ) {
        memory.look = true;
        return false;
    }
    let first = *memory.missing.entry(thing).or_insert(begun);
    if mutant!(
        "describe/two-looks-for-an-absence",
        begun.since(first) < ABSENCE,
        false && begun.since(first) < ABSENCE
    ) {
        return false;
    }
    memory.missing.remove(&thing);
    true
}

/// The ENI itself: known again, or new.
fn take_eni(
    store: &mut Datastore,
    view: &EniView,
    drift: &mut Vec<Drift>,
    begun: Timestamp,
    now: Timestamp,
) -> EniHandle {
    let known = store.eni_by_id(&view.id).map(|e| e.handle);
    let handle = known.unwrap_or_else(|| {
        let handle = adopt(store, view, now);
        drift.push(Drift::NewEni(handle));
        handle
    });
    let changed = store.eni(handle).is_some_and(|eni| {
        let mut next = eni.clone();
        refresh(&mut next, view, begun);
        next != *eni
    });
    if changed && let Some(eni) = store.eni_mut(handle) {
        refresh(eni, view, begun);
    }
    if let Some(address) = store.eni(handle).and_then(|e| e.address)
        && (changed || known.is_none())
    {
        store.set_address(handle, Some(address));
    }
    handle
}

fn refresh(eni: &mut Eni, view: &EniView, begun: Timestamp) {
    eni.unmanaged = view.unmanaged;
    eni.ours |= view.ours;
    if eni.primary {
        eni.is_the_nodes_own();
    }
    if eni.address.is_none() {
        eni.address = view.address;
    }
    let was_given_up = mutant!("describe/given-up-comes-back", eni.has_left(), false);
    // Our own Detach outranks a Describe that lags behind it.
    let stale = eni.phase == Phase::Detached
        && mutant!(
            "describe/detach-outranks",
            begun < eni.written_at + CONSISTENCY,
            false
        );
    if let Some(attachment) = view.attachment.as_ref().filter(|_| !stale) {
        if attachment.id.is_some() {
            eni.attachment.clone_from(&attachment.id);
        }
        eni.card = attachment.card;
        eni.device_index = attachment.device_index;
        // It had been given up, and is there after all.
        if was_given_up {
            eni.phase = Phase::Attached;
        }
        // `true` is never unsaid by a Describe that lags behind our own Modify.
        eni.delete_on_termination |= attachment.delete_on_termination.unwrap_or(false);
        // Attached by a call that was not answered, or not gone after all.
        if matches!(eni.phase, Phase::Created | Phase::Detached) && eni.intent.is_none() {
            eni.phase = Phase::Attached;
            // That was what was in doubt.
            eni.in_doubt_since = None;
        }
    }
}

fn adopt(store: &mut Datastore, view: &EniView, now: Timestamp) -> EniHandle {
    let handle = store.new_handle();
    let primary = store.is_primary(view);
    let attachment = view.attachment.as_ref();
    store.insert_eni(Eni {
        handle,
        id: Some(view.id.clone()),
        mac: Some(view.mac),
        primary,
        device_index: attachment.map_or(0, |a| a.device_index),
        card: attachment.map_or(0, |a| a.card),
        subnet: view.subnet.clone(),
        address: view.address,
        attachment: attachment.and_then(|a| a.id.clone()),
        delete_on_termination: attachment
            .and_then(|a| a.delete_on_termination)
            .unwrap_or(false),
        phase: if attachment.is_some() {
            Phase::Attached
        } else {
            Phase::Detached
        },
        unmanaged: view.unmanaged.filter(|_| !primary),
        ours: view.ours && !primary,
        excluded: false,
        blocks: BTreeMap::new(),
        intent: None,
        in_doubt_since: None,
        written_at: Timestamp(0),
        since: now,
    });
    handle
}

/// The ENI's blocks: what EC2 names is confirmed, what it does not name is gone if it stays so.
/// Answers which are new.
fn take_blocks(
    store: &mut Datastore,
    memory: &mut Memory,
    handle: EniHandle,
    view: &EniView,
    begun: Timestamp,
    drift: &mut Vec<Drift>,
) -> Vec<Block> {
    let Some(eni) = store.eni(handle) else {
        return Vec::new();
    };
    let lagging = begun < eni.written_at + CONSISTENCY;
    // Being given back, or given back a moment ago: only a late enough Describe tells.
    let past =
        matches!(eni.intent, Some(Intent::Unassign { .. })) || memory.shows_the_past(handle, begun);
    // A store that lost something may have them from before they were given back; those that pods use
    // were not.
    let forgotten = |block: &Block| {
        memory.forgets(begun) && !store.used.contains_key(block) && !store.routes_into(block)
    };
    let mut later = false;
    let mut held_back = Vec::new();
    let mut unsure = Vec::new();
    let mut confirm = Vec::new();
    for block in &view.blocks {
        match eni.blocks.get(block) {
            Some(BlockState::Confirmed) => {}
            // Held back while an earlier Describe could not be trusted: EC2 is asked again for it.
            Some(BlockState::Releasing)
                if mutant!(
                    "describe/releasing-stays-releasing",
                    past || lagging,
                    false && past
                ) =>
            {
                later |= eni.intent.is_none();
            }
            Some(BlockState::Unconfirmed)
                if mutant!(
                    "store/what-it-forgot-is-unsure",
                    forgotten(block),
                    false && forgotten(block)
                ) =>
            {
                unsure.push(*block);
            }
            Some(_) => confirm.push((*block, false)),
            None if mutant!("describe/given-back-stays-given-back", past, false && past) => {
                held_back.push(*block);
            }
            None => mutant!(
                "describe/new-block-is-taken",
                confirm.push((*block, true)),
                ()
            ),
        }
    }
    let lost =
        |b: &Block| eni.blocks.get(b) == Some(&BlockState::Lost) && store.used.contains_key(b);
    let gone: Vec<Block> = eni
        .blocks
        .keys()
        .filter(|b| !view.blocks.contains(b) && !lost(b))
        .copied()
        .collect();
    memory.look |= later || !held_back.is_empty() || !unsure.is_empty();
    if let Some(eni) = store.eni_mut(handle).filter(|_| !unsure.is_empty()) {
        let states = eni.blocks.iter_mut();
        for (_, state) in states.filter(|(block, _)| unsure.contains(block)) {
            *state = BlockState::Releasing;
        }
    }
    memory.held_back.extend(held_back);
    let mut grown = Vec::new();
    for (block, new) in confirm {
        if !store.add_block(handle, block, BlockState::Confirmed) {
            // Another ENI of ours has it yet: when it follows, it tells nothing of a call in doubt.
            memory.held_back.insert(block);
        } else if new {
            grown.push(block);
            drift.push(Drift::NewBlock(handle, block));
        }
    }
    for block in gone {
        // Only an earlier boot, or a store that lost something, has it: nobody new until EC2 names it.
        if mutant!("boot/unnamed-block-serves-nobody", !memory.resumed, false)
            && let Some(eni) = store.eni_mut(handle)
            && let Some(state) = eni.blocks.get_mut(&block)
            && *state == BlockState::Unconfirmed
        {
            *state = BlockState::Releasing;
        }
        if mutant!(
            "describe/gone-block-goes",
            absent(store, memory, Thing::Block(handle, block), begun),
            false && memory.known
        ) {
            lose_block(store, handle, block, drift);
        }
    }
    grown
}

fn lose_block(store: &mut Datastore, handle: EniHandle, block: Block, drift: &mut Vec<Drift>) {
    let leases = store.used.get(&block).copied().unwrap_or(0);
    if mutant!(
        "describe/lost-block-keeps-its-pods",
        leases == 0,
        true || leases == 0
    ) {
        store.remove_block(handle, block);
        drift.push(Drift::BlockGone(handle, block));
    } else {
        store.add_block(handle, block, BlockState::Lost);
        drift.push(Drift::BlockLost(handle, block, leases));
    }
}

fn lose_eni(store: &mut Datastore, handle: EniHandle, drift: &mut Vec<Drift>) {
    let leases = store.leases_on(handle);
    if leases == 0 {
        // Detached, by a call of ours that was not answered or by somebody's hand. Ours is deleted.
        if store.eni(handle).is_some_and(|e| e.ours) {
            store.detach(handle);
        } else {
            store.remove_eni(handle);
        }
        drift.push(Drift::EniGone(handle));
        return;
    }
    let blocks: Vec<Block> = store
        .eni(handle)
        .map(|e| e.blocks.keys().copied().collect())
        .unwrap_or_default();
    if let Some(eni) = store.eni_mut(handle) {
        // It goes when its pods have gone.
        eni.phase = Phase::Leaving;
    }
    for block in blocks {
        if store.used.contains_key(&block) {
            store.add_block(handle, block, BlockState::Lost);
        } else {
            store.remove_block(handle, block);
        }
    }
    // It stays as long as leases stand in it, and goes with the last one (`Datastore::release`).
    if let Some(eni) = store.eni_mut(handle) {
        eni.attachment = None;
        eni.intent = None;
        eni.in_doubt_since = None;
    }
    drift.push(Drift::EniLost(handle, leases));
}
