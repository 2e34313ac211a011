//! The engine's `Cloud` port on EC2: one method, one API call.
//!
//! Nothing here retries, and the SDK's own retries are off: Assign and Attach take no client token,
//! and a repeated count-based Assign gives twice. The client is made when it is first needed, so
//! that a start waits for nothing.

mod calls;
mod failure;
mod orphans;
mod subnets;
mod tags;
mod view;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use crate::aws::{self, Site};
use crate::config;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::config::SharedHttpClient;
use aws_sdk_ec2::types::{Filter, NetworkInterface};
use calls::incomplete;
use failure::failure;
use ipam_core::cloud::{CloudError, ErrorClass};
use ipam_core::{Block, BlockKind, EniId, EniView, Family, InstanceId, SubnetView};
use ipam_engine::ports::{Cloud, CreateEni, EniTag, Fut, Sighting};
use std::sync::Arc;
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
        Client::from_conf(self.client_config(region).await.build())
    }

    /// Everything that a client is made of.
    async fn client_config(&self, region: String) -> aws_sdk_ec2::config::Builder {
        let sdk = aws::sdk_config(self.http.clone(), region, self.settings.timeout).await;
        let mut config = aws_sdk_ec2::config::Builder::from(&sdk);
        if let Some(endpoint) = &self.settings.endpoint {
            config.set_endpoint_url(Some(endpoint.clone()));
        }
        config
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

    async fn pages(
        &self,
        client: &Client,
        filters: Vec<Filter>,
    ) -> Result<Vec<NetworkInterface>, CloudError> {
        const ACTION: &str = "DescribeNetworkInterfaces";
        let mut enis = Vec::new();
        let mut token = None;
        for _ in 0..PAGES_MAX {
            let answer = client
                .describe_network_interfaces()
                .set_filters(Some(filters.clone()))
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
        let mine = filter("attachment.instance-id", instance.as_str());
        let enis = self.pages(client, vec![mine]).await?;
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
}

fn filter(name: impl Into<String>, value: &str) -> Filter {
    Filter::builder().name(name).values(value).build()
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

    fn subnets(&self) -> Fut<'_, Result<Vec<SubnetView>, CloudError>> {
        Box::pin(self.describe_subnets())
    }

    fn delete(&self, eni: EniId) -> Fut<'_, Result<(), CloudError>> {
        Box::pin(self.delete_eni(eni))
    }

    fn tagged(&self) -> Fut<'_, Result<Vec<Sighting>, CloudError>> {
        Box::pin(self.tagged_enis())
    }

    fn tag(&self, eni: EniId, tag: EniTag) -> Fut<'_, Result<(), CloudError>> {
        Box::pin(self.write_tag(eni, tag))
    }
}
