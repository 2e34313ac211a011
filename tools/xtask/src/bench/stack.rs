//! A daemon with its plugin: ours, or the peer's. How each is started and asked; the cases are the
//! same for both.

use crate::demo::Mode;
use crate::error::TaskError;
use lab::{Cluster, DaemonSpec, LabError, Node, Programs, Runtime};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// For a daemon's socket: the peer waits 30 s for an API server that is not there.
const SOCKET_LIMIT: Duration = Duration::from_secs(90);
/// Where the peer has its socket and its files, in the node's own `/run`.
const PEER_DIR: &str = "/var/run/aws-node";
/// Names an API server where none listens: the peer waits for it, then goes on. With no file at all
/// it dies at its first look at a Kubernetes object.
const NO_API_SERVER: &str = "\
apiVersion: v1
kind: Config
clusters: [{name: none, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: none, user: {}}]
contexts: [{name: none, context: {cluster: none, user: none}}]
current-context: none
";
/// For a pool to be filled.
const FILL_LIMIT: Duration = Duration::from_secs(120);

/// Which, and where its programs are.
#[derive(Debug)]
pub(super) struct Stack {
    peer: bool,
    daemon: PathBuf,
    plugin: PathBuf,
    kubeconfig: Option<PathBuf>,
}

impl Stack {
    pub(super) fn ours(programs: &Programs) -> Self {
        let (daemon, plugin) = (programs.daemon.clone(), programs.plugin.clone());
        Self {
            peer: false,
            daemon,
            plugin,
            kubeconfig: None,
        }
    }

    /// # Errors
    /// The folder lacks a program.
    pub(super) fn peer(dir: &Path, kubeconfig: Option<&Path>) -> Result<Self, TaskError> {
        let find = |name: &str| {
            let path =
                std::path::absolute(dir.join(name)).map_err(TaskError::io("reading --peer"))?;
            if path.is_file() {
                Ok(path)
            } else {
                Err(TaskError::NotBuilt(format!("{}", path.display())))
            }
        };
        let kubeconfig = kubeconfig.map(std::path::absolute).transpose();
        Ok(Self {
            peer: true,
            daemon: find("aws-k8s-agent")?,
            plugin: find("aws-cni")?,
            kubeconfig: kubeconfig.map_err(TaskError::io("reading --peer-kubeconfig"))?,
        })
    }

    pub(super) fn name(&self) -> &'static str {
        if self.peer { "peer" } else { "ours" }
    }

    /// Whether it can run a case.
    pub(super) fn can(&self, mode: Mode) -> bool {
        !self.peer || matches!(mode, Mode::Prefix | Mode::Secondary)
    }

    pub(super) fn daemon(&self) -> &Path {
        &self.daemon
    }

    pub(super) fn plugin(&self) -> &Path {
        &self.plugin
    }

    /// The daemon with the settings of the peer's manifest.
    pub(super) fn spec(&self, mode: Mode) -> DaemonSpec {
        let mut spec = mode.daemon(&self.daemon);
        if !self.peer {
            return spec.set("IPAMD_MAX_PODS", 110);
        }
        spec.socket = format!("{PEER_DIR}/ipamd.sock").into();
        for (name, value) in [
            ("AWS_VPC_K8S_CNI_LOGLEVEL", "DEBUG"),
            ("AWS_VPC_K8S_CNI_LOG_FILE", "/run/aws-node/ipamd.log"),
            ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "prng"),
            ("AWS_VPC_K8S_CNI_VETHPREFIX", "eni"),
            ("AWS_VPC_ENI_MTU", "9001"),
            ("MY_POD_NAME", "aws-node-bench"),
            ("CLUSTER_NAME", "bench"),
        ] {
            spec = spec.set(name, value);
        }
        match &self.kubeconfig {
            Some(file) => spec.set("KUBECONFIG", file.display()),
            None => spec.set("KUBECONFIG", format!("{PEER_DIR}/kubeconfig")),
        }
    }

    pub(super) fn runtime(&self) -> Runtime {
        if !self.peer {
            return Runtime::ipamd(&self.plugin);
        }
        let config = json!({
            "cniVersion": "0.4.0",
            "name": "aws-cni",
            "type": "aws-cni",
            "vethPrefix": "eni",
            "mtu": "9001",
            "podSGEnforcingMode": "strict",
            "pluginLogFile": "/run/aws-node/plugin.log",
            "pluginLogLevel": "DEBUG",
        });
        Runtime::new(&self.plugin, config)
    }

    /// Starts the daemon and waits until its socket answers.
    ///
    /// # Errors
    /// It ended or took too long.
    pub(super) fn start(&self, node: &mut Node) -> Result<(), LabError> {
        if self.peer {
            let made = node.sim().run(|| {
                std::fs::create_dir_all(PEER_DIR)?;
                std::fs::write(format!("{PEER_DIR}/kubeconfig"), NO_API_SERVER)
            })?;
            let doing = "making the peer's folder".to_owned();
            made.map_err(|source| LabError::Io { doing, source })?;
        }
        node.start()?;
        node.wait_socket(SOCKET_LIMIT)
    }

    /// Waits until the node has so many addresses for pods, by EC2's word, and its daemon has had
    /// time to take them in.
    ///
    /// # Errors
    /// It took too long.
    pub(super) fn wait_filled(
        &self,
        cluster: &Cluster,
        mode: Mode,
        addresses: usize,
    ) -> Result<(), LabError> {
        let Some(node) = cluster.nodes().first() else {
            return Ok(());
        };
        if !self.peer {
            let free = u32::try_from(addresses).unwrap_or(u32::MAX);
            // Not those of an ENI whose link is still to come: an ADD would wait for it.
            let filled = |p: &lab::snapshot::Snapshot| {
                let ready = p.enis.iter().filter(|e| e.phase == "ready");
                let blocks: Vec<_> = ready.flat_map(|e| &e.blocks).collect();
                let v4 = blocks.iter().filter(|b| !b.block.contains("::"));
                let v4: u32 = v4.map(|b| b.free).sum();
                let v6 = blocks.iter().any(|b| b.block.contains("::"));
                let there = match mode {
                    Mode::Prefix | Mode::Secondary => v4,
                    Mode::Dual if v6 => v4,
                    Mode::Ipv6 if v6 => u32::MAX,
                    Mode::Dual | Mode::Ipv6 => 0,
                };
                p.totals.free.min(there) >= free
            };
            return node
                .wait_pool(FILL_LIMIT, "a filled pool", filled)
                .map(drop);
        }
        let began = std::time::Instant::now();
        while mode != Mode::Ipv6 && given(cluster, node.name()) < addresses {
            node.daemon()?.check_running()?;
            if began.elapsed() > FILL_LIMIT {
                let what = format!("{addresses} addresses on {}", node.name());
                return Err(LabError::TooLate {
                    what,
                    limit: FILL_LIMIT,
                });
            }
            lab::interrupt::sleep(Duration::from_millis(200))?;
        }
        // Its pool can't be asked; one cycle of its manager takes 5 s, IMDS lags 3 s.
        lab::interrupt::sleep(Duration::from_secs(10))
    }
}

/// Addresses for pods that EC2 has given to the node's ENIs.
fn given(cluster: &Cluster, node: &str) -> usize {
    let sim = cluster.sim();
    let wires = sim.vpc().wires(sim.clock().now());
    let mine = wires.iter().filter(|w| w.node.as_str() == node);
    mine.map(|w| {
        let v4 = w.allowed.iter().filter(|net| net.addr().is_ipv4());
        v4.map(|net| if net.prefix_len() == 32 { 1 } else { 16 })
            .sum::<usize>()
            - 1
    })
    .sum()
}
