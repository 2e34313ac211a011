//! Probes: datagrams and connections from a pod to hosts that answer with the source they saw.
//! `ping` may not be installed, and would not tell the source.

use crate::cluster::Cluster;
use crate::error::LabError;
use crate::pod::Pod;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
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
    let nodes = cluster.nodes().iter().map(|node| node.sim().net());
    let pods = pods.iter().filter_map(|pod| pod.netns.as_ref());
    let nets = nodes.chain(pods.map(|ns| ns.net().clone()));
    let handle = cluster.runtime().handle();
    let _here = handle.enter();
    let mut tasks = JoinSet::new();
    for net in nets {
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, responder::PORT));
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

/// Every probe that the pods must pass: each to a pod of another node, a pod of its own, its node
/// and the internet, by datagram; and by connection to the other node and the internet.
#[must_use]
pub fn plan(cluster: &Cluster, pods: &[Pod]) -> Vec<Probe> {
    let up: Vec<&Pod> = pods.iter().filter(|pod| pod.is_up()).collect();
    let mut probes = Vec::new();
    for (n, pod) in up.iter().enumerate() {
        let (Some(netns), Some(source)) = (&pod.netns, pod.address()) else {
            continue;
        };
        // The next one around the circle, so that everybody is also asked.
        let after = up.iter().cycle().skip(n + 1).take(up.len() - 1);
        let find = |own: bool| {
            after
                .clone()
                .find(|p| (p.node.name() == pod.node.name()) == own)?
                .address()
        };
        let public = |node: IpAddr| public_of(cluster, node).unwrap_or(node);
        let node = primary_of(cluster, pod.node.name());
        let internet = IpAddr::V4(cluster.sim().internet_addresses().v4);
        let targets = [
            (Target::OtherNode, find(false), Some(source)),
            (Target::OwnNode, find(true), Some(source)),
            (Target::Node, node, Some(source)),
            (Target::Internet, Some(internet), node.map(public)),
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
    probes
}

fn primary_of(cluster: &Cluster, node: &str) -> Option<IpAddr> {
    let sim = cluster.sim();
    let wires = sim.vpc().wires(sim.clock().now());
    let primary =
        |w: &&vpc_model::Wire| w.node.as_str() == node && w.device_index == 0 && w.card == 0;
    wires
        .iter()
        .find(primary)
        .map(|w| IpAddr::V4(w.primary.addr()))
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
        let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
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
