//! Plays seeds in order, one by one, until one breaks a promise: for `cargo xtask mutants`, which names the mistake of
//! this process in its environment.
//!
//! `play-mutant FROM TO` prints `red SEED PROMISE` and ends with 1 at the first broken promise; else it prints `green`
//! and ends with 0. What listed seeds break without any mistake is passed over.
#![forbid(unsafe_code)]

use fleet_sim::scenario::{KNOWN_SEEDS, play};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|arg| arg.parse::<u64>());
    let (Some(Ok(from)), Some(Ok(to)), None) = (numbers.next(), numbers.next(), numbers.next())
    else {
        eprintln!("usage: play-mutant FROM TO");
        return ExitCode::from(2);
    };
    for seed in from..to {
        let report = play(seed, false);
        let listed = |promise| KNOWN_SEEDS.contains(&(seed, promise));
        let mut news = report.breaches.iter().filter(|b| !listed(b.promise));
        if let Some(breach) = news.next() {
            println!("red {seed} {}", breach.promise);
            return ExitCode::FAILURE;
        }
    }
    println!("green");
    ExitCode::SUCCESS
}
