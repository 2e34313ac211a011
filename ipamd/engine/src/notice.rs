//! What a person must know: one closed list, each with its label, its words and whom it is about.
//!
//! The words say what happened, why, and what happens next or what to do. Nothing here tells
//! anybody: [`crate::ports::Cluster`] does.

use ipam_core::cloud::CloudError;
use ipam_core::{Block, BlockKind, InstanceId, PodRef, SubnetId, Timestamp, Unmanaged};
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// As it should be, but good to know.
    Info,
    /// Something does not work, or will not for long.
    Warning,
    /// Pods suffer.
    Error,
}

/// A pod whose address EC2 took away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostPod {
    /// Which.
    pub pod: PodRef,
    /// The address that does not work any more.
    pub address: IpAddr,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// EC2 no longer names an ENI on which leases stand.
    EniLost {
        /// EC2's name of it.
        eni: String,
        /// Whose addresses went with it.
        pods: Vec<LostPod>,
    },
    /// EC2 does not name an ENI that pods use, and the kernel or IMDS still shows it.
    EniDoubted {
        /// EC2's name of it.
        eni: String,
        /// Pods that have addresses on it.
        leases: u32,
    },
    /// EC2 no longer names a block in which leases stand.
    BlockLost {
        /// Its ENI.
        eni: String,
        /// Which.
        block: Block,
        /// Whose addresses went with it.
        pods: Vec<LostPod>,
    },
    /// An ENI went that nobody used.
    EniGone(String),
    /// A block went that nobody used.
    BlockGone(String, Block),
    /// An ENI of this instance is left alone.
    Unmanaged {
        /// Which.
        eni: String,
        /// Why.
        why: Unmanaged,
        /// Leases that stand on it from before: they stay.
        leases: u32,
    },
    /// EC2 refused a call that lies in a person's hands: rights, a full subnet, a limit.
    Refused {
        /// What EC2 said.
        error: CloudError,
        /// Where, if it is one subnet's matter.
        subnet: Option<(SubnetId, BlockKind)>,
        /// When it is tried again.
        next: Option<Timestamp>,
    },
    /// The outcome of a write is unknown for longer than EC2's lag explains.
    InDoubt {
        /// Its ENI.
        eni: String,
        /// Since when.
        since: Timestamp,
    },
    /// Part of the stored state could not be read.
    StoreDamaged(String),
    /// The state can't be written: no lease can be made or ended.
    StoreFailed(String),
    /// The stored state is another instance's.
    OtherInstance {
        /// Whose it was.
        stored: InstanceId,
        /// Who we are.
        ours: InstanceId,
    },
    /// The kernel routes addresses to pods that no lease names.
    UnknownPods(usize),
    /// A stored lease names an address that the kernel routes to another pod.
    LeaseOfAnother(String),
    /// Nothing is known of this instance type.
    UnknownInstanceType(String),
    /// `ENABLE_V6_EGRESS` is set, and the node has no IPv6 address.
    NoEgress,
    /// IMDS does not answer.
    NoMetadata(String),
    /// The node's side of the datapath can't be made.
    HostNotWired(String),
    /// Connections of finished pods can't be removed from the kernel's memory.
    ConnectionsStay {
        /// What the kernel said.
        why: String,
        /// It never can; else it is tried again.
        for_good: bool,
    },
    /// Another program changes links, addresses, routes or rules that are ours.
    ForeignTool {
        /// What was found, and where.
        what: String,
        /// The program, as far as its traces tell.
        tool: &'static str,
        /// Whether it was undone.
        undone: bool,
    },
}

impl Notice {
    /// The label in logs, metrics and events: the same for all of a kind.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::EniLost { .. } => "eni_lost",
            Self::EniDoubted { .. } => "eni_doubted",
            Self::BlockLost { .. } => "block_lost",
            Self::EniGone(_) => "eni_gone",
            Self::BlockGone(..) => "block_gone",
            Self::Unmanaged { .. } => "eni_unmanaged",
            Self::Refused { error, .. } => error.class.label(),
            Self::InDoubt { .. } => "in_doubt",
            Self::StoreDamaged(_) => "store_damaged",
            Self::StoreFailed(_) => "store_failed",
            Self::OtherInstance { .. } => "other_instance",
            Self::UnknownPods(_) => "unknown_pods",
            Self::LeaseOfAnother(_) => "lease_of_another",
            Self::UnknownInstanceType(_) => "unknown_instance_type",
            Self::NoEgress => "no_egress",
            Self::NoMetadata(_) => "imds_unreachable",
            Self::HostNotWired(_) => "host_not_wired",
            Self::ConnectionsStay { .. } => "connections_stay",
            Self::ForeignTool { .. } => "host_tool",
        }
    }

    /// How bad it is.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        match self {
            Self::EniLost { .. }
            | Self::BlockLost { .. }
            | Self::StoreFailed(_)
            | Self::StoreDamaged(_)
            | Self::LeaseOfAnother(_)
            | Self::HostNotWired(_) => Severity::Error,
            Self::Unmanaged { leases: 0, .. } => Severity::Info,
            _ => Severity::Warning,
        }
    }

    /// The pods that it is about; about the node alone if there are none.
    #[must_use]
    pub fn pods(&self) -> &[LostPod] {
        match self {
            Self::EniLost { pods, .. } | Self::BlockLost { pods, .. } => pods,
            _ => &[],
        }
    }

    /// Two notices with the same key are the same news.
    #[must_use]
    pub fn key(&self) -> (&'static str, String) {
        let what = match self {
            Self::EniLost { eni, .. } | Self::InDoubt { eni, .. } => eni.clone(),
            Self::BlockLost { eni, block, .. } | Self::BlockGone(eni, block) => {
                format!("{eni} {block}")
            }
            Self::EniGone(eni) | Self::EniDoubted { eni, .. } => eni.clone(),
            Self::Unmanaged { eni, why, .. } => format!("{eni} {why:?}"),
            Self::Refused { error, subnet, .. } => match subnet {
                Some((subnet, _)) => subnet.to_string(),
                None => error.permission(),
            },
            Self::LeaseOfAnother(what)
            | Self::StoreDamaged(what)
            | Self::UnknownInstanceType(what)
            | Self::ForeignTool { what, .. } => what.clone(),
            Self::StoreFailed(_)
            | Self::OtherInstance { .. }
            | Self::UnknownPods(_)
            | Self::NoEgress
            | Self::NoMetadata(_)
            | Self::HostNotWired(_) => String::new(),
            Self::ConnectionsStay { for_good, .. } => for_good.to_string(),
        };
        (self.label(), what)
    }

    /// After how long the same news is told again; `None`: once is enough.
    pub(crate) const fn again_after(&self) -> Option<Duration> {
        match self {
            Self::Unmanaged { .. }
            | Self::UnknownInstanceType(_)
            | Self::NoEgress
            | Self::ConnectionsStay { for_good: true, .. }
            | Self::OtherInstance { .. }
            | Self::StoreDamaged(_)
            | Self::LeaseOfAnother(_) => None,
            // Each is an event of its own, and rare.
            Self::EniLost { .. }
            | Self::BlockLost { .. }
            | Self::EniGone(_)
            | Self::BlockGone(..) => Some(Duration::from_secs(60)),
            _ => Some(Duration::from_secs(900)),
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EniLost { eni, pods } => {
                write!(
                    f,
                    "{eni} is gone from this instance, and with it the addresses of "
                )?;
                names(f, pods)?;
                f.write_str(
                    "; these pods have no network any more and must be replaced (ipamd \
                             does not detach ENIs that pods use: somebody or something else did)",
                )
            }
            Self::EniDoubted { eni, leases } => write!(
                f,
                "EC2's answers no longer name {eni}, on which {leases} pods have addresses, while its \
                 link or IMDS still shows it: it is kept as it is, and EC2 is asked again"
            ),
            Self::BlockLost { eni, block, pods } => {
                write!(
                    f,
                    "{block} is no longer assigned to {eni}; it was in use by "
                )?;
                names(f, pods)?;
                f.write_str(
                    "; these pods have no network any more and must be replaced (ipamd \
                             does not unassign what pods use: somebody or something else did)",
                )
            }
            Self::EniGone(eni) => write!(
                f,
                "{eni} is gone from this instance, not by ipamd's doing; no pod used it, and the \
                 pool is filled up again"
            ),
            Self::BlockGone(eni, block) => write!(
                f,
                "{block} is no longer assigned to {eni}, not by ipamd's doing; no pod used it, and \
                 the pool is filled up again"
            ),
            Self::Unmanaged { eni, why, leases } => {
                write!(f, "{eni} is left alone: {}", why.words())?;
                if *leases > 0 {
                    write!(
                        f,
                        "; {leases} pods have addresses on it and keep them, and it gives no new ones"
                    )?;
                }
                Ok(())
            }
            Self::Refused {
                error,
                subnet,
                next,
            } => refused(f, error, subnet.as_ref(), *next),
            Self::InDoubt { eni, since } => write!(
                f,
                "whether a call on {eni} was carried out is not known since {since}; EC2 is asked \
                 again and again, and {eni} gets no new addresses until it has told"
            ),
            Self::StoreDamaged(what) => write!(
                f,
                "part of the stored state could not be read and is put aside: {what}; the kernel \
                 and EC2 are asked for what is missing"
            ),
            Self::StoreFailed(error) => write!(
                f,
                "the state can't be written: {error}; until it can, no pod gets or gives back an \
                 address; see to the disk under IPAMD_STATE_DIR"
            ),
            Self::OtherInstance { stored, ours } => write!(
                f,
                "the stored state is that of {stored}, and this is {ours} (an image made of a node \
                 that ran?); it is dropped"
            ),
            Self::UnknownPods(n) => write!(
                f,
                "the kernel routes {n} addresses to pods that no lease names; they are given to \
                 nobody until those pods end"
            ),
            Self::LeaseOfAnother(key) => write!(
                f,
                "the stored lease of {key} names an address that another pod has; the stored \
                 lease is older than the truth and is dropped"
            ),
            Self::UnknownInstanceType(name) => write!(
                f,
                "nothing is known of instance type {name:?}; it is taken to have few ENIs and \
                 addresses, until a newer ipamd knows it"
            ),
            Self::NoEgress => f.write_str(
                "ENABLE_V6_EGRESS is set, and this node's primary ENI has no IPv6 address: pods get \
                 no IPv6 address of the node's own until it has one",
            ),
            Self::NoMetadata(error) => write!(
                f,
                "the instance metadata service does not answer: {error}; it is asked again"
            ),
            Self::HostNotWired(error) => write!(
                f,
                "the node's rules and routes could not be made: {error}; it is tried again, and \
                 new addresses are not given until it works"
            ),
            Self::ConnectionsStay {
                why,
                for_good: true,
            } => write!(
                f,
                "connections of finished pods can't be removed from the kernel's memory: {why}; \
                 their addresses are given again after the cooldown alone, and a new pod may meet \
                 an old one's connections"
            ),
            Self::ConnectionsStay { why, .. } => write!(
                f,
                "connections of finished pods could not be removed from the kernel's memory: {why}; \
                 it is tried again, and their addresses are given last"
            ),
            Self::ForeignTool { what, tool, undone } => write!(
                f,
                "{what}, probably by {tool}; {}; tell {tool} to leave this node's ENIs alone",
                if *undone {
                    "it was undone"
                } else {
                    "it was left as it is"
                }
            ),
        }
    }
}

fn refused(
    f: &mut fmt::Formatter<'_>,
    error: &CloudError,
    subnet: Option<&(SubnetId, BlockKind)>,
    next: Option<Timestamp>,
) -> fmt::Result {
    if let Some((subnet, _)) = subnet {
        write!(f, "{subnet}: ")?;
    }
    write!(f, "{} ({error})", error.meaning())?;
    if let Some(next) = next {
        write!(f, "; next try {next}")?;
    }
    Ok(())
}

/// The first few by name, the rest by number.
fn names(f: &mut fmt::Formatter<'_>, pods: &[LostPod]) -> fmt::Result {
    const SOME: usize = 5;
    for (n, lost) in pods.iter().take(SOME).enumerate() {
        let comma = if n > 0 { ", " } else { "" };
        let (pod, ip) = (&lost.pod, lost.address);
        if pod.name.is_empty() {
            write!(f, "{comma}{ip}")?;
        } else {
            write!(f, "{comma}{}/{} ({ip})", pod.namespace, pod.name)?;
        }
    }
    match pods.len().saturating_sub(SOME) {
        0 => Ok(()),
        more => write!(f, " and {more} more"),
    }
}
