//! `cargo xtask sim`: fleets in trouble, one for each seed, in virtual time. Replays one seed with its
//! story, or searches many for a broken promise.

use crate::error::{TaskError, Verdict};
use crate::test::Outcome;
use clap::Args;
use fleet_sim::scenario::{Report, play};
use fleet_sim::{Found, Search};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

/// What to play.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Replays this seed and tells its story.
    #[arg(long, conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// Plays these seeds, A..B without B; 0..10000 if nothing is said.
    #[arg(long, value_name = "A..B", conflicts_with = "minutes")]
    seeds: Option<String>,
    /// Goes on with new seeds for so long.
    #[arg(long)]
    minutes: Option<u64>,
}

/// Seeds of `cargo xtask test`.
const CHECKED: std::ops::Range<u64> = 0..10_000;

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
    let search = match (&options.seeds, options.minutes) {
        (Some(range), _) => {
            let (from, to) = parse(range)?;
            search(from, to, None)
        }
        (None, Some(minutes)) => {
            let from = fresh_seed();
            let time = Duration::from_secs(60 * minutes);
            search(from, u64::MAX, Some(time))
        }
        (None, None) => search(CHECKED.start, CHECKED.end, None),
    };
    println!("seeds from {}", search.from);
    let begun = Instant::now();
    let found = search.run();
    print_found(&found, begun.elapsed());
    Ok(Verdict::of(found.failed.is_empty()))
}

/// The phase of `cargo xtask test`: each seed is one check.
pub(crate) fn check() -> Result<Outcome, TaskError> {
    let begun = Instant::now();
    let found = search(CHECKED.start, CHECKED.end, None).run();
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

const fn search(from: u64, to: u64, time: Option<Duration>) -> Search {
    Search {
        from,
        to,
        time,
        failures_max: FAILURES_MAX,
    }
}

fn parse(range: &str) -> Result<(u64, u64), TaskError> {
    let bad = || TaskError::Usage(format!("{range:?} is not of the form A..B with A < B"));
    let (from, to) = range.split_once("..").ok_or_else(bad)?;
    let number = |text: &str| text.trim().parse::<u64>().map_err(|_| bad());
    let (from, to) = (number(from)?, number(to)?);
    if from < to {
        Ok((from, to))
    } else {
        Err(bad())
    }
}

/// A seed that nobody has played yet, most likely; short enough to be typed.
fn fresh_seed() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    CHECKED.end + hasher.finish() % 1_000_000_000
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
        assert_eq!(parse("3..9").ok(), Some((3, 9)));
        for bad in ["", "3", "9..3", "a..b", "3..3"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
