//! What the plan waits for, and why nothing more is done: data first, words at the end.

use crate::cloud::CloudError;
use crate::{BlockKind, EniHandle, SubnetId, Timestamp};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// One thing that the plan waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// EC2 has not told yet which ENIs there are.
    Unknown,
    /// IMDS, which tells whom to ask EC2 about, does not answer.
    NoMetadata(String, Option<Timestamp>),
    /// The daemon's state can't be written, and nothing is begun without it: why.
    Unwritten(String),
    /// `DISABLE_NETWORK_RESOURCE_PROVISIONING`
    NotProvisioning,
    /// This many addresses are missing and being asked for.
    Growing(u32),
    /// This many more are wanted, and asked for a little later: others may be missing by then, and share the call.
    Later(u32),
    /// This many addresses are there and can't be given yet: their ENI is being attached or wired.
    Arriving(u32),
    /// What the kernel routes is not known yet, or not any more: nobody is given an address before.
    KernelUnread,
    /// The IPv6 prefix is missing and being asked for.
    GrowingIpv6,
    /// The instance takes no more, at its settings.
    AtLimit {
        /// ENIs that may be attached.
        enis: u32,
        /// Blocks on each.
        blocks_per_eni: u32,
        /// Whether `MAX_ENI` is the lower limit.
        by_setting: bool,
    },
    /// A back-off.
    Held {
        /// What EC2 said.
        error: CloudError,
        /// Where, if it is one subnet's matter.
        subnet: Option<SubnetId>,
        /// Which kind of block.
        kind: Option<BlockKind>,
        /// Next try.
        until: Timestamp,
    },
    /// An ENI's last write has no known outcome.
    InDoubt(EniHandle, Timestamp),
    /// EC2 has not told yet in which subnets pods may have addresses.
    SubnetsUnknown,
    /// The subnets can't be listed: new ENIs go where the primary ENI is, or where they are set to.
    Undiscovered {
        /// What EC2 said.
        error: CloudError,
        /// Next try.
        until: Timestamp,
    },
    /// The tags leave no subnet for a new ENI.
    NoSubnet,
    /// `IPAMD_SUBNET_IDS` names it, and EC2 does not list it among those of this VPC and zone.
    NotInZone(SubnetId),
    /// Free addresses are there, but resting.
    Cooling(u32, Timestamp),
    /// Prefixes are wanted but this instance type has none.
    NoPrefixesHere,
    /// Pods are to have IPv6 addresses, which are the primary ENI's, but its subnet gives pods none.
    NoIpv6InSubnet(SubnetId),
    /// Pods are to have IPv6 addresses but this instance type has no IPv6 prefixes.
    NoIpv6Here,
    /// More than the targets ask for; given back at this time if it stays so.
    Surplus(u32, Timestamp),
}

impl Note {
    /// The label in logs, metrics and answers.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unknown => "ec2_not_answered",
            Self::NoMetadata(..) => "imds_unreachable",
            Self::Unwritten(_) => "store_failed",
            Self::NotProvisioning => "provisioning_disabled",
            Self::Growing(_) | Self::GrowingIpv6 | Self::Arriving(_) => "growing",
            Self::Later(_) => "growing_later",
            Self::KernelUnread => "kernel_not_read",
            Self::AtLimit { .. } => "instance_limit",
            Self::Held { error, .. } => error.class.label(),
            Self::InDoubt(..) => "in_doubt",
            Self::SubnetsUnknown => "ec2_not_answered",
            Self::Undiscovered { .. } => "subnets_not_listed",
            Self::NoSubnet | Self::NoIpv6InSubnet(_) => "no_subnet",
            Self::NotInZone(_) => "subnet_not_in_zone",
            Self::Cooling(..) => "cooling",
            Self::NoPrefixesHere => "prefix_unsupported",
            Self::NoIpv6Here => "ipv6_unsupported",
            Self::Surplus(..) => "surplus",
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str("EC2 has not told yet which ENIs this instance has"),
            Self::NoMetadata(error, next) => {
                write!(f, "the instance metadata service does not answer: {error}")?;
                next.map_or(Ok(()), |next| write!(f, "; next try {next}"))
            }
            Self::Unwritten(error) => write!(
                f,
                "ipamd could not write its state: {error}; without it nothing is leased and EC2 is \
                 asked for nothing"
            ),
            Self::NotProvisioning => f.write_str(
                "every address is in use, and DISABLE_NETWORK_RESOURCE_PROVISIONING forbids to get \
                 more: one is free when a pod ends",
            ),
            Self::Growing(0) => f.write_str("asking EC2 for more addresses"),
            Self::GrowingIpv6 => f.write_str("asking EC2 for an IPv6 prefix"),
            Self::Growing(n) => write!(f, "asking EC2 for {n} more addresses"),
            Self::Later(n) => write!(
                f,
                "{n} more addresses are wanted, and asked for a little later"
            ),
            Self::Arriving(n) => write!(
                f,
                "{n} addresses are on their way: their ENI is being attached or wired"
            ),
            Self::KernelUnread => f.write_str("the kernel's routes have not been read yet"),
            Self::AtLimit {
                enis,
                blocks_per_eni,
                by_setting,
            } => write!(
                f,
                "{} {enis} ENIs with {blocks_per_eni} addresses or prefixes each, and the node has \
                 them all: one more is free when a pod ends{}",
                if *by_setting {
                    "MAX_ENI allows"
                } else {
                    "this instance type takes"
                },
                if *by_setting {
                    ", or with a higher MAX_ENI"
                } else {
                    ""
                },
            ),
            Self::Held {
                error,
                subnet,
                kind,
                until,
            } => {
                if let Some(subnet) = subnet {
                    write!(f, "{subnet}: ")?;
                }
                if *kind == Some(BlockKind::Prefix) {
                    f.write_str("no /28 prefix: ")?;
                }
                write!(f, "{} ({error}); next try {until}", error.meaning())
            }
            Self::InDoubt(eni, until) => {
                write!(
                    f,
                    "a call on ENI #{} was not answered, and EC2 may have done it; EC2 is asked at \
                     {until}",
                    eni.0
                )
            }
            Self::SubnetsUnknown => {
                f.write_str("EC2 has not told yet in which subnets pods may have addresses")
            }
            Self::Undiscovered { error, until } => write!(
                f,
                "the subnets can't be listed, so new ENIs go to the primary ENI's or to those of \
                 IPAMD_SUBNET_IDS: {error}; next try {until}"
            ),
            Self::NoSubnet => f.write_str(
                "no subnet of this zone may be used for a new ENI (tag kubernetes.io/role/cni, or \
                 IPAMD_SUBNET_IDS)",
            ),
            Self::NotInZone(subnet) => {
                write!(f, "{subnet} is not a subnet of this VPC and zone")
            }
            Self::Cooling(n, until) => {
                write!(
                    f,
                    "{n} released addresses are resting; the first is free at {until}"
                )
            }
            Self::NoPrefixesHere => f.write_str(
                "this instance type takes no prefixes (not Nitro); single addresses are used",
            ),
            Self::NoIpv6InSubnet(subnet) => write!(
                f,
                "ENABLE_IPv6 is set, and IPv6 addresses are the primary ENI's, but the tags of {subnet} \
                 keep pods out of it"
            ),
            Self::NoIpv6Here => f.write_str(
                "ENABLE_IPv6 is set, and this instance type takes no IPv6 prefixes (not Nitro)",
            ),
            Self::Surplus(n, at) => {
                write!(
                    f,
                    "{n} addresses more than the targets ask for; given back from {at}"
                )
            }
        }
    }
}

/// Everything that a plan has to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "an unread report helps nobody"]
pub struct Report {
    /// In the order in which they were found.
    pub notes: Vec<Note>,
    /// Of the ADDs that wait, so many get nothing from what is there or on its way.
    pub unmet: u32,
    /// Addresses that the kernel may let go of at any moment: released, but still routed.
    pub held: u32,
    /// The earliest time at which that may change by itself.
    pub retry_at: Option<Timestamp>,
}

impl Report {
    pub(crate) fn note(&mut self, note: Note) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// The notes that stand in the way of an ADD, as words.
    #[must_use]
    pub fn why(&self) -> String {
        let mut text = String::new();
        for note in self
            .notes
            .iter()
            .filter(|n| !matches!(n, Note::Surplus(..) | Note::Later(_)))
        {
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(&note.to_string());
        }
        text
    }

    /// The label of the note that stands in the way most.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        let mut worst: Option<&Note> = None;
        // What is put off stands in nobody's way: for pods nothing is.
        for note in self.notes.iter().filter(|n| !matches!(n, Note::Later(_))) {
            if worst.is_none_or(|worst| note.weight() > worst.weight()) {
                worst = Some(note);
            }
        }
        worst.map_or("pool_empty", Note::label)
    }
}

impl Note {
    /// How much it explains that an ADD gets nothing: what a person has to act on comes before what
    /// passes by itself, and a missing prefix before nothing, since single addresses do as well.
    const fn weight(&self) -> u32 {
        match self {
            Self::Surplus(..) | Self::Later(_) | Self::NoPrefixesHere => 0,
            Self::Growing(_)
            | Self::GrowingIpv6
            | Self::Arriving(_)
            | Self::Undiscovered { .. }
            | Self::NotInZone(_) => 1,
            Self::Unknown | Self::SubnetsUnknown | Self::KernelUnread => 2,
            Self::Held {
                kind: Some(BlockKind::Prefix),
                ..
            } => 3,
            Self::AtLimit { .. } => 4,
            Self::Cooling(..) => 5,
            Self::NotProvisioning | Self::InDoubt(..) => 6,
            Self::Held { .. }
            | Self::NoMetadata(..)
            | Self::NoSubnet
            | Self::NoIpv6Here
            | Self::NoIpv6InSubnet(_) => 7,
            Self::Unwritten(_) => 8,
        }
    }
}
