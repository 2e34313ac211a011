//! Requests and answers in a few words, for the audit log.

use crate::words::request::{Action, Describe, EniAttribute, Request, Wanted};
use crate::words::response::Response;
use std::fmt::Display;

/// Parameters in brief. Never parsed by anything.
pub(crate) fn params(request: &Request) -> String {
    let text = match &request.action {
        Action::CreateNetworkInterface(r) => {
            let subnet = r
                .subnet
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            format!("{subnet}{}{}", wanted(&r.v4, "v4"), wanted(&r.v6, "v6"))
        }
        Action::AttachNetworkInterface(r) => {
            format!(
                "{} to {} at {}/{}",
                r.eni,
                r.instance,
                r.card.unwrap_or(0),
                r.device_index
            )
        }
        Action::DetachNetworkInterface(r) => {
            format!("{}{}", r.attachment, if r.force { " force" } else { "" })
        }
        Action::DeleteNetworkInterface(r) => r.eni.to_string(),
        Action::ModifyNetworkInterfaceAttribute(r) => match &r.attribute {
            Some(EniAttribute::DeleteOnTermination { value, .. }) => {
                format!("{} delete-on-termination={value}", r.eni)
            }
            Some(EniAttribute::Tracking(_)) => format!("{} connection-tracking", r.eni),
            Some(EniAttribute::Description(_)) => format!("{} description", r.eni),
            Some(EniAttribute::Groups(groups)) => format!("{} groups={}", r.eni, list(groups)),
            Some(EniAttribute::SourceDestCheck(on)) => format!("{} source-dest-check={on}", r.eni),
            None => r.eni.to_string(),
        },
        Action::AssignPrivateIpAddresses(r) => format!("{}{}", r.eni, wanted(&r.wanted, "v4")),
        Action::AssignIpv6Addresses(r) => format!("{}{}", r.eni, wanted(&r.wanted, "v6")),
        Action::UnassignPrivateIpAddresses(r) => {
            format!("{} {} {}", r.eni, list(&r.addresses), list(&r.prefixes))
        }
        Action::UnassignIpv6Addresses(r) => {
            format!("{} {} {}", r.eni, list(&r.addresses), list(&r.prefixes))
        }
        Action::CreateTags(r) => {
            let keys: Vec<&String> = r.tags.keys().collect();
            format!("{} {}", list(&r.resources), list(&keys))
        }
        Action::DeleteTags(r) => list(&r.resources),
        Action::DescribeNetworkInterfaces(by) => describe(by),
        Action::DescribeInstances(by) => describe(by),
        Action::DescribeSubnets(by) => describe(by),
        Action::DescribeVpcs(by) => describe(by),
        Action::DescribeSecurityGroups { by, .. } => describe(by),
        Action::DescribeInstanceTypes(by)
        | Action::DescribeTags(by)
        | Action::DescribeRouteTables(by) => describe(by),
        Action::DescribeAvailabilityZones { by, .. } => describe(by),
    };
    if request.dry_run {
        format!("{text} dry-run")
    } else {
        text
    }
}

/// Ids, addresses and prefixes that an answer brings; at most a hundred.
pub(crate) fn ids(response: &Response) -> Vec<String> {
    let all: Vec<String> = match response {
        Response::Created { eni, .. } => {
            let mut ids = vec![eni.id.to_string()];
            ids.extend(eni.addresses.iter().map(|a| a.address.to_string()));
            ids.extend(eni.v4_prefixes.iter().map(ToString::to_string));
            ids.extend(eni.v6.iter().map(ToString::to_string));
            ids.extend(eni.v6_prefixes.iter().map(ToString::to_string));
            ids
        }
        Response::Attached { attachment, .. } => vec![attachment.to_string()],
        Response::AssignedV4 {
            addresses,
            prefixes,
            ..
        } => both(addresses, prefixes),
        Response::AssignedV6 {
            addresses,
            prefixes,
            ..
        }
        | Response::UnassignedV6 {
            addresses,
            prefixes,
            ..
        } => both(addresses, prefixes),
        Response::Enis(page) => page.items.iter().map(|e| e.id.to_string()).collect(),
        Response::Instances(page) => page.items.iter().map(|i| i.id.to_string()).collect(),
        Response::Subnets(page) => page.items.iter().map(|s| s.id.to_string()).collect(),
        _ => Vec::new(),
    };
    all.into_iter().take(100).collect()
}

fn both<A: ToString, P: ToString>(addresses: &[A], prefixes: &[P]) -> Vec<String> {
    addresses
        .iter()
        .map(A::to_string)
        .chain(prefixes.iter().map(P::to_string))
        .collect()
}

fn list<T: Display>(items: &[T]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(",")
}

fn wanted<A: Display, P: Display>(w: &Wanted<A, P>, family: &str) -> String {
    let mut text = String::new();
    let mut add = |what: &str, value: String| {
        if !value.is_empty() {
            text.push_str(&format!(" {family}-{what}={value}"));
        }
    };
    add(
        "count",
        w.address_count.map(|n| n.to_string()).unwrap_or_default(),
    );
    add("addresses", list(&w.addresses));
    add(
        "prefix-count",
        w.prefix_count.map(|n| n.to_string()).unwrap_or_default(),
    );
    add("prefixes", list(&w.prefixes));
    text
}

fn describe<I: Display>(by: &Describe<I>) -> String {
    let mut parts = vec![list(&by.ids)];
    for filter in &by.filters {
        parts.push(format!("{}={}", filter.name, list(&filter.values)));
    }
    parts.retain(|p| !p.is_empty());
    parts.join(" ")
}
