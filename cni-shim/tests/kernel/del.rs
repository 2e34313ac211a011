//! DEL.

use crate::see::{self, assert_wired};
use crate::world::Netns;
use crate::{Outcome, Scene};
use ipam_core::wiring::Rule;
use ipam_proto::tombstone::Tombstone;
use ipam_proto::v1::Refusal;
use std::time::Duration;

pub(crate) fn leaves_the_veth_and_no_route() -> Outcome {
    let scene = Scene::new()?;
    let result = scene.runtime.add(&scene.pod).ok();
    let answer = scene.runtime.with_result(&result).del(&scene.pod);
    assert_eq!(answer.ok(), serde_json::Value::Null, "a DEL says nothing");
    assert_eq!(see::routes(&scene.host), []);
    assert_eq!(see::links(&scene.host).len(), 1);
    let host = scene.host;
    drop(scene.pod);
    // The kernel takes a dead namespace away in the background.
    let gone = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        see::links(&host).is_empty()
    });
    assert!(gone, "the veth goes with its namespace");
    let state = scene.daemon.state();
    assert_eq!(state.released[0].addresses, ["10.1.0.1"]);
    assert_eq!(state.released[0].reason, "del");
    Ok(())
}

pub(crate) fn unknown_before_add_and_twice() -> Outcome {
    let scene = Scene::new()?;
    scene.runtime.del(&scene.pod).ok();
    scene.runtime.command("DEL", "").ok();
    scene.runtime.command("DEL", "/nowhere/at/all").ok();
    let result = scene.runtime.add(&scene.pod).ok();
    // Without a prevResult the daemon says what to remove.
    scene.runtime.del(&scene.pod).ok();
    assert_eq!(see::routes(&scene.host), []);
    scene.runtime.with_result(&result).del(&scene.pod).ok();
    scene.runtime.command("DEL", "").ok();
    Ok(())
}

pub(crate) fn without_a_daemon() -> Outcome {
    let mut scene = Scene::new()?;
    let result = scene.runtime.add(&scene.pod).ok();
    scene.daemon.stop();
    scene.runtime.with_result(&result).del(&scene.pod).ok();
    assert_eq!(see::routes(&scene.host), [], "torn down from prevResult");
    // The second DEL of a runtime knows less, and must not take away what the first one knew.
    scene.runtime.command("DEL", "").ok();
    let spool = scene.spool();
    assert_eq!(spool.len(), 1, "{spool:?}");
    let stone = Tombstone::parse(&spool[0])?;
    assert_eq!(stone.key.container_id, "c1");
    assert_eq!(stone.pod.name, "web-0");
    assert_eq!(stone.addresses, ["10.1.0.1".parse::<std::net::IpAddr>()?]);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    assert_eq!(stone.boot_id, boot_id.trim());
    Ok(())
}

/// Whenever it comes, it hears of the release, or finds it noted.
pub(crate) fn daemon_comes_back_in_between() -> Outcome {
    for pause_us in (0..10).map(|n| n * 200) {
        let mut scene = Scene::new()?;
        let result = scene.runtime.add(&scene.pod).ok();
        scene.daemon.stop();
        let runtime = scene.runtime.with_result(&result);
        std::thread::scope(|scope| {
            let del = scope.spawn(|| runtime.command("DEL", "").ok());
            std::thread::sleep(Duration::from_micros(pause_us));
            scene.daemon.again();
            del.join().expect("the DEL ends")
        });
        let told = scene.daemon.state().leases.is_empty();
        let noted = !scene.spool().is_empty();
        assert!(told || noted, "the release is lost, after {pause_us} us");
    }
    Ok(())
}

/// A runtime that ends a hundred pods has other things to do than to wait for a daemon.
pub(crate) fn waits_for_no_daemon() -> Outcome {
    let mut scene = Scene::new()?;
    let result = scene.runtime.add(&scene.pod).ok();
    scene.daemon.stop();
    let runtime = scene.runtime.with_result(&result);
    let began = std::time::Instant::now();
    runtime.command("DEL", "").ok();
    assert!(
        began.elapsed() < Duration::from_millis(300),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(scene.spool().len(), 1);
    Ok(())
}

/// The address went to another pod meanwhile (its cooldown over): its route stays.
pub(crate) fn another_pods_route_stays() -> Outcome {
    let scene = Scene::new()?;
    let first = scene.runtime.add(&scene.pod).ok();
    scene.runtime.with_result(&first).del(&scene.pod).ok();
    scene.daemon.state().free = vec!["10.1.0.1".parse()?];
    let other = Netns::new()?;
    scene.runtime.other("c2", "web-1").add(&other).ok();
    scene.runtime.with_result(&first).del(&scene.pod).ok();
    assert_wired(&scene.host, &other, &scene.wiring());
    Ok(())
}

/// The same, and the other pod even has the old one's name, so the same host end by name.
pub(crate) fn namesakes_route_stays() -> Outcome {
    let scene = Scene::new()?;
    let first = scene.runtime.add(&scene.pod).ok();
    scene.runtime.with_result(&first).del(&scene.pod).ok();
    scene.daemon.state().free = vec!["10.1.0.1".parse()?];
    let other = Netns::new()?;
    scene.runtime.other("c2", "web-0").add(&other).ok();
    scene.runtime.with_result(&first).del(&scene.pod).ok();
    assert_wired(&scene.host, &other, &scene.wiring());
    Ok(())
}

/// Calico replaces our route by one of metric 1024.
pub(crate) fn foreign_metric() -> Outcome {
    let scene = Scene::new()?;
    let result = scene.runtime.add(&scene.pod).ok();
    let w = scene.wiring();
    let index = see::link_named(&scene.host, &w.host_if).expect("it").index;
    scene
        .host
        .run(|| see::change::move_route("10.1.0.1".parse().expect("an address"), index, 1024))?;
    assert_eq!(
        see::routes(&scene.host)
            .iter()
            .map(|r| r.metric)
            .collect::<Vec<_>>(),
        [1024]
    );
    scene
        .runtime
        .with_result(&result)
        .command("CHECK", &scene.pod.path())
        .ok();
    assert_eq!(
        scene.runtime.add(&scene.pod).ok(),
        result,
        "an ADD does not fight it"
    );
    assert_eq!(see::routes(&scene.host).len(), 1);
    scene.runtime.with_result(&result).del(&scene.pod).ok();
    assert_eq!(see::routes(&scene.host), []);
    Ok(())
}

pub(crate) fn refusal_passes_through() -> Outcome {
    let scene = Scene::new()?;
    let result = scene.runtime.add(&scene.pod).ok();
    scene.daemon.state().refuse_release = Some(Refusal {
        cni_code: 11,
        message: "the store is full".into(),
        details: "disk".into(),
        cause: "store".into(),
    });
    let msg = scene.runtime.with_result(&result).del(&scene.pod).error(11);
    assert_eq!(msg, "the store is full disk");
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    Ok(())
}

/// No wiring of today has a rule; a plugin must carry out and take back any.
pub(crate) fn removes_rules() -> Outcome {
    let scene = Scene::new()?;
    let before = see::rules(&scene.host);
    scene.daemon.state().spoil = Some(|wiring| {
        let rule = Rule {
            priority: 1536,
            v6: false,
            from: wiring.pod_addresses[0].parse().ok(),
            to: Some("10.2.0.0/16".parse().expect("a network")),
            fwmark: Some((0x80, 0x80)),
            table: 300,
            suppress_prefix_len: Some(0),
        };
        wiring.host_rules = vec![rule.into()];
    });
    scene.runtime.add(&scene.pod).ok();
    assert_eq!(see::rules(&scene.host), before + 1);
    let rule = {
        let mut state = scene.daemon.state();
        let spoil = state.spoil.expect("set above");
        let mut message = scene_wiring(&mut state);
        spoil(&mut message);
        message
    };
    let whole = ipam_core::wiring::PodWiring::try_from(rule)?;
    scene
        .daemon
        .state()
        .leases
        .values_mut()
        .for_each(|w| w.clone_from(&whole));
    scene.runtime.del(&scene.pod).ok();
    assert_eq!(see::rules(&scene.host), before);
    Ok(())
}

fn scene_wiring(state: &mut crate::daemon::State) -> ipam_proto::v1::PodWiring {
    state
        .leases
        .values()
        .next()
        .expect("a lease")
        .clone()
        .into()
}
