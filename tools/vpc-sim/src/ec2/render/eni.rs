//! A network interface, as DescribeNetworkInterfaces and DescribeInstances show it.

use super::{groups, tag_set};
use crate::ec2::xml::Xml;
use std::net::Ipv4Addr;
use vpc_model::request::Tracking;
use vpc_model::response::{Attachment, Eni, PrivateAddress};

/// The members of a `networkInterface`.
pub(super) fn fields(xml: &mut Xml, eni: &Eni) {
    xml.put("networkInterfaceId", &eni.id);
    xml.put("subnetId", &eni.subnet);
    xml.put("vpcId", &eni.vpc);
    xml.put("availabilityZone", &eni.zone);
    xml.put("availabilityZoneId", &eni.zone_id);
    xml.put("description", &eni.description);
    xml.put("ownerId", &eni.owner);
    xml.put("requesterId", &eni.requester);
    xml.put("requesterManaged", eni.requester_managed);
    xml.nest("operator", |xml| xml.put("managed", false));
    xml.put("status", eni.status);
    common(xml, eni);
    if let Some(a) = &eni.attachment {
        xml.nest("attachment", |xml| {
            attachment(xml, a);
            xml.put("instanceId", &a.instance);
            xml.put("instanceOwnerId", &eni.owner);
        });
    }
    tag_set(xml, &eni.tags);
}

/// The members of an instance's `networkInterfaceSet.item`: no zone, tags or requester.
pub(super) fn of_instance(xml: &mut Xml, eni: &Eni) {
    xml.put("networkInterfaceId", &eni.id);
    xml.put("subnetId", &eni.subnet);
    xml.put("vpcId", &eni.vpc);
    xml.put("description", &eni.description);
    xml.put("ownerId", &eni.owner);
    xml.nest("operator", |xml| xml.put("managed", false));
    xml.put("status", eni.status);
    common(xml, eni);
    if let Some(a) = &eni.attachment {
        xml.nest("attachment", |xml| attachment(xml, a));
    }
}

fn common(xml: &mut Xml, eni: &Eni) {
    xml.put("macAddress", eni.mac);
    xml.put("privateIpAddress", eni.private_ip);
    xml.put("privateDnsName", eni.private_dns_name(eni.private_ip));
    xml.put("sourceDestCheck", eni.source_dest_check);
    groups(xml, &eni.groups);
    if let Some(public) = eni
        .addresses
        .iter()
        .find(|a| a.primary)
        .and_then(|a| a.public)
    {
        association(xml, eni, public);
    }
    xml.list("privateIpAddressesSet", &eni.addresses, |xml, a| {
        address(xml, eni, a);
    });
    xml.list("ipv6AddressesSet", &eni.v6, |xml, a| {
        xml.put("ipv6Address", a);
        xml.put("isPrimaryIpv6", false);
    });
    if !eni.v4_prefixes.is_empty() {
        xml.list("ipv4PrefixSet", &eni.v4_prefixes, |xml, p| {
            xml.put("ipv4Prefix", p);
        });
    }
    if !eni.v6_prefixes.is_empty() {
        xml.list("ipv6PrefixSet", &eni.v6_prefixes, |xml, p| {
            xml.put("ipv6Prefix", p);
        });
    }
    xml.put_some("ipv6Address", eni.v6.first());
    tracking(xml, &eni.tracking);
    xml.put("interfaceType", &eni.interface_type);
}

/// Only what was set (*recorded*).
fn tracking(xml: &mut Xml, t: &Tracking) {
    if *t != Tracking::default() {
        xml.nest("connectionTrackingConfiguration", |xml| {
            xml.put_some("tcpEstablishedTimeout", t.tcp_established);
            xml.put_some("udpStreamTimeout", t.udp_stream);
            xml.put_some("udpTimeout", t.udp);
        });
    }
}

fn address(xml: &mut Xml, eni: &Eni, a: &PrivateAddress) {
    xml.put("privateIpAddress", a.address);
    xml.put("privateDnsName", eni.private_dns_name(a.address));
    xml.put("primary", a.primary);
    if let Some(public) = a.public {
        association(xml, eni, public);
    }
}

fn association(xml: &mut Xml, eni: &Eni, public: Ipv4Addr) {
    xml.nest("association", |xml| {
        xml.put("publicIp", public);
        xml.put("publicDnsName", eni.public_dns_name(public));
        xml.put("ipOwnerId", "amazon");
    });
}

fn attachment(xml: &mut Xml, a: &Attachment) {
    xml.put("attachmentId", &a.id);
    xml.put("deviceIndex", a.device_index);
    xml.put("networkCardIndex", a.card);
    xml.put("status", a.status);
    xml.put("attachTime", a.attach_time.iso8601_millis());
    xml.put("deleteOnTermination", a.delete_on_termination);
}
