//! The metadata tree of one instance: every leaf by path, directories as what leaves imply.

use super::credentials::{Credentials, ImdsState, info};
use super::interfaces::{imds_enis, interface_keys};
use super::leaves::{Leaves, lines};
use crate::state::{InstanceState, State};
use crate::views::{eni_view, instance_view};
use crate::words::caller::ROLE;
use crate::words::fault::ImdsTrouble;
use crate::words::ids::InstanceId;
use crate::words::response::{Eni, private_dns_name, public_dns_name};
use crate::words::time::Time;
use serde_json::json;

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

/// The body at a path, or nothing if there is no such key.
pub(super) fn imds_get(
    state: &State,
    known: &mut ImdsState,
    id: &InstanceId,
    segments: &[&str],
    trouble: &ImdsTrouble,
    now: Time,
) -> Option<String> {
    let [version, rest @ ..] = segments else {
        return Some(VERSIONS.join("\n"));
    };
    if !VERSIONS.contains(version) {
        return None;
    }
    let instance = state.instances.get(id)?;
    let enis = imds_enis(state, instance, &trouble.hidden, now.back(trouble.stale));
    let mut leaves = Leaves::default();
    instance_keys(state, instance, &mut leaves);
    primary_keys(state, instance, &enis, &mut leaves);
    dynamic_keys(state, instance, &enis, &mut leaves);
    for eni in &enis {
        interface_keys(state, id, eni, &mut leaves);
    }
    let seed = state.spec.seed;
    let keys = Credentials::at(seed, id, now);
    leaves.put(
        &format!("meta-data/iam/security-credentials/{ROLE}"),
        keys.json(),
    );
    leaves.put(
        "meta-data/iam/info",
        info(seed, &state.spec.account_id, id, now),
    );
    if rest.get(1..3) == Some(&["iam", "security-credentials"]) {
        known.keys.insert(keys.access_key_id, instance.node.clone());
    }
    leaves.get(&rest.join("/"))
}

/// Keys of the instance itself (*documented*: EC2 user guide, "Instance metadata categories").
fn instance_keys(state: &State, instance: &InstanceState, leaves: &mut Leaves) {
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
    put("instance-type", instance.kind.name.clone());
    put("profile", "default-hvm".into());
    put("reservation-id", instance.reservation.clone());
    put("services/domain", "amazonaws.com".into());
    put("services/partition", "aws".into());
    put("placement/region", state.spec.region.clone());
    let nitro = instance.kind.has_prefixes();
    put("system", if nitro { "nitro" } else { "xen" }.into());
    if let Some(subnet) = state.subnets.get(&instance.subnet) {
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
fn primary_keys(state: &State, instance: &InstanceState, enis: &[Eni], leaves: &mut Leaves) {
    let mut put = |key: &str, value: String| {
        if !value.is_empty() {
            leaves.put(&format!("meta-data/{key}"), value);
        }
    };
    // The primary ENI may be hidden or stale; the instance's own keys don't go with it.
    let primary = state.enis.get(instance.primary_eni.as_str());
    let Some(primary) = primary.map(|e| eni_view(state, e, state.clock)) else {
        return;
    };
    let shown = enis.iter().find(|e| e.id == primary.id).unwrap_or(&primary);
    put(
        "hostname",
        private_dns_name(shown.private_ip, &state.spec.region),
    );
    put(
        "local-hostname",
        private_dns_name(shown.private_ip, &state.spec.region),
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
            public_dns_name(public, &state.spec.region),
        );
    }
}

/// `dynamic/instance-identity/document`. Its signatures are absent: nobody could check them.
fn dynamic_keys(state: &State, instance: &InstanceState, enis: &[Eni], leaves: &mut Leaves) {
    let view = instance_view(state, instance, state.clock);
    let shown = enis.iter().find(|e| e.id == instance.primary_eni);
    let private = shown.map(|e| e.private_ip).or(view.private_ip);
    let document = json!({
        "accountId": state.spec.account_id,
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
        "region": state.spec.region,
        "version": "2017-09-30",
    });
    let text = serde_json::to_string_pretty(&document).unwrap_or_default();
    leaves.put("dynamic/instance-identity/document", text);
}
