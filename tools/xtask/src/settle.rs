//! `cargo xtask settle`: what a pool with given settings settles to. People ask before they choose
//! warm targets; the answer is the real engine's, on the model VPC, in virtual time.

use crate::error::{TaskError, Verdict};
use clap::Args;
use fleet_sim::settle::{Question, Settled, settle};
use ipam_core::limits::lookup;
use ipam_core::plan::Policy;
use serde_json::json;
use std::time::Duration;
use strsim::damerau_levenshtein;

/// What to settle.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// EC2 instance type, for example m5.large.
    #[arg(long)]
    instance_type: String,
    /// Pods that come, one by one.
    #[arg(long)]
    pods: u32,
    /// The kubelet's maxPods; computed from the instance type if absent.
    #[arg(long)]
    max_pods: Option<u32>,
    /// One JSON object on stdout.
    #[arg(long)]
    json: bool,
    /// Settings, for example WARM_IP_TARGET=5 ENABLE_PREFIX_DELEGATION=true.
    #[arg(value_name = "NAME=VALUE")]
    settings: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(options: &Options) -> Result<Verdict, TaskError> {
    if lookup(&options.instance_type).is_none() {
        return Err(TaskError::Usage(format!(
            "unknown instance type {:?}",
            options.instance_type
        )));
    }
    let policy = policy(&options.settings, options.max_pods)?;
    let question = Question {
        instance_type: options.instance_type.clone(),
        pods: options.pods,
        policy,
    };
    let settled = settle(question).map_err(|e| TaskError::Usage(e.to_string()))?;
    if options.json {
        println!("{}", as_json(options, &settled));
    } else {
        print_words(options, &settled);
    }
    Ok(Verdict::Green)
}

/// The settings that the pool's size depends on, all problems at once. Other settings of the daemon
/// are refused by name: silently ignoring one would be a wrong answer.
fn policy(settings: &[String], max_pods: Option<u32>) -> Result<Policy, TaskError> {
    let mut policy = Policy {
        max_pods,
        ..Policy::default()
    };
    let mut problems = Vec::new();
    for setting in settings {
        let Some((name, value)) = setting.split_once('=') else {
            problems.push(format!("{setting:?} is not of the form NAME=VALUE"));
            continue;
        };
        if let Err(problem) = set(&mut policy, name, value) {
            problems.push(problem);
        }
    }
    if problems.is_empty() {
        Ok(policy)
    } else {
        Err(TaskError::Usage(problems.join("; ")))
    }
}

fn set(policy: &mut Policy, name: &str, value: &str) -> Result<(), String> {
    match name {
        "ENABLE_PREFIX_DELEGATION" => {
            policy.prefixes = match value {
                "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
                "0" | "f" | "F" | "false" | "FALSE" | "False" | "" => false,
                _ => return Err(format!("{name}: {value:?} is neither true nor false")),
            };
        }
        "WARM_ENI_TARGET" => policy.warm_eni = number(name, value)?.unwrap_or(1),
        "WARM_PREFIX_TARGET" => policy.warm_prefix = number(name, value)?.unwrap_or(1),
        "WARM_IP_TARGET" => policy.warm_ip = number(name, value)?.filter(|n| *n > 0),
        "MINIMUM_IP_TARGET" => policy.minimum_ip = number(name, value)?.filter(|n| *n > 0),
        "MAX_ENI" => policy.max_eni = number(name, value)?.filter(|n| *n > 0),
        "IP_COOLDOWN_PERIOD" => {
            let seconds = number(name, value)?.unwrap_or(30);
            policy.cooldown = Duration::from_secs(seconds.into());
        }
        _ => return Err(unknown(name)),
    }
    Ok(())
}

/// The names that [`set`] takes.
const SETTINGS: [&str; 7] = [
    "ENABLE_PREFIX_DELEGATION",
    "WARM_ENI_TARGET",
    "WARM_PREFIX_TARGET",
    "WARM_IP_TARGET",
    "MINIMUM_IP_TARGET",
    "MAX_ENI",
    "IP_COOLDOWN_PERIOD",
];

/// A name this far from one of these is a mistake of the hand; `ipamd --check-config` has the same rule.
const TYPOS: usize = 2;

fn unknown(name: &str) -> String {
    let by_distance = SETTINGS.map(|known| (damerau_levenshtein(name, known), known));
    match by_distance.into_iter().min() {
        Some((typos, known)) if typos <= TYPOS => {
            format!("{name} is no setting; is {known} meant?")
        }
        _ => format!("{name} does not change what a pool settles to"),
    }
}

/// `None` where the daemon uses its default: empty and negative values.
fn number(name: &str, value: &str) -> Result<Option<u32>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    match value.parse::<i64>() {
        Ok(n) if n < 0 => Ok(None),
        Ok(n) => u32::try_from(n)
            .map(Some)
            .map_err(|_| format!("{name}: {value} is too large")),
        Err(_) => Err(format!("{name}: {value:?} is not a number")),
    }
}

fn as_json(options: &Options, settled: &Settled) -> serde_json::Value {
    json!({
        "instance_type": options.instance_type,
        "pods": options.pods,
        "pods_up": settled.pods_up,
        "enis": settled.enis,
        "blocks": settled.blocks,
        "addresses": settled.addresses,
        "free": settled.free,
        "per_eni": settled.per_eni,
        "ec2_calls": settled.ec2_calls,
        "refusals": settled.refusals,
    })
}

fn print_words(options: &Options, settled: &Settled) {
    println!(
        "{} with {} pods settles to {} ENIs, {} blocks, {} addresses, {} of them free",
        options.instance_type,
        settled.pods_up,
        settled.enis,
        settled.blocks,
        settled.addresses,
        settled.free
    );
    let per_eni: Vec<String> = settled.per_eni.iter().map(ToString::to_string).collect();
    println!("blocks per ENI: {}", per_eni.join(", "));
    for (action, n) in &settled.ec2_calls {
        println!("{n:5} {action}");
    }
    for (refusal, n) in &settled.refusals {
        println!("{n} pods were refused: {refusal}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_problems_are_told_at_once() {
        let settings = [
            "WARM_IP_TARGET=five",
            "nonsense",
            "AWS_REGION=x",
            "MAX_ENI=2",
        ];
        let error = policy(&settings.map(String::from), None)
            .unwrap_err()
            .to_string();
        for part in ["WARM_IP_TARGET", "nonsense", "AWS_REGION"] {
            assert!(error.contains(part), "{error}");
        }
        assert!(!error.contains("MAX_ENI"), "{error}");
    }

    #[test]
    fn misspelt_names_are_told_with_the_name_that_is_meant() {
        for (misspelt, meant) in [
            ("WARM_IP_TARGT=7", "is WARM_IP_TARGET meant?"),
            ("WARM_PERFIX_TARGET=1", "is WARM_PREFIX_TARGET meant?"),
            ("MAX_ENIS=2", "is MAX_ENI meant?"),
            ("AWS_REGION=x", "does not change what a pool settles to"),
        ] {
            let error = policy(&[misspelt.to_owned()], None).unwrap_err();
            assert!(error.to_string().contains(meant), "{error}");
        }
    }

    #[test]
    fn every_setting_is_taken() {
        for name in SETTINGS {
            assert!(set(&mut Policy::default(), name, "1").is_ok(), "{name}");
        }
    }

    #[test]
    fn negative_and_empty_values_mean_the_default() {
        let settings = [
            "WARM_ENI_TARGET=-1",
            "WARM_IP_TARGET=",
            "MINIMUM_IP_TARGET=0",
        ];
        assert_eq!(
            policy(&settings.map(String::from), None).unwrap(),
            Policy::default()
        );
    }
}
