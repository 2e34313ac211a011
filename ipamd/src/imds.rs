//! The engine's `Metadata` port on IMDSv2.
//!
//! All paths are read side by side. A key that is not there means "none" only where EC2 documents
//! that ("Instance metadata categories", EC2 User Guide); everywhere else it is an error.

use crate::aws::Site;
use aws_config::imds::Client;
use aws_config::imds::client::Builder;
use aws_config::imds::client::error::ImdsError;
use aws_config::provider_config::ProviderConfig;
use aws_sdk_ec2::config::SharedHttpClient;
use futures_util::{StreamExt, TryStreamExt, stream};
use ipam_core::{AttachmentView, Block, EniView, InstanceId, Mac, SecurityGroupId, Unmanaged};
use ipam_engine::ports::{Fut, Metadata, MetadataError, NodeFacts};
use ipnet::{IpNet, Ipv4Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::timeout;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

/// ENIs read at the same time; each has about eight paths.
const ENIS_AT_ONCE: usize = 16;
/// So many characters of a text that can't be read are told.
const SHOWN: usize = 100;
const ROOT: &str = "/latest/meta-data";
const MACS: &str = "network/interfaces/macs";

/// IMDS of this instance.
#[derive(Debug)]
pub struct Imds {
    clients: Builder,
    /// The one in use, and how many there were before: each has a token of its own.
    client: Mutex<(u64, Client)>,
    deadline: Duration,
    site: Arc<Site>,
}

impl Imds {
    /// No request is made until the first [`Metadata::read`], which ends within `deadline`.
    #[must_use]
    pub fn new(http: SharedHttpClient, deadline: Duration, site: Arc<Site>) -> Self {
        Self::at(None, http, deadline, site)
    }

    /// At this address; the SDK's own settings name it otherwise.
    fn at(
        endpoint: Option<String>,
        http: SharedHttpClient,
        deadline: Duration,
        site: Arc<Site>,
    ) -> Self {
        let provider = ProviderConfig::without_region().with_http_client(http);
        let mut client = Client::builder()
            .configure(&provider)
            .max_attempts(2)
            .operation_timeout(deadline)
            .operation_attempt_timeout(deadline);
        // One that is no URL is none: nobody but tests names one.
        if let Some(endpoint) = endpoint
            && let Ok(named) = client.clone().endpoint(endpoint)
        {
            client = named;
        }
        Self {
            client: Mutex::new((0, client.clone().build())),
            clients: client,
            deadline,
            site,
        }
    }

    fn client(&self) -> (u64, Client) {
        let client = self.client.lock();
        client.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another client instead of the `number`-th, unless that was done already.
    fn renew(&self, number: u64) {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.0 == number {
            *client = (number + 1, self.clients.clone().build());
        }
    }

    /// The text at a path below `meta-data`; `None` if it is not there.
    async fn find(&self, path: &str) -> Result<Option<String>, MetadataError> {
        let whole = format!("{ROOT}/{path}");
        let (number, client) = self.client();
        let mut result = client.get(&*whole).await;
        // The SDK keeps a token until it ends, hours after IMDS was restarted and forgot it.
        if matches!(&result, Err(error) if status_of(error) == Some(401)) {
            self.renew(number);
            result = self.client().1.get(&*whole).await;
        }
        match result {
            Ok(text) => Ok(Some(text.as_ref().trim().to_owned())),
            Err(error) if status_of(&error) == Some(404) => Ok(None),
            Err(error) => Err(failed(path, crate::report::with_causes(&error))),
        }
    }

    async fn get(&self, path: &str) -> Result<String, MetadataError> {
        let text = self.find(path).await?.filter(|text| !text.is_empty());
        text.ok_or_else(|| failed(path, "is not there"))
    }

    async fn parse<T: FromStr>(&self, path: &str) -> Result<T, MetadataError> {
        parsed(path, &self.get(path).await?)
    }

    /// A list, a line each; empty if it is not there.
    async fn list<T: FromStr>(&self, path: &str) -> Result<Vec<T>, MetadataError> {
        let text = self.find(path).await?.unwrap_or_default();
        text.split_whitespace()
            .map(|line| parsed(path, line))
            .collect()
    }

    /// The same where there always is something: without it, what is known stays.
    async fn some<T: FromStr>(&self, path: &str) -> Result<Vec<T>, MetadataError> {
        let all = self.list(path).await?;
        if all.is_empty() {
            return Err(failed(path, "is not there, or is empty"));
        }
        Ok(all)
    }

    /// The VPC's IPv4 networks; older metadata services have the first one only.
    async fn vpc_v4(
        &self,
        of_primary: impl Fn(&str) -> String,
    ) -> Result<Vec<IpNet>, MetadataError> {
        let all = self.list(&of_primary("vpc-ipv4-cidr-blocks")).await?;
        if all.is_empty() {
            return self.some(&of_primary("vpc-ipv4-cidr-block")).await;
        }
        Ok(all)
    }

    async fn region(&self) -> Result<String, MetadataError> {
        if let Some(region) = self.find("placement/region").await? {
            return Ok(region);
        }
        // Older metadata services have the zone only: its letter is not part of the region.
        let zone = self.get("placement/availability-zone").await?;
        Ok(zone
            .trim_end_matches(|c: char| c.is_ascii_lowercase())
            .to_owned())
    }

    async fn facts(&self) -> Result<NodeFacts, MetadataError> {
        let primary: Mac = self.parse("mac").await?;
        let of_primary = |field: &str| format!("{MACS}/{primary}/{field}");
        let v6 = of_primary("vpc-ipv6-cidr-blocks");
        let (groups, vpc) = (of_primary("security-group-ids"), of_primary("vpc-id"));
        let (instance, kind, region, zone, node_ip, node_ipv6, vpc_v4, vpc_v6, groups, vpc, enis) =
            tokio::try_join!(
                self.get("instance-id"),
                self.get("instance-type"),
                self.region(),
                self.get("placement/availability-zone"),
                self.parse::<Ipv4Addr>("local-ipv4"),
                self.list::<Ipv6Addr>("ipv6"),
                self.vpc_v4(of_primary),
                self.list::<IpNet>(&v6),
                self.some::<String>(&groups),
                self.find(&vpc),
                self.enis(primary),
            )?;
        Ok(NodeFacts {
            instance_id: InstanceId(instance),
            instance_type: kind,
            region,
            zone,
            vpc: vpc.filter(|id| !id.is_empty()),
            primary_mac: primary,
            node_ip,
            node_ipv6: node_ipv6.into_iter().next(),
            vpc_cidrs: vpc_v4
                .into_iter()
                .chain(vpc_v6)
                .map(|net| net.trunc())
                .collect(),
            security_groups: groups.into_iter().map(SecurityGroupId).collect(),
            enis,
        })
    }

    async fn enis(&self, primary: Mac) -> Result<Vec<EniView>, MetadataError> {
        let macs = self.get(&format!("{MACS}/")).await?;
        let macs: Vec<Mac> = macs
            .split_whitespace()
            .map(|line| parsed(MACS, line.trim_end_matches('/')))
            .collect::<Result<_, _>>()?;
        let mut enis: Vec<EniView> = stream::iter(macs)
            .map(|mac| self.eni(mac, mac == primary))
            .buffer_unordered(ENIS_AT_ONCE)
            .try_filter_map(|eni| async { Ok(eni) })
            .try_collect()
            .await?;
        enis.sort_by_key(|eni| eni.attachment.as_ref().map(|at| (at.card, at.device_index)));
        Ok(enis)
    }

    /// One ENI; `None` if it went while we read it, or is shown in part: it is coming or going. The primary one
    /// is always there.
    async fn eni(&self, mac: Mac, primary: bool) -> Result<Option<EniView>, MetadataError> {
        let path = |field: &str| format!("{MACS}/{mac}/{field}");
        let Some(id) = self.find(&path("interface-id")).await? else {
            return Ok(None);
        };
        let paths = [
            "device-number",
            "subnet-id",
            "local-ipv4s",
            "subnet-ipv4-cidr-block",
        ]
        .map(&path);
        let more = ["ipv4-prefix", "ipv6-prefix"].map(&path);
        let (device_index, card, subnet, v4, net, v4_prefixes, v6_prefixes) = tokio::try_join!(
            self.find(&paths[0]),
            self.card(mac),
            self.find(&paths[1]),
            self.list::<Ipv4Addr>(&paths[2]),
            self.list::<Ipv4Net>(&paths[3]),
            self.list::<IpNet>(&more[0]),
            self.list::<IpNet>(&more[1]),
        )?;
        let said = |text: &String| !text.is_empty();
        let (Some(device_index), Some(subnet)) = (device_index.filter(said), subnet.filter(said))
        else {
            tracing::debug!(%mac, id, "IMDS shows an ENI in part");
            return match primary {
                true => Err(failed(&paths[0], "or the subnet's id is not there")),
                false => Ok(None),
            };
        };
        let device_index = parsed(&paths[0], &device_index)?;
        // "The private IPv4 addresses of the interface": the first is the primary one.
        let address = v4.first().zip(net.first());
        let address = address.and_then(|(ip, net)| Ipv4Net::new(*ip, net.prefix_len()).ok());
        let singles = v4
            .iter()
            .skip(1)
            .copied()
            .map(IpAddr::V4)
            .map(Block::address);
        let prefixes = v4_prefixes.into_iter().chain(v6_prefixes);
        Ok(Some(EniView {
            id: ipam_core::EniId(id),
            mac,
            attachment: Some(AttachmentView {
                id: None,
                device_index,
                card,
                delete_on_termination: None,
            }),
            subnet: ipam_core::SubnetId(subnet),
            address: address.map(IpNet::V4),
            blocks: singles
                .chain(prefixes.filter_map(|net| Block::new(net).ok()))
                .collect(),
            ours: false,
            unmanaged: (card > 0).then_some(Unmanaged::OtherCard),
        }))
    }

    /// `network-card`, or `network-card-index` as it is called too; on card 0 it may be missing.
    async fn card(&self, mac: Mac) -> Result<u32, MetadataError> {
        for name in ["network-card", "network-card-index"] {
            let path = format!("{MACS}/{mac}/{name}");
            if let Some(text) = self.find(&path).await? {
                return parsed(&path, &text);
            }
        }
        Ok(0)
    }
}

impl Metadata for Imds {
    fn read(&self) -> Fut<'_, Result<NodeFacts, MetadataError>> {
        Box::pin(async {
            let facts = match timeout(self.deadline, self.facts()).await {
                Ok(facts) => facts?,
                Err(_) => return Err(failed("", format!("no answer within {:?}", self.deadline))),
            };
            let other = |known: InstanceId| {
                let (path, told) = ("instance-id", &facts.instance_id);
                failed(
                    path,
                    format!("is {told}, and this is {known}, which can't change within a boot"),
                )
            };
            self.site.learn(&facts).map_err(other)?;
            Ok(facts)
        })
    }
}

fn status_of(error: &ImdsError) -> Option<u16> {
    match error {
        ImdsError::ErrorResponse(answer) => Some(answer.response().status().as_u16()),
        _ => None,
    }
}

fn failed(path: &str, message: impl Into<String>) -> MetadataError {
    MetadataError {
        path: path.into(),
        message: message.into(),
    }
}

fn parsed<T: FromStr>(path: &str, text: &str) -> Result<T, MetadataError> {
    text.parse().map_err(|_| {
        let shown: String = text.chars().take(SHOWN).collect();
        failed(path, format!("\"{}\" can't be read", shown.escape_debug()))
    })
}
