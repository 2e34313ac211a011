//! Deliberate mistakes, one or more for each promise, by which the simulation and all tests are tested.
//!
//! A mistake is a `mutant!` in the code: nothing in any build but that of `cargo xtask mutants`, which plays them one by
//! one and looks whether the suite named here notices. They have the names of promises, not of places: where code
//! changes, a mistake moves with its promise. A new promise comes with its mistake.
//!
//! Owns the table. `tests/mutants.rs` holds it to the code: each name is there once.

mod addresses;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // tests fail by panicking
mod control;
mod doubt;
mod growth;
mod judge;
mod kernel;
mod orphans;
mod protocol;
mod shrinking;
mod store;
mod wiring;

pub use mutant::{VARIABLE, id};

use crate::scenario::FAMILY_SEEDS;
use std::fmt;

/// One mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mutant {
    /// `subject/promise`, as in its `mutant!`.
    pub name: &'static str,
    /// The promise that it breaks, in words.
    pub breaks: &'static str,
    /// Where it must be noticed.
    pub suite: Suite,
    /// Within so many seeds; 1 where the suite has none.
    pub within: u64,
    /// Whether it is.
    pub fate: Fate,
}

/// Where a mistake must be noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Suite {
    /// In scenarios of [`crate::scenario::play`].
    Seeds(Pods),
    /// In a test program, by its source below the workspace's root: a story that no dice are needed for.
    Tests(&'static str),
}

/// Which addresses the pods of a scenario have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pods {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
    /// One of each.
    Dual,
}

/// What is known of a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Its suite notices it.
    Noticed,
    /// Nobody could ever notice it, and why.
    Equivalent(&'static str),
    /// Its suite can't see it yet, and why: a gap that is known.
    Unseen(&'static str),
}

impl Pods {
    /// The first seed of these scenarios.
    #[must_use]
    pub const fn first_seed(self) -> u64 {
        match self {
            Self::V4 => 0,
            Self::V6 => FAMILY_SEEDS,
            Self::Dual => 2 * FAMILY_SEEDS,
        }
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Seeds(Pods::V4) => f.write_str("seeds of IPv4"),
            Self::Seeds(Pods::V6) => f.write_str("seeds of IPv6"),
            Self::Seeds(Pods::Dual) => f.write_str("seeds of both"),
            Self::Tests(source) => f.write_str(source),
        }
    }
}

/// All of them.
pub fn table() -> impl Iterator<Item = &'static Mutant> {
    let areas: [&'static [Mutant]; 10] = [
        addresses::TABLE,
        kernel::TABLE,
        growth::TABLE,
        shrinking::TABLE,
        doubt::TABLE,
        store::TABLE,
        orphans::TABLE,
        wiring::TABLE,
        protocol::TABLE,
        judge::TABLE,
    ];
    areas.into_iter().flatten()
}

/// Noticed within so many seeds.
const fn seeds(name: &'static str, pods: Pods, within: u64, breaks: &'static str) -> Mutant {
    Mutant {
        name,
        breaks,
        suite: Suite::Seeds(pods),
        within,
        fate: Fate::Noticed,
    }
}

/// Noticed by the tests of this source.
const fn tests(name: &'static str, source: &'static str, breaks: &'static str) -> Mutant {
    Mutant {
        name,
        breaks,
        suite: Suite::Tests(source),
        within: 1,
        fate: Fate::Noticed,
    }
}

impl Mutant {
    /// The same, not seen yet.
    const fn unseen(mut self, why: &'static str) -> Self {
        self.fate = Fate::Unseen(why);
        self
    }

    /// The same, which can't be seen.
    const fn equivalent(mut self, why: &'static str) -> Self {
        self.fate = Fate::Equivalent(why);
        self
    }
}
