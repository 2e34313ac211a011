//! The whole box: VPC, nodes, and the folder for logs. Everything goes with it.

use crate::daemon::DaemonSpec;
use crate::error::LabError;
use crate::folder::Folder;
use crate::node::Node;
use crate::snapshot::Eni;
use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use vpc_model::{NodeSpec, SubnetSpec, VpcSpec};
use vpc_sim::{Sim, SimOptions};

/// No call to EC2 for so long: nothing is under way.
const QUIET: Duration = Duration::from_millis(700);

/// Names a folder in which the daemons' logs stay when the cluster is gone.
const KEEP_LOGS: &str = "LAB_LOGS";

/// What to build.
#[derive(Clone, Debug)]
pub struct ClusterSpec {
    /// The VPC, its nodes included.
    pub vpc: VpcSpec,
    /// What runs on every node.
    pub daemon: DaemonSpec,
}

impl ClusterSpec {
    /// So many nodes of one instance type, `node-1` and up, each in a subnet of its own with a
    /// public address, in a VPC with the latencies of design section 7.
    #[must_use]
    pub fn new(daemon: DaemonSpec, instance_type: &str, nodes: u8) -> Self {
        let subnet = |n: u8| Ipv4Net::new_assert(Ipv4Addr::new(10, 0, 64 * (n % 4), 0), 18);
        let mut vpc = VpcSpec::default();
        for n in 0..nodes {
            if n < 4 {
                let mut spec = SubnetSpec::new(subnet(n));
                spec.az = Some(format!("{}{}", vpc.region, char::from(b'a' + n)));
                vpc.subnets.push(spec);
            }
            let mut node = NodeSpec::new(&format!("node-{}", n + 1), instance_type);
            node.subnet = Some(subnet(n).to_string());
            node.public_ip = Some(Ipv4Addr::new(198, 51, 100, 11 + n));
            vpc.nodes.push(node);
        }
        Self { vpc, daemon }
    }

    /// The same with IPv6 in the VPC and in each subnet, and an address of it for each node.
    #[must_use]
    pub fn with_ipv6(mut self) -> Self {
        let net =
            |n: u16, len| Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 1, n, 0, 0, 0, 0), len);
        self.vpc.ipv6_cidr = Some(net(0, 56));
        for (n, subnet) in (0..).zip(&mut self.vpc.subnets) {
            subnet.ipv6_cidr = Some(net(n, 64));
        }
        for node in &mut self.vpc.nodes {
            node.launch_ipv6_addresses = 1;
        }
        self
    }
}

/// A running cluster.
#[derive(Debug)]
pub struct Cluster {
    // Daemons before the namespaces that they live in.
    nodes: Vec<Node>,
    sim: Sim,
    runtime: Runtime,
    logs: Folder,
}

impl Cluster {
    /// Builds the VPC. No daemon runs yet. Call it after [`vpc_sim::isolate`].
    ///
    /// # Errors
    /// The specification contradicts itself, or the kernel refuses.
    pub fn start(spec: ClusterSpec) -> Result<Self, LabError> {
        let logs = match std::env::var_os(KEEP_LOGS) {
            Some(dir) => Folder::to_keep(Path::new(&dir)),
            None => Folder::make(&std::env::temp_dir()),
        };
        let logs = logs.map_err(LabError::io("making a folder for logs"))?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("lab")
            .enable_all()
            .build()
            .map_err(LabError::io("starting a thread"))?;
        let ClusterSpec { vpc, daemon } = spec;
        let sim = Sim::start_blocking(vpc, SimOptions::default())?;
        let make = |node| {
            let daemon = daemon.clone();
            Node::new(
                node,
                runtime.handle().clone(),
                daemon,
                sim.ec2_url(),
                logs.path(),
            )
        };
        let nodes = sim.nodes().into_iter().map(make).collect();
        Ok(Self {
            nodes,
            sim,
            runtime,
            logs,
        })
    }

    /// The VPC.
    pub fn sim(&self) -> &Sim {
        &self.sim
    }

    /// The VPC, and the nodes to be changed beside it.
    pub fn parts(&mut self) -> (&Sim, &mut [Node]) {
        (&self.sim, &mut self.nodes)
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All nodes, by name.
    pub fn nodes_mut(&mut self) -> &mut [Node] {
        &mut self.nodes
    }

    /// The first node.
    ///
    /// # Panics
    /// There is none: the specification named no node.
    pub fn node(&mut self) -> &mut Node {
        &mut self.nodes[0]
    }

    /// For probes.
    pub fn runtime(&self) -> &Runtime {
        &self.runtime
    }

    /// The folder of the daemons' logs.
    pub fn logs(&self) -> &Path {
        self.logs.path()
    }

    /// Starts a daemon on every node and waits until all can serve.
    ///
    /// # Errors
    /// One ended or was not ready in time.
    pub fn start_daemons(&mut self, limit: Duration) -> Result<Duration, LabError> {
        let began = Instant::now();
        for node in &mut self.nodes {
            node.start()?;
        }
        for node in &self.nodes {
            node.wait_ready(limit)?;
        }
        Ok(began.elapsed())
    }

    /// Waits until no purchase is under way: every ENI in use, and no call to EC2 for a while.
    ///
    /// # Errors
    /// One still is when the time is over, or a daemon ended.
    pub fn wait_settled(&self, limit: Duration) -> Result<(), LabError> {
        for node in self.nodes.iter().filter(|node| node.daemon().is_ok()) {
            let mut calls = self.sim.vpc().ec2_calls().clone();
            let mut since = Instant::now();
            node.wait_pool(limit, "no purchase under way", |pool| {
                let now = self.sim.vpc().ec2_calls().clone();
                if now != calls {
                    (calls, since) = (now, Instant::now());
                }
                // A purchase that is decided may be held back for a moment: others may join it.
                let waits = |n: &String| {
                    n.starts_with("asking EC2 for") || n.ends_with("asked for a little later")
                };
                let more = pool.report.iter().any(waits);
                let done = |e: &Eni| e.phase == "ready" || e.unmanaged.is_some();
                let ready = pool.enis.iter().all(done);
                ready && !more && since.elapsed() > QUIET
            })?;
        }
        Ok(())
    }

    /// Prints the end of every daemon's log, for people who look for the cause of a failure.
    pub fn show_logs(&self, lines: usize) {
        for node in &self.nodes {
            eprintln!("--- the end of the log of ipamd on {}", node.name());
            eprintln!("{}", node.log_tail(lines));
        }
    }
}
