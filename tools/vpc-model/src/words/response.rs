//! Typed EC2 answers. Every value is a copy: nothing here refers back to the model.

use crate::words::ids::{AttachmentId, EniId, GroupId, InstanceId, Mac, SubnetId, VpcId};
use crate::words::request::{Tags, Tracking};
use crate::words::time::Time;
use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};

/// The answer to one request.
#[derive(Clone, Debug)]
pub enum Response {
    /// `CreateNetworkInterface`.
    Created {
        /// The new ENI, status `pending`.
        eni: Box<Eni>,
        /// Given back as it came, or as EC2 made it.
        client_token: String,
    },
    /// `AttachNetworkInterface`.
    Attached {
        /// Its new attachment.
        attachment: AttachmentId,
        /// The network card.
        card: u32,
    },
    /// Actions that answer `<return>true</return>`.
    Done,
    /// `AssignPrivateIpAddresses`.
    AssignedV4 {
        /// The ENI.
        eni: EniId,
        /// New addresses; the flag tells one that was taken from another ENI.
        addresses: Vec<Ipv4Addr>,
        /// New prefixes.
        prefixes: Vec<Ipv4Net>,
    },
    /// `UnassignPrivateIpAddresses`.
    UnassignedV4,
    /// `AssignIpv6Addresses`.
    AssignedV6 {
        /// The ENI.
        eni: EniId,
        /// New addresses.
        addresses: Vec<Ipv6Addr>,
        /// New prefixes.
        prefixes: Vec<Ipv6Net>,
    },
    /// `UnassignIpv6Addresses`.
    UnassignedV6 {
        /// The ENI.
        eni: EniId,
        /// Addresses gone.
        addresses: Vec<Ipv6Addr>,
        /// Prefixes gone.
        prefixes: Vec<Ipv6Net>,
    },
    /// `DescribeNetworkInterfaces`.
    Enis(Page<Eni>),
    /// `DescribeInstances`: one reservation an instance.
    Instances(Page<Instance>),
    /// `DescribeSubnets`.
    Subnets(Page<Subnet>),
    /// `DescribeVpcs`.
    Vpcs(Page<VpcInfo>),
    /// `DescribeRouteTables`.
    RouteTables(Page<RouteTable>),
    /// `DescribeSecurityGroups`.
    Groups(Page<Group>),
    /// `DescribeInstanceTypes`.
    InstanceTypes(Page<InstanceType>),
    /// `DescribeAvailabilityZones`.
    Zones(Vec<Zone>),
    /// `DescribeTags`.
    Tags(Page<TagItem>),
}

/// Part of a list.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// This part.
    pub items: Vec<T>,
    /// Where the next part starts, if there is one.
    pub next_token: Option<String>,
}

/// A network interface as EC2 describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Eni {
    /// `eni-…`
    pub id: EniId,
    /// Where it lies.
    pub subnet: SubnetId,
    /// Where that lies.
    pub vpc: VpcId,
    /// Zone name.
    pub zone: String,
    /// Zone id, as `euw1-az1`.
    pub zone_id: String,
    /// Free text.
    pub description: String,
    /// Account.
    pub owner: String,
    /// Who made it: an access key's principal id.
    pub requester: String,
    /// Made by an AWS service.
    pub requester_managed: bool,
    /// `pending`, `available`, `attaching`, `in-use`, `detaching`.
    pub status: &'static str,
    /// Ethernet address.
    pub mac: Mac,
    /// Primary address.
    pub private_ip: Ipv4Addr,
    /// Source/destination check on.
    pub source_dest_check: bool,
    /// Id and name of each.
    pub groups: Vec<(GroupId, String)>,
    /// If attached, or on the way.
    pub attachment: Option<Attachment>,
    /// Tags.
    pub tags: Tags,
    /// Primary address first, then secondary ones.
    pub addresses: Vec<PrivateAddress>,
    /// /28 each.
    pub v4_prefixes: Vec<Ipv4Net>,
    /// Single IPv6 addresses.
    pub v6: Vec<Ipv6Addr>,
    /// /80 each.
    pub v6_prefixes: Vec<Ipv6Net>,
    /// `interface`, `efa`, `efa-only`, `trunk` or `branch`.
    pub interface_type: String,
    /// Connection tracking timeouts that were set.
    pub tracking: Tracking,
}

impl Eni {
    /// The name that EC2's resolver has for one of its addresses.
    pub fn private_dns_name(&self, address: Ipv4Addr) -> String {
        private_dns_name(address, region_of(&self.zone))
    }

    /// The public name of a public address of its region.
    pub fn public_dns_name(&self, public: Ipv4Addr) -> String {
        public_dns_name(public, region_of(&self.zone))
    }
}

/// The zone's name without its letter.
fn region_of(zone: &str) -> &str {
    zone.trim_end_matches(|c: char| c.is_ascii_lowercase())
}

/// `ip-10-0-0-5.eu-west-1.compute.internal`; us-east-1 is the exception (*documented*).
pub(crate) fn private_dns_name(address: Ipv4Addr, region: &str) -> String {
    let dashed = address.to_string().replace('.', "-");
    if region == "us-east-1" {
        return format!("ip-{dashed}.ec2.internal");
    }
    format!("ip-{dashed}.{region}.compute.internal")
}

/// `ec2-198-18-0-5.eu-west-1.compute.amazonaws.com`, with the same exception.
pub(crate) fn public_dns_name(address: Ipv4Addr, region: &str) -> String {
    let dashed = address.to_string().replace('.', "-");
    if region == "us-east-1" {
        return format!("ec2-{dashed}.compute-1.amazonaws.com");
    }
    format!("ec2-{dashed}.{region}.compute.amazonaws.com")
}

/// A private IPv4 address of an ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateAddress {
    /// The address.
    pub address: Ipv4Addr,
    /// The ENI's first.
    pub primary: bool,
    /// Internet address mapped to it.
    pub public: Option<Ipv4Addr>,
}

/// How an ENI hangs on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// `eni-attach-…`
    pub id: AttachmentId,
    /// The instance.
    pub instance: InstanceId,
    /// 0 is the primary ENI.
    pub device_index: u32,
    /// Network card.
    pub card: u32,
    /// `attaching`, `attached`, `detaching`.
    pub status: &'static str,
    /// When Attach was called.
    pub attach_time: Time,
    /// The ENI goes with the instance.
    pub delete_on_termination: bool,
}

/// An instance as EC2 describes it.
#[derive(Clone, Debug)]
pub struct Instance {
    /// `i-…`
    pub id: InstanceId,
    /// `r-…`
    pub reservation: String,
    /// Account.
    pub owner: String,
    /// `ami-…`
    pub image: String,
    /// For example `m5.large`.
    pub instance_type: String,
    /// State code and name: 16 running, 48 terminated.
    pub state: (u16, &'static str),
    /// When it was launched.
    pub launch_time: Time,
    /// Zone name.
    pub zone: String,
    /// Subnet of the primary ENI.
    pub subnet: SubnetId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Primary address of the primary ENI; none when terminated.
    pub private_ip: Option<Ipv4Addr>,
    /// Its public address.
    pub public_ip: Option<Ipv4Addr>,
    /// `nitro` is shown as `xen`, as EC2 does.
    pub hypervisor: &'static str,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// Groups of the primary ENI.
    pub groups: Vec<(GroupId, String)>,
    /// Attached ENIs.
    pub enis: Vec<Eni>,
    /// Tags.
    pub tags: Tags,
    /// Name of the instance profile.
    pub profile: String,
    /// IMDS hop limit.
    pub hop_limit: u8,
    /// IMDS insists on tokens.
    pub tokens_required: bool,
    /// IMDS serves the tags.
    pub tags_in_imds: bool,
}

/// A subnet as EC2 describes it.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// `subnet-…`
    pub id: SubnetId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Account.
    pub owner: String,
    /// IPv4 block.
    pub cidr: Ipv4Net,
    /// IPv6 block.
    pub v6_cidr: Option<Ipv6Net>,
    /// Zone name.
    pub zone: String,
    /// Zone id.
    pub zone_id: String,
    /// Free IPv4 addresses.
    pub available: u32,
    /// Launches get a public address.
    pub map_public_ip: bool,
    /// Tags.
    pub tags: Tags,
}

/// A VPC as EC2 describes it.
#[derive(Clone, Debug)]
pub struct VpcInfo {
    /// `vpc-…`
    pub id: VpcId,
    /// Account.
    pub owner: String,
    /// IPv4 blocks, the primary one first.
    pub cidrs: Vec<Ipv4Net>,
    /// IPv6 block.
    pub v6_cidr: Option<Ipv6Net>,
    /// Tags.
    pub tags: Tags,
}

/// A route table as EC2 describes it: the VPC's main one, with the VPC's own blocks as local
/// routes and everything else to the internet gateway.
#[derive(Clone, Debug)]
pub struct RouteTable {
    /// `rtb-…`
    pub id: String,
    /// `rtbassoc-…`
    pub association: String,
    /// `igw-…`
    pub gateway: String,
    /// Its VPC.
    pub vpc: VpcInfo,
    /// None.
    pub tags: Tags,
}

/// A security group as EC2 describes it.
#[derive(Clone, Debug)]
pub struct Group {
    /// `sg-…`
    pub id: GroupId,
    /// Its VPC.
    pub vpc: VpcId,
    /// Account.
    pub owner: String,
    /// Unique in the VPC.
    pub name: String,
    /// Free text.
    pub description: String,
    /// Tags.
    pub tags: Tags,
}

/// An instance type as EC2 describes it, as far as the model knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceType {
    /// For example `m5.large`.
    pub name: String,
    /// `nitro` or `xen`; none on bare metal.
    pub hypervisor: Option<String>,
    /// No hypervisor at all.
    pub bare_metal: bool,
    /// Virtual CPUs.
    pub vcpus: Option<u32>,
    /// Memory.
    pub memory_mib: Option<u64>,
    /// `x86_64`, `arm64`, …
    pub architectures: Vec<String>,
    /// IPv4 slots of an interface, its primary address included.
    pub ipv4_per_eni: u32,
    /// IPv6 slots of an interface.
    pub ipv6_per_eni: u32,
    /// Card of the primary ENI.
    pub default_card: u32,
    /// Interfaces of each card.
    pub card_enis: Vec<u32>,
}

impl InstanceType {
    /// Interfaces of all cards together.
    pub fn max_enis(&self) -> u32 {
        self.card_enis.iter().sum()
    }

    /// Prefixes need a Nitro hypervisor or bare metal (*documented*).
    pub fn has_prefixes(&self) -> bool {
        self.bare_metal || self.hypervisor.as_deref() != Some("xen")
    }
}

/// An Availability Zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// `eu-west-1a`
    pub name: String,
    /// `euw1-az1`
    pub id: String,
    /// `eu-west-1`
    pub region: String,
}

/// A tag with what it is on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagItem {
    /// Id of the resource.
    pub resource: String,
    /// `network-interface`, `instance`, …
    pub resource_type: &'static str,
    /// Key.
    pub key: String,
    /// Value.
    pub value: String,
}
