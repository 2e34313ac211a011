//! Typed EC2 requests: what a wire protocol's parser makes, and what simulations build by hand.
//! Field names and meanings are those of the EC2 API reference (2016-11-15).

use crate::words::ids::{AttachmentId, EniId, GroupId, InstanceId, SubnetId, VpcId};
use ipnet::{Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Check the permission only.
    pub dry_run: bool,
    /// What to do.
    pub action: Action,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make an ENI in a subnet.
    CreateNetworkInterface(CreateNetworkInterface),
    /// Plug an ENI into an instance.
    AttachNetworkInterface(AttachNetworkInterface),
    /// Unplug one by attachment id.
    DetachNetworkInterface(DetachNetworkInterface),
    /// Remove an ENI that is not attached.
    DeleteNetworkInterface(DeleteNetworkInterface),
    /// Change one attribute of an ENI.
    ModifyNetworkInterfaceAttribute(ModifyNetworkInterfaceAttribute),
    /// Give an ENI IPv4 addresses or prefixes.
    AssignPrivateIpAddresses(AssignPrivateIpAddresses),
    /// Take IPv4 addresses or prefixes from an ENI.
    UnassignPrivateIpAddresses(UnassignPrivateIpAddresses),
    /// Give an ENI IPv6 addresses or prefixes.
    AssignIpv6Addresses(AssignIpv6Addresses),
    /// Take IPv6 addresses or prefixes from an ENI.
    UnassignIpv6Addresses(UnassignIpv6Addresses),
    /// Set tags on any resource.
    CreateTags(CreateTags),
    /// Remove tags.
    DeleteTags(DeleteTags),
    /// List ENIs.
    DescribeNetworkInterfaces(Describe<EniId>),
    /// List instances.
    DescribeInstances(Describe<InstanceId>),
    /// List subnets.
    DescribeSubnets(Describe<SubnetId>),
    /// List VPCs.
    DescribeVpcs(Describe<VpcId>),
    /// List route tables; there is one, the VPC's main table.
    DescribeRouteTables(Describe<String>),
    /// List security groups; `names` is EC2's `GroupName.N`.
    DescribeSecurityGroups {
        /// Ids, filters, paging.
        by: Describe<GroupId>,
        /// Group names.
        names: Vec<String>,
    },
    /// List instance types; the ids are type names.
    DescribeInstanceTypes(Describe<String>),
    /// List the zones that the VPC uses; the ids are zone names.
    DescribeAvailabilityZones {
        /// Zone names and filters; this action has no paging.
        by: Describe<String>,
        /// Zone ids.
        zone_ids: Vec<String>,
    },
    /// List tags; no ids, filters only.
    DescribeTags(Describe<String>),
}

impl Action {
    /// EC2's name of the action.
    pub fn name(&self) -> &'static str {
        match self {
            Self::CreateNetworkInterface(_) => "CreateNetworkInterface",
            Self::AttachNetworkInterface(_) => "AttachNetworkInterface",
            Self::DetachNetworkInterface(_) => "DetachNetworkInterface",
            Self::DeleteNetworkInterface(_) => "DeleteNetworkInterface",
            Self::ModifyNetworkInterfaceAttribute(_) => "ModifyNetworkInterfaceAttribute",
            Self::AssignPrivateIpAddresses(_) => "AssignPrivateIpAddresses",
            Self::UnassignPrivateIpAddresses(_) => "UnassignPrivateIpAddresses",
            Self::AssignIpv6Addresses(_) => "AssignIpv6Addresses",
            Self::UnassignIpv6Addresses(_) => "UnassignIpv6Addresses",
            Self::CreateTags(_) => "CreateTags",
            Self::DeleteTags(_) => "DeleteTags",
            Self::DescribeNetworkInterfaces(_) => "DescribeNetworkInterfaces",
            Self::DescribeInstances(_) => "DescribeInstances",
            Self::DescribeSubnets(_) => "DescribeSubnets",
            Self::DescribeVpcs(_) => "DescribeVpcs",
            Self::DescribeRouteTables(_) => "DescribeRouteTables",
            Self::DescribeSecurityGroups { .. } => "DescribeSecurityGroups",
            Self::DescribeInstanceTypes(_) => "DescribeInstanceTypes",
            Self::DescribeAvailabilityZones { .. } => "DescribeAvailabilityZones",
            Self::DescribeTags(_) => "DescribeTags",
        }
    }
}

macro_rules! request_from {
    ($($name:ident),*) => {$(
        impl From<$name> for Request {
            fn from(r: $name) -> Self {
                Self { dry_run: false, action: Action::$name(r) }
            }
        }
    )*};
}
request_from!(
    CreateNetworkInterface,
    AttachNetworkInterface,
    DetachNetworkInterface,
    DeleteNetworkInterface,
    ModifyNetworkInterfaceAttribute,
    AssignPrivateIpAddresses,
    UnassignPrivateIpAddresses,
    AssignIpv6Addresses,
    UnassignIpv6Addresses,
    CreateTags,
    DeleteTags
);

impl From<Action> for Request {
    fn from(action: Action) -> Self {
        Self {
            dry_run: false,
            action,
        }
    }
}

/// Tag key to value.
pub type Tags = BTreeMap<String, String>;

/// What of one family an ENI is to get. At most one way of asking may be used for addresses and
/// one for prefixes; EC2 refuses mixtures.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<A, P> {
    /// By name.
    pub addresses: Vec<A>,
    /// So many, EC2's choice.
    pub address_count: Option<u32>,
    /// By name.
    pub prefixes: Vec<P>,
    /// So many, EC2's choice.
    pub prefix_count: Option<u32>,
}

impl<A, P> Default for Wanted<A, P> {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            address_count: None,
            prefixes: Vec::new(),
            prefix_count: None,
        }
    }
}

/// IPv4 addresses and /28 prefixes.
pub type WantedV4 = Wanted<Ipv4Addr, Ipv4Net>;
/// IPv6 addresses and /80 prefixes.
pub type WantedV6 = Wanted<Ipv6Addr, Ipv6Net>;

/// See [`Action::CreateNetworkInterface`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateNetworkInterface {
    /// Where. Required; empty is answered as missing.
    pub subnet: Option<SubnetId>,
    /// Free text.
    pub description: String,
    /// Security groups; the VPC's default group when empty.
    pub groups: Vec<GroupId>,
    /// The primary address; EC2's choice when absent.
    pub primary: Option<Ipv4Addr>,
    /// Secondary addresses and prefixes.
    pub v4: WantedV4,
    /// IPv6 addresses and prefixes.
    pub v6: WantedV6,
    /// `interface`, `efa`, `efa-only`, `trunk` or `branch`.
    pub interface_type: Option<String>,
    /// Connection tracking timeouts; kept and shown, nothing more.
    pub tracking: Tracking,
    /// Tags for the new ENI.
    pub tags: Tags,
    /// The same token with the same parameters answers with the same ENI.
    pub client_token: Option<String>,
}

/// See [`Action::AttachNetworkInterface`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachNetworkInterface {
    /// Which ENI.
    pub eni: EniId,
    /// To which instance.
    pub instance: InstanceId,
    /// Free index on the card.
    pub device_index: u32,
    /// Network card; 0 when absent.
    pub card: Option<u32>,
}

/// See [`Action::DetachNetworkInterface`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DetachNetworkInterface {
    /// Which attachment.
    pub attachment: AttachmentId,
    /// Don't wait for the instance.
    pub force: bool,
}

/// See [`Action::DeleteNetworkInterface`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteNetworkInterface {
    /// Which ENI.
    pub eni: EniId,
}

/// See [`Action::ModifyNetworkInterfaceAttribute`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModifyNetworkInterfaceAttribute {
    /// Which ENI.
    pub eni: EniId,
    /// One attribute a call.
    pub attribute: Option<EniAttribute>,
}

/// An attribute of an ENI with its new value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EniAttribute {
    /// Of the attachment that is named.
    DeleteOnTermination {
        /// The ENI's present attachment.
        attachment: AttachmentId,
        /// New value.
        value: bool,
    },
    /// Free text.
    Description(String),
    /// All groups, replacing those before.
    Groups(Vec<GroupId>),
    /// Drop what the ENI may not send or receive.
    SourceDestCheck(bool),
    /// Connection tracking timeouts.
    Tracking(Tracking),
}

/// Idle timeouts of connection tracking in seconds; those that are not set are EC2's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracking {
    /// Established TCP connections: 60 to 432,000.
    pub tcp_established: Option<u32>,
    /// UDP flows with answers: 60 to 180.
    pub udp_stream: Option<u32>,
    /// Other UDP flows: 30 to 60.
    pub udp: Option<u32>,
}

/// See [`Action::AssignPrivateIpAddresses`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignPrivateIpAddresses {
    /// Which ENI.
    pub eni: EniId,
    /// What it gets.
    pub wanted: WantedV4,
    /// Addresses named may be taken from other ENIs.
    pub allow_reassignment: bool,
}

/// See [`Action::UnassignPrivateIpAddresses`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnassignPrivateIpAddresses {
    /// Which ENI.
    pub eni: EniId,
    /// Addresses to take.
    pub addresses: Vec<Ipv4Addr>,
    /// Prefixes to take.
    pub prefixes: Vec<Ipv4Net>,
}

/// See [`Action::AssignIpv6Addresses`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssignIpv6Addresses {
    /// Which ENI.
    pub eni: EniId,
    /// What it gets.
    pub wanted: WantedV6,
}

/// See [`Action::UnassignIpv6Addresses`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnassignIpv6Addresses {
    /// Which ENI.
    pub eni: EniId,
    /// Addresses to take.
    pub addresses: Vec<Ipv6Addr>,
    /// Prefixes to take.
    pub prefixes: Vec<Ipv6Net>,
}

/// See [`Action::CreateTags`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateTags {
    /// Ids of any kind.
    pub resources: Vec<String>,
    /// Tags to set.
    pub tags: Tags,
}

/// See [`Action::DeleteTags`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteTags {
    /// Ids of any kind.
    pub resources: Vec<String>,
    /// Keys, with a value only if the tag must have it; all tags when empty.
    pub tags: Vec<(String, Option<String>)>,
}

/// Which things to list, and how many at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Describe<I> {
    /// All when empty.
    pub ids: Vec<I>,
    /// All must match.
    pub filters: Vec<Filter>,
    /// Page size.
    pub max_results: Option<u32>,
    /// From the page before.
    pub next_token: Option<String>,
}

impl<I> Default for Describe<I> {
    fn default() -> Self {
        Self {
            ids: Vec::new(),
            filters: Vec::new(),
            max_results: None,
            next_token: None,
        }
    }
}

impl<I> Describe<I> {
    /// These things.
    pub fn ids(ids: impl IntoIterator<Item = I>) -> Self {
        Self {
            ids: ids.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Adds a filter with one value.
    #[must_use]
    pub fn filter(mut self, name: &str, value: &str) -> Self {
        self.filters.push(Filter {
            name: name.to_owned(),
            values: vec![value.to_owned()],
        });
        self
    }
}

/// A filter: the named field has one of the values; `*` and `?` are wildcards, `\` escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// For example `attachment.instance-id` or `tag:Name`.
    pub name: String,
    /// At least one.
    pub values: Vec<String>,
}
