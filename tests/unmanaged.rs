//! Promise: an ENI that isn't ours is left alone, and why is shown; one that was ours and is taken out of
//! our hands keeps its pods.

use ipamd_tests::seen::{attach_stranger, log, metrics, remove_stranger, tag, value};
use ipamd_tests::{Mode, Outcome, SOON, Scene, ensure, eventually, fail, spec};
use std::time::Duration;
use vpc_sim::testing::{Failure, Test, run};

fn main() -> std::process::ExitCode {
    run(&[
        Test {
            name: "strangers_at_launch",
            run: at_launch,
        },
        Test {
            name: "untagged_enis_are_not_managed_if_so_set",
            run: untagged,
        },
        Test {
            name: "a_stranger_that_comes_later",
            run: later,
        },
        Test {
            name: "no_manage_on_an_eni_in_use",
            run: taken_away,
        },
        Test {
            name: "no_manage_on_the_primary_eni",
            run: primary,
        },
    ])
}

const NO_MANAGE: &str = "node.k8s.amazonaws.com/no_manage";

/// No call of the node named this ENI, but to look at it.
fn untouched(scene: &Scene, eni: &str) -> Outcome {
    untouched_since(scene, eni, 0)
}

/// The same of calls after a mark in the audit log.
fn untouched_since(scene: &Scene, eni: &str, mark: u64) -> Outcome {
    let now = scene.cluster.sim().clock().now();
    let vpc = scene.cluster.sim().vpc();
    let attachment = vpc
        .enis(now)
        .into_iter()
        .find(|e| e.id.as_str() == eni)
        .and_then(|e| e.attachment)
        .map(|a| a.id.as_str().to_owned());
    let about = |params: &str| {
        params.contains(eni) || attachment.as_deref().is_some_and(|a| params.contains(a))
    };
    let touched: Vec<_> = vpc
        .audit(mark)
        .iter()
        .filter(|call| call.caller != "operator")
        .filter(|call| !call.action.starts_with("Describe") && about(&call.params))
        .map(|call| format!("{} {}", call.action, call.params))
        .collect();
    drop(vpc);
    ensure(
        touched.is_empty(),
        format!("{eni} was touched: {touched:?}"),
    )
}

/// Log, inspect and metrics say why.
fn shown(scene: &mut Scene, eni: &str, label: &str, words: &str) -> Outcome {
    let picture = scene.node().snapshot()?;
    let seen = picture.enis.iter().find(|e| e.id == eni);
    ensure(
        seen.and_then(|e| e.unmanaged.as_deref()).is_some(),
        format!("inspect does not say why {eni} is left alone: {seen:?}"),
    )?;
    let log = log(scene)?;
    let lines = log
        .lines()
        .filter(|line| line.contains("cause=eni_unmanaged") && line.contains(eni));
    let lines: Vec<_> = lines.collect();
    ensure(
        lines.len() == 1 && lines[0].contains(words),
        format!("not once, or not \"{words}\": {lines:?}"),
    )?;
    let text = metrics(scene)?;
    let series = format!("ipamd_enis_unmanaged{{reason=\"{label}\"}}");
    ensure(value(&text, &series) >= 1.0, format!("no {series}"))
}

fn link_of(scene: &Scene, eni: &str) -> Result<String, Failure> {
    let wires = scene
        .cluster
        .sim()
        .vpc()
        .wires(scene.cluster.sim().clock().now());
    match wires.iter().find(|wire| wire.eni.as_str() == eni) {
        Some(wire) => Ok(wire.link.clone()),
        None => fail(format!("no wire of {eni}")),
    }
}

/// The kernel's rules and ENI tables name nothing of this ENI.
fn not_wired(scene: &mut Scene, eni: &str) -> Outcome {
    let link = link_of(scene, eni)?;
    let mut command = std::process::Command::new("ip");
    command.args(["route", "show", "table", "all", "dev", &link]);
    let output = scene.node().sim().output(command)?;
    let routes = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure(
        !routes.contains("default"),
        format!("{eni} ({link}) was wired:\n{routes}"),
    )
}

fn at_launch() -> Outcome {
    let mut scene = Scene::new(spec(Mode::Secondary, "m5.xlarge")?)?;
    let tagged = attach_stranger(&scene, None, &[(NO_MANAGE, "true")], 1)?;
    let trunk = attach_stranger(&scene, Some("trunk"), &[], 2)?;
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    // More than the primary ENI holds: a new one has to come, beside the strangers.
    scene.add_pods(20)?;
    scene.all_agree()?;
    for (eni, label, words) in [
        (&tagged, "no_manage", "no_manage=true"),
        (&trunk, "interface_type", "interface of its type"),
    ] {
        shown(&mut scene, eni, label, words)?;
        untouched(&scene, eni)?;
        not_wired(&mut scene, eni)?;
    }
    scene.node().kill();
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    scene.all_agree()?;
    for eni in [&tagged, &trunk] {
        untouched(&scene, eni)?;
    }
    for eni in [&tagged, &trunk] {
        remove_stranger(&scene, eni)?;
    }
    scene.nothing_is_left()
}

fn untagged() -> Outcome {
    let mut spec = spec(Mode::Secondary, "m5.large")?;
    spec.daemon = spec.daemon.set("MANAGE_UNTAGGED_ENI", "false");
    let mut scene = Scene::new(spec)?;
    let eni = attach_stranger(&scene, None, &[], 1)?;
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    scene.add_pods(12)?;
    scene.all_agree()?;
    shown(&mut scene, &eni, "untagged", "MANAGE_UNTAGGED_ENI")?;
    untouched(&scene, &eni)?;
    remove_stranger(&scene, &eni)?;
    scene.nothing_is_left()
}

fn later() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Secondary, "m5.xlarge")?)?;
    scene.settled()?;
    let eni = attach_stranger(&scene, None, &[(NO_MANAGE, "true")], 3)?;
    // IMDS is read every five minutes; a restart reads it at once.
    scene.node().kill();
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    scene.add_pods(20)?;
    eventually(
        Duration::from_secs(40),
        || {
            let picture = scene.node().snapshot()?;
            Ok(picture.enis.iter().any(|e| e.id == eni))
        },
        |seen| *seen,
        |seen| ensure(seen, format!("{eni} was not seen")),
    )?;
    shown(&mut scene, &eni, "no_manage", "no_manage=true")?;
    scene.all_agree()?;
    untouched(&scene, &eni)?;
    not_wired(&mut scene, &eni)?;
    remove_stranger(&scene, &eni)?;
    scene.nothing_is_left()
}

/// Its pods keep addresses and network; it gives no new ones, and nothing of it is given back.
fn taken_away() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Secondary, "m5.xlarge")?)?;
    scene.add_pods(20)?;
    scene.settled()?;
    let Some((id, before)) = second_in_use(&mut scene)? else {
        return fail("no second ENI in use");
    };
    tag(&scene, &id, NO_MANAGE, "true")?;
    // EC2 is asked only every half hour; a stranger in IMDS after a restart is cause to ask at once.
    let stranger = attach_stranger(&scene, None, &[(NO_MANAGE, "true")], 3)?;
    let mark = scene
        .cluster
        .sim()
        .vpc()
        .audit(0)
        .last()
        .map_or(0, |c| c.seq);
    scene.node().kill();
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    let alone = |pool: &lab::snapshot::Snapshot| {
        let eni = pool.enis.iter().find(|e| e.id == id);
        eni.is_some_and(|e| e.unmanaged.is_some())
    };
    scene
        .node()
        .wait_pool(Duration::from_secs(40), "an ENI that is left alone", alone)?;
    shown(
        &mut scene,
        &id,
        "no_manage",
        "pods have addresses on it and keep them",
    )?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.add_pods(10)?;
    scene.all_agree()?;
    scene.all_reach()?;
    let picture = scene.node().snapshot()?;
    let now = picture.enis.iter().find(|e| e.id == id).map_or(0, used);
    ensure(now == before, format!("{before} pods on {id}, then {now}"))?;
    scene.del_pods()?;
    scene.settled()?;
    untouched_since(&scene, &id, mark)?;
    untouched(&scene, &stranger)?;
    remove_stranger(&scene, &stranger)?;
    scene.nothing_is_left()
}

fn used(eni: &lab::snapshot::Eni) -> usize {
    eni.blocks.iter().map(|b| b.used.len()).sum()
}

/// An ENI besides the primary one on which pods have addresses, and how many.
fn second_in_use(scene: &mut Scene) -> Result<Option<(String, usize)>, Failure> {
    let picture = scene.node().snapshot()?;
    let second = picture.enis.iter().find(|e| !e.primary && used(e) > 0);
    Ok(second.map(|e| (e.id.clone(), used(e))))
}

/// The primary ENI is the node's own: the tag is not heeded there, as with Amazon's CNI.
fn primary() -> Outcome {
    let mut scene = Scene::new(spec(Mode::Secondary, "m5.large")?)?;
    let primary = {
        let vpc = scene.cluster.sim().vpc();
        vpc.nodes()
            .first()
            .and_then(|node| node.primary_eni.as_ref().map(ToString::to_string))
    };
    let Some(primary) = primary else {
        return fail("no primary ENI");
    };
    tag(&scene, &primary, NO_MANAGE, "true")?;
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    scene.add_pods(3)?;
    let picture = scene.node().snapshot()?;
    let on_primary = picture
        .enis
        .iter()
        .filter(|e| e.primary)
        .flat_map(|e| &e.blocks)
        .map(|b| b.used.len())
        .sum::<usize>();
    ensure(
        on_primary == 3,
        format!("{on_primary} of 3 pods: {picture:?}"),
    )?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}
