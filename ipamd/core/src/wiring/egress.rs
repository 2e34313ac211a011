//! Node-local addresses: how pods of a cluster with one family reach hosts of the other.
//!
//! Such a pod has one address more, of a range that is the same on every node and never leaves it: what
//! it sends out is translated to the node's own address by one rule for all pods. The ranges are those
//! of Amazon's CNI. It is no address of the pod for anybody else: it is not in the CNI result's `ips`,
//! other pods are not reached by it, and services don't have it.

use crate::Family;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// `ENABLE_V4_EGRESS`: 169.254.172.0/22.
const V4: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(169, 254, 172, 0), 22);
/// `ENABLE_V6_EGRESS`: fd00::ac:0/118.
const V6: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0xac, 0), 118);

/// The range of a family.
#[must_use]
pub const fn range(family: Family) -> IpNet {
    match family {
        Family::V4 => IpNet::V4(V4),
        Family::V6 => IpNet::V6(V6),
    }
}

/// Whether it is of one of the ranges.
#[must_use]
pub fn is_local(ip: IpAddr) -> bool {
    range(Family::of(ip)).contains(&ip)
}

/// Every address of a range that a pod can have: all but the first and the last.
pub fn addresses(family: Family) -> impl Iterator<Item = IpAddr> {
    let last = (1_u32 << (range(family).max_prefix_len() - range(family).prefix_len())) - 1;
    (1..last).map(move |n| match family {
        Family::V4 => IpAddr::V4((u32::from(V4.network()) + n).into()),
        Family::V6 => IpAddr::V6((u128::from(V6.network()) + u128::from(n)).into()),
    })
}

#[cfg(test)]
mod tests;
