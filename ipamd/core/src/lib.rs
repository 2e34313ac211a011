//! The pool of pod addresses of one node, as values.
//!
//! This crate decides: which address a pod gets ([`datastore`]), what to ask of EC2 next ([`plan`]),
//! and what the kernel must look like ([`wiring`]). It acts on nothing.
//!
//! **Invariant**: no clock, thread, file, socket, environment variable or hash order. Time is an
//! argument ([`Timestamp`]); the next wake-up is a result.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod block;
pub mod check;
pub mod cloud;
pub mod datastore;
pub mod eni;
pub mod id;
pub mod lease;
pub mod limits;
pub mod orphans;
pub mod outcome;
pub mod plan;
pub mod reconcile;
pub mod subnet;
pub mod time;
pub mod wiring;

pub use block::{Block, BlockError, BlockKind, Family};
pub use eni::{AttachmentView, BlockState, Eni, EniHandle, EniView, Intent, Phase, Unmanaged};
pub use id::{EniId, InstanceId, Mac, SecurityGroupId, SubnetId};
pub use lease::{AttachmentKey, Lease, PodRef, Released};
pub use subnet::SubnetView;
pub use time::Timestamp;
