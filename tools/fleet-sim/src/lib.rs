//! The real engine ([`ipam_engine::run`]) on the model VPC ([`vpc_model`]) in virtual time.
//!
//! Owns the engine's ports as a simulation has them: EC2 and IMDS by the model with its latencies,
//! a kernel that is a table of links and routes, a store in memory. It opens no socket and reads no
//! clock: everything runs on tokio's paused clock, so an hour passes in milliseconds.
//!
//! [`scenario::play`] makes a whole story of one seed: nodes, pods, crashes at every step of the
//! daemon, faults of EC2, IMDS, disk and kernel, and people's mistakes; promises are checked all the
//! while, and in the end everything must have settled. [`Search`] plays many seeds.
#![forbid(unsafe_code)]

mod cloud;
mod ear;
mod kernel;
mod life;
mod metadata;
mod node;
mod oracle;
mod parcel;
mod rng;
pub mod scenario;
mod search;
pub mod settle;
mod spool;
mod store;
mod story;
mod world;

pub use kernel::Forgetting;
pub use node::Node;
pub use oracle::Breach;
pub use search::{Found, Search};
pub use store::{CommitFault, Memory};
pub use world::World;
