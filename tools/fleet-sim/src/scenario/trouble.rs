//! Kinds of trouble, and the faults that EC2 is given.

use crate::rng::Rng;
use std::time::Duration;
use vpc_model::{Effect, Fault};

/// One kind of thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Pods come.
    Pods,
    /// `kill -9`.
    Kill,
    /// A stop and a start, perhaps with other settings.
    Restart,
    /// Another boot.
    Reboot,
    /// The store comes back older than it was.
    GoBack,
    /// EC2 misbehaves.
    Ec2,
    /// Calls are held up before EC2 sees them.
    Road,
    /// IMDS lags, lies or is silent.
    Imds,
    /// Somebody does something by hand.
    Operator,
    /// A link goes, or links come back.
    Link,
    /// Commits fail.
    Disk,
    /// Other programs change the kernel; it loses events, takes its time, refuses.
    Kernel,
    /// An instance ends.
    Terminate,
}

impl Trouble {
    pub(super) const ALL: [Self; 13] = [
        Self::Pods,
        Self::Kill,
        Self::Restart,
        Self::Reboot,
        Self::GoBack,
        Self::Ec2,
        Self::Road,
        Self::Imds,
        Self::Operator,
        Self::Link,
        Self::Disk,
        Self::Kernel,
        Self::Terminate,
    ];

    pub(super) const fn weight(self) -> u64 {
        match self {
            Self::Pods => 40,
            Self::Kill | Self::Restart => 8,
            Self::Ec2 => 14,
            Self::Road | Self::Imds | Self::Operator | Self::Disk => 5,
            Self::GoBack | Self::Link => 4,
            Self::Kernel => 12,
            Self::Reboot => 3,
            Self::Terminate => 1,
        }
    }

    /// Some scenarios are without it.
    pub(super) const fn optional(self) -> bool {
        !matches!(self, Self::Pods)
    }
}

/// The fault that is EC2's next.
pub(super) fn fault(rng: &mut Rng) -> Fault {
    let action = *rng.pick(&[
        "*",
        "Assign*",
        "Assign*",
        "Unassign*",
        "Create*",
        "Attach*",
        "Detach*",
        "Delete*",
        "Modify*",
        "Describe*",
    ]);
    let effect = match rng.range(0, 9) {
        0..=2 => Effect::DropAnswer,
        3 => Effect::Throttle,
        4 => Effect::Delay {
            ms: rng.range(500, 16_000),
        },
        5 => Effect::Stale {
            ms: rng.range(1_000, 30_000),
        },
        _ => refusal(rng, action),
    };
    let action = match effect {
        Effect::Stale { .. } => "Describe*",
        _ => action,
    };
    let mut fault = Fault::new(action, effect).times(rng.count(1, 4));
    fault.after = rng.count(0, 2);
    fault
}

/// Codes as EC2 has them: for any action, and for some.
fn refusal(rng: &mut Rng, action: &str) -> Effect {
    let any: &[(&str, &str, u16)] = &[
        ("InternalError", "An internal error has occurred", 500),
        ("Unavailable", "The service is unavailable", 503),
        ("UnauthorizedOperation", "You are not authorized", 403),
        ("SomethingNew", "Nobody has seen this yet", 400),
    ];
    let special: &[(&str, &str, u16)] = match action {
        "Assign*" => &[
            (
                "InsufficientCidrBlocks",
                "The specified subnet does not have enough free cidr blocks to satisfy the request.",
                400,
            ),
            (
                "InsufficientFreeAddressesInSubnet",
                "The specified subnet does not have enough free addresses to satisfy the request.",
                400,
            ),
            (
                "PrivateIpAddressLimitExceeded",
                "Number of private addresses will exceed limit.",
                400,
            ),
            (
                "InvalidNetworkInterfaceID.NotFound",
                "The networkInterface ID does not exist",
                400,
            ),
        ],
        "Create*" => &[
            (
                "InvalidParameterValue",
                "There aren't sufficient free Ipv4 addresses or prefixes",
                400,
            ),
            ("InsufficientFreeAddressesInSubnet", "no room", 400),
            (
                "NetworkInterfaceLimitExceeded",
                "The maximum number of network interfaces has been reached.",
                400,
            ),
        ],
        "Attach*" => &[
            (
                "AttachmentLimitExceeded",
                "Interface count 4 exceeds the limit",
                400,
            ),
            (
                "InvalidParameterValue",
                "Instance 'i-0' already has an interface attached at device index '1'.",
                400,
            ),
            (
                "InvalidNetworkInterfaceID.NotFound",
                "The networkInterface ID does not exist",
                400,
            ),
        ],
        "Detach*" | "Delete*" | "Modify*" => &[("IncorrectState", "not now", 400)],
        _ => &[],
    };
    let both: Vec<_> = any.iter().chain(special).collect();
    let (code, message, http_status) = **rng.pick(&both);
    Effect::Fail {
        code: code.into(),
        message: message.into(),
        http_status,
    }
}

/// Times for calls that are held up: some longer than anybody waits.
pub(super) fn hold_ups(rng: &mut Rng) -> Vec<Duration> {
    (0..rng.range(1, 3))
        .map(|_| rng.millis(100, 16_000))
        .collect()
}
