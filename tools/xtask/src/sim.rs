//! `cargo xtask sim`: fleets in trouble, one for each seed, in virtual time. Replays one seed with its
//! story, or searches many for a broken promise.

use crate::error::{TaskError, Verdict};
use crate::test::Outcome;
use clap::Args;
use fleet_sim::scenario::{Cut, Dice, FAMILY_SEEDS, KNOWN_SEEDS, Report, play_with};
use fleet_sim::{Found, Search, shrink};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::time::{Duration, Instant};

/// What to play.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Replays this seed and tells its story; of a seed that breaks a promise, only what the breach
    /// needs.
    #[arg(long, conflicts_with_all = ["seeds", "minutes"])]
    seed: Option<u64>,
    /// Plays these seeds, A..B without B; those of `cargo xtask test` if nothing is said.
    #[arg(long, value_name = "A..B", conflicts_with = "minutes")]
    seeds: Option<String>,
    /// Throws the dice of known faults, too (with --seed).
    #[arg(long, requires = "seed")]
    known: bool,
    /// Tells the whole story, also of a seed that breaks a promise (with --seed).
    #[arg(long, requires = "seed")]
    whole: bool,
    /// Goes on with new seeds for so long.
    #[arg(long)]
    minutes: Option<u64>,
}

/// Seeds of `cargo xtask test`: pods of IPv4 for the most part, then some of IPv6, and of both.
const CHECKED: [Range<u64>; 3] = [
    0..4_000,
    FAMILY_SEEDS..FAMILY_SEEDS + 250,
    2 * FAMILY_SEEDS..2 * FAMILY_SEEDS + 250,
];

/// Lines of a failed seed's story that are shown; its replay shows all.
const TAIL: usize = 25;

/// Failed seeds of a search that are shrunk: each is played some hundred times.
const SHRUNK_MAX: usize = 3;

/// Failed seeds after which a search ends.
const FAILURES_MAX: usize = 50;

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<Verdict, TaskError> {
    if let Some(seed) = options.seed {
        return Ok(replay(seed, options));
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

fn replay(seed: u64, options: &Options) -> Verdict {
    let dice = Dice {
        known: options.known,
        only: None,
    };
    let shrunk = if options.whole {
        None
    } else {
        shrink(seed, dice)
    };
    let report = match shrunk {
        Some(shrunk) => {
            println!("{}", shrunk.words());
            shrunk.report
        }
        None => play_with(seed, true, dice, &Cut::default()),
    };
    for line in &report.story {
        println!("{line}");
    }
    print_verdict(&report);
    Verdict::of(report.breaches.is_empty())
}

/// The phase of `cargo xtask test`: each seed is one check.
pub(crate) fn check() -> Result<Outcome, TaskError> {
    let begun = Instant::now();
    let mut found = checked();
    let known = |report: &Report| {
        let first = report.breaches.first().map(|b| b.promise);
        let listed = |(seed, promise): &(u64, _)| *seed == report.seed && Some(*promise) == first;
        KNOWN_SEEDS.iter().any(listed)
    };
    let is_checked = |seed: u64| CHECKED.iter().any(|range| range.contains(&seed));
    for (seed, promise) in KNOWN_SEEDS.iter().filter(|(seed, _)| is_checked(*seed)) {
        if !found.failed.iter().any(|r| r.seed == *seed && known(r)) {
            println!(
                "   seed {seed} no longer breaks its promise ({promise}): it is to leave the list"
            );
        }
    }
    for report in found.failed.extract_if(.., |report| known(report)) {
        let promise = report.breaches.first().map(|b| b.promise.words());
        println!(
            "   seed {} breaks a promise and is known to: {}",
            report.seed,
            promise.unwrap_or_default()
        );
    }
    print_found(&found, begun.elapsed());
    let failures: Vec<String> = found
        .failed
        .iter()
        .map(|report| {
            let what = report.breaches.first().map(|b| b.promise.words());
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
    for (n, report) in found.failed.iter().enumerate() {
        let shrunk = (n < SHRUNK_MAX)
            .then(|| shrink(report.seed, Dice::default()))
            .flatten();
        println!("\nseed {}", report.seed);
        if let Some(shrunk) = &shrunk {
            println!("  {}", shrunk.words());
            for line in tail(&shrunk.report.story) {
                println!("  {line}");
            }
        }
        print_verdict(report);
        println!("  replay: cargo xtask sim --seed {}", report.seed);
    }
}

/// The last lines of a story, each cut to what a screen shows.
fn tail(story: &[String]) -> impl Iterator<Item = String> {
    let from = story.len().saturating_sub(TAIL);
    let cut = |line: &String| line.chars().take(300).collect();
    story[from..].iter().map(cut)
}

/// The last words of a story.
fn print_verdict(report: &Report) {
    if report.breaches.is_empty() {
        println!("VERDICT: seed {} kept every promise", report.seed);
        return;
    }
    println!("VERDICT: seed {} broke a promise", report.seed);
    for breach in report.breaches.iter().take(5) {
        println!(
            "  BROKEN after {:.3} s: {}: {}",
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
