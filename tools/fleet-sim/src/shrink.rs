//! The least of a seed's scenario that still breaks the same promise.
//!
//! Events are left out in runs, long ones first (Zeller's delta debugging, without its last half);
//! then fewer pods come at once. Each try plays the scenario anew.

use crate::oracle::Promise;
use crate::scenario::{Cut, Dice, Report, play_with};
use std::collections::BTreeSet;
use std::ops::Range;

/// Tries of one seed, each of which takes as long as the seed.
const TRIES_MAX: u32 = 120;

/// What is left of a seed's scenario.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The least that was found, with its story.
    pub report: Report,
    /// What was left out of it.
    pub cut: Cut,
}

struct Search<F> {
    /// The promise that a scenario breaks first without what is cut.
    play: F,
    promise: Promise,
    cut: Cut,
    tries: u32,
}

/// Shrinks the scenario of a seed that broke a promise; `None` if it breaks none.
#[must_use]
pub fn shrink(seed: u64, dice: Dice) -> Option<Shrunk> {
    let whole = play_with(seed, false, dice, &Cut::default());
    let promise = whole.breaches.first()?.promise;
    let mut search = Search {
        play: |cut: &Cut| {
            let report = play_with(seed, false, dice, cut);
            report.breaches.first().map(|b| b.promise)
        },
        promise,
        cut: Cut::default(),
        tries: 0,
    };
    search.events(whole.events);
    search.pods();
    let report = play_with(seed, true, dice, &search.cut);
    Some(Shrunk {
        report,
        cut: search.cut,
    })
}

impl<F: Fn(&Cut) -> Option<Promise>> Search<F> {
    /// Whether the promise is broken without what `cut` names.
    fn breaks(&mut self, cut: &Cut) -> bool {
        if self.tries >= TRIES_MAX {
            return false;
        }
        self.tries += 1;
        (self.play)(cut) == Some(self.promise)
    }

    fn try_cut(&mut self, cut: Cut) -> bool {
        let breaks = self.breaks(&cut);
        if breaks {
            self.cut = cut;
        }
        breaks
    }

    fn without(&self, events: impl IntoIterator<Item = u32>) -> Cut {
        let mut cut = self.cut.clone();
        cut.skip.extend(events);
        cut
    }

    fn events(&mut self, count: u32) {
        let left = |search: &Self| -> Vec<u32> {
            (0..count)
                .filter(|e| !search.cut.skip.contains(e))
                .collect()
        };
        let mut run = count.div_ceil(2).max(1) as usize;
        loop {
            // From the end: what comes after the fault is never needed.
            let mut to = left(self).len();
            while to > 0 {
                let from = to.saturating_sub(run);
                let events: BTreeSet<u32> = left(self)[from..to].iter().copied().collect();
                self.try_cut(self.without(events));
                to = from;
            }
            if run == 1 || self.tries >= TRIES_MAX {
                return;
            }
            run = run.div_ceil(2);
        }
    }

    fn pods(&mut self) {
        for most in [1, 2, 4] {
            let mut cut = self.cut.clone();
            cut.pods_max = Some(most);
            if self.try_cut(cut) {
                return;
            }
        }
    }
}

impl Shrunk {
    /// What was left out, for the head of the story.
    #[must_use]
    pub fn words(&self) -> String {
        let kept: Vec<String> = runs(self.report.events, &self.cut.skip)
            .into_iter()
            .map(|run| match run.end - run.start {
                1 => run.start.to_string(),
                _ => format!("{}-{}", run.start, run.end - 1),
            })
            .collect();
        let pods = self.cut.pods_max;
        let pods = pods.map_or(String::new(), |n| format!(", at most {n} pods at once"));
        format!(
            "shrunk: {} of {} events (numbers {}){pods}",
            self.report.events as usize - self.cut.skip.len(),
            self.report.events,
            if kept.is_empty() {
                "none".to_owned()
            } else {
                kept.join(", ")
            },
        )
    }
}

/// Runs of numbers below `count` that are not left out.
fn runs(count: u32, skip: &BTreeSet<u32>) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for n in (0..count).filter(|n| !skip.contains(n)) {
        match runs.last_mut() {
            Some(run) if run.end == n => run.end = n + 1,
            _ => runs.push(n..n + 1),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_breach_needs_is_what_is_left() {
        let needed = BTreeSet::from([3, 17, 18]);
        let mut search = Search {
            // Another promise is broken when the fourth event is missing: that is another fault.
            play: |cut: &Cut| match needed.is_disjoint(&cut.skip) {
                true if cut.pods_max.is_none_or(|n| n >= 2) => Some(Promise::PodKeepsLease),
                _ => cut.skip.contains(&3).then_some(Promise::NoPanic),
            },
            promise: Promise::PodKeepsLease,
            cut: Cut::default(),
            tries: 0,
        };
        search.events(36);
        search.pods();
        let left: BTreeSet<u32> = (0..36).filter(|e| !search.cut.skip.contains(e)).collect();
        assert_eq!(left, needed);
        assert_eq!(search.cut.pods_max, Some(2));
        assert!(search.tries < TRIES_MAX, "{} tries", search.tries);
    }

    #[test]
    fn runs_are_what_is_left() {
        let skip = BTreeSet::from([0, 3, 4, 7]);
        assert_eq!(runs(8, &skip), [1..3, 5..7]);
        assert_eq!(runs(2, &BTreeSet::from([0, 1])), []);
    }
}
