//! An answer that waits for its records to be durable.

use crate::api::{Collected, Refusal, RefusalKind, Released, Snapshot, Status};
use crate::parked::Reply;
use ipam_core::AttachmentKey;
use ipam_core::wiring::PodWiring;
use tokio::sync::oneshot;

/// See the module.
#[derive(Debug)]
pub struct Answer(Kind);

#[derive(Debug)]
enum Kind {
    /// An ADD: whose, whether its lease is new in this turn, and what it gets.
    Allocate {
        key: Option<AttachmentKey>,
        reply: Reply,
        result: Box<Result<PodWiring, Refusal>>,
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
    /// `fresh`: the lease was made in this turn and must be withdrawn if it can't be stored.
    pub(crate) fn wired(fresh: Option<AttachmentKey>, reply: Reply, wiring: PodWiring) -> Self {
        Self(Kind::Allocate {
            key: fresh,
            reply,
            result: Box::new(Ok(wiring)),
        })
    }

    pub(crate) fn refused(reply: Reply, refusal: Refusal) -> Self {
        Self(Kind::Allocate {
            key: None,
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

    /// The records could not be stored. Returns the key of the lease to be withdrawn, if any.
    pub(crate) fn fail(self, error: &str) -> Option<AttachmentKey> {
        let refusal = || unwritten(error);
        match self.0 {
            Kind::Allocate { key, reply, result } => {
                let answer = match *result {
                    Ok(_) if key.is_some() => Err(refusal()),
                    other => other,
                };
                drop(reply.send(answer));
                return key;
            }
            Kind::Release { reply, .. } => drop(reply.send(Err(refusal()))),
            Kind::Collect { reply, .. } => drop(reply.send(Err(refusal()))),
            other => Self(other).send(),
        }
        None
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
    }
}
