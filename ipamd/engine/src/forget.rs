//! When the kernel is asked to forget finished pods' connections, and what is made of its answer.
//!
//! One task at a time, for all addresses that are due. A look through a large connection table costs
//! some hundred milliseconds, so looks are spaced by how long the last one took; not while an ADD
//! waits for an address.

use crate::notice::Notice;
use crate::notices::Notices;
use crate::ports::{Connections, Forgotten, HostNetError, Trace};
use crate::retry::Retry;
use crate::task::Task;
use ipam_core::Timestamp;
use ipam_core::datastore::Datastore;
use mutant::mutant;
use std::net::IpAddr;
use std::time::Duration;

/// Between two looks at least, as long as nobody waits.
const SPACING: Duration = Duration::from_secs(1);
/// Between two looks at most.
const SPACING_MAX: Duration = Duration::from_secs(30);
/// Looks take at most a twentieth of one processor.
const SHARE: u32 = 20;
/// After so many refusals in a row (with their pauses about 6 s) the addresses may be given as a last
/// resort; it is tried on.
const TRIES: u32 = 5;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Forget {
    /// Since when one is under way.
    busy: Option<Timestamp>,
    /// No look before this, unless an ADD waits.
    not_before: Timestamp,
    retry: Retry,
    failures: u32,
    /// Pods' links that went while a look was under way.
    gone_meanwhile: Vec<String>,
}

impl Forget {
    /// The look to be made now, if any.
    pub(crate) fn next(&mut self, store: &Datastore, urgent: bool, now: Timestamp) -> Option<Task> {
        if self.wake_at(store, urgent).is_none_or(|at| at > now) {
            return None;
        }
        let traces = store.to_forget(now);
        if traces.is_empty() {
            return None;
        }
        self.busy = Some(now);
        Some(Task::Forget(traces))
    }

    /// When the next look is due.
    pub(crate) fn wake_at(&self, store: &Datastore, urgent: bool) -> Option<Timestamp> {
        let due = store.next_forget().filter(|_| self.busy.is_none())?;
        // A refusal's pause holds for everybody: the kernel's mind is not changed by a waiting ADD.
        let pause = self.retry.at().unwrap_or_default();
        let spacing = if urgent {
            Timestamp::default()
        } else {
            self.not_before
        };
        Some(due.max(pause).max(spacing))
    }

    /// Takes the answer in.
    pub(crate) fn done(
        &mut self,
        store: &mut Datastore,
        traces: &[Trace],
        result: Result<Forgotten, HostNetError>,
        notices: &mut Notices,
        now: Timestamp,
    ) {
        let took = self.busy.take().map_or(Duration::ZERO, |at| now.since(at));
        self.not_before = now + (took * SHARE).clamp(SPACING, SPACING_MAX);
        let failure = match result {
            Ok(found) => {
                mutant!(
                    "cooldown/linked-is-held",
                    store.set_linked(traces, &found.linked),
                    ()
                );
                match found.connections {
                    Connections::Failed(error) => {
                        mutant!("cooldown/refusal-is-not-done", Some((error, true)), {
                            store.forgotten(traces);
                            Some((error, true))
                        })
                    }
                    done => {
                        self.retry.succeeded();
                        self.failures = 0;
                        store.forgotten(traces);
                        if let Connections::Unable(why) = done {
                            let for_good = true;
                            notices.add(Notice::ConnectionsStay { why, for_good }, now);
                        }
                        None
                    }
                }
            }
            // Even the links could not be looked at: nobody knows who uses what.
            Err(error) => Some((error, false)),
        };
        if let Some((error, links_known)) = failure {
            self.retry.failed(now);
            self.failures = self.failures.saturating_add(1);
            let notice = Notice::ConnectionsStay {
                why: error.to_string(),
                for_good: false,
            };
            notices.add(notice, now);
            if links_known
                && mutant!(
                    "cooldown/stuck-only-after-tries",
                    self.failures >= TRIES,
                    true
                )
            {
                store.set_stuck(traces);
            }
        }
        // They went after the look at the links, or before: the look may not have seen it. Their routes were
        // taken away when they went; by now a newer pod may have a link of the same name.
        for host_if in self.gone_meanwhile.drain(..) {
            mutant!(
                "kernel/late-word-is-not-of-namesakes",
                store.look_again(&host_if),
                store.link_gone(&host_if, now)
            );
        }
    }

    /// A pod's link went.
    pub(crate) fn link_gone(&mut self, host_if: &str) {
        if self.busy.is_some() {
            self.gone_meanwhile.push(host_if.to_owned());
        }
    }

    /// The task was not begun.
    pub(crate) fn not_begun(&mut self, now: Timestamp) {
        self.busy = None;
        self.retry.failed(now);
    }

    /// An address of which the kernel would not forget the last pod was given, for want of another.
    pub(crate) fn warn_of(&self, stuck: &[IpAddr], given: &[IpAddr]) {
        for ip in given.iter().filter(|ip| stuck.contains(ip)) {
            tracing::warn!(
                %ip, cause = "connections_stay",
                "given although the kernel may remember its last pod's connections: there is no \
                 other address"
            );
        }
    }
}

#[cfg(test)]
mod tests;
