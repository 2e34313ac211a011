//! `cargo xtask bench`: what an ADD costs, how fast a node fills, what it asks of EC2; ours, the bare
//! kernel's, and the peer's where its binaries are given.
//!
//! Owns the order of the cases and the table. All stacks do the same work on the same simulated EC2
//! with the same latencies, one after another in one run; nothing is judged here but by its figures.

mod cases;
mod figures;
mod stack;
mod table;
mod thousand;
mod traffic;

use crate::cargo;
use crate::demo::find_or_build;
use crate::demo::screen::Screen;
use crate::error::{TaskError, Verdict};
use crate::plugin;
use crate::programs;
use clap::Args;
use figures::{Figures, Results, Work};
use lab::{LabError, Programs};
use stack::Stack;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What to measure.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One JSON object on stdout; words for people on stderr.
    #[arg(long)]
    json: bool,
    /// Folder with the peer's `aws-k8s-agent` and `aws-cni`: the same work is done with them.
    #[arg(long)]
    peer: Option<PathBuf>,
    /// A kubeconfig for the peer, which waits 30 s at its start without an API server.
    #[arg(long, requires = "peer")]
    peer_kubeconfig: Option<PathBuf>,
    /// Only cases whose name contains this.
    #[arg(long, value_name = "WORD")]
    only: Option<String>,
    /// Few repetitions: shows that everything runs; the figures mean little.
    #[arg(long)]
    quick: bool,
    /// Pods' traffic instead: connections, latency, throughput and processor time beside plain routing
    /// and beside the peer's rules. With `--peer` beside the peer itself too.
    #[arg(long, conflicts_with = "only")]
    traffic: bool,
    /// Traffic at this many pods only.
    #[arg(long, value_name = "N", requires = "traffic", value_parser = clap::value_parser!(u32).range(2..=250))]
    pods: Option<u32>,
}

/// Runs every case.
///
/// # Errors
/// One could not be run at all.
pub(crate) fn run(options: &Options) -> Result<Verdict, TaskError> {
    let [iptables, _] = programs::IPTABLES;
    let needed = [programs::NFT, programs::IP, iptables];
    programs::ensure(&needed[..if options.traffic { 3 } else { 2 }])?;
    let ours = find_or_build()?;
    let screen = Screen::new(options.json);
    if options.traffic {
        return on_the_wire(options, &ours, &screen);
    }
    let floor = match std::env::var_os("IPAMD_FLOOR_BIN").filter(|path| !path.is_empty()) {
        Some(path) => path.into(),
        None => plugin::build_floor()?,
    };
    let mut results = Results {
        shim_bytes: size(&ours.plugin)?,
        daemon_bytes: stripped_size(&ours.daemon)?,
        ..Results::default()
    };
    let mut stacks = vec![Stack::ours(&ours)];
    if let Some(dir) = &options.peer {
        let peer = Stack::peer(dir, options.peer_kubeconfig.as_deref())?;
        results.peer_shim_bytes = Some(size(peer.plugin())?);
        results.peer_daemon_bytes = Some(size(peer.daemon())?);
        stacks.push(peer);
    }
    vpc_sim::isolate().map_err(LabError::from)?;
    lab::interrupt::listen()?;
    let work = if options.quick {
        Work::QUICK
    } else {
        Work::FULL
    };
    let phase = screen.phase("kernel floor");
    let figures = cases::floor(&floor, work)?;
    phase.done(true, &figures.words());
    results.cases.push(figures);
    let mut failed = false;
    for stack in &stacks {
        failed |= !measure(stack, options, work, &screen, &mut results)?;
    }
    if options.json {
        println!("{}", figures::json(&results));
    }
    screen.say(&table::draw(&results));
    Ok(Verdict::of(!failed))
}

/// Traffic alone.
fn on_the_wire(options: &Options, ours: &Programs, screen: &Screen) -> Result<Verdict, TaskError> {
    let peer = options.peer.as_deref();
    let peer = peer.map(|dir| Stack::peer(dir, options.peer_kubeconfig.as_deref()));
    let peer = peer.transpose()?;
    vpc_sim::isolate().map_err(LabError::from)?;
    lab::interrupt::listen()?;
    let effort = if options.quick {
        traffic::Effort::quick()
    } else {
        traffic::Effort::full()
    };
    let effort = effort.only(options.pods);
    let rows = traffic::measure(&Stack::ours(ours), peer.as_ref(), &effort, screen)?;
    if options.json {
        println!("{}", figures::json(&rows));
    }
    screen.say(&traffic::draw(&rows));
    Ok(Verdict::Green)
}

/// All cases on one stack. A case that fails is told and passed over, unless a person asked to stop.
fn measure(
    stack: &Stack,
    options: &Options,
    work: Work,
    screen: &Screen,
    results: &mut Results,
) -> Result<bool, TaskError> {
    let mut good = true;
    let only = options.only.as_deref().unwrap_or_default();
    let wanted = |case: &&cases::Case| case.name.contains(only) && stack.can(case.mode);
    for case in cases::ALL.iter().filter(wanted) {
        let phase = screen.phase(&format!("{}: {}", stack.name(), case.name));
        match (case.run)(stack, work) {
            Ok(figures) => {
                phase.done(true, &figures.words());
                results.cases.push(figures);
            }
            Err(LabError::Interrupted) => return Err(LabError::Interrupted.into()),
            Err(e) => {
                good = false;
                phase.done(false, &e.to_string());
                results
                    .cases
                    .push(Figures::failed(case.name, stack.name(), &e));
            }
        }
    }
    Ok(good)
}

fn size(file: &Path) -> Result<u64, TaskError> {
    let metadata = std::fs::metadata(file);
    Ok(metadata
        .map_err(TaskError::io(format!("reading {}", file.display())))?
        .len())
}

/// As it would be shipped: the profile that tests share keeps symbols.
fn stripped_size(file: &Path) -> Result<u64, TaskError> {
    let folder = tempfile::tempdir().map_err(TaskError::io("making a folder"))?;
    let copy = folder.path().join("stripped");
    let mut strip = Command::new("strip");
    strip.arg("-o").arg(&copy).arg(file);
    match cargo::output(strip) {
        Ok(_) => size(&copy),
        // No binutils here: the file as it is.
        Err(_) => size(file),
    }
}
