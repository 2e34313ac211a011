//! Other plugins before and behind ours, and an agent that takes pods' routes over.

use crate::runtime::Chain;
use crate::{end, on_node, pods_of};
use ipamd_tests::{Mode, Outcome, SOON, Scene, ensure, eventually, fail, spec, succeeded};
use lab::Pod;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use vpc_sim::testing::Failure;

/// What the pod may get, bits a second, and for how long it is measured.
const RATE: u64 = 8_000_000;
const TIME: Duration = Duration::from_secs(2);

/// The limits of the pod's annotations hold, for what it gets and for what it sends; another pod has none.
pub(crate) fn bandwidth() -> Outcome {
    let limits = json!({"bandwidth": {
        "ingressRate": RATE, "ingressBurst": RATE / 8, "egressRate": RATE, "egressBurst": RATE / 8,
    }});
    let limited = Chain::shipped("calico")?.capabilities(&limits);
    let free = Chain::shipped("calico")?;
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    for chain in [&limited, &free, &free] {
        let mut pod = scene.make_pod()?;
        succeeded("ADD", &chain.add(&mut pod, "eth0")?)?;
        succeeded("CHECK", &chain.call("check", &pod, "eth0")?)?;
        scene.pods.push(pod);
    }
    let bytes = |from: usize, to: usize| passed(&scene.pods[from], &scene.pods[to]);
    // The queue lets a burst through, and a busy machine less than the rate.
    let most = RATE / 8 * 4 * TIME.as_secs();
    for (from, to, what) in [(1, 0, "to the limited pod"), (0, 1, "from it")] {
        let there = bytes(from, to)?;
        ensure(
            there > 10_000 && there < most,
            format!("{there} bytes {what}"),
        )?;
    }
    let there = bytes(1, 2)?;
    ensure(there > most, format!("{there} bytes between the others"))?;
    scene.all_agree()?;
    let mut pod = scene.pods.remove(0);
    succeeded("DEL", &limited.del(&mut pod, "eth0")?)?;
    drop(pod);
    let links = on_node(&scene, "ip", &["-o", "link", "show", "type", "ifb"])?;
    ensure(links.is_empty(), format!("left behind: {links}"))?;
    end(&free, scene)
}

/// How many bytes one pod sends to another in [`TIME`].
fn passed(from: &Pod, to: &Pod) -> Result<u64, Failure> {
    let (Some(there), Some(here), Some(ip)) = (&to.netns, &from.netns, to.address()) else {
        return fail("a pod without namespace or address");
    };
    let listener = there.net().run(move || TcpListener::bind((ip, 0)))??;
    let address = listener.local_addr()?;
    let mut sender = here
        .net()
        .run(move || TcpStream::connect_timeout(&address, Duration::from_secs(5)))??;
    let (mut receiver, _) = listener.accept()?;
    let end = Instant::now() + TIME;
    for stream in [&sender, &receiver] {
        stream.set_read_timeout(Some(TIME / 4))?;
        stream.set_write_timeout(Some(TIME / 4))?;
    }
    let sending = std::thread::spawn(move || {
        let piece = [0; 16 * 1024];
        // Full for a while is what a limit is.
        while Instant::now() < end {
            drop(sender.write(&piece));
        }
    });
    let (mut piece, mut sum) = ([0; 64 * 1024], 0);
    while Instant::now() < end {
        // The same: nothing for a while.
        let length = receiver.read(&mut piece).unwrap_or(0);
        sum += u64::try_from(length)?;
    }
    drop(receiver);
    match sending.join() {
        Ok(()) => Ok(sum),
        Err(_) => fail("the sender panicked"),
    }
}

/// What Cilium's plugin looks for in the result before it, it finds, in both versions of the specification.
pub(crate) fn cilium() -> Outcome {
    let shipped = Chain::shipped("cilium")?;
    let older = Chain::changed("cilium", |list| list["cniVersions"] = json!(["1.0.0"]))?;
    pods_of([&shipped, &older])
}

/// A plugin before ours has made something else of the pod: its result is passed on, whole, and ours
/// added to it.
pub(crate) fn later_plugin() -> Outcome {
    let chain = Chain::changed("plain", |list| {
        if let Some(plugins) = list["plugins"].as_array_mut() {
            plugins.insert(0, json!({"type": "loopback"}));
            plugins.push(json!({"type": "tuning", "mtu": 1400}));
        }
    })?;
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    for _ in 0..2 {
        let mut pod = scene.make_pod()?;
        succeeded("ADD", &chain.add(&mut pod, "eth0")?)?;
        succeeded("CHECK", &chain.call("check", &pod, "eth0")?)?;
        let mut result = pod.result.clone().unwrap_or_default();
        let names: Vec<&Value> = list(&result, "interfaces")
            .iter()
            .map(|i| &i["name"])
            .collect();
        let told = names.len() == 3 && names[0] == "lo" && names[2] == "eth0";
        ensure(told, format!("{result}"))?;
        let ours = list(&result, "ips")
            .iter()
            .filter(|ip| ip["interface"] == 2);
        let ours: Vec<Value> = ours.cloned().collect();
        ensure(
            ours.len() == 1 && list(&result, "ips").len() > 1,
            format!("{result}"),
        )?;
        // Those on `lo` are nobody else's business.
        result["ips"] = ours.into();
        pod.result = Some(result);
        scene.pods.push(pod);
    }
    scene.all_agree()?;
    scene.all_reach()?;
    end(&chain, scene)
}

fn list<'a>(result: &'a Value, name: &str) -> &'a [Value] {
    result[name].as_array().map_or(&[], Vec::as_slice)
}

/// Calico's Felix replaces our host route by its own, of metric 1024, some time after it has heard of the
/// pod, and sets the link's sysctls. Nobody puts it back, CHECK is content, packets pass, and the pod's name
/// is free for the next one after DEL.
pub(crate) fn felix() -> Outcome {
    let chain = Chain::shipped("calico")?;
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    for _ in 0..2 {
        let mut pod = scene.make_pod()?;
        succeeded("ADD", &chain.add(&mut pod, "eth0")?)?;
        takes_over(&scene, &pod)?;
        scene.pods.push(pod);
    }
    let as_felix = |scene: &Scene| -> Outcome {
        for pod in &scene.pods {
            let routes = routes_to(scene, pod)?;
            let one = routes.lines().count() == 1 && routes.contains("metric 1024");
            ensure(one, format!("{:?}: {routes}", pod.address()))?;
            succeeded("CHECK", &chain.call("check", pod, "eth0")?)?;
        }
        Ok(())
    };
    as_felix(&scene)?;
    // Other changes make the daemon look at all routes; so does its start.
    on_node(&scene, "ip", &["rule", "del", "priority", "512"])?;
    std::thread::sleep(Duration::from_secs(2));
    as_felix(&scene)?;
    scene.node().stop()?;
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    std::thread::sleep(Duration::from_secs(2));
    as_felix(&scene)?;
    scene.all_agree()?;
    scene.all_reach()?;
    // It takes its route away once the API has forgotten the pod, which may have seconds to end yet.
    let own = scene.pods[0].address().map(host).unwrap_or_default();
    on_node(&scene, "ip", &["route", "del", &own, "metric", "1024"])?;
    let back = |routes: &String| routes.contains(&scene.pods[0].host_link().unwrap_or_default());
    let look = || routes_to(&scene, &scene.pods[0]);
    eventually(SOON, look, back, |routes| ensure(back(&routes), routes))?;
    succeeded("CHECK", &chain.call("check", &scene.pods[0], "eth0")?)?;
    scene.all_reach()?;
    // A new sandbox of the same name, while the old one's namespace still stands.
    let mut old = scene.pods.remove(0);
    succeeded("DEL", &chain.del(&mut old, "eth0")?)?;
    let mut new = scene.make_pod()?;
    new.name = old.name.clone();
    succeeded("ADD under the same name", &chain.add(&mut new, "eth0")?)?;
    scene.pods.push(new);
    drop(old);
    eventually(
        SOON,
        || Ok(scene.all_agree()),
        Result::is_ok,
        |agreed| agreed,
    )?;
    scene.all_reach()?;
    end(&chain, scene)
}

/// What Felix does of its own accord (seen of 3.32.1, policy only).
fn takes_over(scene: &Scene, pod: &Pod) -> Outcome {
    let (Some(link), Some(ip)) = (pod.host_link(), pod.address()) else {
        return fail("a pod without link or address");
    };
    let own = host(ip);
    let route = ["route", "add", &own, "dev", &link, "scope", "link"];
    on_node(
        scene,
        "ip",
        &[&route[..], &["metric", "1024", "proto", "80"]].concat(),
    )?;
    on_node(
        scene,
        "ip",
        &["route", "del", &own, "dev", &link, "metric", "0"],
    )?;
    for (key, value) in [("proxy_arp", "1"), ("rp_filter", "0"), ("forwarding", "1")] {
        let file = format!("/proc/sys/net/ipv4/conf/{link}/{key}");
        scene.cluster.nodes()[0]
            .sim()
            .run(move || std::fs::write(file, value))??;
    }
    Ok(())
}

fn routes_to(scene: &Scene, pod: &Pod) -> Result<String, Failure> {
    let own = pod.address().map(host).unwrap_or_default();
    on_node(scene, "ip", &["-4", "route", "show", "exact", &own])
}

fn host(ip: IpAddr) -> String {
    format!("{ip}/32")
}
