//! Reads the two texts of `wire.rs`: the calls to make, and the differences that are right.

use ipamd_tests::fail;
use vpc_sim::testing::Failure;

const STEPS: &str = include_str!("wire.steps");
const ALLOWED: &str = include_str!("wire.allowed");

/// One call.
#[derive(Debug)]
pub(crate) struct Step {
    /// For people, and for the list of allowed differences.
    pub(crate) name: String,
    pub(crate) action: String,
    pub(crate) parameters: Vec<(String, String)>,
    /// Name to the path in the answer where it is taken from.
    pub(crate) keep: Vec<(String, String)>,
}

/// A difference that is right.
#[derive(Debug)]
pub(crate) struct Allowed {
    step: String,
    difference: String,
    #[allow(dead_code, reason = "for people, and shown by Debug")]
    why: String,
}

impl Allowed {
    pub(crate) fn allows(&self, step: &Step, difference: &str) -> bool {
        let fits = |pattern: &str, text: &str| match pattern.strip_suffix('*') {
            Some(beginning) => text.starts_with(beginning),
            None => text == pattern,
        };
        fits(&self.step, &step.name) && fits(&self.difference, difference)
    }
}

/// All calls, in order.
pub(crate) fn steps() -> Result<Vec<Step>, Failure> {
    lines(STEPS).map(step).collect()
}

/// All differences that are right.
pub(crate) fn allowed() -> Result<Vec<Allowed>, Failure> {
    let read = |line: &str| {
        let parts: Vec<_> = line.split('|').map(|p| p.trim().to_owned()).collect();
        match <[String; 3]>::try_from(parts) {
            Ok([step, difference, why]) if !why.is_empty() => Ok(Allowed {
                step,
                difference,
                why,
            }),
            _ => fail(format!(
                "wire.allowed: not `step | difference | why`: {line}"
            )),
        }
    };
    lines(ALLOWED).map(read).collect()
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    let kept = |line: &&str| !line.is_empty() && !line.starts_with('#');
    text.lines().map(str::trim).filter(kept)
}

fn step(line: &str) -> Result<Step, Failure> {
    let wrong = || fail(format!("wire.steps: not a call: {line}"));
    let Some((name, rest)) = line.split_once(": ") else {
        return wrong();
    };
    let (call, kept) = rest.split_once(" -> ").unwrap_or((rest, ""));
    let pairs = |text: &str| -> Option<Vec<(String, String)>> {
        let pair = |word: &str| {
            let (left, right) = word.split_once('=')?;
            Some((left.to_owned(), right.to_owned()))
        };
        text.split_whitespace().map(pair).collect()
    };
    let (action, parameters) = call.split_once(' ').unwrap_or((call, ""));
    let (Some(parameters), Some(keep)) = (pairs(parameters), pairs(kept)) else {
        return wrong();
    };
    Ok(Step {
        name: name.to_owned(),
        action: action.to_owned(),
        parameters,
        keep,
    })
}
