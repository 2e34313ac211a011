//! What was measured, as values.

use lab::LabError;
use lab::stats::Quantiles;
use serde::Serialize;

/// How much of each work is done.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    /// ADD and DEL pairs that are not counted.
    pub(super) warm_up: u32,
    /// ADD and DEL pairs that are.
    pub(super) pairs: u32,
    /// Rounds of a burst.
    pub(super) rounds: u32,
    /// Restarts.
    pub(super) restarts: u32,
    /// How long a restarted daemon's calls to EC2 are counted, seconds.
    pub(super) watch_s: u64,
}

impl Work {
    pub(super) const FULL: Self = Self {
        warm_up: 30,
        pairs: 300,
        rounds: 3,
        restarts: 5,
        watch_s: 30,
    };
    pub(super) const QUICK: Self = Self {
        warm_up: 3,
        pairs: 20,
        rounds: 1,
        restarts: 2,
        watch_s: 5,
    };
}

/// One case on one stack. What a case does not measure is absent.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Figures {
    /// Its name.
    pub(super) case: String,
    /// `ours`, `peer` or `floor`.
    pub(super) stack: String,
    /// Runs of the plugin for ADD that succeeded, exec to exit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) add_ms: Option<Quantiles>,
    /// The same for DEL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) del_ms: Option<Quantiles>,
    /// From the start of a burst until its last pod was up, seconds: median of the rounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) all_up_s: Option<f64>,
    /// Runs of the plugin that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) failed_calls: Option<usize>,
    /// Calls to EC2 in the case's time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ec2_calls: Option<u64>,
    /// Resident memory of the daemon at the end, MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rss_mib: Option<f64>,
    /// From the daemon's start to the end of the first ADD: median.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) start_ms: Option<f64>,
    /// Routing rules that pods brought, each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ip_rules_per_pod: Option<f64>,
    /// ADD's p50 with a thousand pods on the node, as a multiple of an empty node's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) add_of_first: Option<f64>,
    /// The same for DEL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) del_of_first: Option<f64>,
    /// Why there are no figures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

impl Figures {
    pub(super) fn of(case: &str, stack: &str) -> Self {
        Self {
            case: case.into(),
            stack: stack.into(),
            ..Self::default()
        }
    }

    pub(super) fn failed(case: &str, stack: &str, error: &LabError) -> Self {
        Self {
            error: Some(error.to_string()),
            ..Self::of(case, stack)
        }
    }

    /// One line for people.
    pub(super) fn words(&self) -> String {
        let mut words = Vec::new();
        for (name, q) in [("ADD", self.add_ms), ("DEL", self.del_ms)] {
            words.extend(q.map(|q| format!("{name} {:.2} / {:.2} ms", q.p50, q.p99)));
        }
        words.extend(self.all_up_s.map(|s| format!("all up {s:.2} s")));
        words.extend(self.failed_calls.map(|n| format!("{n} failed calls")));
        words.extend(self.ec2_calls.map(|n| format!("{n} EC2 calls")));
        words.extend(self.rss_mib.map(|m| format!("{m:.1} MiB")));
        words.extend(
            self.start_ms
                .map(|ms| format!("first ADD after {ms:.0} ms")),
        );
        words.extend(self.ip_rules_per_pod.map(|n| format!("{n:.2} rules a pod")));
        for (name, times) in [("ADD", self.add_of_first), ("DEL", self.del_of_first)] {
            words.extend(times.map(|t| format!("{name} {t:.2} times the first's")));
        }
        words.join(", ")
    }
}

/// All of it.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Results {
    /// Case by case.
    pub(super) cases: Vec<Figures>,
    /// Size of the plugin as it is shipped.
    pub(super) shim_bytes: u64,
    /// Size of the daemon, stripped.
    pub(super) daemon_bytes: u64,
    /// The peer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peer_shim_bytes: Option<u64>,
    /// The peer's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) peer_daemon_bytes: Option<u64>,
}

impl Results {
    /// A case's figures on a stack, if it was measured.
    pub(super) fn find(&self, case: &str, stack: &str) -> Option<&Figures> {
        self.cases
            .iter()
            .find(|f| f.case == case && f.stack == stack)
    }
}

/// Figures as JSON.
pub(super) fn json(figures: &impl Serialize) -> String {
    // Numbers and texts: nothing that JSON can't carry.
    serde_json::to_string(figures).unwrap_or_else(|e| format!("{{\"error\": \"{e}\"}}"))
}

/// The middle one; zero if there are none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
