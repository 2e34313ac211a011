//! Which record must be on the disk before a call is sent.

use crate::store::Memory;
use ipam_core::{Family, Intent, Phase};
use vpc_model::request::{Action, EniAttribute, UnassignIpv6Addresses, UnassignPrivateIpAddresses};

/// The ENI that a call gives blocks to, and their family.
pub(crate) fn grows(action: &Action) -> Option<(&str, Family)> {
    match action {
        Action::AssignPrivateIpAddresses(r) => Some((r.eni.as_str(), Family::V4)),
        Action::AssignIpv6Addresses(r) => Some((r.eni.as_str(), Family::V6)),
        _ => None,
    }
}

/// Words for the record that a write needs and the disk lacks.
pub(super) fn missing_intent(disk: &Memory, action: &Action) -> Option<&'static str> {
    let on = |eni: &str, what: &dyn Fn(&Intent) -> bool| {
        disk.any_eni(|e| {
            e.id.as_ref().is_some_and(|id| id.as_str() == eni)
                && e.intent.as_ref().is_some_and(what)
        })
    };
    let (there, words) = match action {
        Action::CreateNetworkInterface(r) => {
            let token = r.client_token.as_deref();
            let is = |i: &Intent| matches!(i, Intent::Create { token: t, .. } if Some(t.as_str()) == token);
            (
                disk.any_eni(|e| e.intent.as_ref().is_some_and(is)),
                "the intent of this token",
            )
        }
        Action::AttachNetworkInterface(r) => (
            on(r.eni.as_str(), &|i| *i == Intent::Attach),
            "the intent to attach",
        ),
        Action::ModifyNetworkInterfaceAttribute(r)
            if matches!(r.attribute, Some(EniAttribute::DeleteOnTermination { .. })) =>
        {
            let is = |i: &Intent| *i == Intent::SetDeleteOnTermination;
            (on(r.eni.as_str(), &is), "the intent to modify")
        }
        Action::UnassignPrivateIpAddresses(UnassignPrivateIpAddresses { eni, .. })
        | Action::UnassignIpv6Addresses(UnassignIpv6Addresses { eni, .. }) => {
            let is = |i: &Intent| matches!(i, Intent::Unassign { .. });
            (on(eni.as_str(), &is), "the intent to unassign")
        }
        Action::DetachNetworkInterface(r) => (
            disk.any_eni(|e| {
                e.attachment.as_deref() == Some(r.attachment.as_str())
                    && e.phase == Phase::Leaving
                    && e.intent == Some(Intent::Detach)
            }),
            "the intent to detach",
        ),
        Action::DeleteNetworkInterface(r) => {
            // The sweep deletes what nobody remembers: that needs no intent.
            let known = disk.any_eni(|e| {
                e.id.as_ref()
                    .is_some_and(|id| id.as_str() == r.eni.as_str())
            });
            (
                !known || on(r.eni.as_str(), &|i| *i == Intent::Delete),
                "the intent to delete",
            )
        }
        _ => {
            let is = |i: &Intent| matches!(i, Intent::Assign { .. });
            let there = grows(action).is_none_or(|(eni, _)| on(eni, &is));
            (there, "the intent to assign")
        }
    };
    (!there).then_some(words)
}
