//! Numbers for Prometheus: what happened since the start, and the pool as it is when asked.
//!
//! Owns the registry; nothing is global. The engine knows no metric: its ports are counted by the
//! wrappers in [`ports`], the pool is read from its snapshot by [`pool`] at each scrape, and answers to
//! the plugin are counted by [`Metrics::added`] and its like. Nothing here waits.
//!
//! Names beginning with `awscni_` are those of Amazon's VPC CNI, where ours mean the same, so that
//! dashboards carry over; all others begin with `ipamd_`.

mod guests;
mod packets;
mod pool;
mod ports;
mod serve;

#[cfg(test)]
mod tests;

pub use packets::PodPackets;
pub use ports::{Metered, MeteredStore};
pub use serve::{Serving, begin};

use crate::log::Dropped;
use ipam_engine::ports::CloudError;
use packets::Packets;
use pool::Pool;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// EC2's error codes are its own to invent: beyond so many, the rest is `other`.
const CODES_MAX: usize = 64;

/// From a warm ADD's milliseconds to the longest wait for EC2.
const ADD_BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];
/// EC2 answers in tenths of seconds, and is given up after ten.
const EC2_BUCKETS: &[f64] = &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// A flush on a good disk and on a bad one.
const COMMIT_BUCKETS: &[f64] = &[0.0001, 0.00025, 0.0005, 0.001, 0.005, 0.025, 0.1, 1.0];

/// A metric that can't be made: a mistake of ours in its name or labels.
#[derive(Debug, thiserror::Error)]
#[error("making the metrics")]
pub struct MetricsError(#[from] prometheus::Error);

/// See the module.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    pool: Pool,
    packets: Packets,
    adds: IntCounterVec,
    add_failures: IntCounterVec,
    add_seconds: HistogramVec,
    dels: IntCounterVec,
    del_seconds: Histogram,
    peer_adds: IntCounter,
    peer_dels: IntCounterVec,
    no_address: IntCounter,
    ec2_calls: IntCounterVec,
    ec2_seconds: HistogramVec,
    ec2_errors: IntCounterVec,
    peer_calls: IntCounterVec,
    peer_errors: IntCounterVec,
    peer_codes: IntCounterVec,
    codes: Mutex<BTreeSet<String>>,
    imds: IntCounterVec,
    commits: Histogram,
    commit_failures: IntCounter,
    events: IntCounterVec,
    log_lines: IntCounter,
    dropped: Option<Dropped>,
}

struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        let made = IntCounter::new(name, help)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        let made = IntCounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let made = IntGauge::new(name, help)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        let made = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn times(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
    ) -> Result<Histogram, prometheus::Error> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let made = Histogram::with_opts(opts)?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }

    fn times_by(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        label: &str,
    ) -> Result<HistogramVec, prometheus::Error> {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        let made = HistogramVec::new(opts, &[label])?;
        self.0.register(Box::new(made.clone()))?;
        Ok(made)
    }
}

impl Metrics {
    /// All metrics, at 0. `start` says what the state was like: `same_boot`, `other_boot`, `empty`
    /// or `damaged`. `dropped`: of the log, if there is one.
    ///
    /// # Errors
    /// A mistake of ours.
    #[rustfmt::skip]
    pub fn new(start: &str, dropped: Option<Dropped>) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let make = Maker(&registry);
        make.gauges("ipamd_build_info", "The version, and the commit if it is known; always 1.", &["version", "commit"])?
            .with_label_values(&[env!("CARGO_PKG_VERSION"), env!("IPAMD_COMMIT")]).set(1);
        make.gauges("ipamd_start_info", "What the stored state was like at the start; always 1.", &["state"])?
            .with_label_values(&[start]).set(1);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        make.gauge("process_start_time_seconds", "When the daemon started; its changes are restarts.")?
            .set(i64::try_from(now.as_secs()).unwrap_or(i64::MAX));
        let metrics = Self {
            pool: Pool::new(&make)?,
            packets: Packets::new(&make)?,
            adds: make.counters("ipamd_adds_total", "ADDs answered.", &["result"])?,
            add_failures: make.counters("ipamd_add_failures_total", "ADDs refused, by the cause that the pod was told.", &["cause"])?,
            add_seconds: make.times_by("ipamd_add_seconds", "Time from an ADD's arrival to its answer.", ADD_BUCKETS, "result")?,
            dels: make.counters("ipamd_dels_total", "DELs answered.", &["result"])?,
            del_seconds: make.times("ipamd_del_seconds", "Time from a DEL's arrival to its answer.", ADD_BUCKETS)?,
            peer_adds: make.counter("awscni_add_ip_req_count", "ADDs received.")?,
            peer_dels: make.counters("awscni_del_ip_req_count", "DELs received, by reason.", &["reason"])?,
            no_address: make.counter("awscni_no_available_ip_addresses", "ADDs that got no address.")?,
            ec2_calls: make.counters("ipamd_ec2_calls_total", "EC2 calls, by what came of them.", &["action", "result"])?,
            ec2_seconds: make.times_by("ipamd_ec2_call_seconds", "Time that EC2 took.", EC2_BUCKETS, "action")?,
            ec2_errors: make.counters("ipamd_ec2_errors_total", "EC2's error codes.", &["action", "code"])?,
            peer_calls: make.counters("awscni_ec2api_req_count", "EC2 calls.", &["fn"])?,
            peer_errors: make.counters("awscni_ec2api_error_count", "Failed EC2 calls.", &["fn"])?,
            peer_codes: make.counters("awscni_aws_api_error_count", "Failed EC2 calls, by code.", &["api", "error"])?,
            codes: Mutex::default(),
            imds: make.counters("ipamd_imds_reads_total", "Looks at the instance metadata.", &["result"])?,
            commits: make.times("ipamd_store_commit_seconds", "Time to make a batch of records durable.", COMMIT_BUCKETS)?,
            commit_failures: make.counter("ipamd_store_commit_failures_total", "Batches of records that could not be written.")?,
            events: make.counters("ipamd_events_total", "Kubernetes events, by what came of them.", &["result"])?,
            log_lines: make.counter("ipamd_log_lines_dropped_total", "Lines of the log that nobody read in time.")?,
            dropped,
            registry,
        };
        Ok(metrics)
    }

    /// From now on pods' packets are counted there.
    pub fn watch_packets(&self, source: Arc<dyn PodPackets>) {
        self.packets.begin(source);
    }

    /// An ADD was answered; `refused` is the cause's label.
    pub fn added(&self, took: Duration, refused: Option<&str>) {
        let result = if refused.is_some() { "refused" } else { "ok" };
        self.peer_adds.inc();
        self.adds.with_label_values(&[result]).inc();
        self.add_seconds
            .with_label_values(&[result])
            .observe(took.as_secs_f64());
        if let Some(cause) = refused {
            self.add_failures.with_label_values(&[cause]).inc();
        }
    }

    /// An ADD got no address: the pool had none.
    pub fn no_address(&self) {
        self.no_address.inc();
    }

    /// A DEL was answered. `reason` is the caller's word for it.
    pub fn deleted(&self, took: Duration, reason: &str, refused: bool) {
        let result = if refused { "refused" } else { "ok" };
        // The caller's words are not ours to make labels of.
        let reason = match reason {
            "del" => "PodDeleted",
            "add_failed" => "SetupNSFailed",
            _ => "Other",
        };
        self.peer_dels.with_label_values(&[reason]).inc();
        self.dels.with_label_values(&[result]).inc();
        self.del_seconds.observe(took.as_secs_f64());
    }

    fn called(&self, action: &str, took: Duration, error: Option<&CloudError>) {
        let result = error.map_or("ok", |error| error.class.label());
        self.ec2_calls.with_label_values(&[action, result]).inc();
        self.ec2_seconds
            .with_label_values(&[action])
            .observe(took.as_secs_f64());
        self.peer_calls.with_label_values(&[action]).inc();
        if let Some(error) = error {
            let code = self.code(&error.code);
            self.ec2_errors.with_label_values(&[action, &code]).inc();
            self.peer_errors.with_label_values(&[action]).inc();
            self.peer_codes.with_label_values(&[action, &code]).inc();
        }
    }

    fn code(&self, code: &str) -> String {
        let mut codes = self.codes.lock().unwrap_or_else(PoisonError::into_inner);
        if codes.contains(code) {
            return code.into();
        }
        let fit = code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphanumeric() || c == '.');
        if codes.len() >= CODES_MAX || !fit {
            return "other".into();
        }
        codes.insert(code.into());
        code.into()
    }

    fn read_imds(&self, good: bool) {
        let result = if good { "ok" } else { "failed" };
        self.imds.with_label_values(&[result]).inc();
    }

    fn committed(&self, took: Duration, good: bool) {
        self.commits.observe(took.as_secs_f64());
        if !good {
            self.commit_failures.inc();
        }
    }

    /// What came of an event for the cluster: `sent`, `failed` or `dropped`.
    pub fn event(&self, result: &'static str) {
        self.events.with_label_values(&[result]).inc();
    }

    /// The pool, to be shown by the next [`Metrics::text`].
    pub fn see(&self, snapshot: &ipam_engine::Snapshot) {
        self.pool.see(snapshot);
    }

    /// Everything, as Prometheus reads it (text format 0.0.4).
    #[must_use]
    pub fn text(&self) -> Vec<u8> {
        self.packets.see();
        let lost = self.dropped.as_ref().map_or(0, Dropped::lines);
        self.log_lines
            .inc_by(lost.saturating_sub(self.log_lines.get()));
        let mut out = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut out) {
            tracing::warn!(%error, "the metrics could not be written");
        }
        out
    }
}
