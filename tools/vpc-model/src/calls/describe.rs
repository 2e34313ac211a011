//! The other Describe calls.

use super::fields::{GROUP_FILTERS, INSTANCE_FILTERS, SUBNET_FILTERS, TAG_FILTERS, TYPE_FILTERS};
use super::fields::{ROUTE_TABLE_FILTERS, VPC_FILTERS, ZONE_FILTERS};
use super::not_found::{GROUP, INSTANCE, ROUTE_TABLE, SUBNET, VPC};
use super::sight::Sight;
use crate::calls::filter::{Filtered, check, matches};
use crate::calls::paging::{Rules, cut};
use crate::state::State;
use crate::views::{group_view, instance_view, route_table_view, subnet_view, vpc_view};
use crate::words::error::ApiError;
use crate::words::ids::{GroupId, InstanceId, SubnetId, VpcId};
use crate::words::request::{Describe, Filter, Tags};
use crate::words::response::{Instance, InstanceType, Response, TagItem, Zone};
use crate::words::time::Time;

pub(crate) fn describe_instances(
    state: &State,
    by: &Describe<InstanceId>,
    then: Time,
) -> Result<Response, ApiError> {
    const PAGING: Rules = Rules::new("instancesSet", 1000);
    PAGING.check(by)?;
    check(&by.filters, |name| INSTANCE_FILTERS.contains(&name))?;
    INSTANCE.require(&by.ids, |id| state.instances.contains_key(id))?;
    let named = state
        .instances
        .values()
        .filter(|i| by.ids.is_empty() || by.ids.contains(&i.id));
    let all: Vec<Instance> = named.map(|i| instance_view(state, i, then)).collect();
    let items = filtered(all, &by.filters)?;
    Ok(Response::Instances(cut(&PAGING, by, items, |i| {
        i.id.as_str()
    })?))
}

pub(crate) fn describe_subnets(
    state: &State,
    by: &Describe<SubnetId>,
    sight: &Sight,
) -> Result<Response, ApiError> {
    const PAGING: Rules = Rules::new("subnetIds", 1000).with_ids();
    PAGING.check(by)?;
    check(&by.filters, |name| SUBNET_FILTERS.contains(&name))?;
    let seen = |id: &str| {
        let primary = || state.instances.values().any(|i| i.subnet.as_str() == id);
        !sight.lacks(id, primary)
    };
    SUBNET.require(&by.ids, |id| state.subnets.contains_key(id) && seen(id))?;
    let named = state
        .subnets
        .values()
        .filter(|s| by.ids.is_empty() || by.ids.contains(&s.id))
        .filter(|s| seen(s.id.as_str()));
    let items = filtered(
        named.map(|s| subnet_view(state, s, sight.then)).collect(),
        &by.filters,
    )?;
    Ok(Response::Subnets(cut(&PAGING, by, items, |s| {
        s.id.as_str()
    })?))
}

pub(crate) fn describe_vpcs(state: &State, by: &Describe<VpcId>) -> Result<Response, ApiError> {
    const PAGING: Rules = Rules::new("vpcIds", 1000).with_ids();
    PAGING.check(by)?;
    check(&by.filters, |name| VPC_FILTERS.contains(&name))?;
    VPC.require(&by.ids, |id| id == state.id.as_str())?;
    let items = filtered(vec![vpc_view(state)], &by.filters)?;
    Ok(Response::Vpcs(cut(&PAGING, by, items, |v| v.id.as_str())?))
}

pub(crate) fn describe_route_tables(
    state: &State,
    by: &Describe<String>,
) -> Result<Response, ApiError> {
    const PAGING: Rules = Rules::new("routeTableIds", 100).with_ids();
    PAGING.check(by)?;
    check(&by.filters, |name| ROUTE_TABLE_FILTERS.contains(&name))?;
    let table = route_table_view(state);
    ROUTE_TABLE.require(&by.ids, |id| id == table.id)?;
    let items = filtered(vec![table], &by.filters)?;
    Ok(Response::RouteTables(cut(&PAGING, by, items, |t| {
        t.id.as_str()
    })?))
}

pub(crate) fn describe_groups(
    state: &State,
    by: &Describe<GroupId>,
    names: &[String],
) -> Result<Response, ApiError> {
    const PAGING: Rules = Rules::new("groupIds", 1000).with_ids();
    PAGING.check(by)?;
    check(&by.filters, |name| GROUP_FILTERS.contains(&name))?;
    GROUP.require(&by.ids, |id| state.groups.contains_key(id))?;
    if let Some(name) = names
        .iter()
        .find(|n| !state.groups.values().any(|g| g.name == **n))
    {
        let text = format!("The security group '{name}' does not exist");
        return Err(ApiError::new("InvalidGroup.NotFound", text));
    }
    let all = by.ids.is_empty() && names.is_empty();
    let named = state
        .groups
        .values()
        .filter(|g| all || by.ids.contains(&g.id) || names.contains(&g.name));
    let items = filtered(named.map(|g| group_view(state, g)).collect(), &by.filters)?;
    Ok(Response::Groups(cut(&PAGING, by, items, |g| {
        g.id.as_str()
    })?))
}

pub(crate) fn describe_types(state: &State, by: &Describe<String>) -> Result<Response, ApiError> {
    // *documented*: 5 to 100.
    const PAGING: Rules = Rules::new("instanceTypes", 100).with_ids();
    PAGING.check(by)?;
    check(&by.filters, |name| TYPE_FILTERS.contains(&name))?;
    let unknown: Vec<&str> = by
        .ids
        .iter()
        .map(String::as_str)
        .filter(|name| state.catalog.get(name).is_none())
        .collect();
    if !unknown.is_empty() {
        // *recorded*.
        let list = unknown.join(", ");
        let text = format!("The following supplied instance types do not exist: [{list}]");
        return Err(ApiError::new("InvalidInstanceType", text));
    }
    let types: Vec<InstanceType> = if by.ids.is_empty() {
        state.catalog.iter().cloned().collect()
    } else {
        by.ids
            .iter()
            .filter_map(|name| state.catalog.get(name).cloned())
            .collect()
    };
    let mut items = filtered(types, &by.filters)?;
    items.sort_by(|a, b| a.name.cmp(&b.name));
    items.dedup_by(|a, b| a.name == b.name);
    Ok(Response::InstanceTypes(cut(&PAGING, by, items, |t| {
        t.name.as_str()
    })?))
}

pub(crate) fn describe_zones(
    state: &State,
    by: &Describe<String>,
    zone_ids: &[String],
) -> Result<Response, ApiError> {
    check(&by.filters, |name| ZONE_FILTERS.contains(&name))?;
    let region = &state.spec.region;
    let mut zones: Vec<Zone> = state
        .subnets
        .values()
        .map(|s| Zone {
            name: s.zone.clone(),
            id: s.zone_id.clone(),
            region: region.clone(),
        })
        .collect();
    zones.sort_by(|a, b| a.name.cmp(&b.name));
    zones.dedup();
    let known = |name: &String| zones.iter().any(|z| z.name == *name || z.id == *name);
    if let Some(name) = by.ids.iter().chain(zone_ids).find(|n| !known(n)) {
        let text = format!("Invalid availability zone: [{name}]");
        return Err(ApiError::value(text));
    }
    zones.retain(|z| by.ids.is_empty() || by.ids.contains(&z.name));
    zones.retain(|z| zone_ids.is_empty() || zone_ids.contains(&z.id));
    Ok(Response::Zones(filtered(zones, &by.filters)?))
}

pub(crate) fn describe_tags(
    state: &State,
    by: &Describe<String>,
    then: Time,
) -> Result<Response, ApiError> {
    const PAGING: Rules = Rules::new("resources", 1000).with_ids();
    PAGING.check(by)?;
    check(&by.filters, |name| TAG_FILTERS.contains(&name))?;
    let mut items: Vec<(String, TagItem)> = Vec::new();
    let mut add = |resource: &str, resource_type: &'static str, tags: &Tags| {
        for (key, value) in tags {
            let (key, value) = (key.clone(), value.clone());
            let order = format!("{key}\0{resource}");
            items.push((
                order,
                TagItem {
                    resource: resource.to_owned(),
                    resource_type,
                    key,
                    value,
                },
            ));
        }
    };
    add(state.id.as_str(), "vpc", &state.tags);
    state
        .enis
        .all_at(then)
        .iter()
        .filter(|e| e.owner.is_none())
        .for_each(|e| add(e.id.as_str(), "network-interface", &e.tags));
    state
        .instances
        .values()
        .for_each(|i| add(i.id.as_str(), "instance", &i.tags));
    state
        .subnets
        .values()
        .for_each(|s| add(s.id.as_str(), "subnet", &s.tags));
    state
        .groups
        .values()
        .for_each(|g| add(g.id.as_str(), "security-group", &g.tags));
    items.sort_by(|a, b| a.0.cmp(&b.0));
    let mut kept = Vec::new();
    for item in items {
        if matches(&item.1, &by.filters)? {
            kept.push(item);
        }
    }
    let page = cut(&PAGING, by, kept, |(order, _)| order.as_str())?;
    let items = page.items.into_iter().map(|(_, item)| item).collect();
    Ok(Response::Tags(crate::words::response::Page {
        items,
        next_token: page.next_token,
    }))
}

fn filtered<T: Filtered>(all: Vec<T>, filters: &[Filter]) -> Result<Vec<T>, ApiError> {
    let mut kept = Vec::new();
    for thing in all {
        if matches(&thing, filters)? {
            kept.push(thing);
        }
    }
    Ok(kept)
}
