//! The real engine ([`ipam_engine::run`]) on the model VPC ([`vpc_model`]) in virtual time.
//!
//! Owns the engine's ports as a simulation has them: EC2 and IMDS by the model with its latencies,
//! a kernel of links, routes, rules and tables, a store in memory. It opens no socket and reads no
//! clock: everything runs on tokio's paused clock, so an hour passes in milliseconds.
//!
//! [`scenario::play`] makes a whole story of one seed: nodes, pods, crashes at every step of the
//! daemon, faults of EC2, IMDS, disk and kernel, and people's mistakes; promises are checked all the
//! while, and in the end everything must have settled. [`Search`] plays many seeds.
//!
//! [`mutants`] is the table of deliberate mistakes that all this must notice.
#![forbid(unsafe_code)]

mod clock;
mod cloud;
mod ear;
mod kernel;
mod life;
mod metadata;
pub mod mutants;
mod node;
mod oracle;
mod parcel;
mod rng;
pub mod scenario;
mod search;
pub mod settle;
mod shrink;
mod spool;
mod store;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests fail by panicking
mod stories;
mod story;
mod world;

pub use kernel::Forgetting;
pub use node::Node;
pub use oracle::{Breach, Promise};
pub use search::{Found, Search};
pub use shrink::{Shrunk, shrink};
pub use store::{CommitFault, Memory};
pub use world::World;
