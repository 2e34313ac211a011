//! What callers ask of the engine, and the bounded door through which they ask.

use crate::ports::KernelEvent;
use ipam_core::plan::Note;
use ipam_core::wiring::{PodWiring, Rule};
use ipam_core::{AttachmentKey, Mac, PodRef, Timestamp};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A pod wants an address.
#[derive(Clone, Debug)]
pub struct Allocate {
    /// For this attachment.
    pub key: AttachmentKey,
    /// Of this pod.
    pub pod: PodRef,
    /// How long the caller waits; `None`: the engine's default.
    pub timeout: Option<Duration>,
    /// The newest wiring that the caller can carry out.
    pub wiring_version: u32,
    /// Prefix of the host link's name, if the network configuration gives one.
    pub veth_prefix: Option<String>,
    /// The pod's MTU, if the network configuration gives one.
    pub mtu: Option<u32>,
}

/// A pod is gone.
#[derive(Clone, Debug)]
pub struct Release {
    /// Which attachment.
    pub key: AttachmentKey,
    /// Its pod, if the caller knows: found again by it if the container id is unknown.
    pub pod: PodRef,
    /// Addresses that the caller's prevResult names.
    pub addresses: Vec<IpAddr>,
}

/// What a release came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Whether there was a lease.
    pub released: bool,
    /// The host's end of its veth; empty if nothing was known.
    pub host_if: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its rules in the pod's namespace.
    pub pod_rules: Vec<Rule>,
    /// Where its addresses came from.
    pub origin: Origin,
}

/// Where a lease's addresses come from, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// EC2's id of the ENI; empty if it is not known.
    pub eni: String,
    /// The pool: network card, family and kind of block, as in `card0/ipv4/prefix`.
    pub pool: String,
}

/// A lease: what to wire.
#[derive(Clone, Debug)]
pub struct Leased {
    /// See [`PodWiring`].
    pub wiring: PodWiring,
    /// Where its addresses come from.
    pub origin: Origin,
}

/// A runtime tells which attachments of a network are still there (CNI GC).
#[derive(Clone, Debug)]
pub struct Collect {
    /// Leases of other networks are not touched.
    pub network: String,
    /// The attachments that are there, all of this network.
    pub valid: BTreeSet<AttachmentKey>,
    /// How long ago the runtime asked: younger leases are not judged.
    pub age: Duration,
    /// The host's ends of pods' links that the kernel has now, with their Ethernet addresses: those of this
    /// network that no lease names are judged by them.
    pub links: BTreeMap<String, Mac>,
}

/// A lease that [`Collect`] ended, or what an earlier one left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected {
    /// Whose it was; `None`: no lease told.
    pub key: Option<AttachmentKey>,
    /// The host's end of its veth.
    pub host_if: String,
    /// Its Ethernet address: no other lease's link has the same.
    pub host_mac: Mac,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// Why a request got nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind.
    pub kind: RefusalKind,
    /// What happened, why, and what happens next.
    pub message: String,
    /// The cause's label, the same in logs, metrics and answers.
    pub cause: &'static str,
    /// What the message says of the pool, as data: for programs that check it. Empty where the refusal
    /// is not about addresses.
    pub notes: Vec<Note>,
}

/// Kinds of refusal, as a CNI caller must tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// No address (in time): CNI code 11.
    TryAgain,
    /// The request can't be served as it is: CNI code 4 or 7.
    BadRequest,
    /// The daemon's disk or kernel failed: CNI code 5 and the like.
    Internal,
    /// The request was withdrawn by a DEL of its key. CNI code 11.
    Cancelled,
    /// The daemon stops: its successor serves the request.
    Stopping,
}

/// Whether ADDs can be served, and the words for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// ADDs are answered now: with an address, or with the reason why there is none.
    pub ready: bool,
    /// Pods can be served, or could at some time in this boot. A node that is merely full is no
    /// worse than it was.
    pub served: bool,
    /// The label of what keeps the pool from what it is to have, if something does: a pod that comes now, or
    /// soon, may get nothing.
    pub degraded: Option<&'static str>,
    /// The words.
    pub message: String,
}

/// The pool for people and tools: `ipamctl`, the demo's map, introspection.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// When.
    pub at: Timestamp,
    /// See [`Status`].
    pub status: Status,
    /// ENIs by device index.
    pub enis: Vec<EniSnapshot>,
    /// Totals.
    pub totals: Totals,
    /// What the plan waits for, in words.
    pub report: Vec<String>,
    /// The same as data, for programs in this process.
    #[serde(skip)]
    pub notes: Vec<Note>,
    /// ADDs that wait for an address.
    pub parked: usize,
    /// What the instance can hold.
    pub limits: Limits,
    /// Back-offs that are not over.
    pub holds: Vec<HoldSnapshot>,
    /// What happened since the start.
    pub counters: Counters,
}

/// What the instance can hold, at its settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// ENIs, the primary one among them.
    pub enis: u32,
    /// Addresses for pods, in the kind of block that the settings ask for.
    pub addresses: u32,
    /// Pods.
    pub max_pods: Option<u32>,
}

/// A back-off of a [`Snapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HoldSnapshot {
    /// What is held up: a label.
    pub scope: &'static str,
    /// Why: a label.
    pub cause: &'static str,
    /// Next try.
    pub until: Timestamp,
    /// In words.
    pub words: String,
}

/// What happened since the start, by label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Differences between EC2's word and ours.
    pub drift: BTreeMap<&'static str, u64>,
    /// Addresses of pods that EC2 took away.
    pub lost_addresses: u64,
    /// Notices, told or not.
    pub notices: BTreeMap<&'static str, u64>,
    /// Notices that were not told since there were too many.
    pub notices_dropped: u64,
}

/// Totals of a [`Snapshot`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Addresses in blocks.
    pub addresses: u32,
    /// Leased.
    pub used: u32,
    /// Can be leased now.
    pub free: u32,
    /// Released, not reusable yet.
    pub cooling: u32,
    /// In use in the kernel, owner unknown, or being given back.
    pub held: u32,
}

/// One ENI of a [`Snapshot`].
#[derive(Clone, Debug, Serialize)]
pub struct EniSnapshot {
    /// EC2's name, or our handle before it has one.
    pub id: String,
    /// Place on its card.
    pub device_index: u32,
    /// Network card.
    pub card: u32,
    /// The node's own.
    pub primary: bool,
    /// Its primary address.
    pub address: Option<String>,
    /// Its subnet.
    pub subnet: String,
    /// Its subnet's tags say that pods get no addresses there.
    pub excluded: bool,
    /// How far it is.
    pub phase: ipam_core::Phase,
    /// Why it is left alone, if it is.
    pub unmanaged: Option<ipam_core::Unmanaged>,
    /// Since when the outcome of a write on it is unknown.
    pub in_doubt_since: Option<Timestamp>,
    /// Its blocks.
    pub blocks: Vec<BlockSnapshot>,
}

/// One block of a [`Snapshot`].
#[derive(Clone, Debug, Serialize)]
pub struct BlockSnapshot {
    /// Address or CIDR.
    pub block: String,
    /// Its standing with EC2.
    pub state: ipam_core::BlockState,
    /// Leased addresses: address -> pod ("namespace/name", or the container id).
    pub used: Vec<(IpAddr, String)>,
    /// How many can be leased now.
    pub free: u32,
    /// How many are cooling.
    pub cooling: u32,
    /// How many are held.
    pub held: u32,
}

/// Everything that can happen to the owner, from outside. Closed: nothing else reaches in.
#[derive(Debug)]
pub enum Request {
    /// See [`Allocate`]. A dropped receiver withdraws the request.
    Allocate(Allocate, oneshot::Sender<Result<Leased, Refusal>>),
    /// See [`Release`].
    Release(Release, oneshot::Sender<Result<Released, Refusal>>),
    /// CNI CHECK.
    Check(AttachmentKey, oneshot::Sender<Option<PodWiring>>),
    /// CNI GC.
    Collect(Collect, oneshot::Sender<Result<Vec<Collected>, Refusal>>),
    /// Answered once pods can be served, or could at some time in this boot.
    Served(oneshot::Sender<()>),
    /// CNI STATUS and health.
    Status(oneshot::Sender<Status>),
    /// The pool.
    Inspect(oneshot::Sender<Box<Snapshot>>),
    /// The kernel told something.
    Kernel(KernelEvent),
    /// Finish what must be finished, and end.
    Stop,
}

/// The door to the owner. Bounded: a full queue makes callers wait, within their own deadlines.
#[derive(Clone, Debug)]
pub struct Handle {
    door: mpsc::Sender<Request>,
}

/// Requests that may wait at the door. A node has at most some hundred pods; each waits at most
/// once.
pub const DOOR_CAPACITY: usize = 1024;

impl Handle {
    /// A door and its inner side.
    #[must_use]
    pub fn new() -> (Self, mpsc::Receiver<Request>) {
        let (door, inside) = mpsc::channel(DOOR_CAPACITY);
        (Self { door }, inside)
    }

    /// Leases addresses; waits while the pool grows. Dropping the future withdraws the request.
    ///
    /// # Errors
    /// See [`RefusalKind`].
    pub async fn allocate(&self, request: Allocate) -> Result<PodWiring, Refusal> {
        Ok(self.lease(request).await?.wiring)
    }

    /// The same, with where the addresses come from.
    ///
    /// # Errors
    /// See [`RefusalKind`].
    pub async fn lease(&self, request: Allocate) -> Result<Leased, Refusal> {
        self.ask(|reply| Request::Allocate(request, reply)).await?
    }

    /// Ends a lease; durable when answered.
    ///
    /// # Errors
    /// The disk failed, or the daemon stops.
    pub async fn release(&self, request: Release) -> Result<Released, Refusal> {
        self.ask(|reply| Request::Release(request, reply)).await?
    }

    /// Ends the leases that a runtime no longer knows; durable when answered.
    ///
    /// # Errors
    /// The disk failed, or the daemon stops.
    pub async fn collect(&self, request: Collect) -> Result<Vec<Collected>, Refusal> {
        self.ask(|reply| Request::Collect(request, reply)).await?
    }

    /// Waits until pods can be served; at once if they could at some time in this boot.
    ///
    /// # Errors
    /// The daemon stops.
    pub async fn served(&self) -> Result<(), Refusal> {
        self.ask(Request::Served).await
    }

    /// The wiring of a lease, if there is one.
    ///
    /// # Errors
    /// The daemon stops.
    pub async fn check(&self, key: AttachmentKey) -> Result<Option<PodWiring>, Refusal> {
        self.ask(|reply| Request::Check(key, reply)).await
    }

    /// Whether ADDs can be served.
    ///
    /// # Errors
    /// The daemon stops.
    pub async fn status(&self) -> Result<Status, Refusal> {
        self.ask(Request::Status).await
    }

    /// The pool.
    ///
    /// # Errors
    /// The daemon stops.
    pub async fn inspect(&self) -> Result<Box<Snapshot>, Refusal> {
        self.ask(Request::Inspect).await
    }

    /// Hands on what the kernel told. `false`: the engine has ended.
    pub async fn kernel(&self, event: KernelEvent) -> bool {
        self.door.send(Request::Kernel(event)).await.is_ok()
    }

    /// Whether the engine behind it has ended: who asks is refused.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.door.is_closed()
    }

    /// Asks the engine to end; [`crate::run`] returns when it has.
    pub async fn stop(&self) {
        // An engine that has ended already needs no telling.
        let _ = self.door.send(Request::Stop).await;
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<T>) -> Request,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let gone = || Refusal {
            kind: RefusalKind::Stopping,
            message: "ipamd is stopping; try again when it is back".into(),
            cause: "stopping",
            notes: Vec::new(),
        };
        self.door.send(request(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}
