//! DescribeSubnets: the zone's list for the planner, and the size of a single subnet.

use super::calls::incomplete;
use super::failure::failure;
use super::{Ec2, PAGES_MAX};
use aws_sdk_ec2::Client;
use aws_sdk_ec2::types::{Filter, Subnet};
use ipam_core::cloud::{CloudError, ErrorClass};
use ipam_core::{SubnetId, SubnetView};
use ipnet::{IpNet, Ipv4Net};

const ACTION: &str = "DescribeSubnets";

impl Ec2 {
    /// Every subnet of this VPC in this zone, by pages. Their sizes are remembered: an ENI that is
    /// made in one of them needs no further question.
    pub(super) async fn describe_subnets(&self) -> Result<Vec<SubnetView>, CloudError> {
        let (client, _) = self.ready(ACTION).await?;
        let Some((vpc, zone)) = self.site.place() else {
            return Err(CloudError {
                action: ACTION,
                class: ErrorClass::Unreachable,
                code: "NoVpcId".into(),
                message: "the instance metadata has not told yet which VPC this is".into(),
            });
        };
        let filter = |name: &str, value: String| Filter::builder().name(name).values(value).build();
        let filters = vec![filter("vpc-id", vpc), filter("availability-zone", zone)];
        let (mut subnets, mut token) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let answer = client
                .describe_subnets()
                .set_filters(Some(filters.clone()))
                .set_next_token(token)
                .send()
                .await
                .map_err(|error| failure(ACTION, &error))?;
            subnets.extend(answer.subnets().iter().filter_map(view));
            token = answer.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                for subnet in &subnets {
                    if let Some(IpNet::V4(net)) = subnet.cidr {
                        self.site.learn_subnet(subnet.id.clone(), net);
                    }
                }
                return Ok(subnets);
            }
        }
        Err(incomplete(
            ACTION,
            "EC2 does not come to an end of its list",
        ))
    }

    /// Asks for the size of a subnet that neither IMDS nor the list has named. Without an answer,
    /// ENIs there have no address that can be wired, and the next look tries again.
    pub(super) async fn learn_subnet(&self, client: &Client, subnet: SubnetId) {
        let answer = client
            .describe_subnets()
            .subnet_ids(subnet.as_str())
            .send()
            .await;
        let net = match &answer {
            Ok(answer) => answer.subnets().first().and_then(net),
            Err(error) => {
                tracing::warn!(%subnet, error = %failure(ACTION, error),
                    "the size of a subnet is not known");
                None
            }
        };
        if let Some(net) = net {
            self.site.learn_subnet(subnet, net);
        }
    }
}

/// `None` if EC2 left out its id. Without a count it is taken for full: it comes last.
fn view(subnet: &Subnet) -> Option<SubnetView> {
    let available = subnet.available_ip_address_count.unwrap_or(0);
    let tags = subnet.tags().iter();
    Some(SubnetView {
        id: SubnetId(subnet.subnet_id.clone()?),
        cidr: net(subnet).map(IpNet::V4),
        available: u32::try_from(available).unwrap_or(0),
        tags: tags
            .filter_map(|tag| Some((tag.key.clone()?, tag.value.clone().unwrap_or_default())))
            .collect(),
    })
}

fn net(subnet: &Subnet) -> Option<Ipv4Net> {
    subnet.cidr_block.as_deref()?.parse().ok()
}
