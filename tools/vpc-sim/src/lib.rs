//! A mini VPC on one machine: EC2 and IMDS for programs that don't know it, and a link for each
//! attached ENI in the network namespace of its node. See the crate's README for the program.
//!
//! It owns the kernel side and the wire protocols; what EC2 would say and who may have which
//! address is decided by `vpc-model` alone.
//!
//! ```no_run
//! # async fn example(spec: vpc_sim::VpcSpec) -> Result<(), vpc_sim::SimError> {
//! // In main, before any thread:
//! vpc_sim::isolate()?;
//! // Then, in a tokio runtime:
//! let sim = vpc_sim::Sim::start(spec, vpc_sim::SimOptions::default()).await?;
//! let node = sim.node("node-a")?;
//! let out = node.output(std::process::Command::new("hostname"))?;
//! let pod = node.make_pod_netns("pod-1")?;
//! let socket = pod.net().udp("0.0.0.0:7".parse().expect("an address"))?;
//! sim.shutdown().await;
//! # Ok(()) }
//! ```

#![warn(missing_docs)]

mod clock;
mod control;
pub mod description;
pub mod ec2;
mod ec2_server;
mod error;
mod fabric;
mod firewall;
mod host_names;
mod http;
mod imds;
mod isolate;
mod kernel;
mod links;
mod netns;
mod node;
pub mod responder;
mod router;
mod servers;
mod shared;
mod sim;
pub mod testing;

pub use clock::Clock;
pub use error::SimError;
pub use fabric::EniTraffic;
pub use isolate::{Isolation, isolate, may_use_host_names};
pub use kernel::netlink::NetlinkError;
pub use netns::{NetNs, PodNs};
pub use node::Node;
pub use router::Internet;
pub use servers::Listeners;
pub use shared::{Books, Model, VpcGuard};
pub use sim::{Sim, SimOptions};
pub use vpc_model::{self, NodeSpec, SubnetSpec, VpcSpec};

use std::net::{Ipv4Addr, Ipv6Addr};

/// Where instance metadata is (*documented*).
pub const IMDS_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// The same over IPv6, on Nitro instances (*documented*).
pub const IMDS_ADDRESS_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
/// Base URL of instance metadata, from inside nodes and pods.
pub const IMDS_URL: &str = "http://169.254.169.254";
/// Where EC2 is, from inside nodes and pods. Real EC2 has public names; this address is our own.
pub const EC2_ADDRESS: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 200);
/// Base URL of EC2, from inside nodes and pods: for `AWS_ENDPOINT_URL_EC2`.
pub const EC2_URL: &str = "http://169.254.169.200";
