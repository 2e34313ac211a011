//! The network's name is changed while pods are in it: containerd's DELs go by the new configuration.

use crate::runtime::Chain;
use crate::{end, reaches};
use ipamd_tests::{Mode, Outcome, SOON, Scene, ensure, spec, succeeded};

/// A DEL under another name ends the lease when the pod's link is gone, and not before: with the link, with
/// a second DEL, also while the daemon was away. What belongs to a pod that stays is left alone.
pub(crate) fn network() -> Outcome {
    let old = Chain::shipped("plain")?;
    let new = Chain::changed("plain", |list| list["name"] = "renamed".into())?;
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    for _ in 0..5 {
        let mut pod = scene.make_pod()?;
        succeeded("ADD", &old.add(&mut pod, "eth0")?)?;
        scene.pods.push(pod);
    }
    // As after an ADD that failed because the interface was there.
    succeeded("DEL by name", &new.call("del", &scene.pods[0], "eth0")?)?;
    succeeded("DEL of net1", &new.call("del", &scene.pods[1], "net1")?)?;
    scene.all_agree()?;
    scene.all_reach()?;
    succeeded("CHECK", &old.call("check", &scene.pods[0], "eth0")?)?;
    // The namespace goes after the first DEL,
    let mut going = scene.pods.pop();
    if let Some(pod) = &mut going {
        succeeded("DEL", &new.call("del", pod, "eth0")?)?;
        leases(&mut scene, 5, "while its link was there")?;
        pod.remove_netns()?;
    }
    leases_become(&mut scene, 4)?;
    // or before it,
    let mut going = scene.pods.pop();
    if let Some(pod) = &mut going {
        pod.remove_netns()?;
        // The kernel's news may come later than the DEL.
        succeeded("DEL", &new.call("del", pod, "eth0")?)?;
    }
    leases_become(&mut scene, 3)?;
    // or while nobody listens.
    scene.node().stop()?;
    let mut going = scene.pods.pop();
    if let Some(pod) = &mut going {
        succeeded("DEL", &new.call("del", pod, "eth0")?)?;
        pod.remove_netns()?;
    }
    succeeded("DEL by name", &new.call("del", &scene.pods[0], "eth0")?)?;
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    leases_become(&mut scene, 2)?;
    scene.all_agree()?;
    ensure(reaches(&scene.pods[1], &scene.pods[0])?, "no packets")?;
    end(&old, scene)
}

fn leases(scene: &mut Scene, wanted: usize, when: &str) -> Outcome {
    let there = scene.node().snapshot()?.leases().len();
    ensure(there == wanted, format!("{there} leases {when}"))
}

fn leases_become(scene: &mut Scene, wanted: usize) -> Outcome {
    let right = |pool: &lab::snapshot::Snapshot| pool.leases().len() == wanted;
    let what = format!("{wanted} leases");
    scene.node().wait_pool(SOON, &what, right)?;
    Ok(())
}
