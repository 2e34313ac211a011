//! Each known fault is there: with its dice alone some seed is red. When one is mended, its entry goes.
#![allow(clippy::tests_outside_test_module)]

use fleet_sim::scenario::{Cut, Dice, KNOWN_FAULTS, play_with};

/// Seeds within which a known fault shows.
const SEEDS: u64 = 2_000;

#[test]
fn each_known_fault_shows() {
    for fault in KNOWN_FAULTS {
        let dice = Dice {
            only: Some(fault.name),
            ..Dice::default()
        };
        let red = |seed: &u64| {
            let report = play_with(*seed, false, dice, &Cut::default());
            !report.breaches.is_empty()
        };
        let seed = (0..SEEDS).find(red);
        let name = fault.name;
        assert!(
            seed.is_some(),
            "{name} is mended: {SEEDS} seeds are well with its dice"
        );
    }
}
