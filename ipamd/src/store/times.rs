//! Stored times on the clock of this run.

use crate::clock::Offset;
use ipam_core::Timestamp;
use ipam_engine::ports::Loaded;

/// By how much the system's clock was set forward since `then`. Across boots nobody knows.
pub(super) fn step(then: Option<Offset>, now: Option<Offset>, same_boot: bool) -> i64 {
    match (then, now) {
        (Some(then), Some(now)) if same_boot => now.set_since(then),
        _ => 0,
    }
}

/// The system's clock was set forward by so many milliseconds since the times were noted, within one
/// boot: what was 10 s ago then is to be 10 s ago now.
pub(super) fn set_forward(loaded: &mut Loaded, by: i64) {
    if by == 0 {
        return;
    }
    let moved = |at: &mut Timestamp| {
        // Zero is "never".
        if at.0 > 0 {
            at.0 = at.0.saturating_add_signed(by).max(1);
        }
    };
    loaded.leases.iter_mut().for_each(|l| moved(&mut l.since));
    loaded.cooldowns.values_mut().for_each(|r| moved(&mut r.at));
    for eni in &mut loaded.enis {
        moved(&mut eni.since);
        moved(&mut eni.written_at);
        eni.in_doubt_since.as_mut().into_iter().for_each(moved);
    }
}
