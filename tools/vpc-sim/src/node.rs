//! A node: the namespaces that an instance's programs live in. Owns them; links come and go by the
//! fabric's hand.

use crate::IMDS_URL;
use crate::error::SimError;
use crate::isolate::{Isolation, isolation};
use crate::kernel::mounts;
use crate::kernel::netlink::{Change, Netlink, Route};
use crate::kernel::place::{Mounts, Place};
use crate::kernel::{procs, sysctl};
use crate::netns::{NetNs, PodNs, lo_up};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::route::RouteProtocol;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::sync::Arc;
use vpc_model::wires::GATEWAY_V6;
use vpc_model::{NodeInfo, Wire};

/// Metric of what DHCP sets on Amazon Linux 2023 (*recorded*).
const DHCP_METRIC: u32 = 512;

/// A node's namespaces. Clones are handles on the same node.
#[derive(Clone, Debug)]
pub struct Node {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    info: NodeInfo,
    place: Arc<Place>,
    host_name: bool,
}

impl Node {
    pub(crate) fn open(
        info: NodeInfo,
        private: Vec<PathBuf>,
        host_name: bool,
    ) -> Result<Self, SimError> {
        let place = Place::open(info.name.as_str(), Mounts::Own, move || {
            mounts::make_private(&private)?;
            mounts::fresh_sysfs();
            lo_up()?;
            sysctls()
        })?;
        Ok(Self {
            inner: Arc::new(Inner {
                info,
                place,
                host_name,
            }),
        })
    }

    /// Name, instance and type, as they were at launch.
    pub fn info(&self) -> &NodeInfo {
        &self.inner.info
    }

    /// The name that the VPC's description gives it.
    pub fn name(&self) -> &str {
        self.inner.info.name.as_str()
    }

    /// The node's own network namespace.
    pub fn net(&self) -> NetNs {
        NetNs::of(&self.inner.place)
    }

    /// Runs short work on the node's thread, in its network and mount namespaces.
    ///
    /// # Errors
    /// The node is closed, or the work panicked.
    pub fn run<T, F>(&self, work: F) -> Result<T, SimError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        self.inner.place.run(work)
    }

    /// Starts a process on the node; see [`NetNs::spawn`].
    ///
    /// # Errors
    /// The node is closed, or the program can't be started.
    pub fn spawn(&self, command: Command) -> Result<Child, SimError> {
        self.net().spawn(command)
    }

    /// Runs a process on the node to its end.
    ///
    /// # Errors
    /// As [`Node::spawn`].
    pub fn output(&self, command: Command) -> Result<Output, SimError> {
        self.net().output(command)
    }

    /// Makes a network namespace as a container runtime does for a pod: `/run/netns/<name>` in the
    /// node's mounts, only `lo` in it, which is up.
    ///
    /// # Errors
    /// The name is taken, or the kernel refuses.
    pub fn make_pod_netns(&self, name: &str) -> Result<PodNs, SimError> {
        PodNs::make(&self.inner.place, name)
    }

    /// The network namespace that a container runtime has made for a pod, by a path that is seen from
    /// here (`/proc/PID/ns/net`, or a name below `/proc/PID/root`).
    ///
    /// # Errors
    /// It is not there.
    pub fn open_pod_netns(&self, path: &Path) -> Result<PodNs, SimError> {
        PodNs::of_runtime(&self.inner.place, path)
    }

    /// Where instance metadata is, from inside.
    pub fn imds_url(&self) -> &'static str {
        IMDS_URL
    }

    /// The kernel's id of the node's thread; `/proc/TID/ns` has its namespaces.
    pub fn tid(&self) -> i32 {
        self.inner.place.tid()
    }

    /// A command that enters the node's network and mount namespaces; a program and its arguments
    /// may follow.
    pub fn enter_command(&self) -> String {
        let tid = self.tid();
        match isolation() {
            Isolation::Root => format!("nsenter --target {tid} --net --mount --"),
            Isolation::User => {
                format!("nsenter --target {tid} --user --preserve-credentials --net --mount --")
            }
        }
    }

    /// `ip netns exec NAME`, where the namespace has a name on the host.
    pub fn ip_netns_command(&self) -> Option<String> {
        let named = self.inner.host_name;
        named.then(|| format!("ip netns exec {}", self.inner.info.namespace))
    }

    /// Does with the primary ENI what the instance's DHCP client does at boot.
    pub(crate) fn configure_primary(&self, wire: &Wire) -> Result<(), SimError> {
        let (link, primary, gateway) = (wire.link.clone(), wire.primary, wire.gateway);
        let v6 = wire.subnet_v6.map(|_| first_v6(wire));
        self.run(move || {
            let mut netlink = Netlink::open()?;
            let index = netlink.index(&link)?;
            // A node that has booted has this behind it: one second in which nothing is sent.
            sysctl::try_set(&format!("ipv6/conf/{link}/accept_dad"), "0");
            let mut changes = vec![
                Change::set_up(index),
                Change::add_address(index, primary.into()),
            ];
            changes.extend(dhcp_routes(index, primary, gateway.into()));
            if let Some(address) = v6 {
                changes.extend(ipv6_changes(index, address));
            }
            netlink
                .make_all(changes)
                .into_iter()
                .next()
                .map_or(Ok(()), |e| Err(e.into()))
        })?
    }

    /// Kills every process on the node: those in its network namespace or in its mounts, where
    /// its pods' processes are too.
    pub(crate) fn kill_processes(&self) {
        let killed = procs::kill_sharing(self.tid());
        tracing::debug!("{}: killed {killed} processes", self.name());
    }

    pub(crate) fn place(&self) -> &Arc<Place> {
        &self.inner.place
    }

    pub(crate) fn close(&self) {
        self.inner.place.close();
    }
}

/// As an EKS image leaves them (*recorded*: AL2023's sysctl.d, the kubelet's unit).
fn sysctls() -> Result<(), SimError> {
    sysctl::set("ipv4/ip_forward", "1")?;
    sysctl::set("ipv4/conf/all/rp_filter", "0")?;
    sysctl::set("ipv4/conf/default/rp_filter", "2")?;
    sysctl::try_set("ipv6/conf/all/forwarding", "1");
    Ok(())
}

fn dhcp_routes(link: u32, primary: Ipv4Net, gateway: IpAddr) -> Vec<Change> {
    let route = |to: IpNet, via: Option<IpAddr>| Route {
        source: Some(IpAddr::V4(primary.addr())),
        metric: Some(DHCP_METRIC),
        protocol: RouteProtocol::Dhcp,
        onlink: false,
        ..Route::new(to, link, via)
    };
    let everywhere = IpNet::V4(Ipv4Net::default());
    vec![
        Change::add_route(&route(IpNet::from(gateway), None)),
        Change::add_route(&route(everywhere, Some(gateway))),
    ]
}

/// The subnet's addresses are reached by the router, so nobody on the link is asked for them.
fn ipv6_changes(link: u32, address: Option<Ipv6Net>) -> Vec<Change> {
    let everywhere = Route {
        metric: Some(DHCP_METRIC),
        protocol: RouteProtocol::Ra,
        onlink: false,
        ..Route::new(IpNet::V6(Ipv6Net::default()), link, Some(GATEWAY_V6.into()))
    };
    let address = address.map(|a| Change::add_address(link, a.into()));
    address
        .into_iter()
        .chain([Change::add_route(&everywhere)])
        .collect()
}

/// The address that DHCPv6 would give: the lowest single one.
fn first_v6(wire: &Wire) -> Option<Ipv6Net> {
    wire.allowed.iter().find_map(|net| match net {
        IpNet::V6(v6) if v6.prefix_len() == 128 => Some(*v6),
        _ => None,
    })
}
