//! How many ENIs and addresses an instance type takes, and how many pods that makes.
//!
//! Owns the table of instance types (embedded, `data/instance-types.jsonl`) and the max-pods formula.
//! It never asks EC2: for a type that the table lacks there is [`conservative`], marked
//! `known: false`, so that whoever can ask knows that it should.

mod max_pods;
mod table;

#[cfg(test)]
mod tests;

pub use max_pods::{HOST_NETWORK_PODS, MaxPods, MaxPodsInput, Step, max_pods};

use alloc::vec;
use alloc::vec::Vec;

/// IPv4 addresses in one delegated prefix, a /28 (EC2 User Guide, "Prefix delegation for Amazon EC2
/// network interfaces").
pub const ADDRESSES_PER_PREFIX: u32 = 16;

/// What EC2 allows on an instance type (EC2 API, DescribeInstanceTypes, `NetworkInfo`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceLimits {
    /// ENIs on the default network card, the primary one among them.
    pub enis: u32,
    /// IPv4 slots of one ENI, its primary address among them. Each other slot takes a secondary
    /// address or a /28.
    pub ipv4_per_eni: u32,
    /// IPv6 slots of one ENI. 0 where the type has no IPv6.
    pub ipv6_per_eni: u32,
    /// Whether its ENIs take prefixes: Nitro or bare metal. Xen's don't.
    pub prefixes: bool,
    /// Default vCPUs; unknown for some retired types.
    pub vcpus: Option<u32>,
    /// Index in `card_enis` of the card that `enis` is about.
    pub default_card: u32,
    /// ENIs of each network card. Never empty.
    pub card_enis: Vec<u32>,
    /// Whether the table has the type. `false`: these are [`conservative`]'s guesses.
    pub known: bool,
}

/// The limits of a type in the table; `None` if it is not there.
///
/// ```
/// let m5 = ipam_core::limits::lookup("m5.large").unwrap();
/// assert_eq!((m5.enis, m5.ipv4_per_eni, m5.prefixes), (3, 10, true));
/// assert_eq!(ipam_core::limits::lookup("zz9.large"), None);
/// ```
#[must_use]
pub fn lookup(instance_type: &str) -> Option<InstanceLimits> {
    table::find(table::TYPES, instance_type)
}

/// Limits for a type that the table lacks: small enough to hold for nearly any, so that a node of a
/// new type serves pods until EC2 has been asked.
///
/// - 2 ENIs x 4 addresses, because that is the smallest pair that EC2 has given to a size bigger
///   than `micro` since Nitro; the exceptions in the table (d3.xlarge, d3en.xlarge, hpc6id.32xlarge)
///   cost one refused call each, which is an outcome that the planner knows.
/// - Prefixes, because a type that is missing is a new one: the last Xen family is from 2017 and
///   all of them are in the table. Without, such a node would have 6 pod addresses instead of 96
///   when the cluster runs with prefixes.
/// - No vCPUs: max pods is then capped as for a small instance.
/// - One card, since cards beyond the first are never a must.
#[must_use]
pub fn conservative() -> InstanceLimits {
    InstanceLimits {
        enis: 2,
        ipv4_per_eni: 4,
        ipv6_per_eni: 4,
        prefixes: true,
        vcpus: None,
        default_card: 0,
        card_enis: vec![2],
        known: false,
    }
}

/// [`lookup`], or [`conservative`] if the table lacks the type.
#[must_use]
pub fn limits_of(instance_type: &str) -> InstanceLimits {
    lookup(instance_type).unwrap_or_else(conservative)
}
