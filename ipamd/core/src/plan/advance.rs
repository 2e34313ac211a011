//! Brings ENIs that are half-way one step on, and keeps EC2's word fresh.

use super::{Action, CONSISTENCY, Call, DESCRIBE_EVERY, Draft, Note, Scope, Why};
use crate::reconcile::ABSENCE;
use crate::{Eni, Intent, Phase, Timestamp};
use alloc::vec::Vec;
use core::time::Duration;
use mutant::mutant;

/// A detached ENI can be deleted once EC2 has really let go of it: a second or two.
const DETACH_SETTLES: Duration = Duration::from_secs(2);

/// After something unexpected, EC2 is asked this soon; more often would only read the same lag.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// The kernel has an ENI's link some seconds after EC2 attached it (five at worst in what users report).
const LINK_LATE: Duration = Duration::from_secs(30);

/// Whether and when to ask EC2 which ENIs there are.
pub(super) fn describe(draft: &mut Draft<'_>) {
    let memory = draft.input.memory;
    if draft.input.describing {
        return;
    }
    let doubts: Vec<_> = draft
        .store
        .enis
        .values()
        .filter(|e| e.id.is_some())
        .filter_map(|e| e.in_doubt_since)
        // What an earlier run did and the store forgot is settled likewise.
        .chain(memory.forgetful.then_some(memory.started))
        .collect();
    // A pod that waits for what came of an unanswered call does not wait for the usual distance.
    let first_word = |last: Timestamp| {
        let fresh = draft.input.waiting > 0 && doubts.iter().any(|since| *since >= last);
        fresh.then_some(draft.now)
    };
    let unsettled = mutant!(
        "describe/looks-when-something-is-odd",
        memory.look || !memory.missing.is_empty() || !doubts.is_empty(),
        false && memory.look
    );
    // What is not named for long, and something else speaks for, is asked for less and less often.
    let again = |last: Timestamp| {
        let missing = memory.missing.values().max();
        let patient = missing.filter(|_| !memory.look && doubts.is_empty());
        let lasts = patient.map_or(Duration::ZERO, |first| last.since(*first));
        last + LOOK_AGAIN.max(if lasts > ABSENCE { lasts } else { LOOK_AGAIN })
    };
    // Two looks, 30 s apart, settle an absence; a doubt is settled past the consistency window.
    let due = match memory.described.filter(|_| memory.known) {
        // A pod that waits is not kept waiting by jitter.
        None if draft.input.waiting > 0 => draft.now,
        None => memory.first_describe(),
        Some(last) => doubts
            .iter()
            .map(|since| (*since + CONSISTENCY).max(last + LOOK_AGAIN))
            .chain(first_word(last))
            .chain(unsettled.then(|| again(last)))
            .chain(linkless(draft).map(|late| late.max(last + LOOK_AGAIN.max(last.since(late)))))
            .chain([mutant!(
                "describe/now-and-then",
                memory.next_describe(last, DESCRIBE_EVERY),
                memory.next_describe(last, DESCRIBE_EVERY * 1000)
            )])
            .min()
            .unwrap_or(draft.now),
    };
    let held = memory.held(&[Scope::Describe], draft.now).map(|h| h.until);
    let due = held.map_or(due, |until| due.max(until));
    if due <= draft.now {
        if draft.may(Call::Describe, Why::waiting(draft.input.waiting > 0)) {
            draft.act(Action::Describe);
        }
    } else {
        draft.wake(due);
        if unsettled {
            // What EC2 says then may let the pool grow again.
            draft.retries.push(due);
        }
    }
}

/// Since when an ENI's link is overdue. EC2 is asked whether it is there at all, less and less often:
/// by hand it may have been detached, and the kernel never says that a link did not come.
fn linkless(draft: &Draft<'_>) -> impl Iterator<Item = Timestamp> {
    let started = draft.input.memory.started;
    let enis = draft.store.enis.values();
    let waits = |e: &&Eni| e.phase == Phase::Attached && e.unmanaged.is_none();
    enis.filter(waits)
        .map(move |e| e.written_at.max(started) + LINK_LATE)
}

/// When EC2 is asked what settles a doubt.
fn settled_at(draft: &Draft<'_>, since: Timestamp) -> Timestamp {
    let memory = draft.input.memory;
    let again = memory.described.map(|last| last + LOOK_AGAIN);
    let held = memory.held(&[Scope::Describe], draft.now).map(|h| h.until);
    let at = (since + CONSISTENCY).max(draft.now);
    [again, held].into_iter().flatten().fold(at, Timestamp::max)
}

/// The next step of each ENI that is on its way in or out.
pub(super) fn enis(draft: &mut Draft<'_>) {
    let store = draft.store;
    for eni in store.enis.values() {
        if let Some(since) = eni.in_doubt_since {
            let at = settled_at(draft, since);
            draft.plan.report.note(Note::InDoubt(eni.handle, at));
        }
        if eni.unmanaged.is_some() || !draft.idle(eni) {
            continue;
        }
        if let Some(action) = next_step(draft, eni)
            && !held_up(draft, &action)
            && draft.may(Call::of(&action), draft.why_on(eni))
        {
            draft.act(action);
        }
    }
}

/// Whether a refusal holds this call up. Several Creates may have had no answer: what EC2 says of the first that
/// is sent again holds for those that ask the same.
fn held_up(draft: &mut Draft<'_>, action: &Action) -> bool {
    let scopes = Scope::of_repeat(action, draft.store);
    let Some(hold) = mutant!(
        "eni/refused-create-holds-the-others",
        draft.input.memory.held(&scopes, draft.now),
        None
    ) else {
        return asks_too_much(draft, action);
    };
    let (error, until) = (hold.error.clone(), hold.until);
    draft.plan.report.note(Note::Held {
        error,
        subnet: None,
        kind: None,
        until,
    });
    true
}

/// Whether EC2 has just refused as many addresses at once; what is sent again can't ask for fewer.
fn asks_too_much(draft: &mut Draft<'_>, action: &Action) -> bool {
    let Action::Create {
        subnet,
        kind,
        count,
        ..
    } = action
    else {
        return false;
    };
    let memory = draft.input.memory;
    let until = memory.too_many_until(subnet, *kind, *count, draft.now);
    until.inspect(|at| draft.wake(*at)).is_some()
}

fn next_step(draft: &mut Draft<'_>, eni: &Eni) -> Option<Action> {
    let handle = eni.handle;
    match eni.phase {
        Phase::Creating => mutant!(
            "eni/create-is-sent-again",
            create_again(eni),
            create_again(eni).filter(|_| false)
        ),
        Phase::Created => Some(Action::Attach {
            handle,
            eni: eni.id.clone()?,
            card: eni.card,
            device_index: free_index(draft, eni),
        }),
        // One write at a time: the doubt must not be forgotten over another one's success.
        Phase::Attached | Phase::Ready
            if mutant!(
                "eni/one-write-at-a-time",
                eni.in_doubt_since.is_some(),
                false && eni.in_doubt_since.is_some()
            ) =>
        {
            None
        }
        Phase::Attached | Phase::Ready
            if mutant!(
                "eni/goes-with-the-instance",
                eni.ours && !eni.delete_on_termination,
                false && eni.ours
            ) =>
        {
            Some(Action::SetDeleteOnTermination {
                handle,
                eni: eni.id.clone()?,
                attachment: eni.attachment.clone()?,
            })
        }
        Phase::Attached | Phase::Ready => None,
        Phase::Leaving
            if eni.ours
                && mutant!(
                    "eni/leaves-without-pods",
                    draft.store.leases_on(handle) == 0,
                    true || draft.store.leases_on(handle) == 0
                ) =>
        {
            Some(Action::Detach {
                handle,
                attachment: eni.attachment.clone()?,
            })
        }
        Phase::Leaving => None,
        Phase::Detached => {
            let at = eni.written_at + DETACH_SETTLES;
            if mutant!(
                "eni/detached-is-deleted",
                at > draft.now,
                at > draft.now || eni.ours
            ) {
                draft.wake(at);
                return None;
            }
            Some(Action::Delete {
                handle,
                eni: eni.id.clone()?,
            })
        }
    }
}

/// The same token gives the same ENI, so a create with an unknown outcome is sent once more.
fn create_again(eni: &Eni) -> Option<Action> {
    let Some(Intent::Create { token, kind, count }) = &eni.intent else {
        return None;
    };
    Some(Action::Create {
        handle: eni.handle,
        token: token.clone(),
        subnet: eni.subnet.clone(),
        card: eni.card,
        device_index: eni.device_index,
        family: crate::Family::V4,
        kind: *kind,
        count: *count,
        asked: eni.since,
    })
}

/// The ENI's own place, unless EC2 said that somebody has it.
fn free_index(draft: &Draft<'_>, eni: &Eni) -> u32 {
    if draft
        .input
        .memory
        .taken
        .contains(&(eni.card, eni.device_index))
    {
        super::grow::next_index(draft, eni.card, &[])
    } else {
        eni.device_index
    }
}
