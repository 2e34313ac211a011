//! The router and the internet behind it: namespaces, the addresses that the router answers for,
//! and the way from one to the other. ENIs come later, by the fabric's hand.

use crate::error::SimError;
use crate::firewall;
use crate::kernel::netlink::{Change, Netlink, Route, Veth};
use crate::kernel::place::{Mounts, Place};
use crate::kernel::{nft, sysctl};
use crate::netns::lo_up;
use crate::{EC2_ADDRESS, IMDS_ADDRESS, IMDS_ADDRESS_V6};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vpc_model::VpcSpec;

/// Largest packet on an ENI (*documented*: jumbo frames).
pub(crate) const MTU: u32 = 9001;
/// What the router calls the other end of any of its links: only a key of permanent neighbours.
pub(crate) const NEXT_HOP: Ipv4Addr = Ipv4Addr::new(169, 254, 254, 2);
/// The same for IPv6.
pub(crate) const NEXT_HOP_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0xfefe, 2);

const INTERNET_LINK: &str = "inet0";
const ROUTER_MAC: [u8; 6] = [0x0e, 0, 0, 0, 0, 1];
const INTERNET_MAC: [u8; 6] = [0x0e, 0, 0, 0, 0, 2];

/// Addresses of the one host that stands for the internet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Internet {
    /// Default 203.0.113.10 (TEST-NET-3, RFC 5737).
    pub v4: Ipv4Addr,
    /// Default 2001:db8:ffff::10 (RFC 3849).
    pub v6: Ipv6Addr,
}

impl Default for Internet {
    fn default() -> Self {
        Self {
            v4: Ipv4Addr::new(203, 0, 113, 10),
            v6: Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, 0x10),
        }
    }
}

/// Both namespaces, joined.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) router: Arc<Place>,
    pub(crate) internet: Arc<Place>,
    pub(crate) nft: PathBuf,
    /// The kernel filters ARP.
    pub(crate) arp: bool,
}

impl Core {
    pub(crate) fn open(spec: &VpcSpec, internet: Internet) -> Result<Self, SimError> {
        let nft = nft::find()?;
        let there = Place::open("internet", Mounts::Shared, || {
            lo_up()?;
            forwarding()
        })?;
        let far = Arc::clone(there.net());
        let (addresses, holes) = (router_addresses(spec), black_holes(spec));
        let program = nft.clone();
        let router = Place::open("router", Mounts::Shared, move || {
            lo_up()?;
            forwarding()?;
            router_sysctls();
            nft::apply(&program, &firewall::base())?;
            let mut netlink = Netlink::open()?;
            netlink.make(Change::add_veth(&Veth {
                name: firewall::IGW,
                mac: Some(ROUTER_MAC),
                peer_name: INTERNET_LINK,
                peer_mac: Some(INTERNET_MAC),
                peer_net: far.as_fd(),
                mtu: MTU,
            }))?;
            let lo = netlink.index("lo")?;
            let own = addresses.into_iter().map(|a| Change::add_address(lo, a));
            let mut changes: Vec<Change> = own.collect();
            changes.extend(holes.into_iter().map(Change::add_blackhole));
            let igw = netlink.index(firewall::IGW)?;
            changes.extend(link_changes(igw, INTERNET_MAC));
            first_failure(netlink.make_all(changes))
        })?;
        there.run(move || {
            let mut netlink = Netlink::open()?;
            let (lo, link) = (netlink.index("lo")?, netlink.index(INTERNET_LINK)?);
            let own = [
                IpNet::from(IpAddr::V4(internet.v4)),
                IpNet::from(IpAddr::V6(internet.v6)),
            ];
            let mut changes: Vec<Change> = own
                .into_iter()
                .map(|a| Change::add_address(lo, a))
                .collect();
            changes.extend(link_changes(link, ROUTER_MAC));
            first_failure(netlink.make_all(changes))
        })??;
        let arp = router.run({
            let program = nft.clone();
            move || arp_filter(&program)
        })?;
        Ok(Self {
            router,
            internet: there,
            nft,
            arp,
        })
    }
}

/// The only failure that counts when steps depend on each other: the first.
pub(crate) fn first_failure(
    failures: Vec<crate::kernel::netlink::NetlinkError>,
) -> Result<(), SimError> {
    failures
        .into_iter()
        .next()
        .map_or(Ok(()), |e| Err(e.into()))
}

/// Everything that has no closer route leaves by this link, to that Ethernet address.
fn link_changes(link: u32, neighbour: [u8; 6]) -> Vec<Change> {
    let (v4, v6) = (IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default()));
    vec![
        Change::set_up(link),
        Change::add_neighbour(link, NEXT_HOP.into(), neighbour),
        Change::add_neighbour(link, NEXT_HOP_V6.into(), neighbour),
        Change::add_route(&Route::new(v4, link, Some(NEXT_HOP.into()))),
        Change::add_route(&Route::new(v6, link, Some(NEXT_HOP_V6.into()))),
    ]
}

/// The gateway of each subnet, and the services that are the same in every VPC.
fn router_addresses(spec: &VpcSpec) -> Vec<IpNet> {
    let gateways = spec.subnets.iter().map(|s| {
        let base = u32::from(s.cidr.network());
        IpAddr::V4(Ipv4Addr::from(base.saturating_add(1)))
    });
    let services = [
        IpAddr::V4(IMDS_ADDRESS),
        IpAddr::V4(EC2_ADDRESS),
        IpAddr::V6(IMDS_ADDRESS_V6),
    ];
    gateways.chain(services).map(IpNet::from).collect()
}

/// Addresses of the VPC that nobody holds, and link-local ones, lead nowhere.
fn black_holes(spec: &VpcSpec) -> Vec<IpNet> {
    let link_local = Ipv4Net::new(Ipv4Addr::new(169, 254, 0, 0), 16);
    let v4 = spec.cidrs.iter().copied().chain(link_local).map(IpNet::V4);
    v4.chain(spec.ipv6_cidr.map(IpNet::V6)).collect()
}

fn forwarding() -> Result<(), SimError> {
    sysctl::set("ipv4/ip_forward", "1")?;
    sysctl::try_set("ipv6/conf/all/forwarding", "1");
    Ok(())
}

/// Links made later inherit these. The router answers for every address that it has a route to
/// elsewhere (proxy ARP) at once, checks sources by its own rules, and believes no one.
fn router_sysctls() {
    for (name, value) in [
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        ("ipv4/conf/default/proxy_arp", "1"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv4/conf/default/accept_redirects", "0"),
        ("ipv4/icmp_ratelimit", "0"),
        ("ipv6/conf/default/accept_redirects", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv6/conf/default/accept_dad", "0"),
    ] {
        sysctl::try_set(name, value);
    }
}

fn arp_filter(nft: &Path) -> bool {
    nft::apply(nft, firewall::ARP_BASE)
        .inspect_err(|e| tracing::debug!("no ARP filter: {e}"))
        .is_ok()
}
