//! The owner of the pool: events in, answers and tasks out. No await inside a turn.
//!
//! A turn is [`Owner::absorb`] (all events that wait), then a flush of [`Owner::take_writes`] by the
//! caller, then the answers, then [`Owner::decide`] (plan, with its intents to be flushed before its
//! tasks begin).

mod answer;
mod collect;
mod local;
mod log;
mod orphans;
mod renamed;
mod requests;
mod served;
mod start;
mod tell;

pub use answer::Answer;
use answer::unwritten;
use mutant::mutant;

use crate::api::{Counters, Request};
use crate::forget::Forget;
use crate::host::Host;
use crate::notice::Notice;
use crate::notices::Notices;
use crate::parked::{Lot, Parked, no_address};
use crate::ports::{HostNetError, Loaded, NodeFacts, Write};
use crate::reroute::Reroute;
use crate::retry::Retry;
use crate::settings::Settings;
use crate::task::{Outcome, Task};
use ipam_core::datastore::{Datastore, Touched};
use ipam_core::limits::InstanceLimits;
use ipam_core::outcome::{begin, finish};
use ipam_core::plan::{Action, Input, Memory, Note, Policy, Report, plan};
use ipam_core::{EniHandle, SecurityGroupId, Timestamp};
use std::collections::BTreeSet;
use std::time::Duration;

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// From outside.
    Request(Request),
    /// From a task of ours.
    Outcome(Outcome),
}

/// See the module.
#[derive(Debug)]
pub struct Owner {
    settings: Settings,
    policy: Policy,
    limits: InstanceLimits,
    facts: Option<NodeFacts>,
    /// Instance that the restored state belongs to, until IMDS has confirmed it.
    unproven: Option<ipam_core::InstanceId>,
    store: Datastore,
    memory: Memory,
    lot: Lot,
    host: Host,
    forget: Forget,
    reroute: Reroute,
    sweep_retry: Retry,
    in_flight: BTreeSet<EniHandle>,
    describing: bool,
    asking_subnets: bool,
    /// The kernel was looked at, and no event was lost since.
    surveyed: bool,
    /// It was looked at in this run.
    witnessed: bool,
    surveying: bool,
    sweeping: bool,
    orphans: orphans::Watch,
    reading_metadata: bool,
    metadata_retry: Retry,
    metadata_error: Option<String>,
    metadata_due: Option<Timestamp>,
    enis_due: Option<Timestamp>,
    survey_retry: Retry,
    writes: Vec<Write>,
    report: Report,
    wake_at: Option<Timestamp>,
    token_prefix: String,
    stopping: bool,
    served: served::Served,
    unwired: collect::Unwired,
    renamed: renamed::Renamed,
    notices: Notices,
    counters: Counters,
    /// Since when, and why, nothing can be stored.
    unwritten: Option<(Timestamp, String)>,
}

/// A disk that fails for longer than this fails the ADDs that wait; one hiccup does not.
const UNWRITTEN_FOR: Duration = Duration::from_secs(2);

impl Owner {
    /// The owner of what was stored. `seed` makes this run's client tokens and jitter its own.
    #[must_use]
    pub fn new(settings: Settings, loaded: Loaded, seed: u64, now: Timestamp) -> Self {
        start::owner(settings, loaded, seed, now)
    }

    /// Whether the engine was told to end.
    #[must_use]
    pub const fn stopping(&self) -> bool {
        self.stopping
    }

    /// The pool, for checks in simulations.
    #[must_use]
    pub const fn store(&self) -> &Datastore {
        &self.store
    }

    /// When the next turn is due without an event.
    #[must_use]
    pub fn wake_at(&self) -> Option<Timestamp> {
        [
            self.wake_at,
            self.lot.next_deadline(),
            self.host.wake_at(),
            self.reroute.wake_at().filter(|_| self.surveyed),
            self.orphans.wake_at(),
            self.local_wake(),
            self.renamed.wake_at().filter(|_| self.surveyed),
            // Those who wait for a disk are told.
            self.unwritten
                .as_ref()
                .filter(|_| self.lot.len() > 0)
                .map(|(since, _)| *since + UNWRITTEN_FOR),
            self.metadata_retry.at().filter(|_| !self.reading_metadata),
            self.survey_retry.at().filter(|_| !self.surveying),
            self.metadata_due.filter(|_| !self.reading_metadata),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Takes in all that happened. The answers are to be sent once [`Owner::take_writes`] is durable.
    pub fn absorb(&mut self, events: Vec<Event>, now: Timestamp) -> Vec<Answer> {
        let mut answers = Vec::new();
        for event in events {
            match event {
                Event::Request(request) => self.request(request, &mut answers, now),
                Event::Outcome(outcome) => self.outcome(outcome, now),
            }
        }
        self.renamed_overdue(now);
        self.serve_parked(&mut answers, now);
        self.collect_writes();
        answers
    }

    /// What must be durable before anything is answered or begun.
    pub fn take_writes(&mut self) -> Vec<Write> {
        std::mem::take(&mut self.writes)
    }

    /// They could not be stored: they come first the next time.
    pub fn keep_writes(&mut self, mut writes: Vec<Write>) {
        writes.append(&mut self.writes);
        self.writes = writes;
    }

    /// Whether an EC2 call is under way.
    #[must_use]
    pub fn calls_under_way(&self) -> bool {
        self.half_way()
    }

    /// Plans: what to do outside now, once [`Owner::take_writes`] is durable. ADDs for which no
    /// growth is possible are answered.
    pub fn decide(&mut self, now: Timestamp) -> (Vec<Task>, Vec<Answer>) {
        let mut tasks = Vec::new();
        if !self.stopping {
            self.local_tasks(&mut tasks, now);
            self.look_for_orphans(&mut tasks, now);
        }
        self.lot.forget_gone();
        if self.lot.len() > 0 {
            self.memory.a_pod_waits(now);
        }
        let input = Input {
            policy: &self.policy,
            limits: &self.limits,
            memory: &self.memory,
            waiting: u32::try_from(self.lot.len()).unwrap_or(u32::MAX),
            deadline: self.lot.next_deadline(),
            in_flight: &self.in_flight,
            describing: self.describing,
            asking_subnets: self.asking_subnets,
            provisioning: self.settings.provisioning,
            finishing: self.stopping,
            token_prefix: &self.token_prefix,
        };
        // Without IMDS there is no instance to ask EC2 about, and without a look at the kernel no
        // address to trust.
        let ready = self.facts.is_some() && self.surveyed;
        let planned = if ready {
            plan(&self.store, &input, now)
        } else {
            self.waiting_plan()
        };
        self.memory.remember(&planned);
        for action in planned.actions {
            begin(&mut self.store, &action, now);
            match action.handle() {
                Some(handle) => {
                    self.in_flight.insert(handle);
                }
                None if action == Action::Describe => self.describing = true,
                None => self.asking_subnets = true,
            }
            tasks.push(Task::Cloud(action, self.groups()));
        }
        self.note_doubts(now);
        self.report = planned.report;
        self.wake_at = planned.wake_at;
        if let Some((_, error)) = &self.unwritten {
            self.report.notes.push(Note::Unwritten(error.clone()));
        }
        self.look_whether_served(now);
        let answers = self.refuse_hopeless(now);
        self.collect_writes();
        (tasks, answers)
    }

    /// The intents could not be stored: nothing was sent.
    pub fn not_begun(&mut self, tasks: Vec<Task>, error: &str, now: Timestamp) {
        for task in tasks {
            match task {
                Task::Cloud(action, _) => {
                    let error = ipam_core::cloud::CloudError {
                        action: "none",
                        class: ipam_core::cloud::ErrorClass::Unreachable,
                        code: "StoreFailed".into(),
                        message: format!("not sent, since its intent could not be stored: {error}"),
                    };
                    self.outcome(Outcome::Cloud(action, now, Err(error)), now);
                }
                Task::ReadMetadata => self.reading_metadata = false,
                Task::Survey => self.surveying = false,
                Task::Sweep(_) => self.sweeping = false,
                Task::LookForOrphans | Task::CleanUp(_) => self.orphans.not_begun(now),
                Task::Forget(_) => self.forget.not_begun(now),
                Task::Reroute(pods) => {
                    let error = HostNetError {
                        what: "not tried".into(),
                        cause: error.into(),
                    };
                    self.reroute.done(pods, Err(error), now);
                }
                Task::ApplyHost(wiring, blocks) => {
                    let error = HostNetError {
                        what: "not tried".into(),
                        cause: error.into(),
                    };
                    self.host
                        .applied(&mut self.store, wiring, blocks, Err(error), now);
                }
            }
        }
    }

    fn waiting_plan(&self) -> ipam_core::plan::Plan {
        let mut plan = ipam_core::plan::Plan::default();
        if let Some(error) = self
            .metadata_error
            .as_ref()
            .filter(|_| self.facts.is_none())
        {
            let next = self.metadata_retry.at();
            let error = error.clone();
            plan.report.notes.push(Note::NoMetadata(error, next));
        } else if !self.memory.known() {
            plan.report.notes.push(Note::Unknown);
        }
        if !self.surveyed {
            plan.report.notes.push(Note::KernelUnread);
        }
        plan
    }

    fn groups(&self) -> Vec<SecurityGroupId> {
        let primary = || self.facts.as_ref().map(|f| f.security_groups.clone());
        self.settings
            .security_groups
            .clone()
            .or_else(primary)
            .unwrap_or_default()
    }

    fn outcome(&mut self, outcome: Outcome, now: Timestamp) {
        match outcome {
            Outcome::Cloud(action, begun, result) => {
                match action.handle() {
                    Some(handle) => {
                        self.in_flight.remove(&handle);
                    }
                    None if action == Action::Describe => {
                        self.describing = false;
                        // What IMDS alone had shown may be wired now.
                        self.host.changed();
                    }
                    None => self.asking_subnets = false,
                }
                let eni = action.handle().and_then(|handle| self.store.eni(handle));
                let eni = eni.and_then(|eni| eni.id.as_ref()).map(ToString::to_string);
                log::call(&action, eni.as_deref(), &result);
                let names = self.names(&action);
                let error = result.as_ref().err().cloned();
                let trusted = self.memory.trusted();
                let drift = finish(
                    &mut self.store,
                    &mut self.memory,
                    &action,
                    result,
                    begun,
                    now,
                );
                if !trusted && self.memory.trusted() {
                    self.writes.push(Write::Trusted);
                }
                self.note_drift(&drift, &names, now);
                if let Some(error) = error {
                    if error.class == ipam_core::cloud::ErrorClass::TokenUsed {
                        self.orphans.expect(now);
                    }
                    self.note_refusal(&action, error, now);
                }
                self.note_unmanaged(&action, now);
            }
            Outcome::Metadata(Ok(facts)) => self.learn_facts(facts, now),
            Outcome::Metadata(Err(error)) => {
                self.reading_metadata = false;
                self.metadata_error = Some(error.to_string());
                self.metadata_retry.failed(now);
                self.notices.add(Notice::NoMetadata(error.to_string()), now);
            }
            Outcome::Survey(Ok(survey)) => self.learn_survey(survey, now),
            Outcome::Survey(Err(error)) => {
                self.surveying = false;
                let at = self.survey_retry.failed(now);
                tracing::error!(%error, next_try = %at, "the kernel's routes could not be read");
            }
            Outcome::Host(wiring, blocks, result) => {
                match &result {
                    Ok(applied) => {
                        for foreign in &applied.foreign {
                            self.tell_foreign(foreign.clone(), now);
                        }
                    }
                    Err(error) => {
                        self.notices
                            .add(Notice::HostNotWired(error.to_string()), now);
                    }
                }
                self.host
                    .applied(&mut self.store, wiring, blocks, result, now);
            }
            Outcome::Orphans(result) => self.judge_orphans(result, now),
            Outcome::CleanedUp(done) => self.cleaned_up(done, now),
            Outcome::Swept(leftovers, result) => self.swept(&leftovers, result, now),
            Outcome::Rerouted(pods, result) => self.reroute.done(pods, result, now),
            Outcome::Forgotten(traces, result) => {
                let notices = &mut self.notices;
                self.forget
                    .done(&mut self.store, &traces, result, notices, now);
            }
        }
    }

    /// ADDs for which nothing can change in time.
    fn refuse_hopeless(&mut self, now: Timestamp) -> Vec<Answer> {
        let mut answers = Vec::new();
        if let Some((since, error)) = &self.unwritten {
            let failing = mutant!(
                "store/full-disk-is-told",
                now.since(*since) >= UNWRITTEN_FOR,
                false
            );
            let gone = if failing {
                self.lot.take_all()
            } else {
                self.lot.take_expired(now)
            };
            let refused = |parked: Parked| Answer::refused(parked.reply, unwritten(error));
            return gone.into_iter().map(refused).collect();
        }
        if self.lot.len() == 0 {
            return answers;
        }
        let (why, cause) = self.why_no_address(now);
        for parked in self.lot.take_expired(now) {
            let refusal = no_address(&parked.request, true, &why, cause, &self.report.notes);
            answers.push(Answer::refused(parked.reply, refusal));
        }
        let final_word = mutant!(
            "refusal/not-before-ec2-told",
            self.memory.known() && self.surveyed && self.report.held == 0,
            true
        );
        if final_word
            && self.report.unmet > 0
            && mutant!(
                "refusal/not-while-a-call-is-under-way",
                !self.half_way(),
                true
            )
        {
            let gone = self
                .lot
                .take_hopeless(self.report.unmet, self.report.retry_at);
            for parked in gone {
                let refusal = no_address(&parked.request, false, &why, cause, &self.report.notes);
                answers.push(Answer::refused(parked.reply, refusal));
            }
        }
        answers
    }

    /// Whether a call or an ENI is under way that may change what can be grown.
    fn half_way(&self) -> bool {
        self.describing || self.asking_subnets || !self.in_flight.is_empty()
    }

    /// Turns what the datastore remembers as changed into records.
    fn collect_writes(&mut self) {
        for touched in self.store.take_touched() {
            self.writes.push(match touched {
                Touched::Lease(key) => match self.store.lease(&key) {
                    Some(lease) => mutant!(
                        "store/leases-are-written",
                        Write::Lease(lease.clone()),
                        Write::Trusted
                    ),
                    None => mutant!(
                        "store/ends-are-written",
                        Write::NoLease(key),
                        Write::Trusted
                    ),
                },
                Touched::Released(ip) => match self.store.released(ip) {
                    Some(released) => mutant!(
                        "store/rests-are-written",
                        Write::Cooldown(ip, released.clone()),
                        Write::NoCooldown(ip)
                    ),
                    None => Write::NoCooldown(ip),
                },
                Touched::Eni(handle) => {
                    self.host.changed();
                    match self.store.eni(handle) {
                        Some(eni) => Write::Eni(eni.clone()),
                        None => Write::NoEni(handle),
                    }
                }
            });
        }
    }
}
