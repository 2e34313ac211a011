//! ADD where there was one before.

use crate::see::{self, assert_wired};
use crate::world::Netns;
use crate::{Outcome, Scene};

pub(crate) fn same_add_twice() -> Outcome {
    let scene = Scene::new()?;
    let first = scene.runtime.add(&scene.pod).ok();
    let before = see::links(&scene.host);
    let second = scene.runtime.add(&scene.pod).ok();
    assert_eq!(first, second);
    assert_eq!(see::links(&scene.host), before, "nothing was made anew");
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    assert!(scene.daemon.state().released.is_empty());
    Ok(())
}

/// A half-done or damaged attachment of the same key is made whole.
pub(crate) fn add_after_damage() -> Outcome {
    let scene = Scene::new()?;
    let first = scene.runtime.add(&scene.pod).ok();
    let index = see::link_named(&scene.host, &scene.wiring().host_if)
        .expect("it")
        .index;
    scene.host.run(|| see::change::set_down(index))?;
    let second = scene.runtime.add(&scene.pod).ok();
    assert_eq!(first, second);
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    Ok(())
}

/// The "ADD again in a netns that still has our old veth".
pub(crate) fn add_after_del_in_the_same_netns() -> Outcome {
    let scene = Scene::new()?;
    let first = scene.runtime.add(&scene.pod).ok();
    scene.runtime.with_result(&first).del(&scene.pod).ok();
    assert_eq!(see::links(&scene.pod).len(), 1, "the veth is still there");
    let second = scene.runtime.add(&scene.pod).ok();
    assert_ne!(first["ips"], second["ips"]);
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    Ok(())
}

/// A StatefulSet's pod: same name, so the same host end; the old namespace lives on for a while.
pub(crate) fn recreated_pod_while_its_old_netns_dies() -> Outcome {
    let scene = Scene::new()?;
    let first = scene.runtime.add(&scene.pod).ok();
    scene.runtime.with_result(&first).del(&scene.pod).ok();
    let new = Netns::new()?;
    scene.runtime.other("c2", "web-0").add(&new).ok();
    assert_wired(&scene.host, &new, &scene.wiring());
    see::assert_empty(&scene.pod);
    // The runtime's second DEL of the old one comes late, and must not hurt the new one.
    scene.runtime.with_result(&first).command("DEL", "").ok();
    assert_wired(&scene.host, &new, &scene.wiring());
    Ok(())
}

/// The same without the DEL: the old pod still has its address.
pub(crate) fn live_namesake_is_left_alone() -> Outcome {
    let scene = Scene::new()?;
    scene.runtime.add(&scene.pod).ok();
    let old = scene.wiring();
    let new = Netns::new()?;
    let msg = scene.runtime.other("c2", "web-0").add(&new).error(11);
    assert!(
        msg.contains("still carries 10.1.0.1 for another attachment"),
        "{msg}"
    );
    assert_wired(&scene.host, &scene.pod, &old);
    see::assert_empty(&new);
    assert_eq!(
        scene.daemon.state().leases.len(),
        1,
        "the new lease was given back"
    );
    Ok(())
}

/// Another sandbox's released veth under the same `CNI_IFNAME`; while it is live it stays.
pub(crate) fn another_sandbox_of_ours_in_the_netns() -> Outcome {
    let scene = Scene::new()?;
    let first = scene.runtime.add(&scene.pod).ok();
    let old = scene.wiring();
    let second = scene.runtime.other("c2", "web-1");
    second.add(&scene.pod).error(11);
    assert_wired(&scene.host, &scene.pod, &old);
    scene.runtime.with_result(&first).del(&scene.pod).ok();
    second.add(&scene.pod).ok();
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    assert_eq!(see::links(&scene.host).len(), 1, "the old host end is gone");
    Ok(())
}
