//! Wrongs on purpose: each is really done, with the means that a faulty program would have, and
//! nothing tells the checks.

use clap::ValueEnum;
use lab::{Cluster, LabError, Pod};
use nix::sys::socket::{setsockopt, sockopt};
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::Command;
use std::time::Duration;

/// What to do wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sabotage {
    /// A pod sends with the address of a pod on another node.
    Spoof,
    /// An ENI is created and left; a pod goes without its DEL.
    Leak,
    /// One address is in two pods.
    Double,
}

/// Does it, while all pods are up.
///
/// # Errors
/// It could not be done: there are too few pods, or the kernel refused.
pub(super) fn commit(
    sabotage: Sabotage,
    cluster: &Cluster,
    pods: &mut [Pod],
) -> Result<String, LabError> {
    match sabotage {
        Sabotage::Spoof => spoof(cluster, pods),
        Sabotage::Leak => leak(cluster, pods),
        Sabotage::Double => double(pods),
    }
}

fn too_few() -> LabError {
    LabError::Format {
        what: "the sabotage".into(),
        reason: "it needs more pods".into(),
    }
}

fn io(doing: &str) -> impl FnOnce(std::io::Error) -> LabError {
    let doing = doing.to_owned();
    move |source| LabError::Io { doing, source }
}

fn spoof(cluster: &Cluster, pods: &[Pod]) -> Result<String, LabError> {
    let sender = pods.first().ok_or_else(too_few)?;
    let netns = sender.netns.as_ref().ok_or_else(too_few)?;
    let victim = pods
        .iter()
        .find(|p| p.node.name() != sender.node.name())
        .ok_or_else(too_few)?;
    let stolen = victim.address().ok_or_else(too_few)?;
    let to = primary_of(cluster, victim.node.name()).ok_or_else(too_few)?;
    // The kernel drops a pod's packet with a source that is not routed back to the pod; a careless
    // set-up would not.
    let link = sender.host_link().ok_or_else(too_few)?;
    let filter = format!("/proc/sys/net/ipv4/conf/{link}/rp_filter");
    let off = sender.node.run(move || std::fs::write(filter, "0"))?;
    off.map_err(io("turning the reverse path filter off"))?;
    // A socket may send from an address that its host does not have (ip(7), IP_TRANSPARENT).
    let send = move || {
        let socket = nix::sys::socket::socket(
            nix::sys::socket::AddressFamily::Inet,
            nix::sys::socket::SockType::Datagram,
            nix::sys::socket::SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        setsockopt(&socket, sockopt::IpTransparent, &true)?;
        let socket = bind(socket, SocketAddr::new(stolen, 4711))?;
        for _ in 0..3 {
            socket.send_to(b"not mine", SocketAddr::new(to, 7))?;
        }
        Ok(())
    };
    netns
        .net()
        .run(send)?
        .map_err(io("sending with another's address"))?;
    Ok(format!(
        "{} sent with {stolen}, the address of {}",
        sender.full_name(),
        victim.full_name()
    ))
}

fn bind(socket: std::os::fd::OwnedFd, address: SocketAddr) -> std::io::Result<std::net::UdpSocket> {
    use std::os::fd::AsRawFd;
    let SocketAddr::V4(v4) = address else {
        return Err(std::io::Error::other("only IPv4"));
    };
    nix::sys::socket::bind(socket.as_raw_fd(), &nix::sys::socket::SockaddrIn::from(v4))?;
    Ok(std::net::UdpSocket::from(socket))
}

fn primary_of(cluster: &Cluster, node: &str) -> Option<IpAddr> {
    let sim = cluster.sim();
    let wires = sim.vpc().wires(sim.clock().now());
    let wire = wires
        .iter()
        .find(|w| w.node.as_str() == node && w.device_index == 0)?;
    Some(wire.primary.addr().into())
}

fn leak(cluster: &Cluster, pods: &mut [Pod]) -> Result<String, LabError> {
    let pod = pods.last_mut().ok_or_else(too_few)?;
    let forgotten = pod.full_name();
    pod.result = None;
    pod.remove_netns()?;
    let sim = cluster.sim();
    let subnet = sim
        .vpc()
        .subnets()
        .first()
        .map(|s| s.id.to_string())
        .ok_or_else(too_few)?;
    let form = format!(
        "Action=CreateNetworkInterface&Version=2016-11-15&SubnetId={subnet}&Description=forgotten"
    );
    let answer = pod.node.run(move || post(vpc_sim::EC2_ADDRESS, &form))?;
    let answer = answer.map_err(io("creating an ENI"))?;
    let id = answer
        .split_once("<networkInterfaceId>")
        .map(|(_, rest)| rest);
    let id = id
        .and_then(|rest| rest.split('<').next())
        .ok_or_else(|| LabError::Format {
            what: "EC2's answer".into(),
            reason: answer.clone(),
        })?;
    Ok(format!(
        "{id} was created and left; {forgotten} went without DEL"
    ))
}

/// An unsigned call of EC2's query API, from the calling thread's namespace.
fn post(host: Ipv4Addr, form: &str) -> std::io::Result<String> {
    const LIMIT: Duration = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&SocketAddr::from((host, 80)), LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    let length = form.len();
    write!(
        stream,
        "POST / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {length}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn double(pods: &[Pod]) -> Result<String, LabError> {
    let [first, second, ..] = pods else {
        return Err(too_few());
    };
    let address = first.address().ok_or_else(too_few)?;
    let netns = second.netns.as_ref().ok_or_else(too_few)?;
    let mut ip = Command::new("ip");
    ip.args(["address", "add", &format!("{address}/32"), "dev", "eth0"]);
    let output = netns.net().output(ip)?;
    if !output.status.success() {
        let reason = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(LabError::Format {
            what: "ip address add".into(),
            reason,
        });
    }
    Ok(format!(
        "{address} of {} is also in {}",
        first.full_name(),
        second.full_name()
    ))
}
