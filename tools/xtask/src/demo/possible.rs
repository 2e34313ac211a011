//! What no node can do is told before anything is built: a demo of it would fail after minutes, for
//! reasons that are not the daemon's.

use super::{Mode, Options, Sabotage};
use crate::error::TaskError;
use ipam_core::limits::{HOST_NETWORK_PODS, InstanceLimits, MaxPodsInput, lookup, max_pods};

/// Whether nodes of this type can do what is asked.
///
/// # Errors
/// [`TaskError::Usage`], with everything that they can't.
pub(super) fn check(options: &Options) -> Result<(), TaskError> {
    let Some(limits) = lookup(&options.instance_type) else {
        return Err(TaskError::Usage(format!(
            "unknown instance type {:?}: the table of types (ipamd/core/data) has none of that name",
            options.instance_type
        )));
    };
    let problems: Vec<String> = [
        ipv6(options, &limits),
        room(options, &limits),
        sabotage(options),
    ]
    .into_iter()
    .flatten()
    .collect();
    if problems.is_empty() {
        Ok(())
    } else {
        Err(TaskError::Usage(problems.join("; ")))
    }
}

/// The daemon gives pods addresses of an IPv6 prefix, which only Nitro's ENIs take.
fn ipv6(options: &Options, limits: &InstanceLimits) -> Option<String> {
    let can = limits.prefixes && limits.ipv6_per_eni > 0;
    (options.mode.has_ipv6() && !can).then(|| {
        format!(
            "--mode {}: {} takes no IPv6 prefixes (it is not Nitro)",
            options.mode.word(),
            options.instance_type
        )
    })
}

/// One IPv6 prefix has more addresses than any node has pods: then the type is no limit.
fn room(options: &Options, limits: &InstanceLimits) -> Option<String> {
    if options.mode == Mode::Ipv6 {
        return None;
    }
    let input = MaxPodsInput {
        prefixes: options.mode != Mode::Secondary,
        show_max_allowed: true,
        ..MaxPodsInput::default()
    };
    // The demo has no pods in the host's network.
    let most = max_pods(limits, &input)
        .pods
        .saturating_sub(HOST_NETWORK_PODS);
    (options.pods > most).then(|| {
        format!(
            "--pods {}: with {}, {} has addresses for {most} pods",
            options.pods,
            options.mode.words(),
            options.instance_type
        )
    })
}

fn sabotage(options: &Options) -> Option<String> {
    let spoofs = options.sabotage == Some(Sabotage::Spoof);
    (spoofs && options.mode == Mode::Ipv6)
        .then(|| "--sabotage spoof: it sends IPv4, which pods of --mode ipv6 lack".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, Command, FromArgMatches};

    fn asked(words: &str) -> Result<(), String> {
        let command = Options::augment_args(Command::new("demo"));
        let args = std::iter::once("demo").chain(words.split_whitespace());
        let matches = command
            .try_get_matches_from(args)
            .map_err(|e| format!("{} ({})", e, e.exit_code()))?;
        let options = Options::from_arg_matches(&matches).map_err(|e| e.to_string())?;
        check(&options).map_err(|e| e.to_string())
    }

    #[test]
    fn what_no_node_can_do_is_told() {
        for (words, told) in [
            ("--pods 0", "(2)"),
            (
                "--instance-type m9.huge",
                "unknown instance type \"m9.huge\"",
            ),
            (
                "--instance-type t2.large --mode ipv6",
                "t2.large takes no IPv6",
            ),
            (
                "--instance-type t2.large --mode dual",
                "t2.large takes no IPv6",
            ),
            ("--instance-type t3.nano --pods 33", "for 32 pods"),
            (
                "--instance-type t3.nano --pods 3 --mode secondary",
                "for 2 pods",
            ),
            ("--pods 433 --mode dual", "for 432 pods"),
            ("--mode ipv6 --sabotage spoof", "sends IPv4"),
        ] {
            let said = asked(words).expect_err(words);
            assert!(said.contains(told), "{words}: {said}");
        }
        let both = asked("--instance-type t2.large --mode dual --pods 900").unwrap_err();
        assert!(
            both.contains("IPv6") && both.contains("--pods 900"),
            "{both}"
        );
    }

    #[test]
    fn what_a_node_can_do_is_done() {
        for words in [
            "",
            "--pods 432",
            "--instance-type t3.nano --pods 32",
            "--instance-type t2.large --pods 33",
            "--instance-type t3.nano --pods 200 --mode ipv6",
        ] {
            assert_eq!(asked(words), Ok(()), "{words}");
        }
    }
}
