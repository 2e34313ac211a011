//! Promise: the node says of itself what is true (CNI STATUS), and what a runtime no longer knows is
//! given back, and nothing else (CNI GC).

use ipamd_tests::{Mode, Outcome, SOON, Scene, ensure, eventually, fail, refused, spec, succeeded};
use lab::Pod;
use lab::cni::Call;
use lab::kernel;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use vpc_model::{Effect, Fault};
use vpc_sim::testing::{Failure, Test, run};

fn main() -> std::process::ExitCode {
    run(&[
        test("a_node_without_an_address_says_why", without_an_address),
        test("a_node_that_has_served_stays_good", stays_good),
        test("an_older_boots_word_does_not_count", another_boot),
        test("gc_ends_what_is_not_named", gc_ends),
        test("gc_without_a_list_ends_nothing", gc_without_list),
        test("gc_leaves_an_add_in_flight_alone", gc_in_flight),
        test("gc_of_a_whole_node", gc_all),
        test("rolling_restarts_fail_no_add", rolling_restarts),
        test("check_sees_the_nodes_own_part", check_of_the_node),
    ])
}

const fn test(name: &'static str, run: fn() -> Outcome) -> Test {
    Test { name, run }
}

/// A command about the network as a whole.
fn network(scene: &Scene, verb: &str, fields: &[(&str, Value)]) -> Result<Call, Failure> {
    let mut runtime = scene.runtime.clone();
    for (name, value) in fields {
        runtime = runtime.set(name, value.clone());
    }
    let Some(node) = scene.cluster.nodes().first() else {
        return fail("no node");
    };
    let nobody = Pod {
        node: node.sim().clone(),
        namespace: String::new(),
        name: String::new(),
        container_id: String::new(),
        netns: None,
        result: None,
    };
    let mut command = runtime.command(verb, &nobody);
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"] {
        command.env_remove(name);
    }
    Ok(lab::cni::run(node.sim(), command, &runtime.stdin(), SOON)?)
}

fn status(scene: &Scene) -> Result<Call, Failure> {
    network(scene, "STATUS", &[])
}

/// As libcni 1.3 sends it: both keys.
fn gc(scene: &Scene, valid: &[&Pod]) -> Result<Call, Failure> {
    let list = json!(valid.iter().map(|pod| attachment(pod)).collect::<Vec<_>>());
    let keys = ["cni.dev/valid-attachments", "cni.dev/attachments"];
    network(scene, "GC", &keys.map(|key| (key, list.clone())))
}

fn attachment(pod: &Pod) -> Value {
    json!({"containerID": pod.container_id, "ifname": "eth0"})
}

fn leases(scene: &mut Scene) -> Result<usize, Failure> {
    Ok(scene.node().snapshot()?.leases().len())
}

/// Waits until the status is good.
fn soon_good(scene: &Scene) -> Outcome {
    let judge = |call: Call| succeeded("STATUS", &call);
    eventually(5 * SOON, || status(scene), Call::ok, judge)
}

/// "Not available" makes the whole node unready: a node that never had an address is.
fn without_an_address() -> Outcome {
    let mut scene = Scene::new(spec(Mode::Secondary, "m5.large")?)?;
    refused(
        "STATUS without a daemon",
        &status(&scene)?,
        50,
        "ipamd does not listen",
    )?;
    let full = Effect::Fail {
        code: "InsufficientFreeAddressesInSubnet".into(),
        message: "Not enough free addresses in the subnet.".into(),
        http_status: 400,
    };
    let id = scene
        .cluster
        .sim()
        .vpc()
        .add_fault(Fault::new("Assign*", full));
    scene.cluster.start_daemons(SOON)?;
    eventually(
        SOON,
        || status(&scene),
        |call| call.words().contains("InsufficientFreeAddressesInSubnet"),
        |call| {
            refused(
                "STATUS of a node without an address",
                &call,
                50,
                "no address yet",
            )
        },
    )?;
    scene.node().stop()?;
    refused(
        "STATUS without its daemon",
        &status(&scene)?,
        50,
        "ipamd does not listen",
    )?;
    scene.cluster.sim().vpc().remove_fault(id);
    scene.node().start()?;
    soon_good(&scene)?;
    scene.nothing_is_left()
}

/// Once an address was there: full, without a daemon, with a daemon that hangs, and after its restart.
fn stays_good() -> Outcome {
    let mut spec = spec(Mode::Secondary, "t3.nano")?;
    spec.daemon = spec.daemon.set("IPAMD_ADD_TIMEOUT_MS", "2000");
    let mut scene = Scene::ready(spec)?;
    soon_good(&scene)?;
    scene.add_pods(2)?;
    // Two ENIs with two addresses each, of which one each is the ENI's own.
    let mut pod = scene.make_pod()?;
    refused("ADD on a full node", &scene.runtime.add(&mut pod)?, 11, "")?;
    succeeded("STATUS of a full node", &status(&scene)?)?;
    scene.node().stop()?;
    let began = Instant::now();
    succeeded("STATUS without a daemon", &status(&scene)?)?;
    let took = began.elapsed();
    ensure(took < Duration::from_secs(1), format!("after {took:?}"))?;
    scene.node().start()?;
    scene.node().wait_socket(SOON)?;
    succeeded("STATUS just after a restart", &status(&scene)?)?;
    scene.node().kill();
    succeeded("STATUS after a kill", &status(&scene)?)?;
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// A marker of another boot must not make a node good that has no address.
fn another_boot() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Secondary, "m5.large")?)?;
    soon_good(&scene)?;
    scene.node().stop()?;
    let text = scene.node().sim().run(|| {
        let marker = "/run/ipamd/ipamd.sock.served";
        let text = std::fs::read_to_string(marker)?;
        let other = text.replace("kernel_boot_id=", "kernel_boot_id=not-");
        std::fs::write(marker, other).map(|()| text)
    })??;
    ensure(text.ends_with("end\n"), format!("the marker was {text:?}"))?;
    refused("STATUS", &status(&scene)?, 50, "ipamd does not listen")?;
    scene.node().start()?;
    soon_good(&scene)?;
    scene.node().stop()?;
    succeeded("STATUS with a new marker", &status(&scene)?)?;
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    scene.nothing_is_left()
}

/// What the host has of a pod: its link, and routes to its addresses.
fn remains(scene: &mut Scene, pod: &Pod, link: &str) -> Result<Vec<String>, Failure> {
    let net = scene.node().sim().net().clone();
    let mut found: Vec<String> = kernel::links(&net, link)?.into_iter().collect();
    let routes = kernel::pod_routes(&net, "")?;
    let routed = routes.keys().filter(|ip| pod.addresses().contains(ip));
    found.extend(routed.map(ToString::to_string));
    Ok(found)
}

fn gc_ends() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    scene.add_pods(4)?;
    // The runtime has lost two: one with its namespace, one whose namespace is still there.
    let (stale, live) = (scene.pods.split_off(2), scene.pods.len());
    let mut stale = stale;
    let links: Vec<String> = stale.iter().filter_map(Pod::host_link).collect();
    ensure(links.len() == 2, format!("{links:?}"))?;
    stale[0].remove_netns()?;
    // Another network's name is another network.
    let other = [
        ("name", json!("other")),
        ("cni.dev/valid-attachments", json!([])),
    ];
    succeeded("GC of another network", &network(&scene, "GC", &other)?)?;
    ensure(
        leases(&mut scene)? == 4,
        "another network's GC ended leases",
    )?;
    let valid: Vec<&Pod> = scene.pods.iter().collect();
    succeeded("GC", &gc(&scene, &valid)?)?;
    let left = leases(&mut scene)?;
    ensure(left == live, format!("{left} leases, not {live}"))?;
    for (pod, link) in stale.iter().zip(&links) {
        let found = remains(&mut scene, pod, link)?;
        ensure(found.is_empty(), format!("{link}: {found:?}"))?;
    }
    scene.all_agree()?;
    scene.all_reach()?;
    drop(stale);
    // Again is no harm.
    let valid: Vec<&Pod> = scene.pods.iter().collect();
    succeeded("GC again", &gc(&scene, &valid)?)?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

fn gc_without_list() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    scene.add_pods(2)?;
    let null = Value::Null;
    for fields in [
        vec![],
        vec![("cni.dev/valid-attachments", null.clone())],
        vec![
            ("cni.dev/valid-attachments", null.clone()),
            ("cni.dev/attachments", null),
        ],
    ] {
        succeeded("GC without a list", &network(&scene, "GC", &fields)?)?;
    }
    let one = attachment(&scene.pods[0]);
    for list in [json!({}), json!([one, {"containerID": "x"}]), json!("all")] {
        let broken = [("cni.dev/valid-attachments", list)];
        refused(
            "GC",
            &network(&scene, "GC", &broken)?,
            7,
            "cni.dev/valid-attachments",
        )?;
    }
    // One key only, in either spelling.
    let both: Vec<Value> = scene.pods.iter().map(attachment).collect();
    for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
        succeeded("GC", &network(&scene, "GC", &[(key, json!(both))])?)?;
    }
    let left = leases(&mut scene)?;
    ensure(left == 2, format!("{left} leases"))?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// The list was made before these ADDs began: they go on under GCs that don't know them.
fn gc_in_flight() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    scene.add_pods(3)?;
    let mut pods = scene.make_pods(40)?;
    // A GC process that began before them, and asks only now: its question is old.
    let valid: Vec<Value> = scene.pods.iter().map(attachment).collect();
    let mut late = scene
        .runtime
        .clone()
        .set("cni.dev/valid-attachments", json!(valid))
        .command("GC", &scene.pods[0]);
    late.stdin(std::process::Stdio::piped());
    let mut child = scene.node().sim().spawn(late)?;
    // It reads its configuration first, and that is not there yet.
    std::thread::sleep(Duration::from_millis(50));
    let tally = scene
        .runtime
        .add_all(&mut pods, 8, lab::Patience::NONE, |_| ())?;
    ensure(tally.failed_adds.is_empty(), tally.failed_adds.join("\n"))?;
    let text = scene
        .runtime
        .clone()
        .set("cni.dev/valid-attachments", json!(valid))
        .stdin();
    if let Some(mut stdin) = child.stdin.take() {
        std::io::Write::write_all(&mut stdin, text.as_bytes())?;
    }
    let ended = child.wait()?;
    ensure(ended.success(), format!("GC: {ended}"))?;
    let left = leases(&mut scene)?;
    ensure(left == 43, format!("{left} leases, not 43"))?;
    scene.pods.append(&mut pods);
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

/// More than one exchange's worth, and an empty list is a list.
fn gc_all() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.xlarge")?)?;
    scene.add_pods(50)?;
    let mut pods = std::mem::take(&mut scene.pods);
    for pod in pods.iter_mut().step_by(2) {
        pod.remove_netns()?;
    }
    // The daemon sees a pod's route a moment after its plugin made it: until then, and for a question that
    // was asked before, its ADD counts as under way.
    let again = || {
        succeeded("GC", &gc(&scene, &[])?)?;
        Ok(scene.node().snapshot()?.leases().len())
    };
    let judge = |left| ensure(left == 0, format!("{left} leases"));
    eventually(SOON, again, |left| *left == 0, judge)?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// Twenty ADDs a second, each with its DEL soon after, while the daemon is restarted again and again: by
/// SIGTERM as in an upgrade, and by SIGKILL.
fn rolling_restarts() -> Outcome {
    let mut spec = spec(Mode::Prefix, "m5.large")?;
    spec.daemon = spec.daemon.set("IPAMD_MAX_PODS", 250);
    let mut scene = Scene::ready(spec)?;
    soon_good(&scene)?;
    let runtime = scene.runtime.clone();
    let waves: Vec<Vec<Pod>> = (0..40)
        .map(|_| scene.make_pods(4))
        .collect::<Result<_, _>>()?;
    let began = Instant::now();
    let failures = std::thread::scope(|scope| {
        let traffic = scope.spawn(move || -> Result<Vec<String>, lab::LabError> {
            let mut failures = Vec::new();
            for (n, mut wave) in (0_u32..).zip(waves) {
                let due = Duration::from_millis(200) * n;
                std::thread::sleep(due.saturating_sub(began.elapsed()));
                let patience = lab::Patience::NONE;
                failures.extend(runtime.add_all(&mut wave, 4, patience, |_| ())?.failed_adds);
                failures.extend(runtime.del_all(&mut wave, 4)?.failed_dels);
            }
            Ok(failures)
        });
        let mut restarts = 0;
        while !traffic.is_finished() {
            std::thread::sleep(Duration::from_millis(400));
            if restarts % 2 == 0 {
                scene.node().stop()?;
            } else {
                scene.node().kill();
            }
            std::thread::sleep(Duration::from_millis(100));
            scene.node().start()?;
            scene.node().wait_ready(SOON)?;
            restarts += 1;
        }
        ensure(restarts > 5, format!("only {restarts} restarts"))?;
        match traffic.join() {
            Ok(failures) => Ok(failures?),
            Err(_) => fail("the traffic's thread panicked"),
        }
    })?;
    ensure(failures.is_empty(), failures.join("\n"))?;
    scene
        .node()
        .wait_pool(SOON, "no lease", |pool| pool.leases().is_empty())?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// A pod's own link is right, and the node's table is gone and can't be made again: CHECK says so, until it
/// can.
fn check_of_the_node() -> Outcome {
    let mut spec = spec(Mode::Prefix, "m5.large")?;
    let path = std::env::var("PATH").unwrap_or_default();
    spec.daemon = spec.daemon.set("PATH", format!("/run/programs:{path}"));
    let mut scene = Scene::new(spec)?;
    scene.node().sim().run(move || {
        std::fs::create_dir("/run/programs")?;
        let file = "/run/programs/nft";
        // It reads, and writes unless it is told to fail.
        let text = format!(
            "#!/bin/sh\nPATH='{path}'\nin=$(cat)\ncase \"$in\" in list*) ;; *) \
             [ -e /run/broken ] && {{ echo broken >&2; exit 1; }} ;; esac\n\
             printf '%s\\n' \"$in\" | exec nft \"$@\"\n"
        );
        std::fs::write(file, text)?;
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(file, all)
    })??;
    scene.cluster.start_daemons(SOON)?;
    soon_good(&scene)?;
    scene.add_pods(2)?;
    let check = |scene: &Scene| {
        let pod = &scene.pods[0];
        Ok(scene.runtime.call("CHECK", pod, pod.result.clone())?)
    };
    let good = |call: Call| succeeded("CHECK", &call);
    succeeded("CHECK", &check(&scene)?)?;
    let on_node = |scene: &Scene, program: &str, args: &[&str]| {
        let mut command = std::process::Command::new(program);
        command.args(args);
        let output = scene.cluster.nodes()[0].sim().output(command)?;
        ensure(output.status.success(), format!("{program}: {output:?}"))
    };
    // What comes back by itself is no reason to fail for long.
    on_node(&scene, "ip", &["rule", "del", "priority", "512"])?;
    eventually(SOON, || check(&scene), Call::ok, good)?;
    scene
        .node()
        .sim()
        .run(|| std::fs::write("/run/broken", ""))??;
    on_node(&scene, "nft", &["delete", "table", "ip", "ipamd"])?;
    refused("CHECK", &check(&scene)?, 102, "table ip ipamd")?;
    scene
        .node()
        .sim()
        .run(|| std::fs::remove_file("/run/broken"))??;
    eventually(3 * SOON, || check(&scene), Call::ok, good)?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}
