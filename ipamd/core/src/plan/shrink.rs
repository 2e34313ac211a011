//! Fewer addresses: what has been too much for a while goes back, whole ENIs first.

use super::{Action, Call, Draft, ENI_MIN_AGE, Note, Surplus, target};
use crate::datastore::counts;
use crate::{Block, BlockKind, Eni, EniHandle, Phase, Timestamp};
use alloc::vec::Vec;

/// Plans what goes back, or remembers since when there has been too much.
pub(super) fn shrink(draft: &mut Draft<'_>) {
    if draft.coming > 0 {
        return;
    }
    let goal = target(
        draft.input.policy,
        draft.input.limits,
        draft.prefixes(),
        &draft.tally,
        0,
    );
    let surplus = draft.supply.saturating_sub(goal.keep);
    let (actions, soon) = choose(draft, surplus, goal.whole_enis);
    if let Some(at) = soon {
        draft.wake(at);
    }
    if actions.is_empty() {
        return;
    }
    let seen = match draft.input.memory.surplus {
        Some(s) => Surplus {
            since: s.since,
            low: s.low.min(surplus),
        },
        None => Surplus {
            since: draft.now,
            low: surplus,
        },
    };
    let at = draft.give_back_at(seen.since);
    if at > draft.now {
        draft.plan.report.note(Note::Surplus(surplus, at));
        draft.plan.surplus = Some(seen);
        draft.wake(at);
        return;
    }
    // What was too much all the time; a moment's peak stays.
    let (actions, _) = choose(draft, seen.low, goal.whole_enis);
    let mut given = false;
    for action in actions {
        if !draft.may(Call::of(&action), false) {
            draft.plan.surplus = Some(seen);
            continue;
        }
        if matches!(action, Action::Detach { .. }) {
            draft.pace.gave_eni_back(seen.since, draft.now);
        }
        given = true;
        draft.act(action);
    }
    if given {
        draft.pace.gave_back(draft.now);
    }
}

/// What could go if `surplus` addresses went; and when an ENI that is too young could.
fn choose(draft: &Draft<'_>, surplus: u32, whole_enis: bool) -> (Vec<Action>, Option<Timestamp>) {
    let mut left = surplus;
    let mut actions = Vec::new();
    let mut soon = None;
    let mut enis: Vec<&Eni> = draft
        .store
        .enis
        .values()
        .filter(|e| may_shrink(draft, e))
        .collect();
    enis.sort_by_key(|e| {
        (
            e.primary,
            draft.store.leases_on(e.handle),
            capacity(e),
            u32::MAX - e.device_index,
        )
    });
    let mut settled: Vec<EniHandle> = Vec::new();
    for &eni in enis
        .iter()
        .filter(|e| e.ours && !e.primary && is_idle(draft, e))
    {
        let Some(attachment) = eni.attachment.clone().filter(|_| capacity(eni) <= left) else {
            continue;
        };
        left -= capacity(eni);
        settled.push(eni.handle);
        let old_enough = eni.since + ENI_MIN_AGE;
        if old_enough > draft.now {
            // It goes as a whole, a little later.
            soon = Some(soon.map_or(old_enough, |s: Timestamp| s.min(old_enough)));
        } else {
            actions.push(Action::Detach {
                handle: eni.handle,
                attachment,
            });
        }
    }
    for eni in enis.into_iter().filter(|e| !settled.contains(&e.handle)) {
        let mut blocks = idle_blocks(draft, eni);
        // Prefixes left from another mode go one by one, also where addresses go by whole ENIs.
        blocks.retain(|b| !whole_enis || b.kind() == BlockKind::Prefix);
        let blocks = fitting(blocks, &mut left);
        if let Some(id) = eni.id.clone().filter(|_| !blocks.is_empty()) {
            actions.push(Action::Unassign {
                handle: eni.handle,
                eni: id,
                blocks,
            });
        }
    }
    (actions, soon)
}

fn is_idle(draft: &Draft<'_>, eni: &Eni) -> bool {
    idle_blocks(draft, eni).len() == eni.blocks.len()
}

fn may_shrink(draft: &Draft<'_>, eni: &Eni) -> bool {
    eni.serves() && eni.in_doubt_since.is_none() && !draft.busy.contains(&eni.handle)
}

fn capacity(eni: &Eni) -> u32 {
    eni.blocks
        .iter()
        .filter(|(_, s)| counts(eni, **s))
        .map(|(b, _)| b.capacity())
        .sum()
}

/// Blocks that nobody uses or used of late, from the last to the first.
fn idle_blocks(draft: &Draft<'_>, eni: &Eni) -> Vec<Block> {
    debug_assert!(eni.phase == Phase::Ready);
    eni.blocks
        .iter()
        .rev()
        .filter(|(block, state)| counts(eni, **state) && draft.tally.of(block).idle())
        .map(|(block, _)| *block)
        .collect()
}

/// As many of the blocks as fit into what is left.
fn fitting(blocks: Vec<Block>, left: &mut u32) -> Vec<Block> {
    blocks
        .into_iter()
        .filter(|block| {
            let fits = block.capacity() <= *left;
            if fits {
                *left -= block.capacity();
            }
            fits
        })
        .collect()
}
