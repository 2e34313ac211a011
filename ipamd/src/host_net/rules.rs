//! Policy-routing rules: ours, and only ours, kept as the wiring says.

use super::links::family;
use super::netlink::{EAFNOSUPPORT, EEXIST, ENOENT, EOPNOTSUPP, Netlink, Refused};
use ipam_core::wiring::{
    MARK_ENI_MASK, PRIO_BLOCK, PRIO_ENI_ADDRESS, PRIO_LOCAL_PODS, PRIO_MARKED_MAIN, PRIO_SERVICES,
    Rule, TABLE_MAIN,
};
use ipam_engine::ports::HostNetError;
use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use std::collections::BTreeSet;

/// Brings the kernel's rules of ours to `wanted`: first what is missing comes, then what is too
/// much goes, so that no packet meets a gap. Answers all rules that were there.
pub(super) async fn apply(
    netlink: &Netlink,
    wanted: &[Rule],
) -> Result<BTreeSet<Rule>, HostNetError> {
    let all = all(netlink)
        .await
        .map_err(|error| error.while_doing("reading rules"))?;
    for rule in missing(&all, wanted) {
        add(netlink, &rule)
            .await
            .map_err(|error| error.while_doing(format!("adding rule {}", spelled(&rule))))?;
    }
    let there = all.iter().filter(|rule| is_ours(rule));
    let wanted: BTreeSet<&Rule> = wanted.iter().collect();
    for rule in there.filter(|rule| !wanted.contains(*rule)) {
        netlink
            .change_unless(RouteNetlinkMessage::DelRule(message(rule)), 0, &[ENOENT])
            .await
            .map_err(|error| error.while_doing(format!("removing rule {}", spelled(rule))))?;
    }
    Ok(all)
}

/// Those that look like ours.
pub(super) async fn ours(netlink: &Netlink) -> Result<Vec<Rule>, HostNetError> {
    let all = all(netlink)
        .await
        .map_err(|error| error.while_doing("reading rules"))?;
    Ok(all.into_iter().filter(is_ours).collect())
}

/// What is wanted and not among `all`, and those of the kernel's own that are not.
fn missing(all: &BTreeSet<Rule>, wanted: &[Rule]) -> Vec<Rule> {
    // Without IPv6 the kernel has no such rule; else the one of the local table outlives a flush.
    let six = wanted.iter().chain(all).any(|rule| rule.v6);
    let own = kernels_own();
    let own = own.iter().filter(|rule| six || !rule.v6);
    let needed: BTreeSet<&Rule> = wanted.iter().chain(own).collect();
    let needed = needed.into_iter().filter(|rule| !all.contains(rule));
    needed.cloned().collect()
}

/// The same of the kernel as it is now, each as `ip rule` writes it.
pub(super) async fn lacking(netlink: &Netlink, wanted: &[Rule]) -> Result<Vec<String>, Refused> {
    let all = all(netlink).await?;
    Ok(missing(&all, wanted).iter().map(spelled).collect())
}

async fn add(netlink: &Netlink, rule: &Rule) -> Result<(), Refused> {
    let new = RouteNetlinkMessage::NewRule(message(rule));
    netlink
        .change_unless(new, NLM_F_CREATE | NLM_F_EXCL, &[EEXIST])
        .await
}

/// Every rule that looks up a table.
async fn all(netlink: &Netlink) -> Result<BTreeSet<Rule>, Refused> {
    let mut found = BTreeSet::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut request = RuleMessage::default();
        request.header.family = family;
        match netlink.dump(RouteNetlinkMessage::GetRule(request)).await {
            Ok(messages) => found.extend(messages.iter().filter_map(|message| match message {
                RouteNetlinkMessage::NewRule(rule) => read(rule),
                _ => None,
            })),
            // A kernel without IPv6 has no such rules.
            Err(error) if error.is(&[EAFNOSUPPORT, EOPNOTSUPP]) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// By priority and shape. Amazon's CNI has a rule a pod at 512 (`to`) and at 1536 (`from` one
/// address): those of pods that it left to us stay until their pods go.
pub(super) fn is_ours(rule: &Rule) -> bool {
    match rule.priority {
        PRIO_LOCAL_PODS => rule.suppress_prefix_len.is_some() && rule.to.is_none(),
        // Whatever the mark: it may have been another before a restart.
        PRIO_MARKED_MAIN => {
            let marked = rule.fwmark.is_some_and(|(mark, mask)| mark == mask);
            marked && rule.from.is_none() && rule.to.is_none() && rule.table == TABLE_MAIN
        }
        PRIO_SERVICES => {
            let to = rule.to.is_some() && rule.from.is_none() && rule.fwmark.is_none();
            to && rule.table == TABLE_MAIN
        }
        PRIO_BLOCK => match (rule.fwmark, rule.from) {
            (Some((_, mask)), None) => mask == MARK_ENI_MASK,
            (None, Some(from)) => from.prefix_len() < from.max_prefix_len(),
            _ => false,
        },
        // `ip rule add` without a priority lands here too: ours are of one address, to an ENI's table.
        PRIO_ENI_ADDRESS => {
            let one = rule
                .from
                .is_some_and(|from| from.prefix_len() == from.max_prefix_len());
            one && rule.to.is_none() && rule.fwmark.is_none() && is_eni_table(rule.table)
        }
        _ => false,
    }
}

/// Device index + 1 on card 0, else 10000 + 100 * card + index.
pub(super) fn is_eni_table(table: u32) -> bool {
    (2..=32).contains(&table) || (10_100..20_000).contains(&table)
}

/// The kernel's own last rules: a flush takes them, and leaves a node without any route.
fn kernels_own() -> [Rule; 3] {
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
        rule(false, 32766, TABLE_MAIN),
        rule(false, 32767, 253),
        rule(true, 32766, TABLE_MAIN),
    ]
}

/// `None`: a rule with conditions that ours never have.
pub(super) fn read(message: &RuleMessage) -> Option<Rule> {
    let header = &message.header;
    if header.action != RuleAction::ToTable || header.tos != 0 {
        return None;
    }
    let mut rule = Rule {
        priority: 0,
        v6: header.family == AddressFamily::Inet6,
        from: None,
        to: None,
        fwmark: None,
        table: header.table.into(),
        suppress_prefix_len: None,
    };
    let (mut mark, mut mask) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(n) => rule.priority = *n,
            RuleAttribute::Table(n) => rule.table = *n,
            RuleAttribute::Source(ip) => rule.from = IpNet::new(*ip, header.src_len).ok(),
            RuleAttribute::Destination(ip) => rule.to = IpNet::new(*ip, header.dst_len).ok(),
            RuleAttribute::FwMark(n) => mark = Some(*n),
            RuleAttribute::FwMask(n) => mask = Some(*n),
            // The kernel says "no limit" with all bits set.
            RuleAttribute::SuppressPrefixLen(n) if *n != u32::MAX => {
                rule.suppress_prefix_len = Some(*n);
            }
            RuleAttribute::Iifname(_)
            | RuleAttribute::Oifname(_)
            | RuleAttribute::Goto(_)
            | RuleAttribute::UidRange(_)
            | RuleAttribute::IpProtocol(_)
            | RuleAttribute::SourcePortRange(_)
            | RuleAttribute::DestinationPortRange(_)
            | RuleAttribute::L3MDev(true) => return None,
            _ => {}
        }
    }
    rule.fwmark = mark
        .map(|mark| (mark, mask.unwrap_or(u32::MAX)))
        .filter(|pair| *pair != (0, 0));
    Some(rule)
}

pub(super) fn message(rule: &Rule) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.action = RuleAction::ToTable;
    message.header.family = if rule.v6 {
        AddressFamily::Inet6
    } else {
        AddressFamily::Inet
    };
    // Tables beyond one byte are told by the attribute alone (RT_TABLE_UNSPEC).
    message.header.table = u8::try_from(rule.table).unwrap_or(0);
    let attributes = &mut message.attributes;
    attributes.push(RuleAttribute::Priority(rule.priority));
    attributes.push(RuleAttribute::Table(rule.table));
    if let Some(from) = rule.from {
        message.header.src_len = from.prefix_len();
        debug_assert_eq!(family(from.addr()), message.header.family);
        attributes.push(RuleAttribute::Source(from.addr()));
    }
    if let Some(to) = rule.to {
        message.header.dst_len = to.prefix_len();
        attributes.push(RuleAttribute::Destination(to.addr()));
    }
    if let Some((mark, mask)) = rule.fwmark {
        attributes.push(RuleAttribute::FwMark(mark));
        attributes.push(RuleAttribute::FwMask(mask));
    }
    if let Some(length) = rule.suppress_prefix_len {
        attributes.push(RuleAttribute::SuppressPrefixLen(length));
    }
    message
}

/// As `ip rule` writes it.
pub(super) fn spelled(rule: &Rule) -> String {
    let mut text = format!("{}:", rule.priority);
    if let Some(from) = rule.from {
        text.push_str(&format!(" from {from}"));
    }
    if let Some(to) = rule.to {
        text.push_str(&format!(" to {to}"));
    }
    if let Some((mark, mask)) = rule.fwmark {
        text.push_str(&format!(" fwmark {mark:#x}/{mask:#x}"));
    }
    text.push_str(&format!(" lookup {}", rule.table));
    text
}
