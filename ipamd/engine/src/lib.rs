//! The one task that owns the pool, and the ports through which it acts.
//!
//! **Invariant**: no AWS SDK, no sled, no socket, no environment: it runs whole in a simulation.
#![forbid(unsafe_code)]

pub mod api;
mod forget;
mod host;
pub mod notice;
mod notices;
pub mod owner;
mod parked;
pub mod ports;
mod reroute;
mod retry;
mod run;
pub mod settings;
mod snapshot;
pub mod task;

pub use api::{
    Allocate, Collect, Collected, EniSnapshot, Handle, Leased, Origin, Refusal, RefusalKind,
    Release, Released, Snapshot, Status,
};
pub use notice::{LostPod, Notice, Severity};
pub use notices::Told;
pub use run::{Ports, run, run_watched};
pub use settings::Settings;
