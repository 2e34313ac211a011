//! The table of design section 7, with what was measured.

use super::figures::{Figures, Results};

/// A row: its words, the peer's reference figure, the target, and where ours comes from.
struct Row {
    what: &'static str,
    /// Measured once, on a quiet 2-core machine.
    reference: f64,
    floor: Option<f64>,
    target: f64,
    ours: Option<f64>,
    peer: Option<f64>,
}

/// The table as text.
pub(super) fn draw(results: &Results) -> String {
    let mut lines = vec![
        String::new(),
        format!(
            "{:<52} {:>12} {:>8} {:>8} {:>8} {:>7}",
            "", "peer", "floor", "ours", "target", "ratio"
        ),
    ];
    for row in rows(results) {
        let (peer, mark) = match row.peer {
            Some(measured) => (measured, ' '),
            None => (row.reference, '*'),
        };
        let ratio = row.ours.filter(|ours| *ours > 0.0).map(|ours| peer / ours);
        lines.push(format!(
            "{:<52} {:>11}{mark} {:>8} {:>8} {:>8} {:>7}",
            row.what,
            number(Some(peer)),
            number(row.floor),
            number(row.ours),
            number(Some(row.target)),
            ratio
                .filter(|r| !r.is_nan())
                .map_or("-".into(), |r| format!("{r:.1}x"))
        ));
    }
    lines.extend(against_ipv4(results));
    lines.push(
        "* reference figures of Amazon's CNI 1.23.1 from another run on a quiet 2-core VM;".into(),
    );
    lines.push("  with --peer DIR it is measured here. Traffic: `--traffic`.".into());
    lines.join("\n")
}

/// What IPv6, and both, take beside IPv4: at most 1.2 times as long.
fn against_ipv4(results: &Results) -> Vec<String> {
    let p50 = |name: &str, pick: Pick| results.find(name, "ours").and_then(pick);
    let add: Pick = |f| f.add_ms.map(|q| q.p50);
    let del: Pick = |f| f.del_ms.map(|q| q.p50);
    let all: Pick = |f| f.all_up_s;
    let mut lines = Vec::new();
    for (what, case, pick) in [
        ("ADD, one at a time, p50", "one_at_a_time", add),
        ("DEL, one at a time, p50", "one_at_a_time", del),
        ("110 ADDs at once, warm", "warm_110", all),
    ] {
        for mode in ["ipv6", "dual"] {
            let ours = p50(&format!("{case}_{mode}"), pick);
            let v4 = p50(&format!("{case}_prefix"), pick).filter(|v4| *v4 > 0.0);
            if let Some((ours, v4)) = ours.zip(v4) {
                let times = ours / v4;
                lines.push(format!(
                    "{what}, {mode}: {} beside {}, {times:.2} times (target: 1.2)",
                    number(Some(ours)),
                    number(Some(v4))
                ));
            }
        }
    }
    lines
}

fn number(value: Option<f64>) -> String {
    match value {
        None => "-".into(),
        Some(v) if v.is_nan() => "-".into(),
        Some(v) if v == v.trunc() && v.abs() < 1e6 => format!("{v:.0}"),
        Some(v) => format!("{v:.2}"),
    }
}

type Pick = fn(&Figures) -> Option<f64>;

fn count(n: usize) -> f64 {
    u32::try_from(n).map_or(f64::INFINITY, f64::from)
}

fn mb(bytes: u64) -> f64 {
    u32::try_from(bytes / 1000).map_or(f64::INFINITY, |kb| f64::from(kb) / 1000.0)
}

fn rows(results: &Results) -> Vec<Row> {
    let add_p50: Pick = |f| f.add_ms.map(|q| q.p50);
    let add_p99: Pick = |f| f.add_ms.map(|q| q.p99);
    let del_p50: Pick = |f| f.del_ms.map(|q| q.p50);
    let del_p99: Pick = |f| f.del_ms.map(|q| q.p99);
    let all_up: Pick = |f| f.all_up_s;
    let failed: Pick = |f| f.failed_calls.map(count);
    let ec2: Pick = |f| {
        f.ec2_calls
            .and_then(|n| u32::try_from(n).ok())
            .map(f64::from)
    };
    let rss: Pick = |f| f.rss_mib;
    let start: Pick = |f| f.start_ms;
    let rules: Pick = |f| f.ip_rules_per_pod;
    let table: [(&str, &str, Pick, f64, f64); 20] = [
        (
            "ADD, one at a time, prefix, p50 ms",
            "one_at_a_time_prefix",
            add_p50,
            13.7,
            2.0,
        ),
        (
            "ADD, one at a time, prefix, p99 ms",
            "one_at_a_time_prefix",
            add_p99,
            20.7,
            4.0,
        ),
        (
            "ADD, one at a time, secondary, p50 ms",
            "one_at_a_time_secondary",
            add_p50,
            13.7,
            2.0,
        ),
        (
            "ADD, one at a time, secondary, p99 ms",
            "one_at_a_time_secondary",
            add_p99,
            19.1,
            4.0,
        ),
        (
            "DEL, one at a time, prefix, p50 ms",
            "one_at_a_time_prefix",
            del_p50,
            11.1,
            1.5,
        ),
        (
            "DEL, one at a time, prefix, p99 ms",
            "one_at_a_time_prefix",
            del_p99,
            16.2,
            3.0,
        ),
        (
            "DEL, one at a time, secondary, p50 ms",
            "one_at_a_time_secondary",
            del_p50,
            10.9,
            1.5,
        ),
        (
            "DEL, one at a time, secondary, p99 ms",
            "one_at_a_time_secondary",
            del_p99,
            14.5,
            3.0,
        ),
        (
            "29 ADDs at once, warm, secondary, all done s",
            "warm_29_secondary",
            all_up,
            0.5,
            0.06,
        ),
        (
            "110 ADDs at once, warm, prefix, all done s",
            "warm_110_prefix",
            all_up,
            1.92,
            0.2,
        ),
        (
            "110 ADDs at once, warm, secondary, all done s",
            "warm_110_secondary",
            all_up,
            1.74,
            0.2,
        ),
        (
            "110 cold, prefix: all up s",
            "cold_110_prefix",
            all_up,
            30.3,
            1.0,
        ),
        (
            "110 cold, prefix: failed CNI calls",
            "cold_110_prefix",
            failed,
            1182.0,
            0.0,
        ),
        (
            "110 cold, prefix: EC2 calls",
            "cold_110_prefix",
            ec2,
            11.0,
            3.0,
        ),
        (
            "110 cold, secondary: all up s",
            "cold_110_secondary",
            all_up,
            31.5,
            5.0,
        ),
        (
            "110 cold, secondary: failed CNI calls",
            "cold_110_secondary",
            failed,
            1141.0,
            0.0,
        ),
        (
            "110 cold, secondary: EC2 calls",
            "cold_110_secondary",
            ec2,
            23.0,
            10.0,
        ),
        (
            "daemon's memory after 110 pods, MiB",
            "cold_110_prefix",
            rss,
            79.5,
            15.0,
        ),
        (
            "restart to first ADD served, ms",
            "warm_restart",
            start,
            1900.0,
            50.0,
        ),
        ("EC2 calls of warm restarts", "warm_restart", ec2, 5.0, 0.0),
    ];
    let mut rows: Vec<Row> = table
        .into_iter()
        .map(|(what, case, pick, reference, target)| Row {
            what,
            reference,
            floor: results.find(case, "floor").and_then(pick),
            target,
            ours: results.find(case, "ours").and_then(pick),
            peer: results.find(case, "peer").and_then(pick),
        })
        .collect();
    rows.push(Row {
        what: "ip rules a pod, 110 pods",
        reference: 1.0,
        floor: None,
        target: 0.0,
        ours: results.find("warm_110_secondary", "ours").and_then(rules),
        peer: results.find("warm_110_secondary", "peer").and_then(rules),
    });
    let of_first: [(&str, Pick); 2] = [
        ("ADD with 1,000 pods there, of the first's p50", |f| {
            f.add_of_first
        }),
        ("DEL with 1,000 pods there, of the first's p50", |f| {
            f.del_of_first
        }),
    ];
    rows.extend(of_first.map(|(what, pick)| Row {
        what,
        // Nobody has measured the peer's.
        reference: f64::NAN,
        floor: None,
        target: 1.1,
        ours: results.find("thousandth_prefix", "ours").and_then(pick),
        peer: results.find("thousandth_prefix", "peer").and_then(pick),
    }));
    for (what, ours, peer, reference, target) in [
        (
            "size of the plugin, MB",
            results.shim_bytes,
            results.peer_shim_bytes,
            15.0,
            1.5,
        ),
        (
            "size of the daemon, MB",
            results.daemon_bytes,
            results.peer_daemon_bytes,
            98.0,
            20.0,
        ),
    ] {
        let (ours, peer) = (Some(mb(ours)), peer.map(mb));
        rows.push(Row {
            what,
            reference,
            floor: None,
            target,
            ours,
            peer,
        });
    }
    rows
}
