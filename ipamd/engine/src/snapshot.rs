//! The pool for people and tools.

use crate::api::{BlockSnapshot, Counters, EniSnapshot, Limits, Snapshot, Status, Totals};
use ipam_core::datastore::Datastore;
use ipam_core::plan::Report;
use ipam_core::{Block, BlockState, Eni, Family, Lease, Timestamp};
use std::net::IpAddr;

/// A picture of now; the sums are of this family.
pub(crate) fn snapshot(
    store: &Datastore,
    family: Family,
    report: &Report,
    status: Status,
    parked: usize,
    now: Timestamp,
) -> Snapshot {
    let tally = store.tally(family, now);
    let mut enis: Vec<&Eni> = store.enis().values().collect();
    enis.sort_by_key(|e| (e.card, e.device_index, e.handle));
    Snapshot {
        at: now,
        status,
        enis: enis
            .into_iter()
            .map(|eni| eni_snapshot(store, eni, now))
            .collect(),
        totals: Totals {
            addresses: tally.addresses,
            used: tally.used,
            free: tally.free(),
            cooling: tally.cooling,
            held: tally.held + tally.unsettled,
        },
        report: report.notes.iter().map(ToString::to_string).collect(),
        notes: report.notes.clone(),
        parked,
        // The owner's to fill in.
        limits: Limits::default(),
        holds: Vec::new(),
        counters: Counters::default(),
    }
}

fn eni_snapshot(store: &Datastore, eni: &Eni, now: Timestamp) -> EniSnapshot {
    let tally = store.tally(Family::V4, now);
    let block = |(block, state): (&Block, &BlockState)| {
        let counts = tally.of(block);
        let busy = counts.used + counts.cooling + counts.held + counts.unsettled;
        BlockSnapshot {
            block: block.to_string(),
            state: *state,
            used: leased_in(store, block),
            free: block.capacity().saturating_sub(busy),
            cooling: counts.cooling,
            held: counts.held + counts.unsettled,
        }
    };
    EniSnapshot {
        id: eni
            .id
            .as_ref()
            .map_or_else(|| format!("#{}", eni.handle.0), ToString::to_string),
        device_index: eni.device_index,
        card: eni.card,
        primary: eni.primary,
        address: eni.address.map(|net| net.addr().to_string()),
        subnet: eni.subnet.to_string(),
        excluded: eni.excluded,
        phase: eni.phase,
        unmanaged: eni.unmanaged,
        in_doubt_since: eni.in_doubt_since,
        blocks: eni.blocks.iter().map(block).collect(),
    }
}

fn leased_in(store: &Datastore, block: &Block) -> Vec<(IpAddr, String)> {
    let name = |lease: &Lease| {
        if lease.pod.name.is_empty() {
            lease.key.container_id.clone()
        } else {
            format!("{}/{}", lease.pod.namespace, lease.pod.name)
        }
    };
    let mut used: Vec<(IpAddr, String)> = store
        .leases()
        .values()
        .flat_map(|l| l.addresses.iter().map(move |ip| (*ip, l)))
        .filter(|(ip, _)| block.contains(*ip))
        .map(|(ip, lease)| (ip, name(lease)))
        .collect();
    used.sort();
    used
}
