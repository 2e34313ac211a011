//! Clusters with IPv6, and what is looked at in them.

use crate::{Mode, Outcome, Scene, ensure, fail, spec};
use lab::{ClusterSpec, probe};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use vpc_sim::NetNs;
use vpc_sim::responder;
use vpc_sim::testing::Failure;

/// What pods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// IPv6, and IPv4 egress, as is the default.
    V6,
    /// Both; IPv4 as secondary addresses or as prefixes.
    Dual(Mode),
    /// IPv4 by prefixes, and IPv6 egress.
    V4,
}

/// So many nodes in a VPC with IPv6.
///
/// # Errors
/// The programs under test are not built.
pub fn spec_of(families: Families, instance_type: &str, nodes: u8) -> Result<ClusterSpec, Failure> {
    let mode = match families {
        Families::Dual(mode) => mode,
        Families::V4 | Families::V6 => Mode::Prefix,
    };
    let one = spec(mode, instance_type)?;
    let flag = |is| if is { "true" } else { "false" };
    let daemon = one
        .daemon
        .set("ENABLE_IPv4", flag(families != Families::V6))
        .set("ENABLE_IPv6", flag(families != Families::V4))
        .set("ENABLE_V6_EGRESS", flag(families == Families::V4));
    let mut many = ClusterSpec::new(daemon, instance_type, nodes).with_ipv6();
    many.vpc.latencies = one.vpc.latencies;
    Ok(many)
}

impl Scene {
    /// Every pod has these families' addresses, in this order.
    ///
    /// # Errors
    /// One has not.
    pub fn all_have(&self, v6: &[bool]) -> Outcome {
        for pod in &self.pods {
            let has: Vec<bool> = pod.addresses().iter().map(IpAddr::is_ipv6).collect();
            let words = format!("{} has {:?}", pod.full_name(), pod.addresses());
            ensure(has == v6, words)?;
        }
        Ok(())
    }

    /// Every pod reaches hosts of the family that it has no address of, as its node.
    ///
    /// # Errors
    /// What does not.
    pub fn all_get_out(&self) -> Outcome {
        let probes = probe::plan_egress(&self.cluster, &self.pods)?;
        let wanted = 2 * self.pods.len();
        ensure(
            probes.len() == wanted,
            format!(
                "{} probes by node-local addresses, not {wanted}",
                probes.len()
            ),
        )?;
        let failures = probe::run(&self.cluster, probes)?;
        ensure(failures.is_empty(), failures.join("\n"))
    }

    /// What a program prints on the first node.
    ///
    /// # Errors
    /// It can't be run, or fails.
    pub fn on_node(&mut self, line: &str) -> Result<String, Failure> {
        let mut words = line.split_whitespace();
        let Some(program) = words.next() else {
            return fail("no program");
        };
        let mut command = std::process::Command::new(program);
        command.args(words);
        let output = self.node().sim().output(command)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure(output.status.success(), format!("{line}: {error}"))?;
        Ok(text)
    }
}

/// How long [`first_answer`] asks.
pub const PATIENCE: Duration = Duration::from_secs(4);
/// It asks so often.
const STEP: Duration = Duration::from_millis(10);

/// How long it takes from now until a datagram from `from` to `to` is answered: by the responder that is
/// there, or by a socket of our own in `at`. [`PATIENCE`] if it never is.
///
/// # Errors
/// A socket can't be made.
pub fn first_answer(from: &NetNs, at: Option<&NetNs>, to: IpAddr) -> Result<Duration, Failure> {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let to = SocketAddr::new(to, responder::PORT);
    let blocking = |socket: UdpSocket| -> std::io::Result<UdpSocket> {
        socket.set_nonblocking(false)?;
        socket.set_read_timeout(Some(STEP))?;
        Ok(socket)
    };
    let far = at.map(|at| at.udp(SocketAddr::new(any, responder::PORT)));
    let far = far.transpose()?.map(blocking).transpose()?;
    let near = blocking(from.udp(SocketAddr::new(any, 0))?)?;
    let (begun, mut buffer) = (Instant::now(), [0; 64]);
    while begun.elapsed() < PATIENCE {
        // Errors are those of a way that is not there (yet).
        let _ = near.send_to(b"ask", to);
        if let Some(far) = &far
            && let Ok((_, who)) = far.recv_from(&mut buffer)
        {
            let _ = far.send_to(b"answer", who);
        }
        if near.recv_from(&mut buffer).is_ok() {
            return Ok(begun.elapsed());
        }
    }
    Ok(PATIENCE)
}
