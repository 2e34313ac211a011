//! What goes wrong, and that nothing is left of it.

use crate::see::{self, assert_empty, assert_wired};
use crate::world::Netns;
use crate::{Outcome, Scene};
use ipam_proto::v1::Refusal;
use serde_json::json;
use std::time::{Duration, Instant};

/// No lease, no interface, no route.
fn assert_nothing(scene: &Scene) {
    assert!(
        scene.daemon.state().leases.is_empty(),
        "the lease was given back"
    );
    assert_empty(&scene.host);
    assert_empty(&scene.pod);
}

pub(crate) fn netns_gone() -> Outcome {
    let scene = Scene::new()?;
    let msg = scene.runtime.command("ADD", "/nowhere").error(3);
    assert!(msg.contains("/nowhere"), "{msg}");
    assert!(
        scene.daemon.state().allocated.is_empty(),
        "no address is asked for"
    );
    Ok(())
}

pub(crate) fn own_netns() -> Outcome {
    let scene = Scene::new()?;
    scene.runtime.command("ADD", &scene.host.path()).error(4);
    assert!(scene.daemon.state().allocated.is_empty());
    assert_empty(&scene.host);
    Ok(())
}

pub(crate) fn not_a_netns() -> Outcome {
    let scene = Scene::new()?;
    let file = scene.dir.path().join("file");
    std::fs::write(&file, "")?;
    for path in [
        file.to_str().expect("UTF-8"),
        "/proc/self/ns/mnt",
        "/proc/self/ns/uts",
    ] {
        scene.runtime.command("ADD", path).error(4);
    }
    assert!(scene.daemon.state().allocated.is_empty());
    Ok(())
}

pub(crate) fn stranger_in_the_pod() -> Outcome {
    let mut scene = Scene::new()?;
    // A veth like any other plugin's: its other end is in a third namespace.
    let third = Netns::new()?;
    scene
        .pod
        .run(|| see::change::add_veth("eth0", "x", &third))?;
    let before = see::links(&scene.pod);
    let msg = scene.runtime.add(&scene.pod).error(100);
    assert!(
        msg.contains("veth eth0 is already in") && msg.contains("not ours"),
        "{msg}"
    );
    assert_eq!(see::links(&scene.pod), before);
    // And one whose other end is on the host, under a name that isn't one of ours.
    scene.pod = Netns::new()?;
    scene
        .host
        .run(|| see::change::add_veth("cali0123456789a", "eth0", &scene.pod))?;
    let before = see::links(&scene.pod);
    scene.runtime.add(&scene.pod).error(100);
    assert_eq!(see::links(&scene.pod), before);
    assert!(scene.daemon.state().leases.is_empty());
    Ok(())
}

/// A stranger's veth in the pod and one of ours on the host, with indexes that seem to make them
/// one: only the namespace's id tells that they are not.
pub(crate) fn strangers_index_is_like_ours() -> Outcome {
    let scene = Scene::new()?;
    let (third, fourth) = (Netns::new()?, Netns::new()?);
    third.run(|| see::change::add_veth_at(("x", 77), ("eth0", 99), &scene.pod))?;
    let ours = ("eni0123456789a", 77);
    scene
        .host
        .run(|| see::change::add_veth_at(ours, ("eth0", 99), &fourth))?;
    let (pod, host) = (see::links(&scene.pod), see::links(&scene.host));
    assert_eq!((pod[0].index, host[0].index), (99, 77));
    scene.runtime.add(&scene.pod).error(100);
    assert_eq!(see::links(&scene.pod), pod);
    assert_eq!(see::links(&scene.host), host);
    Ok(())
}

/// Something that is no veth has our host end's name.
pub(crate) fn stranger_on_the_host() -> Outcome {
    let scene = Scene::new()?;
    scene
        .host
        .run(|| see::change::add_bridge("eni0d7763386da"))?;
    let before = see::links(&scene.host);
    scene.runtime.add(&scene.pod).error(100);
    assert_eq!(see::links(&scene.host), before);
    assert_empty(&scene.pod);
    assert!(scene.daemon.state().leases.is_empty());
    Ok(())
}

/// The kernel still has a route for the address: it is never bent to another pod.
pub(crate) fn route_is_anothers() -> Outcome {
    let scene = Scene::new()?;
    scene.runtime.add(&scene.pod).ok();
    let old = scene.wiring();
    // A daemon that has forgotten the lease.
    scene.daemon.state().leases.clear();
    scene.daemon.state().free = vec!["10.1.0.1".parse()?];
    let new = Netns::new()?;
    let msg = scene.runtime.other("c2", "web-1").add(&new).error(101);
    assert!(msg.contains("add route 10.1.0.1/32"), "{msg}");
    assert_empty(&new);
    assert_wired(&scene.host, &scene.pod, &old);
    assert!(scene.daemon.state().leases.is_empty());
    Ok(())
}

pub(crate) fn refusal() -> Outcome {
    let scene = Scene::new()?;
    scene.daemon.state().refuse = Some(Refusal {
        cni_code: 11,
        message: "no free address".into(),
        details: "subnet-1 has no free /28; next try 12:31:07".into(),
        cause: "subnet_full".into(),
    });
    let answer = scene.runtime.add(&scene.pod);
    let wanted = json!({
        "cniVersion": "1.1.0",
        "code": 11,
        "msg": "no free address",
        "details": "subnet-1 has no free /28; next try 12:31:07",
    });
    assert_eq!((answer.exit_code, answer.json), (1, wanted));
    // A call that fails in gRPC's own words.
    scene.daemon.state().refuse = None;
    scene.daemon.state().free.clear();
    let msg = scene.runtime.add(&scene.pod).error(103);
    assert!(
        msg.contains("the test has no more addresses (gRPC status 8)"),
        "{msg}"
    );
    assert_nothing(&scene);
    Ok(())
}

pub(crate) fn unknown_wiring_version() -> Outcome {
    let scene = Scene::new()?;
    scene.daemon.state().spoil = Some(|wiring| wiring.version = 3);
    let msg = scene.runtime.add(&scene.pod).error(103);
    assert!(msg.contains("wiring version 3 is unknown here"), "{msg}");
    assert_nothing(&scene);
    assert_eq!(scene.daemon.state().released[0].reason, "add_failed");
    Ok(())
}

pub(crate) fn daemon_absent() -> Outcome {
    let mut scene = Scene::new()?;
    scene.daemon.stop();
    let mut runtime = scene.runtime.clone();
    runtime.conf["addTimeout"] = json!("300ms");
    let begin = Instant::now();
    let msg = runtime.add(&scene.pod).error(11);
    assert!(msg.contains("ipamd does not listen at"), "{msg}");
    assert!(
        (200..2000).contains(&begin.elapsed().as_millis()),
        "{:?}",
        begin.elapsed()
    );
    runtime.command("STATUS", "").error(50);
    assert_empty(&scene.host);
    Ok(())
}

/// An ADD rides out a restart.
pub(crate) fn daemon_restarts() -> Outcome {
    let mut scene = Scene::new()?;
    scene.daemon.stop();
    let (runtime, pod) = (scene.runtime.clone(), &scene.pod);
    std::thread::scope(|scope| {
        let add = scope.spawn(|| runtime.add(pod).ok());
        std::thread::sleep(Duration::from_millis(400));
        scene.daemon.again();
        add.join().expect("the ADD ends")
    });
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    Ok(())
}

pub(crate) fn daemon_hangs() -> Outcome {
    let scene = Scene::new()?;
    scene.daemon.state().delay = Duration::from_secs(20);
    let mut runtime = scene.runtime.clone();
    runtime.conf["addTimeout"] = json!("400ms");
    let begin = Instant::now();
    let msg = runtime.add(&scene.pod).error(11);
    assert!(msg.contains("did not answer in time"), "{msg}");
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    assert_empty(&scene.host);
    Ok(())
}

/// Each step that the kernel can refuse, after others were done.
pub(crate) fn failed_step_is_undone() -> Outcome {
    type Spoil = fn(&mut ipam_proto::v1::PodWiring);
    let steps: [(&str, Spoil); 7] = [
        ("create veth", |w| w.mtu = 100_000),
        ("create veth", |w| w.host_mac = "01:00:00:00:00:01".into()),
        ("none-such", |w| {
            let key = format!("net/ipv6/conf/{}/none-such", w.host_if);
            w.host_sysctls.push(sysctl(&key));
        }),
        ("add route", |w| w.host_routes[0].via = "10.250.0.1".into()),
        ("add route 0.0.0.0/0 in the pod", |w| {
            w.pod_routes[1].via = "10.250.0.1".into();
        }),
        ("add rule", |w| {
            let rule = ipam_proto::v1::Rule {
                priority: 7,
                table: 300,
                from: w.pod_addresses[0].clone(),
                ..Default::default()
            };
            w.host_rules = vec![rule.clone(), rule];
        }),
        ("add a rule in the pod", |w| {
            let good = own_rule(w);
            let bad = ipam_proto::v1::Rule {
                v6: true,
                ..good.clone()
            };
            w.pod_rules = vec![good, bad];
        }),
    ];
    let scene = Scene::new()?;
    let rules = see::rules(&scene.host);
    let in_pod = see::rules(&scene.pod);
    for (words, spoil) in steps {
        scene.daemon.state().spoil = Some(spoil);
        let msg = scene.runtime.add(&scene.pod).error(101);
        assert!(msg.contains(words), "{words:?} in {msg:?}");
        assert_nothing(&scene);
        assert_eq!(see::rules(&scene.host), rules, "{words}");
        assert_eq!(see::rules(&scene.pod), in_pod, "{words}");
    }
    scene.daemon.state().spoil = None;
    scene.runtime.add(&scene.pod).ok();
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    Ok(())
}

/// What the kernel might take, and nobody could undo, is not even begun.
pub(crate) fn nonsense_is_not_begun() -> Outcome {
    type Spoil = fn(&mut ipam_proto::v1::PodWiring);
    let nonsense: [(&str, Spoil); 16] = [
        ("../x", |w| w.pod_sysctls.push(sysctl("../x"))),
        ("/etc/passwd", |w| w.pod_sysctls.push(sysctl("/etc/passwd"))),
        ("kernel/panic", |w| {
            w.host_sysctls.push(sysctl("kernel/panic"));
        }),
        ("ipv4/ip_forward", |w| {
            w.host_sysctls.push(sysctl("net/ipv4/ip_forward"));
        }),
        ("all/route_localnet", |w| {
            w.host_sysctls
                .push(sysctl("net/ipv4/conf/all/route_localnet"));
        }),
        ("conf/lo/", |w| {
            w.host_sysctls.push(sysctl("net/ipv4/conf/lo/forwarding"));
        }),
        ("conf/all/", |w| {
            w.pod_sysctls.push(sysctl("net/ipv4/conf/all/forwarding"));
        }),
        ("0.0.0.0/0, not the pod's", |w| {
            w.host_routes[0].dst = "0.0.0.0/0".into();
        }),
        ("10.99.0.1/32, not the pod's", |w| {
            w.host_routes[0].dst = "10.99.0.1/32".into();
        }),
        ("rule on the host", |w| {
            w.host_rules = vec![ipam_proto::v1::Rule {
                priority: 1,
                table: 300,
                ..Default::default()
            }];
        }),
        ("none", |w| w.pod_routes[0].dev = "none".into()),
        ("lo", |w| w.host_routes[0].dev = "lo".into()),
        ("ens5", |w| {
            w.host_neighbours = w.pod_neighbours.clone();
            w.host_neighbours[0].dev = "ens5".into();
        }),
        ("other addresses", |w| {
            let rule = own_rule(w);
            w.pod_rules = vec![ipam_proto::v1::Rule {
                from: "0.0.0.0/0".into(),
                ..rule
            }];
        }),
        ("eni%d", |w| w.host_if = "eni%d".into()),
        ("65 entries", |w| {
            w.host_routes = vec![w.host_routes[0].clone(); 65];
        }),
    ];
    let scene = Scene::new()?;
    for (words, spoil) in nonsense {
        scene.daemon.state().spoil = Some(spoil);
        let msg = scene.runtime.add(&scene.pod).error(103);
        assert!(msg.contains(words), "{words:?} in {msg:?}");
        assert_nothing(&scene);
    }
    Ok(())
}

/// As a further interface has it.
fn own_rule(w: &ipam_proto::v1::PodWiring) -> ipam_proto::v1::Rule {
    ipam_proto::v1::Rule {
        priority: 1536,
        from: w.pod_addresses[0].clone(),
        table: 101,
        ..Default::default()
    }
}

fn sysctl(key: &str) -> ipam_proto::v1::Sysctl {
    ipam_proto::v1::Sysctl {
        key: key.into(),
        value: "1".into(),
        required: true,
    }
}

pub(crate) fn check_sees_damage() -> Outcome {
    type Damage = fn(u32) -> std::io::Result<()>;
    let damages: [(&str, Damage, bool); 4] = [
        ("is down", see::change::set_down, true),
        ("no route 10.1.0.", see::change::flush_routes, true),
        (
            "has no address 10.1.0.",
            see::change::flush_addresses,
            false,
        ),
        (
            "no permanent neighbour 169.254.1.1",
            see::change::flush_neighbours,
            false,
        ),
    ];
    let scene = Scene::new()?;
    for (n, (words, damage, on_host)) in damages.into_iter().enumerate() {
        let (pod, runtime) = (
            Netns::new()?,
            scene.runtime.other(&format!("c{n}"), &format!("p{n}")),
        );
        let result = runtime.add(&pod).ok();
        let runtime = runtime.with_result(&result);
        runtime.command("CHECK", &pod.path()).ok();
        let (place, end) = if on_host { (&scene.host, 0) } else { (&pod, 1) };
        let name = result["interfaces"][end]["name"].as_str().expect("a name");
        let index = see::link_named(place, name).expect("the link").index;
        place.run(|| damage(index))?;
        let msg = runtime.command("CHECK", &pod.path()).error(102);
        assert!(msg.contains(words), "{words:?} in {msg:?}");
    }
    let mut runtime = scene.runtime.other("c0", "p0");
    runtime.conf["prevResult"] = json!({ "ips": [{ "address": "10.9.9.9/32" }] });
    let msg = runtime.command("CHECK", &scene.pod.path()).error(102);
    assert!(msg.contains("which prevResult does not name"), "{msg}");
    let runtime = scene.runtime.other("c99", "p").with_result(&json!({}));
    let msg = runtime.command("CHECK", &scene.pod.path()).error(102);
    assert!(msg.contains("no lease for net/c99/eth0"), "{msg}");
    Ok(())
}

/// Their node-local addresses are no part of the result, and CRI-O calls CHECK.
pub(crate) fn check_of_a_pod_with_egress_addresses() -> Outcome {
    let scene = Scene::new()?;
    {
        let mut state = scene.daemon.state();
        state.free = vec!["fd00:1::7".parse()?];
        state.local = vec!["169.254.172.7".parse()?];
    }
    let result = scene.runtime.add(&scene.pod).ok();
    assert_eq!(scene.wiring().pod_addresses.len(), 2);
    assert_eq!(result["ips"].as_array().map(Vec::len), Some(1));
    let mut runtime = scene.runtime.with_result(&result);
    runtime.command("CHECK", &scene.pod.path()).ok();
    // The other one is still asked for.
    runtime.conf["prevResult"]["ips"] = json!([]);
    let msg = runtime.command("CHECK", &scene.pod.path()).error(102);
    assert!(msg.contains("lease is fd00:1::7, which"), "{msg}");
    assert!(!msg.contains("169.254.172.7"), "{msg}");
    Ok(())
}

pub(crate) fn status() -> Outcome {
    let scene = Scene::new()?;
    scene.runtime.command("STATUS", "").ok();
    scene.daemon.state().not_ready = Some((51, "subnet-1 is full".into()));
    assert_eq!(
        scene.runtime.command("STATUS", "").error(51),
        "subnet-1 is full "
    );
    scene.runtime.command("GC", "").ok();
    Ok(())
}
