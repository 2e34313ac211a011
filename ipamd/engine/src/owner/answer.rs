//! An answer that waits for its records to be durable.

use crate::api::{Collected, Leased, Refusal, RefusalKind, Released, Snapshot, Status};
use crate::parked::Reply;
use ipam_core::AttachmentKey;
use ipam_core::wiring::PodWiring;
use std::collections::BTreeSet;
use tokio::sync::oneshot;

/// See the module.
#[derive(Debug)]
pub struct Answer(Kind);

#[derive(Debug)]
enum Kind {
    /// An ADD: whose, if it gets a lease, whether that is new in this turn, and what it gets.
    Allocate {
        key: Option<AttachmentKey>,
        fresh: bool,
        reply: Reply,
        result: Box<Result<Leased, Refusal>>,
    },
    Release {
        reply: oneshot::Sender<Result<Released, Refusal>>,
        released: Released,
    },
    Collect {
        reply: oneshot::Sender<Result<Vec<Collected>, Refusal>>,
        collected: Vec<Collected>,
    },
    Check(oneshot::Sender<Option<PodWiring>>, Option<Box<PodWiring>>),
    Status(oneshot::Sender<Status>, Status),
    Inspect(oneshot::Sender<Box<Snapshot>>, Box<Snapshot>),
}

impl Answer {
    /// `fresh`: the lease was made for this answer and must be withdrawn if it can't be stored.
    pub(crate) fn wired(key: AttachmentKey, fresh: bool, reply: Reply, leased: Leased) -> Self {
        Self(Kind::Allocate {
            key: Some(key),
            fresh,
            reply,
            result: Box::new(Ok(leased)),
        })
    }

    pub(crate) fn refused(reply: Reply, refusal: Refusal) -> Self {
        Self(Kind::Allocate {
            key: None,
            fresh: false,
            reply,
            result: Box::new(Err(refusal)),
        })
    }

    pub(crate) fn released(
        reply: oneshot::Sender<Result<Released, Refusal>>,
        released: Released,
    ) -> Self {
        Self(Kind::Release { reply, released })
    }

    pub(crate) fn collected(
        reply: oneshot::Sender<Result<Vec<Collected>, Refusal>>,
        collected: Vec<Collected>,
    ) -> Self {
        Self(Kind::Collect { reply, collected })
    }

    pub(crate) fn checked(
        reply: oneshot::Sender<Option<PodWiring>>,
        wiring: Option<PodWiring>,
    ) -> Self {
        Self(Kind::Check(reply, wiring.map(Box::new)))
    }

    pub(crate) fn status(reply: oneshot::Sender<Status>, status: Status) -> Self {
        Self(Kind::Status(reply, status))
    }

    pub(crate) fn inspected(reply: oneshot::Sender<Box<Snapshot>>, snapshot: Snapshot) -> Self {
        Self(Kind::Inspect(reply, Box::new(snapshot)))
    }

    /// The records are durable. A receiver that has gone needs no answer.
    pub fn send(self) {
        match self.0 {
            Kind::Allocate { reply, result, .. } => drop(reply.send(*result)),
            Kind::Release { reply, released } => drop(reply.send(Ok(released))),
            Kind::Collect { reply, collected } => drop(reply.send(Ok(collected))),
            Kind::Check(reply, wiring) => drop(reply.send(wiring.map(|w| *w))),
            Kind::Status(reply, status) => drop(reply.send(status)),
            Kind::Inspect(reply, snapshot) => drop(reply.send(snapshot)),
        }
    }

    /// The attachment whose lease was made for this answer, if one was.
    pub(crate) const fn fresh(&self) -> Option<&AttachmentKey> {
        match &self.0 {
            Kind::Allocate {
                key, fresh: true, ..
            } => key.as_ref(),
            _ => None,
        }
    }

    /// The records could not be stored: these leases are withdrawn.
    pub(crate) fn fail(self, error: &str, withdrawn: &BTreeSet<AttachmentKey>) {
        let refusal = || unwritten(error);
        match self.0 {
            // Another ADD of the same attachment may have made the lease.
            Kind::Allocate {
                key, reply, result, ..
            } => drop(reply.send(match *result {
                Ok(_) if key.is_some_and(|key| withdrawn.contains(&key)) => Err(refusal()),
                other => other,
            })),
            Kind::Release { reply, .. } => drop(reply.send(Err(refusal()))),
            Kind::Collect { reply, .. } => drop(reply.send(Err(refusal()))),
            other => Self(other).send(),
        }
    }
}

/// Without its record nothing is leased or released.
pub(super) fn unwritten(error: &str) -> Refusal {
    Refusal {
        kind: RefusalKind::Internal,
        message: format!(
            "ipamd could not write its state: {error}; nothing was leased or released; \
             the runtime will try again"
        ),
        cause: "store_failed",
        notes: Vec::new(),
    }
}
