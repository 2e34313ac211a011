//! How fast the pool follows: steps of growth, patience before giving back, and a spread of what
//! does not press over time.
//!
//! Every change of the pool is an EC2 call, and all nodes share EC2's request buckets. So a pool that
//! keeps growing takes more at once, one that just gave ENIs back and needs them again keeps them
//! longer the next time, and nodes that start together don't call together. Owns the memory of it and
//! the numbers; the pool's target is not its matter: what it adds is given back once it is quiet.

use super::memory::mix;
use super::{Draft, Memory, Policy, SHRINK_AFTER};
use crate::Timestamp;
use core::time::Duration;
use mutant::mutant;

/// Growth that comes again within this time is a series.
const SERIES: Duration = Duration::from_secs(180);

/// A series as long as this is more than one burst: what it bought is kept for [`SERIES`] longer.
const SUSTAINED: Duration = Duration::from_secs(15);

/// No more than a prefix's worth of addresses in advance.
const LARGEST_STEP: u32 = 16;

/// An ENI that is made so soon after one was given back was given back too soon.
const REGRET: Duration = Duration::from_secs(1800);

/// A daemon that was only restarted gives nothing back for so long: it does not know yet what is
/// used how often, and in a roll-out all nodes would give back at once.
const GRACE: Duration = Duration::from_secs(600);

/// Pods that come together take warm addresses together: one call for all, half of this later to
/// one and a half.
const GATHER: Duration = Duration::from_secs(1);

/// Start jitter, where no pod waits: of the first Describe, of the first warm addresses, and of
/// warm addresses where there were enough before the restart. A fleet's first calls come at a rate
/// near to what EC2's buckets hold, and a lone node hardly waits.
const FIRST_DESCRIBE: Duration = Duration::from_secs(2);
const FIRST_SUBNETS: Duration = Duration::from_secs(4);
const FIRST_GROWTH: Duration = Duration::from_secs(3);
const GROWTH_AFTER_RESTART: Duration = Duration::from_secs(30);

/// For so long after a start a shortage is put down to it.
const STARTING: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace {
    /// First and last growth call of the series.
    series: Option<(Timestamp, Timestamp)>,
    /// Addresses that the last growth call took in advance.
    step: u32,
    /// Since when pods have waited.
    pub(super) hungry_since: Option<Timestamp>,
    /// Since when warm addresses are missing.
    short_since: Option<Timestamp>,
    /// Since when there had been too much, and when an ENI was given back for it.
    eni_went: Option<(Timestamp, Timestamp)>,
    /// How long there must be too much, if that was learned.
    patience: Option<Duration>,
    /// When something was last given back, and how long nothing more is.
    rest: Option<(Timestamp, Duration)>,
}

impl Pace {
    /// A growth call is made now; returns how many addresses to take in advance.
    fn grown(&mut self, now: Timestamp) -> u32 {
        let again = self.series.filter(|(_, last)| now.since(*last) <= SERIES);
        self.step = match (again, self.series) {
            (Some(_), _) => mutant!(
                "growth/steps",
                (self.step * 2).clamp(1, LARGEST_STEP),
                self.step.min(LARGEST_STEP)
            ),
            (None, Some((_, last))) if now.since(last) <= SERIES * 2 => self.step / 2,
            _ => 0,
        };
        self.series = Some((again.map_or(now, |(first, _)| first), now));
        self.step
    }

    /// An ENI is made now. If one was given back of late, that was too soon.
    fn made_eni(&mut self, now: Timestamp) {
        if let Some((since, _)) = self
            .eni_went
            .take()
            .filter(|(_, at)| now.since(*at) <= REGRET)
        {
            let needed = now.since(since) * 3 / 2;
            self.patience = mutant!(
                "shrink/regret",
                Some(needed.clamp(SHRINK_AFTER, REGRET)),
                Some(needed.clamp(SHRINK_AFTER, SHRINK_AFTER))
            );
        }
    }

    /// Something is given back now. Going on with it, the pool does so in larger parts: twice as
    /// long after each.
    pub(super) fn gave_back(&mut self, now: Timestamp) {
        let again = self
            .rest
            .filter(|(at, rest)| now.since(*at) <= SERIES + *rest);
        let rest = again.map_or(SHRINK_AFTER, |(_, rest)| (rest * 2).min(SERIES));
        self.rest = Some((now, rest));
    }

    /// An ENI is given back now, after a surplus that began at `since` and lasted long enough.
    pub(super) fn gave_eni_back(&mut self, since: Timestamp, now: Timestamp) {
        self.eni_went = Some((since, now));
        self.patience = None;
    }
}

impl Memory {
    /// Spreads what does not press over time, by this run's jitter: for daemons, which have
    /// many like them.
    #[must_use]
    pub const fn spread_out(mut self) -> Self {
        self.spread = true;
        self
    }

    /// For how long pods have waited.
    pub(super) fn hunger(&self, now: Timestamp) -> Duration {
        self.pace
            .hungry_since
            .map_or(Duration::ZERO, |since| now.since(since))
    }

    /// Some part of `span`, the same for the same run and time.
    pub(super) fn part_of(&self, span: Duration, at: Timestamp) -> Duration {
        if mutant!("describe/fleet-is-spread", !self.spread, true) {
            return Duration::ZERO;
        }
        // Of run and time: a plan draws no dice.
        let part = f64::from(u32::try_from(mix(self.seed ^ mix(at.0)) >> 32).unwrap_or(0));
        span.mul_f64(part / f64::from(u32::MAX))
    }

    /// When EC2 is asked for the first time, if nobody waits.
    pub(super) fn first_describe(&self) -> Timestamp {
        self.started + self.part_of(FIRST_DESCRIBE, self.started)
    }

    /// When EC2 is asked for the subnets for the first time, if nobody waits.
    pub(super) fn first_subnets(&self) -> Timestamp {
        self.started + self.part_of(FIRST_SUBNETS, self.started)
    }

    /// When EC2 is asked again, if nothing gives cause: nodes that started together drift apart.
    pub(super) fn next_describe(&self, last: Timestamp, every: Duration) -> Timestamp {
        last + every + self.part_of(every / 2, last)
    }
}

impl Draft<'_> {
    /// Whether warm addresses that are missing are to be asked for now; if not, when.
    pub(super) fn warm_growth_is_due(&mut self) -> bool {
        let memory = self.input.memory;
        let since = *self.pace.short_since.get_or_insert(self.now);
        let at = if !memory.spread {
            since
        } else if since.since(memory.started) < STARTING {
            let span = if memory.resumed {
                GROWTH_AFTER_RESTART
            } else {
                FIRST_GROWTH
            };
            since + memory.part_of(span, since)
        } else {
            mutant!(
                "growth/gathers",
                since + GATHER / 2 + memory.part_of(GATHER, since),
                since
            )
        };
        self.wake(at);
        at <= self.now
    }

    /// Whether pods wait, and since when.
    pub(super) fn note_hunger(&mut self) {
        let hungry = self.input.waiting > 0;
        self.pace.hungry_since = hungry.then(|| self.pace.hungry_since.unwrap_or(self.now));
    }

    /// Nothing is missing.
    pub(super) fn not_short(&mut self) {
        self.pace.short_since = None;
    }

    /// Growth is planned: what is still missing after it is a new shortage.
    pub(super) fn grew(&mut self, still_missing: bool) {
        self.pace.short_since = still_missing.then_some(self.now);
    }

    /// Addresses to take in advance, now that `short` are asked for: where they are taken one by
    /// one, and never beyond max-pods.
    pub(super) fn step(&mut self, short: u32) -> u32 {
        let step = self.pace.grown(self.now);
        let policy: &Policy = self.input.policy;
        let by_address = policy.warm_ip.unwrap_or(0) > 0 || policy.minimum_ip.unwrap_or(0) > 0;
        if !by_address || self.prefixes() {
            return 0;
        }
        let room = policy.max_pods.map_or(u32::MAX, |max| {
            mutant!(
                "growth/steps-stay-within-max-pods",
                max.saturating_sub(self.supply + short),
                max.saturating_add(self.supply + short)
            )
        });
        step.min(room)
    }

    /// A new ENI is planned.
    pub(super) fn makes_eni(&mut self) {
        self.pace.made_eni(self.now);
    }

    /// When a surplus that began at `since` is given back.
    pub(super) fn give_back_at(&self, since: Timestamp) -> Timestamp {
        let memory = self.input.memory;
        let at = since
            + mutant!(
                "shrink/surplus-lasts",
                self.pace.patience.unwrap_or(SHRINK_AFTER),
                Duration::ZERO
            );
        let rested = self.pace.rest.map(|(at, rest)| at + rest);
        let series = self
            .pace
            .series
            .filter(|(first, last)| last.since(*first) >= SUSTAINED)
            .map(|(_, last)| last + SERIES);
        let grace = mutant!(
            "shrink/grace-after-a-restart",
            memory.resumed.then_some(memory.started + GRACE),
            memory.resumed.then_some(memory.started)
        );
        [rested, series, grace]
            .into_iter()
            .flatten()
            .fold(at, Timestamp::max)
    }
}
