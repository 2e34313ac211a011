//! Promise: what a real container runtime does, works: containerd, asked by CRI as the kubelet asks it,
//! calls the plugin for its sandboxes on a node of the mini VPC.
//!
//! The programs are built by `cargo xtask test` from the Go module beside this file.

mod cluster;
mod contained;
mod containerd;
mod strangers;

use containerd::{Containerd, FAIL, NET_D};
use ipamd_tests::{Mode, Outcome, SOON, Scene, ensure, eventually, fail, spec};
use lab::{ClusterSpec, Pod, kernel};
use std::time::{Duration, Instant};
use vpc_sim::testing::{Failure, Test, run_side_by_side};

fn main() -> std::process::ExitCode {
    let tests = [
        test("a_sandbox_comes_and_goes", comes_and_goes),
        test("twenty_at_once", twenty_at_once),
        test("a_failed_add_leaves_nothing", failed_add),
        test("another_configuration_in_between", other_configuration),
        test("another_networks_name_in_between", other_name),
        test("containerd_is_killed", containerd_killed),
        test("the_daemon_is_away", daemon_away),
        test("a_minute_without_the_daemon", minute_away),
        test("a_contained_daemon", contained::as_the_manifest_says),
        test("strangers_on_the_node_get_nothing", strangers::get_nothing),
        test("no_pods_without_net_admin", contained::without_net_admin),
        test("a_contained_daemon_with_ipv6", contained::dual),
        test("cluster_node_and_pods", cluster::node_and_pods),
        test("cluster_the_daemon_is_away", cluster::daemon_away),
        test("cluster_twenty_pods", cluster::twenty_pods),
        test(
            "cluster_restarts_under_churn",
            cluster::restarts_under_churn,
        ),
    ];
    // Two wait for a minute, and nothing else.
    run_side_by_side(&tests, 2, Duration::from_secs(300))
}

const fn test(name: &'static str, run: fn() -> Outcome) -> Test {
    Test { name, run }
}

/// Settings as on a node: the daemon installs the network configuration where containerd looks.
fn settings() -> Result<ClusterSpec, Failure> {
    let mut spec = spec(Mode::Prefix, "m5.large")?;
    spec.daemon = spec.daemon.set("HOST_CNI_CONFDIR_PATH", NET_D);
    Ok(spec)
}

/// A node on which containerd can make sandboxes.
fn ready(spec: ClusterSpec) -> Result<(Containerd, Scene), Failure> {
    let mut scene = Scene::new(spec)?;
    let node = scene.node().sim().clone();
    let containerd = Containerd::start(&node)?;
    scene.cluster.start_daemons(SOON)?;
    network_comes(&containerd)?;
    Ok((containerd, scene))
}

fn network_comes(containerd: &Containerd) -> Outcome {
    eventually(
        2 * SOON,
        || containerd.network_ready(),
        |ready| *ready,
        |ready| ensure(ready, format!("no NetworkReady\n{}", containerd.log())),
    )
}

/// Ends all sandboxes; then nothing is left of them, on the node nor in EC2.
fn end(containerd: Containerd, mut scene: Scene) -> Outcome {
    for pod in std::mem::take(&mut scene.pods) {
        containerd.end(pod)?;
    }
    nothing_of_pods(&containerd, &mut scene)?;
    let list = containerd.done("list", &["list"])?;
    ensure(list == serde_json::json!([]), list.to_string())?;
    drop(containerd);
    scene.nothing_is_left()
}

/// No link, route or lease of a pod; no process, mount or cgroup of a sandbox.
fn nothing_of_pods(containerd: &Containerd, scene: &mut Scene) -> Outcome {
    let net = scene.node().sim().net();
    let look = || {
        let mut left = containerd.leftovers()?;
        left.extend(kernel::links(&net, lab::check::POD_LINK)?);
        let routes = kernel::pod_routes(&net, lab::check::POD_LINK)?;
        left.extend(routes.keys().map(|ip| format!("route {ip}")));
        Ok(left)
    };
    let judge = |left: Vec<String>| ensure(left.is_empty(), left.join("\n"));
    eventually(2 * SOON, look, Vec::is_empty, judge)?;
    let leases = scene.node().snapshot()?.leases().len();
    ensure(leases == 0, format!("{leases} leases"))
}

fn delete_calls(containerd: &Containerd, pod: &str) -> Result<Vec<String>, Failure> {
    let begins = format!("DEL container={pod} ");
    let calls = containerd.calls()?.into_iter();
    Ok(calls
        .filter_map(|call| call.strip_prefix(&begins).map(String::from))
        .collect())
}

/// Not ready before there is an address; then sandboxes with VPC addresses; two DELs, the second one with
/// neither namespace nor result.
fn comes_and_goes() -> Outcome {
    let mut scene = Scene::new(settings()?)?;
    let node = scene.node().sim().clone();
    let containerd = Containerd::start(&node)?;
    ensure(!containerd.network_ready()?, "ready without a daemon")?;
    ensure(
        containerd.try_run("early", 0)?.is_err(),
        "a sandbox without a network",
    )?;
    scene.cluster.start_daemons(SOON)?;
    network_comes(&containerd)?;
    for name in ["a", "b", "c"] {
        scene.pods.push(containerd.run(name)?);
    }
    scene.all_agree()?;
    scene.all_reach()?;
    let pod = scene.pods.remove(0);
    let id = pod.container_id.clone();
    containerd.done("stop", &["stop", &id])?;
    scene.all_agree()?;
    containerd.done("stop again", &["stop", &id])?;
    containerd.done("remove", &["remove", &id])?;
    let calls = delete_calls(&containerd, &id)?;
    let told = calls
        .first()
        .is_some_and(|call| call.starts_with("netns=/") && call.ends_with("prevResult=1"));
    let last = calls.last().map(String::as_str);
    ensure(
        calls.len() > 1 && told && last == Some("netns= prevResult=0"),
        format!("{calls:?}"),
    )?;
    scene.all_agree()?;
    scene.all_reach()?;
    end(containerd, scene)
}

/// Twenty sandboxes side by side, three times, with other numbers of pods in between.
fn twenty_at_once() -> Outcome {
    let (containerd, mut scene) = ready(settings()?)?;
    for round in 0..3 {
        let names: Vec<String> = (0..20).map(|n| format!("r{round}-{n}")).collect();
        let pods: Vec<Result<Pod, Failure>> = side_by_side(&names, |name| containerd.run(name));
        for pod in pods {
            scene.pods.push(pod?);
        }
        scene.all_agree()?;
        if round == 0 {
            scene.all_reach()?;
        }
        let going: Vec<Pod> = scene.pods.drain(..18).collect();
        let ids: Vec<String> = going.iter().map(|p| p.container_id.clone()).collect();
        drop(going);
        let ended = side_by_side(&ids, |id| {
            containerd.done("stop", &["stop", id])?;
            containerd.done("remove", &["remove", id])
        });
        ended.into_iter().collect::<Result<Vec<_>, _>>()?;
        scene.all_agree()?;
    }
    end(containerd, scene)
}

fn side_by_side<T: Send>(names: &[String], work: impl Fn(&str) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = names
            .iter()
            .map(|name| scope.spawn(|| work(name)))
            .collect();
        let joined = threads.into_iter().map(std::thread::ScopedJoinHandle::join);
        joined
            .map(|r| r.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}

/// A plugin behind ours fails: the runtime DELs at once, and the next sandbox of the same pod comes.
fn failed_add() -> Outcome {
    let mut spec = settings()?;
    let shipped = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../deploy/conflists/plain.conflist"
    );
    let mut list: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(shipped)?)?;
    if let Some(plugins) = list["plugins"].as_array_mut() {
        plugins.push(serde_json::json!({"type": "ipamd-tests-fails"}));
    }
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(&file, list.to_string())?;
    spec.daemon = spec.daemon.set("IPAMD_CONFLIST", file.path().display());
    let (containerd, mut scene) = ready(spec)?;
    scene.pods.push(containerd.run("stays")?);
    let node = scene.node().sim().clone();
    node.run(|| std::fs::write(FAIL, ""))??;
    for attempt in 0..3 {
        match containerd.try_run("unlucky", attempt)? {
            Ok(_) => return fail("it did not fail"),
            Err(words) => ensure(words.contains("told to fail"), words)?,
        }
        scene.all_agree()?;
    }
    let adds = containerd.calls()?;
    let count = |verb: &str| adds.iter().filter(|call| call.starts_with(verb)).count();
    ensure(count("ADD") == 4 && count("DEL") >= 3, adds.join("\n"))?;
    node.run(|| std::fs::remove_file(FAIL))??;
    match containerd.try_run("unlucky", 3)? {
        Ok(pod) => scene.pods.push(pod),
        Err(words) => return fail(words),
    }
    scene.all_agree()?;
    scene.all_reach()?;
    end(containerd, scene)
}

/// The network gets other settings and another plugin while sandboxes are in it. containerd's DELs go by the
/// file that is there by then.
fn other_configuration() -> Outcome {
    let (containerd, mut scene) = ready(settings()?)?;
    for name in ["a", "b"] {
        scene.pods.push(containerd.run(name)?);
    }
    let node = scene.node().sim().clone();
    // It sorts before the daemon's.
    node.run(|| {
        let text = r#"{"cniVersion": "1.0.0", "name": "ipamd", "plugins":
            [{"type": "ipamd-cni", "mtu": 1400, "addTimeout": "20s"}, {"type": "ipamd-tests-fails"}]}"#;
        std::fs::write(format!("{NET_D}/05-new.tmp"), text)?;
        std::fs::rename(format!("{NET_D}/05-new.tmp"), format!("{NET_D}/05-new.conflist"))
    })??;
    let other = || {
        let pod = containerd.run("probe")?;
        let mtu = pod.netns.as_ref().map(|ns| ns.net().run(mtu));
        containerd.end(pod)?;
        Ok(mtu.transpose()?.transpose()?.unwrap_or_default())
    };
    let judge = |mtu| ensure(mtu == "1400", format!("the MTU is still {mtu}"));
    eventually(2 * SOON, other, |mtu| mtu == "1400", judge)?;
    scene.pods.push(containerd.run("c")?);
    scene.all_agree()?;
    scene.all_reach()?;
    end(containerd, scene)
}

/// The network gets another name, and DELs go by that: the plugin has never heard of such attachments.
fn other_name() -> Outcome {
    let (containerd, mut scene) = ready(settings()?)?;
    for name in ["a", "b", "c"] {
        scene.pods.push(containerd.run(name)?);
    }
    let node = scene.node().sim().clone();
    node.run(|| {
        let text =
            r#"{"cniVersion": "1.0.0", "name": "renamed", "plugins": [{"type": "ipamd-cni"}]}"#;
        std::fs::write(format!("{NET_D}/05-new.tmp"), text)?;
        std::fs::rename(
            format!("{NET_D}/05-new.tmp"),
            format!("{NET_D}/05-new.conflist"),
        )
    })??;
    let probe = || {
        let pod = containerd.run("probe")?;
        let listed = node.run(|| {
            let all = std::fs::read_dir("/var/lib/cni/results")?.flatten();
            let names = all.map(|e| e.file_name().to_string_lossy().into_owned());
            Ok::<_, std::io::Error>(names.collect::<Vec<_>>().join(" "))
        })??;
        containerd.end(pod)?;
        Ok(listed)
    };
    let heeded = |listed: &String| listed.contains("renamed-");
    let judge = |listed| ensure(heeded(&listed), listed);
    eventually(2 * SOON, probe, heeded, judge)?;
    for pod in scene.pods.drain(1..).collect::<Vec<_>>() {
        containerd.end(pod)?;
    }
    let one = |pool: &lab::snapshot::Snapshot| pool.leases().len() == 1;
    scene.node().wait_pool(SOON, "one lease", one)?;
    scene.all_agree()?;
    scene.all_reach()?;
    containerd.end(scene.pods.remove(0))?;
    let none = |pool: &lab::snapshot::Snapshot| pool.leases().is_empty();
    scene.node().wait_pool(SOON, "no lease", none)?;
    end(containerd, scene)
}

fn mtu() -> std::io::Result<String> {
    let mut ip = std::process::Command::new("ip");
    ip.args(["-j", "link", "show", "eth0"]);
    let text = ip.output()?.stdout;
    let links: serde_json::Value = serde_json::from_slice(&text)?;
    Ok(links[0]["mtu"].to_string())
}

/// Its sandboxes stay, and so do their addresses and packets.
fn containerd_killed() -> Outcome {
    let (mut containerd, mut scene) = ready(settings()?)?;
    for name in ["a", "b", "c"] {
        scene.pods.push(containerd.run(name)?);
    }
    let before = containerd.calls()?;
    for _ in 0..2 {
        containerd.restart()?;
        scene.all_agree()?;
        scene.all_reach()?;
    }
    network_comes(&containerd)?;
    let calls = containerd.calls()?;
    let changing = |call: &&String| call.starts_with("ADD") || call.starts_with("DEL");
    let count = |calls: &[String]| calls.iter().filter(changing).count();
    ensure(count(&before) == count(&calls), calls.join("\n"))?;
    scene.pods.push(containerd.run("d")?);
    scene.all_agree()?;
    end(containerd, scene)
}

/// Killed and back: sandboxes wait for it, and those that end meanwhile are heard of at its start.
fn daemon_away() -> Outcome {
    let (containerd, mut scene) = ready(settings()?)?;
    for name in ["a", "b", "c"] {
        scene.pods.push(containerd.run(name)?);
    }
    scene.node().kill();
    containerd.end(scene.pods.remove(0))?;
    scene.all_reach()?;
    let pod = std::thread::scope(|scope| {
        let late = scope.spawn(|| containerd.run("late"));
        std::thread::sleep(Duration::from_secs(2));
        let started = scene.node().start();
        let late = late.join();
        started?;
        late.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    scene.pods.push(pod);
    scene.node().wait_ready(SOON)?;
    let leases = |pool: &lab::snapshot::Snapshot| pool.leases().len() == 3;
    scene.node().wait_pool(SOON, "three leases", leases)?;
    scene.all_agree()?;
    scene.all_reach()?;
    end(containerd, scene)
}

/// The condition that makes a node ready does not change, and a sandbox that is asked for waits.
fn minute_away() -> Outcome {
    let (containerd, mut scene) = ready(settings()?)?;
    scene.pods.push(containerd.run("a")?);
    scene.node().stop()?;
    let began = Instant::now();
    let away = Duration::from_secs(60);
    let pod = std::thread::scope(|scope| {
        let containerd = &containerd;
        let late = scope.spawn(move || {
            std::thread::sleep(Duration::from_secs(40));
            containerd.run("late")
        });
        // More often than the kubelet asks.
        while began.elapsed() < away {
            ensure(
                containerd.network_ready()?,
                format!("not ready after {:?}", began.elapsed()),
            )?;
            std::thread::sleep(Duration::from_secs(1));
        }
        scene.node().start()?;
        late.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    scene.pods.push(pod);
    ensure(containerd.network_ready()?, "not ready after the restart")?;
    scene.node().wait_ready(SOON)?;
    scene.all_agree()?;
    scene.all_reach()?;
    end(containerd, scene)
}
