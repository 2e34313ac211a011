//! The VPC through its public methods: EC2's rules, what Describe shows and when, the metadata
//! tree, faults, and random calls against a recount.

#![allow(clippy::unwrap_used)] // Helpers of tests are no `#[test]`s to the lint.

mod assign;
mod attach;
mod consistency;
mod create;
mod describe;
mod faults;
mod iam;
mod imds;
mod mirror;
mod place;
mod random;
mod spec;
mod tags;
mod wires;
mod world;
