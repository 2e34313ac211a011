use super::*;
use alloc::format;
use alloc::vec;

const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn me() -> InstanceId {
    "i-m".into()
}

fn attached(instance: &str) -> Sighting {
    Sighting {
        id: format!("eni-of-{instance}").as_str().into(),
        instance: instance.into(),
        free: false,
        created: None,
    }
}

fn orphan(id: &str, age_s: Option<u64>) -> Sighting {
    Sighting {
        id: id.into(),
        instance: "i-dead".into(),
        free: true,
        created: age_s.map(|s| NOW - Duration::from_secs(s)),
    }
}

#[test]
fn only_old_free_strangers_are_deleted() {
    let ahead = Sighting {
        created: Some(NOW + Duration::from_secs(9000)),
        ..orphan("eni-ahead", None)
    };
    let seen = [
        attached("i-m"),
        attached("i-dead"),
        orphan("eni-young", Some(299)),
        orphan("eni-old", Some(300)),
        orphan("eni-oldest", Some(9000)),
        orphan("eni-mine", Some(9000)),
        orphan("eni-undated", None),
        ahead,
    ];
    let verdict = judge(&seen, &me(), |id| id.as_str() == "eni-mine", |_| None, NOW);
    assert_eq!(verdict.delete, ["eni-oldest".into(), "eni-old".into()]);
    assert_eq!(verdict.undated, ["eni-undated".into()]);
    assert_eq!(verdict.ripe_at, Some(NOW + Duration::from_secs(1)));
    assert!(!verdict.uncounted);
}

#[test]
fn an_eni_of_the_future_is_as_old_as_its_first_sight() {
    let ahead = Sighting {
        created: Some(NOW + Duration::from_secs(90_000)),
        ..orphan("eni-ahead", None)
    };
    // (seen so many seconds ago, deleted, to be looked at so many seconds later)
    for (ago, deleted, later) in [
        (None, false, Some(300)),
        (Some(1), false, Some(299)),
        (Some(299), false, Some(1)),
        (Some(300), true, None),
    ] {
        let seen = |_: &EniId| ago.map(|s| NOW - Duration::from_secs(s));
        let verdict = judge(core::slice::from_ref(&ahead), &me(), |_| false, seen, NOW);
        assert_eq!(verdict.delete.len(), usize::from(deleted), "{ago:?}");
        let at = later.map(|s| NOW + Duration::from_secs(s));
        assert_eq!(verdict.ripe_at, at, "{ago:?}");
    }
    // A date in the past is the age, whatever was seen.
    let young = orphan("eni-young", Some(10));
    let seen = |_: &EniId| Some(NOW - Duration::from_secs(9000));
    let verdict = judge(&[young], &me(), |_| false, seen, NOW);
    assert!(verdict.delete.is_empty());
}

#[test]
fn a_look_deletes_a_bounded_number() {
    let seen: Vec<Sighting> = (0..DELETES_MAX + 7)
        .map(|n| orphan(&format!("eni-{n}"), Some(1000)))
        .collect();
    assert_eq!(
        judge(&seen, &me(), |_| false, |_| None, NOW).delete.len(),
        DELETES_MAX
    );
}

#[test]
fn nodes_are_counted_by_their_attached_enis() {
    // (attached ENIs' instances, nodes, rank, uncounted)
    let table = [
        (vec![], 1, 0, true),
        (vec!["i-m"], 1, 0, false),
        (vec!["i-a", "i-a", "i-m", "i-m", "i-z"], 3, 1, false),
        (vec!["i-a", "i-b", "i-z"], 4, 2, true),
    ];
    for (instances, nodes, rank, uncounted) in table {
        let mut seen: Vec<Sighting> = instances.iter().map(|i| attached(i)).collect();
        seen.push(orphan("eni-1", Some(1)));
        let verdict = judge(&seen, &me(), |_| false, |_| None, NOW);
        assert_eq!(verdict.fleet, Fleet { nodes, rank }, "{instances:?}");
        assert_eq!(verdict.uncounted, uncounted, "{instances:?}");
    }
}

#[test]
fn each_slot_is_one_nodes() {
    for nodes in [1, 2, 3, 200] {
        let looks: BTreeSet<u64> = (0..nodes)
            .map(|rank| {
                let at = next_look(Fleet { nodes, rank }, None, NOW, 0.999);
                assert!(at > NOW);
                at.0 / 120_000
            })
            .collect();
        assert_eq!(
            looks.len(),
            nodes as usize,
            "a slot with two of {nodes} nodes"
        );
        let first = NOW.0 / 120_000 + 1;
        assert_eq!(looks, (first..first + u64::from(nodes)).collect());
    }
}

#[test]
fn what_was_too_young_is_looked_at_again() {
    let fleet = Fleet {
        nodes: 500,
        rank: 3,
    };
    let ripe = NOW + Duration::from_secs(100);
    let at = next_look(fleet, Some(ripe), NOW, 0.5);
    assert_eq!(at, ripe + Duration::from_secs(15));
    // Overdue already: soon, not in the past.
    assert!(next_look(fleet, Some(NOW - SLOT), NOW, 0.0) >= NOW);
}

#[test]
fn the_first_look_comes_in_time_and_a_warm_start_is_quiet() {
    let fleet = Fleet { nodes: 3, rank: 1 };
    for jitter in [0.0, 0.5, 1.0] {
        let cold = first_look(false, None, NOW, jitter).since(NOW);
        assert!(cold >= SLOT && cold <= 4 * SLOT, "{cold:?}");
        for fleet in [None, Some(fleet)] {
            let warm = first_look(true, fleet, NOW, jitter).since(NOW);
            assert!(warm >= QUIET_START && warm <= 3 * QUIET_START, "{warm:?}");
        }
    }
}
