//! LocalStack's EC2 as a judge that we did not write.
//!
//! [`server`] starts it, [`ec2`] calls it and reads its answers, [`world`] makes a VPC with a node in
//! it, and [`bridge`] sits between the daemon and it: it passes every byte on and makes the mini VPC
//! (IMDS, links, packets) tell the story that LocalStack's EC2 tells. [`stage`] is all of it, ready
//! for a scenario. The scenarios are `daemon.rs` and `wire.rs`.
//!
//! `cargo xtask test` sets LocalStack up; without that its tests are skipped, with the reason.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod bridge;
pub mod differ;
pub mod ec2;
pub mod http;
pub mod server;
pub mod stage;
pub mod world;
pub mod xml;
