//! What the kernel must look like, as values.
//!
//! [`PodWiring`] names every link, address, route, neighbour and sysctl of one pod: the plugin that
//! carries it out decides nothing. [`HostWiring`] is the node's side: ENI links, tables, rules and
//! NAT. It grows with ENIs and blocks, never with pods.
//!
//! Numbers (tables, priorities, marks, gateways) are those of Amazon's VPC CNI, so that other
//! agents that rely on them keep working and a live node can be taken over.

mod earlier;
pub mod egress;
mod host;
mod name;
mod pod;
mod six;
#[cfg(test)]
mod written;

pub use earlier::Earlier;
pub use host::{EniLink, HostInput, HostWiring, Nat, host_wiring};
pub use name::{host_if_name, host_if_prefix, is_of_attachment, is_of_network, pod_macs};
pub use pod::{PodInput, PodWiring, Sysctl, pod_wiring, version};
pub use six::{Egress, Six};

use crate::Mac;
use alloc::string::String;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The newest version of the wiring. The shim says in each request which it knows; the daemon emits no
/// newer, and for each pod the oldest that will do.
pub const WIRING_VERSION: u32 = 2;
/// All but what follows.
pub const WIRING_BASE: u32 = 1;
/// There may be addresses without a gateway, which the CNI result does not name.
pub const WIRING_LOCAL: u32 = 2;

/// Linux's main routing table.
pub const TABLE_MAIN: u32 = 254;

/// The table of blocks' addresses that no pod has: beyond the ENIs' tables (device index + 1, or
/// 10000 + 100 * card + index).
pub const TABLE_STRAY: u32 = 20_000;

/// The pod's gateway: answered by a permanent neighbour entry, on no wire.
pub const POD_GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The same for IPv6.
pub const POD_GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The VPC's router, on every link (VPC User Guide, "IPv6 addressing": `fe80:ec2::1`).
pub const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0xec2, 0, 0, 0, 0, 0, 1);

/// `ip rule` priority: host routes of local pods.
pub const PRIO_LOCAL_PODS: u32 = 512;
/// `ip rule` priority: what came by an ENI for none of these goes to [`TABLE_STRAY`].
pub const PRIO_STRAY: u32 = 513;
/// `ip rule` priority: traffic marked for the main table (leaves by the primary ENI).
pub const PRIO_MARKED_MAIN: u32 = 1024;
/// `ip rule` priority: destinations that are always looked up in the main table.
pub const PRIO_SERVICES: u32 = 1535;
/// `ip rule` priority: source block to its ENI's table.
pub const PRIO_BLOCK: u32 = 1536;
/// `ip rule` priority: a secondary ENI's own primary address.
pub const PRIO_ENI_ADDRESS: u32 = 32765;

/// The packet mark bit that sends traffic by the primary ENI, unless another is chosen.
pub const MARK_MAIN: u32 = 0x80;
/// The packet mark bits that name an ENI by its table for single addresses: between the bits of
/// [`MARK_MAIN`] and of kube-proxy (0xc000), and outside Calico's (0xffff0000).
pub const MARK_ENI_MASK: u32 = 0x3f00;

/// Default MTU of ENIs and pods: VPC jumbo frames (EC2 User Guide, "Network MTU").
pub const MTU_DEFAULT: u32 = 9001;

/// Where a route's destination is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// On the link.
    Link,
    /// Behind a gateway.
    Global,
}

/// A unicast route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Route {
    /// Destination; `0.0.0.0/0` or `::/0` for the default route.
    pub dst: IpNet,
    /// Gateway, if not on the link.
    pub via: Option<IpAddr>,
    /// Outgoing interface, by name.
    pub dev: String,
    /// `link` without a gateway.
    pub scope: Scope,
    /// Routing table.
    pub table: u32,
}

/// A neighbour entry: permanent in a pod, a first guess on the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Neighbour {
    /// On this interface,
    pub dev: String,
    /// this address
    pub ip: IpAddr,
    /// is there.
    pub mac: Mac,
}

/// A policy-routing rule (`ip rule`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Rule {
    /// Smaller is asked first.
    pub priority: u32,
    /// `true` for IPv6.
    pub v6: bool,
    /// Source, if it matters.
    pub from: Option<IpNet>,
    /// Destination, if it matters.
    pub to: Option<IpNet>,
    /// Packet mark and mask, if they matter.
    pub fwmark: Option<(u32, u32)>,
    /// Table to look in.
    pub table: u32,
    /// Routes of this prefix length or shorter don't count (`suppress_prefixlength`).
    pub suppress_prefix_len: Option<u32>,
}
