//! `max-pods`: the number to give the kubelet as `maxPods`.
//!
//! Owns the command line (the one of the well-known `max-pods-calculator.sh`) and nothing of the
//! arithmetic, which is `ipam_core::limits`. Stdout is one number, whatever else is asked; words go
//! to stderr. It asks nobody but, if told to, the instance metadata service.

mod imds;
mod version;

use clap::Parser;
use ipam_core::limits::{self, MaxPods, MaxPodsInput};
use std::process::ExitCode;
use version::CniVersion;

/// Exit codes of sysexits.h.
const EX_USAGE: u8 = 64;
const EX_DATAERR: u8 = 65;
const EX_UNAVAILABLE: u8 = 69;

/// How many pods an EC2 instance type takes, as a number for the kubelet's maxPods.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Exit codes: 0 a number is on stdout; 64 wrong arguments; 65 instance type not known;
69 the metadata service did not answer."
)]
struct Args {
    /// Instance type, as m5.large
    #[arg(
        long,
        value_name = "TYPE",
        required_unless_present = "instance_type_from_imds"
    )]
    instance_type: Option<String>,

    /// Ask the instance metadata service (IMDSv2) for the type
    #[arg(long, conflicts_with = "instance_type")]
    instance_type_from_imds: bool,

    /// Version of the Amazon VPC CNI: before 1.9 it had no prefix delegation. Leave out for ipamd
    #[arg(
        long,
        value_name = "VERSION",
        default_value = "",
        hide_default_value = true
    )]
    cni_version: String,

    /// The primary ENI gives no pod addresses
    #[arg(long)]
    cni_custom_networking_enabled: bool,

    /// Prefixes of 16 addresses in place of single addresses, where the instance takes them
    #[arg(long)]
    cni_prefix_delegation_enabled: bool,

    /// Use no more ENIs than this, the primary one included. Default: all of the default card
    #[arg(long, value_name = "N", default_value = "", hide_default_value = true)]
    cni_max_eni: String,

    /// Pods have IPv6 addresses alone: only the recommended cap counts
    #[arg(long)]
    ipv6: bool,

    /// What the addresses allow, without the recommended cap (110 with up to 30 vCPUs, else 250)
    #[arg(long)]
    show_max_allowed: bool,

    /// Say on stderr how the number comes about
    #[arg(long)]
    explain: bool,

    /// Where the metadata service is: address or name, and port
    #[arg(long, value_name = "HOST:PORT", default_value = imds::DEFAULT_HOST)]
    imds_host: String,
}

#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("--instance-type: there is no type with an empty name")]
    EmptyType,
    #[error("--cni-version: {0}")]
    Version(#[from] version::VersionError),
    #[error("--cni-max-eni: {0:?} is not a number of ENIs")]
    MaxEni(String),
    #[error("unknown instance type {0:?}")]
    UnknownType(String),
    #[error("instance metadata service at {host}: {cause}")]
    Imds {
        host: String,
        cause: imds::ImdsError,
    },
}

impl Error {
    const fn exit_code(&self) -> u8 {
        match self {
            Self::EmptyType | Self::Version(_) | Self::MaxEni(_) => EX_USAGE,
            Self::UnknownType(_) => EX_DATAERR,
            Self::Imds { .. } => EX_UNAVAILABLE,
        }
    }
}

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(e) => {
            // clap chooses the stream: help is an answer, the rest are errors. A closed stream
            // leaves nobody to tell.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { EX_USAGE } else { 0 });
        }
    };
    match run(&args) {
        Ok(pods) => {
            println!("{pods}");
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("max-pods: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

fn run(args: &Args) -> Result<u32, Error> {
    // Arguments first: a typing error should not wait for the metadata service.
    let version = match args.cni_version.as_str() {
        "" => None,
        text => Some(text.parse::<CniVersion>()?),
    };
    let version_has_prefixes = version.is_none_or(CniVersion::has_prefixes);
    let input = MaxPodsInput {
        ipv6: args.ipv6,
        prefixes: args.cni_prefix_delegation_enabled && version_has_prefixes,
        custom_networking: args.cni_custom_networking_enabled,
        max_eni: max_eni(&args.cni_max_eni)?,
        show_max_allowed: args.show_max_allowed,
    };
    let instance_type = instance_type(args)?;
    let limits =
        limits::lookup(&instance_type).ok_or_else(|| Error::UnknownType(instance_type.clone()))?;
    let answer = limits::max_pods(&limits, &input);
    if args.explain {
        explain(&instance_type, args, version_has_prefixes, &answer);
    }
    Ok(answer.pods)
}

/// As in the script, an empty value means that nothing was given.
fn max_eni(text: &str) -> Result<Option<u32>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| Error::MaxEni(text.to_owned()))
}

fn instance_type(args: &Args) -> Result<String, Error> {
    match &args.instance_type {
        Some(name) if name.is_empty() => Err(Error::EmptyType),
        Some(name) => Ok(name.clone()),
        None => imds::instance_type(&args.imds_host).map_err(|cause| Error::Imds {
            host: args.imds_host.clone(),
            cause,
        }),
    }
}

fn explain(instance_type: &str, args: &Args, version_has_prefixes: bool, answer: &MaxPods) {
    eprintln!("{instance_type}:");
    if args.cni_prefix_delegation_enabled && !version_has_prefixes {
        eprintln!(
            "  CNI {} has no prefix delegation: 1.9 was the first",
            args.cni_version
        );
    }
    for step in &answer.steps {
        eprintln!("  {step}");
    }
    eprintln!("  max pods: {}", answer.pods);
}
