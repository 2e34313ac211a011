//! The real engine ([`ipam_engine::run`]) on the model VPC ([`vpc_model`]) in virtual time.
//!
//! Owns the engine's ports as a simulation has them: EC2 and IMDS by the model with its latencies,
//! a kernel that is a table of links and routes, a store in memory. It opens no socket and reads no
//! clock: everything runs on tokio's paused clock, so an hour passes in milliseconds.
#![forbid(unsafe_code)]

mod cloud;
mod ear;
mod kernel;
mod metadata;
mod node;
pub mod settle;
mod store;
mod world;

pub use kernel::Forgetting;
pub use node::Node;
pub use store::Memory;
pub use world::World;
