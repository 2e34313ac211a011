//! A VPC to look at: two subnets, three nodes, nothing takes any time.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::UdpSocket;
use vpc_sim::testing::Failure;
use vpc_sim::vpc_model::{Latencies, Placement, Response, Wire};
use vpc_sim::{NetNs, Sim, SimOptions, VpcSpec, description, responder};

pub(crate) type Checked = Result<(), Failure>;

/// An answer that is to come comes within this.
pub(crate) const SOON: Duration = Duration::from_secs(3);
/// An answer that is not to come has not come after this.
pub(crate) const NEVER: Duration = Duration::from_millis(400);

const TWO_SUBNETS: &str = r#"
    cidrs = ["10.0.0.0/16"]
    ipv6_cidr = "2001:db8:1::/56"

    [[subnets]]
    cidr = "10.0.0.0/18"
    ipv6_cidr = "2001:db8:1::/64"

    [[subnets]]
    cidr = "10.0.64.0/18"

    [[nodes]]
    name = "node-a"
    public_ip = "198.51.100.11"
    launch_addresses = 3
    launch_ipv6_addresses = 2

    [[nodes]]
    name = "node-b"
    launch_addresses = 3
    launch_ipv6_addresses = 2
    hop_limit = 1

    [[nodes]]
    name = "node-c"
    subnet = "10.0.64.0/18"
    launch_prefixes = 1
"#;

pub(crate) fn spec() -> Result<VpcSpec, Failure> {
    let mut spec = description::parse(TWO_SUBNETS)?;
    spec.latencies = Latencies::zero();
    spec.placement = Placement::Lowest;
    Ok(spec)
}

/// Runs a test in a VPC of its own.
pub(crate) fn in_vpc<F, Fut>(test: F) -> Checked
where
    F: FnOnce(Sim) -> Fut,
    Fut: Future<Output = Checked>,
{
    in_vpc_with(SimOptions::default(), test)
}

/// The same with options.
pub(crate) fn in_vpc_with<F, Fut>(options: SimOptions, test: F) -> Checked
where
    F: FnOnce(Sim) -> Fut,
    Fut: Future<Output = Checked>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let sim = Sim::start(spec()?, options).await?;
        test(sim).await
    })
}

/// The primary ENI's wire of a node.
pub(crate) fn wire(sim: &Sim, node: &str) -> Result<Wire, Failure> {
    let wires = sim.vpc().wires(sim.clock().now());
    let found = wires
        .into_iter()
        .find(|w| w.node.as_str() == node && w.device_index == 0);
    found.ok_or_else(|| format!("{node} has no primary ENI").into())
}

/// Addresses of one family that the primary ENI of a node holds besides its primary one.
pub(crate) fn secondary(sim: &Sim, node: &str, ipv6: bool) -> Result<Vec<IpAddr>, Failure> {
    let wire = wire(sim, node)?;
    let hosts = wire.allowed.iter().filter(|n| n.addr().is_ipv6() == ipv6);
    let hosts = hosts
        .flat_map(|n| n.hosts().take(4))
        .filter(|ip| *ip != wire.primary.addr());
    Ok(hosts.collect())
}

/// Makes an address the node's own, as if a pod had it.
pub(crate) fn own(sim: &Sim, node: &str, address: IpAddr) -> Result<NetNs, Failure> {
    let net = sim.node(node)?.net();
    net.add_address("lo", address.into())?;
    Ok(net)
}

/// A responder at this address of this namespace.
pub(crate) fn respond(net: &NetNs, address: IpAddr) -> Checked {
    let socket = UdpSocket::from_std(net.udp(SocketAddr::new(address, responder::PORT))?)?;
    tokio::spawn(responder::udp(socket));
    Ok(())
}

/// The source that the responder at `to` sees when `from` asks, if an answer comes in time.
pub(crate) async fn ask(
    net: &NetNs,
    from: IpAddr,
    to: IpAddr,
    time: Duration,
) -> Result<Option<SocketAddr>, Failure> {
    let socket = UdpSocket::from_std(net.udp(SocketAddr::new(from, 0))?)?;
    let to = SocketAddr::new(to, responder::PORT);
    let mut buffer = [0; 256];
    let exchange = async {
        // The first packet may be lost to a neighbour that has to be looked for.
        loop {
            // An error is an ICMP message about an earlier packet, or no route: no answer.
            drop(socket.send_to(b"ping", to).await);
            let answer =
                tokio::time::timeout(Duration::from_millis(300), socket.recv_from(&mut buffer));
            if let Ok(Ok((length, _))) = answer.await {
                return responder::source(buffer.get(..length).unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    Ok(tokio::time::timeout(time, exchange).await.ok().flatten())
}

/// Asks and wants an answer; returns the address that was seen.
pub(crate) async fn must_reach(net: &NetNs, from: IpAddr, to: IpAddr) -> Result<IpAddr, Failure> {
    let seen = ask(net, from, to, SOON).await?;
    seen.map(|s| s.ip())
        .ok_or_else(|| format!("{to} does not answer {from}").into())
}

/// Sends until the source check has counted it, and wants no answer to any of it.
pub(crate) async fn must_be_dropped(sim: &Sim, node: &str, from: IpAddr, to: IpAddr) -> Checked {
    let net = sim.node(node)?.net();
    let before = dropped(sim, node)?;
    let end = std::time::Instant::now() + SOON;
    // The first packets may still wait for a neighbour.
    while std::time::Instant::now() < end {
        let seen = ask(&net, from, to, NEVER).await?;
        check(seen.is_none(), format!("{to} answered {from}"))?;
        if dropped(sim, node)? > before {
            return Ok(());
        }
    }
    Err(format!("packets from {from} on {node} were not counted").into())
}

/// Packets of a node that the source check dropped.
pub(crate) fn dropped(sim: &Sim, node: &str) -> Result<u64, Failure> {
    Ok(sim
        .books()?
        .enis
        .iter()
        .filter(|e| e.node == node)
        .map(|e| e.dropped)
        .sum())
}

/// Does an EC2 call on a node's behalf, at once.
pub(crate) fn ec2(
    sim: &Sim,
    node: &str,
    request: impl Into<vpc_sim::vpc_model::Request>,
) -> Result<Response, Failure> {
    use vpc_sim::vpc_model::{Admission, Caller};
    let now = sim.clock().now();
    let (caller, request) = (Caller::node(node), request.into());
    Ok(sim
        .vpc()
        .execute(&Admission::immediate(), &caller, &request, now)?)
}

/// `Err` with these words unless `holds`.
pub(crate) fn check(holds: bool, otherwise: impl Into<String>) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(Failure::Wrong(otherwise.into()))
    }
}
