//! Plays seeds without the rest of the workspace, which takes longer to build:
//! `cargo run -p fleet-sim --example search -- 0..2000`, or one seed's story with `-- 17`, and with
//! `-- 17 known` the dice of known faults, too; with `-- 17 short` what its breach does not need is
//! left out. `cargo xtask sim` says more.

use fleet_sim::scenario::{Cut, Dice, play_with};
use fleet_sim::{Search, shrink};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |text: &str| text.parse::<u64>().ok();
    let known = args.iter().any(|arg| arg == "known");
    let dice = Dice { known, only: None };
    let range = args.first().and_then(|arg| {
        let (from, to) = arg.split_once("..")?;
        Some((number(from)?, number(to)?))
    });
    if let Some(seed) = args.first().and_then(|arg| number(arg)) {
        let short = args.iter().any(|arg| arg == "short");
        let shrunk = short.then(|| shrink(seed, dice)).flatten();
        if let Some(shrunk) = &shrunk {
            println!("{}", shrunk.words());
        }
        let report = match shrunk {
            Some(shrunk) => shrunk.report,
            None => play_with(seed, true, dice, &Cut::default()),
        };
        for line in &report.story {
            println!("{line}");
        }
        for breach in &report.breaches {
            println!(
                "BROKEN {:?}: {}: {}",
                breach.at, breach.promise, breach.what
            );
        }
        return ExitCode::from(u8::from(!report.breaches.is_empty()));
    }
    let Some((from, to)) = range else {
        eprintln!("usage: search A..B | SEED [known] [short]");
        return ExitCode::from(2);
    };
    let begun = std::time::Instant::now();
    let search = Search {
        from,
        to,
        time: None,
        failures_max: 60,
    };
    let found = search.run();
    for report in &found.failed {
        let first = report.breaches.first();
        let words = first.map(|b| format!("{}: {}", b.promise, b.what));
        println!("seed {}: {}", report.seed, words.unwrap_or_default());
    }
    println!(
        "{} seeds in {:.1?}: {} failed",
        found.seeds,
        begun.elapsed(),
        found.failed.len()
    );
    ExitCode::from(u8::from(!found.failed.is_empty()))
}
