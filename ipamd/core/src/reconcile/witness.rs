//! What else speaks for an ENI that EC2 does not name.

use super::{ABSENCE, Drift, Thing, absent, lose_eni};
use crate::datastore::Datastore;
use crate::plan::Memory;
use crate::{Eni, EniHandle, Phase, Timestamp};
use mutant::mutant;

/// Whether pods use an ENI and it is surely or likely there: the kernel has its link, or IMDS shows it. What
/// EC2 leaves out then is more likely an answer that lacks something than an ENI that has gone.
pub(super) fn is_witnessed(store: &Datastore, memory: &Memory, eni: &Eni) -> bool {
    let used =
        store.leases_on(eni.handle) > 0 || eni.blocks.keys().any(|block| store.routes_into(block));
    let linked = eni.phase == Phase::Ready;
    let in_imds = eni
        .id
        .as_ref()
        .is_some_and(|id| memory.in_imds.contains(id));
    mutant!(
        "describe/used-eni-needs-witnesses",
        used && (linked || in_imds),
        false && used
    )
}

/// An ENI that this Describe does not name. It goes when a second one agrees and nothing else speaks for it;
/// what the kernel serves goes on being served until then, and a person is told once.
pub(super) fn unnamed(
    store: &mut Datastore,
    memory: &mut Memory,
    handle: EniHandle,
    begun: Timestamp,
    drift: &mut alloc::vec::Vec<Drift>,
) {
    let Some(eni) = store.eni(handle) else {
        return;
    };
    let thing = Thing::Eni(handle);
    if !is_witnessed(store, memory, eni) {
        if mutant!(
            "describe/gone-eni-goes",
            absent(store, memory, thing, begun),
            false && memory.known
        ) {
            memory.doubted.remove(&handle);
            lose_eni(store, handle, drift);
            // Its address may be in what EC2 has named of others.
            memory.look = true;
        }
        return;
    }
    let first = *memory.missing.entry(thing).or_insert(begun);
    if begun.since(first) >= ABSENCE && memory.doubted.insert(handle) {
        drift.push(Drift::EniDoubted(handle, store.leases_on(handle)));
    }
}
