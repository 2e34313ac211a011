//! Calls: one function for each EC2 action, over the state. Each checks all, then does all: an error
//! changes nothing. Who may call, when, and whether the answer arrives is decided elsewhere.

mod assign;
pub(crate) mod attach;
pub(crate) mod create;
mod describe;
mod describe_enis;
mod fields;
mod filter;
mod modify;
pub(crate) mod not_found;
mod paging;
mod sight;
mod tags;
mod wanted;

use crate::state::State;
use crate::words::caller::Caller;
use crate::words::error::ApiError;
use crate::words::request::Action;
use crate::words::response::Response;
use crate::words::time::Time;
use assign::{assign_v4, assign_v6, unassign_v4, unassign_v6};
use attach::{attach_eni, delete_eni, detach_eni};
use create::create_eni;
use describe::{
    describe_groups, describe_instances, describe_route_tables, describe_subnets, describe_tags,
    describe_types, describe_vpcs, describe_zones,
};
use describe_enis::describe_enis;
use modify::modify_eni;
pub(crate) use sight::Sight;
use tags::{create_tags, delete_tags};

/// Whether this very request has gone well before, by its client token.
pub(crate) fn is_done(state: &State, action: &Action) -> bool {
    matches!(action, Action::CreateNetworkInterface(r) if create::is_done(state, r))
}

/// Does the work of a call that may be done.
pub(crate) fn dispatch(
    state: &mut State,
    caller: &Caller,
    action: &Action,
    now: Time,
    sight: &Sight,
) -> Result<Response, ApiError> {
    match action {
        Action::CreateNetworkInterface(r) => create_eni(state, caller, r, now),
        Action::AttachNetworkInterface(r) => attach_eni(state, r, now),
        Action::DetachNetworkInterface(r) => detach_eni(state, r, now),
        Action::DeleteNetworkInterface(r) => delete_eni(state, r, now),
        Action::ModifyNetworkInterfaceAttribute(r) => modify_eni(state, r, now),
        Action::AssignPrivateIpAddresses(r) => assign_v4(state, r, now),
        Action::UnassignPrivateIpAddresses(r) => unassign_v4(state, r, now),
        Action::AssignIpv6Addresses(r) => assign_v6(state, r, now),
        Action::UnassignIpv6Addresses(r) => unassign_v6(state, r, now),
        Action::CreateTags(r) => create_tags(state, r, now),
        Action::DeleteTags(r) => delete_tags(state, r, now),
        Action::DescribeNetworkInterfaces(by) => describe_enis(state, by, sight),
        Action::DescribeInstances(by) => describe_instances(state, by, sight.then),
        Action::DescribeSubnets(by) => describe_subnets(state, by, sight),
        Action::DescribeVpcs(by) => describe_vpcs(state, by),
        Action::DescribeRouteTables(by) => describe_route_tables(state, by),
        Action::DescribeSecurityGroups { by, names } => describe_groups(state, by, names),
        Action::DescribeInstanceTypes(by) => describe_types(state, by),
        Action::DescribeAvailabilityZones { by, zone_ids } => describe_zones(state, by, zone_ids),
        Action::DescribeTags(by) => describe_tags(state, by, sight.then),
    }
}
