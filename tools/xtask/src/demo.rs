//! `cargo demo`: the whole job on real parts, for a person to watch, with an exit code that tells
//! the truth.
//!
//! Owns the order: what can't be had is [told](possible), programs, namespaces, the [story](story), the
//! [report](report). What is checked is `lab`'s; nothing here excuses a failure.

mod map;
mod possible;
mod report;
mod sabotage;
pub(crate) mod screen;
mod story;

use crate::cargo;
use crate::error::{TaskError, Verdict};
use crate::plugin;
use crate::programs;
use clap::{Args, ValueEnum};
use lab::{ClusterSpec, DaemonSpec, LabError, Programs};
use report::Report;
use sabotage::Sabotage;
use screen::Screen;
use serde::Serialize;
use std::path::Path;

/// How addresses come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// /28 prefixes.
    Prefix,
    /// Secondary addresses, one by one.
    Secondary,
    /// IPv6 addresses alone, of one /80, and IPv4 egress.
    Ipv6,
    /// Both: /28 prefixes, and one /80.
    Dual,
}

impl Mode {
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Prefix => "prefix",
            Self::Secondary => "secondary",
            Self::Ipv6 => "ipv6",
            Self::Dual => "dual",
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Prefix => "/28 prefixes",
            Self::Secondary => "secondary addresses",
            Self::Ipv6 => "IPv6 addresses of one /80",
            Self::Dual => "IPv4 addresses of /28 prefixes and IPv6 addresses of one /80",
        }
    }

    const fn has_ipv6(self) -> bool {
        matches!(self, Self::Ipv6 | Self::Dual)
    }

    /// The daemon with the settings of this mode.
    pub(crate) fn daemon(self, program: &Path) -> DaemonSpec {
        DaemonSpec::ipamd(program, self != Self::Secondary)
            .set("ENABLE_IPv4", self != Self::Ipv6)
            .set("ENABLE_IPv6", self.has_ipv6())
    }

    /// The cluster with the subnets of this mode.
    pub(crate) fn cluster(self, spec: ClusterSpec) -> ClusterSpec {
        if self.has_ipv6() {
            spec.with_ipv6()
        } else {
            spec
        }
    }
}

/// What to show.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How addresses come.
    #[arg(long, value_enum, default_value = "prefix")]
    mode: Mode,
    /// Instance type of both nodes.
    #[arg(long, default_value = "m5.large")]
    instance_type: String,
    /// Pods on each node.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pods: u32,
    /// Leave it running until Ctrl-C, and say how to enter it, and how to add and delete a pod.
    #[arg(long)]
    keep: bool,
    /// Do this wrong on purpose: the checks must notice.
    #[arg(long, value_enum)]
    sabotage: Option<Sabotage>,
    /// One JSON object on stdout; words for people on stderr.
    #[arg(long)]
    json: bool,
}

/// Runs the demo.
///
/// # Errors
/// It could not be run at all. What it found wrong is in the verdict.
pub(crate) fn run(options: &Options) -> Result<Verdict, TaskError> {
    possible::check(options)?;
    programs::ensure(match options.sabotage {
        Some(Sabotage::Double) => &[programs::NFT, programs::IP],
        _ => &[programs::NFT],
    })?;
    let programs = find_or_build()?;
    let screen = Screen::new(options.json);
    vpc_sim::isolate().map_err(LabError::from)?;
    lab::interrupt::listen()?;
    let mut report = Report::new(options);
    let told = story::tell(options, &programs, &screen, &mut report);
    if let Err(e) = told {
        report.stopped_by(&e);
    }
    let verdict = report.verdict();
    report.print(&screen);
    if options.json {
        println!("{}", report.json());
    }
    Ok(verdict)
}

/// The programs under test: those that the environment names, else built now. `launch` names those that it
/// built for the demo, with a plugin that is not linked as it is shipped: that costs a minute more and
/// is nothing that one sees. Tests and bench build the plugin as it is shipped.
pub(crate) fn find_or_build() -> Result<Programs, TaskError> {
    let named = |name| std::env::var_os(name).is_some_and(|path| !path.is_empty());
    if named("IPAMD_BIN") && named("IPAMD_CNI_BIN") {
        return Ok(Programs::find()?);
    }
    let daemon = cargo::build_daemon()?;
    let plugin = plugin::build()?;
    Ok(Programs { daemon, plugin })
}
