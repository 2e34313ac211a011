//! A Kubernetes control plane and a kubelet on a node of the mini VPC: etcd, kube-apiserver, kubelet,
//! beside containerd, and the Go program in this folder that asks the API server.
//!
//! All of them are in containerd's process namespace, mounts and node, and end with it. Neither a
//! scheduler nor a controller runs: what the kubelet does is all that happens.

use crate::containerd::{self, Containerd};
use ipamd_tests::{Outcome, SOON, ensure, eventually, fail};
use lab::cni::Call;
use lab::{Pod, Process, kernel};
use serde_json::Value;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use vpc_sim::testing::Failure;

/// Where `cargo xtask test --cluster` has put the programs.
const PROGRAMS: &str = "IPAMD_CLUSTER_BIN";

/// Paths on the node.
const FILES: &str = "/run/cluster";
const ETCD: &str = "http://127.0.0.1:2379";

/// One question to the API server.
const LIMIT: Duration = Duration::from_secs(40);
/// What goes through the API server, kubelet and containerd, each as busy as it can be.
pub(super) const LATER: Duration = Duration::from_secs(90);

/// What the kubelet wants of the kernel (pkg/util/sysctl of Kubernetes). It is shown these in place of
/// the real ones, which are the machine's.
const KERNEL: [(&str, u32); 6] = [
    ("vm/overcommit_memory", 1),
    ("vm/panic_on_oom", 0),
    ("kernel/panic", 10),
    ("kernel/panic_on_oops", 1),
    ("kernel/keys/root_maxkeys", 1_000_000),
    ("kernel/keys/root_maxbytes", 25_000_000),
];

/// A running control plane with one kubelet.
#[derive(Debug)]
pub(super) struct Plane {
    pub(super) containerd: Containerd,
    node: vpc_sim::Node,
    programs: PathBuf,
    processes: Vec<(&'static str, Process)>,
}

/// What the API has said of a node, of a pod, or as a warning.
#[derive(Clone, Debug)]
pub(super) struct Told {
    /// `node NAME`, `pod NAME`, `warning NAME REASON COUNT`
    pub(super) about: String,
    /// `True`, `False`, `Unknown`, `gone`, or nothing.
    pub(super) ready: String,
    pub(super) message: String,
}

/// A pod as the API shows it.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) name: String,
    pub(super) phase: String,
    pub(super) ready: bool,
    pub(super) ip: String,
    message: String,
}

/// Pods, for people.
pub(super) fn words(shown: &[Shown]) -> String {
    let line = |pod: &Shown| {
        let Shown {
            name,
            phase,
            ready,
            ip,
            message,
        } = pod;
        format!("{name} {phase} ready={ready} {ip} {message}")
    };
    shown.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// Where `cargo xtask test --cluster` put the programs.
///
/// # Errors
/// A skip with its reason.
pub(super) fn programs() -> Result<PathBuf, Failure> {
    containerd::programs()?;
    let Some(programs) = std::env::var_os(PROGRAMS) else {
        return Err(Failure::Skip(
            "a Kubernetes control plane takes minutes to build: `cargo xtask test --cluster`"
                .into(),
        ));
    };
    Ok(fs::canonicalize(programs)?)
}

impl Plane {
    /// Starts all of it, and waits for the API server and for containerd.
    pub(super) fn start(node: &vpc_sim::Node) -> Result<Self, Failure> {
        let programs = programs()?;
        let containerd = Containerd::start(node)?;
        let ip = address_of(node)?;
        let mut it = Self {
            containerd,
            node: node.clone(),
            programs,
            processes: Vec::new(),
        };
        it.asked(&["files", FILES, node.name(), it.containerd.cgroup()])?;
        let mut prepare = it.containerd.beside(Path::new("sh"));
        prepare.args(["-ec", &prepare_script()]);
        let call = lab::cni::run(node, prepare, "", LIMIT)?;
        ensure(call.ok(), call.words())?;
        it.run("etcd", &etcd_args())?;
        it.run("kube-apiserver", &api_args(&ip))?;
        let judge = |call: Call| ensure(call.ok(), format!("{}\n{}", call.words(), it.logs()));
        eventually(LATER, || it.ask(&["ready"]), Call::ok, judge)?;
        it.run("cluster", &["watch".into()])?;
        let begun = |told: &Vec<Told>| told.iter().any(|t| t.about == "watch");
        let judge = |told| ensure(begun(&told), it.logs());
        eventually(SOON, || it.told(), begun, judge)?;
        it.run("kubelet", &kubelet_args(node.name(), &ip))?;
        Ok(it)
    }

    /// Starts one of the programs; its words go to `/run/NAME.log`, what it answers to `/run/NAME.out`.
    fn run(&mut self, name: &'static str, args: &[String]) -> Outcome {
        let mut command = self.containerd.beside(&self.programs.join(name));
        let open = move |kind: &str| fs::File::create(format!("/run/{name}.{kind}"));
        let (out, log) = self
            .node
            .run(move || Ok::<_, std::io::Error>((open("out")?, open("log")?)))??;
        command
            .args(args)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(log);
        let process = Process::watch(self.node.spawn(command)?)?;
        self.processes.push((name, process));
        Ok(())
    }

    /// One question; see the Go program.
    fn ask(&self, args: &[&str]) -> Result<Call, Failure> {
        let mut command = Command::new(self.programs.join("cluster"));
        command.args(args).current_dir("/");
        Ok(lab::cni::run(&self.node, command, "", LIMIT)?)
    }

    /// One question that must be answered; the answer.
    fn asked(&self, args: &[&str]) -> Result<Value, Failure> {
        let call = self.ask(args)?;
        if call.ok() {
            return Ok(call.json());
        }
        fail(format!(
            "cluster {args:?}: {}\n{}",
            call.stderr,
            self.logs()
        ))
    }

    /// The ends of all logs, for people, and who has ended.
    pub(super) fn logs(&self) -> String {
        let mut all = String::new();
        for (name, process) in &self.processes {
            let ended = process.ended().unwrap_or_else(|| "running".into());
            let text = self.read(&format!("/run/{name}.log"));
            let lines: Vec<&str> = text.lines().collect();
            let last = lines[lines.len().saturating_sub(25)..].join("\n");
            all += &format!("--- {name} ({ended})\n{last}\n");
        }
        all
    }

    fn read(&self, file: &str) -> String {
        let file = file.to_owned();
        let text = self.node.run(move || fs::read_to_string(file));
        text.ok().and_then(Result::ok).unwrap_or_default()
    }

    /// Everything that the watch has told so far, in its order.
    pub(super) fn told(&self) -> Result<Vec<Told>, Failure> {
        for (name, process) in &self.processes {
            if let Some(end) = process.ended() {
                return fail(format!("{name} has ended: {end}\n{}", self.logs()));
            }
        }
        let text = self.read("/run/cluster.out");
        // The last line may be half there.
        let lines = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
        Ok(lines
            .map(|line| Told {
                about: of(&line, "about"),
                ready: of(&line, "ready"),
                message: of(&line, "message"),
            })
            .collect())
    }

    /// The node's condition Ready, and its message.
    pub(super) fn node_ready(&self) -> Result<(String, String), Failure> {
        let said = self.asked(&["node", self.node.name()])?;
        let of = |field: &str| said[field].as_str().unwrap_or_default().to_owned();
        Ok((of("ready"), of("message")))
    }

    /// Waits until the node is what `ready` says.
    pub(super) fn node_becomes(&self, ready: &str, limit: Duration) -> Outcome {
        let judge = |(is, message): (String, String)| {
            let words = || format!("Ready={is}, not {ready}: {message}\n{}", self.logs());
            if is == ready { Ok(()) } else { fail(words()) }
        };
        eventually(limit, || self.node_ready(), |(is, _)| is == ready, judge)
    }

    /// Pods that listen, from the API.
    pub(super) fn create(&self, names: &[String]) -> Outcome {
        let programs = self.programs.display().to_string();
        let mut args = vec!["create", self.node.name(), &programs];
        args.extend(names.iter().map(String::as_str));
        self.asked(&args).map(drop)
    }

    /// Deletes pods by the API, and waits until it shows them no more.
    pub(super) fn delete(&self, names: &[String]) -> Outcome {
        if names.is_empty() {
            return Ok(());
        }
        let mut args = vec!["delete"];
        args.extend(names.iter().map(String::as_str));
        self.asked(&args)?;
        let left = || {
            let mut left = self.shown()?;
            left.retain(|pod| names.contains(&pod.name));
            Ok(left)
        };
        let judge = |left: Vec<Shown>| {
            let words = format!("pods are left:\n{}\n{}", words(&left), self.logs());
            ensure(left.is_empty(), words)
        };
        eventually(LATER, left, Vec::is_empty, judge)
    }

    /// All pods of the API.
    pub(super) fn shown(&self) -> Result<Vec<Shown>, Failure> {
        let list = self.asked(&["pods"])?;
        let of = |pod: &Value, field: &str| pod[field].as_str().unwrap_or_default().to_owned();
        let shown = |pod: &Value| Shown {
            name: of(pod, "name"),
            phase: of(pod, "phase"),
            ready: of(pod, "ready") == "True",
            ip: of(pod, "ip"),
            message: of(pod, "message") + " " + &of(pod, "reason"),
        };
        Ok(list.as_array().into_iter().flatten().map(shown).collect())
    }

    /// Waits until these pods are Running and Ready; as other tests know pods.
    pub(super) fn running(&self, names: &[String]) -> Result<Vec<Pod>, Failure> {
        let mut pods = Vec::new();
        let look = || {
            let mut shown = self.shown()?;
            shown.retain(|pod| names.contains(&pod.name));
            Ok(shown)
        };
        let well = |pods: &Vec<Shown>| {
            let good = |pod: &&Shown| pod.phase == "Running" && pod.ready;
            pods.iter().filter(good).count() == names.len()
        };
        let judge = |shown: Vec<Shown>| {
            if !well(&shown) {
                let told = self.told()?;
                let words = format!("not all run:\n{}\n{told:?}\n{}", words(&shown), self.logs());
                return fail(words);
            }
            let sandboxes = self.sandboxes()?;
            for pod in shown {
                let id = sandboxes.iter().find(|(name, _)| *name == pod.name);
                let Some((_, id)) = id else {
                    return fail(format!("no result of {}: {sandboxes:?}", pod.name));
                };
                let there = self.containerd.pod(&pod.name, id)?;
                let ip = there.address().map(|ip| ip.to_string());
                let words = format!("the API says {}, the plugin {ip:?}", pod.ip);
                ensure(ip.as_ref() == Some(&pod.ip), words)?;
                pods.push(there);
            }
            Ok(())
        };
        eventually(LATER, look, well, judge)?;
        Ok(pods)
    }

    /// Pods' names with their sandboxes' ids, from libcni's copies of attachments.
    fn sandboxes(&self) -> Result<Vec<(String, String)>, Failure> {
        let read = || -> std::io::Result<Vec<Value>> {
            let mut all = Vec::new();
            for entry in fs::read_dir("/var/lib/cni/results")?.flatten() {
                // Others come and go meanwhile.
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                all.extend(serde_json::from_str::<Value>(&text));
            }
            Ok(all)
        };
        let all = self.node.run(read)??;
        let sandbox = |it: &Value| {
            let args = it["cniArgs"].as_array()?;
            let name = args.iter().find(|pair| pair[0] == "K8S_POD_NAME")?;
            let id = it["containerId"].as_str()?;
            Some((name[1].as_str()?.to_owned(), id.to_owned()))
        };
        Ok(all.iter().filter_map(sandbox).collect())
    }

    /// Removes sandboxes of pods that are gone, as the kubelet does once a minute.
    pub(super) fn remove_ended_sandboxes(&self) -> Outcome {
        let list = self.containerd.done("list", &["list"])?;
        for id in list.as_array().into_iter().flatten() {
            let id = id.as_str().unwrap_or_default();
            let call = self.containerd.call(&["remove", id])?;
            // The kubelet may just have done it.
            let gone = call.stderr.contains("not found");
            ensure(call.ok() || gone, call.stderr)?;
        }
        Ok(())
    }
}

/// The node's own address.
fn address_of(node: &vpc_sim::Node) -> Result<String, Failure> {
    let all = kernel::addresses(&node.net())?.into_values().flatten();
    let usable = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
        IpAddr::V6(_) => false,
    };
    match all.into_iter().find(usable) {
        Some(ip) => Ok(ip.to_string()),
        None => fail("the node has no address"),
    }
}

/// Mounts that keep the kubelet from the machine's logs and kernel settings.
fn prepare_script() -> String {
    let show = |(name, value): &(&str, u32)| {
        let file = format!("/run/kernel/{}", name.replace('/', "."));
        format!("echo {value} >{file}; mount --bind {file} /proc/sys/{name}; ")
    };
    let kernel: String = KERNEL.iter().map(show).collect();
    format!("mkdir -p /run/kernel; mount -t tmpfs logs /var/log; {kernel}")
}

fn etcd_args() -> Vec<String> {
    [
        "--data-dir=/var/lib/etcd",
        &format!("--listen-client-urls={ETCD}"),
        &format!("--advertise-client-urls={ETCD}"),
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--log-level=warn",
        "--unsafe-no-fsync",
    ]
    .map(String::from)
    .to_vec()
}

fn api_args(ip: &str) -> Vec<String> {
    [
        &format!("--etcd-servers={ETCD}"),
        &format!("--advertise-address={ip}"),
        "--bind-address=127.0.0.1",
        "--secure-port=6443",
        "--cert-dir=/run/cluster/api",
        "--authorization-mode=Node,RBAC",
        "--disable-admission-plugins=ServiceAccount",
        "--endpoint-reconciler-type=none",
        "--service-cluster-ip-range=172.30.0.0/24",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=/run/cluster/key.pem",
        "--service-account-signing-key-file=/run/cluster/key.pem",
        "--token-auth-file=/run/cluster/tokens.csv",
    ]
    .map(String::from)
    .to_vec()
}

fn kubelet_args(node: &str, ip: &str) -> Vec<String> {
    [
        "--config=/run/cluster/kubelet.yaml",
        "--kubeconfig=/run/cluster/kubeconfig",
        "--root-dir=/var/lib/kubelet",
        &format!("--hostname-override={node}"),
        &format!("--node-ip={ip}"),
    ]
    .map(String::from)
    .to_vec()
}
