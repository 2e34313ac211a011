//! `cargo xtask mutants`: plays the deliberate mistakes of [`fleet_sim::mutants`] and looks whether their suites notice.
//!
//! One build has all mistakes in it, apart from every product's. Each mistake is one process: one that hangs or crashes
//! takes nothing else with it, and nothing of one is left in the next. The suites must be green without a mistake first.

mod programs;

use crate::error::{TaskError, Verdict};
use crate::test::Outcome;
use clap::Args;
use fleet_sim::mutants::{Fate, Mutant, Suite, table};
use programs::{End, Programs};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Which to play.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only those of this name; `*` stands for anything, as in `cooldown/*`.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Only so many of them.
    #[arg(long, value_name = "N", conflicts_with = "only")]
    sample: Option<usize>,
    /// Which sample: as many in a row play all.
    #[arg(long, default_value_t = 0, requires = "sample")]
    seed: u64,
}

/// In every sample: without it, no suite of seeds would notice anything.
const ALWAYS: &str = "judge/collects-breaches";

/// How many `cargo xtask test` plays.
const CHECKED: usize = 20;

/// What came of one.
struct Played {
    mutant: &'static Mutant,
    end: End,
    took: Duration,
}

/// Whether the table is right about it.
#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Right,
    /// Not yet noticed, as the table says; or noticed although it says that it isn't yet.
    Told(String),
    Wrong(String),
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<Verdict, TaskError> {
    let chosen: Vec<&'static Mutant> = match (&options.only, options.sample) {
        (Some(pattern), _) => table().filter(|m| fits(pattern, m.name)).collect(),
        (None, Some(count)) => sample(count, options.seed),
        (None, None) => table().collect(),
    };
    if chosen.is_empty() {
        return Err(TaskError::Usage("no mutant has such a name".into()));
    }
    let outcome = play(&chosen)?;
    for failure in &outcome.failures {
        eprintln!("   FAILED: {failure}");
    }
    Ok(Verdict::of(outcome.failures.is_empty()))
}

/// A sample, for `cargo xtask test`: the same for everybody, so that a red one is about the change.
pub(crate) fn check() -> Result<Outcome, TaskError> {
    play(&sample(CHECKED, 0))
}

/// The `seed`-th part of the table, in an order that has nothing to do with what the mistakes are about.
fn sample(count: usize, seed: u64) -> Vec<&'static Mutant> {
    let (always, mut others): (Vec<&Mutant>, Vec<&Mutant>) =
        table().partition(|m| m.name == ALWAYS);
    others.sort_by_key(|m| fleet_sim::mutants::id(m.name));
    let count = count.clamp(1, others.len() + 1) - always.len();
    let parts = others.len().div_ceil(count.max(1)).max(1);
    let part = usize::try_from(seed % parts as u64).unwrap_or(0);
    let part = others.into_iter().skip(part * count).take(count);
    always.into_iter().chain(part).collect()
}

/// Whether a name is of the form of a pattern with `*` for anything.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((head, rest)) => name.strip_prefix(head).is_some_and(|tail| {
            (0..=tail.len()).any(|at| tail.get(at..).is_some_and(|tail| fits(rest, tail)))
        }),
    }
}

fn play(chosen: &[&'static Mutant]) -> Result<Outcome, TaskError> {
    let begun = Instant::now();
    let programs = Programs::build()?;
    eprintln!("   built in {:.0} s", begun.elapsed().as_secs_f64());
    let mut outcome = sound(&programs, chosen)?;
    if !outcome.failures.is_empty() {
        return Ok(outcome);
    }
    let mut all = side_by_side(chosen, |mutant| {
        let begun = Instant::now();
        let end = programs.play(Some(mutant.name), &mutant.suite, mutant.within)?;
        Ok(Played {
            mutant,
            end,
            took: begun.elapsed(),
        })
    })?;
    all.sort_by_key(|played| played.mutant.name);
    let mut told = 0;
    for played in &all {
        let judgement = judge(played.mutant, &played.end);
        print_row(played, &judgement);
        match judgement {
            Judgement::Right => outcome.passed += 1,
            Judgement::Told(_) => {
                outcome.passed += 1;
                told += 1;
            }
            Judgement::Wrong(words) => outcome
                .failures
                .push(format!("{}: {words}", played.mutant.name)),
        }
    }
    println!(
        "   {} mutants in {:.0} s: {} as the table says, {told} to be seen to, {} wrong",
        all.len(),
        begun.elapsed().as_secs_f64(),
        all.len() - told - outcome.failures.len(),
        outcome.failures.len()
    );
    Ok(outcome)
}

/// The suites without a mistake: what is red then says nothing of one.
fn sound(programs: &Programs, chosen: &[&'static Mutant]) -> Result<Outcome, TaskError> {
    let mut suites: BTreeMap<Suite, u64> = BTreeMap::new();
    for mutant in chosen {
        let within = suites.entry(mutant.suite).or_default();
        *within = mutant.within.max(*within);
    }
    let suites: Vec<(Suite, u64)> = suites.into_iter().collect();
    let ends = side_by_side(&suites, |(suite, within)| {
        Ok((*suite, programs.play(None, suite, *within)?))
    })?;
    let mut outcome = Outcome::default();
    for (suite, end) in ends {
        match end {
            End::Green => outcome.passed += 1,
            End::Red { words, .. } => outcome
                .failures
                .push(format!("{suite} is red without a mistake: {words}")),
        }
    }
    Ok(outcome)
}

/// On all processors. The first error ends it.
fn side_by_side<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R, TaskError> + Sync,
) -> Result<Vec<R>, TaskError> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    let lanes = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = work(item);
                    let failed = result.is_err();
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.push(result);
                    if failed {
                        next.store(items.len(), Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.into_iter().collect()
}

fn judge(mutant: &Mutant, end: &End) -> Judgement {
    match (mutant.fate, end) {
        (Fate::Noticed, End::Red { .. }) | (Fate::Equivalent(_), End::Green) => Judgement::Right,
        (Fate::Noticed, End::Green) => Judgement::Wrong(format!(
            "SURVIVED {}: nothing holds \"{}\"",
            mutant.suite, mutant.breaks
        )),
        (Fate::Equivalent(why), End::Red { words, .. }) => {
            Judgement::Wrong(format!("is not equivalent ({why}): {words}"))
        }
        (Fate::Unseen(why), End::Green) => Judgement::Told(format!("not seen yet: {why}")),
        (Fate::Unseen(_), End::Red { .. }) => {
            Judgement::Told("seen now: the table may promise it".into())
        }
    }
}

fn print_row(played: &Played, judgement: &Judgement) {
    let mutant = played.mutant;
    let end = match &played.end {
        End::Green => "survived".to_owned(),
        End::Red {
            seeds: Some(seeds), ..
        } => format!("red by seed {seeds} of {}", mutant.within),
        End::Red { seeds: None, .. } => "red".to_owned(),
    };
    let took = played.took.as_secs_f64();
    println!(
        "   {:<42} {:<36} {end:<22} {took:>6.1} s",
        mutant.name,
        mutant.suite.to_string()
    );
    match (judgement, &played.end) {
        (Judgement::Right, End::Red { words, .. }) => println!("      {}", cut(words)),
        (Judgement::Right, End::Green) => {}
        (Judgement::Told(words) | Judgement::Wrong(words), _) => println!("      {}", cut(words)),
    }
}

fn cut(words: &str) -> String {
    words.chars().take(160).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn patterns() {
        for (pattern, name, fit) in [
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
            ("a/*", "a/bc", true),
            ("*/bc", "a/bc", true),
            ("*b*", "a/bc", true),
            ("a*d", "a/bc", false),
        ] {
            assert_eq!(fits(pattern, name), fit, "{pattern} {name}");
        }
    }

    #[test]
    fn samples_in_a_row_are_the_whole_table() {
        let all: BTreeSet<&str> = table().map(|m| m.name).collect();
        let mut seen = BTreeSet::new();
        for day in 0..all.len().div_ceil(20 - 1) as u64 {
            let some = sample(20, day);
            assert!(some.len() <= 20 && some.iter().any(|m| m.name == ALWAYS));
            seen.extend(some.iter().map(|m| m.name));
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn the_table_is_held_to_what_happens() {
        let red = End::Red {
            seeds: Some(3),
            words: "two pods".into(),
        };
        let row = |fate| Mutant {
            name: "a/b",
            breaks: "a promise",
            suite: Suite::Seeds(fleet_sim::mutants::Pods::V4),
            within: 75,
            fate,
        };
        let wrong = |j: Judgement| matches!(j, Judgement::Wrong(_));
        assert_eq!(judge(&row(Fate::Noticed), &red), Judgement::Right);
        assert!(wrong(judge(&row(Fate::Noticed), &End::Green)));
        assert_eq!(
            judge(&row(Fate::Equivalent("so")), &End::Green),
            Judgement::Right
        );
        assert!(wrong(judge(&row(Fate::Equivalent("so")), &red)));
        for end in [red, End::Green] {
            assert!(matches!(
                judge(&row(Fate::Unseen("why")), &end),
                Judgement::Told(_)
            ));
        }
    }
}
