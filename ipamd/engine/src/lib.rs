//! The one task that owns the pool, and the ports through which it acts.
//!
//! **Invariant**: no AWS SDK, no sled, no socket, no environment: it runs whole in a simulation.
#![forbid(unsafe_code)]

pub mod api;
pub mod ports;
pub mod settings;

pub use api::{Allocate, Handle, Refusal, RefusalKind, Release, Released, Snapshot, Status};
pub use settings::Settings;
