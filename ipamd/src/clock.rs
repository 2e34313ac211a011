//! The engine's clock: wall time as it was at the start, and from then on a clock that nobody sets.
//!
//! Whatever is done to the system's clock while the daemon runs (NTP's first step, a person), no
//! cooldown gets shorter and nothing stands still. What lies between two runs is settled by the store,
//! which notes how wall time and uptime lay to each other ([`Offset`]).

use ipam_core::Timestamp;
use ipam_engine::ports::Clock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Milliseconds since the Unix epoch, counted on from the start.
#[derive(Debug)]
pub struct WallClock {
    origin: Timestamp,
    start: Instant,
}

impl Default for WallClock {
    fn default() -> Self {
        Self {
            origin: wall(),
            start: Instant::now(),
        }
    }
}

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        self.origin + self.start.elapsed()
    }
}

fn wall() -> Timestamp {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::default() + since
}

/// Wall time less uptime, milliseconds: the same all through a boot, unless the clock is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

/// Less than this between two runs is the clocks' own inaccuracy.
const SET: Duration = Duration::from_secs(1);

impl Offset {
    /// The one of now; `None` without a readable `/proc/uptime` (proc(5): seconds since boot).
    #[must_use]
    pub fn now() -> Option<Self> {
        let text = std::fs::read_to_string("/proc/uptime").ok()?;
        let seconds: f64 = text.split_whitespace().next()?.parse().ok()?;
        let up = Duration::try_from_secs_f64(seconds).ok()?;
        let (wall, up) = (wall().0, u64::try_from(up.as_millis()).ok()?);
        i64::try_from(wall).ok()?.checked_sub_unsigned(up).map(Self)
    }

    /// By how many milliseconds the system's clock was set forward since `earlier`, in the same boot;
    /// 0 if it was not.
    #[must_use]
    pub fn set_since(self, earlier: Self) -> i64 {
        let by = self.0.saturating_sub(earlier.0);
        let was_set = Duration::from_millis(by.unsigned_abs()) >= SET;
        if was_set { by } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_on_from_wall_time() {
        let before = wall();
        let clock = WallClock::default();
        let (first, second) = (clock.now(), clock.now());
        assert!(before <= first && first <= second);
        assert!(second <= wall() + Duration::from_secs(1));
    }

    #[test]
    fn the_offset_stays_and_shows_a_step() {
        let (one, two) = (Offset::now().expect("reads"), Offset::now().expect("reads"));
        assert_eq!(two.set_since(one), 0);
        assert_eq!(Offset(one.0 - 5_000).set_since(one), -5_000);
        assert_eq!(Offset(one.0 + 999).set_since(one), 0);
    }
}
