//! How long things take.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Milliseconds that things take.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Latencies {
    /// One EC2 call, request to answer. Half before the work is done and half after.
    pub ec2_ms: Latency,
    /// Calls that differ: action name to latency.
    pub actions: BTreeMap<String, Latency>,
    /// One IMDS request.
    pub imds_ms: Latency,
    /// From Attach to the ENI's MAC being listed by IMDS.
    pub eni_in_imds_ms: Latency,
    /// From Attach to the link in the instance, and to status `attached` (*assumed*: hot-plug).
    pub eni_link_ms: Latency,
    /// From Detach to status `available` (*assumed*).
    pub eni_detach_ms: Latency,
    /// From a change of an ENI's addresses to IMDS showing it.
    pub address_in_imds_ms: Latency,
    /// Age of what Describe calls show, also after one's own write.
    pub describe_lag_ms: Latency,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            ec2_ms: Latency::fixed(300.0),
            actions: BTreeMap::new(),
            imds_ms: Latency::fixed(2.0),
            eni_in_imds_ms: Latency::fixed(3000.0),
            eni_link_ms: Latency::fixed(1000.0),
            eni_detach_ms: Latency::fixed(1000.0),
            address_in_imds_ms: Latency::fixed(0.0),
            describe_lag_ms: Latency::fixed(0.0),
        }
    }
}

impl Latencies {
    /// Nothing takes any time.
    pub fn zero() -> Self {
        let z = || Latency::fixed(0.0);
        Self {
            ec2_ms: z(),
            actions: BTreeMap::new(),
            imds_ms: z(),
            eni_in_imds_ms: z(),
            eni_link_ms: z(),
            eni_detach_ms: z(),
            address_in_imds_ms: z(),
            describe_lag_ms: z(),
        }
    }
}

/// A latency in milliseconds: a plain number, or a median with a tail.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Latency {
    /// Always the same.
    Fixed(f64),
    /// Log-normal between the two, cut at `max`.
    Spread(Spread),
}

/// A log-normal latency by two of its quantiles, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// Half of the samples are below.
    pub p50: f64,
    /// 99 of 100 samples are below; not under `p50`.
    pub p99: f64,
    /// No sample is above; four times `p99` when absent.
    #[serde(default)]
    pub max: Option<f64>,
}

impl Latency {
    /// Always `ms` milliseconds.
    pub const fn fixed(ms: f64) -> Self {
        Self::Fixed(ms)
    }
}
