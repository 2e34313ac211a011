//! Probes: datagrams and connections from a pod to hosts that answer with the source they saw.
//! `ping` may not be installed, and would not tell the source.

use crate::cluster::Cluster;
use crate::error::LabError;
use crate::pod::Pod;
use ipnet::IpNet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use vpc_sim::{NetNs, responder};

/// A datagram may meet an ARP entry that is being made; so often it is sent.
const TRIES: u32 = 3;
/// How long each try waits.
const TRY_LIMIT: Duration = Duration::from_millis(1500);
/// How long a connection may take, with its question and answer.
const TCP_LIMIT: Duration = Duration::from_secs(5);

/// What a probe is sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// A pod on another node.
    OtherNode,
    /// A pod on the same node.
    OwnNode,
    /// The node itself, at its primary address.
    Node,
    /// The host behind the internet gateway.
    Internet,
}

/// By which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// A datagram.
    Udp,
    /// A connection.
    Tcp,
}

/// One probe: from where, to where, and the source that must arrive.
#[derive(Clone, Debug)]
pub struct Probe {
    /// Name of the sender, for people.
    pub from: String,
    /// Its namespace.
    pub net: NetNs,
    /// Its address.
    pub source: IpAddr,
    /// What kind of place `to` is.
    pub target: Target,
    /// Address to send to.
    pub to: IpAddr,
    /// How.
    pub protocol: Protocol,
    /// The source that the answer must name.
    pub seen_as: IpAddr,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            from,
            source,
            to,
            protocol,
            target,
            ..
        } = self;
        write!(f, "{from} ({source}) -> {to} ({target:?}, {protocol:?})")
    }
}

/// Responders that run until this value goes. A socket keeps its namespace alive, and with it a
/// pod's link: as a pod's processes do, responders must end before the pod.
#[derive(Debug)]
pub struct Responders {
    tasks: Option<JoinSet<()>>,
    runtime: tokio::runtime::Handle,
}

impl Drop for Responders {
    fn drop(&mut self) {
        if let Some(mut tasks) = self.tasks.take() {
            // Each holds its socket until it has ended.
            self.runtime.block_on(tasks.shutdown());
        }
    }
}

/// Starts responders in every pod and on every node.
///
/// # Errors
/// A socket can't be bound.
pub fn answer(cluster: &Cluster, pods: &[Pod]) -> Result<Responders, LabError> {
    let v6 = pods
        .iter()
        .any(|p| p.addresses().iter().any(IpAddr::is_ipv6));
    let nodes = cluster.nodes().iter().map(|node| node.sim().net());
    let pods = pods.iter().filter_map(|pod| pod.netns.as_ref());
    let nets = nodes.chain(pods.map(|ns| ns.net().clone()));
    let handle = cluster.runtime().handle();
    let _here = handle.enter();
    let mut tasks = JoinSet::new();
    for net in nets {
        // Both families, where there are two.
        let any = if v6 {
            SocketAddr::from((Ipv6Addr::UNSPECIFIED, responder::PORT))
        } else {
            SocketAddr::from((Ipv4Addr::UNSPECIFIED, responder::PORT))
        };
        let doing = || LabError::io("starting a responder");
        let udp = UdpSocket::from_std(net.udp(any)?).map_err(doing())?;
        let tcp = TcpListener::from_std(net.tcp_listener(any)?).map_err(doing())?;
        // Both run for ever; a probe without an answer tells of one that did not.
        tasks.spawn(async { drop(responder::udp(udp).await) });
        tasks.spawn(async { drop(responder::tcp(tcp).await) });
    }
    Ok(Responders {
        tasks: Some(tasks),
        runtime: handle.clone(),
    })
}

/// Every probe that the pods must pass, from each of their addresses: to a pod of another node, a pod
/// of its own, its node and the internet, by datagram; and by connection to the other node and the
/// internet.
#[must_use]
pub fn plan(cluster: &Cluster, pods: &[Pod]) -> Vec<Probe> {
    let up: Vec<&Pod> = pods.iter().filter(|pod| pod.is_up()).collect();
    let mut probes = Vec::new();
    for (n, pod) in up.iter().enumerate() {
        let Some(netns) = &pod.netns else { continue };
        // The next one around the circle, so that everybody is also asked.
        let after = up.iter().cycle().skip(n + 1).take(up.len() - 1);
        for source in pod.addresses() {
            let find = |own: bool| {
                let pod = after
                    .clone()
                    .find(|p| (p.node.name() == pod.node.name()) == own)?;
                let mut all = pod.addresses().into_iter();
                all.find(|ip| ip.is_ipv6() == source.is_ipv6())
            };
            let node = node_of(cluster, pod.node.name(), source.is_ipv6());
            let targets = [
                (Target::OtherNode, find(false), Some(source)),
                (Target::OwnNode, find(true), Some(source)),
                (Target::Node, node, Some(source)),
                internet(cluster, pod.node.name(), source),
            ];
            for (target, to, seen_as) in targets {
                let (Some(to), Some(seen_as)) = (to, seen_as) else {
                    continue;
                };
                let probe = |protocol| Probe {
                    from: format!("{} on {}", pod.full_name(), pod.node.name()),
                    net: netns.net().clone(),
                    source,
                    target,
                    to,
                    protocol,
                    seen_as,
                };
                probes.push(probe(Protocol::Udp));
                if matches!(target, Target::OtherNode | Target::Internet) {
                    probes.push(probe(Protocol::Tcp));
                }
            }
        }
    }
    probes
}

/// The internet as a pod with this address reaches it: IPv6 as itself, and all else as its node.
fn internet(
    cluster: &Cluster,
    node: &str,
    source: IpAddr,
) -> (Target, Option<IpAddr>, Option<IpAddr>) {
    let there = cluster.sim().internet_addresses();
    let own = node_of(cluster, node, source.is_ipv6());
    let (to, seen_as) = match source {
        IpAddr::V4(_) => (
            IpAddr::V4(there.v4),
            own.map(|ip| public_of(cluster, ip).unwrap_or(ip)),
        ),
        IpAddr::V6(_) if crate::check::is_node_local(&source) => (IpAddr::V6(there.v6), own),
        IpAddr::V6(_) => (IpAddr::V6(there.v6), Some(source)),
    };
    (Target::Internet, Some(to), seen_as)
}

/// Probes by the addresses that pods have for the other family's hosts: to the internet.
///
/// # Errors
/// A namespace is gone.
pub fn plan_egress(cluster: &Cluster, pods: &[Pod]) -> Result<Vec<Probe>, LabError> {
    let mut probes = Vec::new();
    for pod in pods.iter().filter(|pod| pod.is_up()) {
        let Some(netns) = &pod.netns else { continue };
        let all = crate::kernel::addresses(netns.net())?;
        for source in all
            .into_values()
            .flatten()
            .filter(crate::check::is_node_local)
        {
            let (target, to, seen_as) = internet(cluster, pod.node.name(), source);
            let (Some(to), Some(seen_as)) = (to, seen_as) else {
                continue;
            };
            probes.extend([Protocol::Udp, Protocol::Tcp].map(|protocol| Probe {
                from: format!("{} on {}", pod.full_name(), pod.node.name()),
                net: netns.net().clone(),
                source,
                target,
                to,
                protocol,
                seen_as,
            }));
        }
    }
    Ok(probes)
}

/// A node's own address of a family.
fn node_of(cluster: &Cluster, node: &str, v6: bool) -> Option<IpAddr> {
    let sim = cluster.sim();
    let wires = sim.vpc().wires(sim.clock().now());
    let primary = |w: &&vpc_model::Wire| w.node.as_str() == node && w.is_primary;
    let wire = wires.iter().find(primary)?;
    if v6 {
        let mut single = wire.allowed.iter().filter(|net| net.prefix_len() == 128);
        return single.next().map(IpNet::addr);
    }
    Some(IpAddr::V4(wire.primary.addr()))
}

fn public_of(cluster: &Cluster, private: IpAddr) -> Option<IpAddr> {
    let sim = cluster.sim();
    let wires = sim.vpc().wires(sim.clock().now());
    let mut mappings = wires.iter().flat_map(|w| w.public.iter());
    mappings
        .find(|(inside, _)| IpAddr::V4(*inside) == private)
        .map(|(_, outside)| (*outside).into())
}

/// Sends all probes side by side; the answer is what failed, in words.
///
/// # Errors
/// A namespace is gone.
pub fn run(cluster: &Cluster, probes: Vec<Probe>) -> Result<Vec<String>, LabError> {
    // At most so many sockets at once.
    const AT_ONCE: usize = 64;
    let mut failures = Vec::new();
    let mut rest = probes.into_iter().peekable();
    while rest.peek().is_some() {
        crate::interrupt::check()?;
        let batch: Vec<Probe> = rest.by_ref().take(AT_ONCE).collect();
        let mut ready = Vec::new();
        for probe in batch {
            ready.push((Socket::open(&probe)?, probe));
        }
        failures.extend(cluster.runtime().block_on(async {
            let mut running = JoinSet::new();
            for (socket, probe) in ready {
                running.spawn(one(socket, probe));
            }
            let mut failures = Vec::new();
            while let Some(done) = running.join_next().await {
                match done {
                    Ok(Ok(())) => {}
                    Ok(Err(words)) => failures.push(words),
                    Err(e) => failures.push(format!("a probe panicked: {e}")),
                }
            }
            failures
        }));
    }
    failures.sort();
    Ok(failures)
}

enum Socket {
    Udp(std::net::UdpSocket),
    Tcp(tokio::net::TcpSocket),
}

impl Socket {
    /// Sockets belong to the namespace in which they were made.
    fn open(probe: &Probe) -> Result<Self, LabError> {
        let any: IpAddr = match probe.to {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let any = SocketAddr::new(any, 0);
        Ok(match probe.protocol {
            Protocol::Udp => Self::Udp(probe.net.udp(any)?),
            Protocol::Tcp => Self::Tcp(probe.net.tcp_socket(probe.to.is_ipv6())?),
        })
    }
}

async fn one(socket: Socket, probe: Probe) -> Result<(), String> {
    let to = SocketAddr::new(probe.to, responder::PORT);
    let answer = match socket {
        Socket::Udp(socket) => datagram(socket, to).await,
        Socket::Tcp(socket) => {
            let limit = tokio::time::timeout(TCP_LIMIT, connection(socket, to)).await;
            limit.unwrap_or_else(|_| Err(std::io::Error::other("no answer in time")))
        }
    };
    let answer = answer.map_err(|e| format!("{probe}: {e}"))?;
    let source = responder::source(&answer).map(|s| s.ip());
    if source == Some(probe.seen_as) {
        return Ok(());
    }
    let seen = source.map_or("nothing readable".to_owned(), |s| s.to_string());
    Err(format!(
        "{probe}: arrived from {seen}, not from {}",
        probe.seen_as
    ))
}

async fn datagram(socket: std::net::UdpSocket, to: SocketAddr) -> std::io::Result<Vec<u8>> {
    let socket = UdpSocket::from_std(socket)?;
    socket.connect(to).await?;
    let mut buffer = vec![0; 512];
    for _ in 0..TRIES {
        socket.send(b"probe").await?;
        if let Ok(length) = tokio::time::timeout(TRY_LIMIT, socket.recv(&mut buffer)).await {
            buffer.truncate(length?);
            return Ok(buffer);
        }
    }
    Err(std::io::Error::other(format!(
        "no answer to {TRIES} datagrams"
    )))
}

async fn connection(socket: tokio::net::TcpSocket, to: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = socket.connect(to).await?;
    stream.write_all(b"probe").await?;
    let mut buffer = vec![0; 512];
    let length = stream.read(&mut buffer).await?;
    buffer.truncate(length);
    Ok(buffer)
}
