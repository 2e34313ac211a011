//! The cases: the work of design section 7, on any stack.

use super::figures::{Figures, Work, median};
use super::stack::Stack;
use crate::demo::Mode;
use lab::stats::Quantiles;
use lab::{Cluster, ClusterSpec, DaemonSpec, LabError, Patience, Pod, Tally};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Pods of a full node.
const FULL: u32 = 110;
/// Pods that come one after another before their namespaces go: fewer than a filled pool has addresses.
const BATCH: u32 = 96;
/// How long a cold node's purchases are watched after its last pod is up.
const SETTLE: Duration = Duration::from_secs(8);

/// One case.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) mode: Mode,
    pub(super) run: fn(&Stack, Work) -> Result<Figures, LabError>,
}

/// All of them, in the table's order.
pub(super) const ALL: [Case; 16] = [
    Case {
        name: "one_at_a_time_prefix",
        mode: Mode::Prefix,
        run: |s, w| one_at_a_time(s, w, Mode::Prefix),
    },
    Case {
        name: "one_at_a_time_secondary",
        mode: Mode::Secondary,
        run: |s, w| one_at_a_time(s, w, Mode::Secondary),
    },
    Case {
        name: "one_at_a_time_ipv6",
        mode: Mode::Ipv6,
        run: |s, w| one_at_a_time(s, w, Mode::Ipv6),
    },
    Case {
        name: "one_at_a_time_dual",
        mode: Mode::Dual,
        run: |s, w| one_at_a_time(s, w, Mode::Dual),
    },
    Case {
        name: "churn_prefix",
        mode: Mode::Prefix,
        run: churn,
    },
    Case {
        name: "thousandth_prefix",
        mode: Mode::Prefix,
        run: super::thousand::run,
    },
    Case {
        name: "warm_29_prefix",
        mode: Mode::Prefix,
        run: |s, w| warm(s, w, Mode::Prefix, 29),
    },
    Case {
        name: "warm_29_secondary",
        mode: Mode::Secondary,
        run: |s, w| warm(s, w, Mode::Secondary, 29),
    },
    Case {
        name: "warm_110_prefix",
        mode: Mode::Prefix,
        run: |s, w| warm(s, w, Mode::Prefix, FULL),
    },
    Case {
        name: "warm_110_secondary",
        mode: Mode::Secondary,
        run: |s, w| warm(s, w, Mode::Secondary, FULL),
    },
    Case {
        name: "warm_110_ipv6",
        mode: Mode::Ipv6,
        run: |s, w| warm(s, w, Mode::Ipv6, FULL),
    },
    Case {
        name: "warm_110_dual",
        mode: Mode::Dual,
        run: |s, w| warm(s, w, Mode::Dual, FULL),
    },
    Case {
        name: "cold_29_prefix",
        mode: Mode::Prefix,
        run: |s, _| cold(s, Mode::Prefix, 29),
    },
    Case {
        name: "cold_110_prefix",
        mode: Mode::Prefix,
        run: |s, _| cold(s, Mode::Prefix, FULL),
    },
    Case {
        name: "cold_110_secondary",
        mode: Mode::Secondary,
        run: |s, _| cold(s, Mode::Secondary, FULL),
    },
    Case {
        name: "warm_restart",
        mode: Mode::Prefix,
        run: restart,
    },
];

/// The types that the reference was measured on.
fn cluster(mode: Mode, daemon: DaemonSpec) -> Result<Cluster, LabError> {
    let instance_type = match mode {
        Mode::Secondary => "m5.4xlarge",
        Mode::Prefix | Mode::Ipv6 | Mode::Dual => "m5.large",
    };
    Cluster::start(mode.cluster(ClusterSpec::new(daemon, instance_type, 1)))
}

pub(super) fn make_pods(cluster: &Cluster, prefix: &str, count: u32) -> Result<Vec<Pod>, LabError> {
    let node = cluster.nodes()[0].sim();
    (0..count)
        .map(|n| Pod::make(node, &format!("{prefix}-{n}")))
        .collect()
}

/// EC2 calls of the only node.
pub(super) fn calls(cluster: &Cluster) -> u64 {
    let vpc = cluster.sim().vpc();
    let calls = vpc.ec2_calls().get(cluster.nodes()[0].name());
    calls.map_or(0, |calls| calls.values().sum())
}

/// Settings that keep so many addresses warm in any case.
fn well_filled(spec: DaemonSpec, mode: Mode) -> DaemonSpec {
    let spec = spec.set("IP_COOLDOWN_PERIOD", 0);
    match mode {
        Mode::Secondary => spec.set("WARM_ENI_TARGET", 4),
        Mode::Prefix | Mode::Ipv6 | Mode::Dual => spec.set("WARM_PREFIX_TARGET", 7),
    }
}

/// ADD, DEL, ADD, DEL on a filled pool, each pod in a namespace of its own that was made before. It goes
/// after: an address is not given again while its last pod's link is there, so pods come in batches
/// that the pool has addresses for.
fn one_at_a_time(stack: &Stack, work: Work, mode: Mode) -> Result<Figures, LabError> {
    let mut cluster = cluster(mode, well_filled(stack.spec(mode), mode))?;
    stack.start(cluster.node())?;
    let (mut tally, mut left, mut batch) = (Tally::default(), work.warm_up + work.pairs, 0);
    let mut skip = work.warm_up;
    while left > 0 {
        let count = left.min(BATCH);
        stack.wait_filled(&cluster, mode, usize::try_from(BATCH).unwrap_or(1))?;
        let mut pods = make_pods(&cluster, &format!("one-{batch}"), count)?;
        pairs(stack, &mut pods, false, &mut skip, &mut tally)?;
        for pod in &mut pods {
            pod.remove_netns()?;
        }
        (left, batch) = (left - count, batch + 1);
    }
    let mut figures = Figures::of(&format!("one_at_a_time_{}", mode.word()), stack.name());
    take(&mut figures, &tally);
    Ok(figures)
}

/// The same without a pause on a pool of the default size, by a runtime that takes each namespace away
/// after its DEL: addresses come back while others are taken.
fn churn(stack: &Stack, work: Work) -> Result<Figures, LabError> {
    let spec = stack.spec(Mode::Prefix).set("IP_COOLDOWN_PERIOD", 0);
    let mut cluster = cluster(Mode::Prefix, spec)?;
    stack.start(cluster.node())?;
    stack.wait_filled(&cluster, Mode::Prefix, 16)?;
    let mut pods = make_pods(&cluster, "churn", work.warm_up + work.pairs)?;
    let (mut tally, mut skip) = (Tally::default(), work.warm_up);
    pairs(stack, &mut pods, true, &mut skip, &mut tally)?;
    let mut figures = Figures::of("churn_prefix", stack.name());
    take(&mut figures, &tally);
    figures.ec2_calls = Some(calls(&cluster));
    Ok(figures)
}

/// ADD and DEL of each pod; the first are not counted.
pub(super) fn pairs(
    stack: &Stack,
    pods: &mut [Pod],
    remove: bool,
    skip: &mut u32,
    tally: &mut Tally,
) -> Result<(), LabError> {
    let runtime = stack.runtime().alone();
    for pod in pods {
        lab::interrupt::check()?;
        let add = runtime.add(pod)?;
        let del = runtime.del(pod)?;
        if remove {
            pod.remove_netns()?;
        }
        for (call, times, failed) in [
            (add, &mut tally.adds, &mut tally.failed_adds),
            (del, &mut tally.dels, &mut tally.failed_dels),
        ] {
            if !call.ok() {
                failed.push(call.words());
            } else if *skip == 0 {
                times.push(call.wall);
            }
        }
        *skip = skip.saturating_sub(1);
    }
    Ok(())
}

fn take(figures: &mut Figures, tally: &Tally) {
    figures.add_ms = Some(Quantiles::of(&tally.adds));
    figures.del_ms = Some(Quantiles::of(&tally.dels));
    figures.failed_calls = Some(tally.failed_adds.len() + tally.failed_dels.len());
}

/// All plugin processes at once, on a filled pool; round by round.
fn warm(stack: &Stack, work: Work, mode: Mode, count: u32) -> Result<Figures, LabError> {
    let mut cluster = cluster(mode, well_filled(stack.spec(mode), mode))?;
    stack.start(cluster.node())?;
    let at_once = usize::try_from(count).unwrap_or(1);
    // Room for every pod; in prefix mode the pool stops at the node's limit.
    stack.wait_filled(&cluster, mode, at_once)?;
    let runtime = stack.runtime();
    let rules_before = rules(&cluster)?;
    let (mut tally, mut all_up, mut per_pod) = (Tally::default(), Vec::new(), 0.0);
    for round in 0..work.rounds {
        let mut pods = make_pods(&cluster, &format!("warm-{round}"), count)?;
        let adds = runtime.add_all(&mut pods, at_once, Patience::BENCH, |_| ())?;
        all_up.push(
            adds.up_after
                .iter()
                .max()
                .copied()
                .unwrap_or_default()
                .as_secs_f64(),
        );
        per_pod = (rules(&cluster)? - rules_before) / f64::from(count);
        tally.extend(adds);
        tally.extend(runtime.del_all(&mut pods, at_once)?);
        stack.wait_filled(&cluster, mode, at_once)?;
    }
    let mut figures = Figures::of(&format!("warm_{count}_{}", mode.word()), stack.name());
    take(&mut figures, &tally);
    figures.all_up_s = Some(median(all_up));
    figures.ip_rules_per_pod = Some(per_pod);
    Ok(figures)
}

fn rules(cluster: &Cluster) -> Result<f64, LabError> {
    let mut ip = Command::new("ip");
    ip.args(["rule", "show"]);
    let shown = cluster.nodes()[0].sim().output(ip)?;
    let lines = String::from_utf8_lossy(&shown.stdout).lines().count();
    Ok(u32::try_from(lines).map_or(0.0, f64::from))
}

/// A fresh node, and all ADDs at once from the moment the daemon's socket answers.
fn cold(stack: &Stack, mode: Mode, count: u32) -> Result<Figures, LabError> {
    let mut cluster = cluster(mode, stack.spec(mode))?;
    let mut pods = make_pods(&cluster, "cold", count)?;
    stack.start(cluster.node())?;
    let at_once = usize::try_from(count).unwrap_or(1);
    let runtime = stack.runtime();
    let tally = runtime.add_all(&mut pods, at_once, Patience::BENCH, |_| ())?;
    lab::interrupt::sleep(SETTLE)?;
    let mut figures = Figures::of(&format!("cold_{count}_{}", mode.word()), stack.name());
    figures.ec2_calls = Some(calls(&cluster));
    figures.rss_mib = Some(cluster.nodes()[0].daemon()?.process().rss_mib()?);
    figures.all_up_s = tally.up_after.iter().max().map(Duration::as_secs_f64);
    figures.add_ms = Some(Quantiles::of(&tally.adds));
    figures.failed_calls = Some(tally.failed_adds.len());
    let down = pods.iter().filter(|p| !p.is_up()).count();
    if down > 0 {
        let reason = format!("{down} of {count} pods did not come up");
        return Err(LabError::Format {
            what: "the cold burst".into(),
            reason,
        });
    }
    Ok(figures)
}

/// A node with pods; its daemon is killed and started again, and the first ADD counts from the start.
fn restart(stack: &Stack, work: Work) -> Result<Figures, LabError> {
    let spec = stack.spec(Mode::Prefix).set("IP_COOLDOWN_PERIOD", 0);
    let mut cluster = cluster(Mode::Prefix, spec)?;
    stack.start(cluster.node())?;
    stack.wait_filled(&cluster, Mode::Prefix, 16)?;
    let runtime = stack.runtime();
    let mut pods = make_pods(&cluster, "stay", 20)?;
    runtime.add_all(&mut pods, 10, Patience::BENCH, |_| ())?;
    stack.wait_filled(&cluster, Mode::Prefix, 12)?;
    lab::interrupt::sleep(SETTLE)?;
    let before = calls(&cluster);
    let (mut starts, mut failed) = (Vec::new(), 0);
    let mut new = make_pods(&cluster, "new", work.restarts)?;
    for pod in &mut new {
        cluster.node().kill();
        let began = Instant::now();
        stack.start(cluster.node())?;
        while !pod.is_up() {
            lab::interrupt::check()?;
            failed += usize::from(!runtime.add(pod)?.ok());
        }
        starts.push(lab::stats::millis(began.elapsed()));
        let del = runtime.del(pod)?;
        failed += usize::from(!del.ok());
    }
    lab::interrupt::sleep(Duration::from_secs(work.watch_s))?;
    let mut figures = Figures::of("warm_restart", stack.name());
    figures.start_ms = Some(median(starts));
    figures.failed_calls = Some(failed);
    // Of the last start, whose calls were watched for so long; earlier ones were cut short.
    figures.ec2_calls = Some(calls(&cluster) - before);
    Ok(figures)
}

/// A bare process with a pod's netlink messages: what the kernel and exec alone take.
pub(super) fn floor(program: &Path, work: Work) -> Result<Figures, LabError> {
    const LIMIT: Duration = Duration::from_secs(10);
    let cluster = cluster(Mode::Prefix, DaemonSpec::ipamd(program, true))?;
    let pods = make_pods(&cluster, "floor", work.warm_up + work.pairs)?;
    let mut figures = Figures::of("one_at_a_time_prefix", "floor");
    let (mut adds, mut dels) = (Vec::new(), Vec::new());
    for (n, pod) in pods.iter().enumerate() {
        lab::interrupt::check()?;
        let (host_if, address) = (
            format!("eni{n:011}"),
            format!("10.0.{}.{}", n / 250, n % 250 + 1),
        );
        for (verb, times) in [("add", &mut adds), ("del", &mut dels)] {
            let mut command = Command::new(program);
            command.args([verb, &pod.netns_path(), &host_if, "eth0", &address]);
            let call = lab::cni::run_alone(&pod.node, command, "", LIMIT)?;
            if !call.ok() {
                let reason = call.stderr.trim().to_owned();
                return Err(LabError::Format {
                    what: "cni-floor".into(),
                    reason,
                });
            }
            if n >= usize::try_from(work.warm_up).unwrap_or(0) {
                times.push(call.wall);
            }
        }
    }
    figures.add_ms = Some(Quantiles::of(&adds));
    figures.del_ms = Some(Quantiles::of(&dels));
    Ok(figures)
}
