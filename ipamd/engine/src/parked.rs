//! ADDs that wait for an address, first come, first served.

use crate::api::{Allocate, Leased, Refusal, RefusalKind};
use ipam_core::plan::Note;
use ipam_core::{AttachmentKey, Timestamp};
use mutant::mutant;
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// The answer to an ADD.
pub(crate) type Reply = oneshot::Sender<Result<Leased, Refusal>>;

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
        self.waiting.retain(|p| {
            mutant!(
                "queue/caller-that-went",
                !p.reply.is_closed(),
                true || !p.reply.is_closed()
            )
        });
    }

    /// Takes out all, to be served or parked again in the same order.
    pub(crate) fn take_all(&mut self) -> VecDeque<Parked> {
        mutant!(
            "queue/first-come-first-served",
            std::mem::take(&mut self.waiting),
            std::mem::take(&mut self.waiting)
                .into_iter()
                .rev()
                .collect()
        )
    }

    /// Takes out those of a key: its DEL withdraws them.
    pub(crate) fn take_key(&mut self, key: &AttachmentKey) -> VecDeque<Parked> {
        let (gone, stay) = self.take_all().into_iter().partition(|p: &Parked| {
            mutant!(
                "del/withdraws-only-its-own-add",
                p.request.key == *key,
                p.request.key.network == key.network
            )
        });
        self.waiting = stay;
        gone
    }

    /// Takes out those whose time is up.
    pub(crate) fn take_expired(&mut self, now: Timestamp) -> VecDeque<Parked> {
        let (gone, stay) = self.take_all().into_iter().partition(|p: &Parked| {
            mutant!(
                "refusal/by-the-deadline",
                p.deadline <= now,
                p.deadline + std::time::Duration::from_secs(5) <= now
            )
        });
        self.waiting = stay;
        gone
    }

    /// Of the last `n`, takes out those for whom nothing can change before their deadline. What is
    /// there or on its way is for those who came before them.
    pub(crate) fn take_hopeless(&mut self, n: u32, change_at: Option<Timestamp>) -> Vec<Parked> {
        let met = self.waiting.len().saturating_sub(n as usize);
        let hopeless = |p: &Parked| change_at.is_none_or(|at| at > p.deadline);
        let last = mutant!(
            "queue/last-is-refused-first",
            self.waiting.split_off(met),
            self.waiting.drain(..n as usize).collect()
        );
        let (gone, stay): (VecDeque<_>, VecDeque<_>) = last.into_iter().partition(hopeless);
        self.waiting.extend(stay);
        // The last comes first.
        gone.into_iter().rev().collect()
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
    notes: &[Note],
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
        notes: notes.to_vec(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn add(n: u32, deadline: Timestamp) -> Parked {
        let key = AttachmentKey {
            network: "n".into(),
            container_id: format!("c{n}"),
            if_name: "eth0".into(),
        };
        let request = Allocate {
            key,
            pod: ipam_core::PodRef::default(),
            timeout: None,
            wiring_version: 0,
            veth_prefix: None,
            mtu: None,
        };
        Parked {
            request,
            reply: oneshot::channel().0,
            deadline,
        }
    }

    /// Two of four get what is on its way: the first two, however little time they have.
    #[test]
    fn who_is_in_front_is_not_hopeless() {
        let now = Timestamp(1_000_000);
        let after = |s| now + Duration::from_secs(s);
        let mut lot = Lot::default();
        for (n, seconds) in [(0, 5), (1, 60), (2, 5), (3, 60)] {
            assert!(lot.park(add(n, after(seconds))).is_none());
        }
        let id = |p: &Parked| p.request.key.container_id.clone();
        let gone = lot.take_hopeless(2, Some(after(30)));
        assert_eq!(gone.iter().map(id).collect::<Vec<_>>(), ["c2"]);
        let stay: Vec<String> = lot.take_all().iter().map(id).collect();
        assert_eq!(stay, ["c0", "c1", "c3"]);
    }
}
