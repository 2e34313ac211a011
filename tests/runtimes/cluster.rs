//! A kubelet with its API server: a node that becomes ready with its first address, pods from the API, the
//! daemon away.

mod plane;

use crate::{nothing_of_pods, settings};
use ipamd_tests::{Outcome, Scene, ensure};
use plane::{LATER, Plane, Told};
use std::time::{Duration, Instant};
use vpc_sim::testing::Failure;

/// How long the daemon is away: the kubelet makes a node unready within 7 s of a failing STATUS.
const AWAY: Duration = Duration::from_secs(60);

/// A control plane on a node without a daemon.
fn begin() -> Result<(Plane, Scene), Failure> {
    plane::programs()?;
    let mut scene = Scene::new(settings()?)?;
    let node = scene.node().sim().clone();
    Ok((Plane::start(&node)?, scene))
}

/// The same with the daemon, and a node that is ready.
fn ready() -> Result<(Plane, Scene), Failure> {
    let (plane, mut scene) = begin()?;
    scene.cluster.start_daemons(LATER)?;
    plane.node_becomes("True", LATER)?;
    Ok((plane, scene))
}

fn names(prefix: &str, count: u32) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

/// Pods from the API, up.
fn run(plane: &Plane, scene: &mut Scene, names: &[String]) -> Outcome {
    plane.create(names)?;
    scene.pods.extend(plane.running(names)?);
    Ok(())
}

/// Deletes pods by the API.
fn delete(plane: &Plane, scene: &mut Scene, names: &[String]) -> Outcome {
    // A namespace that is held open from here keeps its links.
    scene.pods.retain(|pod| !names.contains(&pod.name));
    plane.delete(names)
}

/// Deletes all pods; then nothing is left of them, on the node nor in EC2.
fn end(plane: Plane, mut scene: Scene) -> Outcome {
    scene.pods.clear();
    let left: Vec<String> = plane.shown()?.into_iter().map(|pod| pod.name).collect();
    plane.delete(&left)?;
    plane.remove_ended_sandboxes()?;
    nothing_of_pods(&plane.containerd, &mut scene)?;
    drop(plane);
    scene.nothing_is_left()
}

/// What the API has said since then that a user would notice: a node or a pod that is no longer what it
/// was.
fn noticed(told: &[Told], about: &[&str]) -> Vec<String> {
    let ours = told
        .iter()
        .filter(|t| about.contains(&t.about.as_str()))
        .map(|t| format!("{}: Ready={} {}", t.about, t.ready, t.message));
    ours.collect()
}

/// The kubelet has warned of no sandbox that could not be made (its event's name) or ended.
fn no_sandbox_failed(told: &[Told]) -> Outcome {
    let all = told.iter().filter(|t| t.about.starts_with("warning"));
    let failed: Vec<_> = all
        .filter(|t| t.about.contains("PodSandBox") || t.about.contains("KillPod"))
        .map(|t| format!("{}: {}", t.about, t.message))
        .collect();
    ensure(failed.is_empty(), failed.join("\n"))
}

/// Not ready before pods can be served, and a pod that was asked for before comes then; with VPC addresses,
/// which the API shows, and packets.
pub(super) fn node_and_pods() -> Outcome {
    let (plane, mut scene) = begin()?;
    plane.node_becomes("False", LATER)?;
    let early = names("early", 1);
    plane.create(&early)?;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        let (is, message) = plane.node_ready()?;
        ensure(is == "False", format!("Ready={is} without a daemon"))?;
        let network = message.contains("NetworkPluginNotReady") || message.contains("NetworkReady");
        ensure(network, format!("not for its network: {message}"))?;
        let shown = plane.shown()?;
        let waits = shown
            .iter()
            .all(|p| p.phase == "Pending" && p.ip.is_empty());
        ensure(waits, plane::words(&shown))?;
        std::thread::sleep(Duration::from_millis(500));
    }
    scene.cluster.start_daemons(LATER)?;
    plane.node_becomes("True", LATER)?;
    scene.pods.extend(plane.running(&early)?);
    run(&plane, &mut scene, &names("pod", 3))?;
    scene.all_agree()?;
    scene.all_reach()?;
    delete(&plane, &mut scene, &early)?;
    scene.all_agree()?;
    scene.all_reach()?;
    end(plane, scene)
}

/// The daemon is killed: the node stays ready, and so do its pods; a pod that is asked for meanwhile comes once it
/// is back, and one that is deleted goes at once.
pub(super) fn daemon_away() -> Outcome {
    let (plane, mut scene) = ready()?;
    run(&plane, &mut scene, &names("pod", 4))?;
    let before = plane.told()?.len();
    scene.node().kill();
    let began = Instant::now();
    let (late, gone) = (names("late", 1), vec!["pod-3".to_owned()]);
    let stays = ["node node-1", "pod pod-0", "pod pod-1", "pod pod-2"];
    let (mut asked, mut deleted) = (false, false);
    while began.elapsed() < AWAY {
        if !deleted && began.elapsed() > AWAY / 4 {
            delete(&plane, &mut scene, &gone)?;
            deleted = true;
        }
        if !asked && began.elapsed() > AWAY * 2 / 3 {
            plane.create(&late)?;
            asked = true;
        }
        let noticed = noticed(&plane.told()?[before..], &stays);
        let when = began.elapsed();
        ensure(noticed.is_empty(), format!("after {when:?}: {noticed:?}"))?;
        std::thread::sleep(Duration::from_millis(500));
    }
    let shown = plane.shown()?;
    let waits = |pod: &plane::Shown| pod.name != late[0] || pod.phase == "Pending";
    ensure(shown.iter().all(waits), plane::words(&shown))?;
    scene.all_reach()?;
    scene.node().start()?;
    scene.pods.extend(plane.running(&late)?);
    scene.node().wait_ready(LATER)?;
    scene.all_agree()?;
    scene.all_reach()?;
    let told = plane.told()?;
    let noticed_now = noticed(&told[before..], &stays);
    ensure(noticed_now.is_empty(), noticed_now.join("\n"))?;
    // The watch would have told: it has, of the pod that was deleted.
    let seen = noticed(&told[before..], &["pod pod-3"]);
    ensure(!seen.is_empty(), "the watch sees nothing")?;
    end(plane, scene)
}

/// Twenty at once, and at once no more.
pub(super) fn twenty_pods() -> Outcome {
    let (plane, mut scene) = ready()?;
    let all = names("pod", 20);
    run(&plane, &mut scene, &all)?;
    scene.all_agree()?;
    scene.all_reach()?;
    no_sandbox_failed(&plane.told()?)?;
    delete(&plane, &mut scene, &all)?;
    end(plane, scene)
}

/// The daemon is restarted again and again while pods come and go, as an upgrade of its DaemonSet does: no sandbox
/// fails, and no pod that stays is ever unready.
pub(super) fn restarts_under_churn() -> Outcome {
    let (plane, mut scene) = ready()?;
    let stays = names("stays", 2);
    run(&plane, &mut scene, &stays)?;
    let before = plane.told()?.len();
    for round in 0..5_u32 {
        let new = names(&format!("round{round}"), 4);
        // Some ADDs may still meet the daemon; the others surely don't.
        plane.create(&new[..2])?;
        scene.node().stop()?;
        plane.create(&new[2..])?;
        if let Some(last) = round.checked_sub(1) {
            let old = names(&format!("round{last}"), 4);
            delete(&plane, &mut scene, &old)?;
        }
        // As long as an image's change takes that is already there.
        std::thread::sleep(Duration::from_secs(1));
        scene.node().start()?;
        scene.pods.extend(plane.running(&new)?);
    }
    scene.node().wait_ready(LATER)?;
    scene.all_agree()?;
    scene.all_reach()?;
    let told = &plane.told()?[before..];
    no_sandbox_failed(told)?;
    let noticed = noticed(told, &["node node-1", "pod stays-0", "pod stays-1"]);
    ensure(noticed.is_empty(), noticed.join("\n"))?;
    end(plane, scene)
}
