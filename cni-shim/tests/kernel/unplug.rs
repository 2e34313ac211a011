//! DEL in a namespace that lives on, as by Multus' hot-unplug, cnitool or podman.

use crate::see::{self, assert_wired};
use crate::world::Netns;
use crate::{Outcome, Scene};
use ipam_core::wiring::TABLE_MAIN;
use serde_json::{Value, json};

/// What is left of the attachment has another name, is down, and carries nothing.
fn assert_unplugged(scene: &Scene, if_name: &str) {
    let left = see::links(&scene.pod);
    assert!(
        left.iter().all(|link| link.name != if_name && !link.up),
        "{left:?}"
    );
    assert_eq!(see::addresses(&scene.pod), []);
    assert_eq!(see::routes(&scene.pod), []);
    assert_eq!(see::neighbours(&scene.pod), []);
    assert_eq!(see::routes(&scene.host), []);
}

pub(crate) fn nothing_is_left_in_a_live_namespace() -> Outcome {
    let scene = Scene::new()?;
    {
        let mut state = scene.daemon.state();
        state.dual = true;
        state.free = vec!["10.1.0.7".parse()?, "fd00:1::7".parse()?];
    }
    let result = scene.runtime.add(&scene.pod).ok();
    // A later plugin of the chain may have added to it.
    let index = see::link_named(&scene.pod, "eth0").expect("it").index;
    scene
        .pod
        .run(|| see::change::add_address(index, "10.9.9.9".parse().expect("an address")))?;
    scene.runtime.with_result(&result).del(&scene.pod).ok();
    assert_unplugged(&scene, "eth0");
    Ok(())
}

/// The name is free, and the daemon knows the new attachment alone.
pub(crate) fn another_network_at_once() -> Outcome {
    let scene = Scene::new()?;
    let mut result = scene.runtime.add(&scene.pod).ok();
    let mut runtime = scene.runtime.clone();
    // Under the old host end's name, and under another one.
    for (name, place) in [("net-b", 0), ("net-c", 1), ("net-d", 0), ("net-d", 1)] {
        runtime.with_result(&result).del(&scene.pod).ok();
        assert_unplugged(&scene, "eth0");
        runtime.conf["name"] = json!(name);
        scene.daemon.state().place = place;
        result = runtime.add(&scene.pod).ok();
        let runtime = runtime.with_result(&result);
        runtime.command("CHECK", &scene.pod.path()).ok();
    }
    Ok(())
}

/// The interface tells whose it is, whether a result does or not.
pub(crate) fn without_a_daemon() -> Outcome {
    for with_result in [true, false] {
        let mut scene = Scene::new()?;
        let result = scene.runtime.add(&scene.pod).ok();
        scene.daemon.stop();
        let mut runtime = scene.runtime.clone();
        if with_result {
            runtime = runtime.with_result(&result);
        }
        runtime.del(&scene.pod).ok();
        assert_unplugged(&scene, "eth0");
        runtime.del(&scene.pod).ok();
        assert_eq!(scene.spool().len(), 1);
        // As the note says.
        scene.daemon.state().leases.clear();
        scene.daemon.again();
        let mut runtime = scene.runtime.clone();
        runtime.conf["name"] = json!("net-b");
        runtime.add(&scene.pod).ok();
        assert_wired(&scene.host, &scene.pod, &scene.wiring());
    }
    Ok(())
}

/// The pod keeps its first interface, and loses the rules of the other one.
pub(crate) fn further_interface() -> Outcome {
    let scene = Scene::new()?;
    let rules = see::rules(&scene.pod);
    scene.runtime.add(&scene.pod).ok();
    let first = scene.wiring();
    scene.daemon.state().place = 1;
    let mut further = scene.runtime.clone();
    further.if_name = "net1".into();
    further.conf["name"] = json!("net-b");
    let result = further.add(&scene.pod).ok();
    assert_eq!(see::rules(&scene.pod), rules + 1);
    assert_ne!(result["routes"][0]["table"], json!(TABLE_MAIN));
    further.with_result(&result).del(&scene.pod).ok();
    assert_eq!(see::rules(&scene.pod), rules);
    assert!(see::link_named(&scene.pod, "net1").is_none());
    let eth0 = see::link_named(&scene.pod, "eth0").expect("it stays");
    assert!(eth0.up);
    let is_first = |index| index == eth0.index;
    assert!(see::addresses(&scene.pod).iter().all(|a| is_first(a.0)));
    assert!(see::routes(&scene.pod).iter().all(|r| is_first(r.index)));
    assert_eq!(see::routes(&scene.pod).len(), first.pod_routes.len());
    Ok(())
}

/// A late DEL, one of another sandbox, and one of a pod whose interface another plugin made.
pub(crate) fn anothers_interface_stays() -> Outcome {
    let mut scene = Scene::new()?;
    let old = scene.runtime.add(&scene.pod).ok();
    scene.runtime.with_result(&old).del(&scene.pod).ok();
    let mut runtime = scene.runtime.clone();
    runtime.conf["name"] = json!("net-b");
    runtime.add(&scene.pod).ok();
    let now = scene.wiring();
    let dels = |scene: &Scene| {
        let other = runtime.other("c2", "web-0");
        for late in [&scene.runtime, &scene.runtime.with_result(&old), &other] {
            assert_eq!(late.del(&scene.pod).ok(), Value::Null);
        }
    };
    dels(&scene);
    assert_wired(&scene.host, &scene.pod, &now);
    scene.daemon.stop();
    dels(&scene);
    assert_wired(&scene.host, &scene.pod, &now);
    let foreign = Netns::new()?;
    scene
        .host
        .run(|| see::change::add_veth("veth0", "eth0", &foreign))?;
    let index = see::link_named(&foreign, "eth0").expect("it").index;
    foreign.run(|| see::change::set_up(index))?;
    let before = see::links(&foreign);
    scene.runtime.del(&foreign).ok();
    assert_eq!(see::links(&foreign), before);
    Ok(())
}
