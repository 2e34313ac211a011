//! Who is at a place on a network card: two ENIs can't be at one.

use super::{Drift, attached_as_we_know, is_witnessed, lose_eni, lost_already};
use crate::datastore::Datastore;
use crate::plan::{CONSISTENCY, Memory};
use crate::{Eni, EniHandle, EniView, Phase, Timestamp};
use alloc::vec::Vec;
use mutant::mutant;

/// Whether an ENI can be where EC2 shows it. Two can't be at one place: another one that we have
/// there and that EC2 does not show is gone, unless it came there by a write that this Describe may
/// lag behind.
pub(super) fn place_is_free(
    store: &mut Datastore,
    memory: &Memory,
    views: &[EniView],
    view: &EniView,
    begun: Timestamp,
    drift: &mut Vec<Drift>,
) -> bool {
    let Some(place) = view.attachment.as_ref().map(|a| (a.card, a.device_index)) else {
        return true;
    };
    let shown = |eni: &Eni| views.iter().any(|v| Some(&v.id) == eni.id.as_ref());
    let other = store.enis().values().find(|e| {
        e.id.as_ref() != Some(&view.id)
            && (e.card, e.device_index) == place
            && matches!(e.phase, Phase::Attached | Phase::Ready)
            && !shown(e)
    });
    let Some(other) = other else {
        return true;
    };
    if begun < other.written_at + CONSISTENCY || is_witnessed(store, memory, other) {
        return false;
    }
    let handle = other.handle;
    mutant!(
        "describe/one-eni-per-place",
        lose_eni(store, handle, drift),
        ()
    );
    true
}

/// EC2 has just attached this ENI at its place: another one that we have there, by a Describe that
/// lagged or by IMDS, is gone.
pub(crate) fn has_its_place(store: &mut Datastore, handle: EniHandle, drift: &mut Vec<Drift>) {
    let Some(place) = store.eni(handle).map(|e| (e.card, e.device_index)) else {
        return;
    };
    let there = |e: &&Eni| (e.card, e.device_index) == place && attached_as_we_know(e);
    let known = store.enis().values().filter(there);
    let others: Vec<EniHandle> = known
        .filter(|e| e.handle != handle && !lost_already(store, e))
        .map(|e| e.handle)
        .collect();
    for other in others {
        mutant!("attach/has-its-place", lose_eni(store, other, drift), ());
    }
}

/// Whether an ENI that we know is where IMDS shows this one.
pub(super) fn place_is_taken(store: &Datastore, view: &EniView) -> bool {
    let Some(at) = &view.attachment else {
        return false;
    };
    store
        .enis()
        .values()
        .any(|e| (e.card, e.device_index) == (at.card, at.device_index) && attached_as_we_know(e))
}
