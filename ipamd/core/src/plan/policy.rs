//! What a person sets.

use core::time::Duration;

/// Address mode and warm targets: what a person sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
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
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            prefixes: false,
            warm_eni: 1,
            warm_ip: None,
            minimum_ip: None,
            warm_prefix: 1,
            max_eni: None,
            max_pods: None,
            cooldown: Duration::from_secs(30),
        }
    }
}
