//! Promise: the plugin is an honest citizen of any chain: driven by libcni, with the reference plugins
//! behind it, by the very network configurations in `deploy/conflists`.
//!
//! The programs are built by `cargo xtask test` from the Go module beside this file.

mod further;
mod others;
mod renamed;
mod runtime;

use ipamd_tests::{Mode, Outcome, Scene, ensure, fail, spec, succeeded};
use lab::Pod;
use runtime::{Chain, first};
use serde_json::{Value, json};
use std::process::Command;
use vpc_sim::testing::{Failure, Test, run};

fn main() -> std::process::ExitCode {
    run(&[
        test("plain", plain),
        test("every_version", every_version),
        test("reference_plugins", reference_plugins),
        test("firewall", firewall),
        test("gc_with_survivors", gc_with_survivors),
        test("the_daemon_installs_it", installed),
        test("policy_is_left_to_others", policy),
        test("a_further_interface", further::interface),
        test(
            "further_interfaces_with_both_families",
            further::both_families,
        ),
        test("the_networks_name_is_changed", renamed::network),
        test("the_same_name_again_and_again", stateful_set),
        test("bandwidth_is_limited", others::bandwidth),
        test("cilium_behind_us", others::cilium),
        test("behind_another_plugin", others::later_plugin),
        test("felix_takes_the_routes_over", others::felix),
    ])
}

const fn test(name: &'static str, run: fn() -> Outcome) -> Test {
    Test { name, run }
}

/// All verbs by the plain configuration; the newest version is spoken.
fn plain() -> Outcome {
    let chain = Chain::shipped("plain")?;
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    for _ in 0..3 {
        let mut pod = scene.make_pod()?;
        succeeded("ADD", &chain.add(&mut pod, "eth0")?)?;
        let result = pod.result.clone().unwrap_or_default();
        ensure(result["cniVersion"] == "1.1.0", format!("{result}"))?;
        let gateway = &result["ips"][0]["gateway"];
        ensure(gateway == "169.254.1.1", format!("{result}"))?;
        succeeded("CHECK", &chain.call("check", &pod, "eth0")?)?;
        scene.pods.push(pod);
    }
    succeeded("STATUS", &chain.network("status", first(&scene)?, &[])?)?;
    scene.all_agree()?;
    scene.all_reach()?;
    end(&chain, scene)
}

/// DELs every pod by libcni, then all must be gone.
pub(crate) fn end(chain: &Chain, mut scene: Scene) -> Outcome {
    for mut pod in std::mem::take(&mut scene.pods) {
        succeeded("DEL", &chain.del(&mut pod, "eth0")?)?;
        succeeded("DEL again", &chain.call("del", &pod, "eth0")?)?;
        pod.remove_netns()?;
    }
    scene.nothing_is_left()
}

/// `mtu` as a text and as a number.
fn every_version() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    for (version, mtu) in [
        ("0.3.1", json!("1500")),
        ("0.4.0", json!(1400)),
        ("1.0.0", json!("8900")),
        ("1.1.0", json!(9001)),
    ] {
        let chain = Chain::changed("plain", |list| {
            list["cniVersion"] = version.into();
            list["cniVersions"] = json!([version]);
            list["plugins"][0]["mtu"] = mtu.clone();
        })?;
        let mut pod = scene.make_pod()?;
        succeeded(version, &chain.add(&mut pod, "eth0")?)?;
        let result = pod.result.clone().unwrap_or_default();
        ensure(result["cniVersion"] == version, format!("{result}"))?;
        if version != "0.3.1" {
            succeeded("CHECK", &chain.call("check", &pod, "eth0")?)?;
        }
        scene.pods.push(pod);
        scene.all_agree()?;
        let mut pod = scene.pods.remove(0);
        succeeded("DEL", &chain.del(&mut pod, "eth0")?)?;
    }
    scene.nothing_is_left()
}

/// portmap, bandwidth and tuning behind ours, with what a runtime gives them.
fn reference_plugins() -> Outcome {
    let ports =
        json!({"portMappings": [{"hostPort": 18080, "containerPort": 80, "protocol": "tcp"}]});
    let chain = Chain::shipped("calico")?.capabilities(&ports);
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    let mut pod = scene.make_pod()?;
    succeeded("ADD", &chain.add(&mut pod, "eth0")?)?;
    succeeded("CHECK", &chain.call("check", &pod, "eth0")?)?;
    let name = pod.host_link().unwrap_or_default();
    ensure(
        name.starts_with("eni") && name.len() == 14,
        format!("{name:?}"),
    )?;
    let rules = on_node(&scene, "iptables-save", &["-t", "nat"])?;
    ensure(rules.contains("18080"), format!("no host port: {rules}"))?;
    scene.pods.push(pod);
    scene.all_agree()?;
    scene.all_reach()?;
    let mut pod = scene.pods.remove(0);
    succeeded("DEL", &chain.del(&mut pod, "eth0")?)?;
    let rules = on_node(&scene, "iptables-save", &["-t", "nat"])?;
    ensure(
        !rules.contains("18080"),
        format!("the host port stays: {rules}"),
    )?;
    drop(pod);
    scene.nothing_is_left()
}

/// A pod of each chain: made, checked, on the wire, ended by the first one.
pub(crate) fn pods_of(chains: [&Chain; 2]) -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    for chain in chains {
        let mut pod = scene.make_pod()?;
        succeeded("ADD", &chain.add(&mut pod, "eth0")?)?;
        succeeded("CHECK", &chain.call("check", &pod, "eth0")?)?;
        scene.pods.push(pod);
    }
    scene.all_agree()?;
    scene.all_reach()?;
    end(chains[0], scene)
}

/// Accepts what the pod sends and gets, by iptables.
fn firewall() -> Outcome {
    let chain = Chain::changed("plain", |list| {
        let more = json!({"type": "firewall", "backend": "iptables"});
        if let Some(plugins) = list["plugins"].as_array_mut() {
            plugins.push(more);
        }
    })?;
    pods_of([&chain, &chain])
}

/// libcni DELs what it has cached and GC does not name, then asks the plugins.
fn gc_with_survivors() -> Outcome {
    let chain = Chain::shipped("plain")?;
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    for _ in 0..4 {
        let mut pod = scene.make_pod()?;
        succeeded("ADD", &chain.add(&mut pod, "eth0")?)?;
        scene.pods.push(pod);
    }
    // Its cache knows one of the stale ones no more.
    let stale = scene.pods.split_off(2);
    scene
        .node()
        .sim()
        .run(|| std::fs::remove_dir_all("/var/lib/cni"))??;
    let valid: Vec<Value> = scene
        .pods
        .iter()
        .map(|pod| json!({"containerID": pod.container_id, "ifname": "eth0"}))
        .collect();
    succeeded("GC", &chain.network("gc", first(&scene)?, &valid)?)?;
    let leases = scene.node().snapshot()?.leases().len();
    ensure(leases == 2, format!("{leases} leases, not 2"))?;
    scene.all_agree()?;
    scene.all_reach()?;
    drop(stale);
    end(&chain, scene)
}

/// The configuration comes with the first address, whole, and stays while the daemon is away.
fn installed() -> Outcome {
    let dir = "/run/net.d";
    let mut spec = spec(Mode::Prefix, "m5.large")?;
    spec.daemon = spec
        .daemon
        .set("HOST_CNI_CONFDIR_PATH", dir)
        .set("IPAMD_CONFLIST_NAME", "05-ours.conflist")
        .set("DISABLE_POD_V6", "true");
    let mut scene = Scene::new(spec)?;
    let sim = scene.node().sim().clone();
    let look = move || {
        let names = |dir| std::fs::read_dir(dir).map(|all| all.flatten().map(|e| e.file_name()));
        let names: Vec<_> = names("/run/net.d")?.collect();
        Ok::<_, std::io::Error>(names)
    };
    sim.run(move || std::fs::create_dir(dir))??;
    ensure(sim.run(look)??.is_empty(), "before the daemon")?;
    scene.cluster.start_daemons(ipamd_tests::SOON)?;
    ipamd_tests::eventually(
        5 * ipamd_tests::SOON,
        || Ok(sim.run(look)??),
        |names| !names.is_empty(),
        |names| ensure(names == ["05-ours.conflist"], format!("{names:?}")),
    )?;
    let chain = Chain::at("/run/net.d/05-ours.conflist".into())?;
    let mut pod = scene.make_pod()?;
    succeeded("ADD", &chain.add(&mut pod, "eth0")?)?;
    let off = pod.netns.as_ref().map(|ns| {
        ns.net()
            .run(|| std::fs::read_to_string("/proc/sys/net/ipv6/conf/all/disable_ipv6"))
    });
    if let Some(off) = off {
        let off = off??;
        ensure(off.trim() == "1", format!("disable_ipv6 is {off}"))?;
    }
    scene.pods.push(pod);
    scene.node().stop()?;
    ensure(sim.run(look)??.len() == 1, "it went with the daemon")?;
    succeeded(
        "STATUS without a daemon",
        &chain.network("status", first(&scene)?, &[])?,
    )?;
    scene.node().start()?;
    scene.node().wait_ready(ipamd_tests::SOON)?;
    scene.all_agree()?;
    end(&chain, scene)
}

/// A stand-in for a policy agent: it knows pods by their host links' names, as Felix does.
fn policy() -> Outcome {
    let chain = Chain::shipped("calico")?;
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    for _ in 0..3 {
        let mut pod = scene.make_pod()?;
        succeeded("ADD", &chain.add(&mut pod, "eth0")?)?;
        scene.pods.push(pod);
    }
    let link = |n: usize| scene.pods[n].host_link().unwrap_or_default();
    let address = |n: usize| scene.pods[n].address().map(|ip| ip.to_string());
    let (guarded, friend) = (link(0), address(1).unwrap_or_default());
    let stranger = address(2).unwrap_or_default();
    let rules = format!(
        "table inet agent {{ chain forward {{ type filter hook forward priority 0; \
         oifname \"{guarded}\" ip saddr {friend} accept; \
         oifname \"{guarded}\" ip saddr {stranger} drop; }}; }}"
    );
    ensure(
        reaches(&scene.pods[1], &scene.pods[0])?,
        "before the policy",
    )?;
    ensure(
        reaches(&scene.pods[2], &scene.pods[0])?,
        "before the policy",
    )?;
    on_node(&scene, "nft", &[rules.as_str()])?;
    ensure(
        reaches(&scene.pods[1], &scene.pods[0])?,
        "the friend is kept out",
    )?;
    ensure(
        !reaches(&scene.pods[2], &scene.pods[0])?,
        "the stranger is let in",
    )?;
    on_node(&scene, "nft", &["delete", "table", "inet", "agent"])?;
    ensure(reaches(&scene.pods[2], &scene.pods[0])?, "after the policy")?;
    end(&chain, scene)
}

/// A StatefulSet's pod: the new one's ADD and the old one's DEL are asked for at once, and a second DEL of the
/// old one comes late. Each ADD succeeds, with no second one.
fn stateful_set() -> Outcome {
    let chain = Chain::shipped("plain")?;
    let mut spec = spec(Mode::Prefix, "m5.large")?;
    spec.daemon = spec.daemon.set("IP_COOLDOWN_PERIOD", "1");
    let mut scene = Scene::ready(spec)?;
    let mut old: Option<Pod> = None;
    for n in 0..200 {
        let mut pod = scene.make_pod()?;
        pod.name = "web-0".into();
        if let Some(old) = &mut old {
            // The runtime stops the old sandbox: DEL with its result, as the new one is made.
            let (del, add) = std::thread::scope(|scope| {
                let del = scope.spawn(|| chain.call("del", old, "eth0"));
                let add = chain.add(&mut pod, "eth0");
                (del.join(), add)
            });
            let Ok(del) = del else {
                return fail("panicked");
            };
            succeeded("DEL", &del?)?;
            succeeded(&format!("ADD {n}"), &add?)?;
            // The second DEL has neither namespace nor result.
            old.remove_netns()?;
            old.result = None;
            succeeded("second DEL", &chain.call("del", old, "eth0")?)?;
        } else {
            succeeded("ADD", &chain.add(&mut pod, "eth0")?)?;
        }
        let link = pod.host_link().unwrap_or_default();
        let net = scene.node().sim().net().clone();
        let there = lab::kernel::links(&net, &link)?;
        ensure(there.contains(&link), format!("{n}: {link} is not there"))?;
        let routed = lab::kernel::pod_routes(&net, "eni")?;
        let routed = pod.addresses().iter().all(|ip| routed.contains_key(ip));
        ensure(routed, format!("{n}: no host route"))?;
        old = Some(pod);
    }
    scene.pods.extend(old);
    scene.all_agree()?;
    scene.all_reach()?;
    end(&chain, scene)
}

pub(crate) fn on_node(scene: &Scene, program: &str, args: &[&str]) -> Result<String, Failure> {
    let mut command = Command::new(program);
    command.args(args);
    let output = first(scene)?.sim().net().output(command)?;
    let (out, err) = (output.stdout, output.stderr);
    let words = String::from_utf8_lossy(&err).into_owned();
    ensure(output.status.success(), format!("{program}: {words}"))?;
    Ok(String::from_utf8_lossy(&out).into_owned())
}

/// Whether a datagram arrives, and an answer.
fn reaches(from: &Pod, to: &Pod) -> Result<bool, Failure> {
    match (from.address(), to.address()) {
        (Some(here), Some(there)) => Ok(further::answered((from, here), (to, there))?.is_ok()),
        _ => fail("a pod without an address"),
    }
}
