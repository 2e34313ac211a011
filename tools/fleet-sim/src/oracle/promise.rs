//! The promises that the simulation holds the daemon to, each by name.
//!
//! Every promise has a control in `controls.rs`, `kernel/tests.rs` or beside its rule: a scene in which it is
//! broken on purpose and the oracle must say so. An oracle that can't speak would pass everything.

use std::fmt;

/// What the daemon promises. See README, "Invariants", for the words that users read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// Promise 1: an address is told to one pod at a time, on whatever node.
    NoAddressInTwoPods,
    /// An ADD that is repeated gets the same answer.
    PodKeepsAddress,
    /// A route to another link witnesses that another pod may still have the address.
    NoRouteNamesIt,
    /// By the model's own state, at the moment of the answer.
    OnWhatEc2Gave,
    /// No packet of the last pod's connections reaches the next pod.
    ConnectionsForgotten,
    /// The cooldown counts from the DEL, across restarts of the daemon.
    FreedAddressRests,
    /// The lease is on the disk when the ADD is answered.
    DurableBeforeTold,
    /// Every daemon that starts finds the leases of the living pods on its disk.
    LeaseSurvives,
    /// Every EC2 call that changes something is on the disk before it is sent, and is sent again as it
    /// was.
    IntentBeforeWrite,
    /// A count-based Assign that is repeated blindly gives twice.
    DoubtIsSettled,
    /// No Unassign, Detach or Delete of the daemon takes what a pod has.
    NotTakenFromLiving,
    /// Plus a second of grace.
    AnsweredByDeadline,
    /// Every refusal says why in words, and has a cause that programs can count.
    RefusalHasCause,
    /// Rules and tables of the address's ENI are in the kernel before the answer.
    GivenWhenServed,
    /// The core's own checker finds nothing after any turn that wrote.
    DatastoreConsistent,
    /// Whatever it is told.
    NoPanic,
    /// Nothing bought is leaked, by the model's books.
    BooksAreClean,
    /// Inspect is answered at once when nothing is wrong.
    AnswersInPeace,
    /// No intent, doubt, or ADD waits for ever.
    NothingHalfWay,
    /// At the end every living pod has its lease on the disk.
    PodKeepsLease,
    /// At the end no lease is of a pod that has ended.
    LeaseEndsWithPod,
    /// At the end its records and EC2's name the same blocks.
    KnowsWhatEc2Gave,
    /// Where its pods have IPv6 addresses.
    HasIpv6Prefix,
    /// Or a report says truly why not.
    ReachesTarget,
    /// No call that changes something in the last ten minutes of peace.
    SettledPoolIsQuiet,
    /// What the settings do not ask for goes back to EC2.
    SurplusGoesBack,
    /// An ADD does not wait while an address is free.
    WarmPoolAnswersAtOnce,
    /// Promise 2.
    GetsAddressIfItCan,
    /// Another attachment's DEL withdraws no ADD.
    WithdrawnByItsOwnDel,
    /// A rolling upgrade has plugins of the previous version for a while.
    OldPluginUnderstands,
    /// And the node-local one of the other family where the settings say so.
    EveryFamilyTold,
    /// A DEL is idempotent (CNI specification 1.1.0): only a disk that fails excuses a refusal.
    DelIsServed,
    /// However late, doubled or renamed it is.
    DelEndsItsOwn,
    /// And those of other networks, and ADDs that are under way.
    GcSparesTheListed,
    /// As soon as a lease is old enough to be judged.
    GcEndsTheUnlisted,
    /// The wiring as it was told, and none after a DEL.
    CheckTellsTheTruth,
    /// From its plugin's success to its end: link, host route, and the way out by the ENI that has its
    /// address.
    PodIsServed,
    /// No apply, sweep or reroute of the daemon takes anything that a pod is served by.
    DaemonBreaksNothing,
    /// What others take away is back a second after the daemon has heard of it; within a minute more if
    /// no event tells.
    RepairedInTime,
    /// What rests goes back to EC2 only when it has rested.
    CoolingIsNotUnassigned,
    /// Never a link or route that a living pod has, also by the name of an earlier one.
    SweepsOnlyTheDead,
    /// Once a DEL is answered, its pod's route is not put back.
    ReroutesOnlyTheLiving,
    /// What it says is so, is about what is missing, and there was no address to be had.
    RefusalIsRight,
    /// When all is well, within what EC2's latency, its buckets and the steps of growth take.
    ServedInTime,
    /// Among ADDs of a node that ask for the same.
    FirstComeFirstServed,
    /// What the pool's report says is so.
    ReportIsTrue,
    /// A back-off ends within its bound after EC2 last said so.
    NoEndlessHold,
    /// `MAX_ENI`, and what the instance type takes, ENIs on their way included.
    MaxEniKept,
    /// EC2's own rule, held against the model of it.
    SlotsKept,
    /// A daemon writes to ENIs of its own instance, or to what its cluster's dead nodes left.
    OthersAreLeftAlone,
    /// Whatever EC2 answers: see [`super::Rates`].
    CallsAreBounded,
    /// An ENI is kept for a minute at least.
    YoungEniStays,
    /// Nothing is given back of an ENI whose last Assign has no known outcome.
    NoShrinkInDoubt,
    /// What is under way counts as bought.
    GrowthCountsInFlight,
}

impl Promise {
    /// Every promise.
    pub const ALL: [Self; 54] = [
        Self::NoAddressInTwoPods,
        Self::PodKeepsAddress,
        Self::NoRouteNamesIt,
        Self::OnWhatEc2Gave,
        Self::ConnectionsForgotten,
        Self::FreedAddressRests,
        Self::DurableBeforeTold,
        Self::LeaseSurvives,
        Self::IntentBeforeWrite,
        Self::DoubtIsSettled,
        Self::NotTakenFromLiving,
        Self::AnsweredByDeadline,
        Self::RefusalHasCause,
        Self::GivenWhenServed,
        Self::DatastoreConsistent,
        Self::NoPanic,
        Self::BooksAreClean,
        Self::AnswersInPeace,
        Self::NothingHalfWay,
        Self::PodKeepsLease,
        Self::LeaseEndsWithPod,
        Self::KnowsWhatEc2Gave,
        Self::HasIpv6Prefix,
        Self::ReachesTarget,
        Self::SettledPoolIsQuiet,
        Self::SurplusGoesBack,
        Self::WarmPoolAnswersAtOnce,
        Self::GetsAddressIfItCan,
        Self::WithdrawnByItsOwnDel,
        Self::OldPluginUnderstands,
        Self::EveryFamilyTold,
        Self::DelIsServed,
        Self::DelEndsItsOwn,
        Self::GcSparesTheListed,
        Self::GcEndsTheUnlisted,
        Self::CheckTellsTheTruth,
        Self::PodIsServed,
        Self::DaemonBreaksNothing,
        Self::RepairedInTime,
        Self::CoolingIsNotUnassigned,
        Self::SweepsOnlyTheDead,
        Self::ReroutesOnlyTheLiving,
        Self::RefusalIsRight,
        Self::ServedInTime,
        Self::FirstComeFirstServed,
        Self::ReportIsTrue,
        Self::NoEndlessHold,
        Self::MaxEniKept,
        Self::SlotsKept,
        Self::OthersAreLeftAlone,
        Self::CallsAreBounded,
        Self::YoungEniStays,
        Self::NoShrinkInDoubt,
        Self::GrowthCountsInFlight,
    ];

    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::NoAddressInTwoPods => "no address in two pods",
            Self::PodKeepsAddress => "a living pod keeps its address",
            Self::NoRouteNamesIt => "an address is given only when no route names it",
            Self::OnWhatEc2Gave => "a lease is on what EC2 gave to this node",
            Self::ConnectionsForgotten => "connections are forgotten before an address is given",
            Self::FreedAddressRests => "a freed address rests",
            Self::DurableBeforeTold => "a lease is durable before it is told",
            Self::LeaseSurvives => "a lease that was told survives",
            Self::IntentBeforeWrite => "a durable intent before every write",
            Self::DoubtIsSettled => "an Assign in doubt is settled before the next",
            Self::NotTakenFromLiving => "no address is taken from a living pod",
            Self::AnsweredByDeadline => "an ADD is answered by its deadline",
            Self::RefusalHasCause => "a refusal carries a cause",
            Self::GivenWhenServed => "an address is given when the host serves it",
            Self::DatastoreConsistent => "the datastore is consistent",
            Self::NoPanic => "the engine does not panic",
            Self::BooksAreClean => "the books of the VPC are clean",
            Self::AnswersInPeace => "a daemon answers in peace",
            Self::NothingHalfWay => "nothing is half-way in the end",
            Self::PodKeepsLease => "a living pod keeps its lease",
            Self::LeaseEndsWithPod => "a lease ends with its pod",
            Self::KnowsWhatEc2Gave => "the daemon knows what EC2 gave",
            Self::HasIpv6Prefix => "a node has its IPv6 prefix",
            Self::ReachesTarget => "the pool reaches its target",
            Self::SettledPoolIsQuiet => "a settled pool writes nothing to EC2",
            Self::SurplusGoesBack => "a surplus is given back",
            Self::WarmPoolAnswersAtOnce => "a warm pool answers at once",
            Self::GetsAddressIfItCan => "a pod that can get an address gets it",
            Self::WithdrawnByItsOwnDel => "an ADD is withdrawn by its own DEL only",
            Self::OldPluginUnderstands => "a plugin is told only what it can carry out",
            Self::EveryFamilyTold => "a pod has an address of each family",
            Self::DelIsServed => "a DEL is served at once",
            Self::DelEndsItsOwn => "a DEL ends its own attachment only",
            Self::GcSparesTheListed => "a GC spares what is listed",
            Self::GcEndsTheUnlisted => "a GC ends what is not listed",
            Self::CheckTellsTheTruth => "a CHECK tells the truth",
            Self::PodIsServed => "a living pod is served",
            Self::DaemonBreaksNothing => "the daemon breaks no living pod",
            Self::RepairedInTime => "what others break is repaired in time",
            Self::CoolingIsNotUnassigned => "a cooling address is not given back",
            Self::SweepsOnlyTheDead => "only what dead pods left is swept",
            Self::ReroutesOnlyTheLiving => "only living pods' routes are put back",
            Self::RefusalIsRight => "a refusal is right",
            Self::ServedInTime => "an ADD is served in time",
            Self::FirstComeFirstServed => "first come, first served",
            Self::ReportIsTrue => "a report is true",
            Self::NoEndlessHold => "nothing is held up for ever",
            Self::MaxEniKept => "never more ENIs than allowed",
            Self::SlotsKept => "no ENI holds more than it has slots",
            Self::OthersAreLeftAlone => "what is others' is left alone",
            Self::CallsAreBounded => "EC2 is asked within bounds",
            Self::YoungEniStays => "a young ENI is not given back",
            Self::NoShrinkInDoubt => "nothing is given back in doubt",
            Self::GrowthCountsInFlight => "growth counts what is under way",
        }
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

#[cfg(test)]
mod tests;
