//! IPv6 of a node: whether pods have a prefix, and whether EC2 would give one. By the model's books, not by the
//! planner's.

use super::books::Eni;
use crate::world::World;
use ipam_core::{Block, BlockState, Family, Phase};
use vpc_model::response::InstanceType;

/// Whether EC2 would give the primary ENI a prefix now, if it was asked.
pub(super) fn grows(
    world: &World,
    kind: &InstanceType,
    first: &Eni,
    record: Option<&ipam_core::Eni>,
) -> bool {
    let subnets = world.vpc().subnets();
    let subnet = subnets.iter().find(|s| s.id.as_str() == first.subnet);
    // A prefix is a slot, as an address of the node's own is; a /64 holds more of them than all nodes take.
    let own = first.own.iter().filter(|ip| ip.is_ipv6()).count();
    let held = first.blocks.iter().filter(|net| net.addr().is_ipv6());
    let taken = super::room::count(own + held.count());
    let room = kind.has_prefixes() && taken < kind.ipv6_per_eni;
    room && subnet.is_some_and(|s| s.v6_cidr.is_some()) && record.is_some_and(asks)
}

/// Whether the daemon may ask for one: nothing that it knows of is in the way.
fn asks(record: &ipam_core::Eni) -> bool {
    let six = |(block, state): (&Block, &BlockState)| {
        block.family() == Family::V6 && *state != BlockState::Lost
    };
    let stays = matches!(record.phase, Phase::Attached | Phase::Ready);
    stays && !record.excluded && record.unmanaged.is_none() && !record.blocks.iter().any(six)
}
