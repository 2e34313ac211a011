//! What earlier answers taught: when to try again, and how.
//!
//! Volatile on purpose: a restarted daemon may ask once more.

use super::CONSISTENCY;
use super::pace::Pace;
use super::scope::Scope;
use super::throttle::{Call, Throttle};
use crate::cloud::{CloudError, Next};
use crate::{Block, BlockKind, EniHandle, EniId, SubnetId, Timestamp};
use alloc::collections::{BTreeMap, BTreeSet};
use core::fmt;
use core::time::Duration;
use mutant::mutant;

/// A back-off: not before `until`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// When the last failure came: only what was sent after it ends the hold.
    pub since: Timestamp,
    /// Next try.
    pub until: Timestamp,
    /// The next try while a pod waits for it.
    pub(crate) pressed: Timestamp,
    /// Failures in a row.
    pub failures: u32,
    /// The last one.
    pub error: CloudError,
}

/// What EC2 has shown of the blocks that an ENI takes, against the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Takes {
    pub(crate) blocks: u32,
    /// Time and again refused one more; else it refused more than this, and less than twice as many
    /// may be possible.
    pub(crate) exact: bool,
    pub(crate) at: Timestamp,
}

/// How many blocks a subnet lately gave at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) limit: u32,
    /// When more were refused.
    refused: Timestamp,
}

/// What was refused for want of room is not asked for again sooner.
const BATCH_STAYS: Duration = Duration::from_secs(10);

/// More addresses than the targets ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surplus {
    /// Without a break since.
    pub since: Timestamp,
    /// The least it was: what can go without being missed.
    pub low: u32,
    /// The same without the free addresses in blocks of the other kind: what can go of the right
    /// kind.
    pub low_right: u32,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub(crate) holds: BTreeMap<Scope, Hold>,
    /// Actions that EC2 said to slow down.
    pub(crate) throttles: BTreeMap<Call, Throttle>,
    /// See [`Pace`].
    pub(crate) pace: Pace,
    /// EC2 refused a batch: ask for at most this many blocks at once.
    pub(crate) batch: BTreeMap<(SubnetId, BlockKind), Batch>,
    /// A Describe begun before this may show blocks that the ENI has no more: we gave some back,
    /// or may have.
    stale_until: BTreeMap<EniHandle, Timestamp>,
    /// When this run began.
    pub(crate) started: Timestamp,
    /// ENIs that we deleted, and when: a Describe or IMDS that lags may still name them.
    pub(crate) deleted: BTreeMap<EniId, Timestamp>,
    /// An ENI takes fewer blocks than the instance type's table says.
    pub(crate) eni_takes: Option<Takes>,
    /// EC2 refused prefixes on this instance type.
    pub(crate) prefix_unsupported: bool,
    /// Device indexes that EC2 says are taken, by whom we don't know.
    pub(crate) taken: BTreeSet<(u32, u32)>,
    /// See [`Surplus`].
    pub(crate) surplus: Option<Surplus>,
    /// EC2 has told us of every ENI in this run, or the store had it from this boot.
    pub(crate) known: bool,
    /// Something was not as expected: look at EC2 soon.
    pub(crate) look: bool,
    /// When EC2 first answered a Describe of this run.
    pub(crate) told: Option<Timestamp>,
    /// When the last Describe that was answered began.
    pub(crate) described: Option<Timestamp>,
    /// A Describe was answered in this run.
    pub(crate) heard: bool,
    /// What EC2 did not name in the last Describe, and since when.
    pub(crate) missing: BTreeMap<crate::reconcile::Thing, Timestamp>,
    /// Of these, ENIs that pods use and that something else speaks for, told already.
    pub(crate) doubted: BTreeSet<EniHandle>,
    /// ENIs that IMDS shows and nobody knows, and since when.
    pub(crate) strangers: BTreeMap<EniId, Timestamp>,
    /// ENIs that IMDS showed the last time it was read.
    pub(crate) in_imds: BTreeSet<EniId>,
    /// Blocks that the last Describe showed and that may be there no more.
    pub(crate) held_back: BTreeSet<Block>,
    /// This run went on from the same boot's state.
    pub(crate) resumed: bool,
    /// The store came back older than it was: what earlier runs wrote to EC2 last is not known.
    pub(crate) forgetful: bool,
    /// See [`Memory::spread_out`].
    pub(crate) spread: bool,
    /// Of the jitter.
    pub(crate) seed: u64,
    /// What EC2 told of subnets.
    pub(crate) subnets: super::subnets::Book,
    /// xorshift state of the jitter.
    jitter: u64,
}

impl Memory {
    /// Nothing learned yet. `known`: the store had this boot's state. `seed` of the jitter.
    #[must_use]
    pub fn new(known: bool, seed: u64, now: Timestamp) -> Self {
        Self {
            known,
            described: known.then_some(now),
            heard: false,
            started: now,
            resumed: known,
            seed,
            jitter: mix(seed) | 1,
            subnets: super::subnets::Book::new(known),
            ..Self::default()
        }
    }

    /// The store has lost something: until EC2's own lag is over, a Describe may show what an
    /// earlier run gave back.
    #[must_use]
    pub const fn forgetful(mut self, forgetful: bool) -> Self {
        self.forgetful = forgetful;
        self
    }

    /// IMDS was read: it shows these.
    pub fn imds_shows(&mut self, enis: impl Iterator<Item = EniId>) {
        self.in_imds = enis.collect();
    }

    /// Whether EC2's last word did not name this ENI: it may be gone.
    pub(crate) fn left_out(&self, eni: EniHandle) -> bool {
        self.missing
            .contains_key(&crate::reconcile::Thing::Eni(eni))
    }

    /// Blocks of this ENI were given back, or may have been, at `at`: what a Describe shows on it
    /// counts again when EC2's lag is over.
    pub(crate) fn gave_back(&mut self, eni: EniHandle, at: Timestamp) {
        let until = at + CONSISTENCY;
        let known = self.stale_until.entry(eni).or_insert(until);
        *known = until.max(*known);
    }

    /// Whether a Describe begun at `begun` may show blocks that this ENI has no more.
    pub(crate) fn shows_the_past(&self, eni: EniHandle, begun: Timestamp) -> bool {
        let known = self.stale_until.get(&eni);
        known.is_some_and(|until| begun < *until) || self.forgets(begun)
    }

    /// Whether the store may have forgotten what was given back so late that a Describe begun at
    /// `begun` shows it still.
    pub(crate) fn forgets(&self, begun: Timestamp) -> bool {
        mutant!(
            "store/damage-makes-describes-doubtful",
            self.forgetful && begun < self.started + CONSISTENCY,
            false
        )
    }

    /// What is long over need not be remembered.
    pub(crate) fn forget_past(&mut self, begun: Timestamp) {
        self.stale_until.retain(|_, until| begun < *until);
    }

    /// Whether a run that begins now may go on from what is stored.
    #[must_use]
    pub const fn trusted(&self) -> bool {
        self.known && !self.forgetful
    }

    /// Whether EC2's (or this boot's stored) word on all ENIs has been heard.
    #[must_use]
    pub const fn known(&self) -> bool {
        self.known
    }

    /// Whether EC2 has told of all ENIs in this run. A store may be older than it seems; what EC2 names is
    /// what there is, but for what a store that lost something has given back of late.
    #[must_use]
    pub const fn heard(&self) -> bool {
        self.heard && !self.forgetful
    }

    /// The hold on any of these scopes that lasts longest.
    #[must_use]
    pub fn held(&self, scopes: &[Scope], now: Timestamp) -> Option<&Hold> {
        scopes
            .iter()
            .filter_map(|s| self.holds.get(s))
            .filter(|h| h.until > now)
            .max_by_key(|h| h.until)
    }

    /// All holds that are not over.
    pub fn holds(&self, now: Timestamp) -> impl Iterator<Item = (&Scope, &Hold)> {
        self.holds.iter().filter(move |(_, hold)| hold.until > now)
    }

    /// Failures in a row in a scope.
    pub(crate) fn failures(&self, scope: &Scope) -> u32 {
        self.holds.get(scope).map_or(0, |hold| hold.failures)
    }

    /// Whether the last that was heard from this subnet, or of new ENIs in it, was a refusal.
    pub(crate) fn blemished(&self, subnet: &SubnetId, kind: BlockKind) -> bool {
        self.holds
            .contains_key(&Scope::Subnet(subnet.clone(), kind))
            || self.holds.contains_key(&Scope::NewEniIn(subnet.clone()))
            || self.holds.contains_key(&Scope::AttachFrom(subnet.clone()))
    }

    /// The ends of all holds that are not over.
    pub(crate) fn hold_ends(&self, now: Timestamp) -> impl Iterator<Item = Timestamp> + '_ {
        self.holds
            .values()
            .map(|h| h.until)
            .filter(move |t| *t > now)
    }

    /// A pod waits: what only a person or other pods can change (a permission, room in a subnet) is tried
    /// again sooner than for warm addresses.
    pub fn a_pod_waits(&mut self, now: Timestamp) {
        let held = self.holds.iter_mut();
        for (_, hold) in held.filter(|(scope, _)| scope.pressed().is_some()) {
            hold.until = mutant!(
                "retry/sooner-for-pods",
                hold.until.min(hold.pressed.max(now)),
                hold.until
            );
        }
    }

    /// A call in this scope that was sent at `begun` went well. What was sent beside a refused one says
    /// nothing against the refusal.
    pub(crate) fn succeeded(&mut self, scope: &Scope, begun: Timestamp) {
        let later = mutant!(
            "retry/only-later-success-ends-the-pause",
            self.holds.get(scope).is_some_and(|h| h.since <= begun),
            true
        );
        if later {
            mutant!(
                "retry/success-ends-the-pause",
                self.holds.remove(scope),
                None::<Hold>
            );
        }
    }

    /// EC2 has looked at a call and refused it for something else: what these scopes were held for before
    /// is no reason any more.
    pub(crate) fn outdated(&mut self, scopes: &[Scope], now: Timestamp) {
        self.holds
            .retain(|scope, hold| hold.until > now || !scopes.contains(scope));
    }

    /// A batch was granted: twice as many may be asked for the next time, unless that was refused just
    /// now.
    pub(crate) fn granted(&mut self, subnet: SubnetId, kind: BlockKind, now: Timestamp) {
        if let Some(batch) = self.batch.get_mut(&(subnet, kind))
            && now >= batch.refused + BATCH_STAYS
        {
            batch.limit = mutant!(
                "growth/batches-grow-again",
                batch.limit.saturating_mul(2),
                batch.limit
            );
        }
    }

    /// EC2 refused a batch of `count` for want of room: half of it may still be had.
    pub(crate) fn too_many(
        &mut self,
        subnet: SubnetId,
        kind: BlockKind,
        count: u32,
        now: Timestamp,
    ) {
        // Calls side by side are refused side by side: the smallest tells most.
        let lately = |batch: &&Batch| now < batch.refused + BATCH_STAYS;
        let known = self.batch.get(&(subnet.clone(), kind)).filter(lately);
        let half = mutant!("refused/less-at-once", count / 2, count);
        let batch = Batch {
            limit: known.map_or(half, |batch| half.min(batch.limit)),
            refused: now,
        };
        self.batch.insert((subnet, kind), batch);
    }

    /// Until when a batch of `count` is not asked for again, if as many or fewer were refused just now.
    pub(crate) fn too_many_until(
        &self,
        subnet: &SubnetId,
        kind: BlockKind,
        count: u32,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let batch = self.batch.get(&(subnet.clone(), kind))?;
        let until = batch.refused + BATCH_STAYS;
        (count > batch.limit && now < until).then_some(until)
    }

    /// A call failed: hold its scope, longer each time, with jitter. A refusal for the rate of calls
    /// is no scope's fault and holds none: see [`Memory::throttled`].
    pub(crate) fn failed(&mut self, scope: Scope, error: &CloudError, now: Timestamp) {
        if error.class.reaction().next == Next::Slower {
            return;
        }
        let failures = mutant!(
            "retry/pauses-grow",
            self.holds
                .get(&scope)
                .map_or(0, |h| h.failures)
                .saturating_add(1),
            1
        );
        let (base, cap) = scope.wait(error.class);
        let ceiling = base.saturating_mul(1 << (failures - 1).min(10)).min(cap);
        // Full jitter, so that nodes which failed together do not come back together; a second at
        // least, so that none comes back at once by luck.
        let least = scope.least(ceiling);
        let spread = ceiling.max(least * 2) - least;
        let fraction = self.fraction();
        let wait = least + spread.mul_f64(fraction);
        let pressed = scope
            .pressed()
            .map_or(wait, |longest| longest.mul_f64(0.5 + fraction / 2.0));
        let hold = Hold {
            since: now,
            until: now + wait,
            pressed: now + wait.min(pressed),
            failures,
            error: error.clone(),
        };
        self.holds.insert(scope, hold);
    }

    /// The next number of the jitter, 0 to 1.
    pub fn fraction(&mut self) -> f64 {
        self.jitter ^= self.jitter << 13;
        self.jitter ^= self.jitter >> 7;
        self.jitter ^= self.jitter << 17;
        f64::from(u32::try_from(self.jitter >> 40).unwrap_or(0)) / f64::from(1u32 << 24)
    }
}

/// splitmix64: seeds that are near give numbers that are not.
pub(crate) const fn mix(seed: u64) -> u64 {
    let x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; next try {}", self.error, self.until)
    }
}
