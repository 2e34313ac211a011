//! Promise: nothing is lost and nothing doubled, whatever dies and whatever fails, all at the same
//! time. The real daemon and the real plugin, a kill about every second, EC2 and IMDS in all their
//! moods; `STORM_SEED` replays a storm as far as the machine's own timing allows.

use ipamd_tests::storm::{AFTERMATH, Storm, calm, one_look, ready_again, seed};
use ipamd_tests::{Mode, Outcome, Scene, ensure, eventually, fail, no_leftovers, none_wrong, spec};
use lab::check;
use lab::snapshot::Snapshot;
use std::process::Command;
use std::time::Duration;
use vpc_sim::NetNs;
use vpc_sim::testing::{Failure, Test, run_side_by_side};

fn main() -> std::process::ExitCode {
    let tests = [
        Test {
            name: "the_witness_sees",
            run: witness,
        },
        Test {
            name: "storm_over_addresses",
            run: addresses,
        },
        Test {
            name: "storm_over_prefixes",
            run: prefixes,
        },
    ];
    run_side_by_side(&tests, 3, Duration::from_secs(400))
}

/// The witness of the storms is none that sees nothing.
fn witness() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    scene.add_pods(2)?;
    ensure(
        one_look(&scene)?.is_empty(),
        "all is well, and it sees more",
    )?;
    let (Some(address), Some(link)) = (scene.pods[0].address(), scene.pods[1].host_link()) else {
        return fail("a pod without an address or a link");
    };
    let host = format!("{address}/32");
    let ip = |net: &NetNs, words: &[&str]| -> Result<(), Failure> {
        let mut command = Command::new("ip");
        command.args(words);
        let done = net.output(command)?;
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        ensure(done.status.success(), said)
    };
    let sees = |scene: &Scene, words: &str| -> Outcome {
        let seen = one_look(scene)?;
        let found = seen.iter().any(|line| line.contains(words));
        ensure(found, format!("no word of \"{words}\": {seen:?}"))
    };
    let Some(pod) = scene.pods[1].netns.as_ref().map(|n| n.net().clone()) else {
        return fail("a pod without a namespace");
    };
    ip(&pod, &["address", "add", &host, "dev", "eth0"])?;
    sees(&scene, "and in")?;
    ip(&pod, &["address", "del", &host, "dev", "eth0"])?;
    let node = scene.cluster.nodes()[0].sim().net();
    let route = ["route", "add", &host, "dev", &link, "metric", "77"];
    ip(&node, &route)?;
    sees(&scene, "is routed by")?;
    ip(
        &node,
        &["route", "del", &host, "dev", &link, "metric", "77"],
    )?;
    ip(&pod, &["address", "add", "10.0.0.2/32", "dev", "eth0"])?;
    sees(&scene, "EC2 no longer gives 10.0.0.2")?;
    ip(&pod, &["address", "del", "10.0.0.2/32", "dev", "eth0"])?;
    // A handle keeps a namespace, and its link on the host.
    drop(pod);
    scene.nothing_is_left()
}

fn addresses() -> Outcome {
    storm(Mode::Secondary, "m5.2xlarge")
}

fn prefixes() -> Outcome {
    storm(Mode::Prefix, "m5.large")
}

/// Free addresses that are wanted.
const WARM: u32 = 3;

fn storm(mode: Mode, instance_type: &str) -> Outcome {
    let storm = Storm {
        seed: seed(),
        lasts: Duration::from_secs(30),
        workers: 4,
        pods_each: 6,
    };
    let mut spec = spec(mode, instance_type)?;
    // Addresses come back soon and often, and the pool grows and shrinks all the time.
    for (name, value) in [
        ("IP_COOLDOWN_PERIOD", "3"),
        ("WARM_IP_TARGET", &WARM.to_string()),
    ] {
        spec.daemon = spec.daemon.set(name, value);
    }
    let mut scene = Scene::ready(spec)?;
    let tally = storm.blow(&mut scene)?;
    calm(storm, &tally)?;
    ready_again(&mut scene)?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.add_pods(3)?;
    scene.all_agree()?;
    scene.del_pods()?;
    no_leftovers(&scene.cluster.nodes()[0])?;
    // A restart within a boot leaves EC2 alone for ten minutes. After a reboot nothing is left of what
    // made the pool keep more: it comes down to the target, by steps of half a minute and a minute.
    scene.node().stop()?;
    scene.node().new_boot("after the storm");
    ready_again(&mut scene)?;
    let target = match mode {
        Mode::Prefix => 16,
        _ => WARM,
    };
    let enough = |pool: &Snapshot| {
        let t = pool.totals;
        t.used == 0 && t.held == 0 && t.free >= WARM && t.addresses <= target
    };
    let pool = scene
        .node()
        .wait_pool(2 * AFTERMATH, "a pool at its target", enough)?;
    ensure(pool.parked == 0, format!("{} ADDs still wait", pool.parked))?;
    scene.settled()?;
    // So soon after the last write a Describe may lag: what it shows is believed a minute later.
    eventually(
        AFTERMATH,
        || Ok(check::bought(&scene.cluster)?),
        Vec::is_empty,
        none_wrong,
    )?;
    scene.nothing_is_left()
}
