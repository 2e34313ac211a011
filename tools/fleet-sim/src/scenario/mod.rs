//! One seed, one scenario: nodes, settings, troubles, pods; then peace, and the verdict.
//!
//! The same seed gives the same story, byte for byte. Nothing here decides by what the daemon thinks:
//! only by dice, by what a runtime or an operator would see, and by virtual time.

mod change;
mod chaos;
mod cut;
mod dice;
mod ground;
mod known;
mod machine;
mod operator;
pub(crate) mod places;
mod probe;
mod report;
mod runtime;
mod trouble;
mod verdict;
mod waiting;
mod wide;
mod words;

pub use cut::Cut;
pub use dice::FAMILY_SEEDS;
pub use known::{Dice, KNOWN_FAULTS, KNOWN_SEEDS, KnownFault};

use crate::oracle::{Breach, Promise};
use crate::rng::Rng;
use crate::story::Story;
use crate::world::World;
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// What came of one seed.
#[derive(Clone, Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// Broken promises, the first first; empty if all was well.
    pub breaches: Vec<Breach>,
    /// When, who, what; empty unless it was asked for.
    pub story: Vec<String>,
    /// Virtual time that passed.
    pub lasted: Duration,
    /// ADDs that were asked.
    pub adds: u64,
    /// EC2 calls that were made.
    pub calls: u64,
    /// Events that were to happen, those that were cut among them.
    pub events: u32,
}

/// Plays the scenario of a seed; `told` keeps its story.
///
/// # Panics
/// Never by what a daemon does: its panics are breaches.
#[must_use]
pub fn play(seed: u64, told: bool) -> Report {
    play_with(seed, told, Dice::default(), &Cut::default())
}

/// As [`play`], with a choice of dice, and without what is cut.
///
/// # Panics
/// As [`play`].
#[must_use]
pub fn play_with(seed: u64, told: bool, dice: Dice, cut: &Cut) -> Report {
    let story = if told {
        Story::told()
    } else {
        Story::default()
    };
    let mut report = Report {
        seed,
        breaches: Vec::new(),
        story: Vec::new(),
        lasted: Duration::ZERO,
        adds: 0,
        calls: 0,
        events: 0,
    };
    let result = catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|e| e.to_string())?;
        runtime.block_on(scene(seed, dice, cut, story.clone(), &mut report))
    }));
    report.breaches.extend(broken_off(result, report.lasted));
    report.story = story.lines();
    report
}

/// A scenario that did not come to its end.
fn broken_off(result: std::thread::Result<Result<(), String>>, at: Duration) -> Option<Breach> {
    let what = match result {
        Ok(Ok(())) => return None,
        Ok(Err(words)) => words,
        Err(panic) => format!("panic: {}", panic_words(&*panic)),
    };
    let promise = Promise::NoPanic;
    Some(Breach { at, promise, what })
}

fn panic_words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without words").to_owned()
}

async fn scene(
    seed: u64,
    dice: Dice,
    cut: &Cut,
    story: Story,
    report: &mut Report,
) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let plan = dice::throw(&mut rng, seed, dice);
    let world = World::with_story(plan.spec.clone(), story).map_err(|e| e.to_string())?;
    world.oracle().dice = dice;
    for line in words::scenario(&plan) {
        world.tell("scenario", || line);
    }
    operator::fragment(&world, &plan, &mut rng);
    ground::tell_oracle(&world, &plan);
    ground::tell_oracle(&world, &plan);
    let neighbours = ground::populate(&world, &plan, seed);
    // Instances boot, and what Describe shows has caught up with them.
    tokio::time::sleep(Duration::from_secs(120)).await;
    let mut chaos = chaos::Chaos::new(&world, plan, cut.clone(), rng)?;
    report.events = chaos.events();
    chaos.rage().await;
    if world.oracle().breaches.is_empty() {
        chaos.calm().await;
    }
    if world.oracle().breaches.is_empty() {
        verdict::judge(&world, &chaos).await;
        ground::judge(&world, &chaos, &neighbours);
    }
    report.lasted = world.elapsed();
    report.adds = chaos.machines.iter().map(machine::Machine::adds).sum();
    report.calls = world
        .vpc()
        .ec2_calls()
        .values()
        .flat_map(|by_action| by_action.values())
        .sum();
    report.breaches.append(&mut world.oracle().breaches);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_seen() {
        let at = Duration::from_secs(7);
        let caught = |work: fn() -> Result<(), String>| broken_off(catch_unwind(work), at);
        assert!(caught(|| Ok(())).is_none());
        for (work, words) in [
            ((|| panic!("no")) as fn() -> Result<(), String>, "panic: no"),
            (|| Err("no way".into()), "no way"),
        ] {
            let breach = caught(work).expect("is seen");
            assert_eq!(
                (breach.promise, breach.what.as_str()),
                (Promise::NoPanic, words)
            );
        }
    }
}
