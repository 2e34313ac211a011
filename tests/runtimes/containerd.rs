//! containerd on a node, and the kubelet's part of its CRI, by the Go program beside this file.
//!
//! All that containerd does is in the node's private mounts, in a process namespace that ends with
//! [`Containerd`], and below one cgroup, which is removed then.

use ipamd_tests::{SOON, ensure, eventually, fail};
use lab::cni::Call;
use lab::{Pod, Process, Programs};
use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use vpc_sim::testing::Failure;

/// Where `cargo xtask test` has put the programs, or why it could not.
const PROGRAMS: &str = "IPAMD_RUNTIMES_BIN";
const SKIP: &str = "IPAMD_RUNTIMES_SKIP";

/// Paths on the node; `/run` and `/var/lib` are its own.
pub(crate) const NET_D: &str = "/run/net.d";
const CONFIG: &str = "/run/containerd.toml";
/// Where the image's installer puts the plugin, if it does.
pub(crate) const HOST_BIN: &str = "/run/host-bin";
const CNI_BIN: &str = "/run/cni-bin";
const CALLS: &str = "/run/calls";
/// While this is there, the plugin `ipamd-tests-fails` fails ADD.
pub(crate) const FAIL: &str = "/run/fail";

/// Programs that are started beside containerd, by their processes' names.
const BESIDE: [&str; 6] = [
    "runtimes",
    "containerd",
    "etcd",
    "kube-apiserver",
    "kubelet",
    "cluster",
];

/// One question: a sandbox waits for its address.
const LIMIT: Duration = Duration::from_secs(110);

/// A running containerd.
#[derive(Debug)]
pub(crate) struct Containerd {
    pub(crate) node: vpc_sim::Node,
    programs: PathBuf,
    cgroup: String,
    /// Its first process, as it is seen from here.
    first: u32,
    stdin: Option<ChildStdin>,
    process: Process,
}

/// Where `cargo xtask test` put the programs.
///
/// # Errors
/// A skip with its reason.
pub(crate) fn programs() -> Result<PathBuf, Failure> {
    let root = nix::unistd::geteuid().is_root() && !in_user_namespace()?;
    match std::env::var_os(PROGRAMS) {
        _ if !root => Err(Failure::Skip(
            "containerd needs root: cgroups can't be made in a user namespace".into(),
        )),
        Some(programs) => Ok(programs.into()),
        None => {
            let reason = std::env::var(SKIP);
            let reason = reason.unwrap_or_else(|_| "`cargo xtask test` builds the programs".into());
            Err(Failure::Skip(reason))
        }
    }
}

/// user_namespaces(7): the first one maps all ids to themselves.
fn in_user_namespace() -> Result<bool, Failure> {
    let map = fs::read_to_string("/proc/self/uid_map")?;
    let all: Vec<&str> = map.split_whitespace().collect();
    Ok(all != ["0", "0", "4294967295"])
}

impl Containerd {
    /// Starts it, with the image of sandboxes.
    pub(crate) fn start(node: &vpc_sim::Node) -> Result<Self, Failure> {
        let programs = programs()?;
        let plugin = Programs::find()?.plugin;
        let (config, at) = (config(&programs), programs.clone());
        node.run(move || prepare(&plugin, &at, &config))??;
        let cgroup = format!("/ipamd-tests-{}", std::process::id());
        let mut command = Command::new(programs.join("runtimes"));
        let log = node.run(|| fs::File::create("/run/containerd.log"))??;
        command
            .arg("node")
            .arg(CONFIG)
            .arg(programs.join("containerd"))
            .env("PATH", path(&programs))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = node.spawn(command)?;
        let stdin = child.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut line)?;
        }
        let process = Process::watch(child)?;
        let it = Self {
            node: node.clone(),
            programs,
            cgroup,
            first: line.trim().parse().unwrap_or(0),
            stdin,
            process,
        };
        it.answers()?;
        let pause = it.programs.join("pause").display().to_string();
        it.done("import", &["import", &pause])?;
        Ok(it)
    }

    fn answers(&self) -> Result<(), Failure> {
        let judge = |call: Call| ensure(call.ok(), format!("{}\n{}", call.words(), self.log()));
        eventually(2 * SOON, || self.call(&["status"]), Call::ok, judge)
    }

    /// The end of its log, for people.
    pub(crate) fn log(&self) -> String {
        let text = self.whole_log();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn whole_log(&self) -> String {
        let text = self.node.run(|| fs::read_to_string("/run/containerd.log"));
        text.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Kills it; it is started again at once, as a service is.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        let starts = || self.whole_log().matches("starting it again").count();
        let before = starts();
        if let Some(mut stdin) = self.stdin.as_ref() {
            stdin.write_all(b"again\n")?;
        }
        let judge = |now| ensure(now > before, self.log());
        eventually(SOON, || Ok(starts()), |now| *now > before, judge)?;
        self.answers()
    }

    /// One question; see the Go program.
    pub(crate) fn call(&self, args: &[&str]) -> Result<Call, Failure> {
        Ok(lab::cni::run(&self.node, self.command(args), "", LIMIT)?)
    }

    /// The process of one question.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(self.programs.join("runtimes"));
        command
            .args(args)
            .env("CGROUP", &self.cgroup)
            .current_dir("/");
        command
    }

    /// A program that will run in containerd's mounts and process namespace, with which it ends.
    pub(crate) fn beside(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--target", &self.first.to_string(), "--pid", "--mount"])
            .arg("--")
            .arg(program)
            .current_dir("/");
        command
    }

    /// Below it are the cgroups of all containers.
    pub(crate) fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// One question that must be answered; the answer.
    pub(crate) fn done(&self, what: &str, args: &[&str]) -> Result<Value, Failure> {
        let call = self.call(args)?;
        let words = || format!("{what}: {}\n{}", call.stderr, self.log());
        ensure(call.ok(), if call.ok() { String::new() } else { words() })?;
        Ok(call.json())
    }

    /// The condition NetworkReady.
    pub(crate) fn network_ready(&self) -> Result<bool, Failure> {
        Ok(self.done("status", &["status"])?["network"] == true)
    }

    /// A sandbox, or why there is none.
    pub(crate) fn try_run(&self, name: &str, attempt: u32) -> Result<Result<Pod, String>, Failure> {
        let call = self.call(&["run", name, &format!("uid-{name}"), &attempt.to_string()])?;
        match call.json().as_str() {
            Some(id) if call.ok() => self.pod(name, id).map(Ok),
            _ => Ok(Err(call.stderr)),
        }
    }

    /// A sandbox, which must come.
    pub(crate) fn run(&self, name: &str) -> Result<Pod, Failure> {
        match self.try_run(name, 0)? {
            Ok(pod) => Ok(pod),
            Err(words) => fail(format!("{name}: {words}\n{}", self.log())),
        }
    }

    /// The sandbox as other tests know pods: with its namespace, and the plugin's result from libcni's
    /// cache.
    pub(crate) fn pod(&self, name: &str, id: &str) -> Result<Pod, Failure> {
        let seen = self.done("look", &["look", id])?;
        ensure(seen["ready"] == true, seen.to_string())?;
        // `/var/run` is a symbolic link, which would be followed from our root.
        let netns = seen["netns"].as_str().unwrap_or_default();
        let netns = netns.strip_prefix("/var").unwrap_or(netns);
        let path = self.inside(netns);
        let named = id.to_owned();
        let cached = self.node.run(move || cached(&named))??;
        let pod = Pod {
            node: self.node.clone(),
            namespace: "default".into(),
            name: name.into(),
            container_id: id.into(),
            netns: Some(self.node.open_pod_netns(&path)?),
            result: Some(cached["result"].clone()),
        };
        let address = pod.address().map(|ip| ip.to_string());
        ensure(
            seen["ip"].as_str() == address.as_deref(),
            format!("{seen} {cached}"),
        )?;
        Ok(pod)
    }

    /// A path of containerd's own mounts, as it is seen from here.
    pub(crate) fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first))
    }

    /// StopPodSandbox, then RemovePodSandbox: a DEL each.
    pub(crate) fn end(&self, pod: Pod) -> Result<(), Failure> {
        self.done("stop", &["stop", &pod.container_id])?;
        self.done("remove", &["remove", &pod.container_id])
            .map(drop)
    }

    /// What it has asked plugins for so far: "VERB container=ID netns=PATH prevResult=COUNT".
    pub(crate) fn calls(&self) -> Result<Vec<String>, Failure> {
        let text = self.node.run(|| fs::read_to_string(CALLS))?;
        Ok(text.unwrap_or_default().lines().map(String::from).collect())
    }

    /// What a node without pods does not have: shims and containers' processes, namespaces, their
    /// mounts, cgroups.
    pub(crate) fn leftovers(&self) -> Result<Vec<String>, Failure> {
        let mut left = Vec::new();
        let space = fs::read_link(format!("/proc/{}/ns/pid", self.first))?;
        for entry in fs::read_dir("/proc")?.flatten() {
            let there = fs::read_link(entry.path().join("ns/pid")).is_ok_and(|ns| ns == space);
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if there && !BESIDE.contains(&name.trim()) {
                left.push(format!("process {}", name.trim()));
            }
        }
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.first))?;
        let ours = |line: &&str| {
            line.contains(" nsfs ") || line.contains("/netns/") || line.contains("/run/containerd/")
        };
        left.extend(mounts.lines().filter(ours).map(|l| format!("mount {l}")));
        let names = self.node.run(|| names(Path::new("/run/netns")))?;
        left.extend(names.into_iter().map(|name| format!("namespace {name}")));
        let below = cgroups(&self.cgroup).into_iter();
        let below = below.flat_map(|dir| dirs(&dir));
        let below = below.filter(|dir| !dirs(dir).is_empty());
        left.extend(below.map(|dir| format!("cgroup {}", dir.display())));
        Ok(left)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        drop(self.stdin.take());
        // Without its first process the namespace is empty once that one is reaped.
        drop(self.process.wait(SOON));
        self.process.kill();
        let began = Instant::now();
        // Cgroup v1 lets a directory go a moment after the last of its processes.
        while began.elapsed() < Duration::from_secs(5) {
            let left = cgroups(&self.cgroup);
            if left.is_empty() {
                break;
            }
            left.iter().for_each(|dir| remove_tree(dir));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Directories of a cgroup: one for each hierarchy of version 1, or the one of version 2.
fn cgroups(name: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let all = dirs(top).into_iter().chain([top.to_owned()]);
    let all = all.map(|dir| dir.join(name.trim_start_matches('/')));
    all.filter(|dir| dir.is_dir()).collect()
}

fn dirs(dir: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(dir).into_iter().flatten().flatten();
    let all = all.map(|entry| entry.path());
    all.filter(|path| path.is_dir() && !path.is_symlink())
        .collect()
}

fn remove_tree(dir: &Path) {
    dirs(dir).iter().for_each(|dir| remove_tree(dir));
    // What is still in use goes with the next try.
    drop(fs::remove_dir(dir));
}

fn names(dir: &Path) -> Vec<String> {
    let all = fs::read_dir(dir).into_iter().flatten().flatten();
    all.map(|e| e.file_name().to_string_lossy().into_owned())
        .collect()
}

/// libcni's own copy of an attachment, in a file named after network, container and interface.
fn cached(id: &str) -> std::io::Result<Value> {
    let dir = Path::new("/var/lib/cni/results");
    let rest = format!("-{id}-eth0");
    let all = names(dir);
    let name = all.iter().find(|name| name.ends_with(&rest));
    let name = name.ok_or_else(|| std::io::Error::other(format!("no result of {id}")))?;
    Ok(serde_json::from_str(&fs::read_to_string(dir.join(name))?)?)
}

fn path(programs: &Path) -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{}:{path}", programs.display())
}

/// The node's directories, and in front of the real plugin a script that notes each call.
fn prepare(plugin: &Path, programs: &Path, config: &str) -> std::io::Result<()> {
    for dir in [NET_D, CNI_BIN] {
        fs::create_dir_all(dir)?;
    }
    fs::write(CONFIG, config)?;
    let real = plugin.display();
    let ours = format!(
        "#!/bin/sh\nin=$(cat)\nprev=$(printf %s \"$in\" | grep -c '\"prevResult\"')\n\
         echo \"$CNI_COMMAND container=$CNI_CONTAINERID netns=$CNI_NETNS prevResult=$prev\" \
         >>{CALLS}\nreal={HOST_BIN}/ipamd-cni\n[ -x $real ] || real={real}\nprintf %s \"$in\" | exec $real\n"
    );
    script("ipamd-cni", &ours)?;
    // Answers with what plugins before it have answered, unless it is told to fail.
    let fails = format!(
        "#!/bin/sh\n[ -e {FAIL} ] && export FAIL=1\nexec {}/runtimes chained\n",
        programs.display()
    );
    script("ipamd-tests-fails", &fails)
}

fn script(name: &str, text: &str) -> std::io::Result<()> {
    let file = Path::new(CNI_BIN).join(name);
    fs::write(&file, text)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755))
}

fn config(programs: &Path) -> String {
    let cni = "io.containerd.cri.v1.runtime";
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[plugins.'io.containerd.cri.v1.images'.pinned_images]
sandbox = "localhost/ipamd-tests:1"
[plugins.'{cni}'.cni]
bin_dirs = ["{CNI_BIN}", "{programs}"]
conf_dir = "{NET_D}"
use_internal_loopback = true
[plugins.'{cni}']
disable_apparmor = true
restrict_oom_score_adj = true
[plugins.'{cni}'.containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins.'{cni}'.containerd.runtimes.runc.options]
BinaryName = "runc"
SystemdCgroup = false
"#,
        programs = programs.display(),
    )
}
