//! The words: requests, answers, errors, ids, time, and what a VPC is asked to be. Plain values with
//! what can be said of them alone; nothing here knows a VPC.

pub(crate) mod caller;
pub mod error;
pub mod fault;
pub(crate) mod glob;
pub mod ids;
pub mod policy;
pub mod request;
pub mod response;
pub(crate) mod rng;
pub mod spec;
pub(crate) mod time;
