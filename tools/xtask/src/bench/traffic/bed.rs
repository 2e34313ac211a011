//! A node with pods on its primary and on further ENIs, a host elsewhere, and who talks to whom.

use super::super::stack::Stack;
use crate::demo::Mode;
use lab::load::{self, Done, Work};
use lab::{Cluster, ClusterSpec, LabError, Patience, Pod, Process};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use vpc_model::Wire;
use vpc_sim::NetNs;

/// How long the kernel remembers a connection that has ended: the turns make more of them in its usual
/// two minutes than its table holds.
const TIME_WAIT: (&str, &str) = (
    "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_time_wait",
    "5",
);

/// Where the measured pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::bench) enum On {
    /// On the primary ENI: the first pod.
    Primary,
    /// On a secondary one: the second pod.
    Secondary,
}

/// Whom it talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::bench) enum To {
    /// The host elsewhere in the VPC.
    Host,
    /// The other measured pod, on the same node.
    Pod,
}

/// One measured thing.
pub(in crate::bench) type Key = (On, To, Work);

/// A pod, for those who lay rules by hand.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) address: Ipv4Addr,
    /// Of its ENI, if that is not the primary one.
    pub(super) table: Option<u32>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Bed {
    // Before the namespaces that they live in. The host's, and the first two pods'.
    servers: Vec<Server>,
    pods: Vec<Pod>,
    runtime: lab::Runtime,
    pub(super) cluster: Cluster,
}

impl Bed {
    /// A node with `count` pods.
    pub(super) fn make(stack: &Stack, mode: Mode, count: u32) -> Result<Self, LabError> {
        let spec = stack
            .spec(mode)
            .set("IP_COOLDOWN_PERIOD", 0)
            .set("IPAMD_MAX_PODS", count)
            .set("WARM_IP_TARGET", 1)
            .set("MINIMUM_IP_TARGET", count + 1);
        // Types with room for so many pods.
        let instance_type = match mode {
            Mode::Secondary => "m5.16xlarge",
            _ => "m5.large",
        };
        let mut cluster = Cluster::start(ClusterSpec::new(spec, instance_type, 2))?;
        stack.start(cluster.node())?;
        stack.wait_filled(&cluster, mode, usize::try_from(count).unwrap_or(usize::MAX))?;
        let node = cluster.nodes()[0].sim().clone();
        let make = |n| Pod::make(&node, &format!("traffic-{n}"));
        let mut pods = (0..count).map(make).collect::<Result<Vec<_>, _>>()?;
        let runtime = stack.runtime();
        let tally = runtime.add_all(&mut pods, 4, Patience::BENCH, |_| ())?;
        if let Some(words) = tally.failed_adds.into_iter().next() {
            return Err(unfit(words));
        }
        let mut bed = Self {
            servers: Vec::new(),
            pods,
            runtime,
            cluster,
        };
        bed.measured_first()?;
        let node = bed.cluster.nodes()[0].sim();
        // Where the kernel refuses it, the table may fill, and the load tells.
        drop(node.run(|| std::fs::write(TIME_WAIT.0, TIME_WAIT.1))?);
        let host = bed.cluster.nodes()[1].sim().net();
        bed.servers.push(Server::start(&host)?);
        for n in 0..2 {
            bed.servers.push(Server::start(&bed.net(n)?)?);
        }
        Ok(bed)
    }

    fn measured_first(&mut self) -> Result<(), LabError> {
        for (slot, secondary) in [(0, false), (1, true)] {
            let places = self.places();
            let found = (slot..places.len()).find(|n| places[*n].table.is_some() == secondary);
            let lacking = || unfit(format!("no pod with secondary ENI = {secondary}"));
            self.pods.swap(slot, found.ok_or_else(lacking)?);
        }
        Ok(())
    }

    /// How many of its pods are on further ENIs, for people.
    pub(super) fn words(&self) -> String {
        let places = self.places();
        let tables: BTreeSet<u32> = places.iter().filter_map(|p| p.table).collect();
        let away = places.iter().filter(|p| p.table.is_some()).count();
        let all = places.len();
        format!(
            "{all} pods, {away} of them on {} secondary ENIs",
            tables.len()
        )
    }

    /// Takes pods away until so many are left.
    pub(super) fn shrink_to(&mut self, count: u32) -> Result<(), LabError> {
        let keep = usize::try_from(count).unwrap_or(usize::MAX);
        let mut gone = self.pods.split_off(keep.min(self.pods.len()));
        let tally = self.runtime.del_all(&mut gone, 4)?;
        tally
            .failed_dels
            .into_iter()
            .next()
            .map_or(Ok(()), |words| Err(unfit(words)))
    }

    /// All pods, the measured ones first.
    pub(super) fn places(&self) -> Vec<Place> {
        let enis = self.enis();
        let place = |pod: &Pod| {
            let Some(IpAddr::V4(address)) = pod.address() else {
                return None;
            };
            let has = |w: &&Wire| w.allowed.iter().any(|net| net.contains(&pod_ip(address)));
            let eni = enis.iter().find(has)?;
            Some(Place {
                address,
                table: table(eni),
            })
        };
        self.pods.iter().filter_map(place).collect()
    }

    /// The node's ENIs.
    pub(super) fn enis(&self) -> Vec<Wire> {
        self.wires(0)
    }

    fn wires(&self, node: usize) -> Vec<Wire> {
        let sim = self.cluster.sim();
        let name = self.cluster.nodes()[node].name().to_owned();
        let wires = sim.vpc().wires(sim.clock().now());
        wires
            .into_iter()
            .filter(|w| w.node.as_str() == name)
            .collect()
    }

    fn net(&self, pod: usize) -> Result<NetNs, LabError> {
        let netns = self.pods.get(pod).and_then(|pod| pod.netns.as_ref());
        netns
            .map(|netns| netns.net().clone())
            .ok_or_else(|| unfit(format!("pod {pod} has no namespace")))
    }

    /// Measures each thing once, for so long.
    pub(super) fn round(&self, slice_ms: u64) -> Result<BTreeMap<Key, Done>, LabError> {
        let mut all = BTreeMap::new();
        for work in Work::ALL {
            for (on, to) in [
                (On::Primary, To::Host),
                (On::Secondary, To::Host),
                (On::Primary, To::Pod),
                (On::Secondary, To::Pod),
            ] {
                lab::interrupt::check()?;
                all.insert((on, to, work), self.one((on, to, work), slice_ms)?);
            }
        }
        Ok(all)
    }

    /// The server's processor time is counted with the client's.
    fn one(&self, (on, to, work): Key, slice_ms: u64) -> Result<Done, LabError> {
        let me = usize::from(on == On::Secondary);
        let (server, address) = match to {
            To::Host => (&self.servers[0], self.wires(1)[0].primary.addr()),
            To::Pod => (&self.servers[2 - me], self.places()[1 - me].address),
        };
        let mut command = program("ask")?;
        command.args([work.word(), &address.to_string(), &slice_ms.to_string()]);
        let before = server.cpu_us()?;
        let output = self.net(me)?.output(command)?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let mut done: Done = serde_json::from_str(&text).map_err(|e| {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            unfit(format!("{on:?} to {to:?}, {}: {e}: {said}", work.word()))
        })?;
        done.cpu_us += server.cpu_us()? - before;
        Ok(done)
    }
}

/// A load's other end.
#[derive(Debug)]
struct Server(Process);

impl Server {
    fn start(net: &NetNs) -> Result<Self, LabError> {
        let mut command = program("serve")?;
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = net.spawn(command)?;
        let said = child.stdout.take().map(BufReader::new);
        let process = Process::watch(child)?;
        let first = said.and_then(|said| said.lines().next());
        match first {
            Some(Ok(line)) if line == load::READY => Ok(Self(process)),
            other => Err(unfit(format!("a load's server says {other:?}"))),
        }
    }

    fn cpu_us(&self) -> Result<f64, LabError> {
        load::cpu_us(self.0.pid()).map_err(|e| unfit(format!("a load's server is gone: {e}")))
    }
}

/// This program, as a load: both ends on one processor, so that neither waits for the other's to wake.
fn program(part: &str) -> Result<Command, LabError> {
    let me = std::env::current_exe().map_err(|e| unfit(format!("finding this program: {e}")))?;
    let mut command = Command::new(me);
    let cpu = load::last_cpu().map_err(|e| unfit(format!("choosing a processor: {e}")))?;
    command.args(["load", part, "--cpu", &cpu.to_string()]);
    Ok(command)
}

/// The routing table of a further ENI: device index + 1, on card 0.
pub(super) fn table(eni: &Wire) -> Option<u32> {
    (eni.device_index > 0).then_some(eni.device_index + 1)
}

fn pod_ip(address: Ipv4Addr) -> IpAddr {
    IpAddr::V4(address)
}

pub(super) fn unfit(reason: String) -> LabError {
    LabError::Format {
        what: "the traffic bench".into(),
        reason,
    }
}
