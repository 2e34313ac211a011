//! ENIs of the cluster by their tags, for the look for those that nobody has any more.

use super::failure::failure;
use super::{Ec2, filter, tags, view};
use aws_sdk_ec2::primitives::{DateTime, DateTimeFormat};
use aws_sdk_ec2::types::{NetworkInterface, NetworkInterfaceStatus, NetworkInterfaceType};
use ipam_core::cloud::CloudError;
use ipam_core::{EniId, InstanceId, Timestamp};
use ipam_engine::ports::{EniTag, Sighting};
use std::time::SystemTime;

impl Ec2 {
    /// One Describe (of more than one page beyond 1000 ENIs), by tags alone: EC2 shows no more of
    /// the cluster than its own address managers have tagged.
    pub(super) async fn tagged_enis(&self) -> Result<Vec<Sighting>, CloudError> {
        let (client, instance) = self.ready("DescribeNetworkInterfaces").await?;
        let filters = match &self.settings.cluster {
            Some(cluster) => vec![
                filter(format!("tag:{}", tags::CLUSTER), cluster),
                filter("tag-key", tags::INSTANCE),
            ],
            None => vec![filter(format!("tag:{}", tags::INSTANCE), instance.as_str())],
        };
        let enis = self.pages(client, filters).await?;
        Ok(enis.iter().filter_map(sighting).collect())
    }

    pub(super) async fn write_tag(&self, eni: EniId, tag: EniTag) -> Result<(), CloudError> {
        const ACTION: &str = "CreateTags";
        let (client, instance) = self.ready(ACTION).await?;
        let tags = match tag {
            EniTag::CreatedNow => tags::created_now(SystemTime::now()),
            EniTag::Mine => tags::mine(&instance, &self.settings),
        };
        let call = client.create_tags().resources(eni.0).set_tags(Some(tags));
        let done = call.send().await;
        done.map(drop).map_err(|error| failure(ACTION, &error))
    }
}

/// `None` for what EC2 describes without an id or the tag that was asked for.
fn sighting(eni: &NetworkInterface) -> Option<Sighting> {
    Some(Sighting {
        id: EniId(eni.network_interface_id.clone()?),
        instance: InstanceId(view::tag(eni, tags::INSTANCE)?.to_owned()),
        free: is_free(eni),
        created: view::tag(eni, tags::CREATED_AT).and_then(date),
    })
}

/// Every sign must say so: what is not surely an address manager's is nobody's business here.
fn is_free(eni: &NetworkInterface) -> bool {
    let plain = matches!(
        eni.interface_type,
        None | Some(NetworkInterfaceType::Interface)
    );
    let described = eni
        .description
        .as_deref()
        .is_some_and(|text| text.starts_with(tags::DESCRIPTION));
    eni.status == Some(NetworkInterfaceStatus::Available)
        && eni.attachment.is_none()
        && plain
        && described
        && view::tag(eni, tags::NO_MANAGE) != Some("true")
}

fn date(text: &str) -> Option<Timestamp> {
    let at = DateTime::from_str(text, DateTimeFormat::DateTimeWithOffset).ok()?;
    u64::try_from(at.to_millis().ok()?).ok().map(Timestamp)
}
