//! `cargo xtask sim`: fleets in trouble, one for each seed, in virtual time. Replays one seed with its
//! story, or searches many for a broken promise.

use crate::error::{TaskError, Verdict};
use crate::test::Outcome;
use clap::Args;
use fleet_sim::scenario::{FAMILY_SEEDS, Report, play};
use fleet_sim::{Found, Search};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::time::{Duration, Instant};

/// What to play.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Replays this seed and tells its story.
    #[arg(long, conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// Plays these seeds, A..B without B; those of `cargo xtask test` if nothing is said.
    #[arg(long, value_name = "A..B", conflicts_with = "minutes")]
    seeds: Option<String>,
    /// Goes on with new seeds for so long.
    #[arg(long)]
    minutes: Option<u64>,
}

/// Seeds of `cargo xtask test`: pods of IPv4 for the most part, then some of IPv6, and of both.
const CHECKED: [Range<u64>; 3] = [
    0..10_000,
    FAMILY_SEEDS..FAMILY_SEEDS + 500,
    2 * FAMILY_SEEDS..2 * FAMILY_SEEDS + 500,
];

/// Lines of a failed seed's story that are shown; its replay shows all.
const TAIL: usize = 25;

/// Failed seeds after which a search ends.
const FAILURES_MAX: usize = 50;

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<Verdict, TaskError> {
    if let Some(seed) = options.seed {
        let report = play(seed, true);
        for line in &report.story {
            println!("{line}");
        }
        print_breaches(&report);
        return Ok(Verdict::of(report.breaches.is_empty()));
    }
    let begun = Instant::now();
    let found = match (&options.seeds, options.minutes) {
        (Some(range), _) => search(parse(range)?, None),
        (None, Some(minutes)) => {
            let from = fresh_seed();
            println!("seeds from {from}");
            search(from..u64::MAX, Some(Duration::from_secs(60 * minutes)))
        }
        (None, None) => checked(),
    };
    print_found(&found, begun.elapsed());
    Ok(Verdict::of(found.failed.is_empty()))
}

/// The phase of `cargo xtask test`: each seed is one check.
pub(crate) fn check() -> Result<Outcome, TaskError> {
    let begun = Instant::now();
    let found = checked();
    print_found(&found, begun.elapsed());
    let failures: Vec<String> = found
        .failed
        .iter()
        .map(|report| {
            let what = report.breaches.first().map(|b| b.promise);
            format!("seed {}: {}", report.seed, what.unwrap_or_default())
        })
        .collect();
    Ok(Outcome {
        passed: found.seeds - found.failed.len() as u64,
        failures,
        skips: Vec::new(),
    })
}

fn checked() -> Found {
    let mut all = Found::default();
    for range in CHECKED {
        all.join(search(range, None));
    }
    all
}

fn search(seeds: Range<u64>, time: Option<Duration>) -> Found {
    Search {
        from: seeds.start,
        to: seeds.end,
        time,
        failures_max: FAILURES_MAX,
    }
    .run()
}

fn parse(range: &str) -> Result<Range<u64>, TaskError> {
    let bad = || TaskError::Usage(format!("{range:?} is not of the form A..B with A < B"));
    let (from, to) = range.split_once("..").ok_or_else(bad)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| bad());
    let (from, to) = (number(from)?, number(to)?);
    if from < to { Ok(from..to) } else { Err(bad()) }
}

/// A seed that nobody has played yet, most likely; short enough to be typed.
fn fresh_seed() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    CHECKED[0].end + hasher.finish() % (3 * FAMILY_SEEDS)
}

fn print_found(found: &Found, took: Duration) {
    println!(
        "   {} seeds in {:.1} s: {} hours of virtual time, {} ADDs, {} EC2 calls, {} failed",
        found.seeds,
        took.as_secs_f64(),
        found.lasted.as_secs() / 3600,
        found.adds,
        found.calls,
        found.failed.len()
    );
    for report in &found.failed {
        let from = report.story.len().saturating_sub(TAIL);
        println!("\nseed {}, the end of its story:", report.seed);
        for line in &report.story[from..] {
            let cut: String = line.chars().take(300).collect();
            println!("  {cut}");
        }
        print_breaches(report);
        println!("  replay: cargo xtask sim --seed {}", report.seed);
    }
}

fn print_breaches(report: &Report) {
    for breach in report.breaches.iter().take(5) {
        println!(
            "  BROKEN at {:.3}: {}: {}",
            breach.at.as_secs_f64(),
            breach.promise,
            breach.what
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(parse("3..9").ok(), Some(3..9));
        for bad in ["", "3", "9..3", "a..b", "3..3"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
