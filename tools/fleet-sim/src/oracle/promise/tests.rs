//! Each promise has its negative control: something that breaks it, and of which the oracle must say so. A
//! promise without one does not compile.

use super::Promise;
use crate::mutants::{Fate, table};
use crate::scenario::KNOWN_FAULTS;
use std::path::Path;

/// What breaks a promise on purpose.
enum Control {
    /// This test of this file of the crate.
    Test(&'static str, &'static str),
    /// A deliberate mistake, played by `cargo xtask mutants`.
    Mutant(&'static str),
    /// A fault of the daemon that is known and not mended yet: `tests/known.rs` sees it break this promise.
    Known(&'static str),
}

use Control::{Known, Mutant, Test};

const fn control(promise: Promise) -> Control {
    match promise {
        Promise::NoAddressInTwoPods => Test("answers_to_adds", "oracle/controls.rs"),
        Promise::PodKeepsAddress => Test("answers_to_adds", "oracle/controls.rs"),
        Promise::NoRouteNamesIt => Test("answers_to_adds", "oracle/controls.rs"),
        Promise::OnWhatEc2Gave => Test("answers_to_adds", "oracle/controls.rs"),
        Promise::ConnectionsForgotten => Test("answers_to_adds", "oracle/controls.rs"),
        Promise::FreedAddressRests => Test("freed_addresses_rest", "oracle/controls.rs"),
        Promise::DurableBeforeTold => Test("answers_to_adds", "oracle/controls.rs"),
        Promise::LeaseSurvives => Test("leases_survive_a_start", "oracle/controls.rs"),
        Promise::IntentBeforeWrite => Test(
            "a_create_is_repeated_as_another_request",
            "oracle/pool/tests.rs",
        ),
        Promise::DoubtIsSettled => Test("calls_to_ec2", "oracle/controls.rs"),
        Promise::NotTakenFromLiving => Test("calls_to_ec2", "oracle/controls.rs"),
        Promise::AnsweredByDeadline => Test("refusals_and_silence", "oracle/controls.rs"),
        Promise::RefusalHasCause => Test("refusals_and_silence", "oracle/controls.rs"),
        Promise::GivenWhenServed => Mutant("host/failure-is-not-wired"),
        Promise::DatastoreConsistent => Mutant("judge/check-double-lease"),
        Promise::NoPanic => Test("a_panic_is_seen", "scenario/mod.rs"),
        Promise::BooksAreClean => Test("a_leak_is_seen", "scenario/verdict/tests.rs"),
        Promise::AnswersInPeace => Test(
            "a_daemon_that_answers_nothing_is_seen",
            "scenario/verdict/tests.rs",
        ),
        Promise::NothingHalfWay => Test(
            "what_is_half_way_for_ever_is_seen",
            "scenario/verdict/tests.rs",
        ),
        Promise::PodKeepsLease => Test(
            "pods_and_leases_that_do_not_fit_are_seen",
            "scenario/verdict/tests.rs",
        ),
        Promise::LeaseEndsWithPod => Test(
            "pods_and_leases_that_do_not_fit_are_seen",
            "scenario/verdict/tests.rs",
        ),
        Promise::KnowsWhatEc2Gave => Test(
            "what_ec2_gave_and_nobody_knows_is_seen",
            "scenario/verdict/tests.rs",
        ),
        Promise::HasIpv6Prefix => Test(
            "targets_that_are_missed_are_seen",
            "scenario/verdict/tests.rs",
        ),
        Promise::ReachesTarget => Test(
            "targets_that_are_missed_are_seen",
            "scenario/verdict/tests.rs",
        ),
        Promise::SettledPoolIsQuiet => Test(
            "targets_that_are_missed_are_seen",
            "scenario/verdict/tests.rs",
        ),
        Promise::SurplusGoesBack => Test(
            "targets_that_are_missed_are_seen",
            "scenario/verdict/tests.rs",
        ),
        Promise::WarmPoolAnswersAtOnce => Test(
            "a_warm_pool_that_refuses_or_waits_is_seen",
            "scenario/verdict/tests.rs",
        ),
        Promise::GetsAddressIfItCan => Test(
            "a_warm_pool_that_refuses_or_waits_is_seen",
            "scenario/verdict/tests.rs",
        ),
        Promise::WithdrawnByItsOwnDel => Test("refusals_and_silence", "oracle/controls.rs"),
        Promise::OldPluginUnderstands => Test("what_plugins_understand", "oracle/controls.rs"),
        Promise::EveryFamilyTold => Test("what_plugins_understand", "oracle/controls.rs"),
        Promise::DelIsServed => Test("refusals_and_silence", "oracle/controls.rs"),
        Promise::DelEndsItsOwn => Test("dels_and_gcs", "oracle/controls.rs"),
        Promise::GcSparesTheListed => Test("dels_and_gcs", "oracle/controls.rs"),
        Promise::GcEndsTheUnlisted => Test("dels_and_gcs", "oracle/controls.rs"),
        Promise::CheckTellsTheTruth => Test("checks", "oracle/controls.rs"),
        Promise::PodIsServed => Test("a_pod_that_comes_up_unserved_is_seen", "kernel/tests.rs"),
        Promise::DaemonBreaksNothing => Test("a_rule_that_shadows_is_seen", "kernel/tests.rs"),
        Promise::RepairedInTime => Test("a_repair_that_does_not_come_is_seen", "kernel/tests.rs"),
        Promise::CoolingIsNotUnassigned => {
            Test("what_rests_and_is_given_back_is_seen", "kernel/tests.rs")
        }
        Promise::SweepsOnlyTheDead => Test("a_namesakes_link_is_not_swept", "kernel/tests.rs"),
        Promise::ReroutesOnlyTheLiving => {
            Test("a_released_pods_route_put_back_is_seen", "kernel/tests.rs")
        }
        Promise::RefusalIsRight => Known("empty reason"),
        Promise::ServedInTime => Test(
            "a_pod_that_waits_too_long_is_seen",
            "scenario/verdict/tests.rs",
        ),
        Promise::FirstComeFirstServed => Test(
            "who_comes_later_and_is_served_first_is_seen",
            "oracle/order.rs",
        ),
        Promise::ReportIsTrue => Test(
            "reports_that_are_not_so_are_seen",
            "scenario/verdict/tests.rs",
        ),
        Promise::NoEndlessHold => Test(
            "reports_that_are_not_so_are_seen",
            "scenario/verdict/tests.rs",
        ),
        Promise::MaxEniKept => Test(
            "more_enis_than_the_type_or_the_setting_allows",
            "oracle/pool/tests.rs",
        ),
        Promise::SlotsKept => Test(
            "more_addresses_than_an_eni_has_slots",
            "oracle/pool/tests.rs",
        ),
        Promise::OthersAreLeftAlone => Test("what_is_others_is_written_to", "oracle/pool/tests.rs"),
        Promise::CallsAreBounded => {
            Test("a_refused_call_is_repeated_at_once", "oracle/rate/tests.rs")
        }
        Promise::YoungEniStays => {
            Test("an_eni_goes_as_soon_as_it_is_there", "oracle/pool/tests.rs")
        }
        Promise::NoShrinkInDoubt => Test(
            "something_goes_while_an_assign_is_in_doubt",
            "oracle/pool/tests.rs",
        ),
        Promise::GrowthCountsInFlight => {
            Test("more_is_bought_than_is_needed", "oracle/pool/tests.rs")
        }
    }
}

#[test]
fn each_promise_has_a_control() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for promise in Promise::ALL {
        match control(promise) {
            Test(name, file) => {
                let source = std::fs::read_to_string(root.join(file)).expect("is there");
                assert!(
                    source.contains(&format!("fn {name}(")),
                    "{promise:?}: {file} has no {name}"
                );
            }
            Mutant(name) => {
                let noticed = table().any(|m| m.name == name && m.fate == Fate::Noticed);
                assert!(noticed, "{promise:?}: no mistake {name} is noticed");
            }
            Known(name) => {
                let breaks = |fault: &&crate::scenario::KnownFault| fault.name == name;
                let fault = KNOWN_FAULTS.iter().find(breaks).expect("is known");
                assert_eq!(fault.breaks, promise, "{name}");
            }
        }
    }
}
