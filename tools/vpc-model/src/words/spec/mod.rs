//! What a VPC is to be: the value that a TOML file, a test or a simulation hands to [`crate::Vpc`].
//! Parsing rejects unknown fields by name; [`crate::Vpc::new`] lists what contradicts itself.

mod latencies;
mod limits;

pub use latencies::{Latencies, Latency, Spread};
pub use limits::{BucketSpec, Limits, TypeOverride};

use crate::words::fault::Fault;
use crate::words::ids::Mac;
use crate::words::policy::Policy;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// A whole VPC with its nodes.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VpcSpec {
    /// Id of the VPC; made from the seed when absent.
    pub vpc_id: Option<String>,
    /// IPv4 blocks, the first one being the VPC's primary block (/16 to /28, *documented*).
    pub cidrs: Vec<Ipv4Net>,
    /// IPv6 block, usually a /56.
    pub ipv6_cidr: Option<Ipv6Net>,
    /// Twelve digits.
    pub account_id: String,
    /// For example `eu-west-1`.
    pub region: String,
    /// Same seed and same calls: same ids, addresses and latencies.
    pub seed: u64,
    /// At least one.
    pub subnets: Vec<SubnetSpec>,
    /// When empty, one group named `default` is made.
    pub security_groups: Vec<GroupSpec>,
    /// Instances that run from the start.
    pub nodes: Vec<NodeSpec>,
    /// How long things take.
    pub latencies: Latencies,
    /// Where EC2 says no.
    pub limits: Limits,
    /// When present, calls of nodes are checked against it; the operator may do all.
    pub iam: Option<Policy>,
    /// Rules that are active from the start.
    pub faults: Vec<Fault>,
    /// How EC2 picks addresses.
    pub placement: Placement,
    /// Answer unsigned requests with `MissingAuthenticationToken`, as EC2 does. Off by default.
    pub require_signature: bool,
    /// An ENI that a node made and that is attached without DeleteOnTermination, or not attached,
    /// for longer than this counts as leaked in [`crate::Vpc::books`].
    pub leak_after_ms: u64,
}

impl Default for VpcSpec {
    fn default() -> Self {
        Self {
            vpc_id: None,
            cidrs: vec![net4([10, 0, 0, 0], 16)],
            ipv6_cidr: None,
            account_id: "123456789012".into(),
            region: "eu-west-1".into(),
            seed: 1,
            subnets: Vec::new(),
            security_groups: Vec::new(),
            nodes: Vec::new(),
            latencies: Latencies::default(),
            limits: Limits::default(),
            iam: None,
            faults: Vec::new(),
            placement: Placement::Random,
            require_signature: false,
            leak_after_ms: 600_000,
        }
    }
}

fn net4(base: [u8; 4], len: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::from(base), len)
}

/// One subnet.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetSpec {
    /// Made from the seed when absent.
    #[serde(default)]
    pub id: Option<String>,
    /// /16 to /28 inside a VPC block.
    pub cidr: Ipv4Net,
    /// A /64 inside the VPC's IPv6 block.
    #[serde(default)]
    pub ipv6_cidr: Option<Ipv6Net>,
    /// `eu-west-1a`; the region's zone `a` when absent.
    #[serde(default)]
    pub az: Option<String>,
    /// Ranges that automatic assignment leaves alone.
    #[serde(default)]
    pub reservations: Vec<ReservationSpec>,
    /// Instances launched here get a public address.
    #[serde(default)]
    pub map_public_ip: bool,
    /// Tag key to value.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

impl SubnetSpec {
    /// A subnet with this block and nothing else said.
    pub fn new(cidr: Ipv4Net) -> Self {
        Self {
            id: None,
            cidr,
            ipv6_cidr: None,
            az: None,
            reservations: Vec::new(),
            map_public_ip: false,
            tags: BTreeMap::new(),
        }
    }
}

/// A subnet CIDR reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReservationSpec {
    /// Inside the subnet, IPv4 or IPv6.
    pub cidr: IpNet,
    /// What it is for.
    #[serde(rename = "type")]
    pub kind: ReservationKind,
}

/// What a reservation is for (*documented*: VPC guide, "Subnet CIDR reservations").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ReservationKind {
    /// Never assigned automatically; only addresses asked for by name.
    Explicit,
    /// Automatic assignment takes prefixes from here, and no single addresses.
    Prefix,
}

/// A security group: only its names matter here, it filters nothing.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupSpec {
    /// `sg-…`; made from the seed when absent.
    #[serde(default)]
    pub id: Option<String>,
    /// Unique in the VPC.
    pub name: String,
    /// Free text.
    #[serde(default)]
    pub description: String,
    /// Tag key to value.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
}

/// One instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSpec {
    /// Unique; names the node in audit log, faults and wires.
    pub name: String,
    /// `i-…`; made from the seed when absent.
    #[serde(default)]
    pub instance_id: Option<String>,
    /// Id of the primary ENI, `eni-…`; made from the seed when absent.
    #[serde(default)]
    pub eni_id: Option<String>,
    /// Its Ethernet address; made from the seed when absent.
    #[serde(default)]
    pub mac: Option<Mac>,
    /// For example `m5.large`; must be known or have an override in [`Limits::types`].
    #[serde(default = "default_type")]
    pub instance_type: String,
    /// What this instance carries where it differs from its type: the data file may be wrong or
    /// behind, and DescribeInstanceTypes goes on telling what the type has. EC2 refuses what is too
    /// much with the same errors (*assumed*).
    #[serde(default)]
    pub limits: TypeOverride,
    /// Device index of the primary ENI. On EC2 it is 0 (*documented*); that programs may meet
    /// another is *assumed*.
    #[serde(default)]
    pub device_index: u32,
    /// Network card of the primary ENI. On EC2 it is 0 (*documented*), as above.
    #[serde(default)]
    pub network_card: u32,
    /// Id or CIDR of the primary ENI's subnet; the first subnet when absent.
    #[serde(default)]
    pub subnet: Option<String>,
    /// Name of the network namespace; the node's name when absent. The model only carries it.
    #[serde(default)]
    pub namespace: Option<String>,
    /// Primary address of the primary ENI; EC2's choice when absent.
    #[serde(default)]
    pub primary_ip: Option<Ipv4Addr>,
    /// /28 prefixes on the primary ENI from launch.
    #[serde(default)]
    pub launch_prefixes: u32,
    /// Secondary IPv4 addresses on the primary ENI from launch.
    #[serde(default)]
    pub launch_addresses: u32,
    /// IPv6 addresses on the primary ENI from launch.
    #[serde(default)]
    pub launch_ipv6_addresses: u32,
    /// /80 prefixes on the primary ENI from launch.
    #[serde(default)]
    pub launch_ipv6_prefixes: u32,
    /// Kernel name of the primary ENI's link; other ENIs count up from its trailing number.
    #[serde(default = "default_link")]
    pub link_name: String,
    /// IMDS answers reach this many hops (1 to 64).
    #[serde(default = "default_hop_limit")]
    pub hop_limit: u8,
    /// `required` (IMDSv2 only) or `optional`.
    #[serde(default)]
    pub http_tokens: HttpTokens,
    /// Public address mapped to the primary address.
    #[serde(default)]
    pub public_ip: Option<Ipv4Addr>,
    /// Ids or names of security groups of the primary ENI; the first group when empty.
    #[serde(default)]
    pub security_groups: Vec<String>,
    /// Tags of the instance.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Serve the instance's tags under `meta-data/tags/instance` (off in EC2 by default).
    #[serde(default)]
    pub tags_in_imds: bool,
}

impl NodeSpec {
    /// A node with this name and type and nothing else said.
    pub fn new(name: &str, instance_type: &str) -> Self {
        Self {
            name: name.to_owned(),
            instance_id: None,
            eni_id: None,
            mac: None,
            instance_type: instance_type.to_owned(),
            limits: TypeOverride::default(),
            device_index: 0,
            network_card: 0,
            subnet: None,
            namespace: None,
            primary_ip: None,
            launch_prefixes: 0,
            launch_addresses: 0,
            launch_ipv6_addresses: 0,
            launch_ipv6_prefixes: 0,
            link_name: default_link(),
            hop_limit: default_hop_limit(),
            http_tokens: HttpTokens::default(),
            public_ip: None,
            security_groups: Vec::new(),
            tags: BTreeMap::new(),
            tags_in_imds: false,
        }
    }
}

fn default_type() -> String {
    "m5.large".into()
}

fn default_link() -> String {
    "ens5".into()
}

fn default_hop_limit() -> u8 {
    2
}

/// Whether IMDS insists on session tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HttpTokens {
    /// IMDSv2 only: a request without a token is answered 401.
    #[default]
    Required,
    /// IMDSv1 works too.
    Optional,
}

/// How EC2 picks an address that nobody named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Placement {
    /// Scattered over the subnet, as EC2 does (*recorded*): fragments small subnets.
    #[default]
    Random,
    /// Lowest free first: for tests that want to name addresses.
    Lowest,
}
