//! A cluster in a box: a mini VPC, the real daemon on each of its nodes, the real plugin run as a
//! container runtime runs it, and probes that show whether pods reach what they must.
//!
//! Owns the processes it starts and a folder for their logs; everything goes with [`Cluster`]. It
//! looks at the daemon only from outside (its process, its socket, the kernel, EC2's books) and
//! knows nothing of how it works. Demo, benchmark and scenario tests are built on it.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod check;
mod cluster;
pub mod cni;
mod daemon;
mod error;
mod folder;
pub mod interrupt;
pub mod kernel;
pub mod load;
mod node;
mod pod;
pub mod probe;
mod process;
mod programs;
mod rpc;
mod runtime;
pub mod snapshot;
pub mod state;
pub mod stats;

pub use cluster::{Cluster, ClusterSpec};
pub use daemon::{Daemon, DaemonSpec};
pub use error::LabError;
pub use node::Node;
pub use pod::Pod;
pub use process::Process;
pub use programs::Programs;
pub use runtime::{ByHand, News, Patience, Runtime, Tally};
