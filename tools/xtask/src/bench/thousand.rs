//! What a pod costs when there are a thousand already, against what it costs on an empty node.
//!
//! By prefixes on an m5.16xlarge (15 ENIs with 49 each; as single addresses it takes 735 pods). The
//! empty node is measured before and after, so that what the machine does meanwhile shows.

use super::cases::{calls, make_pods, pairs};
use super::figures::{Figures, Work};
use super::stack::Stack;
use crate::demo::Mode;
use lab::stats::Quantiles;
use lab::{Cluster, ClusterSpec, LabError, Patience, Tally};

/// Pods that are there already.
const CROWD: u32 = 1000;
/// ADD and DEL pairs of each measurement, at most.
const PAIRS: u32 = 60;

/// The case.
pub(super) fn run(stack: &Stack, work: Work) -> Result<Figures, LabError> {
    let count = PAIRS.min(work.pairs);
    let spec = stack
        .spec(Mode::Prefix)
        .set("IP_COOLDOWN_PERIOD", 0)
        .set("IPAMD_MAX_PODS", CROWD + 4 * count)
        .set("WARM_IP_TARGET", 1)
        .set("MINIMUM_IP_TARGET", CROWD + 4 * count);
    let mut cluster = Cluster::start(ClusterSpec::new(spec, "m5.16xlarge", 1))?;
    stack.start(cluster.node())?;
    let all = usize::try_from(CROWD + 4 * count).unwrap_or(usize::MAX);
    stack.wait_filled(&cluster, Mode::Prefix, all)?;
    let before = measure(stack, &cluster, "before", count)?;
    let mut crowd = make_pods(&cluster, "crowd", CROWD)?;
    let runtime = stack.runtime();
    let mut tally = runtime.add_all(&mut crowd, 4, Patience::BENCH, |_| ())?;
    let thousandth = measure(stack, &cluster, "with", count)?;
    let mut figures = Figures::of("thousandth_prefix", stack.name());
    figures.rss_mib = Some(cluster.nodes()[0].daemon()?.process().rss_mib()?);
    tally.extend(runtime.del_all(&mut crowd, 4)?);
    let after = measure(stack, &cluster, "after", count)?;
    let adds = [before.adds.clone(), after.adds.clone()].concat();
    let dels = [before.dels.clone(), after.dels.clone()].concat();
    figures.add_ms = Some(Quantiles::of(&thousandth.adds));
    figures.del_ms = Some(Quantiles::of(&thousandth.dels));
    figures.add_of_first = ratio(&thousandth.adds, &adds);
    figures.del_of_first = ratio(&thousandth.dels, &dels);
    figures.ec2_calls = Some(calls(&cluster));
    for part in [before, thousandth, after] {
        tally.extend(part);
    }
    figures.failed_calls = Some(tally.failed_adds.len() + tally.failed_dels.len());
    Ok(figures)
}

fn measure(stack: &Stack, cluster: &Cluster, name: &str, count: u32) -> Result<Tally, LabError> {
    let mut pods = make_pods(cluster, name, count)?;
    let (mut tally, mut skip) = (Tally::default(), 5);
    pairs(stack, &mut pods, false, &mut skip, &mut tally)?;
    Ok(tally)
}

/// Of the medians.
fn ratio(now: &[std::time::Duration], first: &[std::time::Duration]) -> Option<f64> {
    let first = Quantiles::of(first).p50;
    (first > 0.0).then(|| Quantiles::of(now).p50 / first)
}
