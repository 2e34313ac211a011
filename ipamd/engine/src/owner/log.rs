//! What a person reads of EC2's answers: by EC2's own names, so that they can be looked for at EC2, too.

use ipam_core::cloud::CloudError;
use ipam_core::outcome::Done;
use ipam_core::plan::{Action, Subnets};
use ipam_core::reconcile::Drift;
use ipam_core::{BlockKind, Family};

/// One line per EC2 call. `eni`: whom it is about, if that is known already.
pub(super) fn call(action: &Action, eni: Option<&str>, result: &Result<Done, CloudError>) {
    let (name, what) = (api(action), asked(action));
    match result {
        Ok(done) => {
            let got = got(done);
            tracing::info!(action = name, eni, what, got, "EC2 call done");
        }
        Err(error) => {
            let cause = error.class.label();
            tracing::warn!(action = name, eni, what, cause, %error, "EC2 call failed");
        }
    }
}

/// EC2's name of the call.
fn api(action: &Action) -> &'static str {
    match action {
        Action::Describe => "DescribeNetworkInterfaces",
        Action::DescribeSubnets { .. } => "DescribeSubnets",
        Action::Create { .. } => "CreateNetworkInterface",
        Action::Attach { .. } => "AttachNetworkInterface",
        Action::SetDeleteOnTermination { .. } => "ModifyNetworkInterfaceAttribute",
        Action::Assign {
            family: Family::V6, ..
        } => "AssignIpv6Addresses",
        Action::Assign { .. } => "AssignPrivateIpAddresses",
        Action::Unassign { blocks, .. } => match blocks.first() {
            Some(block) if block.family() == Family::V6 => "UnassignIpv6Addresses",
            _ => "UnassignPrivateIpAddresses",
        },
        Action::Detach { .. } => "DetachNetworkInterface",
        Action::Delete { .. } => "DeleteNetworkInterface",
    }
}

/// What is asked for.
fn asked(action: &Action) -> String {
    match action {
        Action::Describe => "this instance's ENIs".into(),
        Action::DescribeSubnets { by } => match by {
            Subnets::Listed(ids) => format!("those of {} that are in this zone", list(ids)),
            Subnets::Primary | Subnets::Tagged { .. } => "those of this zone".into(),
        },
        Action::Create {
            subnet,
            card,
            device_index,
            family,
            kind,
            count,
            ..
        } => format!(
            "in {subnet} with {}, for device index {device_index} of card {card}",
            blocks(*count, *family, *kind)
        ),
        Action::Attach {
            card, device_index, ..
        } => format!("at device index {device_index} of card {card}"),
        Action::SetDeleteOnTermination { attachment, .. } => {
            format!("{attachment}: deleted with the instance")
        }
        Action::Assign {
            family,
            kind,
            count,
            ..
        } => blocks(*count, *family, *kind),
        Action::Unassign { blocks, .. } => list(blocks),
        Action::Detach { attachment, .. } => attachment.clone(),
        Action::Delete { .. } => String::new(),
    }
}

/// What came of it.
fn got(done: &Done) -> String {
    match done {
        Done::Described(enis) => format!("{} ENIs", enis.len()),
        Done::Subnets(subnets) => format!("{} subnets", subnets.len()),
        Done::Created(eni) => eni.id.to_string(),
        Done::Attached(attachment) => attachment.clone(),
        Done::Assigned(blocks) => list(blocks),
        Done::Modified | Done::Unassigned | Done::Detached | Done::Deleted => String::new(),
    }
}

fn blocks(count: u32, family: Family, kind: BlockKind) -> String {
    let many = if count == 1 { "" } else { "es" };
    match (kind, family) {
        (BlockKind::Address, Family::V4) => format!("{count} secondary address{many}"),
        (BlockKind::Address, Family::V6) => format!("{count} IPv6 address{many}"),
        (BlockKind::Prefix, Family::V4) => format!("{count} /28 prefix{many}"),
        (BlockKind::Prefix, Family::V6) => format!("{count} /80 prefix{many}"),
    }
}

fn list<T: ToString>(all: &[T]) -> String {
    all.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

/// One line per difference between EC2's word and ours; `eni` is EC2's name of it.
pub(super) fn drift(drift: &Drift, eni: &str) {
    match drift {
        Drift::NewEni(_) => tracing::info!(eni, "EC2 has an ENI that we did not know"),
        Drift::NewBlock(_, block) => {
            tracing::info!(eni, %block, "EC2 has more on an ENI than we knew");
        }
        // A person is told.
        Drift::BlockGone(..)
        | Drift::EniDoubted(..)
        | Drift::EniGone(_)
        | Drift::BlockLost(..)
        | Drift::EniLost(..) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipam_core::{Block, EniHandle, EniId, SubnetId, Timestamp};

    /// Nothing of ours that EC2 does not know: no handle, no clock, no names of Rust's.
    #[test]
    fn actions_are_told_by_ec2s_names() {
        let handle = EniHandle(4711);
        let eni = EniId::from("eni-7");
        let block = "10.0.3.16/28"
            .parse()
            .ok()
            .and_then(|net| Block::new(net).ok())
            .expect("is one");
        let (family, kind, count) = (Family::V4, BlockKind::Prefix, 2);
        let attachment = "eni-attach-1".to_owned();
        let all = [
            Action::Describe,
            Action::DescribeSubnets {
                by: Subnets::Listed(vec![SubnetId::from("subnet-1")]),
            },
            Action::Create {
                handle,
                token: "token".into(),
                subnet: SubnetId::from("subnet-1"),
                card: 0,
                device_index: 1,
                family,
                kind,
                count,
                asked: Timestamp(4711),
            },
            Action::Attach {
                handle,
                eni: eni.clone(),
                card: 0,
                device_index: 1,
            },
            Action::SetDeleteOnTermination {
                handle,
                eni: eni.clone(),
                attachment: attachment.clone(),
            },
            Action::Assign {
                handle,
                eni: eni.clone(),
                family,
                kind,
                count,
            },
            Action::Unassign {
                handle,
                eni: eni.clone(),
                blocks: vec![block],
            },
            Action::Detach { handle, attachment },
            Action::Delete { handle, eni },
        ];
        let told = all.each_ref().map(asked);
        for words in &told {
            assert!(
                !words.contains(['{', '(', '"']) && !words.contains("4711"),
                "{words}"
            );
        }
        assert_eq!(
            told[2],
            "in subnet-1 with 2 /28 prefixes, for device index 1 of card 0"
        );
        assert_eq!(told[6], "10.0.3.16/28");
        assert_eq!(api(&all[5]), "AssignPrivateIpAddresses");
    }
}
