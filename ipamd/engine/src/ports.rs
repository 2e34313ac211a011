//! What the engine needs of the world: small traits in the engine's own words.

pub use crate::notices::Told;
pub use ipam_core::cloud::{CloudError, ErrorClass};
pub use ipam_core::datastore::Trace;
use ipam_core::eni::AttachmentId;
pub use ipam_core::lease::Released;
use ipam_core::orphans::Fleet;
pub use ipam_core::orphans::Sighting;
use ipam_core::wiring::HostWiring;
use ipam_core::{
    AttachmentKey, Block, BlockKind, Eni, EniHandle, EniId, EniView, Family, InstanceId, Lease,
    Mac, SecurityGroupId, SubnetId, SubnetView, Timestamp,
};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::Pin;

/// A boxed future, so that ports can be trait objects.
pub type Fut<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Time. The daemon's never runs backwards within a boot; a simulation's is virtual.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// EC2. One method is one API call; nothing here retries (the engine is the only retrier) and
/// every call ends within the adapter's own time limit.
pub trait Cloud: Send + Sync {
    /// DescribeNetworkInterfaces: every ENI attached to this instance.
    fn describe(&self) -> Fut<'_, Result<Vec<EniView>, CloudError>>;
    /// CreateNetworkInterface. The same token gives the same ENI.
    fn create(&self, request: CreateEni) -> Fut<'_, Result<EniView, CloudError>>;
    /// AttachNetworkInterface to this instance.
    fn attach(
        &self,
        eni: EniId,
        device_index: u32,
        card: u32,
    ) -> Fut<'_, Result<AttachmentId, CloudError>>;
    /// ModifyNetworkInterfaceAttribute: delete with the instance.
    fn set_delete_on_termination(
        &self,
        eni: EniId,
        attachment: AttachmentId,
    ) -> Fut<'_, Result<(), CloudError>>;
    /// AssignPrivateIpAddresses or AssignIpv6Addresses; answers what was assigned by this call.
    fn assign(
        &self,
        eni: EniId,
        family: Family,
        kind: BlockKind,
        count: u32,
    ) -> Fut<'_, Result<Vec<Block>, CloudError>>;
    /// UnassignPrivateIpAddresses or UnassignIpv6Addresses.
    fn unassign(&self, eni: EniId, blocks: Vec<Block>) -> Fut<'_, Result<(), CloudError>>;
    /// DetachNetworkInterface.
    fn detach(&self, attachment: AttachmentId) -> Fut<'_, Result<(), CloudError>>;
    /// DeleteNetworkInterface.
    fn delete(&self, eni: EniId) -> Fut<'_, Result<(), CloudError>>;
    /// DescribeNetworkInterfaces: every ENI that bears the tags of an address manager of this
    /// cluster; without a cluster's name those of this instance.
    fn tagged(&self) -> Fut<'_, Result<Vec<Sighting>, CloudError>>;
    /// CreateTags. Again and again is as good as once.
    fn tag(&self, eni: EniId, tag: EniTag) -> Fut<'_, Result<(), CloudError>>;
    /// DescribeSubnets: every subnet of this VPC in this instance's zone.
    fn subnets(&self) -> Fut<'_, Result<Vec<SubnetView>, CloudError>>;
}

/// What [`Cloud::tag`] writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EniTag {
    /// Born now.
    CreatedNow,
    /// This instance's, in this cluster.
    Mine,
}

/// CreateNetworkInterface, decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateEni {
    /// When it was first asked for: its date of birth, the same in every repetition. EC2 refuses a
    /// token that comes with another request.
    pub asked: Timestamp,
    /// Client token.
    pub token: String,
    /// Where.
    pub subnet: SubnetId,
    /// Those of the primary ENI, or of the ENIConfig.
    pub security_groups: Vec<SecurityGroupId>,
    /// Kind of the blocks to come with it.
    pub kind: BlockKind,
    /// Family of the blocks.
    pub family: Family,
    /// How many.
    pub count: u32,
}

/// IMDS.
pub trait Metadata: Send + Sync {
    /// Everything of IMDS that the engine needs, read side by side.
    fn read(&self) -> Fut<'_, Result<NodeFacts, MetadataError>>;
}

/// IMDS did not answer, or not in a way that can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("IMDS {path}: {message}")]
pub struct MetadataError {
    /// What was asked.
    pub path: String,
    /// What went wrong.
    pub message: String,
}

/// What IMDS says. It lags, and may lose an ENI after a reboot: it adds knowledge and takes
/// nothing away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeFacts {
    /// `instance-id`
    pub instance_id: InstanceId,
    /// `instance-type`
    pub instance_type: String,
    /// `placement/region`
    pub region: String,
    /// `placement/availability-zone`
    pub zone: String,
    /// `vpc-id` of the primary ENI; `None` in records of before it was read.
    #[serde(default)]
    pub vpc: Option<String>,
    /// `mac`: the primary ENI's.
    pub primary_mac: Mac,
    /// `local-ipv4`
    pub node_ip: Ipv4Addr,
    /// `ipv6`, if the primary ENI has one.
    #[serde(default)]
    pub node_ipv6: Option<Ipv6Addr>,
    /// `vpc-ipv4-cidr-blocks` and `vpc-ipv6-cidr-blocks` of the primary ENI.
    pub vpc_cidrs: Vec<IpNet>,
    /// `security-group-ids` of the primary ENI.
    pub security_groups: Vec<SecurityGroupId>,
    /// Every ENI that IMDS lists. Its single IPv6 addresses are its own, and not told here.
    pub enis: Vec<EniView>,
}

/// The node's kernel.
pub trait HostNet: Send + Sync {
    /// What is there now.
    fn survey(&self) -> Fut<'_, Result<Survey, HostNetError>>;
    /// Makes it so: what is there stays, what is missing comes, what is ours and not named goes; with
    /// `keeps_unnamed` as [`HostWiring::keeping`] says, by what the kernel had before this run's first one.
    fn apply(&self, wiring: HostWiring) -> Fut<'_, Result<Applied, HostNetError>>;
    /// Removes what a finished pod left behind: its host route and its veth.
    fn sweep(&self, leftovers: Vec<Leftover>) -> Fut<'_, Result<(), HostNetError>>;
    /// Gives pods their host routes back: each that the kernel routes nowhere, by whatever metric, and
    /// whose link is there and up.
    fn reroute(&self, pods: Vec<Leftover>) -> Fut<'_, Result<(), HostNetError>>;
    /// Looks for the links of finished pods, and makes the kernel forget every connection (conntrack
    /// entry) that names an address without one, in either direction. Other addresses' connections
    /// are left alone.
    fn forget(&self, traces: Vec<Trace>) -> Fut<'_, Result<Forgotten, HostNetError>>;
}

/// What [`HostNet::forget`] came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Addresses whose last pod's link is still there: nothing was forgotten of them. A
    /// [`KernelEvent::PodLinkGone`] tells when it goes.
    pub linked: Vec<IpAddr>,
    /// Of the others.
    pub connections: Connections,
}

/// What became of the connections of [`HostNet::forget`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Connections {
    /// So many were removed; none is left.
    Removed(u64),
    /// The kernel can't be made to forget (no such module, no right to), for this reason. Nothing was
    /// removed, and trying again is of no use.
    Unable(String),
    /// Some may be left; to be tried again.
    Failed(HostNetError),
}

impl Default for Connections {
    fn default() -> Self {
        Self::Removed(0)
    }
}

/// The kernel refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {cause}")]
pub struct HostNetError {
    /// What was tried.
    pub what: String,
    /// What the kernel (or nft) said.
    pub cause: String,
}

/// A look at the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Ethernet address of every link that may be an ENI.
    pub links: Vec<Mac>,
    /// Every host route (/32, /128) of the main table through a pod's veth: address -> link name.
    /// Any route metric counts (Calico's Felix replaces metric 0 by 1024).
    pub pod_routes: BTreeMap<IpAddr, String>,
}

/// What [`HostNet::apply`] came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// ENIs whose link is not there (yet): a [`KernelEvent::LinkUp`] tells when it comes.
    pub missing: Vec<Mac>,
    /// What other programs did to links, addresses, routes and rules that are ours to manage.
    pub foreign: Vec<Foreign>,
}

/// Something of another program's (NetworkManager, systemd-networkd, amazon-ec2-net-utils, a person)
/// that takes traffic of pods or of the node where it does not belong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreign {
    /// What was found, and where.
    pub what: String,
    /// Whose it is, as far as its traces tell.
    pub tool: &'static str,
    /// Whether it was taken away; else it is only told.
    pub undone: bool,
}

/// See [`HostNet::sweep`] and [`HostNet::reroute`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// The pod's address.
    pub address: IpAddr,
    /// The host's end of its veth.
    pub host_if: String,
}

/// What the kernel tells by itself (netlink monitor).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// A link with this Ethernet address is there.
    LinkAppeared(Mac),
    /// It went.
    LinkGone(Mac),
    /// A pod's veth went, by name.
    PodLinkGone(String),
    /// A host route through a pod's veth came.
    PodRouteAdded(IpAddr, String),
    /// It went.
    PodRouteGone(IpAddr),
    /// A route of a single address came that is through no pod's veth: it may take a pod's packets.
    PodRouteBent(IpAddr),
    /// A pod's veth was down and is up again: the kernel dropped its IPv4 routes without a word.
    PodLinkBack(String),
    /// Every host route through a pod's veth, from time to time, for what no event told of.
    PodRoutes(BTreeMap<IpAddr, String>),
    /// Another program's doing was found.
    Foreign(Foreign),
    /// Events were lost (socket buffer overrun): look again.
    Overrun,
}

/// Where people look: the log, and the cluster's events.
pub trait Cluster: Send + Sync {
    /// Tells a notice. Never waits: what can't be told at once is queued, within bounds.
    fn tell(&self, told: &Told);
}

/// The node's own disk.
pub trait Store: Send {
    /// Makes a batch durable: all of it or nothing, in order. Blocks for one flush.
    fn commit(&mut self, batch: &[Write]) -> Result<(), StoreError>;
}

/// The disk refused.
#[derive(Debug, thiserror::Error)]
#[error("store: {what}")]
pub struct StoreError {
    /// What was tried.
    pub what: String,
    /// Why not.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// One change of the stored state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// New or changed.
    Lease(Lease),
    /// Ended.
    NoLease(AttachmentKey),
    /// When the address was released and through which host link it went.
    Cooldown(IpAddr, Released),
    /// The cooldown is over.
    NoCooldown(IpAddr),
    /// New or changed.
    Eni(Eni),
    /// Gone.
    NoEni(EniHandle),
    /// IMDS's last word: spares a restart the wait for IMDS.
    Facts(NodeFacts),
    /// This node's share of the look for orphans.
    Fleet(Fleet),
    /// EC2 has told of every ENI in this boot, and has made up for what the store had lost.
    Trusted,
}

/// What a store holds at start, already cut down to what this boot and this instance may use:
/// another boot drops leases (and `same_boot` is false), another instance drops all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Leases, blocks and facts were written in this boot.
    pub same_boot: bool,
    /// See [`Write::Trusted`].
    pub trusted: bool,
    /// Pods could be served at some time in this boot (see [`crate::Handle::served`]).
    pub served: bool,
    /// The instance that wrote them, if it knew its id.
    pub instance: Option<InstanceId>,
    /// Live leases.
    pub leases: Vec<Lease>,
    /// Released addresses.
    pub cooldowns: BTreeMap<IpAddr, Released>,
    /// ENIs with their blocks and intents.
    pub enis: Vec<Eni>,
    /// IMDS's last word in this boot.
    pub facts: Option<NodeFacts>,
    /// This node's share of the look for orphans, as of this boot.
    pub fleet: Option<Fleet>,
    /// What could not be read and was put aside, for a person. Told at every start until
    /// [`Write::Trusted`].
    pub damage: Vec<String>,
}
