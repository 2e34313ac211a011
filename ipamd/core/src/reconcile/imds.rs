//! What IMDS says of ENIs: it takes nothing away from what EC2 has named, and gives cause to ask EC2.

use super::place::place_is_taken;
use super::take_eni;
use crate::datastore::Datastore;
use crate::plan::Memory;
use crate::{Eni, EniHandle, EniId, EniView, Timestamp, Unmanaged};
use alloc::vec::Vec;
use mutant::mutant;

/// Takes IMDS's word on ENIs in: one that nobody knows is asked of EC2, and left alone until EC2 names it.
/// It keeps its place and its slot; nothing on it is changed.
pub fn learn_from_metadata(
    store: &mut Datastore,
    memory: &mut Memory,
    views: &[EniView],
    now: Timestamp,
) {
    for view in views {
        if memory.deleted.contains_key(&view.id) {
            continue;
        }
        match store.eni_by_id(&view.id).map(|e| (e.handle, e.address)) {
            None => meet(store, memory, view, now),
            Some((handle, None)) if view.address.is_some() => {
                if let Some(eni) = store.eni_mut(handle) {
                    eni.address = view.address;
                }
            }
            Some(_) => {}
        }
    }
    let shown = |id: &EniId| views.iter().any(|view| view.id == *id);
    memory
        .strangers
        .retain(|id, _| shown(id) && store.eni_by_id(id).is_none());
    let unnamed = store.enis().values().filter(|e| is_unnamed(e));
    let gone =
        unnamed.filter(|e| !e.id.as_ref().is_some_and(shown) && store.leases_on(e.handle) == 0);
    for handle in gone.map(|e| e.handle).collect::<Vec<EniHandle>>() {
        mutant!("imds/stranger-goes", store.remove_eni(handle), ());
    }
    store.recount();
}

/// One that IMDS shows and nobody knows.
fn meet(store: &mut Datastore, memory: &mut Memory, view: &EniView, now: Timestamp) {
    let first = *memory.strangers.entry(view.id.clone()).or_insert(now);
    // IMDS may show a dead one for minutes: EC2 is asked before it is believed to have a place.
    let asked = memory.described.is_some_and(|at| at > first);
    if mutant!(
        "imds/adds-nothing-until-ec2-was-asked",
        memory.known && !asked || place_is_taken(store, view),
        place_is_taken(store, view)
    ) {
        memory.look = true;
        return;
    }
    let stranger = EniView {
        unmanaged: mutant!(
            "imds/alone-is-left-alone",
            Some(Unmanaged::NotNamed),
            view.unmanaged
        ),
        ..view.clone()
    };
    take_eni(store, &stranger, &mut Vec::new(), now, now);
}

pub(super) fn is_unnamed(eni: &Eni) -> bool {
    eni.unmanaged == Some(Unmanaged::NotNamed)
}
