//! Tells the cluster: Kubernetes Events about this node and about pods that lost their addresses.
//!
//! The daemon does not need the API server for anything: without one, without a token or without
//! rights, the log has all the same. Events go through a bounded queue, within a budget, and every
//! request has a deadline. Nothing here is on the way of a pod.

mod client;
mod event;

#[cfg(test)]
mod tests;

pub use client::ApiServer;

use crate::metrics::Metrics;
use client::{Answer, Api, ApiError};
use event::{Event, Known, events};
use ipam_engine::Told;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Settings for events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The API server, if there is one.
    pub server: Option<ApiServer>,
    /// This node's name in the cluster.
    pub node: Option<String>,
    /// Where the service account's `token` and `ca.crt` are.
    pub credentials: PathBuf,
}

/// Notices that may wait.
const QUEUE: usize = 64;
/// Time limit of one request.
const DEADLINE: Duration = Duration::from_secs(5);
/// Waits before the second and the third try.
const RETRIES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];
/// Events at once, and how soon another may follow: a node in trouble must not be the API server's
/// trouble.
const BURST: u32 = 20;
const REFILL: Duration = Duration::from_secs(20);
/// Events that are counted up instead of made anew.
const REMEMBERED: usize = 256;

/// The way to the cluster: see the module.
#[derive(Debug)]
pub struct Kube {
    queue: mpsc::Sender<Told>,
    metrics: Arc<Metrics>,
}

impl Kube {
    /// Starts the task that talks to the API server, if there is one, and this node has a name and
    /// a token. Must be called within the runtime.
    #[must_use]
    pub fn start(settings: Settings, metrics: Arc<Metrics>) -> Option<Self> {
        let Settings {
            server,
            node,
            credentials,
        } = settings;
        let server = server?;
        let Some(node) = node else {
            tracing::info!("no Kubernetes events: MY_NODE_NAME is not set");
            return None;
        };
        if !credentials.join("token").exists() {
            tracing::info!(
                "no Kubernetes events: no service account token in {}",
                credentials.display()
            );
            return None;
        }
        let (queue, told) = mpsc::channel(QUEUE);
        let task = Task {
            api: Api::new(server, credentials),
            node,
            metrics: metrics.clone(),
            known: BTreeMap::new(),
            budget: Budget::new(Instant::now()),
            failing: false,
        };
        tokio::spawn(task.run(told));
        Some(Self { queue, metrics })
    }

    /// Queues the events of a notice. Never waits.
    pub fn tell(&self, told: &Told) {
        if self.queue.try_send(told.clone()).is_err() {
            self.metrics.event("dropped");
        }
    }
}

struct Task {
    api: Api,
    node: String,
    metrics: Arc<Metrics>,
    known: BTreeMap<String, Known>,
    budget: Budget,
    failing: bool,
}

impl Task {
    async fn run(mut self, mut told: mpsc::Receiver<Told>) {
        while let Some(told) = told.recv().await {
            for event in events(&told, &self.node) {
                if !self.budget.take(Instant::now()) {
                    self.metrics.event("dropped");
                    continue;
                }
                let result = self.send(event).await;
                self.note(result);
            }
        }
    }

    /// Once for each change: the API server's troubles are not to fill this node's log.
    fn note(&mut self, result: Result<(), ApiError>) {
        match result {
            Ok(()) => {
                self.metrics.event("sent");
                if self.failing {
                    tracing::info!("Kubernetes events can be written again");
                }
                self.failing = false;
            }
            Err(error) => {
                self.metrics.event("failed");
                if !self.failing {
                    tracing::warn!(cause = "kubernetes_events", %error,
                        "a Kubernetes event could not be written; the log has it all the same");
                }
                self.failing = true;
            }
        }
    }

    async fn send(&mut self, event: Event) -> Result<(), ApiError> {
        let mut waits = RETRIES.iter();
        loop {
            let result = self.try_send(&event).await;
            match result {
                Err(error) if error.passing() => match waits.next() {
                    Some(wait) => sleep(*wait).await,
                    None => return Err(error),
                },
                other => return other,
            }
        }
    }

    /// Counts the event up if it was made before, else makes it.
    async fn try_send(&mut self, event: &Event) -> Result<(), ApiError> {
        if let Some(known) = self.known.get(&event.key) {
            let next = known.again(event);
            let answer = within(self.api.patch(&next.path(), &next.patch(event))).await?;
            match answer.status {
                200..=299 => {
                    self.known.insert(event.key.clone(), next);
                    return Ok(());
                }
                // The API server forgets events after an hour.
                404 => {
                    self.known.remove(&event.key);
                }
                _ => return Err(answer.refusal()),
            }
        }
        let known = Known::new(event);
        let answer = within(self.api.post(&known.collection(), &event.body(&known))).await?;
        match answer.status {
            // 409: a request that was not answered had done it.
            200..=299 | 409 => {
                if self.known.len() >= REMEMBERED {
                    self.known.pop_first();
                }
                self.known.insert(event.key.clone(), known);
                Ok(())
            }
            _ => Err(answer.refusal()),
        }
    }
}

async fn within(call: impl Future<Output = Result<Answer, ApiError>>) -> Result<Answer, ApiError> {
    timeout(DEADLINE, call)
        .await
        .unwrap_or(Err(ApiError::Late(DEADLINE)))
}

/// A bucket of events that may be sent.
#[derive(Debug)]
struct Budget {
    left: u32,
    filled: Instant,
}

impl Budget {
    const fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            filled: now,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        while self.left < BURST && now.duration_since(self.filled) >= REFILL {
            self.left += 1;
            self.filled += REFILL;
        }
        if self.left == BURST {
            self.filled = now;
        }
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}
