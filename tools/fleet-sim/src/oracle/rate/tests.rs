//! Controls: calls that are too many are told of, others are not.

use super::*;
use vpc_model::request::{AssignPrivateIpAddresses, WantedV4};

fn assign(count: u32) -> Action {
    Action::AssignPrivateIpAddresses(AssignPrivateIpAddresses {
        eni: "eni-1".into(),
        wanted: WantedV4 {
            address_count: Some(count),
            ..WantedV4::default()
        },
        allow_reassignment: false,
    })
}

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn broken(oracle: &Oracle) -> bool {
    let bound = |p| p == Promise::CallsAreBounded;
    assert!(oracle.breaches.iter().all(|b| bound(b.promise)));
    !oracle.breaches.is_empty()
}

#[test]
fn a_refused_call_is_repeated_at_once() {
    for (after, count, is_broken) in [(999, 5, true), (1_000, 5, false), (500, 2, false)] {
        let mut oracle = Oracle::default();
        oracle.refused(ms(20), "n", &assign(5), ms(0));
        oracle.refused(ms(after + 20), "n", &assign(count), ms(after));
        assert_eq!(broken(&oracle), is_broken, "{count} after {after} ms");
    }
    // One that was granted in between changes what can be had.
    let mut oracle = Oracle::default();
    oracle.refused(ms(20), "n", &assign(5), ms(0));
    oracle.granted("n", &assign(2));
    oracle.refused(ms(520), "n", &assign(5), ms(500));
    assert!(!broken(&oracle));
    // Side by side is one decision; another run knows nothing of it.
    let mut oracle = Oracle::default();
    oracle.refused(ms(20), "n", &assign(5), ms(0));
    oracle.refused(ms(21), "n", &assign(5), ms(1));
    oracle.rates_anew("n");
    oracle.refused(ms(50), "n", &assign(5), ms(30));
    assert!(!broken(&oracle));
}

#[test]
fn calls_are_refused_all_the_time() {
    for (count, is_broken) in [(36, false), (37, true)] {
        let mut oracle = Oracle::default();
        for n in 0..count {
            let sent = ms(1_600 * n);
            let size = 1 + u32::try_from(n % 2).unwrap_or(0);
            oracle.refused(sent + ms(20), "n", &assign(size), sent);
        }
        assert_eq!(broken(&oracle), is_broken, "{count}");
    }
}

#[test]
fn calls_go_on_side_by_side_after_a_refusal_for_the_rate() {
    let name = "AssignPrivateIpAddresses";
    for (answer, is_broken) in [
        (None, true),
        (Some(Answer::Other), false),
        (Some(Answer::SlowDown), false),
        (Some(Answer::Done), false),
    ] {
        let mut oracle = Oracle::default();
        oracle.paces(ms(0), "n", name);
        oracle.paced(ms(20), "n", name, Answer::SlowDown);
        oracle.paces(ms(2_000), "n", name);
        if let Some(answer) = answer {
            oracle.paced(ms(2_020), "n", name, answer);
        }
        oracle.paces(ms(4_000), "n", name);
        assert_eq!(broken(&oracle), is_broken, "{answer:?}");
    }
    // Much later nothing is known of it any more, and other actions have buckets of their own.
    let mut oracle = Oracle::default();
    oracle.paced(ms(20), "n", name, Answer::SlowDown);
    for _ in 0..2 {
        oracle.paces(ms(1_000), "n", "CreateNetworkInterface");
        oracle.paces(ms(30_000), "n", name);
    }
    assert!(!broken(&oracle));
}
