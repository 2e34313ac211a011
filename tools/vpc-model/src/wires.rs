//! Wires: what the world outside the model must build so that an attached ENI is a link.

use crate::ids::{EniId, InstanceId, Mac, NodeName, SubnetId};
use crate::time::Time;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;
use std::net::{Ipv4Addr, Ipv6Addr};

/// The router's link-local address on every ENI's link (*recorded*).
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0x0ec2, 0x1);

/// One attached ENI whose link is there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wire {
    /// The ENI.
    pub eni: EniId,
    /// The node.
    pub node: NodeName,
    /// The node's instance.
    pub instance: InstanceId,
    /// The link's Ethernet address.
    pub mac: Mac,
    /// 0 is the primary ENI.
    pub device_index: u32,
    /// Network card.
    pub card: u32,
    /// Name of the link in the node: the node's base name counted up by the device index, with
    /// `c<card>` for other cards (*assumed*: real names depend on PCI slots).
    pub link: String,
    /// The subnet.
    pub subnet: SubnetId,
    /// Primary address with the subnet's prefix length.
    pub primary: Ipv4Net,
    /// The subnet's router: its base address plus one.
    pub gateway: Ipv4Addr,
    /// The subnet's IPv6 block, if it has one; the router is [`GATEWAY_V6`].
    pub subnet_v6: Option<Ipv6Net>,
    /// Everything that the ENI may send from, and that is routed to it: primary and secondary
    /// addresses as /32 and /128, prefixes as they are. Sorted.
    pub allowed: Vec<IpNet>,
    /// Private and public address of each mapping.
    pub public: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// When off, the ENI may send anything.
    pub source_dest_check: bool,
    /// When the link appeared or will.
    pub visible_at: Time,
}
