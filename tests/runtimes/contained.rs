//! The daemon in a container, as the DaemonSet in `deploy/ipamd.yaml` says and in no other way.

use crate::containerd::{self, Containerd, HOST_BIN, NET_D};
use crate::{network_comes, settings};
use ipamd_tests::{Outcome, SOON, Scene, ensure, eventually, fail};
use lab::{ClusterSpec, Programs, kernel};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use vpc_sim::testing::Failure;

/// linux/capability.h
const CAP_NET_ADMIN: u32 = 12;

/// A node whose daemon will be a container.
struct Stage {
    containerd: Containerd,
    scene: Scene,
    dir: TempDir,
}

impl Stage {
    /// With the manifest changed by `change`, and perhaps a patch of `deploy`.
    fn new(
        mut spec: ClusterSpec,
        change: impl FnOnce(String) -> String,
        patch: Option<&str>,
    ) -> Result<Self, Failure> {
        // The manifest mounts the directory, and the daemon's default is where.
        spec.daemon.env.remove("HOST_CNI_CONFDIR_PATH");
        let programs = Programs::find()?;
        let mut scene = Scene::new(spec)?;
        let containerd = Containerd::start(scene.node().sim())?;
        let dir = TempDir::new()?;
        let deploy = fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy"))?;
        let manifest = dir.path().join("ipamd.yaml");
        fs::write(
            &manifest,
            change(fs::read_to_string(deploy.join("ipamd.yaml"))?),
        )?;
        let places = dir.path().join("places.json");
        fs::write(&places, places_of(&programs, &deploy, patch)?.to_string())?;
        let wrapper = dir.path().join("ipamd");
        let told = containerd.command(&["pod", &text(&manifest), &text(&places)]);
        fs::write(&wrapper, script_of(&told))?;
        fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755))?;
        scene.node().spec_mut().program = wrapper;
        Ok(Self {
            containerd,
            scene,
            dir,
        })
    }

    /// Until sandboxes can be made.
    fn begin(&mut self) -> Outcome {
        self.scene.cluster.start_daemons(2 * SOON)?;
        network_comes(&self.containerd)
    }

    /// The daemon's own process, as it is seen from here.
    fn daemon(&mut self) -> Result<PathBuf, Failure> {
        let net = self.scene.node().sim().net().inode()?;
        let ours = |dir: &PathBuf| {
            let name = fs::read_to_string(dir.join("comm")).unwrap_or_default();
            let space = fs::metadata(dir.join("ns/net")).map(|m| m.ino());
            let program = fs::read_link(dir.join("exe")).unwrap_or_default();
            name.trim() == "ipamd"
                && space.is_ok_and(|inode| inode == net)
                && program.starts_with("/program")
        };
        let all = fs::read_dir("/proc")?.flatten().map(|entry| entry.path());
        let found = all.filter(ours).collect::<Vec<_>>();
        match &found[..] {
            [one] => Ok(one.clone()),
            other => fail(format!("not one daemon: {other:?}")),
        }
    }

    /// Ends pods, then the daemon's own pod; nothing is left of either.
    fn end(mut self) -> Outcome {
        for pod in std::mem::take(&mut self.scene.pods) {
            self.containerd.end(pod)?;
        }
        let net = self.scene.node().sim().net();
        let judge = |left: std::collections::BTreeSet<String>| {
            ensure(left.is_empty(), format!("links are left: {left:?}"))
        };
        let look = || Ok(kernel::links(&net, lab::check::POD_LINK)?);
        eventually(2 * SOON, look, std::collections::BTreeSet::is_empty, judge)?;
        self.scene.settled()?;
        self.scene.node().stop()?;
        let judge = |left: Vec<String>| ensure(left.is_empty(), left.join("\n"));
        eventually(SOON, || self.containerd.leftovers(), Vec::is_empty, judge)?;
        drop(self.containerd);
        drop(self.dir);
        self.scene.nothing_is_left()
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// What differs from a real node: the image is the host's own files and what was built, and the node's
/// `/etc` and `/opt` are not its own.
fn places_of(
    programs: &Programs,
    deploy: &Path,
    patch: Option<&str>,
) -> Result<serde_json::Value, Failure> {
    let folder = |file: &Path| fs::canonicalize(file.parent().unwrap_or(file));
    let mut image = json!({
        "/program": folder(&programs.daemon)?,
        "/deploy": deploy,
        "/opt/ipamd": folder(&programs.plugin)?,
    });
    for dir in ["/usr", "/lib", "/lib64", "/bin", "/sbin"] {
        if Path::new(dir).exists() {
            image[dir] = dir.into();
        }
    }
    Ok(json!({
        "host": {"/opt/cni/bin": HOST_BIN, "/etc/cni/net.d": NET_D},
        "image": image,
        "program": {
            "": ["/program/ipamd"],
            "/usr/local/bin/ipamd-install": ["/bin/sh", "/deploy/install.sh"],
        },
        "patch": patch.map(|name| deploy.join(name)),
    }))
}

/// A script that does what a command would.
fn script_of(command: &std::process::Command) -> String {
    let set = command
        .get_envs()
        .filter_map(|(name, value)| Some(format!("{}='{}' ", name.display(), value?.display())));
    let program = command.get_program().display();
    let args = command.get_args().map(|a| format!(" '{}'", a.display()));
    let (set, args): (String, String) = (set.collect(), args.collect());
    format!("#!/bin/sh\n{set}exec '{program}'{args}\n")
}

/// One capability, read-only files and settings: pods get addresses and pass packets, also over an upgrade.
pub(crate) fn as_the_manifest_says() -> Outcome {
    let mut stage = Stage::new(settings()?, |manifest| manifest, None)?;
    stage.begin()?;
    let daemon = stage.daemon()?;
    let status = fs::read_to_string(daemon.join("status"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_default().trim().to_owned()
    };
    let net_admin = format!("{:016x}", 1_u64 << CAP_NET_ADMIN);
    for (name, wanted) in [
        ("CapEff:", net_admin.as_str()),
        ("CapPrm:", &net_admin),
        ("CapBnd:", &net_admin),
        ("NoNewPrivs:", "1"),
        ("Seccomp:", "2"),
    ] {
        ensure(field(name) == wanted, format!("{name} {}", field(name)))?;
    }
    let mounts = fs::read_to_string(daemon.join("mountinfo"))?;
    let read_only = |at: &str| {
        let mut here = mounts.lines().map(|l| l.split(' ').collect::<Vec<_>>());
        here.any(|l| l.get(4) == Some(&at) && l.get(5).is_some_and(|o| o.starts_with("ro")))
    };
    ensure(read_only("/") && read_only("/proc/sys"), mounts.clone())?;
    let installed = stage
        .containerd
        .node
        .run(|| Path::new(HOST_BIN).join("ipamd-cni").exists())?;
    ensure(installed, "the init container has not installed the plugin")?;
    for name in ["a", "b", "c"] {
        stage.scene.pods.push(stage.containerd.run(name)?);
    }
    stage.scene.all_agree()?;
    stage.scene.all_reach()?;
    stage.scene.node().stop()?;
    stage.scene.all_reach()?;
    stage.begin()?;
    stage.scene.pods.push(stage.containerd.run("d")?);
    stage.scene.all_agree()?;
    stage.scene.all_reach()?;
    stage.end()
}

/// The one capability is needed: without it no pod is served, and the reason is told.
pub(crate) fn without_net_admin() -> Outcome {
    containerd::programs()?;
    let without = |manifest: String| manifest.replace("add: [NET_ADMIN]", "add: []");
    let mut stage = Stage::new(settings()?, without, None)?;
    stage.scene.node().start()?;
    let told = || Ok(stage.scene.cluster.nodes()[0].log_tail(40));
    let denied = |log: &String| log.contains("Operation not permitted");
    eventually(2 * SOON, told, denied, |log| ensure(denied(&log), log))?;
    ensure(!stage.containerd.network_ready()?, "pods are served")?;
    stage.scene.node().stop()?;
    Ok(())
}

/// IPv6 beside IPv4: the step that makes the node forward has no capability either.
pub(crate) fn dual() -> Outcome {
    let mut spec = settings()?.with_ipv6();
    spec.daemon = spec.daemon.set("ENABLE_IPv6", "true");
    let mut stage = Stage::new(spec, |manifest| manifest, Some("ipv6.patch.yaml"))?;
    stage.scene.node().sim().run(|| {
        // As a fresh host has them.
        let conf = Path::new("/proc/sys/net/ipv6/conf");
        fs::write(conf.join("all/forwarding"), "0")
    })??;
    stage.begin()?;
    for name in ["a", "b"] {
        let pod = stage.containerd.run(name)?;
        ensure(pod.addresses().len() == 2, format!("{:?}", pod.result))?;
        stage.scene.pods.push(pod);
    }
    stage.scene.all_agree()?;
    stage.scene.all_reach()?;
    stage.end()
}
