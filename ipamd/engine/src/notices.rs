//! Notices on their way out: the same news is told once and then rarely, and never without bound.

use crate::notice::Notice;
use ipam_core::Timestamp;
use std::collections::BTreeMap;
use std::time::Duration;

/// A notice, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// What.
    pub notice: Notice,
    /// How often the same was not told since it was told last.
    pub repeats: u32,
}

/// So many different news are remembered; beyond that the oldest is forgotten.
const REMEMBERED: usize = 256;

/// So many notices a minute at most; what is more is counted and dropped.
const PER_MINUTE: u32 = 60;

#[derive(Debug)]
struct Last {
    at: Timestamp,
    repeats: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    last: BTreeMap<(&'static str, String), Last>,
    pending: Vec<Told>,
    minute: Timestamp,
    in_minute: u32,
    /// Notices by label, whether told or not.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    /// Notices that were dropped since there were too many.
    pub(crate) dropped: u64,
}

impl Notices {
    /// Tells, unless the same was told a short while ago.
    pub(crate) fn add(&mut self, notice: Notice, now: Timestamp) {
        let count = self.counts.entry(notice.label()).or_default();
        *count = count.saturating_add(1);
        let key = notice.key();
        let mut repeats = 0;
        if let Some(last) = self.last.get_mut(&key) {
            let due = notice.again_after().is_some_and(|d| last.at + d <= now);
            if !due {
                last.repeats = last.repeats.saturating_add(1);
                return;
            }
            repeats = last.repeats;
        }
        if now.since(self.minute) >= Duration::from_secs(60) {
            (self.minute, self.in_minute) = (now, 0);
        }
        if self.in_minute >= PER_MINUTE {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.in_minute += 1;
        if self.last.len() >= REMEMBERED && !self.last.contains_key(&key) {
            let oldest = self.last.iter().min_by_key(|(_, last)| last.at);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                self.last.remove(&oldest);
            }
        }
        self.last.insert(
            key,
            Last {
                at: now,
                repeats: 0,
            },
        );
        self.pending.push(Told {
            at: now,
            notice,
            repeats,
        });
    }

    /// What is to be told now.
    pub(crate) fn take(&mut self) -> Vec<Told> {
        std::mem::take(&mut self.pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp(1_000_000 + secs * 1000)
    }

    #[test]
    fn the_same_news_is_told_again_only_after_a_while() {
        let mut notices = Notices::default();
        for second in 0..1000 {
            notices.add(Notice::NoMetadata(format!("try {second}")), at(second));
        }
        let told = notices.take();
        let when: Vec<_> = told.iter().map(|t| (t.at, t.repeats)).collect();
        assert_eq!(when, [(at(0), 0), (at(900), 899)]);
        assert_eq!(notices.counts["imds_unreachable"], 1000);
        assert!(notices.take().is_empty());
    }

    #[test]
    fn other_news_is_told_at_once() {
        let mut notices = Notices::default();
        notices.add(Notice::EniGone("eni-1".into()), at(0));
        notices.add(Notice::EniGone("eni-1".into()), at(1));
        notices.add(Notice::EniGone("eni-2".into()), at(1));
        notices.add(Notice::NoMetadata(String::new()), at(1));
        assert_eq!(notices.take().len(), 3);
    }

    #[test]
    fn a_flood_is_cut_off_and_memory_is_bounded() {
        let mut notices = Notices::default();
        for n in 0..10_000 {
            notices.add(Notice::EniGone(format!("eni-{n}")), at(n));
        }
        let told = notices.take().len();
        assert!(told <= 10_000 && notices.last.len() <= REMEMBERED);
        for n in 0..1000 {
            notices.add(Notice::StoreDamaged(format!("{n}")), at(20_000));
        }
        assert_eq!(notices.take().len(), PER_MINUTE as usize);
        assert_eq!(notices.dropped, 1000 - u64::from(PER_MINUTE));
    }
}
