//! What a person sets.

use crate::{Family, SubnetId};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// Where new ENIs go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subnets {
    /// To the primary ENI's subnet (`ENABLE_SUBNET_DISCOVERY=false`).
    Primary,
    /// To any subnet of the zone whose tags admit it; see [`crate::SubnetView::verdict`].
    Tagged {
        /// `CLUSTER_NAME`
        cluster: Option<String>,
    },
    /// To these (`IPAMD_SUBNET_IDS`), whatever their tags: in a shared VPC the owner's can't be seen.
    Listed(Vec<SubnetId>),
}

impl Subnets {
    /// Whether there is something to choose, so that EC2 is asked.
    #[must_use]
    pub const fn asks(&self) -> bool {
        match self {
            Self::Primary => false,
            Self::Tagged { .. } => true,
            Self::Listed(ids) => ids.len() > 1,
        }
    }
}

/// Address mode and warm targets: what a person sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `ENABLE_IPv4`, `ENABLE_IPv6`: a pod gets one address of each, in this order. Default IPv4.
    pub families: Vec<Family>,
    /// `ENABLE_PREFIX_DELEGATION`: /28 prefixes instead of single addresses.
    pub prefixes: bool,
    /// `WARM_ENI_TARGET`: whole ENIs' worth of free addresses. Used only without IP targets and
    /// without prefixes. Default 1.
    pub warm_eni: u32,
    /// `WARM_IP_TARGET`: free addresses.
    pub warm_ip: Option<u32>,
    /// `MINIMUM_IP_TARGET`: addresses in all.
    pub minimum_ip: Option<u32>,
    /// `WARM_PREFIX_TARGET`: free prefixes, without IP targets. Default 1.
    pub warm_prefix: u32,
    /// `MAX_ENI`: never more ENIs than this (nor than the instance takes).
    pub max_eni: Option<u32>,
    /// The kubelet's `maxPods`, if known: no warm address beyond it.
    pub max_pods: Option<u32>,
    /// `IP_COOLDOWN_PERIOD`. Default 30 s.
    pub cooldown: Duration,
    /// `ENABLE_SUBNET_DISCOVERY`, `IPAMD_SUBNET_IDS`.
    pub subnets: Subnets,
}

impl Policy {
    /// Whether pods get addresses of this family.
    #[must_use]
    pub fn wants(&self, family: Family) -> bool {
        self.families.contains(&family)
    }

    /// The family whose addresses are few, and that says how many pods there can be.
    #[must_use]
    pub fn scarce(&self) -> Family {
        if self.wants(Family::V4) {
            Family::V4
        } else {
            Family::V6
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            families: Vec::from([Family::V4]),
            prefixes: false,
            warm_eni: 1,
            warm_ip: None,
            minimum_ip: None,
            warm_prefix: 1,
            max_eni: None,
            max_pods: None,
            cooldown: Duration::from_secs(30),
            subnets: Subnets::Tagged { cluster: None },
        }
    }
}
