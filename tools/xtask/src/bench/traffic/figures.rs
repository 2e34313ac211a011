//! What was measured on the wire: by layout, and as ratios to plain routing.

use super::super::figures::median;
use super::bed::{Key, On, To};
use crate::demo::Mode;
use lab::load::{Done, Work};
use serde::Serialize;
use std::collections::BTreeMap;

/// All layouts with one count of pods in one mode.
#[derive(Clone, Debug, Serialize)]
pub(in crate::bench) struct Row {
    mode: Mode,
    pods: u32,
    #[serde(serialize_with = "listed")]
    measured: BTreeMap<(Key, &'static str), Vec<Done>>,
}

/// One thing on one layout, medians of the rounds.
#[derive(Debug, Serialize)]
struct Listed {
    pod_on: On,
    to: To,
    work: Work,
    layout: &'static str,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    cpu_us_each: f64,
    /// The rate to plain routing's, median of the rounds' own ratios.
    of_plain: f64,
    /// The same to that of plain routing on a node with Services.
    of_node: f64,
}

fn listed<S: serde::Serializer>(
    measured: &BTreeMap<(Key, &'static str), Vec<Done>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(measured.iter().map(|((key, layout), all)| {
        let (pod_on, to, work) = *key;
        Listed {
            pod_on,
            to,
            work,
            layout,
            per_second: middle(all, rate),
            p50_us: middle(all, |d| d.p50_us),
            p99_us: middle(all, |d| d.p99_us),
            cpu_us_each: middle(all, cpu_each),
            of_plain: of(measured, (*key, "plain"), all),
            of_node: of(measured, (*key, "node"), all),
        }
    }))
}

fn of(
    measured: &BTreeMap<(Key, &'static str), Vec<Done>>,
    base: (Key, &'static str),
    all: &[Done],
) -> f64 {
    let base = measured.get(&base);
    base.map_or(0.0, |base| ratio(all, base, rate))
}

type Pick = fn(&Done) -> f64;

fn middle(all: &[Done], pick: Pick) -> f64 {
    median(all.iter().map(pick).collect())
}

/// The middle one of the ratios of neighbours.
fn ratio(all: &[Done], plain: &[Done], pick: Pick) -> f64 {
    let pairs = all.iter().zip(plain);
    median(pairs.map(|(a, b)| pick(a) / pick(b).max(1e-9)).collect())
}

fn rate(done: &Done) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count of packets")]
    let count = done.count as f64;
    count / done.seconds.max(1e-9)
}

/// Microseconds of processor for each connection or question; for each 64 KiB of bulk.
fn cpu_each(done: &Done) -> f64 {
    done.cpu_us / (rate(done) * done.seconds).max(1.0)
}

impl Row {
    pub(super) const fn of(mode: Mode, pods: u32) -> Self {
        let measured = BTreeMap::new();
        Self {
            mode,
            pods,
            measured,
        }
    }

    /// One round of a layout.
    pub(super) fn take(&mut self, layout: &'static str, round: &BTreeMap<Key, Done>) {
        for (key, done) in round {
            self.measured.entry((*key, layout)).or_default().push(*done);
        }
    }

    fn of_plain(&self, key: Key, layout: &'static str, pick: Pick) -> Option<f64> {
        self.times(key, layout, "plain", pick)
    }

    fn times(&self, key: Key, layout: &'static str, base: &'static str, pick: Pick) -> Option<f64> {
        let all = self.measured.get(&(key, layout))?;
        let base = self.measured.get(&(key, base))?;
        Some(ratio(all, base, pick))
    }

    /// One line for people.
    pub(super) fn words(&self) -> String {
        let one = |on, layout| {
            let key = (on, To::Host, Work::Connections);
            self.of_plain(key, layout, rate).unwrap_or_default()
        };
        format!(
            "connections of plain's {:.2} / {:.2}; by the peer's rules {:.2} / {:.2}",
            one(On::Primary, "ours"),
            one(On::Secondary, "ours"),
            one(On::Primary, "peer_rules"),
            one(On::Secondary, "peer_rules"),
        )
    }
}

/// What is looked at: its name, of which work, how, and as a figure of which unit.
const LOOKS: [(&str, Work, Pick); 5] = [
    ("new connections, 1/s", Work::Connections, rate),
    ("processor per connection, us", Work::Connections, cpu_each),
    ("request and answer, p50 us", Work::Questions, |d| d.p50_us),
    ("request and answer, p99 us", Work::Questions, |d| d.p99_us),
    ("throughput, bytes/s", Work::Bulk, rate),
];

/// The table as text: plain routing's figures, and the others' as multiples of them.
pub(in crate::bench) fn draw(rows: &[Row]) -> String {
    let mut lines = vec![
        String::new(),
        format!(
            "{:<74} {:>12} {:>7} {:>7} {:>7} {:>7} {:>9}",
            "", "plain", "ours", "rules", "peer", "node", "ours/node"
        ),
    ];
    for (what, work, pick) in LOOKS {
        for row in rows {
            for (on, on_words) in [(On::Primary, "primary"), (On::Secondary, "secondary")] {
                for (to, to_words) in [(To::Host, "the VPC"), (To::Pod, "a pod beside it")] {
                    let key = (on, to, work);
                    let Some(plain) = row.measured.get(&(key, "plain")) else {
                        continue;
                    };
                    let shown =
                        |times: Option<f64>| times.map_or("-".into(), |t| format!("{t:.2}"));
                    let times = |layout| shown(row.of_plain(key, layout, pick));
                    let name = format!(
                        "{what}: {}, {} pods, {on_words} ENI to {to_words}",
                        row.mode.word(),
                        row.pods
                    );
                    lines.push(format!(
                        "{name:<74} {:>12.1} {:>7} {:>7} {:>7} {:>7} {:>9}",
                        middle(plain, pick),
                        times("ours"),
                        times("peer_rules"),
                        times("peer"),
                        times("node"),
                        shown(row.times(key, "ours_on_node", "node", pick)),
                    ));
                }
            }
        }
    }
    lines.push(
        "ours, rules (the peer's, laid by hand), peer, node (plain with connection tracking and hooks \
         for translation, as Services need): multiples of plain"
            .into(),
    );
    lines.push(
        "routing's; ours/node: ours with those, of node. Medians of rounds in turns. Targets at 250 pods: \
         0.95 of the connections, 1.05 of the p50."
            .into(),
    );
    lines.join("\n")
}
