//! Reads what `cargo test` prints: which test program ran, what it counted, what it skipped.
//!
//! Understands the lines that libtest prints, which our own runner of kernel tests prints too.

use super::step::Outcome;
use std::time::Instant;

/// One test program's part of the output.
#[derive(Debug)]
struct Section {
    name: String,
    started: Instant,
    lines: Vec<String>,
    counted: bool,
    failed: bool,
}

/// The output so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    section: Option<Section>,
    outcome: Outcome,
}

impl Reader {
    /// Takes one line. Prints a line for each test program that has ended, and everything that a
    /// failed one said.
    pub(super) fn line(&mut self, line: &str) {
        let trimmed = line.trim_start();
        if let Some(name) = section_name(trimmed) {
            self.close();
            self.section = Some(Section {
                name,
                started: Instant::now(),
                lines: Vec::new(),
                counted: false,
                failed: false,
            });
        }
        if let Some(section) = &mut self.section {
            section.lines.push(line.to_owned());
        } else if !trimmed.is_empty() {
            eprintln!("   {line}");
        }
        if let Some(test) = ignored(trimmed) {
            self.outcome.skips.push(self.named(test));
        }
        if let Some(test) = failed(trimmed) {
            let words = self.named(test);
            self.outcome.failures.push(words);
        }
        if let Some((passed, failures)) = counts(trimmed) {
            self.count(passed, failures);
        }
    }

    /// The sum. `finished`: the test command ended with 0.
    pub(super) fn end(mut self, finished: bool) -> Outcome {
        self.close();
        if !finished && self.outcome.failures.is_empty() {
            self.outcome
                .failures
                .push("the test command failed without naming a test".into());
        }
        self.outcome
    }

    fn count(&mut self, passed: u64, failures: u64) {
        self.outcome.passed += passed;
        let Some(section) = &mut self.section else {
            return;
        };
        section.counted = true;
        section.failed |= failures > 0;
        if passed + failures > 0 {
            let took = section.started.elapsed().as_secs_f64();
            let verdict = if failures == 0 { "ok" } else { "FAILED" };
            let name = &section.name;
            eprintln!("   {name:<44} {verdict}, {passed} passed, {failures} failed ({took:.1} s)");
        }
    }

    fn close(&mut self) {
        let Some(section) = self.section.take() else {
            return;
        };
        if !section.counted {
            self.outcome
                .failures
                .push(format!("{} ended without a result", section.name));
        }
        if section.failed || !section.counted {
            for line in &section.lines {
                eprintln!("   | {line}");
            }
        }
    }

    fn named(&self, test: &str) -> String {
        match &self.section {
            Some(section) => format!("{}: {test}", section.name),
            None => test.to_owned(),
        }
    }
}

/// `Running unittests src/lib.rs (target/debug/deps/vpc_model-0123)` or `Doc-tests vpc_model`.
fn section_name(line: &str) -> Option<String> {
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(format!("{name} (doc tests)"));
    }
    let rest = line.strip_prefix("Running ")?;
    let (what, path) = rest.rsplit_once(" (")?;
    let program = path.trim_end_matches(')').rsplit('/').next()?;
    let package = program.rsplit_once('-').map_or(program, |(name, _)| name);
    Some(format!(
        "{package} ({})",
        what.trim_start_matches("unittests ")
    ))
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
     Running unittests src/lib.rs (target/debug/deps/vpc_model-0f1e)

running 3 tests
test a ... ok
test b ... ok
test c ... ignored, needs a moon
test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s

   Doc-tests vpc_model

running 1 test
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.10s
";

    fn read(text: &str, finished: bool) -> Outcome {
        let mut reader = Reader::default();
        text.lines().for_each(|line| reader.line(line));
        reader.end(finished)
    }

    #[test]
    fn sums_programs_and_names_skips() {
        let outcome = read(GOOD, true);
        assert_eq!(outcome.passed, 3);
        assert_eq!(outcome.failures, Vec::<String>::new());
        assert_eq!(
            outcome.skips,
            ["vpc_model (src/lib.rs): c ... ignored, needs a moon"]
        );
    }

    #[test]
    fn understands_the_runner_of_kernel_tests() {
        let text = "     Running tests/kernel/main.rs (target/debug/deps/kernel-0f1e)
test a ... ok
test b ... skipped: no nftables for ARP
1 passed, 0 failed, 1 skipped, 0 filtered out";
        let outcome = read(text, true);
        assert_eq!((outcome.passed, outcome.failures.len()), (1, 0));
        assert_eq!(
            outcome.skips,
            ["kernel (tests/kernel/main.rs): b ... skipped: no nftables for ARP"]
        );
    }

    #[test]
    fn names_what_failed() {
        let text = GOOD.replace("test b ... ok", "test b ... FAILED");
        let text = text.replacen("ok. 2 passed; 0 failed", "FAILED. 1 passed; 1 failed", 1);
        let outcome = read(&text, false);
        assert_eq!(outcome.passed, 2);
        assert_eq!(outcome.failures, ["vpc_model (src/lib.rs): b"]);
    }

    #[test]
    fn a_program_that_dies_is_a_failure() {
        let text = GOOD.replacen("test result: ok. 2 passed", "signal: 11", 1);
        assert_eq!(
            read(&text, false).failures,
            ["vpc_model (src/lib.rs) ended without a result"]
        );
    }

    #[test]
    fn a_command_that_fails_silently_is_a_failure() {
        assert_eq!(read(GOOD, false).failures.len(), 1);
    }
}
