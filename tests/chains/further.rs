//! Further interfaces of a pod, as Multus makes them: by the same plugin, each in a network of its own
//! name, with VPC addresses of its own.

use crate::runtime::Chain;
use crate::{end, reaches};
use ipamd_tests::{Mode, Outcome, Scene, ensure, fail, six, spec, succeeded};
use lab::Pod;
use serde_json::{Value, json};
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;
use vpc_sim::NetNs;
use vpc_sim::testing::Failure;

/// The default network, and further ones by their interfaces' names.
const FURTHER: [(&str, &str); 2] = [("net1", "1.1.0"), ("net2", "1.0.0")];

/// Each interface's addresses are asked and answer, and ask others, from this node and from another, by
/// their own interface; also where the kernel is strict about that. The first interface keeps the default
/// route. DELs end one interface, and its rules in the pod.
pub(crate) fn interface() -> Outcome {
    let one = spec(Mode::Prefix, "m5.large")?;
    let mut two = lab::ClusterSpec::new(one.daemon, "m5.large", 2);
    two.vpc.latencies = one.vpc.latencies;
    story(Scene::ready(two)?)
}

/// The same of pods with both families, on a further ENI.
pub(crate) fn both_families() -> Outcome {
    let both = six::Families::Dual(Mode::Prefix);
    story(Scene::ready(six::spec_of(both, "m5.large", 2)?)?)
}

fn story(mut scene: Scene) -> Outcome {
    let first = Chain::shipped("multus")?;
    for _ in 0..2 {
        let mut pod = scene.make_pod()?;
        succeeded("ADD", &first.add(&mut pod, "eth0")?)?;
        scene.pods.push(pod);
    }
    scene.add_elsewhere()?;
    let mut chains = Vec::new();
    for (name, version) in FURTHER {
        chains.push(Chain::changed("multus", |list| {
            list["name"] = format!("of-{name}").into();
            list["cniVersions"] = json!([version]);
        })?);
    }
    let pod = 0;
    let mut at = vec![scene.pods[pod].addresses()];
    for (chain, (name, version)) in chains.iter().zip(FURTHER) {
        at.push(add(chain, &mut scene, name, version)?);
        succeeded("CHECK", &chain.call("check", &scene.pods[pod], name)?)?;
    }
    succeeded("CHECK", &first.call("check", &scene.pods[pod], "eth0")?)?;
    strict(&scene)?;
    all_talk(&scene, &at)?;
    // Without its rule CHECK tells, and net1's answers go astray.
    let net = net_of(&scene.pods[pod])?;
    ip(&net, &format!("rule del from {}", at[1][0]))?;
    let check = chains[0].call("check", &scene.pods[pod], "net1")?;
    ensure(check.words().contains("no rule 1536"), check.words())?;
    let (asks, asked) = ((&scene.pods[2], scene.pods[2].addresses()[0]), at[1][0]);
    let astray = answered(asks, (&scene.pods[pod], asked))?;
    ensure(astray.is_err(), "nothing needs the rule")?;
    ip(&net, &format!("rule add prio 1536 from {asked} lookup 101"))?;
    all_talk(&scene, &at)?;
    // One goes; the other one is as it was, and so it is after a restart.
    succeeded("DEL of net1", &chains[0].del(&mut scene.pods[pod], "net1")?)?;
    scene.node().stop()?;
    scene.node().start()?;
    scene.node().wait_ready(ipamd_tests::SOON)?;
    let gone = at.remove(1);
    let rules = ip(&net, "rule")? + &ip(&net, "-6 rule")?;
    let named = gone.iter().any(|ip| rules.contains(&format!("{ip} ")));
    ensure(!named, format!("{gone:?} in {rules}"))?;
    succeeded("CHECK", &chains[1].call("check", &scene.pods[pod], "net2")?)?;
    all_talk(&scene, &at)?;
    // It comes again while its old link may still be there.
    at.push(add(&chains[0], &mut scene, "net1", "1.1.0")?);
    all_talk(&scene, &at)?;
    for (chain, (name, _)) in chains.iter().zip(FURTHER) {
        succeeded("DEL", &chain.del(&mut scene.pods[pod], name)?)?;
    }
    all_talk(&scene, &at[..1])?;
    let mut elsewhere = scene.pods.remove(2);
    succeeded("DEL", &scene.runtime.del(&mut elsewhere)?)?;
    drop(elsewhere);
    end(&first, scene)
}

/// A further interface of the first pod; its addresses, which the result tells, and no route of the main
/// table.
fn add(
    chain: &Chain,
    scene: &mut Scene,
    name: &str,
    version: &str,
) -> Result<Vec<IpAddr>, Failure> {
    let call = chain.add(&mut scene.pods[0], name)?;
    succeeded("ADD", &call)?;
    let result = call.json();
    ensure(result["cniVersion"] == version, result.to_string())?;
    let main = |route: &Value| route["table"].is_null();
    let routes = result["routes"].as_array().cloned().unwrap_or_default();
    ensure(!routes.iter().any(main), result.to_string())?;
    let mut addresses = Vec::new();
    for told in result["ips"].as_array().into_iter().flatten() {
        ensure(told["gateway"].is_string(), result.to_string())?;
        let text = told["address"].as_str().unwrap_or_default();
        let address = text.split('/').next().unwrap_or_default().parse();
        addresses.push(address.map_err(|_| Failure::Wrong(result.to_string()))?);
    }
    let known = scene.pods[0].addresses();
    let new = addresses.len() == known.len() && !addresses.iter().any(|ip| known.contains(ip));
    ensure(new, result.to_string())?;
    Ok(addresses)
}

/// Packets of a source whose way back is another interface are dropped, in the pod and on pods' links.
fn strict(scene: &Scene) -> Outcome {
    let set = |net: &NetNs, name: &str| {
        let file = format!("/proc/sys/net/ipv4/conf/{name}/rp_filter");
        net.run(move || std::fs::write(file, "1"))
    };
    for name in ["all", "eth0", "net1", "net2"] {
        set(&net_of(&scene.pods[0])?, name)??;
    }
    let Some(node) = scene.cluster.nodes().first() else {
        return fail("no node");
    };
    let net = node.sim().net().clone();
    for link in lab::kernel::links(&net, lab::check::POD_LINK)? {
        set(&net, &link)??;
    }
    Ok(())
}

/// The first pod's addresses, by interface, with the pods of this and of the other node.
fn all_talk(scene: &Scene, at: &[Vec<IpAddr>]) -> Outcome {
    let pod = &scene.pods[0];
    for (place, own) in at.iter().flatten().flat_map(|own| [(1, own), (2, own)]) {
        let other = &scene.pods[place];
        let same = |ip: &IpAddr| ip.is_ipv4() == own.is_ipv4();
        let Some(there) = other.addresses().into_iter().find(same) else {
            return fail("a pod lacks a family");
        };
        for (from, to) in [((other, there), (pod, *own)), ((pod, *own), (other, there))] {
            let words = |why| format!("{} to {}: {why}", from.1, to.1);
            ensure_talk(answered(from, to)?.map_err(words))?;
        }
    }
    ensure(reaches(&scene.pods[1], pod)?, "eth0 is not reached")
}

fn ensure_talk(result: Result<(), String>) -> Outcome {
    result.or_else(fail)
}

/// Whether one address gets an answer from another, and the other sees it: `Err` inside is why not.
pub(crate) fn answered(
    (from, here): (&Pod, IpAddr),
    (to, there): (&Pod, IpAddr),
) -> Result<Result<(), String>, Failure> {
    let bound = |pod: &Pod, ip: IpAddr| -> Result<UdpSocket, Failure> {
        let socket = net_of(pod)?.run(move || UdpSocket::bind((ip, 0)))??;
        socket.set_read_timeout(Some(Duration::from_millis(400)))?;
        Ok(socket)
    };
    let (asks, answers) = (bound(from, here)?, bound(to, there)?);
    let mut why = "nothing arrives".to_owned();
    for _ in 0..3 {
        asks.send_to(b"?", answers.local_addr()?)?;
        let Ok((_, seen)) = answers.recv_from(&mut [0; 8]) else {
            continue;
        };
        if seen != asks.local_addr()? {
            return Ok(Err(format!("it is seen as {seen}")));
        }
        answers.send_to(b"!", seen)?;
        match asks.recv(&mut [0; 8]) {
            Ok(_) => return Ok(Ok(())),
            Err(_) => why = "no answer arrives".into(),
        }
    }
    Ok(Err(why))
}

fn net_of(pod: &Pod) -> Result<NetNs, Failure> {
    match &pod.netns {
        Some(netns) => Ok(netns.net().clone()),
        None => fail("a pod without a namespace"),
    }
}

/// iproute2 in a namespace.
fn ip(net: &NetNs, line: &str) -> Result<String, Failure> {
    ipamd_tests::net::output(net, &format!("ip {line}"))
}
