//! How many pods a node takes: the number that the kubelet is told as `maxPods`.
//!
//! The formula is the one of the well-known `max-pods-calculator.sh`, with two corrections: bare metal
//! takes prefixes, and what can't be negative isn't.

use super::{ADDRESSES_PER_PREFIX, InstanceLimits};
use alloc::vec::Vec;
use core::fmt;

/// Pods that need no address of the pool: two in the host's network on every node, the CNI's own
/// DaemonSet and kube-proxy.
pub const HOST_NETWORK_PODS: u32 = 2;

/// The caps that EKS recommends (and managed node groups apply): up to this many vCPUs, and beyond.
const SMALL_VCPUS: u32 = 30;
const CAP_SMALL: u32 = 110;
const CAP_LARGE: u32 = 250;

/// How the cluster's addresses are managed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MaxPodsInput {
    /// Pods have IPv6 addresses alone: one prefix has more than any node can use.
    pub ipv6: bool,
    /// Each slot of an ENI takes a /28 instead of one address, where the instance can.
    pub prefixes: bool,
    /// Pods live in other subnets than the node: the primary ENI gives them no address.
    pub custom_networking: bool,
    /// `MAX_ENI`: use no more ENIs than this, the primary one among them.
    pub max_eni: Option<u32>,
    /// What the addresses allow, without the recommended caps.
    pub show_max_allowed: bool,
}

/// The answer and the way to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxPods {
    /// For the kubelet. At least [`HOST_NETWORK_PODS`].
    pub pods: u32,
    /// Each thing that decided it, in order. `Display` says it in words.
    pub steps: Vec<Step>,
}

/// One thing that decided the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The type is not in the table: the limits are guesses.
    UnknownType,
    /// IPv6 addresses are no limit.
    Ipv6,
    /// The default network card's ENIs; `other_cards` more cards are not counted.
    Enis {
        /// ENIs on it
        enis: u32,
        /// Cards besides it
        other_cards: u32,
    },
    /// `MAX_ENI` allows fewer ENIs.
    MaxEni {
        /// ENIs left
        enis: u32,
    },
    /// Custom networking takes the primary ENI away.
    CustomNetworking {
        /// ENIs left
        enis: u32,
    },
    /// Slots for pods on each ENI: all but that of its primary address.
    Slots {
        /// of one ENI
        per_eni: u32,
    },
    /// Each slot holds a /28.
    Prefixes,
    /// Prefixes are wanted, but the instance takes none: neither Nitro nor bare metal.
    NoPrefixes,
    /// What the addresses allow, with the pods in the host's network.
    Allowed {
        /// Addresses for pods
        addresses: u32,
        /// With [`HOST_NETWORK_PODS`]
        pods: u32,
    },
    /// The recommended cap for this many vCPUs.
    Cap {
        /// `None`: not known, capped as a small instance
        vcpus: Option<u32>,
        /// Pods
        cap: u32,
    },
    /// The cap was not wanted.
    Uncapped,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::UnknownType => {
                f.write_str("instance type not in the table: conservative limits, not EC2's")
            }
            Self::Ipv6 => f.write_str("IPv6: one /80 prefix has addresses for any number of pods"),
            Self::Enis {
                enis,
                other_cards: 0,
            } => write!(f, "{enis} ENIs"),
            Self::Enis { enis, other_cards } => {
                write!(
                    f,
                    "{enis} ENIs on the default network card ({other_cards} more not used)"
                )
            }
            Self::MaxEni { enis } => write!(f, "{enis} ENIs, as the ENI maximum is set"),
            Self::CustomNetworking { enis } => {
                write!(
                    f,
                    "{enis} ENIs for pods: with custom networking the primary gives none"
                )
            }
            Self::Slots { per_eni } => {
                write!(f, "{per_eni} slots per ENI besides its primary address")
            }
            Self::Prefixes => write!(f, "{ADDRESSES_PER_PREFIX} addresses per slot: /28 prefixes"),
            Self::NoPrefixes => {
                f.write_str("1 address per slot: only Nitro and bare metal take prefixes")
            }
            Self::Allowed { addresses, pods } => write!(
                f,
                "{addresses} addresses + {HOST_NETWORK_PODS} pods in the host's network = {pods}"
            ),
            Self::Cap {
                vcpus: Some(n),
                cap,
            } => {
                write!(f, "at most {cap} recommended on {n} vCPUs")
            }
            Self::Cap { vcpus: None, cap } => {
                write!(
                    f,
                    "at most {cap} recommended, as the number of vCPUs is not known"
                )
            }
            Self::Uncapped => f.write_str("no cap by vCPUs, as asked"),
        }
    }
}

/// The number of pods that a node of these limits takes.
///
/// `ENIs x (IPv4 per ENI - 1) [x 16] + 2`, then 110 at most with up to 30 vCPUs and 250 with more. With
/// IPv6 alone only the latter counts.
#[must_use]
pub fn max_pods(limits: &InstanceLimits, input: &MaxPodsInput) -> MaxPods {
    let mut steps = Vec::new();
    if !limits.known {
        steps.push(Step::UnknownType);
    }
    if input.ipv6 {
        steps.push(Step::Ipv6);
        return capped(limits, u32::MAX, steps);
    }
    let enis = enis_for_pods(limits, input, &mut steps);
    let per_eni = limits.ipv4_per_eni.saturating_sub(1);
    steps.push(Step::Slots { per_eni });
    let per_slot = match (input.prefixes, limits.prefixes) {
        (true, true) => {
            steps.push(Step::Prefixes);
            ADDRESSES_PER_PREFIX
        }
        (true, false) => {
            steps.push(Step::NoPrefixes);
            1
        }
        (false, _) => 1,
    };
    let addresses = enis.saturating_mul(per_eni).saturating_mul(per_slot);
    let allowed = addresses.saturating_add(HOST_NETWORK_PODS);
    steps.push(Step::Allowed {
        addresses,
        pods: allowed,
    });
    if input.show_max_allowed {
        steps.push(Step::Uncapped);
        return MaxPods {
            pods: allowed,
            steps,
        };
    }
    capped(limits, allowed, steps)
}

fn capped(limits: &InstanceLimits, allowed: u32, mut steps: Vec<Step>) -> MaxPods {
    let cap = if limits.vcpus.is_some_and(|n| n > SMALL_VCPUS) {
        CAP_LARGE
    } else {
        CAP_SMALL
    };
    steps.push(Step::Cap {
        vcpus: limits.vcpus,
        cap,
    });
    MaxPods {
        pods: allowed.min(cap),
        steps,
    }
}

fn enis_for_pods(limits: &InstanceLimits, input: &MaxPodsInput, steps: &mut Vec<Step>) -> u32 {
    let mut enis = limits.enis;
    let cards = u32::try_from(limits.card_enis.len()).unwrap_or(u32::MAX);
    steps.push(Step::Enis {
        enis,
        other_cards: cards.saturating_sub(1),
    });
    if let Some(most) = input.max_eni.filter(|&most| most < enis) {
        enis = most;
        steps.push(Step::MaxEni { enis });
    }
    if input.custom_networking {
        enis = enis.saturating_sub(1);
        steps.push(Step::CustomNetworking { enis });
    }
    enis
}
