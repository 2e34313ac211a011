//! How many addresses there should be.

use super::Policy;
use crate::Family;
use crate::datastore::Tally;
use crate::limits::InstanceLimits;
use mutant::mutant;

/// The pool's size that the settings ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// With fewer than this, the pool grows.
    pub keep: u32,
    /// Growing, it grows to this: as `keep`, or rounded up to whole ENIs.
    pub grow_to: u32,
    /// Only whole ENIs are given back (`WARM_ENI_TARGET`).
    pub whole_enis: bool,
}

/// Addresses that a secondary ENI can hold in the policy's kind of block.
#[must_use]
pub fn per_eni(limits: &InstanceLimits, prefixes: bool) -> u32 {
    limits.ipv4_per_eni.saturating_sub(1) * if prefixes { 16 } else { 1 }
}

/// The target of IPv4 addresses for the pods that are there and the ADDs that wait.
///
/// Addresses that are cooling or held are no supply, and are asked for on top: an address that can't
/// be given is not a warm one. None of that goes beyond `max_pods`; pods that are there or wait count
/// whatever `max_pods` says.
#[must_use]
pub fn target(
    policy: &Policy,
    limits: &InstanceLimits,
    prefixes: bool,
    tally: &Tally,
    waiting: u32,
) -> Target {
    if !policy.wants(Family::V4) {
        return Target {
            keep: 0,
            grow_to: 0,
            whole_enis: false,
        };
    }
    let need = mutant!(
        "target/used-counts",
        tally.used + waiting,
        tally.used.max(waiting)
    );
    let warm_ip = mutant!(
        "target/warm-ip",
        policy.warm_ip.unwrap_or(0),
        policy.warm_ip.unwrap_or(0).saturating_sub(1)
    );
    let minimum = policy.minimum_ip.unwrap_or(0);
    let by_address = warm_ip > 0 || minimum > 0;
    let unit = per_eni(limits, prefixes).max(1);
    let wanted = if by_address {
        mutant!(
            "target/minimum-ip",
            need.saturating_add(warm_ip).max(minimum),
            need.saturating_add(warm_ip)
        )
    } else if prefixes {
        need.saturating_add(mutant!(
            "target/warm-prefix",
            policy.warm_prefix.saturating_mul(16),
            policy.warm_prefix.saturating_sub(1).saturating_mul(16)
        ))
    } else {
        // A target of 0 still keeps one address for the next pod, as Amazon's CNI does.
        need.saturating_add(
            mutant!(
                "target/warm-eni",
                policy.warm_eni.saturating_mul(unit),
                (policy.warm_eni.saturating_sub(1)).saturating_mul(unit)
            )
            .max(1),
        )
    };
    let clamp = |n: u32| {
        policy.max_pods.map_or(n, |max| {
            mutant!(
                "target/max-pods",
                n.min(max).max(need),
                n.max(need.min(max))
            )
        })
    };
    // At most as many again: a runtime that retries in a loop must not drain the subnet.
    let resting = mutant!(
        "target/resting-is-bought-anew",
        tally.cooling + tally.held,
        0 * tally.cooling
    );
    let busy = resting.min(clamp(wanted));
    // Addresses that rest are bought anew only up to max-pods; for a pod that waits, beyond it, too,
    // and as many again as the node can have pods: quick churn rests more than it uses.
    let urgent = if waiting > 0 {
        mutant!(
            "target/waiting-beyond-max-pods",
            need + resting.min(policy.max_pods.unwrap_or(0).max(busy)),
            need
        )
    } else {
        0
    };
    let keep = clamp(wanted.saturating_add(busy)).max(urgent);
    let whole_enis = !by_address && !prefixes;
    let grow_to = if whole_enis {
        (clamp(keep.div_ceil(unit).saturating_mul(unit))).max(keep)
    } else {
        keep
    };
    Target {
        keep,
        grow_to,
        whole_enis,
    }
}
