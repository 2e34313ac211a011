//! What each filter looks at. The names are those of the EC2 API reference; a name that is real
//! and that nothing in the model can match yields an empty list.

use crate::filter::Filtered;
use crate::request::Tags;
use crate::response::{Eni, Group, Instance, InstanceType, Subnet, TagItem, VpcInfo, Zone};
use std::sync::OnceLock;

/// Filters of each action, without the `tag` ones.
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

pub(crate) const INSTANCE_FILTERS: &[&str] = &[
    "architecture",
    "availability-zone",
    "availability-zone-id",
    "hypervisor",
    "image-id",
    "instance-id",
    "instance-lifecycle",
    "instance-state-code",
    "instance-state-name",
    "instance-type",
    "instance.group-id",
    "instance.group-name",
    "ip-address",
    "launch-time",
    "network-interface.addresses.primary",
    "network-interface.addresses.private-ip-address",
    "network-interface.attachment.attachment-id",
    "network-interface.attachment.delete-on-termination",
    "network-interface.attachment.device-index",
    "network-interface.attachment.instance-id",
    "network-interface.attachment.status",
    "network-interface.availability-zone",
    "network-interface.description",
    "network-interface.group-id",
    "network-interface.group-name",
    "network-interface.ipv6-addresses.ipv6-address",
    "network-interface.mac-address",
    "network-interface.network-interface-id",
    "network-interface.owner-id",
    "network-interface.private-dns-name",
    "network-interface.requester-id",
    "network-interface.requester-managed",
    "network-interface.source-dest-check",
    "network-interface.status",
    "network-interface.subnet-id",
    "network-interface.vpc-id",
    "owner-id",
    "private-dns-name",
    "private-ip-address",
    "reservation-id",
    "root-device-type",
    "source-dest-check",
    "subnet-id",
    "tenancy",
    "virtualization-type",
    "vpc-id",
];

impl Filtered for Instance {
    fn field(&self, name: &str) -> Option<Vec<String>> {
        if !INSTANCE_FILTERS.contains(&name) {
            return None;
        }
        if let Some(name) = name.strip_prefix("network-interface.") {
            return Some(
                self.enis
                    .iter()
                    .filter_map(|e| e.field(name))
                    .flatten()
                    .collect(),
            );
        }
        let primary = self.enis.first();
        Some(match name {
            "architecture" => one(&self.architecture),
            "availability-zone" => one(&self.zone),
            "availability-zone-id" => primary.map(|e| e.zone_id.clone()).into_iter().collect(),
            "hypervisor" => one(self.hypervisor),
            "image-id" => one(&self.image),
            "instance-id" => one(&self.id),
            "instance-state-code" => one(self.state.0),
            "instance-state-name" => one(self.state.1),
            "instance-type" => one(&self.instance_type),
            "instance.group-id" => self.groups.iter().map(|(id, _)| text(id)).collect(),
            "instance.group-name" => self.groups.iter().map(|(_, n)| n.clone()).collect(),
            "ip-address" => self.public_ip.map(text).into_iter().collect(),
            "launch-time" => one(self.launch_time.iso8601_millis()),
            "owner-id" => one(&self.owner),
            "private-dns-name" => primary
                .map(|e| e.private_dns_name(e.private_ip))
                .into_iter()
                .collect(),
            "private-ip-address" => self.private_ip.map(text).into_iter().collect(),
            "reservation-id" => one(&self.reservation),
            "root-device-type" => one("ebs"),
            "source-dest-check" => primary
                .map(|e| text(e.source_dest_check))
                .into_iter()
                .collect(),
            "subnet-id" => one(&self.subnet),
            "tenancy" => one("default"),
            "virtualization-type" => one("hvm"),
            "vpc-id" => one(&self.vpc),
            _ => Vec::new(),
        })
    }

    fn tags(&self) -> &Tags {
        &self.tags
    }
}

pub(crate) const SUBNET_FILTERS: &[&str] = &[
    "availability-zone",
    "availability-zone-id",
    "availabilityZone",
    "available-ip-address-count",
    "cidr",
    "cidr-block",
    "cidrBlock",
    "default-for-az",
    "defaultForAz",
    "ipv6-cidr-block-association.ipv6-cidr-block",
    "ipv6-cidr-block-association.state",
    "ipv6-native",
    "map-public-ip-on-launch",
    "owner-id",
    "state",
    "subnet-arn",
    "subnet-id",
    "vpc-id",
];

impl Filtered for Subnet {
    fn field(&self, name: &str) -> Option<Vec<String>> {
        Some(match name {
            "availability-zone" | "availabilityZone" => one(&self.zone),
            "availability-zone-id" => one(&self.zone_id),
            "available-ip-address-count" => one(self.available),
            "cidr" | "cidr-block" | "cidrBlock" => one(self.cidr),
            "default-for-az" | "defaultForAz" | "ipv6-native" => one(false),
            "ipv6-cidr-block-association.ipv6-cidr-block" => {
                self.v6_cidr.map(text).into_iter().collect()
            }
            "ipv6-cidr-block-association.state" => self
                .v6_cidr
                .map(|_| "associated".to_owned())
                .into_iter()
                .collect(),
            "map-public-ip-on-launch" => one(self.map_public_ip),
            "owner-id" => one(&self.owner),
            "state" => one("available"),
            "subnet-arn" => {
                let region = self.zone.trim_end_matches(|c: char| c.is_ascii_lowercase());
                one(format!(
                    "arn:aws:ec2:{region}:{}:subnet/{}",
                    self.owner, self.id
                ))
            }
            "subnet-id" => one(&self.id),
            "vpc-id" => one(&self.vpc),
            _ => return None,
        })
    }

    fn tags(&self) -> &Tags {
        &self.tags
    }
}

pub(crate) const VPC_FILTERS: &[&str] = &[
    "cidr",
    "cidr-block-association.cidr-block",
    "cidr-block-association.state",
    "dhcp-options-id",
    "ipv6-cidr-block-association.ipv6-cidr-block",
    "ipv6-cidr-block-association.state",
    "is-default",
    "isDefault",
    "owner-id",
    "state",
    "vpc-id",
];

impl Filtered for VpcInfo {
    fn field(&self, name: &str) -> Option<Vec<String>> {
        Some(match name {
            "cidr" => self.cidrs.first().map(text).into_iter().collect(),
            "cidr-block-association.cidr-block" => self.cidrs.iter().map(text).collect(),
            "cidr-block-association.state" => one("associated"),
            "dhcp-options-id" => one("default"),
            "ipv6-cidr-block-association.ipv6-cidr-block" => {
                self.v6_cidr.map(text).into_iter().collect()
            }
            "ipv6-cidr-block-association.state" => self
                .v6_cidr
                .map(|_| "associated".to_owned())
                .into_iter()
                .collect(),
            "is-default" | "isDefault" => one(false),
            "owner-id" => one(&self.owner),
            "state" => one("available"),
            "vpc-id" => one(&self.id),
            _ => return None,
        })
    }

    fn tags(&self) -> &Tags {
        &self.tags
    }
}

pub(crate) const GROUP_FILTERS: &[&str] = &[
    "description",
    "group-id",
    "group-name",
    "owner-id",
    "vpc-id",
];

impl Filtered for Group {
    fn field(&self, name: &str) -> Option<Vec<String>> {
        Some(match name {
            "description" => one(&self.description),
            "group-id" => one(&self.id),
            "group-name" => one(&self.name),
            "owner-id" => one(&self.owner),
            "vpc-id" => one(&self.vpc),
            _ => return None,
        })
    }

    fn tags(&self) -> &Tags {
        &self.tags
    }
}

pub(crate) const TYPE_FILTERS: &[&str] = &[
    "bare-metal",
    "current-generation",
    "hypervisor",
    "instance-type",
    "memory-info.size-in-mib",
    "network-info.ipv4-addresses-per-interface",
    "network-info.ipv6-addresses-per-interface",
    "network-info.ipv6-supported",
    "network-info.maximum-network-cards",
    "network-info.maximum-network-interfaces",
    "processor-info.supported-architecture",
    "vcpu-info.default-vcpus",
];

impl Filtered for InstanceType {
    fn field(&self, name: &str) -> Option<Vec<String>> {
        Some(match name {
            "bare-metal" => one(self.bare_metal),
            "current-generation" => one(true),
            "hypervisor" => self.hypervisor.iter().cloned().collect(),
            "instance-type" => one(&self.name),
            "memory-info.size-in-mib" => self.memory_mib.map(text).into_iter().collect(),
            "network-info.ipv4-addresses-per-interface" => one(self.ipv4_per_eni),
            "network-info.ipv6-addresses-per-interface" => one(self.ipv6_per_eni),
            "network-info.ipv6-supported" => one(self.ipv6_per_eni > 0),
            "network-info.maximum-network-cards" => one(self.card_enis.len()),
            "network-info.maximum-network-interfaces" => one(self.max_enis()),
            "processor-info.supported-architecture" => self.architectures.clone(),
            "vcpu-info.default-vcpus" => self.vcpus.map(text).into_iter().collect(),
            _ => return None,
        })
    }

    fn tags(&self) -> &Tags {
        no_tags()
    }
}

pub(crate) const ZONE_FILTERS: &[&str] = &[
    "group-name",
    "message",
    "opt-in-status",
    "region-name",
    "state",
    "zone-id",
    "zone-name",
    "zone-type",
];

impl Filtered for Zone {
    fn field(&self, name: &str) -> Option<Vec<String>> {
        Some(match name {
            "group-name" => one(format!("{}-zg-1", self.region)),
            "message" => Vec::new(),
            "opt-in-status" => one("opt-in-not-required"),
            "region-name" => one(&self.region),
            "state" => one("available"),
            "zone-id" => one(&self.id),
            "zone-name" => one(&self.name),
            "zone-type" => one("availability-zone"),
            _ => return None,
        })
    }

    fn tags(&self) -> &Tags {
        no_tags()
    }
}

pub(crate) const TAG_FILTERS: &[&str] = &["key", "resource-id", "resource-type", "value"];

impl Filtered for TagItem {
    fn field(&self, name: &str) -> Option<Vec<String>> {
        Some(match name {
            "key" => one(&self.key),
            "resource-id" => one(&self.resource),
            "resource-type" => one(self.resource_type),
            "value" => one(&self.value),
            _ => return None,
        })
    }

    fn tags(&self) -> &Tags {
        no_tags()
    }
}

fn no_tags() -> &'static Tags {
    static NONE: OnceLock<Tags> = OnceLock::new();
    NONE.get_or_init(Tags::new)
}

fn text(value: impl ToString) -> String {
    value.to_string()
}

fn one(value: impl ToString) -> Vec<String> {
    vec![value.to_string()]
}
