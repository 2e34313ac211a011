//! The model's ENIs as the daemon's adapter would show them to the engine.

use super::{CREATED_TAG, NO_MANAGE_TAG, OWNER_TAG};
use crate::world::World;
use ipam_core::{AttachmentView, Block, EniView, Mac, Timestamp, Unmanaged};
use ipam_engine::ports::Sighting;
use ipnet::IpNet;
use vpc_model::response::Eni;

/// See [`ModelCloud::view`].
pub(crate) fn view(world: &World, eni: &Eni, instance: &str) -> EniView {
    let no_manage = is_left_alone(eni);
    let subnets = world.vpc().subnets();
    let cidr = subnets.iter().find(|s| s.id == eni.subnet).map(|s| s.cidr);
    // In every other world the primary address is listed among the rest, as IMDS's `local-ipv4s` does:
    // it must not become a pod's by that.
    let listed = !world.seed.is_multiple_of(2);
    let secondary = eni.addresses.iter().filter(|a| listed || !a.primary);
    let blocks = secondary
        .map(|a| Block::address(a.address.into()))
        .chain(
            eni.v4_prefixes
                .iter()
                .map(|p| Block::prefix_of(p.network().into())),
        )
        .chain(
            eni.v6_prefixes
                .iter()
                .map(|p| Block::prefix_of(p.network().into())),
        )
        .collect();
    EniView {
        id: eni.id.as_str().into(),
        mac: Mac(eni.mac.0),
        attachment: eni.attachment.as_ref().map(|a| AttachmentView {
            id: Some(a.id.as_str().to_owned()),
            device_index: a.device_index,
            card: a.card,
            delete_on_termination: Some(a.delete_on_termination),
        }),
        subnet: eni.subnet.as_str().into(),
        address: cidr.and_then(|c| IpNet::new(eni.private_ip.into(), c.prefix_len()).ok()),
        blocks,
        unmanaged: no_manage.then_some(Unmanaged::TaggedNoManage),
        ours: eni
            .tags
            .get(OWNER_TAG)
            .is_some_and(|owner| owner == instance),
    }
}

/// Tagged so that address managers keep away.
fn is_left_alone(eni: &Eni) -> bool {
    eni.tags.get(NO_MANAGE_TAG).is_some_and(|v| v == "true")
}

pub(super) fn sighting(eni: &Eni) -> Option<Sighting> {
    let created = eni.tags.get(CREATED_TAG);
    Some(Sighting {
        id: eni.id.as_str().into(),
        instance: eni.tags.get(OWNER_TAG)?.as_str().into(),
        free: eni.status == "available"
            && eni.description.starts_with("aws-K8S-")
            && !is_left_alone(eni),
        created: created.and_then(|ms| ms.parse().ok()).map(Timestamp),
    })
}
