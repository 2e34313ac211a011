//! A VPC in LocalStack with one node in it, and what of it the mini VPC has to show.

use crate::ec2::{self, CallError, Ec2, REGION, must};
use crate::xml::Element;
use ipnet::Ipv4Net;
use lab::ClusterSpec;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use thiserror::Error;
use vpc_model::mirror::{Twin, TwinAttachment};
use vpc_model::spec::GroupSpec;
use vpc_model::{SubnetSpec, ids};

const ZONE: &str = "eu-west-1a";
/// LocalStack's account for whoever has no account of its own.
const ACCOUNT: &str = "000000000000";
const VPC_CIDR: &str = "10.0.0.0/16";

/// Something in an answer of LocalStack's that is not what it should be.
#[derive(Debug, Error)]
pub enum WorldError {
    /// A call did not work.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A text that does not parse.
    #[error("{what} {text:?}: {reason}")]
    Text {
        /// What it was to be.
        what: &'static str,
        /// The text.
        text: String,
        /// Why not.
        reason: String,
    },
}

/// What was made in LocalStack.
#[derive(Clone, Debug)]
pub struct World {
    /// The VPC's id.
    pub vpc: String,
    /// The subnet's id.
    pub subnet: String,
    /// The subnet's block.
    pub cidr: Ipv4Net,
    /// The VPC's default security group.
    pub group: String,
    /// The node's instance.
    pub instance: String,
    /// The node's instance type.
    pub instance_type: String,
    /// The instance's first interface.
    pub primary: Twin,
}

impl World {
    /// Makes a VPC, a subnet with this block, and an instance in it.
    ///
    /// # Errors
    /// A call does not work.
    pub fn make(ec2: &Ec2, instance_type: &str, cidr: &str) -> Result<Self, WorldError> {
        let made = ec2.call(&[("Action", "CreateVpc"), ("CidrBlock", VPC_CIDR)])?;
        let vpc = must("CreateVpc", &made, "vpc/vpcId")?;
        let subnet = ec2.call(&[
            ("Action", "CreateSubnet"),
            ("VpcId", &vpc),
            ("CidrBlock", cidr),
            ("AvailabilityZone", ZONE),
        ])?;
        let subnet = must("CreateSubnet", &subnet, "subnet/subnetId")?;
        let groups = ec2.call(&[
            ("Action", "DescribeSecurityGroups"),
            ("Filter.1.Name", "vpc-id"),
            ("Filter.1.Value.1", &vpc),
        ])?;
        let group = must(
            "DescribeSecurityGroups",
            &groups,
            "securityGroupInfo/item/groupId",
        )?;
        let run = ec2.call(&[
            ("Action", "RunInstances"),
            ("ImageId", "ami-12345678"),
            ("InstanceType", instance_type),
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("SubnetId", &subnet),
            ("SecurityGroupId.1", &group),
        ])?;
        let instance = must("RunInstances", &run, "instancesSet/item/instanceId")?;
        let enis = ec2.call(&enis_of(&vpc))?;
        let primary = enis.list("networkInterfaceSet").first();
        let primary = primary.ok_or_else(|| CallError::Lacks {
            action: "DescribeNetworkInterfaces".into(),
            what: "interface of the new instance".into(),
        })?;
        Ok(Self {
            primary: twin(primary)?,
            cidr: parsed("CIDR", cidr)?,
            instance_type: instance_type.to_owned(),
            vpc,
            subnet,
            group,
            instance,
        })
    }

    /// The same VPC for the mini VPC: its one node is LocalStack's instance.
    pub fn put_into(&self, cluster: &mut ClusterSpec) {
        let vpc = &mut cluster.vpc;
        vpc.vpc_id = Some(self.vpc.clone());
        vpc.account_id = ACCOUNT.into();
        vpc.region = REGION.into();
        let mut subnet = SubnetSpec::new(self.cidr);
        subnet.id = Some(self.subnet.clone());
        subnet.az = Some(ZONE.into());
        vpc.subnets = vec![subnet];
        vpc.security_groups = vec![GroupSpec {
            id: Some(self.group.clone()),
            name: "default".into(),
            description: String::new(),
            tags: BTreeMap::new(),
        }];
        vpc.nodes.truncate(1);
        for node in &mut vpc.nodes {
            node.instance_type.clone_from(&self.instance_type);
            node.subnet = Some(self.subnet.clone());
            node.instance_id = Some(self.instance.clone());
            node.eni_id = Some(self.primary.id.to_string());
            node.mac = Some(self.primary.mac);
            node.primary_ip = Some(self.primary.primary);
        }
    }
}

fn enis_of(vpc: &str) -> [(&str, &str); 3] {
    [
        ("Action", "DescribeNetworkInterfaces"),
        ("Filter.1.Name", "vpc-id"),
        ("Filter.1.Value.1", vpc),
    ]
}

/// All interfaces of a VPC as LocalStack has them now.
///
/// # Errors
/// The call does not work, or an interface can't be read.
pub async fn twins(localstack: SocketAddr, vpc: &str) -> Result<Vec<Twin>, WorldError> {
    let answer = ec2::call(localstack, &enis_of(vpc)).await?;
    answer
        .list("networkInterfaceSet")
        .iter()
        .map(twin)
        .collect()
}

/// One interface of DescribeNetworkInterfaces.
///
/// # Errors
/// Something in it can't be read.
pub fn twin(eni: &Element) -> Result<Twin, WorldError> {
    let primary: Ipv4Addr = parsed("address", eni.text("privateIpAddress"))?;
    let mut secondary = Vec::new();
    for item in eni.list("privateIpAddressesSet") {
        let address = parsed("address", item.text("privateIpAddress"))?;
        if address != primary {
            secondary.push(address);
        }
    }
    let prefixes = eni.list("ipv4PrefixSet").iter();
    let prefixes = prefixes.map(|item| parsed("prefix", item.text("ipv4Prefix")));
    let tags = eni.list("tagSet").iter();
    let tags = tags.map(|tag| (tag.text("key").to_owned(), tag.text("value").to_owned()));
    let groups = eni.list("groupSet").iter();
    let attachment = match eni
        .at("attachment")
        .filter(|a| !a.text("attachmentId").is_empty())
    {
        None => None,
        Some(a) => Some(TwinAttachment {
            id: a.text("attachmentId").into(),
            instance: a.text("instanceId").into(),
            device_index: parsed("device index", a.text("deviceIndex"))?,
            card: match a.text("networkCardIndex") {
                "" => 0,
                card => parsed("network card", card)?,
            },
            delete_on_termination: a.text("deleteOnTermination") == "true",
        }),
    };
    Ok(Twin {
        id: eni.text("networkInterfaceId").into(),
        mac: parsed::<ids::Mac>("MAC", eni.text("macAddress"))?,
        subnet: eni.text("subnetId").into(),
        primary,
        secondary,
        prefixes: prefixes.collect::<Result<_, _>>()?,
        groups: groups.map(|g| g.text("groupId").into()).collect(),
        description: eni.text("description").to_owned(),
        tags: tags.collect(),
        attachment,
    })
}

fn parsed<T>(what: &'static str, text: &str) -> Result<T, WorldError>
where
    T: std::str::FromStr,
    T::Err: std::fmt::Display,
{
    text.parse().map_err(|e: T::Err| WorldError::Text {
        what,
        text: text.to_owned(),
        reason: e.to_string(),
    })
}
