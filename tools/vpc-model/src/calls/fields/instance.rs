//! Filters of DescribeInstances.

use super::values::{one, text};
use crate::calls::filter::Filtered;
use crate::words::request::Tags;
use crate::words::response::Instance;

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
