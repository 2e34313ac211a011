//! Fewer IPv4 addresses: what has been too much for a while goes back, whole ENIs first.

use super::{Action, Call, Draft, ENI_MIN_AGE, Note, SHRINK_AFTER, Surplus, Why, target};
use crate::datastore::counts;
use crate::{Block, BlockState, Eni, EniHandle, Family, Phase, Timestamp};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use mutant::mutant;

/// What may go.
#[derive(Clone, Copy)]
struct Excess {
    /// Addresses in all.
    all: u32,
    /// Of these, in blocks of the kind that the pool should be made of: free addresses of the other
    /// kind are no reason to give these back, since they are bought anew when the others are gone.
    right: u32,
}

impl Excess {
    fn fits(self, (all, right): (u32, u32)) -> bool {
        all <= self.all && right <= self.right
    }

    const fn take(&mut self, (all, right): (u32, u32)) {
        self.all -= all;
        self.right -= right;
    }
}

/// Plans what goes back, or remembers since when there has been too much.
pub(super) fn shrink(draft: &mut Draft<'_>) {
    if mutant!(
        "shrink/not-while-growing",
        draft.coming > 0,
        false && draft.coming > 0
    ) {
        return;
    }
    let goal = target(
        draft.input.policy,
        draft.input.limits,
        draft.prefixes(),
        &draft.tally,
        0,
    );
    let excess = Excess {
        all: draft.supply.saturating_sub(mutant!(
            "shrink/not-below-the-target",
            goal.keep,
            goal.keep.saturating_sub(1)
        )),
        right: draft
            .supply
            .saturating_sub(draft.free_of_wrong_kind())
            .saturating_sub(goal.keep),
    };
    let (actions, soon) = choose(
        draft,
        excess,
        mutant!("shrink/whole-enis", goal.whole_enis, false),
    );
    if let Some(at) = soon {
        draft.wake(at);
    }
    if actions.is_empty() {
        return;
    }
    let seen = match draft.input.memory.surplus {
        Some(s) => Surplus {
            since: s.since,
            low: s.low.min(excess.all),
            low_right: s.low_right.min(excess.right),
        },
        None => Surplus {
            since: draft.now,
            low: excess.all,
            low_right: excess.right,
        },
    };
    let at = mutant!(
        "shrink/surplus-goes",
        draft.give_back_at(seen.since),
        draft.give_back_at(draft.now)
    );
    if at > draft.now {
        draft.plan.report.note(Note::Surplus(excess.all, at));
        draft.plan.surplus = Some(seen);
        draft.wake(at);
        return;
    }
    // What was too much all the time; a moment's peak stays.
    let low = Excess {
        all: mutant!(
            "shrink/moments-peak-stays",
            seen.low,
            excess.all.max(seen.low)
        ),
        right: seen.low_right,
    };
    let (actions, _) = choose(draft, low, goal.whole_enis);
    let mut given = false;
    for action in actions {
        if !draft.may(Call::of(&action), Why::Spare) {
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

/// What could go of this excess; and when an ENI that is too young could.
fn choose(draft: &Draft<'_>, excess: Excess, whole_enis: bool) -> (Vec<Action>, Option<Timestamp>) {
    let mut left = excess;
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
            capacity(draft, e).0,
            u32::MAX - e.device_index,
        )
    });
    let mut settled: Vec<EniHandle> = Vec::new();
    for &eni in enis.iter().filter(|e| {
        mutant!(
            "shrink/primary-stays",
            e.ours && !e.primary,
            e.attachment.is_some()
        ) && is_idle(draft, e)
    }) {
        let whole = capacity(draft, eni);
        let Some(attachment) = eni.attachment.clone().filter(|_| left.fits(whole)) else {
            continue;
        };
        left.take(whole);
        settled.push(eni.handle);
        let old_enough = mutant!("shrink/young-eni", eni.since + ENI_MIN_AGE, eni.since);
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
    enis.retain(|e| !settled.contains(&e.handle));
    // The other kind's go first, wherever they are.
    let right = draft.right_kind();
    let mut going: BTreeMap<EniHandle, Vec<Block>> = BTreeMap::new();
    for wanted in mutant!("shrink/other-kind-first", [false, true], [true, false]) {
        for eni in &enis {
            let mut blocks = idle_blocks(draft, eni);
            // Of the right kind only whole ENIs, where addresses go by them.
            blocks.retain(|b| b.family() == Family::V4);
            blocks.retain(|b| (b.kind() == right) == wanted && !(whole_enis && wanted));
            let blocks = fitting(draft, blocks, &mut left);
            going.entry(eni.handle).or_default().extend(blocks);
        }
    }
    for eni in enis {
        let blocks = going.remove(&eni.handle).unwrap_or_default();
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

/// ENIs in subnets that are excluded give back what nobody uses, whatever the pool needs, and go when
/// they are empty.
pub(super) fn leave_excluded(draft: &mut Draft<'_>) {
    let store = draft.store;
    let leaving = store.enis.values().filter(|e| {
        mutant!(
            "excluded/drains",
            e.excluded && e.unmanaged.is_none(),
            false && e.excluded
        )
    });
    for eni in leaving {
        let settled = eni.phase == Phase::Ready && eni.in_doubt_since.is_none();
        if !settled || !draft.idle(eni) {
            continue;
        }
        let stays =
            |state: &BlockState| matches!(state, BlockState::Confirmed | BlockState::Unconfirmed);
        let idle = eni
            .blocks
            .iter()
            .filter(|(block, state)| stays(state) && draft.tally.of(block).idle());
        let blocks: Vec<Block> = idle.map(|(block, _)| *block).collect();
        let empty = blocks.len() == eni.blocks.len();
        // Pods that go one by one are one call now and then.
        let at = if empty && eni.ours && !eni.primary {
            eni.since + ENI_MIN_AGE
        } else if blocks.is_empty() {
            continue;
        } else {
            eni.written_at + SHRINK_AFTER
        };
        if at > draft.now {
            draft.wake(at);
            continue;
        }
        // Each family has a call of its own, which may be refused while the other's is not.
        let family = blocks.first().map(Block::family);
        let of_one = |block: &Block| {
            mutant!(
                "excluded/one-family-a-call",
                Some(block.family()) == family,
                true
            )
        };
        let blocks: Vec<Block> = blocks.into_iter().filter(of_one).collect();
        let action = match (eni.attachment.clone(), eni.id.clone()) {
            (Some(attachment), _) if empty && eni.ours && !eni.primary => Action::Detach {
                handle: eni.handle,
                attachment,
            },
            (_, Some(id)) if !blocks.is_empty() => Action::Unassign {
                handle: eni.handle,
                eni: id,
                blocks,
            },
            _ => continue,
        };
        if draft.may(Call::of(&action), Why::Spare) {
            draft.act(action);
        }
    }
}

fn is_idle(draft: &Draft<'_>, eni: &Eni) -> bool {
    mutant!(
        "shrink/idle-eni-only",
        idle_blocks(draft, eni).len() == eni.blocks.len(),
        !idle_blocks(draft, eni).is_empty()
    )
}

fn may_shrink(draft: &Draft<'_>, eni: &Eni) -> bool {
    eni.serves()
        && mutant!("shrink/in-doubt", eni.in_doubt_since.is_none(), true)
        && mutant!("shrink/busy-eni", !draft.busy.contains(&eni.handle), true)
}

/// Addresses of an ENI, and those of them in blocks of the right kind.
fn capacity(draft: &Draft<'_>, eni: &Eni) -> (u32, u32) {
    let blocks = eni.blocks.iter();
    let blocks = blocks.filter(|(b, s)| b.family() == Family::V4 && counts(eni, **s));
    blocks.fold((0, 0), |(all, right), (block, _)| {
        let (more, of_right) = weight(draft, block);
        (all + more, right + of_right)
    })
}

fn weight(draft: &Draft<'_>, block: &Block) -> (u32, u32) {
    let all = block.capacity();
    let right = if block.kind() == draft.right_kind() {
        all
    } else {
        0
    };
    (all, right)
}

/// Blocks that nobody uses or used of late, from the last to the first.
fn idle_blocks(draft: &Draft<'_>, eni: &Eni) -> Vec<Block> {
    debug_assert!(eni.phase == Phase::Ready);
    eni.blocks
        .iter()
        .rev()
        .filter(|(block, state)| {
            counts(eni, **state)
                && mutant!("shrink/cooling-block", draft.tally.of(block).idle(), {
                    let t = draft.tally.of(block);
                    t.used + t.held == 0
                })
        })
        .map(|(block, _)| *block)
        .collect()
}

/// As many of the blocks as fit into what is left.
fn fitting(draft: &Draft<'_>, blocks: Vec<Block>, left: &mut Excess) -> Vec<Block> {
    blocks
        .into_iter()
        .filter(|block| {
            let weight = weight(draft, block);
            let fits = left.fits(weight);
            if fits {
                left.take(weight);
            }
            fits
        })
        .collect()
}
