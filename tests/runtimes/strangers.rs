//! Somebody on the node who is not root (a pod in the host's network, or a process of another user) can
//! neither take, give back nor read what the daemon holds.

use crate::containerd;
use ipamd_tests::{Mode, Outcome, Scene, ensure, spec};
use lab::Programs;
use lab::cni::Call;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;
use vpc_sim::testing::Failure;

const NOBODY: u32 = 65534;
const SOCKET: &str = "/run/ipamd/ipamd.sock";
const LIMIT: Duration = Duration::from_secs(60);

/// The rights of the socket's file, then the daemon's own look at the caller, and what is open to all.
pub(crate) fn get_nothing() -> Outcome {
    // A process can't become another user in a user namespace of one.
    containerd::programs()?;
    let mut settings = spec(Mode::Prefix, "m5.large")?;
    settings.daemon = settings.daemon.set("IPAMD_METRICS_ADDRESS", "[::]:61678");
    let mut scene = Scene::ready(settings)?;
    scene.add_pods(3)?;
    let programs = Programs::find()?;
    let (daemon, plugin) = (programs.daemon, programs.plugin);
    scene.node().sim().run(move || {
        std::fs::create_dir("/run/programs")?;
        std::fs::copy(daemon, "/run/programs/ipamd")?;
        std::fs::copy(plugin, "/run/programs/ipamd-cni").map(drop)
    })??;
    for open_to_all in [false, true] {
        if open_to_all {
            let all = std::fs::Permissions::from_mode(0o666);
            scene
                .node()
                .sim()
                .run(move || std::fs::set_permissions(SOCKET, all))??;
        }
        let probe = nobody(
            &mut scene,
            Command::new("/run/programs/ipamd").arg("--probe"),
            "",
        )?;
        ensure(!probe.ok(), format!("a probe: {}", probe.stdout))?;
        for verb in ["ADD", "DEL", "CHECK", "GC"] {
            let call = by_nobody(&mut scene, verb)?;
            let told = format!("{verb}: {}", call.words());
            // A DEL that knows of no result and can't be told has nothing to say.
            ensure(verb == "DEL" || !call.ok(), told.clone())?;
            let id = &scene.pods[1].container_id;
            ensure(!told.contains(id.as_str()), told.clone())?;
        }
        let leases = scene.node().snapshot()?.leases().len();
        ensure(leases == 3, format!("{leases} leases, not 3"))?;
    }
    nothing_to_read(&mut scene)?;
    metrics_name_nobody(&mut scene)?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

fn nobody(scene: &mut Scene, command: &mut Command, stdin: &str) -> Result<Call, Failure> {
    let mut own = Command::new(command.get_program());
    own.args(command.get_args());
    for (name, value) in command.get_envs() {
        own.env(name, value.unwrap_or_default());
    }
    own.env("IPAMD_SOCKET", SOCKET).current_dir("/");
    own.uid(NOBODY).gid(NOBODY);
    Ok(lab::cni::run(scene.node().sim(), own, stdin, LIMIT)?)
}

/// The plugin, for a pod that is up.
fn by_nobody(scene: &mut Scene, verb: &str) -> Result<Call, Failure> {
    let runtime = scene
        .runtime
        .clone()
        .set("addTimeout", "2s".into())
        .set("cni.dev/valid-attachments", serde_json::json!([]));
    let stdin = runtime.stdin();
    let real = runtime.command(verb, &scene.pods[0]);
    let mut command = Command::new("/run/programs/ipamd-cni");
    for (name, value) in real.get_envs() {
        command.env(name, value.unwrap_or_default());
    }
    nobody(scene, &mut command, &stdin)
}

/// Its state and its spool.
fn nothing_to_read(scene: &mut Scene) -> Outcome {
    let state = scene.node().state_dir();
    let list = nobody(scene, Command::new("ls").arg("-R").arg(&state), "")?;
    ensure(!list.ok(), format!("{}: {}", state.display(), list.stdout))?;
    let remove = nobody(scene, Command::new("rm").args(["-f", SOCKET]), "")?;
    ensure(!remove.ok(), "the socket can be removed")?;
    let there = scene.node().sim().run(|| Path::new(SOCKET).exists())?;
    ensure(there, "the socket is gone")
}

/// Metrics are open to everybody who reaches the node, pods too: they count, and name no pod, sandbox or
/// pod's address.
fn metrics_name_nobody(scene: &mut Scene) -> Outcome {
    let text = scene.node().sim().run(|| get("/metrics"))??;
    ensure(text.contains("ipamd_"), format!("no metrics: {text}"))?;
    for pod in &scene.pods {
        let address = pod.address().map(|ip| ip.to_string()).unwrap_or_default();
        let link = pod.host_link().unwrap_or_default();
        for secret in [&pod.container_id, &address, &link] {
            ensure(!text.contains(secret.as_str()), format!("{secret}: {text}"))?;
        }
    }
    for path in ["/", "/v1/enis", "/v1/pods", "/inspect", "/debug/pprof"] {
        let text = scene.node().sim().run(move || get(path))??;
        ensure(text.contains(" 404 "), format!("{path}: {text}"))?;
    }
    Ok(())
}

fn get(path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect("127.0.0.1:61678")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text).map(|_| text)
}
