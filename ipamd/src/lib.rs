//! The daemon around `ipam-engine`: settings, and an adapter for each of its ports.
//!
//! **Invariant**: only [`config`] reads the environment, only [`ec2`] and [`imds`] talk to AWS, only
//! [`host_net`] changes the kernel, only [`store`] writes state, only [`rpc`] listens.
#![forbid(unsafe_code)]

pub mod args;
pub mod aws;
pub mod clock;
pub mod config;
pub mod conflist;
pub mod daemon;
pub mod ec2;
#[cfg(test)]
mod fuzz;
pub mod host_net;
pub mod imds;
pub mod kube;
pub mod log;
pub mod metrics;
pub mod report;
pub mod rpc;
pub mod served;
pub mod speak;
pub mod spool;
pub mod store;
