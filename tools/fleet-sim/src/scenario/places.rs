//! Where a node's pool may grow and what of it counts, by what people wrote to the subnets' tags: by
//! readings of its own, not by the planner's.

use super::ground::{KEPT_FOR, ROLE_TAG};
use super::operator;
use crate::oracle::Eni;
use crate::world::World;
use ipam_core::plan::Subnets;
use vpc_model::Response;
use vpc_model::request::{Action, CreateNetworkInterface, DeleteNetworkInterface, WantedV4};
use vpc_model::response::Subnet;

/// Whether a subnet is kept from these pods by its tags.
fn keeps_out(subnet: &Subnet, cluster: Option<&str>) -> bool {
    let role = subnet.tags.get(ROLE_TAG).map(String::as_str);
    let keys = subnet.tags.keys();
    let kept: Vec<&str> = keys.filter_map(|k| k.strip_prefix(KEPT_FOR)).collect();
    match role {
        None | Some("") => false,
        Some("0") => true,
        Some(_) => !kept.is_empty() && !kept.iter().any(|name| Some(*name) == cluster),
    }
}

/// Whether an ENI's addresses are pods' to have.
pub(super) fn counts(world: &World, settings: &Subnets, eni: &Eni) -> bool {
    let Subnets::Tagged { cluster } = settings else {
        return true;
    };
    let subnets = world.vpc().subnets();
    let its = subnets.iter().find(|s| s.id.as_str() == eni.subnet);
    !its.is_some_and(|s| keeps_out(s, cluster.as_deref()))
}

/// Subnets in which a new ENI may be made.
pub(crate) fn admitted(world: &World, settings: &Subnets, primary: &Eni) -> Vec<String> {
    let subnets = world.vpc().subnets();
    let Some(own) = subnets.iter().find(|s| s.id.as_str() == primary.subnet) else {
        return Vec::new();
    };
    let here = subnets.iter().filter(|s| s.zone == own.zone);
    let fits = |s: &&Subnet| match settings {
        Subnets::Primary => s.id == own.id,
        Subnets::Listed(ids) => ids.iter().any(|id| id.as_str() == s.id.as_str()),
        Subnets::Tagged { cluster } => {
            let tagged = s.tags.get(ROLE_TAG).is_some_and(|role| !role.is_empty());
            !keeps_out(s, cluster.as_deref()) && (tagged || s.id == own.id)
        }
    };
    here.filter(fits)
        .map(|s| s.id.as_str().to_owned())
        .collect()
}

/// Whether a subnet could give an ENI with one address: tried, by hand.
pub(super) fn gives(world: &World, subnet: &str) -> bool {
    let request = CreateNetworkInterface {
        subnet: Some(subnet.into()),
        v4: WantedV4 {
            address_count: Some(1),
            ..WantedV4::default()
        },
        ..CreateNetworkInterface::default()
    };
    let answer = operator::call(world, Action::CreateNetworkInterface(request));
    let Ok(Response::Created { eni, .. }) = answer else {
        return false;
    };
    let request = DeleteNetworkInterface { eni: eni.id };
    operator::call(world, Action::DeleteNetworkInterface(request)).is_ok()
}
