//! The metadata tree of one instance: every leaf by path, directories as what leaves imply.

use super::credentials::{Credentials, ROLE, info};
use crate::ids::InstanceId;
use crate::response::Eni;
use crate::response::{private_dns_name, public_dns_name};
use crate::state::InstanceState;
use crate::time::Time;
use crate::vpc::Vpc;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

/// API versions that IMDS lists at `/` (*documented*); all have the same tree here.
const VERSIONS: [&str; 18] = [
    "1.0",
    "2007-01-19",
    "2007-03-01",
    "2007-08-29",
    "2007-10-10",
    "2007-12-15",
    "2008-02-01",
    "2008-09-01",
    "2009-04-04",
    "2011-01-01",
    "2011-05-01",
    "2012-01-12",
    "2014-02-25",
    "2014-11-05",
    "2015-10-20",
    "2018-09-24",
    "2021-03-23",
    "latest",
];

/// Leaves by path below the version.
#[derive(Debug, Default)]
pub(super) struct Leaves(BTreeMap<String, String>);

impl Leaves {
    pub(super) fn put(&mut self, path: &str, value: impl Into<String>) {
        self.0.insert(path.to_owned(), value.into());
    }

    /// A leaf's value, or a directory's entries: one a line, directories with a slash, no line
    /// end after the last. With or without a slash at the end of the path, as real IMDS does.
    fn get(&self, path: &str) -> Option<String> {
        if let Some(value) = self.0.get(path) {
            return Some(value.clone());
        }
        let prefix = if path.is_empty() {
            String::new()
        } else {
            format!("{path}/")
        };
        let mut entries: Vec<String> = Vec::new();
        for leaf in self.0.range(prefix.clone()..) {
            let Some(rest) = leaf.0.strip_prefix(&prefix) else {
                break;
            };
            let entry = match rest.split_once('/') {
                Some((dir, _)) => format!("{dir}/"),
                None => rest.to_owned(),
            };
            entries.push(entry);
        }
        entries.sort();
        entries.dedup();
        (!entries.is_empty()).then(|| entries.join("\n"))
    }
}

/// One item a line.
pub(super) fn lines<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(T::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

impl Vpc {
    /// The body at a path, or nothing if there is no such key.
    pub(super) fn imds_get(
        &mut self,
        id: &InstanceId,
        segments: &[&str],
        now: Time,
        stale: Duration,
    ) -> Option<String> {
        let [version, rest @ ..] = segments else {
            return Some(VERSIONS.join("\n"));
        };
        if !VERSIONS.contains(version) {
            return None;
        }
        let instance = self.instances.get(id)?;
        let enis = self.imds_enis(instance, now.back(stale));
        let mut leaves = Leaves::default();
        self.instance_keys(instance, &mut leaves);
        self.primary_keys(instance, &enis, &mut leaves);
        self.dynamic_keys(instance, &enis, &mut leaves);
        for eni in &enis {
            self.interface_keys(id, eni, &mut leaves);
        }
        let seed = self.spec.seed;
        let keys = Credentials::at(seed, id, now);
        leaves.put(
            &format!("meta-data/iam/security-credentials/{ROLE}"),
            keys.json(),
        );
        leaves.put(
            "meta-data/iam/info",
            info(seed, &self.spec.account_id, id, now),
        );
        if rest.get(1..3) == Some(&["iam", "security-credentials"]) {
            let node = instance.node.clone();
            self.imds.keys.insert(keys.access_key_id, node);
        }
        leaves.get(&rest.join("/"))
    }

    /// Keys of the instance itself (*documented*: EC2 user guide, "Instance metadata categories").
    fn instance_keys(&self, instance: &InstanceState, leaves: &mut Leaves) {
        let mut put = |key: &str, value: String| {
            if !value.is_empty() {
                leaves.put(&format!("meta-data/{key}"), value);
            }
        };
        put("ami-id", instance.image.clone());
        put("ami-launch-index", "0".into());
        put("ami-manifest-path", "(unknown)".into());
        put("block-device-mapping/ami", "/dev/xvda".into());
        put("block-device-mapping/root", "/dev/xvda".into());
        put("events/maintenance/history", "[]".into());
        put("events/maintenance/scheduled", "[]".into());
        put("instance-action", "none".into());
        put("instance-id", instance.id.to_string());
        put("instance-life-cycle", "on-demand".into());
        put("instance-type", instance.instance_type.clone());
        put("profile", "default-hvm".into());
        put("reservation-id", instance.reservation.clone());
        put("services/domain", "amazonaws.com".into());
        put("services/partition", "aws".into());
        put("placement/region", self.spec.region.clone());
        let kind = self.catalog.get(&instance.instance_type);
        let system = kind
            .filter(|k| !k.has_prefixes())
            .map_or("nitro", |_| "xen");
        put("system", system.into());
        if let Some(subnet) = self.subnets.get(&instance.subnet) {
            put("placement/availability-zone", subnet.zone.clone());
            put("placement/availability-zone-id", subnet.zone_id.clone());
        }
        if instance.tags_in_imds {
            for (key, value) in &instance.tags {
                put(&format!("tags/instance/{key}"), value.clone());
            }
        }
    }

    /// Keys of the instance that its primary ENI gives.
    fn primary_keys(&self, instance: &InstanceState, enis: &[Eni], leaves: &mut Leaves) {
        let mut put = |key: &str, value: String| {
            if !value.is_empty() {
                leaves.put(&format!("meta-data/{key}"), value);
            }
        };
        // The primary ENI may be hidden or stale; the instance's own keys don't go with it.
        let primary = instance
            .primary_eni
            .as_ref()
            .and_then(|id| self.enis.get(id.as_str()));
        let Some(primary) = primary.map(|e| self.eni_view(e, self.clock)) else {
            return;
        };
        let shown = enis.iter().find(|e| e.id == primary.id).unwrap_or(&primary);
        put(
            "hostname",
            private_dns_name(shown.private_ip, &self.spec.region),
        );
        put(
            "local-hostname",
            private_dns_name(shown.private_ip, &self.spec.region),
        );
        put("local-ipv4", shown.private_ip.to_string());
        put("mac", shown.mac.to_string());
        put(
            "ipv6",
            shown
                .v6
                .first()
                .map(ToString::to_string)
                .unwrap_or_default(),
        );
        let names: Vec<&String> = shown.groups.iter().map(|(_, name)| name).collect();
        put("security-groups", lines(&names));
        if let Some(public) = shown.addresses.first().and_then(|a| a.public) {
            put("public-ipv4", public.to_string());
            put(
                "public-hostname",
                public_dns_name(public, &self.spec.region),
            );
        }
    }

    /// `dynamic/instance-identity/document`. Its signatures are absent: nobody could check them.
    fn dynamic_keys(&self, instance: &InstanceState, enis: &[Eni], leaves: &mut Leaves) {
        let view = self.instance_view(instance, self.clock);
        let private = enis.first().map(|e| e.private_ip).or(view.private_ip);
        let document = json!({
            "accountId": self.spec.account_id,
            "architecture": view.architecture,
            "availabilityZone": view.zone,
            "billingProducts": null,
            "devpayProductCodes": null,
            "marketplaceProductCodes": null,
            "imageId": view.image,
            "instanceId": view.id.as_str(),
            "instanceType": view.instance_type,
            "kernelId": null,
            "pendingTime": view.launch_time.iso8601(),
            "privateIp": private.map(|a| a.to_string()),
            "ramdiskId": null,
            "region": self.spec.region,
            "version": "2017-09-30",
        });
        let text = serde_json::to_string_pretty(&document).unwrap_or_default();
        leaves.put("dynamic/instance-identity/document", text);
    }
}
