//! What pods may not send, and sent.

use super::Maker;
use prometheus::{IntCounterVec, IntGauge};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Where packets of pods are judged.
pub trait PodPackets: fmt::Debug + Send + Sync {
    /// Whether pods' sources are checked now.
    fn are_checked(&self) -> bool;

    /// How many packets were dropped for each reason, since it was last begun to count.
    fn dropped(&self) -> Vec<(&'static str, u64)>;
}

/// See the module.
#[derive(Debug)]
pub(super) struct Packets {
    checked: IntGauge,
    dropped: IntCounterVec,
    /// What was read last, by reason: the kernel begins anew with each new table.
    last: Mutex<BTreeMap<&'static str, u64>>,
    source: OnceLock<Arc<dyn PodPackets>>,
}

impl Packets {
    #[rustfmt::skip]
    pub(super) fn new(make: &Maker<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            checked: make.gauge("ipamd_source_check", "1 if pods can send from their own addresses alone.")?,
            dropped: make.counters("ipamd_pod_packets_dropped_total", "Packets that a pod may not send: source (not its address), redirect (or router advertisement), flood (of link-local packets).", &["reason"])?,
            last: Mutex::default(),
            source: OnceLock::new(),
        })
    }

    pub(super) fn begin(&self, source: Arc<dyn PodPackets>) {
        // There is one kernel: a second one would not be asked.
        let _ = self.source.set(source);
    }

    pub(super) fn see(&self) {
        let Some(source) = self.source.get() else {
            return;
        };
        self.checked.set(source.are_checked().into());
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        for (reason, now) in source.dropped() {
            let before = last.insert(reason, now).filter(|before| *before <= now);
            let more = now - before.unwrap_or(0);
            self.dropped.with_label_values(&[reason]).inc_by(more);
        }
    }
}
