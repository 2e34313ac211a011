//! Steps of a test run: progress, time, and the sum at the end.

use crate::error::TaskError;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a step found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// How many checks held.
    pub(crate) passed: u64,
    /// Each check that did not, in words.
    pub(crate) failures: Vec<String>,
    /// Each check that was not made, with the reason.
    pub(crate) skips: Vec<String>,
}

impl Outcome {
    /// One check, held.
    pub(super) fn passed() -> Self {
        Self {
            passed: 1,
            ..Self::default()
        }
    }

    /// One check, not held.
    pub(super) fn failed(words: String) -> Self {
        Self {
            failures: vec![words],
            ..Self::default()
        }
    }

    /// Counts one check: held if `problem` is `None`.
    pub(super) fn count(&mut self, problem: Option<String>) {
        match problem {
            None => self.passed += 1,
            Some(words) => self.failures.push(words),
        }
    }
}

/// Runs steps and keeps their outcomes.
#[derive(Debug)]
pub(super) struct Runner {
    started: Instant,
    rows: Vec<(String, Duration, Outcome)>,
}

impl Runner {
    pub(super) fn new() -> Self {
        Self {
            started: Instant::now(),
            rows: Vec::new(),
        }
    }

    /// Runs one step. An error is a failure of the step: the others still run.
    pub(super) fn step(&mut self, name: &str, work: impl FnOnce() -> Result<Outcome, TaskError>) {
        eprintln!("\n== {name}");
        let started = Instant::now();
        let outcome = work().unwrap_or_else(|e| Outcome::failed(e.to_string()));
        let took = started.elapsed();
        for failure in &outcome.failures {
            eprintln!("   FAILED: {failure}");
        }
        let verdict = if outcome.failures.is_empty() {
            "ok"
        } else {
            "FAILED"
        };
        eprintln!("== {name}: {verdict} ({:.1} s)", took.as_secs_f64());
        self.rows.push((name.to_owned(), took, outcome));
    }

    /// Runs one step that makes something later steps need.
    pub(super) fn step_with<T>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> Result<T, TaskError>,
    ) -> Option<T> {
        let mut made = None;
        self.step(name, || {
            made = Some(work()?);
            Ok(Outcome::passed())
        });
        made
    }

    /// Runs steps beside those that follow here, until [`Runner::join`].
    pub(super) fn beside<T: Send + 'static>(
        steps: impl FnOnce(&mut Self) -> T + Send + 'static,
    ) -> JoinHandle<(Self, T)> {
        std::thread::spawn(|| {
            let mut runner = Self::new();
            let made = steps(&mut runner);
            (runner, made)
        })
    }

    /// Waits for the end of such steps, and gives what they made.
    pub(super) fn join<T>(&mut self, beside: JoinHandle<(Self, T)>) -> Option<T> {
        if let Ok((runner, made)) = beside.join() {
            self.rows.extend(runner.rows);
            return Some(made);
        }
        // Its words are on stderr.
        let outcome = Outcome::failed("a step that ran beside others panicked".to_owned());
        self.rows
            .push(("beside".to_owned(), Duration::ZERO, outcome));
        None
    }

    /// Prints the sum; true if nothing failed and every skip is expected. The last line has the form
    /// that test runners of any language share.
    pub(super) fn summary(&self, expected: &[(&str, &str)]) -> bool {
        println!("\nsummary ({:.0} s)", self.started.elapsed().as_secs_f64());
        let (mut passed, mut failed, mut skipped) = (0, 0, 0);
        for (name, took, outcome) in &self.rows {
            println!(
                "  {name:<18} {:>5} passed {:>3} failed {:>3} skipped {:>7.1} s",
                outcome.passed,
                outcome.failures.len(),
                outcome.skips.len(),
                took.as_secs_f64()
            );
            passed += outcome.passed;
            failed += outcome.failures.len();
            skipped += outcome.skips.len();
        }
        for (name, _, outcome) in &self.rows {
            for failure in &outcome.failures {
                println!(
                    "  FAILED {name}: {}",
                    failure.lines().next().unwrap_or_default()
                );
            }
            for skip in &outcome.skips {
                match expected.iter().find(|(part, _)| skip.contains(part)) {
                    Some((_, why)) => println!("  skipped {name}: {skip} (expected: {why})"),
                    None => {
                        failed += 1;
                        println!("  FAILED {name}: skipped, and no skip is expected here: {skip}");
                    }
                }
            }
        }
        println!("{passed} passed, {failed} failed, {skipped} skipped");
        failed == 0
    }
}
