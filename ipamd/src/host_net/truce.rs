//! When to repair: at once, but not for ever against a program that does it again.

use std::time::Duration;
use tokio::time::Instant;

/// Changes come in bursts (a flush, an ENI's removal): one repair for all.
const SETTLE: Duration = Duration::from_millis(100);
/// So many repairs that changed something may follow each other at once.
const AT_ONCE: u32 = 10;
/// After so long without one, it begins anew.
const CALM: Duration = Duration::from_secs(60);
/// The first pause, and the longest.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Truce {
    /// Repairs in a row that changed something.
    repairs: u32,
    last: Option<Instant>,
}

impl Truce {
    /// When a change that is seen now is to be repaired.
    pub(super) fn next(&self, now: Instant) -> Instant {
        let soon = now + SETTLE;
        let again = self.repairs.saturating_sub(AT_ONCE);
        match self.last.filter(|_| again > 0) {
            Some(last) => {
                let pause = PAUSE.saturating_mul(1 << (again - 1).min(10));
                soon.max(last + pause.min(PAUSE_MAX))
            }
            None => soon,
        }
    }

    /// A repair was made. `true`: it is the one after which there are pauses, to be told.
    pub(super) fn repaired(&mut self, changed: bool, now: Instant) -> bool {
        if self.last.is_some_and(|last| now - last > CALM) {
            self.repairs = 0;
        }
        if changed {
            self.repairs = self.repairs.saturating_add(1);
            self.last = Some(now);
        }
        changed && self.repairs == AT_ONCE + 1
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
        for n in 1..=40 {
            let at = truce.next(now);
            let wait = at - now;
            let longest = if n <= 11 { SETTLE } else { PAUSE_MAX };
            assert!(wait >= SETTLE && wait <= longest, "{n}: {wait:?}");
            now = at;
            told += u32::from(truce.repaired(true, now));
        }
        assert_eq!(told, 1);
        assert_eq!(truce.next(now) - now, PAUSE_MAX);
        // Looks that find nothing neither calm nor excite.
        truce.repaired(false, now + SETTLE);
        assert_eq!(truce.next(now) - now, PAUSE_MAX);
        now += CALM + PAUSE;
        truce.repaired(true, now);
        assert_eq!(truce.next(now) - now, SETTLE);
    }
}
