//! IPv6: one /80 on the primary ENI, which is more than a node can ever use.
//!
//! Always the primary ENI, also where pods' IPv4 addresses are on further ones: it is there from launch
//! and never leaves, so no growth, shrinking or lost ENI touches a pod's IPv6 address; further ENIs may be
//! in subnets without IPv6; and a new ENI needs no call more. A prefix costs nothing and is not given back.

use super::{Action, Call, Draft, Note, Scope, Why};
use crate::datastore::counts;
use crate::{BlockKind, BlockState, Eni, Family, Intent, Phase};
use mutant::mutant;

/// Asks for the prefix if it is missing. Nothing of IPv4 waits for it: where it can't be had, as on a primary
/// ENI whose subnet is excluded, a surplus of IPv4 goes back all the same.
pub(super) fn grow(draft: &mut Draft<'_>) {
    if !draft.input.policy.wants(Family::V6) {
        return;
    }
    let store = draft.store;
    let Some(eni) = store.primary() else {
        return;
    };
    let held = eni.blocks.iter().filter(|(block, state)| {
        block.family() == Family::V6 && block.is_pools() && counts(eni, **state)
    });
    if mutant!(
        "ipv6/one-prefix-is-enough",
        held.count() > 0,
        held.count() > 1
    ) {
        return;
    }
    if is_coming(eni) {
        draft.plan.report.note(Note::GrowingIpv6);
        return;
    }
    if !can_have(draft, eni) {
        return;
    }
    let ready = matches!(eni.phase, Phase::Attached | Phase::Ready)
        && mutant!(
            "ipv6/no-assign-in-doubt",
            eni.in_doubt_since.is_none(),
            true
        );
    let why = Why::waiting(draft.input.waiting > 0);
    if let Some(id) = eni.id.clone().filter(|_| ready && draft.idle(eni))
        && mutant!(
            "ipv6/missing-prefix-is-asked-for",
            draft.may(Call::AssignIpv6, why),
            false && draft.may(Call::AssignIpv6, why)
        )
    {
        draft.plan.report.note(Note::GrowingIpv6);
        draft.act(Action::Assign {
            handle: eni.handle,
            eni: id,
            family: Family::V6,
            kind: BlockKind::Prefix,
            count: 1,
        });
        draft.coming_v6 = true;
    }
}

/// Whether a call under way brings the prefix.
pub(super) fn is_coming(eni: &Eni) -> bool {
    let assigns = matches!(
        &eni.intent,
        Some(Intent::Assign {
            family: Family::V6,
            ..
        })
    );
    assigns && eni.in_doubt_since.is_none()
}

/// Whether EC2 could give the prefix now; the report tells why not.
fn can_have(draft: &mut Draft<'_>, eni: &Eni) -> bool {
    let limits = draft.input.limits;
    let there = eni.blocks.iter();
    let there = there.filter(|(b, s)| b.family() == Family::V6 && **s != BlockState::Lost);
    if !limits.prefixes || limits.ipv6_per_eni == 0 {
        draft.plan.report.note(Note::NoIpv6Here);
        return false;
    }
    if eni.excluded {
        draft
            .plan
            .report
            .note(Note::NoIpv6InSubnet(eni.subnet.clone()));
        return false;
    }
    let scope = Scope::Ipv6(eni.handle);
    if let Some(hold) = mutant!(
        "ipv6/refusal-holds",
        draft.input.memory.held(&[scope], draft.now),
        draft
            .input
            .memory
            .held(&[scope], draft.now)
            .filter(|_| false)
    ) {
        let (error, until) = (hold.error.clone(), hold.until);
        draft.plan.report.note(Note::Held {
            error,
            subnet: Some(eni.subnet.clone()),
            kind: None,
            until,
        });
        return false;
    }
    u32::try_from(there.count()).is_ok_and(|n| n < limits.ipv6_per_eni)
}
