//! A node whose pods are on its primary and on a secondary ENI, and everybody whom they may talk to: the
//! VPC's two blocks, the internet, a network beside the VPC, Services. And cells: who asks whom, which
//! source must arrive, and by which ENI of the node packets leave.

mod cells;

pub use cells::{by_service, direct, services};

use crate::net::{self, Patience, ask, output};
use crate::{Mode, Outcome, SOON, Scene, ensure, fail, none_wrong, spec, succeeded};
use lab::probe::{self, Protocol, Responders};
use lab::{ClusterSpec, Pod};
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};
use vpc_model::{NodeSpec, SubnetSpec};
use vpc_sim::testing::Failure;
use vpc_sim::{NetNs, PodNs, responder};

/// The network beside the VPC (another VPC, a data centre), where nobody translates anything: its one
/// host, and its router.
pub const BESIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 50);
const BESIDE_ROUTER: &str = "192.0.2.1";
/// What belongs to it.
pub const BESIDE_NET: &str = "192.0.2.0/24";
/// The node's public address.
pub const PUBLIC: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 11);
const PORT: u16 = responder::PORT;

/// See the module.
#[derive(Debug)]
pub struct Site {
    // Before the namespaces that its sockets are in.
    responders: Responders,
    beside_tasks: Vec<tokio::task::JoinHandle<()>>,
    /// In the network beside the VPC.
    beside: PodNs,
    /// The cluster: `node-1` with the pods, `node-2` with one, `node-3` a host in the second block.
    pub scene: Scene,
    /// Index in the scene's pods: on the primary ENI, on a secondary one, on the other node.
    pods: [usize; 3],
}

/// Somebody who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// The pod on the primary ENI.
    Primary,
    /// The pod on a secondary ENI.
    Secondary,
    /// A pod on another node.
    Remote,
    /// A host in the VPC's second block.
    SecondBlock,
    /// The host beside the VPC.
    Beside,
    /// The host behind the internet gateway.
    Internet,
}

/// One cell of the matrix.
#[derive(Clone, Debug)]
pub struct Cell {
    /// For people.
    pub name: String,
    /// Who asks,
    pub from: Who,
    /// whom,
    pub to: SocketAddr,
    /// how;
    pub protocol: Protocol,
    /// the source that must arrive (`None`: no answer may come),
    pub seen: Option<IpAddr>,
    /// and by which ENI of `node-1` packets leave: the primary, a secondary, none.
    pub leaves: Option<Who>,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:?})", self.name, self.protocol)
    }
}

impl Site {
    /// Builds it. `change` may set what the daemon on `node-1` is told.
    ///
    /// # Errors
    /// It could not be built.
    pub fn new(mode: Mode, settings: &[(&str, &str)]) -> Result<Self, Failure> {
        let mut scene = Scene::new(description(mode, settings)?)?;
        for node in &mut scene.cluster.nodes_mut()[..2] {
            node.start()?;
            node.wait_ready(SOON)?;
        }
        // One block an ENI: the pods that don't fit on the primary go to a secondary one.
        scene.add_pods(if mode == Mode::Prefix { 17 } else { 2 })?;
        scene.add_elsewhere()?;
        let remote = scene.pods.len() - 1;
        let on = |primary: bool| {
            let sim = scene.cluster.sim();
            let wires = sim.vpc().wires(sim.clock().now());
            let holds = |ip: IpAddr| {
                wires.iter().any(|w| {
                    let has = w.allowed.iter().any(|net| net.contains(&ip));
                    w.node.as_str() == "node-1" && has && (w.device_index == 0) == primary
                })
            };
            let found = scene.pods[..remote]
                .iter()
                .position(|pod| pod.address().is_some_and(holds));
            found.map_or_else(|| fail(format!("no pod with primary = {primary}")), Ok)
        };
        let pods = [on(true)?, on(false)?, remote];
        let beside = beside(&scene)?;
        let responders = probe::answer(&scene.cluster, &scene.pods)?;
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
        let (udp, tcp) = (beside.net().udp(any)?, beside.net().tcp_listener(any)?);
        let runtime = scene.cluster.runtime();
        let _here = runtime.enter();
        let (udp, tcp) = (
            tokio::net::UdpSocket::from_std(udp)?,
            tokio::net::TcpListener::from_std(tcp)?,
        );
        let beside_tasks = vec![
            runtime.spawn(async { drop(responder::udp(udp).await) }),
            runtime.spawn(async { drop(responder::tcp(tcp).await) }),
        ];
        drop(_here);
        Ok(Self {
            responders,
            beside_tasks,
            beside,
            scene,
            pods,
        })
    }

    /// A pod of the scene.
    #[must_use]
    pub fn pod(&self, who: Who) -> Option<&Pod> {
        let index = match who {
            Who::Primary => self.pods[0],
            Who::Secondary => self.pods[1],
            Who::Remote => self.pods[2],
            _ => return None,
        };
        self.scene.pods.get(index)
    }

    /// Where somebody's programs run.
    ///
    /// # Errors
    /// A pod's namespace is gone.
    pub fn net(&self, who: Who) -> Result<NetNs, Failure> {
        let sim = self.scene.cluster.sim();
        Ok(match who {
            Who::SecondBlock => sim.node("node-3")?.net(),
            Who::Beside => self.beside.net().clone(),
            Who::Internet => sim.internet(),
            pod => match self.pod(pod).and_then(|pod| pod.netns.as_ref()) {
                Some(netns) => netns.net().clone(),
                None => return fail(format!("{pod:?} has no namespace")),
            },
        })
    }

    /// `node-1`'s namespace.
    ///
    /// # Errors
    /// It is gone.
    pub fn node(&self) -> Result<NetNs, Failure> {
        Ok(self.scene.cluster.sim().node("node-1")?.net())
    }

    /// Somebody's own address.
    #[must_use]
    pub fn address(&self, who: Who) -> Ipv4Addr {
        let of_pod = |who| match self.pod(who).and_then(Pod::address) {
            Some(IpAddr::V4(ip)) => ip,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        match who {
            Who::SecondBlock => self.primary_of("node-3"),
            Who::Beside => BESIDE,
            Who::Internet => self.scene.cluster.sim().internet_addresses().v4,
            pod => of_pod(pod),
        }
    }

    /// `node-1`'s primary address.
    #[must_use]
    pub fn node_address(&self) -> Ipv4Addr {
        self.primary_of("node-1")
    }

    fn primary_of(&self, node: &str) -> Ipv4Addr {
        let sim = self.scene.cluster.sim();
        let wires = sim.vpc().wires(sim.clock().now());
        let mut own = wires.iter().filter(|w| w.node.as_str() == node);
        own.find(|w| w.device_index == 0)
            .map_or(Ipv4Addr::UNSPECIFIED, |w| w.primary.addr())
    }

    /// Packets that left `node-1` so far, by the primary ENI and by the others.
    fn left(&self) -> Result<BTreeMap<bool, u64>, Failure> {
        let mut sums = BTreeMap::from([(true, 0), (false, 0)]);
        let enis = self.scene.cluster.sim().books()?.enis;
        for eni in enis.iter().filter(|eni| eni.node == "node-1") {
            *sums.entry(eni.link == "ens5").or_default() += eni.sent;
        }
        Ok(sums)
    }

    /// Tries a cell; what is wrong with it, in words.
    ///
    /// # Errors
    /// It could not be tried.
    pub fn attempt(&self, cell: &Cell, patience: Patience) -> Result<Option<String>, Failure> {
        let net = self.net(cell.from)?;
        let before = self.left()?;
        let runtime = self.scene.cluster.runtime();
        let answer = ask(runtime, &net, cell.protocol, cell.to, patience)?;
        let seen = answer.as_ref().ok().map(|(_, seen)| seen.ip());
        if seen != cell.seen {
            let told = answer.map_or_else(|e| e, |(_, seen)| format!("arrived from {seen}"));
            return Ok(Some(format!("{told}; expected {:?}", cell.seen)));
        }
        let after = self.left()?;
        let by = |primary: bool| after.get(&primary) > before.get(&primary);
        let want = (
            cell.leaves == Some(Who::Primary),
            cell.leaves == Some(Who::Secondary),
        );
        let wrong = (by(true), by(false)) != want;
        let words = || {
            let way = |b| if b { "yes" } else { "no" };
            format!(
                "left by the primary ENI: {}, by a secondary one: {}; expected {:?}",
                way(by(true)),
                way(by(false)),
                cell.leaves
            )
        };
        Ok(wrong.then(words))
    }

    /// Tries cells, prints each, and fails if one is wrong.
    ///
    /// # Errors
    /// What is wrong.
    pub fn all(&self, cells: &[Cell], patience: Patience) -> Outcome {
        let mut wrongs = Vec::new();
        for cell in cells {
            let wrong = self.attempt(cell, patience)?;
            println!("  {cell}: {}", wrong.as_deref().unwrap_or("ok"));
            wrongs.extend(wrong.map(|words| format!("{cell}: {words}")));
        }
        ensure(!cells.is_empty() && wrongs.is_empty(), wrongs.join("\n"))
    }

    /// No ENI sent what it may not send, and all that the daemon made is gone with it.
    ///
    /// # Errors
    /// What is wrong.
    pub fn end(self) -> Outcome {
        self.clean()?;
        for task in &self.beside_tasks {
            task.abort();
        }
        drop((self.responders, self.beside));
        self.scene.nothing_is_left()
    }

    /// No ENI sent what it may not send.
    ///
    /// # Errors
    /// What did.
    pub fn clean(&self) -> Outcome {
        none_wrong(lab::check::books(&self.scene.cluster)?)
    }

    /// One more pod's ADD, where a scenario needs one.
    ///
    /// # Errors
    /// It failed.
    pub fn add_one(&mut self) -> Outcome {
        let mut pod = self.scene.make_pod()?;
        let call = self.scene.runtime.add(&mut pod)?;
        self.scene.pods.push(pod);
        succeeded("one more ADD", &call)
    }
}

/// Two nodes in the first block with two ENIs and room for one block on each, and a host in the second.
fn description(mode: Mode, settings: &[(&str, &str)]) -> Result<ClusterSpec, Failure> {
    let one = spec(mode, "m5.large")?;
    let mut daemon = one.daemon.clone().set("WARM_ENI_TARGET", 0);
    for (name, value) in settings {
        daemon = daemon.set(name, value);
    }
    let mut spec = ClusterSpec::new(daemon, "t3.nano", 2);
    spec.vpc.latencies = one.vpc.latencies;
    spec.vpc.cidrs.push("10.1.0.0/16".parse()?);
    let far = "10.1.0.0/18";
    let mut subnet = SubnetSpec::new(far.parse()?);
    subnet.az = spec.vpc.subnets.first().and_then(|s| s.az.clone());
    spec.vpc.subnets.push(subnet);
    let mut host = NodeSpec::new("node-3", "m5.large");
    host.subnet = Some(far.into());
    spec.vpc.nodes.push(host);
    Ok(spec)
}

/// A network beside the VPC, joined to its router as a peering or a transit gateway joins it: what a pod
/// sends there arrives as it was sent.
fn beside(scene: &Scene) -> Result<PodNs, Failure> {
    let sim = scene.cluster.sim();
    let there = sim.node("node-3")?.make_pod_netns("beside")?;
    let fd = there.net().as_fd().as_raw_fd();
    let (router, far) = (sim.router(), there.net().clone());
    for line in [
        "ip link add beside mtu 9001 type veth peer name far0 mtu 9001".to_owned(),
        format!(
            "ip link set far0 netns /proc/{}/fd/{fd}",
            std::process::id()
        ),
        format!("ip addr add {BESIDE_ROUTER}/32 dev beside"),
        "ip link set beside up".to_owned(),
        format!("ip route add {BESIDE_NET} dev beside"),
    ] {
        output(&router, &line)?;
    }
    net::feed(
        &router,
        "nft -f -",
        "table inet vpc { chain beside_from { accept; }\n}\n\
         add element inet vpc from_eni { \"beside\" : jump beside_from }\n",
    )?;
    for line in [
        format!("ip addr add {BESIDE}/24 dev far0"),
        "ip link set far0 up".to_owned(),
        format!("ip route add default via {BESIDE_ROUTER}"),
    ] {
        output(&far, &line)?;
    }
    Ok(there)
}
