//! The writes: each method one API call (an Unassign of both families two).

use super::failure::failure;
use super::{Ec2, tags, view};
use aws_sdk_ec2::types::NetworkInterfaceAttachmentChanges;
use ipam_core::cloud::{CloudError, ErrorClass};
use ipam_core::{Block, BlockKind, EniId, EniView, Family};
use ipam_engine::ports::CreateEni;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

impl Ec2 {
    pub(super) async fn create_eni(&self, request: CreateEni) -> Result<EniView, CloudError> {
        const ACTION: &str = "CreateNetworkInterface";
        let (client, instance) = self.ready(ACTION).await?;
        let groups = request
            .security_groups
            .into_iter()
            .map(|group| group.0)
            .collect();
        let mut call = client
            .create_network_interface()
            .client_token(request.token)
            .subnet_id(request.subnet.0)
            .description(tags::description(&instance))
            .set_groups(Some(groups))
            .tag_specifications(tags::specification(
                &instance,
                SystemTime::UNIX_EPOCH + Duration::from_millis(request.asked.0),
                &self.settings,
            ));
        if request.count > 0 {
            let count = count(ACTION, request.count)?;
            call = match (request.family, request.kind) {
                (Family::V4, BlockKind::Address) => call.secondary_private_ip_address_count(count),
                (Family::V4, BlockKind::Prefix) => call.ipv4_prefix_count(count),
                (Family::V6, BlockKind::Address) => call.ipv6_address_count(count),
                (Family::V6, BlockKind::Prefix) => call.ipv6_prefix_count(count),
            };
        }
        let answer = call.send().await.map_err(|error| failure(ACTION, &error))?;
        let eni = answer
            .network_interface
            .ok_or_else(|| incomplete(ACTION, "no interface"))?;
        if let Some(subnet) = view::needs_subnet(&eni, &self.site) {
            self.learn_subnet(client, subnet).await;
        }
        let view = self.view(&eni, &instance);
        let mut view = view.ok_or_else(|| incomplete(ACTION, "an incomplete interface"))?;
        // Its tags may lag behind it.
        view.ours = true;
        Ok(view)
    }

    pub(super) async fn attach_eni(
        &self,
        eni: EniId,
        index: u32,
        card: u32,
    ) -> Result<String, CloudError> {
        const ACTION: &str = "AttachNetworkInterface";
        let (client, instance) = self.ready(ACTION).await?;
        let answer = client
            .attach_network_interface()
            .instance_id(instance.0)
            .network_interface_id(eni.0)
            .device_index(count(ACTION, index)?)
            .network_card_index(count(ACTION, card)?)
            .send()
            .await
            .map_err(|error| failure(ACTION, &error))?;
        answer
            .attachment_id
            .ok_or_else(|| incomplete(ACTION, "no attachment id"))
    }

    pub(super) async fn delete_with_instance(
        &self,
        eni: EniId,
        attachment: String,
    ) -> Result<(), CloudError> {
        const ACTION: &str = "ModifyNetworkInterfaceAttribute";
        let (client, _) = self.ready(ACTION).await?;
        let changes = NetworkInterfaceAttachmentChanges::builder()
            .attachment_id(attachment)
            .delete_on_termination(true)
            .build();
        let call = client
            .modify_network_interface_attribute()
            .network_interface_id(eni.0);
        let done = call.attachment(changes).send().await;
        done.map(drop).map_err(|error| failure(ACTION, &error))
    }

    pub(super) async fn assign_v4(
        &self,
        eni: EniId,
        kind: BlockKind,
        wanted: u32,
    ) -> Result<Vec<Block>, CloudError> {
        const ACTION: &str = "AssignPrivateIpAddresses";
        let (client, _) = self.ready(ACTION).await?;
        let call = client
            .assign_private_ip_addresses()
            .network_interface_id(eni.0);
        let wanted = count(ACTION, wanted)?;
        let call = match kind {
            BlockKind::Address => call.secondary_private_ip_address_count(wanted),
            BlockKind::Prefix => call.ipv4_prefix_count(wanted),
        };
        let answer = call.send().await.map_err(|error| failure(ACTION, &error))?;
        let addresses = answer.assigned_private_ip_addresses().iter();
        let prefixes = answer.assigned_ipv4_prefixes().iter();
        let addresses = addresses.filter_map(|ip| address(ip.private_ip_address.as_deref()));
        let prefixes = prefixes.filter_map(|net| prefix(net.ipv4_prefix.as_deref()));
        all_given(ACTION, kind, wanted, addresses.chain(prefixes).collect())
    }

    pub(super) async fn assign_v6(
        &self,
        eni: EniId,
        kind: BlockKind,
        wanted: u32,
    ) -> Result<Vec<Block>, CloudError> {
        const ACTION: &str = "AssignIpv6Addresses";
        let (client, _) = self.ready(ACTION).await?;
        let call = client.assign_ipv6_addresses().network_interface_id(eni.0);
        let wanted = count(ACTION, wanted)?;
        let call = match kind {
            BlockKind::Address => call.ipv6_address_count(wanted),
            BlockKind::Prefix => call.ipv6_prefix_count(wanted),
        };
        let answer = call.send().await.map_err(|error| failure(ACTION, &error))?;
        let addresses = answer.assigned_ipv6_addresses().iter();
        let prefixes = answer.assigned_ipv6_prefixes().iter();
        let addresses = addresses.filter_map(|ip| address(Some(ip.as_str())));
        let prefixes = prefixes.filter_map(|net| prefix(Some(net.as_str())));
        all_given(ACTION, kind, wanted, addresses.chain(prefixes).collect())
    }

    /// One call a family: EC2 has an action for each.
    pub(super) async fn unassign_blocks(
        &self,
        eni: EniId,
        blocks: Vec<Block>,
    ) -> Result<(), CloudError> {
        const V4: &str = "UnassignPrivateIpAddresses";
        const V6: &str = "UnassignIpv6Addresses";
        let (client, _) = self.ready(V4).await?;
        let (v4, v6): (Vec<_>, Vec<_>) = blocks
            .into_iter()
            .partition(|block| block.family() == Family::V4);
        if !v4.is_empty() {
            let (addresses, prefixes) = spelled(&v4);
            let call = client
                .unassign_private_ip_addresses()
                .network_interface_id(eni.as_str());
            let call = call
                .set_private_ip_addresses(addresses)
                .set_ipv4_prefixes(prefixes);
            call.send().await.map_err(|error| failure(V4, &error))?;
        }
        if !v6.is_empty() {
            let (addresses, prefixes) = spelled(&v6);
            let call = client
                .unassign_ipv6_addresses()
                .network_interface_id(eni.as_str());
            let call = call
                .set_ipv6_addresses(addresses)
                .set_ipv6_prefixes(prefixes);
            call.send().await.map_err(|error| failure(V6, &error))?;
        }
        Ok(())
    }

    pub(super) async fn detach_eni(&self, attachment: String) -> Result<(), CloudError> {
        const ACTION: &str = "DetachNetworkInterface";
        let (client, _) = self.ready(ACTION).await?;
        let done = client
            .detach_network_interface()
            .attachment_id(attachment)
            .send()
            .await;
        done.map(drop).map_err(|error| failure(ACTION, &error))
    }

    pub(super) async fn delete_eni(&self, eni: EniId) -> Result<(), CloudError> {
        const ACTION: &str = "DeleteNetworkInterface";
        let (client, _) = self.ready(ACTION).await?;
        let done = client
            .delete_network_interface()
            .network_interface_id(eni.0)
            .send()
            .await;
        done.map(drop).map_err(|error| failure(ACTION, &error))
    }
}

/// EC2 said yes, but not to what: it may have been done.
pub(super) fn incomplete(action: &'static str, what: &str) -> CloudError {
    CloudError {
        action,
        class: ErrorClass::UnknownOutcome,
        code: "IncompleteAnswer".into(),
        message: format!("EC2's answer has {what}"),
    }
}

/// EC2 gives what was asked for or nothing. An answer that can't be read to its end would leave
/// blocks that nobody knows of.
fn all_given(
    action: &'static str,
    kind: BlockKind,
    wanted: i32,
    blocks: Vec<Block>,
) -> Result<Vec<Block>, CloudError> {
    let known: BTreeSet<&Block> = blocks.iter().filter(|b| b.kind() == kind).collect();
    if usize::try_from(wanted) == Ok(known.len()) && known.len() == blocks.len() {
        Ok(blocks)
    } else {
        let what = format!("{} of {wanted} blocks", known.len());
        Err(incomplete(action, &what))
    }
}

/// EC2 counts in 32 bits with a sign.
fn count(action: &'static str, number: u32) -> Result<i32, CloudError> {
    i32::try_from(number).map_err(|_| CloudError {
        action,
        class: ErrorClass::Other,
        code: "NotSent".into(),
        message: format!("{number} is more than EC2 takes"),
    })
}

fn address(text: Option<&str>) -> Option<Block> {
    text?.parse::<IpAddr>().ok().map(Block::address)
}

fn prefix(text: Option<&str>) -> Option<Block> {
    Block::new(text?.parse::<IpNet>().ok()?).ok()
}

type Spelled = Option<Vec<String>>;

/// Addresses and prefixes as EC2 wants them; `None` for none.
fn spelled(blocks: &[Block]) -> (Spelled, Spelled) {
    let (addresses, prefixes): (Vec<&Block>, Vec<&Block>) = blocks
        .iter()
        .partition(|block| block.kind() == BlockKind::Address);
    let list = |blocks: Vec<&Block>| {
        Some(
            blocks
                .into_iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>(),
        )
        .filter(|list| !list.is_empty())
    };
    (list(addresses), list(prefixes))
}
