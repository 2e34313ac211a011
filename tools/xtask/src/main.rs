//! The workspace's own commands: `cargo demo`, `cargo xtask test`, `cargo xtask bench`.
//!
//! Owns nothing of what they do: a module each. Human words go to stdout, or to stderr where stdout
//! carries a result for programs.
#![forbid(unsafe_code)]

mod bench;
mod cargo;
mod demo;
mod error;
mod load;
mod mutants;
mod plugin;
mod programs;
mod settle;
mod sim;
mod test;

use clap::{Parser, Subcommand};
use error::Verdict;
use std::process::ExitCode;

/// The workspace's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Shows the whole job on real parts: a VPC, daemons, pods, probes.
    Demo(demo::Options),
    /// Runs every check: formatting, lints, architecture, all tests.
    Test(test::Options),
    /// Measures ADD, DEL, cold and warm bursts, restarts, memory and sizes.
    Bench(bench::Options),
    /// Tells what a pool with given settings settles to.
    Settle(settle::Options),
    /// Plays fleets in trouble in virtual time, one for each seed, and looks for broken promises.
    Sim(sim::Options),
    /// Plays deliberate mistakes and looks whether their suites notice.
    Mutants(mutants::Options),
    /// A part of `bench --traffic`, in the namespace that it is started in.
    #[command(hide = true)]
    Load(load::Options),
}

fn main() -> ExitCode {
    // Nothing before this may start a thread: `demo` and `bench` leave the host's namespaces, which
    // only a process with one thread can.
    let result = match Cli::parse().command {
        Task::Demo(options) => demo::run(&options),
        Task::Test(options) => test::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Settle(options) => settle::run(&options),
        Task::Sim(options) => sim::run(&options),
        Task::Mutants(options) => mutants::run(&options),
        Task::Load(options) => load::run(&options),
    };
    match result {
        Ok(Verdict::Green) => ExitCode::SUCCESS,
        Ok(Verdict::Red) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(2)
        }
    }
}
