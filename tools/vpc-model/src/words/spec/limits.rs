//! Limits and throttling that differ from EC2's usual ones.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where EC2 says no.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Network interfaces per Region (*documented* quota: 5,000).
    pub network_interfaces: u32,
    /// Instance types that are unknown to the data file, or differ here.
    pub types: BTreeMap<String, TypeOverride>,
    /// Request token buckets on or off.
    pub throttling: bool,
    /// Bucket class (`describe`, `mutate`) or action name to its bucket; an action's own bucket
    /// replaces its class's.
    pub buckets: BTreeMap<String, BucketSpec>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            network_interfaces: 5000,
            types: BTreeMap::new(),
            throttling: true,
            buckets: BTreeMap::new(),
        }
    }
}

/// A token bucket per account and Region.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BucketSpec {
    /// Tokens when full.
    pub capacity: f64,
    /// Tokens a second.
    pub refill: f64,
    /// Tokens when the VPC begins, for an account that others have kept busy; full when absent.
    #[serde(default)]
    pub initial: Option<f64>,
}

impl BucketSpec {
    /// A bucket that is full at the beginning.
    pub const fn full(capacity: f64, refill: f64) -> Self {
        Self {
            capacity,
            refill,
            initial: None,
        }
    }

    /// A bucket that has nothing at the beginning: the first call has to wait for the refill.
    pub const fn empty(capacity: f64, refill: f64) -> Self {
        Self {
            capacity,
            refill,
            initial: Some(0.0),
        }
    }
}

/// Facts of an instance type that replace the data file's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TypeOverride {
    /// Interfaces of each network card, card 0 first.
    pub card_enis: Option<Vec<u32>>,
    /// IPv4 slots of an interface, its primary address included.
    pub ipv4_per_eni: Option<u32>,
    /// IPv6 slots of an interface.
    pub ipv6_per_eni: Option<u32>,
    /// `nitro` or `xen`.
    pub hypervisor: Option<String>,
    /// No hypervisor at all.
    pub bare_metal: Option<bool>,
}
