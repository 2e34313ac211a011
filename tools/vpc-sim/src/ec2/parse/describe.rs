//! Calls that list.

use crate::ec2::form::Form;
use vpc_model::ApiError;
use vpc_model::request::{Action, Describe, Filter};

/// Ids, filters and paging, which all lists share.
fn by<I: for<'a> From<&'a str>>(form: &Form, ids: &str) -> Result<Describe<I>, ApiError> {
    // Nothing here is managed by a service.
    form.ignore("IncludeManagedResources");
    Ok(Describe {
        ids: form.list(ids).into_iter().map(I::from).collect(),
        filters: filters(form)?,
        max_results: form.number("MaxResults")?,
        next_token: form
            .text("NextToken")
            .filter(|t| !t.is_empty())
            .map(str::to_owned),
    })
}

fn filters(form: &Form) -> Result<Vec<Filter>, ApiError> {
    let mut all = Vec::new();
    for member in form.members("Filter") {
        let name = form
            .text(&format!("{member}.Name"))
            .unwrap_or_default()
            .to_owned();
        let values = form
            .list(&format!("{member}.Value"))
            .into_iter()
            .map(str::to_owned)
            .collect();
        all.push(Filter { name, values });
    }
    Ok(all)
}

pub(super) fn enis(form: &Form) -> Result<Action, ApiError> {
    by(form, "NetworkInterfaceId").map(Action::DescribeNetworkInterfaces)
}

pub(super) fn instances(form: &Form) -> Result<Action, ApiError> {
    by(form, "InstanceId").map(Action::DescribeInstances)
}

pub(super) fn subnets(form: &Form) -> Result<Action, ApiError> {
    by(form, "SubnetId").map(Action::DescribeSubnets)
}

pub(super) fn vpcs(form: &Form) -> Result<Action, ApiError> {
    by(form, "VpcId").map(Action::DescribeVpcs)
}

pub(super) fn route_tables(form: &Form) -> Result<Action, ApiError> {
    by(form, "RouteTableId").map(Action::DescribeRouteTables)
}

pub(super) fn groups(form: &Form) -> Result<Action, ApiError> {
    let names = form
        .list("GroupName")
        .into_iter()
        .map(str::to_owned)
        .collect();
    Ok(Action::DescribeSecurityGroups {
        by: by(form, "GroupId")?,
        names,
    })
}

pub(super) fn types(form: &Form) -> Result<Action, ApiError> {
    form.ignore("IncludeUnsupportedInRegion");
    by(form, "InstanceType").map(Action::DescribeInstanceTypes)
}

pub(super) fn zones(form: &Form) -> Result<Action, ApiError> {
    form.ignore("AllAvailabilityZones");
    let zone_ids = form.list("ZoneId").into_iter().map(str::to_owned).collect();
    Ok(Action::DescribeAvailabilityZones {
        by: by(form, "ZoneName")?,
        zone_ids,
    })
}

/// DescribeTags takes no ids.
pub(super) fn tags(form: &Form) -> Result<Action, ApiError> {
    by(form, "").map(Action::DescribeTags)
}
