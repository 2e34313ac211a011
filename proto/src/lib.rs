//! The protocol between `ipamd` and its plugin: what `proto/ipam.proto` says, as Rust.
//!
//! Owns the messages ([`v1`]), their conversions to and from `ipam-core`'s types ([`ConvertError`]
//! names the field that doesn't fit), and the [`tombstone`] that the plugin leaves for a daemon that
//! is away and the [`served`] marker that the daemon leaves for a plugin. It opens no socket and no
//! file.
//!
//! Feature `client` adds [`v1::ipam_client`], feature `server` [`v1::ipam_server`].
//!
//! `src/generated/` is made by `cargo run -p ipam-proto --example regenerate` and committed: building
//! needs neither `protoc` nor a build script.
#![forbid(unsafe_code)]

mod convert;
pub mod served;
pub mod tombstone;

pub use convert::{ConvertError, NAME_MAX, Problem, addresses, pod};

/// The messages, and by features the client and the server, of package `ipamd.v1`.
#[allow(
    clippy::all,
    clippy::unwrap_used,
    clippy::use_self,
    clippy::redundant_closure_for_method_calls,
    unreachable_pub,
    missing_debug_implementations,
    reason = "generated code"
)]
#[rustfmt::skip]
#[path = "generated/ipamd.v1.rs"]
pub mod v1;
