//! `cargo xtask load`: one end of a conversation of `bench --traffic`, as a process of its own, since a
//! socket is in the namespace of the thread that makes it.

use crate::error::{TaskError, Verdict};
use clap::{Args, Subcommand};
use lab::load::{Work, load, serve};
use std::net::IpAddr;
use std::time::Duration;

/// Which end.
#[derive(Debug, Args)]
pub(crate) struct Options {
    #[command(subcommand)]
    end: End,
}

#[derive(Debug, Subcommand)]
enum End {
    /// Answers until it is killed.
    Serve {
        /// Only this processor.
        #[arg(long)]
        cpu: Option<usize>,
    },
    /// Asks; prints what came of it.
    Ask {
        /// What to do.
        #[arg(value_parser = work)]
        work: Work,
        /// Whom to ask.
        to: IpAddr,
        /// How long, milliseconds.
        time: u64,
        /// Only this processor.
        #[arg(long)]
        cpu: Option<usize>,
    },
}

fn work(word: &str) -> Result<Work, String> {
    let mut all = Work::ALL.into_iter();
    all.find(|work| work.word() == word)
        .ok_or_else(|| format!("no such work as {word}"))
}

/// Runs one end.
///
/// # Errors
/// The other end does not answer.
pub(crate) fn run(options: &Options) -> Result<Verdict, TaskError> {
    match &options.end {
        End::Serve { cpu } => serve(*cpu).map_err(TaskError::io("serving a load"))?,
        End::Ask {
            work,
            to,
            time,
            cpu,
        } => {
            let time = Duration::from_millis(*time);
            let done = load(*work, *to, time, *cpu).map_err(TaskError::io("loading"))?;
            let json = serde_json::to_string(&done).map_err(|source| TaskError::Json {
                what: "a load's result".into(),
                source,
            })?;
            println!("{json}");
        }
    }
    Ok(Verdict::Green)
}
