//! Several subnets, fragmented subnets, and the switch between prefixes and single addresses, in
//! virtual time on the model VPC.
#![allow(clippy::tests_outside_test_module, clippy::unwrap_used)] // tests fail by panicking

mod choice;
mod drain;
mod scene;
