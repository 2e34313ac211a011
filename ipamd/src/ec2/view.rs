//! EC2's description of an ENI, in the pool's words.

use super::tags;
use crate::aws::Site;
use aws_sdk_ec2::types::{NetworkInterface, NetworkInterfaceType};
use ipam_core::{AttachmentView, Block, EniView, InstanceId, Mac, Unmanaged};
use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr};

/// `None` if EC2 left out what an ENI must have: an id, an Ethernet address, a subnet.
pub(super) fn view(
    eni: &NetworkInterface,
    site: &Site,
    instance: &InstanceId,
    manage_untagged: bool,
) -> Option<EniView> {
    let subnet = ipam_core::SubnetId(eni.subnet_id.clone()?);
    let address = eni
        .private_ip_address
        .as_ref()
        .and_then(|ip| ip.parse::<Ipv4Addr>().ok());
    let attachment = attachment(eni);
    Some(EniView {
        id: ipam_core::EniId(eni.network_interface_id.clone()?),
        mac: eni.mac_address.as_ref()?.parse::<Mac>().ok()?,
        ours: tag(eni, tags::INSTANCE) == Some(instance.as_str()),
        unmanaged: unmanaged(eni, attachment.as_ref(), instance, manage_untagged),
        attachment,
        address: address.and_then(|ip| site.in_subnet(&subnet, ip)),
        subnet,
        blocks: blocks(eni),
    })
}

/// The primary IPv4 address of `eni`, for those whose subnet is not known yet.
pub(super) fn needs_subnet(eni: &NetworkInterface, site: &Site) -> Option<ipam_core::SubnetId> {
    let subnet = ipam_core::SubnetId(eni.subnet_id.clone()?);
    let address = eni.private_ip_address.as_ref()?.parse().ok()?;
    site.in_subnet(&subnet, address).is_none().then_some(subnet)
}

fn attachment(eni: &NetworkInterface) -> Option<AttachmentView> {
    let attachment = eni.attachment.as_ref()?;
    let number = |value: Option<i32>| value.and_then(|n| u32::try_from(n).ok());
    Some(AttachmentView {
        id: attachment.attachment_id.clone(),
        device_index: number(attachment.device_index)?,
        card: number(attachment.network_card_index).unwrap_or(0),
        delete_on_termination: attachment.delete_on_termination,
    })
}

/// Every IPv4 address but the primary one, and every prefix. What can't be read is left out: an address
/// that we don't know is never given to a pod. Nor is one that may be the primary address. Single IPv6
/// addresses are the host's: EC2 does not say which of them came with the instance.
fn blocks(eni: &NetworkInterface) -> Vec<Block> {
    let all = eni.private_ip_addresses();
    let parsed = |text: Option<&str>| text.and_then(|ip| ip.parse::<IpAddr>().ok());
    let mut named = all.iter().filter(|ip| ip.primary == Some(true));
    let primary = [
        parsed(eni.private_ip_address.as_deref()),
        named.find_map(|ip| parsed(ip.private_ip_address.as_deref())),
    ];
    let is_known = primary.iter().any(Option::is_some);
    let secondary = all.iter().filter(|ip| is_known && ip.primary != Some(true));
    let addresses = secondary
        .filter_map(|ip| ip.private_ip_address.as_deref())
        .filter_map(|ip| ip.parse::<IpAddr>().ok())
        .map(Block::address);
    let prefixes = eni
        .ipv4_prefixes()
        .iter()
        .filter_map(|prefix| prefix.ipv4_prefix.as_deref())
        .chain(
            eni.ipv6_prefixes()
                .iter()
                .filter_map(|prefix| prefix.ipv6_prefix.as_deref()),
        )
        .filter_map(|prefix| prefix.parse::<IpNet>().ok())
        .filter_map(|net| Block::new(net).ok());
    // Where EC2 forgot to say which one is primary, it says it at the top as well.
    let own = |block: &Block| primary.iter().flatten().any(|ip| block.contains(*ip));
    addresses
        .chain(prefixes)
        .filter(|block| !own(block))
        .collect()
}

pub(super) fn tag<'a>(eni: &'a NetworkInterface, key: &str) -> Option<&'a str> {
    eni.tag_set()
        .iter()
        .find(|tag| tag.key() == Some(key))
        .and_then(|tag| tag.value())
}

/// Why an ENI is to be left alone, if it is not the primary one: that is for the core to know.
fn unmanaged(
    eni: &NetworkInterface,
    attachment: Option<&AttachmentView>,
    instance: &InstanceId,
    manage_untagged: bool,
) -> Option<Unmanaged> {
    if tag(eni, tags::NO_MANAGE) == Some("true") {
        return Some(Unmanaged::TaggedNoManage);
    }
    let carries_pods = match &eni.interface_type {
        None | Some(NetworkInterfaceType::Interface | NetworkInterfaceType::Efa) => true,
        Some(_) => false,
    };
    if !carries_pods {
        return Some(Unmanaged::InterfaceType);
    }
    if attachment.is_some_and(|at| at.card > 0) {
        return Some(Unmanaged::OtherCard);
    }
    if !manage_untagged && tag(eni, tags::INSTANCE) != Some(instance.as_str()) {
        return Some(Unmanaged::Untagged);
    }
    None
}
