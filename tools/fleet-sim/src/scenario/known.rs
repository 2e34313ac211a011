//! Faults that the simulation has found and that are not mended yet. Their dice are skipped by name, so
//! that nothing else hides behind them; an entry goes in the commit that mends its fault.

use crate::oracle::refusals::EMPTY_REASON;

/// Asked for by name in the verdict.
pub(super) const RENAMED_DEL_FORGOTTEN: &str = "renamed DEL over a restart";

use crate::oracle::Promise;

/// A fault that waits for its mending.
#[derive(Clone, Copy, Debug)]
pub struct KnownFault {
    /// The name by which dice ask for it.
    pub name: &'static str,
    /// What happens.
    pub what: &'static str,
    /// What it waits for.
    pub waits_for: &'static str,
    /// The promise that it breaks.
    pub breaks: Promise,
    /// A seed that has shown it: the search begins there.
    pub seed: u64,
}

/// All of them.
pub const KNOWN_FAULTS: &[KnownFault] = &[
    KnownFault {
        name: "stale prevResult",
        what: "After the store has lost a pod's lease, the late DEL of an earlier pod whose prevResult names \
               the address ends it under the pod that has it.",
        waits_for: "a DEL's address counts only if the kernel leads it to that pod's link.",
        breaks: Promise::NoAddressInTwoPods,
        seed: 1911,
    },
    KnownFault {
        name: "bent_at_start",
        what: "A daemon that starts while another program leads a pod's address through another pod's \
               link takes the lease for an older one, and ends it.",
        waits_for: "which of store and kernel is older is decided by more than one route",
        breaks: Promise::DelEndsItsOwn,
        seed: 74,
    },
    KnownFault {
        name: RENAMED_DEL_FORGOTTEN,
        what: "a DEL under another network's name waits in memory for the pod's link to go: a daemon that \
               starts before that has forgotten it, and without a GC the lease stays (seed 925)",
        waits_for: "a DEL that waits for a link is on the disk",
        breaks: Promise::LeaseEndsWithPod,
        seed: 925,
    },
    KnownFault {
        name: EMPTY_REASON,
        what: "an ADD that waits until its deadline while nothing is planned is refused without a reason",
        waits_for: "a refusal that can't be built without a cause",
        breaks: Promise::RefusalIsRight,
        seed: 3899,
    },
    KnownFault {
        name: "repeated create",
        what: "a CreateNetworkInterface is sent again with another date of birth after the system's \
               clock was set: EC2 refuses the token, and the ENI is forgotten",
        waits_for: "an intent that stores the whole request",
        breaks: Promise::IntentBeforeWrite,
        seed: 554,
    },
    KnownFault {
        name: "lag past the window",
        what: "a Describe that is older than a minute brings back blocks and ENIs that were given back",
        waits_for: "a bound on what a Describe may add to what our own calls know",
        breaks: Promise::CoolingIsNotUnassigned,
        seed: 1007,
    },
];

/// Seeds of `cargo xtask test` that break a promise today, and which, each to be looked into: the daemon may be
/// wrong, or the judge. They are told by each run, and any other breach of theirs is a failure. A change of the
/// dice, or of the daemon, gives these numbers other stories: whoever makes one searches anew.
pub const KNOWN_SEEDS: &[(u64, Promise)] = &[
    (504, Promise::RefusalIsRight),
    (1025, Promise::CoolingIsNotUnassigned),
    (1070, Promise::ReachesTarget),
    (1672, Promise::NoEndlessHold),
    (2072, Promise::RefusalIsRight),
    (2724, Promise::RefusalIsRight),
    (3288, Promise::RefusalIsRight),
    (3380, Promise::ServedInTime),
    (3444, Promise::RefusalIsRight),
    (2_000_000_072, Promise::ServedInTime),
];

/// Which dice are thrown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dice {
    /// Those of [`KNOWN_FAULTS`], too.
    pub known: bool,
    /// Of these, the one of this name.
    pub only: Option<&'static str>,
}

impl Dice {
    /// Whether this kind of trouble may come. Kinds that no known fault names always may.
    pub(crate) fn allow(self, name: &str) -> bool {
        let known = KNOWN_FAULTS.iter().any(|fault| fault.name == name);
        !known || self.known || self.only == Some(name)
    }
}
