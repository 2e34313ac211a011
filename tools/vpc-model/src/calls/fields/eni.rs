//! Filters of DescribeNetworkInterfaces.

use super::values::{one, text};
use crate::calls::filter::Filtered;
use crate::words::request::Tags;
use crate::words::response::Eni;

/// All names but the `tag` ones.
pub(crate) const ENI_FILTERS: &[&str] = &[
    "association.allocation-id",
    "association.association-id",
    "addresses.association.owner-id",
    "addresses.association.public-ip",
    "addresses.primary",
    "addresses.private-ip-address",
    "association.ip-owner-id",
    "association.public-dns-name",
    "association.public-ip",
    "attachment.attach-time",
    "attachment.attachment-id",
    "attachment.delete-on-termination",
    "attachment.device-index",
    "attachment.instance-id",
    "attachment.instance-owner-id",
    "attachment.network-card-index",
    "attachment.status",
    "availability-zone",
    "availability-zone-id",
    "description",
    "group-id",
    "group-name",
    "interface-type",
    "ipv6-addresses.ipv6-address",
    "mac-address",
    "network-interface-id",
    "operator.managed",
    "operator.principal",
    "owner-id",
    "private-dns-name",
    "private-ip-address",
    "requester-id",
    "requester-managed",
    "source-dest-check",
    "status",
    "subnet-id",
    "vpc-id",
];

impl Filtered for Eni {
    fn field(&self, name: &str) -> Option<Vec<String>> {
        if !ENI_FILTERS.contains(&name) {
            return None;
        }
        if let Some(name) = name.strip_prefix("attachment.") {
            return Some(eni_attachment_field(self, name));
        }
        let public = || self.addresses.iter().filter_map(|a| a.public).map(text);
        Some(match name {
            "addresses.association.owner-id" | "association.ip-owner-id" => {
                public().take(1).map(|_| "amazon".to_owned()).collect()
            }
            "addresses.association.public-ip" => public().collect(),
            "association.public-ip" => self
                .addresses
                .iter()
                .filter(|a| a.primary)
                .filter_map(|a| a.public)
                .map(text)
                .collect(),
            "addresses.primary" => self.addresses.iter().map(|a| text(a.primary)).collect(),
            "addresses.private-ip-address" => {
                self.addresses.iter().map(|a| text(a.address)).collect()
            }
            "availability-zone" => one(&self.zone),
            "availability-zone-id" => one(&self.zone_id),
            "description" => one(&self.description),
            "group-id" => self.groups.iter().map(|(id, _)| text(id)).collect(),
            "group-name" => self.groups.iter().map(|(_, name)| name.clone()).collect(),
            "interface-type" => one(&self.interface_type),
            "ipv6-addresses.ipv6-address" => self.v6.iter().map(text).collect(),
            "mac-address" => one(self.mac),
            "network-interface-id" => one(&self.id),
            "operator.managed" => one(false),
            "owner-id" => one(&self.owner),
            "private-dns-name" => one(self.private_dns_name(self.private_ip)),
            "private-ip-address" => one(self.private_ip),
            "requester-id" => one(&self.requester),
            "requester-managed" => one(self.requester_managed),
            "source-dest-check" => one(self.source_dest_check),
            "status" => one(self.status),
            "subnet-id" => one(&self.subnet),
            "vpc-id" => one(&self.vpc),
            _ => Vec::new(),
        })
    }

    fn tags(&self) -> &Tags {
        &self.tags
    }
}

fn eni_attachment_field(eni: &Eni, name: &str) -> Vec<String> {
    let Some(a) = &eni.attachment else {
        return Vec::new();
    };
    match name {
        "attach-time" => one(a.attach_time.iso8601_millis()),
        "attachment-id" => one(&a.id),
        "delete-on-termination" => one(a.delete_on_termination),
        "device-index" => one(a.device_index),
        "instance-id" => one(&a.instance),
        "instance-owner-id" => one(&eni.owner),
        "network-card-index" => one(a.card),
        "status" => one(a.status),
        _ => Vec::new(),
    }
}
