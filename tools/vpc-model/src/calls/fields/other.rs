//! Filters of the smaller Describe calls.

use super::values::{one, text};
use crate::calls::filter::Filtered;
use crate::words::request::Tags;
use crate::words::response::{Group, InstanceType, RouteTable, Subnet, TagItem, VpcInfo, Zone};
use std::sync::OnceLock;

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

pub(crate) const ROUTE_TABLE_FILTERS: &[&str] = &[
    "association.gateway-id",
    "association.main",
    "association.route-table-association-id",
    "association.route-table-id",
    "association.subnet-id",
    "owner-id",
    "route-table-id",
    "route.destination-cidr-block",
    "route.destination-ipv6-cidr-block",
    "route.gateway-id",
    "route.nat-gateway-id",
    "route.origin",
    "route.state",
    "vpc-id",
];

impl Filtered for RouteTable {
    fn field(&self, name: &str) -> Option<Vec<String>> {
        Some(match name {
            "association.main" => one(true),
            "association.route-table-association-id" => one(&self.association),
            "association.route-table-id" | "route-table-id" => one(&self.id),
            "owner-id" => one(&self.vpc.owner),
            "route.destination-cidr-block" => {
                let local = self.vpc.cidrs.iter().map(text);
                local.chain(["0.0.0.0/0".to_owned()]).collect()
            }
            "route.destination-ipv6-cidr-block" => self.vpc.v6_cidr.map(text).into_iter().collect(),
            "route.gateway-id" => vec!["local".to_owned(), self.gateway.clone()],
            "route.origin" => vec!["CreateRouteTable".to_owned(), "CreateRoute".to_owned()],
            "route.state" => one("active"),
            "vpc-id" => one(&self.vpc.id),
            known if ROUTE_TABLE_FILTERS.contains(&known) => Vec::new(),
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
