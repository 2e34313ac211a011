//! The node's own wiring: ENI links, tables, rules, NAT.

use super::{
    MARK_ENI_MASK, MARK_MAIN, PRIO_BLOCK, PRIO_ENI_ADDRESS, PRIO_LOCAL_PODS, PRIO_MARKED_MAIN,
    PRIO_SERVICES, ROUTER_V6, Route, Rule, Scope, Six, TABLE_MAIN,
};
use crate::{Block, BlockKind, Mac};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use mutant::mutant;
use serde::{Deserialize, Serialize};

/// What the kernel must have for one ENI. A secondary ENI's link is found by its Ethernet address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EniLink {
    /// Finds the link.
    pub mac: Mac,
    /// Whether this is the node's own interface: its address, routes and state are the operating
    /// system's, only its MTU is set.
    pub primary: bool,
    /// Links of a primary ENI are up already; a secondary one is set up by us.
    pub mtu: u32,
    /// The ENI's primary address with the subnet's prefix length, on secondary ENIs.
    pub address: Option<IpNet>,
    /// The ENI's own routing table: device index + 1 (main for the primary).
    pub table: u32,
    /// The subnet's router.
    pub gateway: Option<IpAddr>,
    /// Whether there are IPv6 blocks on it: its table leads them to the VPC's router.
    pub ipv6: bool,
    /// The route that the kernel adds for `address` to the main table, which must go: traffic of the
    /// node itself to the subnet leaves by the primary ENI.
    pub not_in_main: Option<IpNet>,
}

impl EniLink {
    /// The routes of the ENI's own table once its link is called `dev`.
    #[must_use]
    pub fn routes(&self, dev: &str) -> Vec<Route> {
        let v6 = self.ipv6.then_some(IpAddr::V6(ROUTER_V6));
        let gateways = self.gateway.into_iter().chain(v6);
        gateways
            .filter(|_| !self.primary)
            .flat_map(|gateway| self.routes_by(gateway, dev))
            .collect()
    }

    fn routes_by(&self, gateway: IpAddr, dev: &str) -> [Route; 2] {
        let default = match gateway {
            IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
            IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
        };
        let route = |dst, via, scope| Route {
            dst,
            via,
            dev: dev.into(),
            scope,
            table: self.table,
        };
        [
            route(gateway.into(), None, Scope::Link),
            route(default, Some(gateway), Scope::Global),
        ]
    }
}

/// Source translation and marks, for one nftables table of our own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nat {
    /// Pods' links begin with one of these.
    pub pod_if_prefixes: BTreeSet<String>,
    /// Destinations inside these keep the pod's address; all others get `source`.
    pub inside: Vec<IpNet>,
    /// The node's primary address; `None`: no translation.
    pub source: Option<Ipv4Addr>,
    /// Packets (and, for answers, connections) with these mark bits leave by the primary ENI.
    pub mark: u32,
    /// Single secondary addresses on secondary ENIs: source address -> mark of its ENI.
    pub eni_marks: BTreeMap<IpAddr, u32>,
}

impl Default for Nat {
    fn default() -> Self {
        Self {
            pod_if_prefixes: BTreeSet::new(),
            inside: Vec::new(),
            source: None,
            mark: MARK_MAIN,
            eni_marks: BTreeMap::new(),
        }
    }
}

/// The node's side of the datapath. One value, applied as a whole: what is there stays, what is
/// missing comes, what is ours and not named goes, unless `keeps_unnamed`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostWiring {
    /// By device index, the primary first.
    pub enis: Vec<EniLink>,
    /// Every rule of ours (priorities 512, 1024, 1535, 1536 and 32765).
    pub rules: Vec<Rule>,
    /// NAT and marks.
    pub nat: Nat,
    /// IPv6, and egress.
    pub six: Six,
    /// Every block of every ENI: its addresses are pods', and never the host's own.
    pub pods: Vec<IpNet>,
    /// EC2 has not told yet in this run, and the store may have lost something: what an earlier run wired of
    /// ENIs and blocks that are not named here stays (see [`super::Earlier`]).
    #[serde(default)]
    pub keeps_unnamed: bool,
}

/// One attached ENI, as the wiring sees it.
#[derive(Clone, Debug)]
pub struct HostInput<'a> {
    /// Its Ethernet address.
    pub mac: Mac,
    /// Whether it is the node's own.
    pub primary: bool,
    /// Device index on its card, and the card: they make the table's number.
    pub device_index: u32,
    /// Network card.
    pub card: u32,
    /// Its primary address with the subnet's prefix length; unknown until EC2 or IMDS told.
    pub address: Option<IpNet>,
    /// Its blocks, whatever their state: traffic of a block that is being given back still needs
    /// its way.
    pub blocks: &'a [Block],
}

/// The table of an ENI: device index + 1 on card 0, else 10000 + 100 * card + index, as Amazon's CNI
/// numbers them.
#[must_use]
const fn table_of(primary: bool, card: u32, device_index: u32) -> u32 {
    match (primary, card) {
        (true, _) => TABLE_MAIN,
        (false, 0) => device_index + 1,
        (false, card) => 10_000 + 100 * card + device_index,
    }
}

/// The wiring of a node. `services` are destinations that are looked up in the main table, whichever
/// ENI the pod is on.
#[must_use]
pub fn host_wiring(enis: &[HostInput<'_>], mtu: u32, nat: Nat, services: &[IpNet]) -> HostWiring {
    let mark = nat.mark;
    let mut wiring = HostWiring {
        nat,
        ..HostWiring::default()
    };
    wiring.rules.push(rule(PRIO_LOCAL_PODS, TABLE_MAIN));
    if let Some(local) = wiring.rules.last_mut() {
        // Only host routes of local pods count here: every other route of main is shorter.
        local.suppress_prefix_len =
            mutant!("wiring/local-pods-by-host-routes-only", Some(31), None);
    }
    wiring.rules.push(Rule {
        fwmark: mutant!(
            "wiring/marked-leaves-by-the-primary",
            Some((mark, mark)),
            None
        ),
        ..rule(PRIO_MARKED_MAIN, TABLE_MAIN)
    });
    wiring.rules.extend(services.iter().map(|net| Rule {
        to: Some(*net),
        v6: net.addr().is_ipv6(),
        ..rule(
            mutant!("wiring/services-by-main", PRIO_SERVICES, PRIO_BLOCK),
            TABLE_MAIN,
        )
    }));
    for eni in enis {
        let link = eni_link(eni, mtu);
        if !eni.primary {
            add_eni_rules(&mut wiring, eni, &link);
        }
        wiring.enis.push(link);
        mutant!(
            "wiring/pods-are-named",
            wiring.pods.extend(eni.blocks.iter().map(Block::net)),
            wiring
                .pods
                .extend(eni.blocks.iter().take(1).map(Block::net))
        );
    }
    wiring.pods.sort();
    wiring.rules.sort();
    wiring.rules.dedup();
    wiring
}

fn rule(priority: u32, table: u32) -> Rule {
    Rule {
        priority,
        v6: false,
        from: None,
        to: None,
        fwmark: None,
        table,
        suppress_prefix_len: None,
    }
}

fn eni_link(eni: &HostInput<'_>, mtu: u32) -> EniLink {
    EniLink {
        mac: eni.mac,
        primary: eni.primary,
        mtu,
        address: eni.address.filter(|_| !eni.primary),
        table: table_of(eni.primary, eni.card, eni.device_index),
        gateway: eni.address.and_then(gateway_of),
        ipv6: eni.blocks.iter().any(|block| block.first().is_ipv6()),
        not_in_main: mutant!(
            "wiring/not-in-main",
            eni.address.filter(|_| !eni.primary),
            eni.address.filter(|_| eni.primary)
        )
        .map(|net| net.trunc()),
    }
}

/// The subnet's router: the network address + 1 (VPC User Guide, "Subnet CIDR blocks": the second
/// address is reserved for it); for IPv6 the VPC's link-local router.
fn gateway_of(net: IpNet) -> Option<IpAddr> {
    match net.network() {
        IpAddr::V4(base) => Some(IpAddr::V4(
            mutant!(
                "wiring/gateway-is-the-subnets",
                u32::from(base).checked_add(1)?,
                u32::from(base).checked_add(2)?
            )
            .into(),
        )),
        IpAddr::V6(_) => Some(IpAddr::V6(ROUTER_V6)),
    }
}

/// From a block to its ENI's table: a rule per prefix; for single addresses one rule per ENI, with
/// a mark that the NAT table's map sets.
fn add_eni_rules(wiring: &mut HostWiring, eni: &HostInput<'_>, link: &EniLink) {
    if let Some(address) = link.address {
        let from = Some(address.addr().into());
        wiring.rules.push(Rule {
            from,
            ..rule(
                PRIO_ENI_ADDRESS,
                mutant!("wiring/enis-address-has-its-table", link.table, TABLE_MAIN),
            )
        });
    }
    let mark = mark_of(eni.card, eni.device_index);
    for block in eni.blocks {
        match block.kind() {
            BlockKind::Prefix => wiring.rules.push(Rule {
                from: Some(block.net()),
                v6: block.first().is_ipv6(),
                ..rule(
                    PRIO_BLOCK,
                    mutant!("wiring/block-has-its-enis-table", link.table, TABLE_MAIN),
                )
            }),
            BlockKind::Address => {
                mutant!(
                    "wiring/address-has-its-enis-mark",
                    wiring.nat.eni_marks.insert(block.first(), mark),
                    wiring.nat.eni_marks.insert(block.first(), mark << 1)
                );
                let fwmark = Some((mark, MARK_ENI_MASK));
                wiring.rules.push(Rule {
                    fwmark,
                    ..rule(PRIO_BLOCK, link.table)
                });
            }
        }
    }
}

/// The same for as long as the ENI is attached. Six bits: card 0 has at most 15 ENIs (EC2 User Guide,
/// "Maximum IP addresses per network interface"); further cards carry no pods yet.
const fn mark_of(card: u32, device_index: u32) -> u32 {
    ((device_index + 1 + 16 * card) << 8) & MARK_ENI_MASK
}

#[cfg(test)]
mod tests;
