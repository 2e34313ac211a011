//! The model VPC and the virtual clock that all nodes share, with who watches and who tells.

use crate::oracle::Oracle;
use crate::story::Story;
use ipam_core::Timestamp;
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use vpc_model::{NodeSpec, SpecError, SubnetSpec, Time, Vpc, VpcSpec};

/// See the module. Cheap to clone.
#[derive(Clone, Debug)]
pub struct World {
    vpc: Arc<Mutex<Vpc>>,
    oracle: Arc<Mutex<Oracle>>,
    pub(crate) story: Story,
    /// The seed of the VPC: what nodes draw of their own begins with it.
    pub(crate) seed: u64,
    start: Instant,
}

/// Where virtual time begins, in Unix milliseconds (2026-01-01).
const EPOCH_MS: u64 = 1_767_225_600_000;

impl World {
    /// A VPC at the beginning of virtual time. To be called inside a paused tokio runtime.
    ///
    /// # Errors
    /// What is wrong with the spec.
    pub fn new(spec: VpcSpec) -> Result<Self, SpecError> {
        Self::with_story(spec, Story::default())
    }

    /// The least VPC: one subnet, and one m5.large in it, called `a`. To be called inside a paused tokio
    /// runtime.
    ///
    /// # Errors
    /// None that is known of.
    pub fn of_one_node() -> Result<Self, SpecError> {
        let subnet = Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 0, 0), 18);
        Self::new(VpcSpec {
            subnets: vec![SubnetSpec::new(subnet)],
            nodes: vec![NodeSpec::new("a", "m5.large")],
            ..VpcSpec::default()
        })
    }

    pub(crate) fn with_story(spec: VpcSpec, story: Story) -> Result<Self, SpecError> {
        let seed = spec.seed;
        let vpc = Vpc::new(spec, Time::from_unix_millis(EPOCH_MS))?;
        Ok(Self {
            vpc: Arc::new(Mutex::new(vpc)),
            oracle: Arc::default(),
            story,
            seed,
            start: Instant::now(),
        })
    }

    /// The model. Held for one look or one call only, never over an await.
    pub fn vpc(&self) -> MutexGuard<'_, Vpc> {
        self.vpc.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who keeps the promises in mind. Never held together with the model but by the oracle itself.
    pub(crate) fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line to the story.
    pub(crate) fn tell(&self, who: &str, what: impl FnOnce() -> String) {
        self.story.tell(self.elapsed(), who, what);
    }

    /// Since the beginning.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// The same of a time that a clock shows which is so many milliseconds ahead: none is before the
    /// beginning.
    pub(crate) fn since_start(at: Timestamp, ahead: i64) -> Duration {
        let true_at = at.0.saturating_add_signed(-ahead);
        Duration::from_millis(true_at.saturating_sub(EPOCH_MS))
    }

    /// Now, as the model tells time.
    #[must_use]
    pub fn time(&self) -> Time {
        Time::from_unix_millis(EPOCH_MS) + self.elapsed()
    }
}

impl ipam_engine::ports::Clock for World {
    fn now(&self) -> Timestamp {
        Timestamp(EPOCH_MS) + self.elapsed()
    }
}
