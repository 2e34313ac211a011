//! Promise: while the daemon is away, hangs, or has forgotten, no ADD and no DEL of a pod is lost; and what
//! nobody remembers is given back when the runtime says so (CNI GC).

use ipamd_tests::net::output;
use ipamd_tests::{Mode, Outcome, SOON, Scene, ensure, eventually, fail, spec, succeeded};
use lab::cni::Call;
use lab::{Pod, kernel, state};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use vpc_sim::testing::{Failure, Test, run_side_by_side};

fn main() -> std::process::ExitCode {
    let test = |name, run| Test { name, run };
    let tests = [
        test("a_minute_without_a_daemon_fails_no_add", a_minute),
        test("a_del_at_a_hanging_daemon_is_not_lost", hanging),
        test("gc_ends_what_no_lease_names", forgotten),
    ];
    run_side_by_side(&tests, 3, Duration::from_secs(240))
}

/// ADDs from each part of the absence, and their pods reach everybody; a pod that was there is untouched.
fn a_minute() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    scene.add_pods(1)?;
    scene.settled()?;
    scene.node().stop()?;
    let began = Instant::now();
    let mut pods = scene.make_pods(4)?;
    let runtime = scene.runtime.clone();
    let calls = std::thread::scope(|scope| -> Result<Vec<Call>, Failure> {
        let mut adds = Vec::new();
        for (n, pod) in (0_u32..).zip(&mut pods) {
            let due = Duration::from_secs(15) * n;
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            adds.push(scope.spawn(|| runtime.add(pod)));
        }
        std::thread::sleep(Duration::from_secs(62).saturating_sub(began.elapsed()));
        let early = adds.iter().filter(|add| add.is_finished()).count();
        ensure(early == 0, format!("{early} ADDs ended without a daemon"))?;
        scene_start(&mut scene)?;
        let mut calls = Vec::new();
        for add in adds {
            match add.join() {
                Ok(call) => calls.push(call?),
                Err(_) => return fail("an ADD's thread panicked"),
            }
        }
        Ok(calls)
    })?;
    scene.pods.append(&mut pods);
    for call in &calls {
        succeeded("ADD", call)?;
    }
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

fn scene_start(scene: &mut Scene) -> Outcome {
    scene.node().start()?;
    Ok(scene.node().wait_ready(SOON)?)
}

/// Notes that wait.
fn noted(scene: &Scene) -> Result<usize, Failure> {
    let node = scene.cluster.nodes()[0].sim();
    let count = node.run(|| match std::fs::read_dir("/var/lib/ipamd/spool") {
        Ok(files) => Ok(files.count()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    })??;
    Ok(count)
}

/// It takes calls and does not answer: the runtime gets its success, and the daemon finds the notes when it
/// goes on, without being started anew.
fn hanging() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    scene.add_pods(3)?;
    scene.node().daemon()?.process().signal(Signal::SIGSTOP);
    let tally = scene.runtime.del_all(&mut scene.pods, 3)?;
    ensure(tally.failed_dels.is_empty(), tally.failed_dels.join("\n"))?;
    let waiting = noted(&scene)?;
    ensure(waiting == 3, format!("{waiting} notes"))?;
    scene.node().daemon()?.process().signal(Signal::SIGCONT);
    scene
        .node()
        .wait_pool(SOON, "no lease", |pool| pool.leases().is_empty())?;
    eventually(
        SOON,
        || noted(&scene),
        |notes| *notes == 0,
        |notes| ensure(notes == 0, format!("{notes} notes stay")),
    )?;
    scene.pods.clear();
    scene.nothing_is_left()
}

/// GC as libcni sends it, of a network of this name.
fn gc(scene: &Scene, name: Option<&str>, valid: &[&Pod]) -> Outcome {
    let attachment = |pod: &&Pod| json!({"containerID": pod.container_id, "ifname": "eth0"});
    let list: Value = valid.iter().map(attachment).collect();
    let mut runtime = scene.runtime.clone();
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        runtime = runtime.set(key, list.clone());
    }
    if let Some(name) = name {
        runtime = runtime.set("name", json!(name));
    }
    let node = scene.cluster.nodes()[0].sim();
    let nobody = Pod {
        node: node.clone(),
        namespace: String::new(),
        name: String::new(),
        container_id: String::new(),
        netns: None,
        result: None,
    };
    let mut command = runtime.command("GC", &nobody);
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
        command.env_remove(name);
    }
    let call = lab::cni::run(node, command, &runtime.stdin(), SOON)?;
    succeeded("GC", &call)
}

/// The pods whose links are on the host, by number.
fn linked(scene: &Scene, names: &[String]) -> Result<Vec<usize>, Failure> {
    let links = kernel::links(&scene.cluster.nodes()[0].sim().net(), "")?;
    let there = (0..).zip(names).filter(|(_, name)| links.contains(*name));
    Ok(there.map(|(n, _)| n).collect())
}

/// The store is gone, and the pods live on. What the runtime names stays, and what another network's pods
/// have; the rest goes with link and route, and its addresses can be given again.
fn forgotten() -> Outcome {
    let mut spec = spec(Mode::Prefix, "m5.large")?;
    spec.daemon = spec.daemon.set("IP_COOLDOWN_PERIOD", "0");
    // No purchase whose intent this test's own hand would take away.
    spec.vpc.nodes[0].launch_prefixes = 2;
    let mut scene = Scene::ready(spec)?;
    scene.add_pods(4)?;
    let mut other = scene.make_pod()?;
    let elsewhere = scene.runtime.clone().set("name", json!("other"));
    succeeded("ADD to another network", &elsewhere.add(&mut other)?)?;
    scene.settled()?;
    let names: Vec<String> = scene
        .pods
        .iter()
        .chain([&other])
        .filter_map(Pod::host_link)
        .collect();
    // Links that look like ours and were made by nobody whom we know.
    let node = scene.cluster.nodes()[0].sim().clone();
    for line in [
        "ip link add enifeedfeed001 type veth peer name decoy",
        "ip link set decoy up",
        "ip link set enifeedfeed001 up",
        "ip route add 192.0.2.77/32 dev enifeedfeed001 metric 1024",
    ] {
        output(&node.net(), line)?;
    }
    scene.node().kill();
    state::write(&scene.cluster.nodes()[0], Vec::new())?;
    scene_start(&mut scene)?;
    gc(&scene, Some("nobodys"), &[])?;
    ensure(
        linked(&scene, &names)?.len() == 5,
        "a third network's GC took links",
    )?;
    gc(&scene, None, &[&scene.pods[0], &scene.pods[2]])?;
    let left = linked(&scene, &names)?;
    ensure(left == [0, 2, 4], format!("{left:?} of 0, 2, 4 are left"))?;
    let routes = kernel::pod_routes(&node.net(), "")?;
    for (n, pod) in scene.pods.iter().chain([&other]).enumerate() {
        let routed = pod.addresses().iter().any(|ip| routes.contains_key(ip));
        ensure(
            routed == left.contains(&n),
            format!("pod {n}: routed is {routed}"),
        )?;
    }
    let strange = output(&node.net(), "ip route show dev enifeedfeed001")?;
    ensure(strange.contains("192.0.2.77"), "a stranger's route is gone")?;
    output(&node.net(), "ip link del enifeedfeed001")?;
    // Their namespaces go as well.
    drop([scene.pods.remove(3), scene.pods.remove(1)]);
    scene.add_pods(20)?;
    let mut all: Vec<Pod> = std::mem::take(&mut scene.pods);
    all.push(other);
    let twice = lab::check::no_address_twice(&all)?;
    ipamd_tests::none_wrong(twice)?;
    let mut other = all.pop();
    scene.pods = all;
    if let Some(other) = &mut other {
        succeeded("DEL", &elsewhere.del(other)?)?;
    }
    drop(other);
    scene.nothing_is_left()
}
