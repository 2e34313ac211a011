//! One file per group of EC2 actions. Each call checks all, then does all: an error changes
//! nothing.

mod assign;
mod attach;
mod create;
mod describe;
mod describe_enis;
mod fields;
mod modify;
mod not_found;
mod tags;
mod wanted;

use crate::admission::Caller;
use crate::error::ApiError;
use crate::request::{Action, Request};
use crate::response::Response;
use crate::time::Time;
use crate::vpc::Vpc;
use std::time::Duration;

impl Vpc {
    /// Permission, dry run, then the work. `lag` is how old a view Describe calls have.
    pub(crate) fn dispatch(
        &mut self,
        caller: &Caller,
        request: &Request,
        now: Time,
        lag: Duration,
    ) -> Result<Response, ApiError> {
        self.authorize(caller, &request.action)?;
        if request.dry_run {
            return Err(ApiError::dry_run());
        }
        match &request.action {
            Action::CreateNetworkInterface(r) => self.create_eni(caller, r, now),
            Action::AttachNetworkInterface(r) => self.attach_eni(r, now),
            Action::DetachNetworkInterface(r) => self.detach_eni(r, now),
            Action::DeleteNetworkInterface(r) => self.delete_eni(r, now),
            Action::ModifyNetworkInterfaceAttribute(r) => self.modify_eni(r, now),
            Action::AssignPrivateIpAddresses(r) => self.assign_v4(r, now),
            Action::UnassignPrivateIpAddresses(r) => self.unassign_v4(r, now),
            Action::AssignIpv6Addresses(r) => self.assign_v6(r, now),
            Action::UnassignIpv6Addresses(r) => self.unassign_v6(r, now),
            Action::CreateTags(r) => self.create_tags(r, now),
            Action::DeleteTags(r) => self.delete_tags(r, now),
            Action::DescribeNetworkInterfaces(by) => self.describe_enis(by, now.back(lag)),
            Action::DescribeInstances(by) => self.describe_instances(by, now.back(lag)),
            Action::DescribeSubnets(by) => self.describe_subnets(by, now.back(lag)),
            Action::DescribeVpcs(by) => self.describe_vpcs(by),
            Action::DescribeRouteTables(by) => self.describe_route_tables(by),
            Action::DescribeSecurityGroups { by, names } => self.describe_groups(by, names),
            Action::DescribeInstanceTypes(by) => self.describe_types(by),
            Action::DescribeAvailabilityZones { by, zone_ids } => self.describe_zones(by, zone_ids),
            Action::DescribeTags(by) => self.describe_tags(by, now.back(lag)),
        }
    }
}
