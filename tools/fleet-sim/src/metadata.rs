//! IMDS for one node: the model's ENIs as far as IMDS shows them, in its moods.

use crate::cloud::view;
use crate::life::Life;
use crate::world::World;
use ipam_core::{Block, EniView, Mac};
use ipam_engine::ports::{Fut, Metadata, MetadataError, NodeFacts};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What is wrong with a node's IMDS. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Mood(Arc<Mutex<Moods>>);

#[derive(Debug, Default)]
pub(crate) struct Moods {
    /// It answers nothing.
    pub(crate) silent: bool,
    /// It shows what it showed the last time.
    pub(crate) frozen: bool,
    /// It does not list this ENI.
    pub(crate) hides: Option<Mac>,
    /// It lists these besides: gone, or never there.
    pub(crate) ghosts: Vec<EniView>,
    /// It lists these blocks on the primary ENI besides.
    pub(crate) dead: Vec<Block>,
    last: Option<NodeFacts>,
}

impl Mood {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Moods> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All is well with it again.
    pub(crate) fn clear(&self) {
        *self.lock() = Moods::default();
    }

    /// What it makes of the truth.
    fn colour(&self, mut facts: NodeFacts) -> Option<NodeFacts> {
        let mut moods = self.lock();
        if moods.silent {
            return None;
        }
        if let Some(last) = moods.last.clone().filter(|_| moods.frozen) {
            return Some(last);
        }
        facts.enis.retain(|e| Some(e.mac) != moods.hides);
        facts.enis.extend(moods.ghosts.clone());
        if let Some(primary) = facts.enis.first_mut() {
            primary.blocks.extend(moods.dead.iter().copied());
        }
        moods.last = Some(facts.clone());
        Some(facts)
    }
}

/// See the module. IMDS as one run of a daemon has it.
#[derive(Debug)]
pub(crate) struct ModelMetadata {
    pub(crate) world: World,
    pub(crate) node: String,
    pub(crate) life: Life,
    pub(crate) mood: Mood,
}

/// One round of reads side by side.
const READ_TAKES: Duration = Duration::from_millis(4);

impl Metadata for ModelMetadata {
    fn read(&self) -> Fut<'_, Result<NodeFacts, MetadataError>> {
        Box::pin(async {
            self.life.step("before IMDS is read");
            self.life.mortal(tokio::time::sleep(READ_TAKES)).await;
            let facts = self.facts().and_then(|facts| self.mood.colour(facts));
            self.life.step("after IMDS is read");
            let now = self.world.elapsed();
            let mut oracle = self.world.oracle();
            oracle
                .ledger
                .read_metadata(now, &self.node, facts.is_some());
            drop(oracle);
            facts.ok_or_else(|| MetadataError {
                path: "instance-id".into(),
                message: format!("no answer on node {}", self.node),
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
                // Tags are EC2's to tell.
                view.unmanaged = None;
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
            node_ipv6: primary.v6.first().copied(),
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
