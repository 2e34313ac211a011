//! What a Describe says of calls that were not answered.

use crate::datastore::Datastore;
use crate::plan::CONSISTENCY;
use crate::{Block, BlockState, Eni, EniHandle, Intent, Phase, Timestamp};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use mutant::mutant;

/// What came of an unanswered Assign is told by as many new blocks, since it gives all or nothing; or
/// by a Describe begun past the consistency window.
pub(super) fn settle_doubt(
    store: &mut Datastore,
    handle: EniHandle,
    new: &[Block],
    begun: Timestamp,
    told: Option<Timestamp>,
) {
    let Some(eni) = store.eni(handle) else { return };
    let Some(since) = eni.in_doubt_since else {
        return;
    };
    let releasing = eni.blocks.values().any(|s| *s == BlockState::Releasing);
    let given = match &eni.intent {
        Some(Intent::Assign {
            family,
            kind,
            count,
        }) => {
            let asked = |b: &&Block| (b.family(), b.kind()) == (*family, *kind);
            let of_kind = new.iter().filter(asked).count();
            // What was there before is surely known only if EC2 told this run before the doubt.
            told.is_some_and(|told| since > told)
                && mutant!(
                    "describe/doubt-told-by-its-blocks",
                    of_kind > 0 && of_kind >= *count as usize,
                    of_kind < 1_000
                )
        }
        _ => false,
    };
    if (given && !releasing
        || mutant!(
            "describe/doubt-waits-for-the-window",
            begun >= since + CONSISTENCY,
            begun >= since
        ))
        && let Some(eni) = store.eni_mut(handle)
    {
        eni.in_doubt_since = None;
        if matches!(eni.intent, Some(Intent::Assign { .. })) {
            eni.intent = None;
        }
    }
}

/// An unanswered Attach was not done if a Describe past the consistency window does not show the ENI: EC2
/// is asked for those of this instance.
pub(super) fn settle_attaches(store: &mut Datastore, seen: &BTreeSet<EniHandle>, begun: Timestamp) {
    let told = |eni: &&Eni| {
        eni.phase == Phase::Created
            && !seen.contains(&eni.handle)
            && eni.in_doubt_since.is_some_and(|since| {
                mutant!(
                    "describe/attach-was-not-done",
                    begun >= since + CONSISTENCY,
                    false && begun >= since
                )
            })
    };
    let told: Vec<EniHandle> = store
        .enis()
        .values()
        .filter(told)
        .map(|e| e.handle)
        .collect();
    for handle in told {
        if let Some(eni) = store.eni_mut(handle) {
            eni.in_doubt_since = None;
        }
    }
}
