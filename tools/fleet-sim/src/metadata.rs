//! IMDS for one node: the model's ENIs as far as IMDS shows them.

use crate::cloud::view;
use crate::world::World;
use ipam_core::Mac;
use ipam_engine::ports::{Fut, Metadata, MetadataError, NodeFacts};
use std::time::Duration;

/// See the module.
#[derive(Debug)]
pub(crate) struct ModelMetadata {
    pub(crate) world: World,
    pub(crate) node: String,
}

/// One round of reads side by side.
const READ_TAKES: Duration = Duration::from_millis(4);

impl Metadata for ModelMetadata {
    fn read(&self) -> Fut<'_, Result<NodeFacts, MetadataError>> {
        Box::pin(async {
            tokio::time::sleep(READ_TAKES).await;
            self.facts().ok_or_else(|| MetadataError {
                path: "instance-id".into(),
                message: format!("node {} does not run", self.node),
            })
        })
    }
}

impl ModelMetadata {
    fn facts(&self) -> Option<NodeFacts> {
        let now = self.world.time();
        let (info, wires, enis, cidrs, region) = {
            let vpc = self.world.vpc();
            let info = vpc
                .nodes()
                .into_iter()
                .find(|n| n.name.as_str() == self.node)?;
            let cidrs = vpc.spec().cidrs.clone();
            (
                info,
                vpc.wires(now),
                vpc.enis(now),
                cidrs,
                vpc.spec().region.clone(),
            )
        };
        let mine = |id: &vpc_model::ids::EniId| {
            wires
                .iter()
                .any(|w| w.eni == *id && w.instance == info.instance)
        };
        let primary = enis
            .iter()
            .find(|e| Some(&e.id) == info.primary_eni.as_ref())?;
        let instance = info.instance.as_str();
        let views = enis
            .iter()
            .filter(|e| mine(&e.id))
            .map(|e| {
                let mut view = view(&self.world, e, instance);
                view.ours = false;
                view
            })
            .collect();
        Some(NodeFacts {
            instance_id: instance.into(),
            instance_type: info.instance_type.clone(),
            region,
            zone: primary.zone.clone(),
            vpc: Some(primary.vpc.as_str().into()),
            primary_mac: Mac(primary.mac.0),
            node_ip: primary.private_ip,
            vpc_cidrs: cidrs.into_iter().map(Into::into).collect(),
            security_groups: primary
                .groups
                .iter()
                .map(|(id, _)| id.as_str().into())
                .collect(),
            enis: views,
        })
    }
}
