//! Packets that came by an ENI for an address of a block that no pod has (any more): refused here. Sent on,
//! they would leave by an ENI that does not hold their source, or go round between node and router.
//!
//! Owns the table [`TABLE_STRAY`], with an unreachable route for each block (adjoining ones as one) and for the
//! pods' node-local range, whose translated answers come in the same way; and at
//! [`PRIO_STRAY`] a rule for each ENI: what came by it is looked up there after the pods' host routes. What
//! this node itself sends never is: an address that has gone to another node is reached there,
//! whatever may be left here.

use super::links::family;
use super::netlink::{EAFNOSUPPORT, EEXIST, ENOENT, EOPNOTSUPP, ESRCH, Netlink, Refused};
use super::routes;
use ipam_core::wiring::{HostWiring, PRIO_STRAY, TABLE_STRAY};
use ipam_engine::ports::HostNetError;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::BTreeSet;

/// What there is, or should be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Strays {
    blocks: BTreeSet<IpNet>,
    /// Of IPv6 or not, and the link's name.
    rules: BTreeSet<(bool, String)>,
}

impl Strays {
    /// For the ENIs whose links are there.
    pub(super) fn wanted(wiring: &HostWiring, links: &[&str]) -> Self {
        let local = wiring.six.egress.iter().map(|egress| egress.range);
        let all: Vec<IpNet> = wiring.pods.iter().copied().chain(local).collect();
        let blocks: BTreeSet<IpNet> = IpNet::aggregate(&all).into_iter().collect();
        let families: BTreeSet<bool> = blocks.iter().map(|b| b.addr().is_ipv6()).collect();
        let of_family = |v6: &bool| {
            let v6 = *v6;
            links.iter().map(move |link| (v6, (*link).to_owned()))
        };
        Self {
            rules: families.iter().flat_map(of_family).collect(),
            blocks,
        }
    }

    /// Makes the kernel have this and no more; what comes is there before what goes is gone.
    pub(super) async fn apply(&self, netlink: &Netlink) -> Result<(), HostNetError> {
        let there = Self::seen(netlink)
            .await
            .map_err(|error| error.while_doing("reading what becomes of stray packets"))?;
        let changed = async {
            let (create, gone) = (NLM_F_CREATE | NLM_F_EXCL, &[ENOENT, ESRCH]);
            for block in self.blocks.difference(&there.blocks) {
                let new = RouteNetlinkMessage::NewRoute(route(*block));
                netlink.change_unless(new, create, &[EEXIST]).await?;
            }
            for own in self.rules.difference(&there.rules) {
                let new = RouteNetlinkMessage::NewRule(rule(own));
                netlink.change_unless(new, create, &[EEXIST]).await?;
            }
            for old in there.rules.difference(&self.rules) {
                let old = RouteNetlinkMessage::DelRule(rule(old));
                netlink.change_unless(old, 0, gone).await?;
            }
            for old in there.blocks.difference(&self.blocks) {
                let old = RouteNetlinkMessage::DelRoute(route(*old));
                netlink.change_unless(old, 0, gone).await?;
            }
            Ok(())
        };
        changed
            .await
            .map_err(|error: Refused| error.while_doing("refusing stray packets"))
    }

    async fn seen(netlink: &Netlink) -> Result<Self, Refused> {
        let mut seen = Self::default();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let (mut rules, mut routes) = (RuleMessage::default(), RouteMessage::default());
            rules.header.family = family;
            routes.header.address_family = family;
            for request in [
                RouteNetlinkMessage::GetRule(rules),
                RouteNetlinkMessage::GetRoute(routes),
            ] {
                match netlink.dump(request).await {
                    Ok(messages) => messages.iter().for_each(|m| seen.take(m)),
                    // A kernel without IPv6.
                    Err(error) if error.is(&[EAFNOSUPPORT, EOPNOTSUPP]) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(seen)
    }

    fn take(&mut self, message: &RouteNetlinkMessage) {
        match message {
            RouteNetlinkMessage::NewRule(rule) => self.rules.extend(read(rule)),
            RouteNetlinkMessage::NewRoute(route) if is_ours(route) => {
                self.blocks.extend(routes::destination(route));
            }
            _ => {}
        }
    }
}

/// Whether a route is one of these.
pub(super) fn is_ours(message: &RouteMessage) -> bool {
    message.header.kind == RouteType::Unreachable
        && message
            .attributes
            .contains(&RouteAttribute::Table(TABLE_STRAY))
}

/// Any rule of this priority that leads to this table.
fn read(message: &RuleMessage) -> Option<(bool, String)> {
    let attributes = &message.attributes;
    let ours = attributes.contains(&RuleAttribute::Priority(PRIO_STRAY))
        && attributes.contains(&RuleAttribute::Table(TABLE_STRAY));
    let link = attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Iifname(name) => Some(name.clone()),
        _ => None,
    });
    let v6 = message.header.family == AddressFamily::Inet6;
    link.filter(|_| ours).map(|link| (v6, link))
}

fn rule((v6, link): &(bool, String)) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.action = RuleAction::ToTable;
    message.header.family = if *v6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    message.attributes = vec![
        RuleAttribute::Priority(PRIO_STRAY),
        RuleAttribute::Table(TABLE_STRAY),
        RuleAttribute::Iifname(link.clone()),
    ];
    message
}

fn route(block: IpNet) -> RouteMessage {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(block.addr());
    header.destination_prefix_length = block.prefix_len();
    header.protocol = RouteProtocol::Static;
    header.scope = RouteScope::Universe;
    header.kind = RouteType::Unreachable;
    message.attributes = vec![
        RouteAttribute::Table(TABLE_STRAY),
        RouteAttribute::Destination(block.addr().into()),
    ];
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many rules as ENIs and families, and as few routes as name the blocks.
    #[test]
    fn it_grows_with_enis_and_not_with_pods() {
        let nets = |all: &[&str]| all.iter().map(|n| n.parse().expect("parses")).collect();
        let mut wiring = HostWiring {
            pods: nets(&["10.0.3.16/28", "10.0.3.0/28", "10.0.4.7/32"]),
            ..HostWiring::default()
        };
        let four = Strays::wanted(&wiring, &["ens5", "ens6"]);
        let wanted: Vec<IpNet> = nets(&["10.0.3.0/27", "10.0.4.7/32"]);
        assert_eq!(four.blocks.into_iter().collect::<Vec<_>>(), wanted);
        assert_eq!(four.rules.len(), 2);
        wiring.pods.push("2001:db8::/80".parse().expect("parses"));
        let both = Strays::wanted(&wiring, &["ens5", "ens6"]);
        assert_eq!((both.blocks.len(), both.rules.len()), (3, 4));
        let none = Strays::wanted(&HostWiring::default(), &["ens5"]);
        assert_eq!(none, Strays::default());
    }

    #[test]
    fn rules_are_known_again() {
        let own = (true, "ens6".to_owned());
        assert_eq!(read(&rule(&own)), Some(own.clone()));
        let mut elsewhere = rule(&own);
        elsewhere.attributes[0] = RuleAttribute::Priority(PRIO_STRAY + 1);
        assert_eq!(read(&elsewhere), None);
    }
}
