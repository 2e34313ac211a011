//! From form to request, by action.

mod describe;
mod enis;

use super::form::Form;
use vpc_model::request::Action;
use vpc_model::{ApiError, Request};

/// Every action of the API, so that a real one that is not simulated is told from nonsense.
const REAL: &str = include_str!("../actions.txt");

pub(super) fn request(name: &str, form: &Form) -> Result<Request, ApiError> {
    let dry_run = form.flag("DryRun")?.unwrap_or(false);
    let action = action(name, form)?;
    form.check_all_read()?;
    Ok(Request { dry_run, action })
}

fn action(name: &str, form: &Form) -> Result<Action, ApiError> {
    match name {
        "CreateNetworkInterface" => enis::create(form),
        "AttachNetworkInterface" => enis::attach(form),
        "DetachNetworkInterface" => enis::detach(form),
        "DeleteNetworkInterface" => enis::delete(form),
        "ModifyNetworkInterfaceAttribute" => enis::modify(form),
        "AssignPrivateIpAddresses" => enis::assign_v4(form),
        "UnassignPrivateIpAddresses" => enis::unassign_v4(form),
        "AssignIpv6Addresses" => enis::assign_v6(form),
        "UnassignIpv6Addresses" => enis::unassign_v6(form),
        "CreateTags" => enis::create_tags(form),
        "DeleteTags" => enis::delete_tags(form),
        "DescribeNetworkInterfaces" => describe::enis(form),
        "DescribeInstances" => describe::instances(form),
        "DescribeSubnets" => describe::subnets(form),
        "DescribeVpcs" => describe::vpcs(form),
        "DescribeRouteTables" => describe::route_tables(form),
        "DescribeSecurityGroups" => describe::groups(form),
        "DescribeInstanceTypes" => describe::types(form),
        "DescribeAvailabilityZones" => describe::zones(form),
        "DescribeTags" => describe::tags(form),
        "" => Err(ApiError::new(
            "MissingAction",
            "The request is missing an action parameter",
        )),
        real if REAL.lines().any(|line| line == real) => Err(ApiError::new(
            "UnsupportedOperation",
            format!("The operation {real} is not simulated by vpc-sim"),
        )),
        // *recorded*.
        _ => Err(ApiError::new(
            "InvalidAction",
            format!("The action {name} is not valid for this web service."),
        )),
    }
}
