//! A VPC in the kernel: owns the namespaces of router, internet and nodes and the thread of the
//! servers, from start to shutdown.

use crate::EC2_URL;
use crate::clock::Clock;
use crate::error::SimError;
use crate::fabric::Fabric;
use crate::host_names::HostName;
use crate::isolate::may_use_host_names;
use crate::kernel::place::Place;
use crate::netns::NetNs;
use crate::node::Node;
use crate::router::{Core, Internet};
use crate::servers::{Listeners, Servers};
use crate::shared::{Books, Model, Shared, VpcGuard};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use vpc_model::{NodeSpec, UnknownNode, Vpc, VpcSpec};

/// How a VPC is put into the kernel; [`VpcSpec`] says what it is.
#[derive(Debug)]
pub struct SimOptions {
    /// The model's time.
    pub clock: Clock,
    /// Name nodes' namespaces in the host's `/run/netns`. Needs root; call it without
    /// [`crate::isolate`].
    pub host_names: bool,
    /// Listeners outside, bound before [`crate::isolate`].
    pub listeners: Listeners,
    /// The host behind the internet gateway.
    pub internet: Internet,
    /// Directories that are each node's own, and empty at first.
    pub private_dirs: Vec<PathBuf>,
}

impl Default for SimOptions {
    fn default() -> Self {
        Self {
            clock: Clock::new(),
            host_names: false,
            listeners: Listeners::default(),
            internet: Internet::default(),
            private_dirs: ["/run", "/var/run", "/var/lib"].map(PathBuf::from).to_vec(),
        }
    }
}

/// A running VPC. Everything goes when this value does, or by [`Sim::shutdown`].
#[derive(Debug)]
pub struct Sim {
    shared: Arc<Shared>,
    nodes: Nodes,
    servers: Mutex<Option<Servers>>,
    host_names: Mutex<Vec<HostName>>,
    core: Core,
    internet: Internet,
    private_dirs: Vec<PathBuf>,
    named: bool,
}

/// Nodes by name; nodes can be launched while the VPC runs.
pub(crate) type Nodes = Arc<RwLock<BTreeMap<String, Node>>>;

impl Sim {
    /// Builds the VPC and starts its servers. When it returns, every node's primary ENI is up.
    ///
    /// # Errors
    /// Everything that is wrong with `spec`, or what the kernel refused; nothing is left then.
    pub async fn start(spec: VpcSpec, options: SimOptions) -> Result<Self, SimError> {
        let built = tokio::task::spawn_blocking(move || Self::start_blocking(spec, options));
        built.await.unwrap_or(Err(SimError::ServersGone))
    }

    /// [`Sim::start`] for programs without an async runtime.
    ///
    /// # Errors
    /// As [`Sim::start`].
    pub fn start_blocking(spec: VpcSpec, options: SimOptions) -> Result<Self, SimError> {
        let SimOptions {
            clock,
            host_names,
            listeners,
            internet,
            private_dirs,
        } = options;
        if host_names {
            may_use_host_names()?;
        }
        let core = Core::open(&spec, internet)?;
        let vpc = Vpc::new(spec, clock.now())?;
        let infos = vpc.nodes();
        let (nft, arp) = (core.nft.clone(), core.arp);
        let fabric = core.router.run(move || Fabric::open(nft, arp))??;
        let shared = Arc::new(Shared::new(vpc, clock, fabric, Arc::clone(&core.router)));
        let sim = Self {
            shared,
            nodes: Arc::default(),
            servers: Mutex::default(),
            host_names: Mutex::default(),
            core,
            internet,
            private_dirs,
            named: host_names,
        };
        let mut opened = Vec::new();
        for info in infos {
            opened.push(sim.open_node(info.name.as_str())?);
        }
        sim.lay()?;
        for node in &opened {
            sim.boot(node)?;
        }
        let servers = Servers::start(&sim.shared, &sim.core, internet, &sim.nodes, listeners)?;
        *lock(&sim.servers) = Some(servers);
        Ok(sim)
    }

    /// The node of that name.
    ///
    /// # Errors
    /// [`SimError::NoNode`].
    pub fn node(&self, name: &str) -> Result<Node, SimError> {
        let nodes = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
        nodes
            .get(name)
            .cloned()
            .ok_or_else(|| SimError::NoNode(name.to_owned()))
    }

    /// All nodes, by name.
    pub fn nodes(&self) -> Vec<Node> {
        self.nodes
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// The model, locked: keep it short. What changes in it reaches the kernel within
    /// milliseconds of the lock's release; [`Sim::caught_up`] waits for that.
    pub fn vpc(&self) -> VpcGuard<'_> {
        self.shared.vpc()
    }

    /// The same for other threads of the program.
    pub fn model(&self) -> Model {
        Model(Arc::clone(&self.shared))
    }

    /// The model's time.
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Moves the model's time forward.
    pub fn advance(&self, by: Duration) {
        self.shared.clock.advance(by);
        self.shared.look_again();
    }

    /// Waits until the kernel is as the model is now (at most two seconds).
    pub async fn caught_up(&self) {
        self.shared.caught_up().await;
    }

    /// Where EC2 is, from inside nodes and pods.
    pub fn ec2_url(&self) -> &'static str {
        EC2_URL
    }

    /// The router's namespace, for what the description has no words for: another network beside the
    /// VPC, a path with a smaller MTU. Its ENIs' links and rules are the fabric's.
    pub fn router(&self) -> NetNs {
        NetNs::of(&self.core.router)
    }

    /// The namespace behind the internet gateway.
    pub fn internet(&self) -> NetNs {
        NetNs::of(&self.core.internet)
    }

    /// Addresses of the host there; it answers on UDP and TCP port 7 and HTTP port 80 with the
    /// source that it sees (see [`crate::responder`]).
    pub fn internet_addresses(&self) -> Internet {
        self.internet
    }

    /// Launches one more node.
    ///
    /// # Errors
    /// What is wrong with the node's description, or what the kernel refused.
    pub fn launch(&self, spec: NodeSpec) -> Result<Node, SimError> {
        let name = spec.name.clone();
        let now = self.clock().now();
        self.vpc().launch(spec, now)?;
        let node = self.open_node(&name)?;
        self.lay()?;
        self.boot(&node)?;
        Ok(node)
    }

    /// Terminates a node's instance: its processes are killed and its links go.
    ///
    /// # Errors
    /// There is no such node.
    pub fn terminate(&self, name: &str) -> Result<(), SimError> {
        let node = self.node(name)?;
        terminate(&self.shared, &node).map_err(|e| SimError::NoNode(e.0))
    }

    /// What is wrong by the model's books and the router's counters.
    ///
    /// # Errors
    /// The counters can't be read.
    pub fn books(&self) -> Result<Books, SimError> {
        self.shared.books()
    }

    /// ENI id to packets that the router forwarded from and to it, detached ones too.
    ///
    /// # Errors
    /// The counters can't be read.
    pub fn packets_per_eni(&self) -> Result<BTreeMap<String, u64>, SimError> {
        Ok(self.books()?.packets_per_eni)
    }

    /// Who an address is, for people: `198.51.100.11 = 10.0.0.11 node-a primary`.
    pub fn describe_address(&self, address: IpAddr) -> String {
        describe(&self.shared, self.internet, address)
    }

    /// Nodes as JSON objects, for programs: names, ids, addresses and how to enter each.
    pub fn describe_nodes(&self) -> Vec<serde_json::Value> {
        crate::control::nodes(&self.shared, &self.nodes)
    }

    /// Address of the control API, if one was asked for.
    pub fn control_address(&self) -> Option<SocketAddr> {
        lock(&self.servers).as_ref().and_then(|s| s.control)
    }

    /// Ends every process on the nodes, the servers and all namespaces. Dropping does the same.
    pub async fn shutdown(self) {
        // Waits for threads: not for an async task.
        drop(tokio::task::spawn_blocking(move || drop(self)).await);
    }

    fn open_node(&self, name: &str) -> Result<Node, SimError> {
        let info = self
            .vpc()
            .nodes()
            .into_iter()
            .find(|n| n.name.as_str() == name);
        let info = info.ok_or_else(|| SimError::NoNode(name.to_owned()))?;
        let (id, namespace) = (info.name.clone(), info.namespace.clone());
        let node = Node::open(info, self.private_dirs.clone(), self.named)?;
        if self.named {
            lock(&self.host_names).push(HostName::make(&namespace, node.tid())?);
        }
        self.shared.add_net(id, Arc::clone(node.place().net()));
        let mut nodes = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        nodes.insert(name.to_owned(), node.clone());
        Ok(node)
    }

    fn lay(&self) -> Result<(), SimError> {
        match self.shared.lay() {
            Ok(_) => Ok(()),
            Err(failures) => Err(failures.into_iter().next().unwrap_or(SimError::ServersGone)),
        }
    }

    fn boot(&self, node: &Node) -> Result<(), SimError> {
        let wires = self.shared.wires();
        let mut own = wires.iter().filter(|w| w.node.as_str() == node.name());
        match own.find(|w| w.is_primary) {
            Some(primary) => node.configure_primary(primary),
            None => Err(SimError::NoNode(node.name().to_owned())),
        }
    }
}

impl Drop for Sim {
    fn drop(&mut self) {
        let nodes = self.nodes();
        for node in &nodes {
            node.kill_processes();
        }
        drop(lock(&self.servers).take());
        // The first one made the directories: it goes last.
        lock(&self.host_names).drain(..).rev().for_each(drop);
        for node in &nodes {
            node.close();
        }
        for place in [&self.core.router, &self.core.internet] {
            Place::close(place);
        }
    }
}

/// Ends an instance: in the model, then its processes.
pub(crate) fn terminate(shared: &Shared, node: &Node) -> Result<(), UnknownNode> {
    let now = shared.clock.now();
    shared.vpc().terminate_instance(node.name(), now)?;
    node.kill_processes();
    Ok(())
}

/// See [`Sim::describe_address`].
pub(crate) fn describe(shared: &Shared, internet: Internet, address: IpAddr) -> String {
    let address = address.to_canonical();
    if address == internet.v4 || address == internet.v6 {
        return format!("{address} = internet");
    }
    let wires = shared.wires();
    let private = wires.iter().flat_map(|w| w.public.iter());
    let private = private
        .filter(|(_, public)| *public == address)
        .map(|(p, _)| IpAddr::V4(*p))
        .next();
    let inside = private.unwrap_or(address);
    let Some(holder) = shared.holder(inside) else {
        return format!("{address} = nobody's");
    };
    let what = if inside == holder.primary.addr() {
        "primary"
    } else {
        "secondary"
    };
    let translated = private.map(|p| format!("{p} ")).unwrap_or_default();
    format!(
        "{address} = {translated}{} {} {what}",
        holder.node, holder.link
    )
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
