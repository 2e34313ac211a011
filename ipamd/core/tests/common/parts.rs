//! What several stories begin with.

use super::{World, key};
use ipam_core::datastore::{Datastore, Request};
use ipam_core::*;
use std::net::IpAddr;

/// An ENI that somebody attached by hand, at the first place that is not the primary one's.
pub fn by_hand(world: &World, block: Block, unmanaged: Option<Unmanaged>) -> EniView {
    EniView {
        id: EniId("eni-by-hand".into()),
        mac: Mac([2, 0, 0, 0, 9, 9]),
        attachment: Some(AttachmentView {
            id: Some("attach-by-hand".into()),
            device_index: 1,
            card: 0,
            delete_on_termination: Some(true),
        }),
        subnet: world.subnet.clone(),
        address: "10.0.99.9/16".parse().ok(),
        blocks: vec![block],
        unmanaged,
        ours: false,
    }
}

/// What pod `n` gets of the pool, if there is something.
pub fn lease(store: &mut Datastore, n: u32, now: Timestamp) -> Option<IpAddr> {
    let (key, pod) = (key(n), PodRef::default());
    let request = Request {
        key: &key,
        pod: &pod,
        families: &[Family::V4],
        local: None,
        veth_prefix: "eni",
        prefixes: false,
    };
    let lease = store.assign(&request, now).ok()?;
    Some(lease.addresses[0])
}
