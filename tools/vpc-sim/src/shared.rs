//! What the servers and the program's own hand share: the model behind a lock, the clock, and the
//! task that keeps the kernel in step with the model.

use crate::clock::Clock;
use crate::error::SimError;
use crate::fabric::{EniTraffic, Fabric, Nets};
use crate::kernel::place::Place;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use vpc_model::ids::NodeName;
use vpc_model::{Time, Violation, ViolationClass, Vpc, Wire};

/// The answer to a call is held back at most so long for the kernel to follow.
const FOLLOW_DEADLINE: Duration = Duration::from_secs(2);
/// What failed is tried again after so long, unless the model changes before.
const RETRY: Duration = Duration::from_millis(500);

/// Shared by all threads. A std mutex guards the model: no method of it waits.
#[derive(Debug)]
pub(crate) struct Shared {
    vpc: Mutex<Vpc>,
    pub(crate) clock: Clock,
    changed: Notify,
    applied: watch::Sender<u64>,
    wires: RwLock<Arc<Vec<Wire>>>,
    nets: RwLock<Nets>,
    fabric: Arc<Mutex<Fabric>>,
    router: Arc<Place>,
    /// The last failures to make the kernel follow.
    failures: Mutex<Vec<String>>,
}

/// The model, locked. When this value goes, the kernel is made to follow.
#[derive(Debug)]
pub struct VpcGuard<'a> {
    vpc: MutexGuard<'a, Vpc>,
    changed: &'a Notify,
}

impl Deref for VpcGuard<'_> {
    type Target = Vpc;
    fn deref(&self) -> &Vpc {
        &self.vpc
    }
}

impl DerefMut for VpcGuard<'_> {
    fn deref_mut(&mut self) -> &mut Vpc {
        &mut self.vpc
    }
}

impl Drop for VpcGuard<'_> {
    fn drop(&mut self) {
        self.changed.notify_one();
    }
}

/// A handle on the model of a [`crate::Sim`], for other threads. Clones are handles on the same one;
/// the kernel follows it as long as the simulation runs.
#[derive(Clone, Debug)]
pub struct Model(pub(crate) Arc<Shared>);

impl Model {
    /// The model, locked; see [`crate::Sim::vpc`].
    pub fn vpc(&self) -> VpcGuard<'_> {
        self.0.vpc()
    }

    /// The model's time.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// Waits until the kernel is as the model is now (at most two seconds).
    pub async fn caught_up(&self) {
        self.0.caught_up().await;
    }
}

impl Shared {
    pub(crate) fn new(vpc: Vpc, clock: Clock, fabric: Fabric, router: Arc<Place>) -> Self {
        Self {
            vpc: Mutex::new(vpc),
            clock,
            changed: Notify::new(),
            applied: watch::Sender::new(0),
            wires: RwLock::default(),
            nets: RwLock::default(),
            fabric: Arc::new(Mutex::new(fabric)),
            router,
            failures: Mutex::default(),
        }
    }

    pub(crate) fn vpc(&self) -> VpcGuard<'_> {
        VpcGuard {
            vpc: lock(&self.vpc),
            changed: &self.changed,
        }
    }

    /// Makes the kernel look at the model again, for example after the clock jumped.
    pub(crate) fn look_again(&self) {
        self.changed.notify_one();
    }

    pub(crate) fn add_net(&self, node: NodeName, net: Arc<std::os::fd::OwnedFd>) {
        self.nets
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(node, net);
    }

    /// The links as they were last laid.
    pub(crate) fn wires(&self) -> Arc<Vec<Wire>> {
        Arc::clone(&self.wires.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who holds this address now.
    pub(crate) fn holder(&self, address: IpAddr) -> Option<Wire> {
        let wires = self.wires();
        wires
            .iter()
            .find(|w| w.allowed.iter().any(|net| net.contains(&address)))
            .cloned()
    }

    /// Lays the links, routes and rules of this moment. Blocks; not for an async task.
    pub(crate) fn lay(&self) -> Result<(u64, Option<Time>), Vec<SimError>> {
        let (wires, generation, wake) = {
            let vpc = lock(&self.vpc);
            let now = self.clock.now();
            let wires = vpc.wires(now).into_iter().filter(|w| w.visible_at <= now);
            (
                Arc::new(wires.collect::<Vec<_>>()),
                vpc.generation(),
                vpc.next_wake(now),
            )
        };
        let nets = self
            .nets
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let (fabric, wanted) = (Arc::clone(&self.fabric), Arc::clone(&wires));
        // Sources are known before they can send: IMDS tells callers by them.
        *self.wires.write().unwrap_or_else(PoisonError::into_inner) = wires;
        let laid = self.router.run(move || lock(&fabric).apply(&wanted, &nets));
        match laid.map_err(|e| vec![e]) {
            Ok(failures) if failures.is_empty() => Ok((generation, wake)),
            Ok(failures) | Err(failures) => Err(failures),
        }
    }

    /// Keeps the kernel in step with the model, for ever.
    pub(crate) async fn follow(self: Arc<Self>) {
        loop {
            let me = Arc::clone(&self);
            let generation = me.vpc_generation();
            let laid = tokio::task::spawn_blocking(move || me.lay()).await;
            let wait = match laid {
                Ok(Ok((_, wake))) => {
                    lock(&self.failures).clear();
                    wake.map(|at| at.since(self.clock.now()))
                }
                Ok(Err(failures)) => {
                    self.note(&failures);
                    Some(RETRY)
                }
                Err(_) => return,
            };
            // Also after a failure: whoever waits must not wait for what can't be.
            self.applied.send_replace(generation);
            tokio::select! {
                () = self.changed.notified() => {}
                () = sleep_or_never(wait) => {}
            }
        }
    }

    /// Waits until the kernel has caught up with the model as it is now.
    pub(crate) async fn caught_up(&self) {
        let generation = self.vpc_generation();
        let mut applied = self.applied.subscribe();
        let reached = applied.wait_for(|g| *g >= generation);
        if tokio::time::timeout(FOLLOW_DEADLINE, reached)
            .await
            .is_err()
        {
            tracing::warn!("the kernel did not follow within {FOLLOW_DEADLINE:?}");
        }
    }

    fn vpc_generation(&self) -> u64 {
        lock(&self.vpc).generation()
    }

    fn note(&self, failures: &[SimError]) {
        for failure in failures {
            tracing::error!("{failure}");
        }
        *lock(&self.failures) = failures.iter().map(ToString::to_string).collect();
    }

    /// What the router counted. Blocks.
    pub(crate) fn traffic(&self) -> Result<(Vec<EniTraffic>, u64), SimError> {
        let fabric = Arc::clone(&self.fabric);
        self.router.run(move || lock(&fabric).traffic())?
    }

    /// The model's violations and the kernel's. Blocks.
    pub(crate) fn books(&self) -> Result<Books, SimError> {
        let (traffic, igw_dropped) = self.traffic()?;
        let now = self.clock.now();
        let mut violations = lock(&self.vpc).books(now);
        violations.extend(traffic.iter().filter(|t| t.dropped > 0).map(spoofed));
        violations.extend(lock(&self.failures).iter().map(|failure| Violation {
            class: ViolationClass::Other,
            subject: "kernel".into(),
            node: None,
            detail: failure.clone(),
            since: None,
        }));
        let by_node = |t: &EniTraffic| (t.node.clone(), t.link.clone());
        let packets_per_eni = traffic
            .iter()
            .map(|t| (t.eni.clone(), t.sent + t.received))
            .collect();
        let mut enis = traffic;
        enis.sort_by_key(by_node);
        Ok(Books {
            violations,
            enis,
            packets_per_eni,
            igw_dropped,
        })
    }
}

/// What is wrong, and what the router saw.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Books {
    /// Everything that must not be; empty when all is well.
    pub violations: Vec<Violation>,
    /// Each ENI that was ever attached, by node and link.
    pub enis: Vec<EniTraffic>,
    /// Packets that the router forwarded from and to each ENI.
    pub packets_per_eni: BTreeMap<String, u64>,
    /// Packets to the internet from addresses without a public one: lost, as at a real gateway.
    pub igw_dropped: u64,
}

fn spoofed(traffic: &EniTraffic) -> Violation {
    let EniTraffic {
        eni,
        node,
        link,
        dropped,
        ..
    } = traffic;
    Violation {
        class: ViolationClass::SourceCheck,
        subject: eni.clone(),
        node: Some(node.clone()),
        detail: format!(
            "{dropped} packets left {node} by {link} with a source address or Ethernet address \
             that {eni} does not hold, and were dropped"
        ),
        since: None,
    }
}

/// Nobody leaves the model half changed: a panic elsewhere does not stop the books.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn sleep_or_never(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
