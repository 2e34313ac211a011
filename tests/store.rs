//! Promise: the kernel saves us when the store lies. sled 0.34 opens a damaged file and says nothing;
//! no live pod's address may be offered all the same.

use ipamd_tests::{Mode, Outcome, SOON, Scene, ensure, none_wrong, spec};
use lab::{Patience, check, state};
use vpc_sim::testing::{Test, run};

/// Places of damage, spread over every file of the store.
const PLACES: usize = 20;

fn main() -> std::process::ExitCode {
    run(&[
        Test {
            name: "flipped_bits",
            run: flipped_bits,
        },
        Test {
            name: "cuts",
            run: cuts,
        },
        Test {
            name: "no_state_at_all",
            run: nothing_stored,
        },
    ])
}

fn flipped_bits() -> Outcome {
    damage(|bytes, at| {
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 0x10;
        }
    })
}

fn cuts() -> Outcome {
    damage(Vec::truncate)
}

fn nothing_stored() -> Outcome {
    let mut scene = live()?;
    scene.node().kill();
    state::write(&scene.cluster.nodes()[0], Vec::new())?;
    restart_and_add(&mut scene, "an empty state directory")?;
    scene.nothing_is_left()
}

/// A node with live pods, and room for more. No cooldown: an address that is believed free is
/// given at once.
fn live() -> Result<Scene, vpc_sim::testing::Failure> {
    let mut spec = spec(Mode::Prefix, "m5.large")?;
    spec.daemon = spec.daemon.set("IP_COOLDOWN_PERIOD", "0");
    // No purchases: this is about what is there. A purchase whose intent is then overwritten by
    // this test's own hand would be lost by it.
    spec.vpc.nodes[0].launch_prefixes = 3;
    let mut scene = Scene::ready(spec)?;
    scene.add_pods(10)?;
    scene.settled()?;
    Ok(scene)
}

fn damage(harm: impl Fn(&mut Vec<u8>, usize)) -> Outcome {
    let mut scene = live()?;
    scene.node().kill();
    let good = state::read(&scene.cluster.nodes()[0])?;
    let total: usize = good.iter().map(|(_, bytes)| bytes.len()).sum();
    ensure(total > 0, "no state was found to damage")?;
    for place in 0..PLACES {
        let mut bad = good.clone();
        let mut at = total * (2 * place + 1) / (2 * PLACES);
        let mut what = String::new();
        for (path, bytes) in &mut bad {
            if at < bytes.len() {
                what = format!("{} at byte {at} of {}", path.display(), bytes.len());
                harm(bytes, at);
                break;
            }
            at -= bytes.len();
        }
        state::write(&scene.cluster.nodes()[0], bad)?;
        restart_and_add(&mut scene, &what)?;
        scene.node().kill();
    }
    state::write(&scene.cluster.nodes()[0], good)?;
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    scene.nothing_is_left()
}

/// Three new pods on the damaged store, beside the live ones; then they go.
fn restart_and_add(scene: &mut Scene, what: &str) -> Outcome {
    let told = |e: &dyn std::fmt::Display| format!("{what}: {e}");
    scene.node().start()?;
    if let Err(e) = scene.node().wait_ready(SOON) {
        return ipamd_tests::fail(told(&e));
    }
    let live = scene.pods.len();
    let mut new = scene.make_pods(3)?;
    let tally = scene.runtime.add_all(&mut new, 3, Patience::NONE, |_| ())?;
    ensure(
        tally.failed_adds.is_empty(),
        format!("{what}: {:?}", tally.failed_adds),
    )?;
    scene.pods.append(&mut new);
    let mut wrongs = check::no_address_twice(&scene.pods)?;
    wrongs.extend(check::pods_as_told(&scene.pods)?);
    none_wrong(wrongs).map_err(|e| vpc_sim::testing::Failure::Wrong(told(&e)))?;
    let mut new = scene.pods.split_off(live);
    let tally = scene.runtime.del_all(&mut new, 3)?;
    ensure(
        tally.failed_dels.is_empty(),
        format!("{what}: {:?}", tally.failed_dels),
    )
}
