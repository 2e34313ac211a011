//! For tests: wiring as `ip` writes it, so that what is expected can be held against a node's `ip rule` and
//! `ip route`, and against the tables of Amazon's CNI.

use super::{Neighbour, Route, Rule, Scope};
use alloc::format;
use alloc::string::{String, ToString};
use ipnet::IpNet;

/// A host's network without its length, as `ip` does it, and the whole Internet as a word.
fn net(net: IpNet, whole: &str) -> String {
    if net.prefix_len() == 0 {
        whole.to_string()
    } else if net.prefix_len() == net.max_prefix_len() {
        net.addr().to_string()
    } else {
        net.to_string()
    }
}

/// A line of `ip rule`, or of `ip -6 rule`.
pub(super) fn rule(rule: &Rule) -> String {
    let mut line = format!(
        "{}{}: from ",
        if rule.v6 { "-6 " } else { "" },
        rule.priority
    );
    line += &rule
        .from
        .map_or_else(|| "all".to_string(), |from| net(from, "all"));
    if let Some(to) = rule.to {
        line += &format!(" to {}", net(to, "all"));
    }
    if let Some((mark, mask)) = rule.fwmark {
        line += &format!(" fwmark {mark:#x}/{mask:#x}");
    }
    line += &format!(" lookup {}", rule.table);
    if let Some(len) = rule.suppress_prefix_len {
        line += &format!(" suppress_prefixlength {len}");
    }
    line
}

/// A line of `ip route show table all`, with the table of each.
pub(super) fn route(route: &Route) -> String {
    let mut line = net(route.dst, "default");
    if let Some(via) = route.via {
        line += &format!(" via {via}");
    }
    line += &format!(" dev {} table {}", route.dev, route.table);
    if route.scope == Scope::Link {
        line += " scope link";
    }
    line
}

/// A line of `ip neigh`.
pub(super) fn neighbour(entry: &Neighbour) -> String {
    format!("{} dev {} lladdr {}", entry.ip, entry.dev, entry.mac)
}
