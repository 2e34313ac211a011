//! How long what is asked of a kernel takes, and what of it fails: by dice of its own, or as a test says.

use crate::rng::Rng;
use std::time::Duration;

/// What the kernel does when it is asked to forget connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Forgetting {
    /// It does.
    #[default]
    Works,
    /// It does, after so long.
    Takes(Duration),
    /// It refuses.
    Fails,
    /// It has no such module.
    Unable,
}

/// What the daemon asks of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Op {
    Survey,
    Apply,
    Sweep,
    Reroute,
    Forget,
}

impl Op {
    pub(super) const ALL: [Self; 5] = [
        Self::Survey,
        Self::Apply,
        Self::Sweep,
        Self::Reroute,
        Self::Forget,
    ];

    const fn at(self) -> usize {
        self as usize
    }
}

/// How one operation goes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fate {
    /// Between its look and its last change.
    pub(super) takes: Duration,
    /// It fails, at one of four places: before anything is done at 0, and later.
    pub(super) fails_at: Option<u64>,
}

/// How one event goes on its way to the daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Delivery {
    #[default]
    AtOnce,
    /// After so long; others may overtake it.
    Late(Duration),
    /// Twice: now, and after so long.
    Doubled(Duration),
    /// Not at all, and what comes within so long neither; then the daemon is told that events were lost.
    Lost(Duration),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// Of a kernel in trouble.
    rng: Option<Rng>,
    was_raging: bool,
    /// Of a hundred.
    slow: u64,
    failing: u64,
    late: u64,
    lost: u64,
    /// As a test, or an event of the scenario, said.
    takes: [Duration; 5],
    fails: [u32; 5],
    pub(super) forgetting: Forgetting,
}

impl Faults {
    /// Trouble begins.
    pub(super) fn rage(&mut self, mut rng: Rng) {
        self.slow = *rng.pick(&[0, 10, 50]);
        self.failing = *rng.pick(&[0, 0, 5, 25]);
        self.late = *rng.pick(&[0, 0, 10, 40]);
        self.lost = *rng.pick(&[0, 0, 2, 10]);
        self.rng = Some(rng);
        self.was_raging = true;
    }

    /// Whether trouble has ever begun.
    pub(super) const fn raging(&self) -> bool {
        self.was_raging
    }

    /// All is well again.
    pub(super) fn calm(&mut self) {
        *self = Self {
            was_raging: self.was_raging,
            ..Self::default()
        };
    }

    pub(super) fn set_takes(&mut self, op: Op, time: Duration) {
        self.takes[op.at()] = time;
    }

    pub(super) fn set_fails(&mut self, op: Op, count: u32) {
        self.fails[op.at()] = count;
    }

    /// How the operation that begins now goes.
    pub(super) fn fate(&mut self, op: Op) -> Fate {
        let at = op.at();
        let mut fate = Fate {
            takes: self.takes[at],
            fails_at: None,
        };
        let told = self.fails[at] > 0;
        self.fails[at] = self.fails[at].saturating_sub(1);
        if let Some(rng) = &mut self.rng {
            if rng.percent(self.slow) {
                fate.takes += rng.millis(1, 1_500);
            }
            if told || rng.percent(self.failing) {
                fate.fails_at = Some(rng.range(0, 3));
            }
        } else if told {
            fate.fails_at = Some(0);
        }
        fate
    }

    /// How an event gets there.
    pub(super) fn delivery(&mut self) -> Delivery {
        let Some(rng) = &mut self.rng else {
            return Delivery::AtOnce;
        };
        if rng.percent(self.lost) {
            return Delivery::Lost(rng.millis(0, 400));
        }
        if !rng.percent(self.late) {
            return Delivery::AtOnce;
        }
        let after = rng.millis(1, 500);
        match rng.percent(30) {
            true => Delivery::Doubled(after),
            false => Delivery::Late(after),
        }
    }
}
