//! Each known fault is there: with its dice alone some seed breaks the promise that it is said to break. When one is
//! mended, its entry goes.
#![allow(clippy::tests_outside_test_module)]

use fleet_sim::scenario::{Cut, Dice, KNOWN_FAULTS, KNOWN_SEEDS, KnownFault, play_with};

/// Seeds within which a known fault shows, from the one that has shown it.
const SEEDS: u64 = 1_500;

/// Not by a seed that is red for another reason.
fn shows(fault: &KnownFault, seed: u64) -> bool {
    let dice = Dice {
        only: Some(fault.name),
        ..Dice::default()
    };
    let listed = KNOWN_SEEDS.iter().any(|(known, _)| *known == seed);
    let report = (!listed).then(|| play_with(seed, false, dice, &Cut::default()));
    let first = report.and_then(|report| report.breaches.into_iter().next());
    first.is_some_and(|breach| breach.promise == fault.breaks)
}

#[test]
fn each_known_fault_shows() {
    let missing = |faults: &'static [KnownFault]| -> Vec<&str> {
        let hides = |fault: &&KnownFault| {
            let mut seeds = fault.seed..fault.seed + SEEDS;
            !seeds.any(|seed| shows(fault, seed))
        };
        faults
            .iter()
            .filter(hides)
            .map(|fault| fault.name)
            .collect()
    };
    let (one, other) = KNOWN_FAULTS.split_at(KNOWN_FAULTS.len() / 2);
    let missing = std::thread::scope(|scope| {
        let one = scope.spawn(|| missing(one));
        let mut all = missing(other);
        all.extend(one.join().expect("ends"));
        all
    });
    assert!(missing.is_empty(), "mended, or hidden: {missing:?}");
}
