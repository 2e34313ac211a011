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
const CREATED_AT: &str = "node.k8s.amazonaws.com/createdAt";
/// `true`: leave the ENI alone.
pub(super) const NO_MANAGE: &str = "node.k8s.amazonaws.com/no_manage";
/// The cluster.
const CLUSTER: &str = "cluster.k8s.amazonaws.com/name";
/// With [`CLUSTER`]: who cleans up.
const OWNER: (&str, &str) = ("eks:eni:owner", "amazon-vpc-cni");

/// The description of an ENI made for `instance`.
pub(super) fn description(instance: &InstanceId) -> String {
    format!("aws-K8S-{instance}")
}

/// Every tag of a new ENI, for the call that creates it: there is no moment without them.
pub(super) fn specification(
    instance: &InstanceId,
    now: SystemTime,
    settings: &config::Ec2,
) -> TagSpecification {
    let mut tags = settings.tags.clone();
    tags.insert(INSTANCE.into(), instance.0.clone());
    // Only a date beyond the year 9999 can't be written.
    if let Ok(text) = DateTime::from_secs(unix_seconds(now)).fmt(DateTimeFormat::DateTime) {
        tags.insert(CREATED_AT.into(), text);
    }
    if let Some(cluster) = &settings.cluster {
        tags.insert(CLUSTER.into(), cluster.clone());
        tags.insert(OWNER.0.into(), OWNER.1.into());
    }
    let tags = tags
        .into_iter()
        .map(|(key, value)| Tag::builder().key(key).value(value).build());
    TagSpecification::builder()
        .resource_type(ResourceType::NetworkInterface)
        .set_tags(Some(tags.collect()))
        .build()
}

fn unix_seconds(now: SystemTime) -> i64 {
    let since = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
