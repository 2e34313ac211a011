//! What the kernel of one node has: links, routes, rules, the map of marks. And what becomes of a packet
//! in it: rules are asked in order, as Linux does, so that what shadows a rule counts too.

use ipam_core::Mac;
use ipam_core::wiring::{EniLink, Rule, TABLE_MAIN};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kernel's own table after main: empty.
const TABLE_DEFAULT: u32 = 253;

/// The rule priority of the first of the kernel's own that leads to main.
const PRIO_MAIN: u32 = 32766;

/// A host route: through which link. A link that comes back under its name has another index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Led {
    pub(crate) link: String,
    pub(crate) index: u32,
}

/// An ENI's link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EniDev {
    pub(super) name: String,
    pub(super) primary: bool,
    pub(super) up: bool,
}

/// A route of an ENI's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EniRoute {
    via: Option<IpAddr>,
    mac: Mac,
}

impl EniRoute {
    pub(super) const fn new(via: Option<IpAddr>, mac: Mac) -> Self {
        Self { via, mac }
    }
}

/// What changed since the oracle looked last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Dirty {
    /// Rules, tables, ENIs' links: every pod may be concerned.
    pub(crate) all: bool,
    pub(crate) ips: BTreeSet<IpAddr>,
    pub(crate) links: BTreeSet<String>,
}

impl Dirty {
    pub(crate) fn is_empty(&self) -> bool {
        !self.all && self.ips.is_empty() && self.links.is_empty()
    }

    /// Whether it may concern this pod.
    pub(crate) fn concerns(&self, ips: &[IpAddr], host_if: &str) -> bool {
        self.all || self.links.contains(host_if) || ips.iter().any(|ip| self.ips.contains(ip))
    }
}

/// What a pod lacks of what carries its packets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lack {
    /// The host's end of its veth is not there.
    Link,
    /// No host route leads to it.
    Route(IpAddr),
    /// Its host route is through another link.
    RouteElsewhere(IpAddr, String),
    /// Its packets from local pods are led away before its host route is looked up.
    LocalRule(IpAddr),
    /// The link of the ENI that has its address is not there.
    NoEniLink(IpAddr),
    /// Its packets leave by none, or by an ENI that does not have its address.
    WayOut(IpAddr, Way),
    /// EC2 has its address on no ENI of this node.
    Address(IpAddr),
}

impl Lack {
    /// Whether it is the same thing that is wrong, however it shows.
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Link, Self::Link) => true,
            (
                Self::Route(a) | Self::RouteElsewhere(a, _),
                Self::Route(b) | Self::RouteElsewhere(b, _),
            )
            | (Self::LocalRule(a), Self::LocalRule(b))
            | (Self::NoEniLink(a) | Self::WayOut(a, _), Self::NoEniLink(b) | Self::WayOut(b, _)) => {
                a == b
            }
            _ => self == other,
        }
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Link => write!(f, "its link is not there"),
            Self::Route(ip) => write!(f, "no route leads to {ip}"),
            Self::RouteElsewhere(ip, link) => write!(f, "the route to {ip} is through {link}"),
            Self::LocalRule(ip) => write!(f, "no rule leads local pods' packets to {ip}"),
            Self::NoEniLink(ip) => write!(f, "the link of {ip}'s ENI is not there"),
            Self::WayOut(ip, way) => write!(f, "packets of {ip} leave by {way}"),
            Self::Address(ip) => write!(f, "EC2 has {ip} on no ENI of this node"),
        }
    }
}

/// By which link a packet to elsewhere leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Way {
    /// The main table's default route: the primary ENI.
    Primary,
    /// A further ENI.
    Eni(Mac),
    /// No route.
    Nowhere,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Primary => write!(f, "the primary ENI"),
            Self::Eni(mac) => write!(f, "the ENI {mac}"),
            Self::Nowhere => write!(f, "no link"),
        }
    }
}

/// The ENI that has a pod's address, by EC2's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) mac: Mac,
    /// The node's own: its packets leave by the main table.
    pub(crate) first: bool,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Tables {
    /// Host routes of single addresses in the main table.
    pub(super) routes: BTreeMap<IpAddr, Led>,
    /// Pods' veths: index by name.
    pub(super) veths: BTreeMap<String, u32>,
    next_index: u32,
    /// Ethernet addresses of those that a plugin made, by index.
    pub(super) macs: BTreeMap<u32, Mac>,
    /// Addresses with remembered connections.
    pub(super) tracked: BTreeSet<IpAddr>,
    pub(super) enis: BTreeMap<Mac, EniDev>,
    /// Of both families, ours and the kernel's own.
    pub(super) rules: BTreeSet<Rule>,
    /// The nftables map of single addresses' marks; `None`: the table is not there.
    pub(super) marks: Option<BTreeMap<IpAddr, u32>>,
    /// ENIs' tables.
    pub(super) eni_routes: BTreeMap<(u32, IpNet), EniRoute>,
    pub(super) dirty: Dirty,
    /// How often pods' links and routes were changed.
    pub(super) changes: u64,
}

impl Default for Tables {
    fn default() -> Self {
        Self {
            routes: BTreeMap::new(),
            veths: BTreeMap::new(),
            next_index: 100,
            macs: BTreeMap::new(),
            tracked: BTreeSet::new(),
            enis: BTreeMap::new(),
            rules: kernels_own().into(),
            marks: None,
            eni_routes: BTreeMap::new(),
            dirty: Dirty::default(),
            changes: 0,
        }
    }
}

/// The rules that a kernel has by itself, but for that of the local table, which outlives a flush.
pub(super) fn kernels_own() -> [Rule; 3] {
    let rule = |v6, priority, table| Rule {
        priority,
        v6,
        from: None,
        to: None,
        fwmark: None,
        table,
        suppress_prefix_len: None,
    };
    [
        rule(false, PRIO_MAIN, TABLE_MAIN),
        rule(false, PRIO_MAIN + 1, TABLE_DEFAULT),
        rule(true, PRIO_MAIN, TABLE_MAIN),
    ]
}

/// The default route of the address's family.
fn everything(ip: IpAddr) -> IpNet {
    match ip {
        IpAddr::V4(_) => IpNet::new_assert(Ipv4Addr::UNSPECIFIED.into(), 0),
        IpAddr::V6(_) => IpNet::new_assert(Ipv6Addr::UNSPECIFIED.into(), 0),
    }
}

impl Tables {
    /// The link through which an address is routed.
    pub(crate) fn route(&self, ip: IpAddr) -> Option<&str> {
        self.routes.get(&ip).map(|led| led.link.as_str())
    }

    /// The pod's link through which an address is routed.
    pub(crate) fn pod_route(&self, ip: IpAddr) -> Option<&str> {
        self.route(ip).filter(|link| self.veths.contains_key(*link))
    }

    /// Whether the kernel remembers connections of the address.
    pub(crate) fn tracks(&self, ip: IpAddr) -> bool {
        self.tracked.contains(&ip)
    }

    pub(super) fn new_veth(&mut self, name: &str) -> u32 {
        self.next_index += 1;
        self.changes += 1;
        self.veths.insert(name.into(), self.next_index);
        self.dirty.links.insert(name.into());
        self.next_index
    }

    /// A host route through a link, which need not be a pod's.
    pub(super) fn lead(&mut self, ip: IpAddr, link: &str) {
        let index = self.veths.get(link).copied().unwrap_or_default();
        let link = link.into();
        self.changes += 1;
        self.routes.insert(ip, Led { link, index });
        self.dirty.ips.insert(ip);
    }

    pub(super) fn unlead(&mut self, ip: IpAddr) -> bool {
        self.changes += 1;
        self.dirty.ips.insert(ip);
        self.routes.remove(&ip).is_some()
    }

    /// A veth goes, and its routes with it: those of IPv6, which the kernel tells.
    pub(super) fn remove_veth(&mut self, name: &str) -> Option<Vec<IpAddr>> {
        let index = self.veths.remove(name)?;
        self.macs.remove(&index);
        self.changes += 1;
        self.dirty.links.insert(name.into());
        let through = self.routes.iter().filter(|(_, led)| led.index == index);
        let through: Vec<IpAddr> = through.map(|(ip, _)| *ip).collect();
        for ip in &through {
            self.unlead(*ip);
        }
        Some(through.into_iter().filter(IpAddr::is_ipv6).collect())
    }

    /// The routes of an ENI's table that are through its link.
    pub(super) fn drop_routes_of(&mut self, mac: Mac) {
        self.eni_routes.retain(|_, route| route.mac != mac);
        self.dirty.all = true;
    }

    /// Has an ENI's table hold the routes of its wiring and nothing else.
    pub(super) fn set_eni_table(&mut self, eni: &EniLink) {
        let Some(dev) = self.enis.get_mut(&eni.mac) else {
            return;
        };
        self.dirty.all |= !dev.up;
        dev.up = true;
        if dev.primary || eni.primary {
            return;
        }
        let made = eni.routes(&dev.name);
        let wanted: BTreeMap<(u32, IpNet), EniRoute> = made
            .into_iter()
            .map(|route| {
                let to = EniRoute::new(route.via, eni.mac);
                ((route.table, route.dst), to)
            })
            .collect();
        let before = self.eni_routes.clone();
        self.eni_routes.retain(|(table, _), _| *table != eni.table);
        self.eni_routes.extend(wanted);
        self.dirty.all |= before != self.eni_routes;
    }

    /// What of the tables is through the link of this ENI.
    pub(super) fn routes_of(&self, mac: Mac) -> Vec<(u32, IpNet)> {
        let of = self.eni_routes.iter().filter(|(_, r)| r.mac == mac);
        of.map(|(key, _)| *key).collect()
    }

    /// By which link a packet of `ip` to a host outside leaves.
    fn way_out(&self, ip: IpAddr) -> Way {
        let mark = self.marks.as_ref().and_then(|marks| marks.get(&ip));
        let mark = mark.copied().unwrap_or_default();
        let asked = |rule: &&Rule| {
            let from = rule.from.is_none_or(|net| net.contains(&ip));
            let marked = rule.fwmark.is_none_or(|(value, mask)| mark & mask == value);
            rule.v6 == ip.is_ipv6()
                && from
                && marked
                // It goes to nobody that a rule names; and where only host routes count, there is none.
                && rule.to.is_none()
                && rule.suppress_prefix_len.is_none()
        };
        for rule in self.rules.iter().filter(asked) {
            if rule.table == TABLE_MAIN {
                return Way::Primary;
            }
            let found = self.eni_routes.get(&(rule.table, everything(ip)));
            let up = |route: &&EniRoute| self.enis.get(&route.mac).is_some_and(|dev| dev.up);
            if let Some(route) = found.filter(up) {
                return Way::Eni(route.mac);
            }
        }
        Way::Nowhere
    }

    /// Whether every local pod's packet to a local pod finds its host route, whatever ENI it is on:
    /// what leads all to main is asked before what leads some to an ENI's table.
    fn finds_local(&self, v6: bool) -> bool {
        let main = |rule: &Rule| rule.table == TABLE_MAIN;
        let first = self.rules.iter().find(|rule| {
            let marked_for_main = rule.fwmark.is_some() && main(rule);
            rule.v6 == v6 && rule.to.is_none() && !marked_for_main
        });
        first.is_some_and(main)
    }

    /// What the node lacks for an address, whose pod need not be there yet.
    pub(crate) fn path_lacks(&self, ip: IpAddr, home: Option<Home>) -> Vec<Lack> {
        let mut lacks = Vec::new();
        let Some(home) = home else {
            lacks.push(Lack::Address(ip));
            return lacks;
        };
        if !self.enis.contains_key(&home.mac) {
            lacks.push(Lack::NoEniLink(ip));
        }
        let wanted = match home.first {
            true => Way::Primary,
            false => Way::Eni(home.mac),
        };
        let way = self.way_out(ip);
        if way != wanted {
            lacks.push(Lack::WayOut(ip, way));
        }
        if !self.finds_local(ip.is_ipv6()) {
            lacks.push(Lack::LocalRule(ip));
        }
        lacks
    }

    /// Whether the kernel routes all of a pod's addresses to it: what tells of it when its lease is lost.
    pub(crate) fn witnesses(&self, ips: &[IpAddr], host_if: &str) -> bool {
        ips.iter().all(|ip| self.route(*ip) == Some(host_if))
    }

    /// What a pod's own wiring lacks for an address.
    pub(crate) fn pod_lacks(&self, ip: IpAddr, host_if: &str) -> Vec<Lack> {
        let Some(index) = self.veths.get(host_if) else {
            return vec![Lack::Link];
        };
        match self.routes.get(&ip) {
            None => vec![Lack::Route(ip)],
            Some(led) if led.index != *index => vec![Lack::RouteElsewhere(ip, led.link.clone())],
            Some(_) => Vec::new(),
        }
    }
}
