//! The loop around the owner: wait, absorb, flush, answer, decide, flush, send out.

use crate::api::Request;
use crate::owner::{Answer, Event, Owner};
use crate::ports::{Clock, Cloud, Cluster, HostNet, Loaded, Metadata, Store, StoreError};
use crate::settings::Settings;
use crate::task::{Outcome, Task, act, call};
use ipam_core::Timestamp;
use mutant::mutant;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The world.
pub struct Ports {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// EC2.
    pub cloud: Arc<dyn Cloud>,
    /// IMDS.
    pub metadata: Arc<dyn Metadata>,
    /// The kernel.
    pub host: Arc<dyn HostNet>,
    /// Where people look.
    pub cluster: Arc<dyn Cluster>,
    /// The disk.
    pub store: Box<dyn Store>,
}

impl std::fmt::Debug for Ports {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ports")
    }
}

/// One call for each ENI at most, and a few tasks more: this is never full.
const OUTCOMES: usize = 256;

/// How long the end waits for calls that are under way, and for the next ones of a half-way ENI.
const DRAIN: Duration = Duration::from_secs(5);

/// Runs until it is told to stop or every [`crate::Handle`] is gone. `seed` must differ from run to
/// run: it makes client tokens unique.
pub async fn run(
    settings: Settings,
    ports: Ports,
    loaded: Loaded,
    door: mpsc::Receiver<Request>,
    seed: u64,
) {
    run_watched(settings, ports, loaded, door, seed, |_, _| {}).await;
}

/// As [`run`]; `watch` sees the owner after every turn. For simulations, which check it there.
pub async fn run_watched(
    settings: Settings,
    ports: Ports,
    loaded: Loaded,
    mut door: mpsc::Receiver<Request>,
    seed: u64,
    mut watch: impl FnMut(&Owner, Timestamp) + Send,
) {
    let (outbox, mut inbox) = mpsc::channel(OUTCOMES);
    let mut turn = Turn {
        owner: Owner::new(settings, loaded, seed, ports.clock.now()),
        ports,
        outbox,
    };
    turn.take(Vec::new());
    while !turn.owner.stopping() {
        watch(&turn.owner, turn.ports.clock.now());
        let wait = turn.wait();
        let mut events = Vec::new();
        tokio::select! {
            // In order, so that a run can be repeated: all that waits is taken below anyway.
            biased;
            request = door.recv() => match request {
                Some(request) => events.push(Event::Request(request)),
                None => break,
            },
            Some(outcome) = inbox.recv() => events.push(Event::Outcome(outcome)),
            () = tokio::time::sleep(wait) => {}
        }
        // All that waits is one turn: one flush for many ADDs.
        while let Ok(request) = door.try_recv() {
            events.push(Event::Request(request));
        }
        while let Ok(outcome) = inbox.try_recv() {
            events.push(Event::Outcome(outcome));
        }
        turn.take(events);
    }
    turn.drain(inbox).await;
}

struct Turn {
    owner: Owner,
    ports: Ports,
    outbox: mpsc::Sender<Outcome>,
}

/// Without anything due the owner looks up once an hour.
const IDLE: Duration = Duration::from_secs(3600);

impl Turn {
    fn wait(&self) -> Duration {
        let now = self.ports.clock.now();
        // A millisecond more: waking before the time would be a turn for nothing.
        self.owner
            .wake_at()
            .map_or(IDLE, |at| at.since(now) + Duration::from_millis(1))
            .min(IDLE)
    }

    fn take(&mut self, events: Vec<Event>) {
        let now = self.ports.clock.now();
        let answers = self.owner.absorb(events, now);
        match self.flush() {
            Ok(()) => answers.into_iter().for_each(Answer::send),
            Err(error) => mutant!(
                "store/lease-before-answer",
                self.owner.undo(answers, &chain(&error)),
                {
                    drop(error);
                    answers.into_iter().for_each(Answer::send)
                }
            ),
        }
        let (tasks, answers) = self.owner.decide(now);
        match self.flush() {
            Ok(()) => tasks.into_iter().for_each(|task| self.spawn(task)),
            Err(error) => mutant!(
                "store/intent-before-call",
                self.owner.not_begun(tasks, &chain(&error), now),
                {
                    drop(error);
                    tasks.into_iter().for_each(|task| self.spawn(task))
                }
            ),
        }
        answers.into_iter().for_each(Answer::send);
        for told in self.owner.take_notices() {
            self.ports.cluster.tell(&told);
        }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let writes = self.owner.take_writes();
        if writes.is_empty() {
            return Ok(());
        }
        let result = self.ports.store.commit(&writes);
        match &result {
            Ok(()) => self.owner.stored(),
            Err(error) => {
                self.owner
                    .store_failed(&chain(error), self.ports.clock.now());
                mutant!(
                    "store/failed-writes-are-kept",
                    self.owner.keep_writes(writes),
                    drop(writes)
                );
            }
        }
        result
    }

    fn spawn(&self, task: Task) {
        let outbox = self.outbox.clone();
        let (clock, cloud) = (self.ports.clock.clone(), self.ports.cloud.clone());
        let (metadata, host) = (self.ports.metadata.clone(), self.ports.host.clone());
        tokio::spawn(async move {
            let outcome = match task {
                Task::Cloud(action, groups) => {
                    let begun = clock.now();
                    let result = call(&*cloud, &action, groups).await;
                    Some(Outcome::Cloud(action, begun, result))
                }
                other => act(&*cloud, &*metadata, &*host, other).await,
            };
            if let Some(outcome) = outcome {
                // The engine has ended: the next start settles it by its intent.
                drop(outbox.send(outcome).await);
            }
        });
    }

    /// Takes in what still comes within a moment, and brings ENIs that are half-way to where EC2
    /// deletes them with the instance: nobody may be there to do it later.
    async fn drain(mut self, mut inbox: mpsc::Receiver<Outcome>) {
        let deadline = tokio::time::Instant::now() + DRAIN;
        while self.owner.calls_under_way() {
            match tokio::time::timeout_at(deadline, inbox.recv()).await {
                Ok(Some(outcome)) => self.take(vec![Event::Outcome(outcome)]),
                _ => break,
            }
        }
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
