//! ADDs that wait for an address, first come, first served.

use crate::api::{Allocate, Refusal, RefusalKind};
use ipam_core::wiring::PodWiring;
use ipam_core::{AttachmentKey, Timestamp};
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// The answer to an ADD.
pub(crate) type Reply = oneshot::Sender<Result<PodWiring, Refusal>>;

/// An ADD that waits.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) request: Allocate,
    pub(crate) reply: Reply,
    pub(crate) deadline: Timestamp,
}

/// More than any node has pods: the kubelet's ceiling is some hundreds.
const CAPACITY: usize = 1024;

/// The queue of ADDs that wait.
#[derive(Debug, Default)]
pub(crate) struct Lot {
    waiting: VecDeque<Parked>,
}

impl Lot {
    /// Parks an ADD, or gives it back if the lot is full.
    pub(crate) fn park(&mut self, parked: Parked) -> Option<Parked> {
        if self.waiting.len() >= CAPACITY {
            return Some(parked);
        }
        self.waiting.push_back(parked);
        None
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Those whose caller has gone are nobody's demand any more.
    pub(crate) fn forget_gone(&mut self) {
        self.waiting.retain(|p| !p.reply.is_closed());
    }

    /// Takes out all, to be served or parked again in the same order.
    pub(crate) fn take_all(&mut self) -> VecDeque<Parked> {
        std::mem::take(&mut self.waiting)
    }

    /// Takes out those of a key: its DEL withdraws them.
    pub(crate) fn take_key(&mut self, key: &AttachmentKey) -> VecDeque<Parked> {
        let (gone, stay) = self
            .take_all()
            .into_iter()
            .partition(|p: &Parked| p.request.key == *key);
        self.waiting = stay;
        gone
    }

    /// Takes out those whose time is up.
    pub(crate) fn take_expired(&mut self, now: Timestamp) -> VecDeque<Parked> {
        let (gone, stay) = self
            .take_all()
            .into_iter()
            .partition(|p: &Parked| p.deadline <= now);
        self.waiting = stay;
        gone
    }

    /// Takes out the last `n` of those for whom nothing can change before their deadline.
    pub(crate) fn take_hopeless(&mut self, n: u32, change_at: Option<Timestamp>) -> Vec<Parked> {
        let mut gone = Vec::new();
        let mut stay = VecDeque::new();
        while let Some(parked) = self.waiting.pop_back() {
            let hopeless = change_at.is_none_or(|at| at > parked.deadline);
            if hopeless && gone.len() < n as usize {
                gone.push(parked);
            } else {
                stay.push_front(parked);
            }
        }
        self.waiting = stay;
        gone
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.waiting.iter().map(|p| p.deadline).min()
    }
}

/// What an ADD is told that got nothing.
pub(crate) fn no_address(
    request: &Allocate,
    waited: bool,
    why: &str,
    cause: &'static str,
) -> Refusal {
    let pod = if request.pod.name.is_empty() {
        request.key.to_string()
    } else {
        format!("{}/{}", request.pod.namespace, request.pod.name)
    };
    let why = cut(why);
    let how = if waited { "in time" } else { "now" };
    Refusal {
        kind: RefusalKind::TryAgain,
        message: format!("no address for {pod} {how}: {why}; the runtime will try again"),
        cause,
    }
}

/// A message stays within a kilobyte or so: some runtimes cut longer ones, at the wrong end.
const WHY_MAX: usize = 700;

fn cut(why: &str) -> String {
    match why.char_indices().nth(WHY_MAX) {
        Some((at, _)) => format!("{}…", &why[..at]),
        None => why.into(),
    }
}
