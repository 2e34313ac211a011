//! The fabric: makes the router's links, routes and rules what the model says they are. It keeps
//! what it laid and applies differences; it never decides who may have what.

use crate::error::SimError;
use crate::firewall;
use crate::kernel::netlink::{Change, Netlink, NetlinkError, Route, Veth};
use crate::kernel::nft::{self, Count};
use crate::kernel::sysctl;
use crate::router::{MTU, NEXT_HOP, NEXT_HOP_V6};
use ipnet::IpNet;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use vpc_model::Wire;
use vpc_model::ids::{EniId, Mac, NodeName};
use vpc_model::wires::GATEWAY_V6;

/// The router's IPv6 address on any link, as AWS documents it for Nitro instances.
const ROUTER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0xec2, 0, 0, 0, 0, 0, 1);

/// What the router counted for one ENI, since it was first attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EniTraffic {
    /// Which.
    pub eni: String,
    /// Where it is, or last was.
    pub node: String,
    /// Its link's name there.
    pub link: String,
    /// Packets that the router forwarded from it.
    pub sent: u64,
    /// Packets that the router forwarded to it.
    pub received: u64,
    /// Packets from an address (or Ethernet address) that it does not hold.
    pub dropped: u64,
}

/// An ENI's link as it was laid.
#[derive(Debug)]
struct Laid {
    /// Router's end.
    link: String,
    index: u32,
    wire: Wire,
}

/// Network namespaces of nodes, where the far ends go.
pub(crate) type Nets = BTreeMap<NodeName, Arc<OwnedFd>>;

/// Works in the router's namespace; every method must be called there.
#[derive(Debug)]
pub(crate) struct Fabric {
    netlink: Netlink,
    nft: PathBuf,
    arp: bool,
    laid: BTreeMap<EniId, Laid>,
    public: BTreeMap<Ipv4Addr, Ipv4Addr>,
    made: u32,
    past: BTreeMap<EniId, EniTraffic>,
}

impl Fabric {
    pub(crate) fn open(nft: PathBuf, arp: bool) -> Result<Self, SimError> {
        let netlink = Netlink::open()?;
        let (laid, public, past) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Ok(Self {
            netlink,
            nft,
            arp,
            laid,
            public,
            made: 0,
            past,
        })
    }

    /// Makes the kernel what `wires` says; goes on after a failure and returns all of them. What
    /// failed is tried again with the next change.
    ///
    /// Order: rules and routes change first, so an address works (or no longer works) as soon as
    /// this returns; links that are gone are removed last, as that takes the kernel 20 ms each.
    pub(crate) fn apply(&mut self, wires: &[Wire], nets: &Nets) -> Vec<SimError> {
        let wanted: BTreeMap<&EniId, &Wire> = wires.iter().map(|w| (&w.eni, w)).collect();
        let gone = |laid: &Laid| {
            wanted
                .get(&laid.wire.eni)
                .is_none_or(|w| replaces(&laid.wire, w))
        };
        let gone: BTreeSet<EniId> = self
            .laid
            .values()
            .filter(|l| gone(l))
            .map(|l| l.wire.eni.clone())
            .collect();
        let mut failures = Vec::new();
        if !gone.is_empty()
            && let Err(e) = self.remember_counters(&gone)
        {
            failures.push(e);
        }
        let gone: Vec<Laid> = gone
            .iter()
            .filter_map(|eni| self.laid.remove(eni))
            .collect();
        let new: Vec<(String, &Wire)> = wires
            .iter()
            .filter(|w| !self.laid.contains_key(&w.eni))
            .map(|w| {
                self.made += 1;
                (format!("eni{}", self.made), w)
            })
            .collect();
        let changed: Vec<EniId> = self
            .laid
            .iter()
            .filter(|(eni, laid)| wanted.get(eni).is_some_and(|w| **w != laid.wire))
            .map(|(eni, _)| eni.clone())
            .collect();

        if let Err(e) = self.change_rules(&gone, &new, &changed, &wanted) {
            failures.push(e);
        }
        for (link, wire) in new {
            if let Err(e) = self.lay(link, wire, nets) {
                failures.push(e);
            }
        }
        for eni in changed {
            if let (Some(laid), Some(wire)) = (self.laid.get_mut(&eni), wanted.get(&eni)) {
                let old = std::mem::replace(&mut laid.wire, (*wire).clone());
                let changes = route_changes(laid.index, &old.allowed, &wire.allowed);
                failures.extend(really(self.netlink.make_all(changes)));
            }
        }
        let removals = gone
            .iter()
            .map(|laid| Change::remove_link(laid.index))
            .collect();
        failures.extend(really(self.netlink.make_all(removals)));
        failures
    }

    /// Links that are there, with their router's ends.
    pub(crate) fn traffic(&mut self) -> Result<(Vec<EniTraffic>, u64), SimError> {
        let counters = nft::counters(&self.nft)?;
        let mut all = self.past.clone();
        for laid in self.laid.values() {
            let now = count(&counters, laid);
            let before = all.remove(&laid.wire.eni);
            all.insert(laid.wire.eni.clone(), add(now, before));
        }
        let igw = counters.get(firewall::IGW_DROPPED).map_or(0, |c| c.packets);
        Ok((all.into_values().collect(), igw))
    }

    fn remember_counters(&mut self, gone: &BTreeSet<EniId>) -> Result<(), SimError> {
        let counters = nft::counters(&self.nft)?;
        for laid in self.laid.values().filter(|l| gone.contains(&l.wire.eni)) {
            let before = self.past.remove(&laid.wire.eni);
            self.past
                .insert(laid.wire.eni.clone(), add(count(&counters, laid), before));
        }
        Ok(())
    }

    fn change_rules(
        &mut self,
        gone: &[Laid],
        new: &[(String, &Wire)],
        changed: &[EniId],
        wanted: &BTreeMap<&EniId, &Wire>,
    ) -> Result<(), SimError> {
        let mut script = String::new();
        for laid in gone {
            script += &firewall::remove(&laid.link, self.arp);
        }
        for (link, wire) in new {
            script += &firewall::add(link, wire, self.arp);
        }
        for eni in changed {
            if let (Some(laid), Some(wire)) = (self.laid.get(eni), wanted.get(eni)) {
                script += &firewall::change(&laid.link, wire);
            }
        }
        let public: BTreeMap<Ipv4Addr, Ipv4Addr> = wanted
            .values()
            .flat_map(|w| w.public.iter().copied())
            .collect();
        if public != self.public {
            script += &firewall::public(&public);
        }
        if script.is_empty() {
            return Ok(());
        }
        nft::apply(&self.nft, &script)?;
        self.public = public;
        Ok(())
    }

    fn lay(&mut self, link: String, wire: &Wire, nets: &Nets) -> Result<(), SimError> {
        let net = nets
            .get(&wire.node)
            .ok_or_else(|| SimError::NoNode(wire.node.to_string()))?;
        self.netlink.make(Change::add_veth(&Veth {
            name: &link,
            mac: Some(router_mac(wire.mac)),
            peer_name: &wire.link,
            peer_mac: Some(wire.mac.0),
            peer_net: net.as_fd(),
            mtu: MTU,
        }))?;
        let index = self.netlink.index(&link)?;
        // Or answers for others wait up to 0.8 s; namespaces have no default of their own.
        sysctl::try_set(&format!("ipv4/neigh/{link}/proxy_delay"), "0");
        self.laid.insert(
            wire.eni.clone(),
            Laid {
                link,
                index,
                wire: wire.clone(),
            },
        );
        let mut changes = vec![
            Change::set_up(index),
            Change::add_neighbour(index, NEXT_HOP.into(), wire.mac.0),
            Change::add_neighbour(index, NEXT_HOP_V6.into(), wire.mac.0),
            Change::add_address(index, IpNet::from(IpAddr::V6(GATEWAY_V6))),
            Change::add_address(index, IpNet::from(IpAddr::V6(ROUTER_V6))),
        ];
        changes.extend(route_changes(index, &[], &wire.allowed));
        crate::router::first_failure(self.netlink.make_all(changes))
    }
}

/// The same ENI, but its link has to be another.
fn replaces(old: &Wire, new: &Wire) -> bool {
    old.node != new.node || old.link != new.link || old.mac != new.mac
}

fn route_changes(link: u32, old: &[IpNet], new: &[IpNet]) -> Vec<Change> {
    let route = |net: &IpNet| {
        let via = if net.addr().is_ipv4() {
            NEXT_HOP.into()
        } else {
            NEXT_HOP_V6.into()
        };
        Route::new(*net, link, Some(via))
    };
    let added = new
        .iter()
        .filter(|n| !old.contains(n))
        .map(|n| Change::add_route(&route(n)));
    let lost = old
        .iter()
        .filter(|n| !new.contains(n))
        .map(|n| Change::remove_route(&route(n)));
    lost.chain(added).collect()
}

/// The router's Ethernet address on an ENI's link: the ENI's with another first octet, which EC2
/// does not give to ENIs.
fn router_mac(Mac(mac): Mac) -> [u8; 6] {
    let [_, b, c, d, e, f] = mac;
    [0x1e, b, c, d, e, f]
}

/// A link that somebody removed inside the node took its routes along: nothing to complain about.
fn really(failures: Vec<NetlinkError>) -> impl Iterator<Item = SimError> {
    failures
        .into_iter()
        .filter(|e| !e.is_gone())
        .map(SimError::from)
}

fn count(counters: &BTreeMap<String, Count>, laid: &Laid) -> EniTraffic {
    let of = |name: String| counters.get(&name).map_or(0, |c| c.packets);
    EniTraffic {
        eni: laid.wire.eni.to_string(),
        node: laid.wire.node.to_string(),
        link: laid.wire.link.clone(),
        sent: of(firewall::sent(&laid.link)),
        received: of(firewall::received(&laid.link)),
        dropped: of(firewall::dropped(&laid.link)),
    }
}

fn add(now: EniTraffic, before: Option<EniTraffic>) -> EniTraffic {
    let (sent, received, dropped) = before.map_or((0, 0, 0), |b| (b.sent, b.received, b.dropped));
    EniTraffic {
        sent: now.sent + sent,
        received: now.received + received,
        dropped: now.dropped + dropped,
        ..now
    }
}
