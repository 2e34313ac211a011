//! Promise: whatever a runtime asks, in whatever order, an attachment has one address or none, and a
//! refusal says why.

use ipamd_tests::{
    Mode, Outcome, SOON, Scene, ensure, fail, no_leftovers, refused, spec, succeeded,
};
use lab::check;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vpc_model::{Effect, Fault};
use vpc_sim::testing::{Failure, Test, run};

fn main() -> std::process::ExitCode {
    run(&[
        Test {
            name: "the_same_add_twice",
            run: add_twice,
        },
        Test {
            name: "two_adds_of_one_key_at_once",
            run: two_at_once,
        },
        Test {
            name: "add_again_after_del_in_the_same_netns",
            run: add_again,
        },
        Test {
            name: "del_while_its_add_is_parked",
            run: del_while_parked,
        },
        Test {
            name: "caller_killed_while_parked",
            run: killed_while_parked,
        },
        Test {
            name: "del_of_what_never_was",
            run: del_of_nothing,
        },
        Test {
            name: "del_without_netns_and_prev_result",
            run: bare_del,
        },
        Test {
            name: "netns_gone",
            run: netns_gone,
        },
        Test {
            name: "interface_name_taken",
            run: name_taken,
        },
        Test {
            name: "unreadable_stdin",
            run: unreadable_stdin,
        },
        Test {
            name: "daemon_away",
            run: daemon_away,
        },
        Test {
            name: "a_parked_add_is_served_when_addresses_come",
            run: parked_is_served,
        },
    ])
}

/// A node with no free address that gets more only after EC2 has taken its time: an ADD parks.
fn starved() -> Result<Scene, Failure> {
    let mut spec = spec(Mode::Secondary, "m5.large")?;
    spec.daemon = spec
        .daemon
        .set("WARM_IP_TARGET", "1")
        .set("MINIMUM_IP_TARGET", "1");
    let mut scene = Scene::ready(spec)?;
    scene
        .node()
        .wait_pool(SOON, "one free address", |p| p.totals.free >= 1)?;
    let slow = Fault::new("Assign*", Effect::Delay { ms: 6000 });
    scene.cluster.sim().vpc().add_fault(slow);
    let free = scene.node().snapshot()?.totals.free;
    scene.add_pods(free)?;
    Ok(scene)
}

fn add_twice() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    let mut pod = scene.make_pod()?;
    succeeded("the first ADD", &scene.runtime.add(&mut pod)?)?;
    let first = pod.addresses();
    succeeded("the second ADD", &scene.runtime.add(&mut pod)?)?;
    ensure(
        pod.addresses() == first,
        format!("{first:?}, then {:?}", pod.addresses()),
    )?;
    scene.pods.push(pod);
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

fn two_at_once() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    for _ in 0..10 {
        let mut pod = scene.make_pod()?;
        let calls: Vec<_> = std::thread::scope(|scope| {
            let add = || scene.runtime.call("ADD", &pod, None);
            let both = [scope.spawn(add), scope.spawn(add)];
            both.into_iter().filter_map(|t| t.join().ok()).collect()
        });
        let calls = calls.into_iter().collect::<Result<Vec<_>, _>>()?;
        let good: Vec<_> = calls
            .iter()
            .filter(|c| c.ok())
            .map(|c| c.json()["ips"].clone())
            .collect();
        let words: Vec<_> = calls.iter().map(lab::cni::Call::words).collect();
        ensure(!good.is_empty(), format!("both failed: {words:?}"))?;
        ensure(
            good.iter().all(|ips| *ips == good[0]),
            format!("two answers: {good:?}"),
        )?;
        pod.result = calls.iter().find(|c| c.ok()).map(lab::cni::Call::json);
        scene.pods.push(pod);
    }
    scene.all_agree()?;
    scene.nothing_is_left()
}

fn add_again() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    let mut pod = scene.make_pod()?;
    for round in 0..3 {
        succeeded(&format!("ADD {round}"), &scene.runtime.add(&mut pod)?)?;
        succeeded(&format!("DEL {round}"), &scene.runtime.del(&mut pod)?)?;
    }
    succeeded("the last ADD", &scene.runtime.add(&mut pod)?)?;
    scene.pods.push(pod);
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

fn del_while_parked() -> Outcome {
    let mut scene = starved()?;
    let mut pod = scene.make_pod()?;
    let command = scene.runtime.command("ADD", &pod);
    let stdin = scene.runtime.stdin();
    let node = pod.node.clone();
    let add = std::thread::spawn(move || lab::cni::run(&node, command, &stdin, SOON));
    scene
        .node()
        .wait_pool(SOON, "a parked ADD", |p| p.parked == 1)?;
    let began = Instant::now();
    succeeded("the DEL", &scene.runtime.del(&mut pod)?)?;
    let Ok(add) = add.join() else {
        return fail("the ADD's thread panicked");
    };
    let (add, took) = (add?, began.elapsed());
    refused("the parked ADD", &add, 11, "")?;
    ensure(
        took < Duration::from_secs(2),
        format!("it ended {took:?} after the DEL"),
    )?;
    let pool = scene.node().snapshot()?;
    let leased = pool.leases().into_values().any(|p| p == pod.full_name());
    ensure(!leased && pool.parked == 0, format!("{pool:?}"))?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

fn killed_while_parked() -> Outcome {
    let mut scene = starved()?;
    let pod = scene.make_pod()?;
    let mut command = scene.runtime.command("ADD", &pod);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = pod.node.spawn(command)?;
    if let Some(mut pipe) = child.stdin.take() {
        std::io::Write::write_all(&mut pipe, scene.runtime.stdin().as_bytes())?;
    }
    scene
        .node()
        .wait_pool(SOON, "a parked ADD", |p| p.parked == 1)?;
    child.kill()?;
    child.wait()?;
    scene
        .node()
        .wait_pool(Duration::from_secs(3), "no parked ADD", |p| p.parked == 0)?;
    // The addresses that it asked for come; they must be nobody's.
    scene
        .node()
        .wait_pool(SOON, "a free address", |p| p.totals.free > 0)?;
    let leased = scene
        .node()
        .snapshot()?
        .leases()
        .into_values()
        .any(|p| p == pod.full_name());
    ensure(!leased, "the killed caller's pod has a lease")?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

fn del_of_nothing() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    scene.add_pods(2)?;
    let mut pod = scene.make_pod()?;
    succeeded("DEL before ADD", &scene.runtime.del(&mut pod)?)?;
    succeeded("ADD after it", &scene.runtime.add(&mut pod)?)?;
    succeeded("DEL", &scene.runtime.del(&mut pod)?)?;
    succeeded("DEL again", &scene.runtime.del(&mut pod)?)?;
    pod.remove_netns()?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// containerd sends it after each good DEL: no netns, no prevResult.
fn bare_del() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    let mut pod = scene.make_pod()?;
    succeeded("ADD", &scene.runtime.add(&mut pod)?)?;
    pod.remove_netns()?;
    pod.result = None;
    succeeded("bare DEL", &scene.runtime.del(&mut pod)?)?;
    let used = scene.node().snapshot()?.totals.used;
    ensure(used == 0, format!("{used} leases after the only pod's DEL"))?;
    succeeded("bare DEL again", &scene.runtime.del(&mut pod)?)?;
    scene.nothing_is_left()
}

fn netns_gone() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    let mut pod = scene.make_pod()?;
    let path = pod.netns_path();
    let mut command = scene.runtime.command("ADD", &pod);
    pod.remove_netns()?;
    command.env("CNI_NETNS", path);
    let call = lab::cni::run(&pod.node, command, &scene.runtime.stdin(), SOON)?;
    ensure(
        call.error().is_some(),
        format!("no CNI error: {}", call.words()),
    )?;
    succeeded("the DEL that follows", &scene.runtime.del(&mut pod)?)?;
    no_leftovers(scene.node())?;
    scene.nothing_is_left()
}

fn name_taken() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    let mut pod = scene.make_pod()?;
    let net = pod.netns.as_ref().map(|ns| ns.net().clone());
    let Some(net) = net else {
        return fail("no namespace");
    };
    let mut ip = Command::new("ip");
    ip.args([
        "link", "add", "eth0", "type", "veth", "peer", "name", "other",
    ]);
    let made = net.output(ip)?;
    ensure(made.status.success(), String::from_utf8_lossy(&made.stderr))?;
    let call = scene.runtime.add(&mut pod)?;
    ensure(
        call.error().is_some(),
        format!("no CNI error: {}", call.words()),
    )?;
    succeeded("the DEL that follows", &scene.runtime.del(&mut pod)?)?;
    no_leftovers(scene.node())?;
    let kept = lab::kernel::links(&net, "other")?;
    ensure(kept.len() == 1, "a stranger's link was removed")?;
    scene.nothing_is_left()
}

fn unreadable_stdin() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    let pod = scene.make_pod()?;
    for stdin in ["", "{", "[]", "{\"cniVersion\": 7}", "\u{0}\u{0}"] {
        let call = lab::cni::run(&pod.node, scene.runtime.command("ADD", &pod), stdin, SOON)?;
        let Some(error) = call.error() else {
            return fail(format!("{stdin:?}: no CNI error: {}", call.words()));
        };
        ensure(
            matches!(error.code, 1 | 4..=7),
            format!("{stdin:?}: code {}", error.code),
        )?;
    }
    let used = scene.node().snapshot()?.totals.used;
    ensure(used == 0, format!("{used} leases"))?;
    scene.nothing_is_left()
}

/// Without a daemon an ADD waits for it within its deadline, and is refused in words; a DEL succeeds, and is made good for when
/// the daemon is back.
fn daemon_away() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    scene.add_pods(3)?;
    scene.node().stop()?;
    let mut pod = scene.make_pod()?;
    let began = Instant::now();
    let hurried = scene.runtime.clone().set("addTimeout", "2s".into());
    refused("ADD without a daemon", &hurried.add(&mut pod)?, 11, "")?;
    let took = began.elapsed();
    ensure(
        took > Duration::from_secs(1) && took < Duration::from_secs(5),
        format!("refused after {took:?}"),
    )?;
    let Some(mut gone) = scene.pods.pop() else {
        return fail("no pods");
    };
    succeeded("DEL without a daemon", &scene.runtime.del(&mut gone)?)?;
    gone.remove_netns()?;
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    let left = |p: &lab::snapshot::Snapshot| p.leases().len();
    scene
        .node()
        .wait_pool(SOON, "the spooled DEL", |p| left(p) == 2)?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

fn parked_is_served() -> Outcome {
    let mut scene = starved()?;
    let began = Instant::now();
    scene.add_pods(5)?;
    let took = began.elapsed();
    ensure(
        took < Duration::from_secs(20),
        format!("served after {took:?}"),
    )?;
    ensure(
        check::no_address_twice(&scene.pods)?.is_empty(),
        "an address twice",
    )?;
    scene.all_agree()?;
    scene.nothing_is_left()
}
