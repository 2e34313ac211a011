//! Faults that the simulation has found and that are not mended yet. Their dice are skipped by name, so
//! that nothing else hides behind them; an entry goes in the commit that mends its fault.

use crate::oracle::refusals::{EMPTY_REASON, STALE_HOLD};

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
}

/// All of them.
pub const KNOWN_FAULTS: &[KnownFault] = &[
    KnownFault {
        name: "namesakes",
        what: "a pod that ended has its link for longer than its address rests, and newer sandboxes of \
               the same pod fail over it: the address is given while the old link has it",
        waits_for: "links that are known by name and Ethernet address together",
    },
    KnownFault {
        name: "second_interface",
        what: "a further interface gets the link's name of a first one whose lease was lost or whose plugin \
               died; what ends a link by its name then ends the living one's",
        waits_for: "links that are known by name and Ethernet address together",
    },
    KnownFault {
        name: "stale prevResult",
        what: "After the store has lost a pod's lease, the late DEL of an earlier pod whose prevResult names \
               the address ends it under the pod that has it (seed 348).",
        waits_for: "a DEL's address counts only if the kernel leads it to that pod's link.",
    },
    KnownFault {
        name: "lost_store_cuts_pods",
        what: "A store that has forgotten a block takes the rules of the living pods in it away.",
        waits_for: "the kernel's own state is the start after any loss of the store",
    },
    KnownFault {
        name: "bent_at_start",
        what: "A daemon that starts while another program leads a pod's address through another pod's \
               link takes the lease for an older one, and ends it.",
        waits_for: "which of store and kernel is older is decided by more than one route",
    },
    KnownFault {
        name: RENAMED_DEL_FORGOTTEN,
        what: "a DEL under another network's name waits in memory for the pod's link to go: a daemon that \
               starts before that has forgotten it, and without a GC the lease stays (seed 925)",
        waits_for: "a DEL that waits for a link is on the disk",
    },
    KnownFault {
        name: EMPTY_REASON,
        what: "an ADD that waits until its deadline while nothing is planned is refused without a reason",
        waits_for: "a refusal that can't be built without a cause",
    },
    KnownFault {
        name: STALE_HOLD,
        what: "a back-off of minutes goes on, with pods waiting, after what EC2 refused can be had again",
        waits_for: "pods that wait try sooner, within the budget of calls",
    },
    KnownFault {
        name: "fewer slots",
        what: "an ENI carries less than its type's ENIs: the pool is filled, but what pods are told of its \
               limit is the table's",
        waits_for: "limits of the instance that its own ENIs have shown",
    },
    KnownFault {
        name: "hot loop",
        what: "a refused call is repeated within a second: one that was sent beside it has gone well, \
               and that ends the hold",
        waits_for: "a hold that only what was sent after the refusal can end",
    },
    KnownFault {
        name: "repeated create",
        what: "a CreateNetworkInterface is sent again with another date of birth after the system's \
               clock was set: EC2 refuses the token, and the ENI is forgotten",
        waits_for: "an intent that stores the whole request",
    },
    KnownFault {
        name: "lag past the window",
        what: "a Describe that is older than a minute brings back blocks and ENIs that were given back",
        waits_for: "a bound on what a Describe may add to what our own calls know",
    },
    KnownFault {
        name: "foreign ENI",
        what: "an ENI that IMDS shows and EC2 does not is taken for one of ours",
        waits_for: "belief in links that IMDS alone shows",
    },
    KnownFault {
        name: "unreached calls",
        what: "after calls that never reached EC2, pods are refused for what EC2 could give again",
        waits_for: "pods that wait try sooner, within the budget of calls",
    },
    KnownFault {
        name: "primary elsewhere",
        what: "the primary ENI is known by card 0 and device index 0",
        waits_for: "IMDS's word for which ENI is primary, in all adapters",
    },
    KnownFault {
        name: "describe without the primary",
        what: "an answer that lacks even the primary ENI is believed, and ENIs that pods use are given up",
        waits_for: "belief in Describes that lack the primary ENI",
    },
    KnownFault {
        name: "describe without an ENI",
        what: "an ENI that pods use is given up by two answers that lack it, and stays half-way when it \
               is there again",
        waits_for: "link and IMDS as witnesses before a used ENI is given up",
    },
];

/// Seeds of `cargo xtask test` that break a promise today, and which, each to be looked into: the daemon may be
/// wrong, or the judge. They are told by each run, and any other breach of theirs is a failure. A change of the
/// dice, or of the daemon, gives these numbers other stories: whoever makes one searches anew.
pub const KNOWN_SEEDS: &[(u64, Promise)] = &[
    (1672, Promise::NoEndlessHold),
    (1941, Promise::GrowthCountsInFlight),
    (2354, Promise::RefusalIsRight),
    (2391, Promise::RefusalIsRight),
    (2419, Promise::RefusalIsRight),
    (2772, Promise::DelEndsItsOwn),
    (3004, Promise::DelEndsItsOwn),
    (3016, Promise::NoShrinkInDoubt),
    (3145, Promise::OthersAreLeftAlone),
    (3147, Promise::NothingHalfWay),
    (3445, Promise::OthersAreLeftAlone),
    (3905, Promise::PodKeepsAddress),
    (2_000_000_141, Promise::SurplusGoesBack),
    (2_000_000_246, Promise::DelEndsItsOwn),
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
