//! What the engine is told once, at start.

use ipam_core::SecurityGroupId;
use std::time::Duration;

/// The engine's settings. The daemon makes them from its environment.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Warm targets, limits and address modes.
    pub policy: ipam_core::plan::Policy,
    /// Prefix of host links' names.
    pub veth_prefix: String,
    /// MTU of ENIs, bytes.
    pub eni_mtu: u32,
    /// MTU of pods' links, bytes.
    pub pod_mtu: u32,
    /// Pods have a node-local address of this family too, by which they reach hosts of it.
    pub egress: Option<ipam_core::Family>,
    /// Whether pods' traffic out of the VPC leaves with the node's address.
    pub snat: bool,
    /// Destinations that keep the pod's address besides the VPC.
    pub snat_exclude: Vec<ipnet::IpNet>,
    /// Mark bits of what leaves by the primary ENI.
    pub mark: u32,
    /// Destinations that are always looked up in the main table.
    pub services: Vec<ipnet::IpNet>,
    /// How long an ADD waits for an address if its caller does not say. Default 30 s: the kubelet
    /// retries a failed ADD only after 11-15 s.
    pub add_timeout: Duration,
    /// IMDS is read again this often, and up to a third later: it is local, and a block that joins the
    /// VPC is to be known within half a minute (21 s), since until then packets to it are translated.
    pub metadata_every: Duration,
    /// Security groups of new ENIs; `None`: the primary ENI's.
    pub security_groups: Option<Vec<SecurityGroupId>>,
    /// Whether EC2 may be written to.
    pub provisioning: bool,
    /// Whose ENIs are deleted if nobody has them any more.
    pub orphans: OrphanScope,
}

/// See [`ipam_core::orphans`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OrphanScope {
    /// Nobody's.
    Off,
    /// Those of this instance that an earlier run left: one look, after a start without a state.
    Instance,
    /// Those of every node of the cluster.
    Cluster,
}
