//! Reads what a test program printed: what it counted, what it skipped, which tests failed.
//!
//! Understands the lines that libtest prints, which our own runner of kernel tests prints too.

use super::step::Outcome;
use std::time::Duration;

/// What all programs said so far.
#[derive(Debug, Default)]
pub(super) struct Report {
    outcome: Outcome,
}

impl Report {
    /// Takes the words of a program that has ended, `well` if it ended with 0. Prints a line for it,
    /// and everything that a failed one said.
    pub(super) fn program(&mut self, name: &str, took: Duration, words: &str, well: bool) {
        let (mut passed, mut failures, mut counted) = (0, 0, false);
        let failed_before = self.outcome.failures.len();
        for line in words.lines().map(str::trim_start) {
            if let Some(test) = ignored(line) {
                self.outcome.skips.push(format!("{name}: {test}"));
            }
            if let Some(test) = failed(line) {
                self.outcome.failures.push(format!("{name}: {test}"));
            }
            // Doc tests of several packages are one program: each counts.
            if let Some((more, failed)) = counts(line) {
                (passed, failures, counted) = (passed + more, failures + failed, true);
            }
        }
        self.outcome.passed += passed;
        let named = self.outcome.failures.len() > failed_before;
        if !counted {
            let words = format!("{name} ended without a result");
            self.outcome.failures.push(words);
        } else if !well && !named {
            let words = format!("{name} failed without naming a test");
            self.outcome.failures.push(words);
        }
        let good = counted && well && failures == 0;
        if passed + failures > 0 || !good {
            let (verdict, took) = (if good { "ok" } else { "FAILED" }, took.as_secs_f64());
            eprintln!("   {name:<44} {verdict}, {passed} passed, {failures} failed ({took:.1} s)");
        }
        if !good {
            words.lines().for_each(|line| eprintln!("   | {line}"));
        }
    }

    /// The sum.
    pub(super) fn end(self) -> Outcome {
        self.outcome
    }
}

/// `test NAME ... ignored, REASON`, or `test NAME ... skipped: REASON`
fn ignored(line: &str) -> Option<&str> {
    let named = line.strip_prefix("test ")?;
    let (test, verdict) = named.split_once(" ... ")?;
    let reason = verdict
        .strip_prefix("ignored")
        .or_else(|| verdict.strip_prefix("skipped"))?;
    Some(if reason.is_empty() { test } else { named })
}

/// `test NAME ... FAILED`
fn failed(line: &str) -> Option<&str> {
    let (test, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
    verdict.starts_with("FAILED").then_some(test)
}

/// `test result: ok. 5 passed; 0 failed; …`, or `5 passed, 0 failed, …`
fn counts(line: &str) -> Option<(u64, u64)> {
    let sums = match line.strip_prefix("test result: ") {
        Some(rest) => rest.split_once(". ")?.1,
        None => line,
    };
    let mut parts = sums.split([';', ',']);
    let mut number = |word: &str| -> Option<u64> {
        parts
            .next()?
            .trim()
            .strip_suffix(word)?
            .trim_end()
            .parse()
            .ok()
    };
    Some((number("passed")?, number("failed")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "
running 3 tests
test a ... ok
test b ... ok
test c ... ignored, needs a moon
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    fn read(text: &str, well: bool) -> Outcome {
        let mut report = Report::default();
        report.program("model (src/lib.rs)", Duration::ZERO, text, well);
        report.end()
    }

    #[test]
    fn sums_results_and_names_skips() {
        let outcome = read(&GOOD.repeat(2), true);
        assert_eq!(outcome.passed, 4);
        assert_eq!(outcome.failures, Vec::<String>::new());
        assert_eq!(
            outcome.skips,
            ["model (src/lib.rs): c ... ignored, needs a moon"; 2]
        );
    }

    #[test]
    fn understands_the_runner_of_kernel_tests() {
        let text = "test a ... ok
test b ... skipped: no nftables for ARP
1 passed, 0 failed, 1 skipped, 0 filtered out";
        let outcome = read(text, true);
        assert_eq!((outcome.passed, outcome.failures.len()), (1, 0));
        assert_eq!(
            outcome.skips,
            ["model (src/lib.rs): b ... skipped: no nftables for ARP"]
        );
    }

    #[test]
    fn names_what_failed() {
        let text = GOOD.replace("test b ... ok", "test b ... FAILED");
        let text = text.replacen("ok. 2 passed; 0 failed", "FAILED. 1 passed; 1 failed", 1);
        let outcome = read(&text, false);
        assert_eq!(outcome.passed, 1);
        assert_eq!(outcome.failures, ["model (src/lib.rs): b"]);
    }

    #[test]
    fn a_program_that_dies_is_a_failure() {
        let text = GOOD.replacen("test result: ok. 2 passed", "signal: 11", 1);
        assert_eq!(
            read(&text, false).failures,
            ["model (src/lib.rs) ended without a result"]
        );
    }

    #[test]
    fn a_program_that_fails_silently_is_a_failure() {
        assert_eq!(
            read(GOOD, false).failures,
            ["model (src/lib.rs) failed without naming a test"]
        );
    }
}
