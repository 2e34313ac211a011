//! Promise: whatever dies, an address is never in two pods, none is taken from a pod that has it, and
//! nothing is lost.

use ipamd_tests::{Mode, Outcome, SOON, Scene, ensure, fail, none_wrong, spec, succeeded};
use lab::{LabError, Patience, check};
use std::time::{Duration, Instant};
use vpc_model::{Effect, Fault};
use vpc_sim::testing::{Test, run};

fn main() -> std::process::ExitCode {
    run(&[
        Test {
            name: "killed_with_adds_in_flight_prefixes",
            run: killed_prefixes,
        },
        Test {
            name: "killed_with_adds_in_flight_addresses",
            run: killed_addresses,
        },
        Test {
            name: "killed_while_growing",
            run: killed_while_growing,
        },
        Test {
            name: "stopped_in_order",
            run: stopped,
        },
        Test {
            name: "restart_asks_ec2_for_nothing_it_waits_for",
            run: warm_restart,
        },
        Test {
            name: "cooldown_outlives_a_restart",
            run: cooldown,
        },
        Test {
            name: "a_reboot_drops_leases",
            run: reboot,
        },
        Test {
            name: "another_instances_state_is_not_used",
            run: golden_image,
        },
        Test {
            name: "another_instances_state_of_this_boot",
            run: golden_image_same_boot,
        },
        Test {
            name: "stopped_while_buying_an_eni",
            run: stopped_while_buying,
        },
        Test {
            name: "flushed_rules_come_back",
            run: flushed_rules,
        },
    ])
}

fn killed_prefixes() -> Outcome {
    killed_in_flight(Mode::Prefix)
}

fn killed_addresses() -> Outcome {
    killed_in_flight(Mode::Secondary)
}

/// Three rounds: ADDs at once, the daemon killed at another moment of each, started again; the
/// runtime tries again as runtimes do.
fn killed_in_flight(mode: Mode) -> Outcome {
    let mut scene = Scene::ready(spec(mode, "m5.large")?)?;
    for round in 0..3 {
        let mut pods = scene.make_pods(8)?;
        let runtime = scene.runtime.clone();
        let patience = Patience {
            retry_after: Duration::from_millis(300),
            limit: Duration::from_secs(30),
        };
        let (first_up, heard) = std::sync::mpsc::channel();
        let adds = std::thread::spawn(move || {
            let tally = runtime.add_all(&mut pods, 8, patience, |_| {
                // Nobody listens after the first.
                let _ = first_up.send(());
            });
            (pods, tally)
        });
        if round > 0 && heard.recv_timeout(SOON).is_err() {
            return fail("no pod came up");
        }
        std::thread::sleep(Duration::from_millis(2 * round));
        scene.node().kill();
        scene.node().start()?;
        let Ok((mut pods, tally)) = adds.join() else {
            return fail("the ADDs' thread panicked");
        };
        tally?;
        let down = pods.iter().filter(|p| !p.is_up()).count();
        ensure(
            down == 0,
            format!("round {round}: {down} pods did not come up"),
        )?;
        scene.pods.append(&mut pods);
        none_wrong(check::no_address_twice(&scene.pods)?)?;
        scene.node().wait_ready(SOON)?;
        scene.all_agree()?;
    }
    scene.all_reach()?;
    scene.nothing_is_left()
}

/// Killed between EC2's work and its answer, again and again: what EC2 gave is found again, and
/// nothing is asked for twice.
fn killed_while_growing() -> Outcome {
    let mut scene = Scene::new(spec(Mode::Secondary, "m5.large")?)?;
    for action in [
        "CreateNetworkInterface",
        "AttachNetworkInterface",
        "AssignPrivateIpAddresses",
    ] {
        let slow = Fault::new(action, Effect::DropAnswer).times(1);
        scene.cluster.sim().vpc().add_fault(slow);
        let seen = |s: &Scene| s.calls(action);
        let before = seen(&scene);
        scene.node().start()?;
        // Until EC2 has seen the call, or it turns out that none is needed any more.
        let began = Instant::now();
        while seen(&scene) == before && began.elapsed() < Duration::from_secs(8) {
            scene.node().daemon()?.check_running()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        scene.node().kill();
    }
    let faults: Vec<u64> = scene
        .cluster
        .sim()
        .vpc()
        .faults()
        .iter()
        .map(|f| f.id)
        .collect();
    for id in faults {
        scene.cluster.sim().vpc().remove_fault(id);
    }
    // Warm growth after a restart is spread over half a minute.
    scene.cluster.start_daemons(Duration::from_secs(75))?;
    scene.add_pods(9)?;
    scene.all_agree()?;
    let enis = scene
        .cluster
        .sim()
        .vpc()
        .enis(scene.cluster.sim().clock().now())
        .len();
    ensure(
        enis <= 3,
        format!("{enis} ENIs for an instance that takes three"),
    )?;
    scene.nothing_is_left()
}

fn stopped() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    scene.add_pods(5)?;
    let before = scene.node().snapshot()?.leases();
    let took = scene.node().stop()?;
    ensure(
        took < Duration::from_secs(5),
        format!("it took {took:?} to stop"),
    )?;
    scene.all_reach()?;
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    let after = scene.node().snapshot()?.leases();
    ensure(before == after, format!("{before:?} became {after:?}"))?;
    scene.add_pods(5)?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// SIGTERM between the calls that make an ENI ours for good: it is finished or undone, so that an
/// instance that is terminated next takes everything along.
fn stopped_while_buying() -> Outcome {
    for action in ["CreateNetworkInterface", "AttachNetworkInterface"] {
        let mut spec = spec(Mode::Secondary, "m5.large")?;
        spec.daemon = spec.daemon.set("WARM_ENI_TARGET", "2");
        let mut scene = Scene::new(spec)?;
        scene.node().start()?;
        ipamd_tests::eventually(
            SOON,
            || Ok(scene.calls(action)),
            |calls| *calls > 0,
            |calls| ensure(calls > 0, format!("{action} was never called")),
        )?;
        scene.node().stop()?;
        scene.nothing_is_left()?;
    }
    Ok(())
}

/// A warm restart serves from what it remembers, however slow EC2 and IMDS are.
fn warm_restart() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    scene.add_pods(5)?;
    scene
        .node()
        .wait_pool(SOON, "a warm prefix", |p| p.totals.free >= 16)?;
    scene.node().kill();
    {
        let mut vpc = scene.cluster.sim().vpc();
        vpc.add_fault(Fault::new("*", Effect::Delay { ms: 20_000 }));
        vpc.add_fault(Fault::new("*", Effect::ImdsDrop));
    }
    let began = Instant::now();
    scene.node().start()?;
    scene.node().wait_socket(SOON)?;
    scene.add_pods(3)?;
    let took = began.elapsed();
    ensure(
        took < Duration::from_secs(2),
        format!("three ADDs {took:?} after the start"),
    )?;
    none_wrong(check::no_address_twice(&scene.pods)?)?;
    scene.all_reach()?;
    let faults: Vec<u64> = scene
        .cluster
        .sim()
        .vpc()
        .faults()
        .iter()
        .map(|f| f.id)
        .collect();
    for id in faults {
        scene.cluster.sim().vpc().remove_fault(id);
    }
    scene.all_agree()?;
    scene.nothing_is_left()
}

fn cooldown() -> Outcome {
    let mut spec = spec(Mode::Secondary, "t3.small")?;
    spec.daemon = spec.daemon.set("IP_COOLDOWN_PERIOD", "600");
    let mut scene = Scene::ready(spec)?;
    scene.add_pods(8)?;
    let Some(mut gone) = scene.pods.pop() else {
        return fail("no pods");
    };
    let address = gone.addresses();
    succeeded("DEL", &scene.runtime.del(&mut gone)?)?;
    gone.remove_netns()?;
    for start in ["killed", "stopped"] {
        if start == "killed" {
            scene.node().kill();
        } else {
            scene.node().stop()?;
        }
        scene.node().start()?;
        scene.node().wait_ready(SOON)?;
        let pool = scene.node().snapshot()?;
        ensure(
            pool.totals.cooling == 1,
            format!("{start}: {:?}", pool.totals),
        )?;
    }
    scene.add_pods(1)?;
    let last = scene.pods.last().map(lab::Pod::addresses);
    ensure(
        last != Some(address.clone()),
        format!("{address:?} was given again while cooling"),
    )?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

fn reboot() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    scene.add_pods(5)?;
    scene.settled()?;
    scene.node().kill();
    // A reboot takes every pod's namespace, and with it its link and route.
    for pod in &mut scene.pods {
        pod.remove_netns()?;
    }
    scene.pods.clear();
    let calls = scene.calls("Assign") + scene.calls("Create");
    scene.node().new_boot("another boot");
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    let pool = scene.node().snapshot()?;
    ensure(
        pool.leases().is_empty(),
        format!("leases of another boot: {:?}", pool.leases()),
    )?;
    scene.add_pods(5)?;
    scene.all_agree()?;
    scene.settled()?;
    let more = scene.calls("Assign") + scene.calls("Create") - calls;
    ensure(
        more == 0,
        format!(
            "{more} purchases for what was there already:\n{}",
            scene.recent_calls()
        ),
    )?;
    scene.nothing_is_left()
}

/// A golden image: another node's state directory, on this one.
fn golden_image() -> Outcome {
    other_instance(Some("another boot"))
}

/// The same, and the boot's id is the other one's too: only the instance differs.
fn golden_image_same_boot() -> Outcome {
    other_instance(None)
}

fn other_instance(boot: Option<&str>) -> Outcome {
    let one = spec(Mode::Prefix, "m5.large")?;
    let mut two = lab::ClusterSpec::new(one.daemon.clone(), "m5.large", 2);
    two.vpc.latencies = one.vpc.latencies;
    let mut scene = Scene::new(two)?;
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    scene.add_pods(5)?;
    scene.settled()?;
    scene.node().stop()?;
    let state = lab::state::read(&scene.cluster.nodes()[0])?;
    ensure(!state.is_empty(), "no state was found to copy")?;
    let other = &mut scene.cluster.nodes_mut()[1];
    lab::state::write(other, state)?;
    if let Some(boot) = boot {
        other.new_boot(boot);
    }
    scene.cluster.start_daemons(SOON)?;
    let foreign = scene.cluster.nodes()[0].snapshot()?.enis;
    let clean = |pool: &lab::snapshot::Snapshot| {
        pool.leases().is_empty()
            && !pool
                .enis
                .iter()
                .any(|e| foreign.iter().any(|f| f.id == e.id))
    };
    scene.cluster.nodes()[1].wait_pool(SOON, "nothing of another instance", clean)?;
    scene.add_elsewhere()?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

/// `ip rule flush` leaves a dead node; ours and the kernel's own come back.
fn flushed_rules() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Secondary, "m5.large")?)?;
    scene.add_pods(15)?;
    let ip = |args: &[&str]| -> Result<String, LabError> {
        let mut command = std::process::Command::new("ip");
        command.args(args);
        let output = scene.cluster.nodes()[0].sim().output(command)?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let sorted = |text: String| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let before = sorted(ip(&["rule", "show"])?);
    ip(&["rule", "flush"])?;
    ipamd_tests::eventually(
        Duration::from_secs(3),
        || Ok(sorted(ip(&["rule", "show"])?)),
        |now| *now == before,
        |now| ensure(now == before, format!("{before:?} became {now:?}")),
    )?;
    scene.all_reach()?;
    scene.nothing_is_left()
}
