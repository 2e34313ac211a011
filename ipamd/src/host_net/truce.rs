//! When to repair: at once, but not for ever against a program that does it again. A person who breaks one thing
//! after another is none: a program answers a repair at once.

use std::time::Duration;
use tokio::time::Instant;

/// Changes come in bursts (a flush, an ENI's removal): one repair for all.
const SETTLE: Duration = Duration::from_millis(100);
/// So many repairs that changed something may follow each other at once.
const AT_ONCE: u32 = 30;
/// What comes so soon after a repair may be an answer to it.
const ANSWER: Duration = Duration::from_secs(2);
/// After so long without one in a fight that has pauses, it begins anew.
const CALM: Duration = Duration::from_secs(60);
/// The first pause, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Truce {
    /// Repairs in a row that changed something, each soon after the one before.
    repairs: u32,
    last: Option<Instant>,
    /// When the first change since then was seen.
    seen: Option<Instant>,
}

impl Truce {
    /// When a change that is seen now is to be repaired.
    pub(super) fn next(&mut self, now: Instant) -> Instant {
        self.seen.get_or_insert(now);
        let soon = now + SETTLE;
        let again = self.repairs.saturating_sub(AT_ONCE);
        match self.last.filter(|last| again > 0 && now - *last < CALM) {
            Some(last) => {
                let pause = PAUSE.saturating_mul(1 << (again - 1).min(10));
                soon.max(last + pause.min(PAUSE_MAX))
            }
            None => soon,
        }
    }

    /// A repair was made. `true`: it is the one after which there are pauses, to be told.
    pub(super) fn repaired(&mut self, changed: bool, now: Instant) -> bool {
        let seen = self.seen.take().unwrap_or(now);
        if !changed {
            return false;
        }
        let is_answer = self.last.is_some_and(|last| seen - last < ANSWER);
        self.repairs = if is_answer {
            self.repairs.saturating_add(1)
        } else {
            1
        };
        self.last = Some(now);
        self.repairs == AT_ONCE + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fight_gets_slower_and_ends_in_calm() {
        let mut truce = Truce::default();
        let mut now = Instant::now();
        let mut told = 0;
        for n in 1..=60 {
            let at = truce.next(now);
            let wait = at - now;
            let longest = if n <= AT_ONCE + 1 { SETTLE } else { PAUSE_MAX };
            assert!(wait >= SETTLE && wait <= longest, "{n}: {wait:?}");
            now = at;
            told += u32::from(truce.repaired(true, now));
        }
        assert_eq!(told, 1);
        assert_eq!(truce.next(now) - now, PAUSE_MAX);
        // Looks that find nothing neither calm nor excite.
        truce.repaired(false, now + SETTLE);
        assert_eq!(truce.next(now) - now, PAUSE_MAX);
        truce.repaired(false, now + SETTLE);
        now += CALM + PAUSE;
        assert_eq!(truce.next(now) - now, SETTLE);
        truce.repaired(true, now);
        assert_eq!(truce.next(now) - now, SETTLE);
    }

    /// As one who tries out what is put right, for an hour.
    #[test]
    fn a_person_is_no_fight() {
        let mut truce = Truce::default();
        let mut now = Instant::now();
        for _ in 0..1000 {
            let at = truce.next(now);
            assert_eq!(at - now, SETTLE);
            assert!(!truce.repaired(true, at));
            // Our own changes are heard, too.
            let echo = truce.next(at);
            truce.repaired(false, echo);
            now = at + Duration::from_secs(3);
        }
    }
}
