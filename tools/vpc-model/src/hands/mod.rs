//! Hands: what happens to a VPC without an EC2 call of a program that lives in it. It is built from its
//! spec, nodes are launched and terminated, others place their ENIs in it, and it is made to look
//! like another one.

pub(crate) mod build;
pub(crate) mod launch;
pub mod mirror;
pub mod place;
