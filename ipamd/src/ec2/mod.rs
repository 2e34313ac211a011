//! The engine's `Cloud` port on EC2: one method, one API call.
//!
//! Nothing here retries, and the SDK's own retries are off: Assign and Attach take no client token,
//! and a repeated count-based Assign gives twice. The client is made when it is first needed, so
//! that a start waits for nothing.

mod classify;
mod failure;
mod tags;
mod view;

#[cfg(test)]
mod tests;

pub use classify::classify;
pub(crate) use failure::chain;

use crate::aws::{self, Site};
use crate::config;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::SharedHttpClient;
use aws_sdk_ec2::types::{Filter, NetworkInterface, NetworkInterfaceAttachmentChanges};
use failure::failure;
use ipam_core::cloud::{CloudError, ErrorClass};
use ipam_core::{Block, BlockKind, EniId, EniView, Family, InstanceId, SubnetId};
use ipam_engine::ports::{Cloud, CreateEni, Fut};
use ipnet::{IpNet, Ipv4Net};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::OnceCell;

/// Pages of one Describe. An instance has some tens of ENIs at most; a page holds up to 1000.
const PAGES_MAX: usize = 50;

/// EC2, for this instance.
#[derive(Debug)]
pub struct Ec2 {
    settings: config::Ec2,
    http: SharedHttpClient,
    site: Arc<Site>,
    client: OnceCell<Client>,
}

impl Ec2 {
    /// No request is made until the first call.
    #[must_use]
    pub fn new(settings: config::Ec2, http: SharedHttpClient, site: Arc<Site>) -> Self {
        Self {
            settings,
            http,
            site,
            client: OnceCell::new(),
        }
    }

    /// The client and this instance, once IMDS (or the store of this boot) has told which it is.
    async fn ready(&self, action: &'static str) -> Result<(&Client, InstanceId), CloudError> {
        let Some((instance, region)) = self.site.instance() else {
            return Err(CloudError {
                action,
                class: ErrorClass::Unreachable,
                code: "NoInstanceId".into(),
                message: "the instance metadata has not told yet which instance this is".into(),
            });
        };
        let client = self.client.get_or_init(|| self.connect(region)).await;
        Ok((client, instance))
    }

    async fn connect(&self, region: String) -> Client {
        let sdk = aws::sdk_config(self.http.clone(), region, self.settings.timeout).await;
        let mut config = aws_sdk_ec2::config::Builder::from(&sdk);
        if let Some(endpoint) = &self.settings.endpoint {
            config.set_endpoint_url(Some(endpoint.clone()));
        }
        Client::from_conf(config.build())
    }

    fn view(&self, eni: &NetworkInterface, instance: &InstanceId) -> Option<EniView> {
        let view = view::view(eni, &self.site, instance, self.settings.manage_untagged);
        if view.is_none() {
            tracing::warn!(
                eni = eni.network_interface_id,
                "EC2's description of an ENI lacks its \
                id, Ethernet address or subnet; passing over it"
            );
        }
        view
    }

    /// Asks for the size of a subnet that IMDS has not named. Without an answer, ENIs there have no
    /// address that can be wired, and the next look tries again.
    async fn learn_subnet(&self, client: &Client, subnet: SubnetId) {
        let answer = client
            .describe_subnets()
            .subnet_ids(subnet.as_str())
            .send()
            .await;
        let net = match &answer {
            Ok(answer) => answer
                .subnets()
                .first()
                .and_then(|subnet| subnet.cidr_block.as_deref()),
            Err(error) => {
                tracing::warn!(%subnet, error = %failure("DescribeSubnets", error),
                    "the size of a subnet is not known");
                None
            }
        };
        if let Some(net) = net.and_then(|net| net.parse::<Ipv4Net>().ok()) {
            self.site.learn_subnet(subnet, net);
        }
    }

    async fn pages(
        &self,
        client: &Client,
        instance: &InstanceId,
    ) -> Result<Vec<NetworkInterface>, CloudError> {
        const ACTION: &str = "DescribeNetworkInterfaces";
        let filter = Filter::builder()
            .name("attachment.instance-id")
            .values(instance.as_str())
            .build();
        let mut enis = Vec::new();
        let mut token = None;
        for _ in 0..PAGES_MAX {
            let answer = client
                .describe_network_interfaces()
                .filters(filter.clone())
                .set_next_token(token)
                .send()
                .await
                .map_err(|error| failure(ACTION, &error))?;
            token = answer.next_token.filter(|token| !token.is_empty());
            enis.extend(answer.network_interfaces.unwrap_or_default());
            if token.is_none() {
                return Ok(enis);
            }
        }
        Err(incomplete(
            ACTION,
            "EC2 does not come to an end of its list",
        ))
    }

    async fn describe_all(&self) -> Result<Vec<EniView>, CloudError> {
        let (client, instance) = self.ready("DescribeNetworkInterfaces").await?;
        let enis = self.pages(client, &instance).await?;
        for eni in &enis {
            if let Some(subnet) = view::needs_subnet(eni, &self.site) {
                self.learn_subnet(client, subnet).await;
            }
        }
        Ok(enis
            .iter()
            .filter_map(|eni| self.view(eni, &instance))
            .collect())
    }

    async fn create_eni(&self, request: CreateEni) -> Result<EniView, CloudError> {
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
                SystemTime::now(),
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

    async fn attach_eni(&self, eni: EniId, index: u32, card: u32) -> Result<String, CloudError> {
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

    async fn delete_with_instance(&self, eni: EniId, attachment: String) -> Result<(), CloudError> {
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

    async fn assign_v4(
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
        Ok(addresses.chain(prefixes).collect())
    }

    async fn assign_v6(
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
        Ok(addresses.chain(prefixes).collect())
    }

    /// One call a family: EC2 has an action for each.
    async fn unassign_blocks(&self, eni: EniId, blocks: Vec<Block>) -> Result<(), CloudError> {
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

    async fn detach_eni(&self, attachment: String) -> Result<(), CloudError> {
        const ACTION: &str = "DetachNetworkInterface";
        let (client, _) = self.ready(ACTION).await?;
        let done = client
            .detach_network_interface()
            .attachment_id(attachment)
            .send()
            .await;
        done.map(drop).map_err(|error| failure(ACTION, &error))
    }

    async fn delete_eni(&self, eni: EniId) -> Result<(), CloudError> {
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

impl Cloud for Ec2 {
    fn describe(&self) -> Fut<'_, Result<Vec<EniView>, CloudError>> {
        Box::pin(self.describe_all())
    }

    fn create(&self, request: CreateEni) -> Fut<'_, Result<EniView, CloudError>> {
        Box::pin(self.create_eni(request))
    }

    fn attach(&self, eni: EniId, index: u32, card: u32) -> Fut<'_, Result<String, CloudError>> {
        Box::pin(self.attach_eni(eni, index, card))
    }

    fn set_delete_on_termination(
        &self,
        eni: EniId,
        attachment: String,
    ) -> Fut<'_, Result<(), CloudError>> {
        Box::pin(self.delete_with_instance(eni, attachment))
    }

    fn assign(
        &self,
        eni: EniId,
        family: Family,
        kind: BlockKind,
        count: u32,
    ) -> Fut<'_, Result<Vec<Block>, CloudError>> {
        match family {
            Family::V4 => Box::pin(self.assign_v4(eni, kind, count)),
            Family::V6 => Box::pin(self.assign_v6(eni, kind, count)),
        }
    }

    fn unassign(&self, eni: EniId, blocks: Vec<Block>) -> Fut<'_, Result<(), CloudError>> {
        Box::pin(self.unassign_blocks(eni, blocks))
    }

    fn detach(&self, attachment: String) -> Fut<'_, Result<(), CloudError>> {
        Box::pin(self.detach_eni(attachment))
    }

    fn delete(&self, eni: EniId) -> Fut<'_, Result<(), CloudError>> {
        Box::pin(self.delete_eni(eni))
    }
}

/// EC2 said yes, but not to what: it may have been done.
fn incomplete(action: &'static str, what: &str) -> CloudError {
    CloudError {
        action,
        class: ErrorClass::UnknownOutcome,
        code: "IncompleteAnswer".into(),
        message: format!("EC2's answer has {what}"),
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
