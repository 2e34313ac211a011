//! From answer to XML, in the shapes of API version 2016-11-15.

mod eni;
mod instance;
mod network;
mod types;

use super::xml::Xml;
use vpc_model::request::Tags;
use vpc_model::{ApiError, Response};

/// The error envelope; its `RequestID` is written differently from a good answer's `requestId`.
pub(super) fn error(request_id: &str, error: &ApiError) -> String {
    let mut xml = Xml::new();
    xml.nest("Response", |xml| {
        xml.nest("Errors", |xml| {
            xml.nest("Error", |xml| {
                xml.put("Code", &error.code);
                xml.put("Message", &error.message);
            });
        });
        xml.put("RequestID", request_id);
    });
    xml.finish()
}

pub(super) fn answer(action: &str, version: &str, request_id: &str, response: &Response) -> String {
    let mut xml = Xml::new();
    let namespace = format!("http://ec2.amazonaws.com/doc/{version}/");
    xml.root(&format!("{action}Response"), &namespace, |xml| {
        xml.put("requestId", request_id);
        body(xml, response);
    });
    xml.finish()
}

fn body(xml: &mut Xml, response: &Response) {
    match response {
        Response::Created { eni, client_token } => {
            xml.nest("networkInterface", |xml| eni::fields(xml, eni));
            xml.put("clientToken", client_token);
        }
        Response::Attached { attachment, card } => {
            xml.put("attachmentId", attachment);
            xml.put("networkCardIndex", card);
        }
        Response::Done | Response::UnassignedV4 => xml.put("return", true),
        Response::AssignedV4 {
            eni,
            addresses,
            prefixes,
        } => {
            xml.put("networkInterfaceId", eni);
            xml.list("assignedPrivateIpAddressesSet", addresses, |xml, a| {
                xml.put("privateIpAddress", a);
            });
            xml.list("assignedIpv4PrefixSet", prefixes, |xml, p| {
                xml.put("ipv4Prefix", p);
            });
            xml.put("return", true);
        }
        Response::AssignedV6 {
            eni,
            addresses,
            prefixes,
        } => {
            xml.put("networkInterfaceId", eni);
            xml.values("assignedIpv6Addresses", addresses);
            xml.values("assignedIpv6PrefixSet", prefixes);
        }
        Response::UnassignedV6 {
            eni,
            addresses,
            prefixes,
        } => {
            xml.put("networkInterfaceId", eni);
            xml.values("unassignedIpv6Addresses", addresses);
            xml.values("unassignedIpv6PrefixSet", prefixes);
        }
        list => lists(xml, list),
    }
}

/// Answers of Describe calls.
fn lists(xml: &mut Xml, response: &Response) {
    match response {
        Response::Enis(page) => {
            xml.list("networkInterfaceSet", &page.items, eni::fields);
            xml.put_some("nextToken", page.next_token.as_ref());
        }
        Response::Instances(page) => {
            xml.list("reservationSet", &page.items, instance::reservation);
            xml.put_some("nextToken", page.next_token.as_ref());
        }
        Response::Subnets(page) => {
            xml.list("subnetSet", &page.items, network::subnet);
            xml.put_some("nextToken", page.next_token.as_ref());
        }
        Response::Vpcs(page) => {
            xml.list("vpcSet", &page.items, network::vpc);
            xml.put_some("nextToken", page.next_token.as_ref());
        }
        Response::RouteTables(page) => {
            xml.list("routeTableSet", &page.items, network::route_table);
            xml.put_some("nextToken", page.next_token.as_ref());
        }
        Response::Groups(page) => {
            xml.list("securityGroupInfo", &page.items, network::group);
            xml.put_some("nextToken", page.next_token.as_ref());
        }
        Response::InstanceTypes(page) => {
            xml.list("instanceTypeSet", &page.items, types::instance_type);
            xml.put_some("nextToken", page.next_token.as_ref());
        }
        Response::Zones(zones) => xml.list("availabilityZoneInfo", zones, network::zone),
        Response::Tags(page) => {
            xml.list("tagSet", &page.items, network::tag_item);
            xml.put_some("nextToken", page.next_token.as_ref());
        }
        // Written by `body`; named here so that a new answer can't be forgotten.
        Response::Created { .. }
        | Response::Attached { .. }
        | Response::Done
        | Response::AssignedV4 { .. }
        | Response::UnassignedV4
        | Response::AssignedV6 { .. }
        | Response::UnassignedV6 { .. } => {}
    }
}

fn tag_set(xml: &mut Xml, tags: &Tags) {
    xml.list("tagSet", tags, |xml, (key, value)| {
        xml.put("key", key);
        xml.put("value", value);
    });
}

fn groups<'a, I: std::fmt::Display + 'a>(
    xml: &mut Xml,
    groups: impl IntoIterator<Item = &'a (I, String)>,
) {
    xml.list("groupSet", groups, |xml, (id, name)| {
        xml.put("groupId", id);
        xml.put("groupName", name);
    });
}
