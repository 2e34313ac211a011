//! Tags and description of ENIs: those of Amazon's VPC CNI, so that either can clean up after the
//! other.

use crate::config;
use aws_sdk_ec2::primitives::{DateTime, DateTimeFormat};
use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};
use ipam_core::InstanceId;
use std::time::SystemTime;

/// The node that created the ENI.
pub(super) const INSTANCE: &str = "node.k8s.amazonaws.com/instance_id";
/// When, RFC 3339.
pub(super) const CREATED_AT: &str = "node.k8s.amazonaws.com/createdAt";
/// `true`: leave the ENI alone.
pub(super) const NO_MANAGE: &str = "node.k8s.amazonaws.com/no_manage";
/// The cluster.
pub(super) const CLUSTER: &str = "cluster.k8s.amazonaws.com/name";
/// With [`CLUSTER`]: who cleans up.
const OWNER: (&str, &str) = ("eks:eni:owner", "amazon-vpc-cni");

/// How descriptions of ENIs made by an address manager begin.
pub(super) const DESCRIPTION: &str = "aws-K8S-";

/// The description of an ENI made for `instance`.
pub(super) fn description(instance: &InstanceId) -> String {
    format!("{DESCRIPTION}{instance}")
}

/// Every tag of a new ENI, for the call that creates it: there is no moment without them.
pub(super) fn specification(
    instance: &InstanceId,
    now: SystemTime,
    settings: &config::Ec2,
) -> TagSpecification {
    let mut tags = settings.tags.clone();
    tags.insert(INSTANCE.into(), instance.0.clone());
    tags.extend(created(now));
    tags.extend(cluster(settings));
    TagSpecification::builder()
        .resource_type(ResourceType::NetworkInterface)
        .set_tags(Some(as_list(tags)))
        .build()
}

/// The tags by which the other nodes' daemons count this one.
pub(super) fn mine(instance: &InstanceId, settings: &config::Ec2) -> Vec<Tag> {
    let instance = (INSTANCE.to_owned(), instance.0.clone());
    as_list(cluster(settings).into_iter().chain([instance]))
}

/// The tag of an ENI that has no date of birth.
pub(super) fn created_now(now: SystemTime) -> Vec<Tag> {
    as_list(created(now))
}

fn created(now: SystemTime) -> Option<(String, String)> {
    // Only a date beyond the year 9999 can't be written.
    let text = DateTime::from_secs(unix_seconds(now)).fmt(DateTimeFormat::DateTime);
    text.ok().map(|text| (CREATED_AT.into(), text))
}

fn cluster(settings: &config::Ec2) -> Vec<(String, String)> {
    settings.cluster.as_ref().map_or_else(Vec::new, |cluster| {
        vec![
            (CLUSTER.into(), cluster.clone()),
            (OWNER.0.into(), OWNER.1.into()),
        ]
    })
}

fn as_list(tags: impl IntoIterator<Item = (String, String)>) -> Vec<Tag> {
    tags.into_iter()
        .map(|(key, value)| Tag::builder().key(key).value(value).build())
        .collect()
}

fn unix_seconds(now: SystemTime) -> i64 {
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
