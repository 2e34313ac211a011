//! What the demo found, as one value: for programs as JSON, for people as words, for the shell as
//! exit code. All three say the same.

use super::screen::Screen;
use super::{Mode, Options};
use crate::error::Verdict;
use lab::check::Wrong;
use lab::stats::Quantiles;
use lab::{LabError, Tally};
use serde::Serialize;
use std::collections::BTreeMap;

/// EC2 actions to number of calls.
type Calls = BTreeMap<String, u64>;

/// What was found.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    mode: Mode,
    instance_type: String,
    pub(super) nodes: usize,
    pods_wanted: u32,
    pub(super) pods_up: usize,
    failed_adds: usize,
    failed_dels: usize,
    pub(super) pings_expected: usize,
    pub(super) pings_ok: usize,
    pub(super) pings_failed: usize,
    pub(super) violations: Vec<Wrong>,
    pub(super) leaked: Vec<Wrong>,
    pub(super) packets_per_eni: BTreeMap<String, u64>,
    pub(super) ec2_calls: BTreeMap<String, Calls>,
    add_ms: Quantiles,
    del_ms: Quantiles,
    pub(super) all_up_s: f64,
    /// What ended the demo before its end.
    error: Option<String>,
    #[serde(skip)]
    interrupted: bool,
    #[serde(skip)]
    pub(super) details: Vec<String>,
}

impl Report {
    /// Nothing seen yet.
    pub(super) fn new(options: &Options) -> Self {
        Self {
            mode: options.mode,
            instance_type: options.instance_type.clone(),
            nodes: 0,
            pods_wanted: options.pods * super::story::NODES,
            pods_up: 0,
            failed_adds: 0,
            failed_dels: 0,
            pings_expected: 0,
            pings_ok: 0,
            pings_failed: 0,
            violations: Vec::new(),
            leaked: Vec::new(),
            packets_per_eni: BTreeMap::new(),
            ec2_calls: BTreeMap::new(),
            add_ms: Quantiles::default(),
            del_ms: Quantiles::default(),
            all_up_s: 0.0,
            error: None,
            interrupted: false,
            details: Vec::new(),
        }
    }

    /// Takes the figures of ADDs.
    pub(super) fn adds(&mut self, tally: &Tally) {
        self.add_ms = Quantiles::of(&tally.adds);
        self.failed_adds += tally.failed_adds.len();
        self.failed_dels += tally.failed_dels.len();
        let last = tally.up_after.iter().max().copied().unwrap_or_default();
        self.all_up_s = (last.as_secs_f64() * 1e3).round() / 1e3;
        let failed = tally.failed_adds.iter().chain(&tally.failed_dels);
        self.details.extend(failed.take(10).cloned());
    }

    /// ADDs were stopped after so many had failed; the screen has told of the first ones.
    pub(super) fn adds_stopped(&mut self, failed: usize) {
        self.failed_adds += failed;
    }

    /// Takes the figures of DELs.
    pub(super) fn dels(&mut self, tally: &Tally) {
        self.del_ms = Quantiles::of(&tally.dels);
        self.failed_dels += tally.failed_dels.len();
        self.details
            .extend(tally.failed_dels.iter().take(10).cloned());
    }

    /// Something ended the demo early.
    pub(super) fn stopped_by(&mut self, error: &LabError) {
        self.interrupted = matches!(error, LabError::Interrupted);
        self.error = Some(error.to_string());
    }

    /// Everything as it must be, and nothing left out.
    pub(super) fn verdict(&self) -> Verdict {
        let pods = usize::try_from(self.pods_wanted).unwrap_or(usize::MAX);
        Verdict::of(
            self.error.is_none()
                && self.pods_up == pods
                && self.failed_adds == 0
                && self.failed_dels == 0
                && self.pings_failed == 0
                && self.pings_ok == self.pings_expected
                && (self.pings_expected > 0 || pods == 0)
                && self.violations.is_empty()
                && self.leaked.is_empty(),
        )
    }

    /// For programs.
    pub(super) fn json(&self) -> String {
        // Numbers, texts, lists and maps with text keys: nothing that JSON can't carry.
        serde_json::to_string(self).unwrap_or_else(|e| format!("{{\"error\": \"{e}\"}}"))
    }

    /// For people.
    pub(super) fn print(&self, screen: &Screen) {
        screen.say("");
        for detail in &self.details {
            screen.say(&format!(
                "  failed: {}",
                detail.replace('\n', "\n          ")
            ));
        }
        for (title, list) in [("violation", &self.violations), ("leaked", &self.leaked)] {
            for wrong in list {
                screen.say(&format!("  {title}: {}: {}", wrong.rule, wrong.detail));
            }
        }
        if let Some(error) = &self.error {
            screen.say(&format!("  stopped by: {error}"));
        }
        let verdict = match self.verdict() {
            Verdict::Green => screen.coloured(true, "GREEN"),
            Verdict::Red if self.interrupted => screen.coloured(false, "INTERRUPTED"),
            Verdict::Red => screen.coloured(false, "RED"),
        };
        screen.say(&format!(
            "{verdict}: {} of {} pods up, {} failed ADDs, {} of {} probes answered, {} violations, \
             {} leaked, in {:.1} s",
            self.pods_up,
            self.pods_wanted,
            self.failed_adds,
            self.pings_ok,
            self.pings_expected,
            self.violations.len(),
            self.leaked.len(),
            screen.elapsed().as_secs_f64()
        ));
    }

    /// The line of timings.
    pub(super) fn timings(&self) -> String {
        format!(
            "ADD p50 {:.1} ms, p99 {:.1} ms, longest {:.1} ms (exec to exit, EC2's time included)",
            self.add_ms.p50, self.add_ms.p99, self.add_ms.max
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn green() -> Report {
        let options = Options {
            mode: Mode::Prefix,
            instance_type: "m5.large".into(),
            pods: 1,
            keep: false,
            sabotage: None,
            json: true,
        };
        let mut report = Report::new(&options);
        (report.pods_up, report.pings_expected, report.pings_ok) = (2, 8, 8);
        report
    }

    #[test]
    fn anything_wrong_is_red() {
        assert_eq!(green().verdict(), Verdict::Green);
        let wrong = || Wrong {
            rule: "x",
            subject: "y".into(),
            node: None,
            detail: "z".into(),
        };
        let spoilers: [fn(&mut Report, Wrong); 8] = [
            |r, _| r.pods_up = 1,
            |r, _| r.failed_adds = 1,
            |r, _| r.failed_dels = 1,
            |r, _| r.pings_failed = 1,
            |r, _| r.pings_ok = 7,
            |r, _| (r.pings_expected, r.pings_ok) = (0, 0),
            |r, w| r.violations.push(w),
            |r, w| r.leaked.push(w),
        ];
        for (n, spoil) in spoilers.iter().enumerate() {
            let mut report = green();
            spoil(&mut report, wrong());
            assert_eq!(report.verdict(), Verdict::Red, "spoiler {n}");
        }
        let mut report = green();
        report.stopped_by(&LabError::Interrupted);
        assert_eq!(report.verdict(), Verdict::Red);
    }

    #[test]
    fn json_has_every_promised_field() {
        let json: serde_json::Value = serde_json::from_str(&green().json()).expect("JSON");
        for field in [
            "mode",
            "instance_type",
            "nodes",
            "pods_wanted",
            "pods_up",
            "failed_adds",
            "pings_expected",
            "pings_ok",
            "pings_failed",
            "violations",
            "leaked",
            "packets_per_eni",
            "ec2_calls",
            "add_ms",
            "del_ms",
            "all_up_s",
        ] {
            assert!(json.get(field).is_some(), "{field}");
        }
        assert_eq!(json["mode"], "prefix");
        assert!(json["add_ms"]["p99"].is_number());
    }
}
