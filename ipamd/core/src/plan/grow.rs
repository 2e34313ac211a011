//! More IPv4 addresses: all that are needed, at once.

use super::{Action, Call, Draft, Note, Scope, Takes, Why, subnets, target};
use crate::datastore::counts;
use crate::{Block, BlockKind, Eni, EniHandle, Family, Intent, Phase, SubnetId};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::time::Duration;
use mutant::mutant;

/// Plans the missing addresses; returns how many were missing.
pub(super) fn grow(draft: &mut Draft<'_>) -> u32 {
    let prefixes = draft.prefixes();
    if draft.input.policy.prefixes && !prefixes {
        draft.plan.report.note(Note::NoPrefixesHere);
    }
    let goal = target(
        draft.input.policy,
        draft.input.limits,
        prefixes,
        &draft.tally,
        draft.input.waiting,
    );
    let kind = draft.right_kind();
    // Free addresses in blocks of the other kind serve pods that wait, and are no warm ones as long
    // as the right kind can be had: so the pool drains from one mode to the other.
    let drain = mutant!("growth/other-kind-drains", drain(draft, kind), 0);
    if draft.supply >= goal.keep.saturating_add(drain) {
        if draft.coming > 0 {
            draft.plan.report.note(Note::Growing(draft.coming));
        }
        draft.not_short();
        return 0;
    }
    let needs = if draft.supply < goal.keep {
        goal.grow_to - draft.supply
    } else {
        0
    };
    let short = (goal.grow_to + drain).saturating_sub(draft.supply);
    draft.pressed = draft.starving();
    if !draft.pressed && !draft.warm_growth_is_due() {
        // What is put off is not asked for yet.
        if draft.coming > 0 {
            draft.plan.report.note(Note::Growing(draft.coming));
        }
        if short > 0 {
            draft.plan.report.note(Note::Later(short));
        }
        return short;
    }
    let (before, planned) = (draft.pace, draft.plan.actions.len());
    let ahead = draft.step(short);
    let promised = draft.tally.free().saturating_add(draft.coming);
    let left = fill_enis(draft, short + ahead, kind);
    let bought = short + ahead - left;
    let rest = needs.saturating_sub(bought);
    let unmet = draft
        .input
        .waiting
        .saturating_sub(promised.saturating_add(bought))
        .min(rest);
    let rest = if kind == BlockKind::Address {
        // What is taken in advance is worth no ENI of its own.
        new_enis(draft, rest, left.min(ahead), kind)
    } else {
        by_single_addresses(draft, rest, unmet)
    };
    mutant!(
        "growth/full-enis-make-room",
        make_room(draft, rest.max(left.min(drain))),
        ()
    );
    if draft.plan.actions.len() == planned {
        draft.pace = before;
    } else {
        draft.grew(rest > 0);
    }
    if draft.coming > 0 {
        draft.plan.report.note(Note::Growing(draft.coming));
    }
    short
}

/// What prefixes on the ENIs that are there do not bring: single addresses for those who wait, at
/// once; then new ENIs with prefixes; then single addresses for all the rest. Returns what is still
/// missing.
fn by_single_addresses(draft: &mut Draft<'_>, missing: u32, unmet: u32) -> u32 {
    let rest = missing - (unmet - fill_enis(draft, unmet, BlockKind::Address));
    let rest = new_enis(draft, rest, 0, BlockKind::Prefix);
    let rest = mutant!(
        "growth/single-addresses-where-no-prefix-is",
        fill_enis(draft, rest, BlockKind::Address),
        rest
    );
    new_enis(draft, rest, 0, BlockKind::Address)
}

/// Free addresses in blocks of the other kind, if the right kind can be had on an ENI that is there.
fn drain(draft: &mut Draft<'_>, kind: BlockKind) -> u32 {
    let wrong = draft.free_of_wrong_kind();
    if wrong == 0 {
        return 0;
    }
    let store = draft.store;
    let gives_way = |draft: &Draft<'_>, eni: &Eni| {
        kind == BlockKind::Prefix && !idle_addresses(draft, eni).is_empty()
    };
    let possible = store.enis.values().any(|eni| {
        takes_blocks(eni)
            && (room(draft, eni) > 0 || gives_way(draft, eni))
            && can_have(draft, &eni.subnet, kind)
    });
    if possible { wrong } else { 0 }
}

/// Whether this kind of block may be asked of a subnet now; a hold is told.
pub(super) fn can_have(draft: &mut Draft<'_>, subnet: &SubnetId, kind: BlockKind) -> bool {
    let memory = draft.input.memory;
    let Some(hold) = mutant!(
        "growth/refusing-subnet-is-not-hammered",
        memory.held(&[Scope::Subnet(subnet.clone(), kind)], draft.now),
        memory
            .held(&[Scope::Subnet(subnet.clone(), kind)], draft.now)
            .filter(|_| false)
    ) else {
        return true;
    };
    let (error, until) = (hold.error.clone(), hold.until);
    let (subnet, kind) = (Some(subnet.clone()), Some(kind));
    draft.plan.report.note(Note::Held {
        error,
        subnet,
        kind,
        until,
    });
    false
}

/// Of `wanted` blocks, how many to ask for at once: no more than EC2 lately granted.
fn batch(draft: &Draft<'_>, subnet: &SubnetId, kind: BlockKind, wanted: u32) -> u32 {
    let limit = draft.input.memory.batch.get(&(subnet.clone(), kind));
    limit.map_or(wanted, |batch| {
        mutant!(
            "growth/smaller-batch-after-a-refusal",
            wanted.min(batch.limit.max(1)),
            wanted.max(batch.limit)
        )
    })
}

/// How many blocks of a kind make up so many addresses.
const fn blocks(kind: BlockKind, addresses: u32) -> u32 {
    addresses.div_ceil(kind.capacity(Family::V4))
}

/// For so long it is believed that ENIs take fewer blocks than the table says; and for so long where pods
/// wait that get nothing else: EC2 may have said it of something else, and a call a minute finds out.
const FEWER_FOR: Duration = Duration::from_secs(3600);
const FEWER_FOR_PODS: Duration = Duration::from_secs(60);

/// Slots of an ENI, by the table, or as EC2 has shown since.
fn slots(draft: &Draft<'_>) -> u32 {
    slots_shown(draft, |takes| takes.exact)
}

/// How many blocks a new ENI may come with.
fn slots_of_new(draft: &Draft<'_>) -> u32 {
    slots_shown(draft, |_| true)
}

/// An ENI that holds more than EC2 has shown shows the opposite.
fn slots_shown(draft: &Draft<'_>, counts: impl Fn(&Takes) -> bool) -> u32 {
    let table = mutant!(
        "growth/slots",
        draft.input.limits.ipv4_per_eni.saturating_sub(1),
        draft.input.limits.ipv4_per_eni
    );
    let shown = draft.input.memory.eni_takes;
    let long = match draft.starving() {
        true => FEWER_FOR_PODS,
        false => FEWER_FOR,
    };
    let shown = shown.filter(|takes| draft.now < takes.at + long && counts(takes));
    shown.map_or(table, |takes| {
        let most = draft.store.enis.values().map(Eni::slots_taken).max();
        table.min(takes.blocks.max(most.unwrap_or(0)).max(1))
    })
}

/// One Assign for each attached ENI with room, the first ENIs first. An ENI that is busy with a call
/// keeps its room for the next plan: waiting for it is cheaper than another ENI. Returns what is
/// still missing.
fn fill_enis(draft: &mut Draft<'_>, mut missing: u32, kind: BlockKind) -> u32 {
    let store = draft.store;
    let mut enis: Vec<&Eni> = store
        .enis
        .values()
        .filter(|e| will_take_blocks(e))
        .collect();
    enis.sort_by_key(|e| (e.card, e.device_index));
    for eni in enis {
        if missing == 0 || draft.rest_can_wait() {
            break;
        }
        let held = room(draft, eni) > 0 && is_held(draft, eni);
        // IMDS may name one for long that EC2's last word left out; what it gets may never reach us.
        let doubted = draft.input.memory.left_out(eni.handle);
        if held
            || mutant!("growth/left-out-eni-gets-nothing", doubted, false)
            || !can_have(draft, &eni.subnet, kind)
        {
            continue;
        }
        let wanted = room(draft, eni).min(blocks(kind, missing));
        let count = mutant!(
            "growth/one-call-for-all",
            batch(draft, &eni.subnet, kind, wanted),
            batch(draft, &eni.subnet, kind, wanted).min(1)
        );
        if count == 0 {
            continue;
        }
        let id = eni
            .id
            .clone()
            .filter(|_| takes_blocks(eni) && draft.idle(eni));
        match id {
            Some(id) if draft.may(Call::Assign, draft.why()) => {
                arrange(draft, kind, count);
                let (handle, family) = (eni.handle, Family::V4);
                draft.act(Action::Assign {
                    handle,
                    eni: id,
                    family,
                    kind,
                    count,
                });
            }
            // The report says until when.
            Some(_) => {}
            None => draft.plan.report.note(Note::Growing(draft.coming)),
        }
        // What is not asked for now has its room here, too.
        draft.asked.insert(eni.handle, wanted);
        missing = missing.saturating_sub(kind.capacity(Family::V4).saturating_mul(wanted));
    }
    missing
}

/// Whether nothing may be asked for on this ENI now; the report tells why.
fn is_held(draft: &mut Draft<'_>, eni: &Eni) -> bool {
    let hold = draft
        .input
        .memory
        .held(&[Scope::Eni(eni.handle)], draft.now);
    let Some((error, until)) = hold.map(|hold| (hold.error.clone(), hold.until)) else {
        return false;
    };
    draft.plan.report.note(Note::Held {
        error,
        subnet: None,
        kind: None,
        until,
    });
    true
}

/// Slots that neither hold a block nor wait for one, in this plan neither.
fn room(draft: &Draft<'_>, eni: &Eni) -> u32 {
    let now = draft.asked.get(&eni.handle).copied().unwrap_or(0);
    unfilled(draft, eni).saturating_sub(now)
}

/// Slots that neither hold a block nor have a call under way for one.
fn unfilled(draft: &Draft<'_>, eni: &Eni) -> u32 {
    let asked = match &eni.intent {
        Some(Intent::Create { count, .. }) => *count,
        Some(Intent::Assign {
            family: Family::V4,
            count,
            ..
        }) => *count,
        _ => 0,
    };
    let held = eni.slots_taken();
    slots(draft).saturating_sub(held.saturating_add(asked))
}

/// Where every slot is taken and prefixes are wanted, single addresses that nobody uses give way: a
/// slot that holds 1 address can hold 16.
fn make_room(draft: &mut Draft<'_>, missing: u32) {
    // What is asked for now tells whether there are prefixes at all: nothing is given away for a
    // refusal.
    let asks = |a: &Action| match a {
        Action::Create { kind, .. } | Action::Assign { kind, .. } => *kind == BlockKind::Prefix,
        _ => false,
    };
    if missing == 0 || !draft.prefixes() || draft.plan.actions.iter().any(asks) {
        return;
    }
    let mut wanted = missing.div_ceil(BlockKind::Prefix.capacity(Family::V4)) as usize;
    let store = draft.store;
    for eni in store
        .enis
        .values()
        .filter(|e| takes_blocks(e) && e.phase == Phase::Ready)
    {
        let Some(id) = eni.id.clone().filter(|_| wanted > 0) else {
            continue;
        };
        let full = room(draft, eni) == 0;
        if !full
            || !draft.idle(eni)
            || !can_have(draft, &eni.subnet, BlockKind::Prefix)
            || !subnets::may_have_prefix(draft, &eni.subnet)
            || !draft.may(Call::Unassign, draft.why())
        {
            continue;
        }
        let mut blocks = idle_addresses(draft, eni);
        blocks.truncate(wanted);
        if !blocks.is_empty() {
            wanted -= blocks.len();
            draft.act(Action::Unassign {
                handle: eni.handle,
                eni: id,
                blocks,
            });
        }
    }
}

/// Single addresses that nobody uses or used of late, and that are not on their way out already.
fn idle_addresses(draft: &Draft<'_>, eni: &Eni) -> Vec<Block> {
    eni.blocks
        .iter()
        .filter(|(block, state)| {
            (block.family(), block.kind()) == (Family::V4, BlockKind::Address)
                && counts(eni, **state)
                && draft.tally.of(block).idle()
        })
        .map(|(block, _)| *block)
        .collect()
}

/// Takes blocks now or after the calls that are under way.
fn will_take_blocks(eni: &Eni) -> bool {
    let coming = match eni.phase {
        Phase::Creating => eni.in_doubt_since.is_none(),
        // It exists; what may be in doubt is whether it is attached.
        Phase::Created => true,
        _ => false,
    };
    takes_blocks(eni) || coming && eni.unmanaged.is_none() && !eni.excluded
}

fn takes_blocks(eni: &Eni) -> bool {
    mutant!(
        "growth/unmanaged-is-left-alone",
        eni.unmanaged.is_none(),
        true
    ) && mutant!("growth/excluded-gets-nothing", !eni.excluded, true)
        && matches!(eni.phase, Phase::Attached | Phase::Ready)
        && mutant!(
            "growth/no-assign-in-doubt",
            eni.in_doubt_since.is_none(),
            true
        )
}

/// As many new ENIs as the rest takes, side by side, the last one with some addresses `ahead`. Returns
/// what is still missing.
fn new_enis(draft: &mut Draft<'_>, mut missing: u32, ahead: u32, kind: BlockKind) -> u32 {
    let card = draft.input.limits.default_card;
    let limits = draft.input.limits;
    let allowed = draft.input.policy.max_eni.map_or(limits.enis, |max| {
        mutant!(
            "growth/max-eni",
            max.max(1).min(limits.enis),
            limits.enis.max(max)
        )
    });
    let present = draft
        .store
        .enis
        .values()
        .filter(|e| {
            mutant!(
                "growth/enis-under-way-are-counted",
                e.takes_slot(),
                e.takes_slot() && e.attachment.is_some()
            ) && e.card == card
        })
        .count();
    let present = u32::try_from(present).unwrap_or(u32::MAX);
    // What an earlier pass of this plan makes, and what it takes of each subnet.
    let mut made: Vec<u32> = Vec::new();
    let mut planned: BTreeMap<SubnetId, u32> = BTreeMap::new();
    for action in &draft.plan.actions {
        if let Action::Create {
            subnet,
            device_index,
            kind,
            count,
            ..
        } = action
            && !draft
                .store
                .enis
                .values()
                .any(|e| Some(e.handle) == action.handle())
        {
            made.push(*device_index);
            *planned.entry(subnet.clone()).or_default() += kind.capacity(Family::V4) * count + 1;
        }
    }
    while mutant!(
        "growth/enis-side-by-side",
        missing > 0,
        missing > 0 && made.is_empty()
    ) && !draft.rest_can_wait()
    {
        let made_count = u32::try_from(made.len()).unwrap_or(u32::MAX);
        if mutant!(
            "growth/eni-limit",
            present.saturating_add(made_count) >= allowed,
            present.saturating_add(made_count) > allowed
        ) {
            note_limit(draft, allowed);
            break;
        }
        if draft.held_new_eni(&Scope::NewEni) || draft.held_new_eni(&Scope::Attach) {
            break;
        }
        let Some(candidates) = subnets::candidates(draft) else {
            draft.plan.report.note(Note::Growing(draft.coming));
            // The answer is under way, and comes before anything else is tried.
            return 0;
        };
        let wanted = slots_of_new(draft).min(blocks(kind, missing + ahead));
        let place = subnets::place(draft, &candidates, (kind, wanted), &planned);
        let Some(place) = place.filter(|place| place.count > 0) else {
            break;
        };
        if !draft.may(Call::Create, draft.why()) {
            break;
        }
        draft.makes_eni();
        let handle = EniHandle(draft.store.next_handle().0 + u64::from(made_count));
        let device_index = next_index(draft, card, &made);
        made.push(device_index);
        *planned.entry(place.subnet.clone()).or_default() +=
            kind.capacity(Family::V4) * place.count + 1;
        arrange(draft, kind, place.count);
        missing = missing.saturating_sub(kind.capacity(Family::V4).saturating_mul(place.wanted));
        draft.act(Action::Create {
            handle,
            token: mutant!(
                "growth/token-is-this-runs",
                format!("{}-{}", draft.input.token_prefix, handle.0),
                format!("ipamd-{}", handle.0)
            ),
            subnet: place.subnet,
            card,
            device_index,
            family: Family::V4,
            kind: place.kind,
            count: place.count,
            asked: draft.now,
        });
    }
    missing
}

/// The instance takes no more ENIs. With a slot that holds nothing that is no reason: what stands
/// against that one is.
fn note_limit(draft: &mut Draft<'_>, allowed: u32) {
    let mut enis = draft.store.enis.values();
    let open = |eni: &Eni| {
        let stays = matches!(
            eni.phase,
            Phase::Creating | Phase::Created | Phase::Attached | Phase::Ready
        );
        stays && eni.unmanaged.is_none() && !eni.excluded && unfilled(draft, eni) > 0
    };
    // And who waits for what is on its way is not kept waiting by it.
    let family = Family::V4;
    let arriving = draft.input.waiting > 0 && draft.store.unserved(family) > 0;
    if enis.any(open) || arriving && !draft.starving() {
        return;
    }
    draft.plan.report.note(Note::AtLimit {
        enis: allowed,
        blocks_per_eni: slots(draft),
        by_setting: allowed < draft.input.limits.enis,
    });
}

impl Draft<'_> {
    /// Whether a pod waits that gets nothing from what is there or on its way.
    pub(super) fn starving(&self) -> bool {
        self.unmet(self.input.policy.scarce()) > 0
    }

    /// What the next growth call is for.
    fn why(&self) -> Why {
        Why::waiting(self.starving())
    }

    /// Whether all pods that waited are served by what was planned, and the rest is for the warm pool:
    /// other nodes' pods may need those calls more.
    fn rest_can_wait(&self) -> bool {
        self.input.memory.spread && self.pressed && !self.starving()
    }
}

/// Books blocks that are being asked for.
fn arrange(draft: &mut Draft<'_>, kind: BlockKind, count: u32) {
    let brings = kind.capacity(Family::V4).saturating_mul(count);
    draft.coming = draft.coming.saturating_add(brings);
    draft.supply = draft.supply.saturating_add(brings);
}

/// The lowest place on a card that no ENI has, as far as we know.
pub(super) fn next_index(draft: &Draft<'_>, card: u32, made: &[u32]) -> u32 {
    let used = |i: u32| {
        made.contains(&i)
            || mutant!(
                "growth/place-that-is-taken",
                draft.input.memory.taken.contains(&(card, i)),
                false
            )
            || draft
                .store
                .enis
                .values()
                .any(|e| e.card == card && e.device_index == i && e.takes_slot())
    };
    // Index 0 of the first card is the instance's own, wherever IMDS shows its first ENI.
    let first = u32::from(card == 0);
    (first..).find(|i| !used(*i)).unwrap_or(first)
}
