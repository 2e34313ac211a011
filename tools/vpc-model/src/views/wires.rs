//! Wires: what the world outside the model must build so that an attached ENI is a link.

use crate::state::InstanceState;
use crate::state::State;
use crate::words::ids::{EniId, InstanceId, Mac, NodeName, SubnetId};
use crate::words::time::Time;
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
    /// Unique on its card. The primary ENI's is 0, unless the spec says otherwise.
    pub device_index: u32,
    /// Network card.
    pub card: u32,
    /// The instance's primary ENI.
    pub is_primary: bool,
    /// Name of the link in the node: the node's base name for the primary ENI, else counted up by
    /// the device index, with `c<card>` for other cards (*assumed*: real names depend on PCI
    /// slots). An ENI where the primary ENI usually is has the name of the primary ENI's place.
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

pub(crate) fn wires(state: &State, now: Time) -> Vec<Wire> {
    let mut all: Vec<Wire> = Vec::new();
    for eni in state.enis.iter() {
        let Some(attachment) = eni.attachment.as_ref().filter(|a| a.is_linked(now)) else {
            continue;
        };
        let (Some(instance), Some(subnet)) = (
            state.instances.get(&attachment.instance),
            state.subnets.get(&eni.subnet),
        ) else {
            continue;
        };
        let is_primary = instance.primary_eni == eni.id;
        let (card, index) = match (attachment.card, attachment.device_index) {
            _ if is_primary => (0, 0),
            (0, 0) => primary_place(state, instance),
            place => place,
        };
        all.push(Wire {
            eni: eni.id.clone(),
            node: instance.node.clone(),
            instance: instance.id.clone(),
            mac: eni.mac,
            device_index: attachment.device_index,
            card: attachment.card,
            is_primary,
            link: link_name(&instance.link_name, card, index),
            subnet: subnet.id.clone(),
            primary: Ipv4Net::new_assert(eni.primary, subnet.cidr.prefix_len()),
            gateway: Ipv4Addr::from(u32::from(subnet.cidr.network()) + 1),
            subnet_v6: subnet.v6_cidr,
            allowed: eni.holdings(),
            public: eni
                .public
                .iter()
                .map(|(private, public)| (*private, *public))
                .collect(),
            source_dest_check: eni.source_dest_check,
            visible_at: attachment.linked_at,
        });
    }
    all.sort_by(|a, b| (&a.node, a.card, a.device_index).cmp(&(&b.node, b.card, b.device_index)));
    all
}

/// Card and device index of an instance's primary ENI.
fn primary_place(state: &State, instance: &InstanceState) -> (u32, u32) {
    let primary = state.enis.get(instance.primary_eni.as_str());
    let place = primary.and_then(|e| e.attachment.as_ref());
    place.map_or((0, 0), |a| (a.card, a.device_index))
}

/// `ens5` and index 2 is `ens7`; card 1 is `ens5c1` and up.
fn link_name(base: &str, card: u32, device_index: u32) -> String {
    let stem = base.trim_end_matches(|c: char| c.is_ascii_digit());
    let number: u32 = base[stem.len()..].parse().unwrap_or(0);
    let name = format!("{stem}{}", number.saturating_add(device_index));
    if card == 0 {
        name
    } else {
        format!("{name}c{card}")
    }
}

#[cfg(test)]
mod tests {
    use super::link_name;

    #[test]
    fn links_count_up() {
        for (base, card, index, name) in [
            ("ens5", 0, 0, "ens5"),
            ("ens5", 0, 2, "ens7"),
            ("eth0", 0, 1, "eth1"),
            ("enp", 0, 1, "enp1"),
            ("ens5", 3, 1, "ens6c3"),
        ] {
            assert_eq!(link_name(base, card, index), name);
        }
    }
}
