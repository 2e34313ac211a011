//! The check itself: what is broken on purpose is seen.

use super::{Violation, check};
use crate::datastore::Datastore;
use crate::{
    AttachmentKey, Block, BlockState, Eni, EniHandle, Lease, Mac, Phase, PodRef, Timestamp,
};
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;
use core::net::IpAddr;

const NOW: Timestamp = Timestamp(1_000_000);

fn eni(n: u64) -> Eni {
    Eni {
        handle: EniHandle(n),
        id: Some(format!("eni-{n}").as_str().into()),
        mac: None,
        primary: n == 0,
        device_index: u32::try_from(n).unwrap_or(0),
        card: 0,
        subnet: "subnet-1".into(),
        address: None,
        attachment: None,
        delete_on_termination: false,
        phase: Phase::Ready,
        unmanaged: None,
        ours: n > 0,
        excluded: false,
        blocks: BTreeMap::new(),
        intent: None,
        in_doubt_since: None,
        written_at: NOW,
        since: NOW,
    }
}

fn address() -> IpAddr {
    IpAddr::from([10, 0, 0, 17])
}

fn block() -> Block {
    Block::prefix_of(address())
}

fn lease(container_id: &str) -> Lease {
    Lease {
        key: AttachmentKey {
            network: "n".into(),
            container_id: container_id.into(),
            if_name: "eth0".into(),
        },
        pod: PodRef::default(),
        addresses: Vec::from([address()]),
        host_if: "eni1".into(),
        host_mac: Mac([2; 6]),
        pod_mac: Mac([6; 6]),
        since: NOW,
    }
}

/// Two ENIs, a block on the first, a lease in it; and then what `broken` does to it.
fn found(broken: impl Fn(&mut Datastore)) -> Vec<Violation> {
    let mut store = Datastore::default();
    let mut first = eni(0);
    first.blocks.insert(block(), BlockState::Confirmed);
    store.insert_eni(first);
    store.insert_eni(eni(1));
    store.insert_lease(lease("a"));
    assert_eq!(check(&store, NOW), []);
    broken(&mut store);
    check(&store, NOW)
}

#[test]
fn two_leases_of_one_address_are_seen() {
    let found = found(|store| {
        let other = lease("b");
        store.leases.insert(other.key.clone(), other);
    });
    let double = |v: &Violation| matches!(v, Violation::DoubleLease(ip, ..) if *ip == address());
    assert!(found.iter().any(double), "{found:?}");
}

#[test]
fn a_block_on_two_enis_is_seen() {
    for twin in [block(), Block::address(address())] {
        let found = found(|store| {
            if let Some(second) = store.enis.get_mut(&EniHandle(1)) {
                second.blocks.insert(twin, BlockState::Confirmed);
            }
        });
        let overlap = |v: &Violation| matches!(v, Violation::Overlap(..));
        assert!(found.iter().any(overlap), "{found:?}");
    }
}

#[test]
fn a_wrong_count_is_seen() {
    for wrong in [0, 2] {
        let found = found(|store| {
            store.used.insert(block(), wrong);
        });
        assert_eq!(found, [Violation::Count(block(), 1, wrong)]);
    }
}

#[test]
fn two_enis_at_one_place_are_seen() {
    for phase in [Phase::Attached, Phase::Ready] {
        let found = found(|store| {
            if let Some(second) = store.enis.get_mut(&EniHandle(1)) {
                (second.device_index, second.phase) = (0, phase);
            }
        });
        let (first, second) = (EniHandle(0), EniHandle(1));
        assert_eq!(found, [Violation::SamePlace(first, second, 0, 0)]);
    }
}
