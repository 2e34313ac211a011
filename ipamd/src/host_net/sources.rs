//! What pods may send: nothing from an address that is not theirs, whatever capability they have.
//!
//! One rule for all pods, in a table of its own: a packet that came by a pod's link must have a source to which
//! the node has a route by that link (reverse path, RFC 3704), in both families. The kernel's `rp_filter`
//! does so for IPv4 alone, and only where a distribution has switched it on. What could lead others' traffic
//! to a pod (redirects, router advertisements) is dropped too, and a pod whose link-local addresses fill
//! the node's table of neighbours is slowed down.
//!
//! A kernel that can't have the table carries pods as before: that is told.

use super::netlink::ENODEV;
use super::{KernelNet, State, links, nft};
use crate::metrics::PodPackets;
use ipam_core::wiring::{HostWiring, Nat};
use netlink_packet_core::{DefaultNla, NLA_F_NESTED};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{AfSpecInet, AfSpecUnspec, LinkAttribute, LinkMessage};
use std::sync::atomic::Ordering;

use nft::SOURCES_TABLE as TABLE;

/// Why a packet is dropped, as the metric says it, and the table's counter of it.
const COUNTERS: [(&str, &str); 3] = [
    ("source", "forged"),
    ("redirect", "turned"),
    ("flood", "flood"),
];

const TABLES: [(&str, &str); 1] = [("inet", TABLE)];

/// Packets from link-local addresses by one pod's link: a pod that asks for its neighbours sends some each
/// minute. Each new address may take a place in the node's table of neighbours (1,024 of them).
const TALK: &str = "20/second burst 60 packets";

/// `rp_filter` strict (kernel documentation, ip-sysctl): a pod's link has nothing but the pod behind it.
const RP_FILTER_STRICT: u32 = 1;

impl KernelNet {
    /// Makes it so. A failure is told when it is another one than the last.
    pub(super) async fn check_sources(
        &self,
        wiring: &HostWiring,
        state: &mut State,
        suspect: bool,
    ) {
        let on = self.settings.source_check;
        let (script, tables) = if on {
            (script(&wiring.nat), &TABLES[..])
        } else {
            (removal(), &[][..])
        };
        let program = &self.settings.nft;
        let done = state.sources.make(program, script, tables, suspect).await;
        // What is not wanted and can't be had is not missed.
        let failure = done.err().filter(|_| on).map(|error| error.to_string());
        if let Some(error) = &failure
            && state.unchecked != failure
        {
            tracing::warn!(
                cause = "source_check",
                error,
                "pods' source addresses are not checked"
            );
        }
        self.sources_checked
            .store(on && failure.is_none(), Ordering::Relaxed);
        state.unchecked = failure;
    }

    /// Whether the check was made, and is no longer there as it was made.
    pub(super) async fn lacks_source_check(&self, state: &State) -> bool {
        let made = self.settings.source_check && state.sources.is_made();
        made && !state.sources.whole(&self.settings.nft, &TABLES).await
    }

    /// The same for every pod's link that is there.
    pub(super) async fn harden_all(&self) {
        if !self.settings.source_check {
            return;
        }
        match links::all(&self.netlink).await {
            Ok(all) => {
                let is_pods =
                    |link: &&LinkMessage| links::name(link).is_some_and(|n| self.is_pods(n));
                for link in all.iter().filter(is_pods) {
                    self.harden(link).await;
                }
            }
            Err(error) => tracing::warn!(%error, "can't read pods' links"),
        }
    }

    /// A pod's link gets what the rule stands for by the kernel's own settings, if a distribution has them
    /// otherwise. (IPv6 has them elsewhere: nothing is forwarded by them.)
    pub(super) async fn harden(&self, link: &LinkMessage) {
        if !self.settings.source_check || is_hard(link) {
            return;
        }
        let message = hardened(link.header.index);
        if let Err(error) = self.netlink.change_unless(message, 0, &[ENODEV]).await {
            tracing::debug!(%error, "can't set rp_filter of a pod's link");
        }
    }
}

impl PodPackets for KernelNet {
    fn are_checked(&self) -> bool {
        self.sources_checked.load(Ordering::Relaxed)
    }

    fn dropped(&self) -> Vec<(&'static str, u64)> {
        let of = |(reason, counter): &(&'static str, &str)| {
            let packets = nft::packets(TABLE, counter).ok()?;
            Some((*reason, packets))
        };
        // Without the table there is nothing to count.
        let counters = COUNTERS.iter().filter(|_| self.are_checked());
        counters.filter_map(of).collect()
    }
}

/// The transaction that makes the table be as it must. "add" makes sure that there is something to delete.
fn script(nat: &Nat) -> String {
    let elsewhere = nft::not_pods("iifname", nat);
    let [(_, forged), (_, turned), (_, flood)] = COUNTERS;
    let removal = removal();
    format!(
        "{removal}table inet {TABLE} {{
 counter {forged} {{ }}
 counter {turned} {{ }}
 counter {flood} {{ }}
 set talkers {{ type iface_index; size 4096; flags dynamic,timeout; timeout 30s; }}
 chain prerouting {{
  type filter hook prerouting priority raw; policy accept;
  {elsewhere} accept
  fib saddr . iif oif missing counter name {forged} drop
  icmp type redirect counter name {turned} drop
  icmpv6 type {{ nd-redirect, nd-router-advert }} counter name {turned} drop
  ip6 saddr fe80::/10 update @talkers {{ iif limit rate over {TALK} }} counter name {flood} drop
 }}
}}
"
    )
}

fn removal() -> String {
    format!("add table inet {TABLE}\ndelete table inet {TABLE}\n")
}

/// Whether the link refuses redirects and checks sources: strictly, or loosely by a setting of all links.
fn is_hard(link: &LinkMessage) -> bool {
    links::inet_conf(link).is_none_or(|conf| conf.accept_redirects == 0 && conf.rp_filter != 0)
}

fn hardened(index: u32) -> RouteNetlinkMessage {
    /// `IFLA_INET_CONF`, which holds one attribute for each setting that is to be changed.
    const CONF: u16 = 1 | NLA_F_NESTED;
    /// `IPV4_DEVCONF_ACCEPT_REDIRECTS` and `IPV4_DEVCONF_RP_FILTER` (linux/ip.h).
    const ACCEPT_REDIRECTS: u16 = 4;
    const RP_FILTER: u16 = 8;
    let one = |kind: u16, value: u32| {
        let [length, kind] = [8_u16, kind].map(u16::to_ne_bytes);
        [&length[..], &kind, &value.to_ne_bytes()].concat()
    };
    let settings = [one(ACCEPT_REDIRECTS, 0), one(RP_FILTER, RP_FILTER_STRICT)].concat();
    let conf = AfSpecInet::Other(DefaultNla::new(CONF, settings));
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![
        conf,
    ])])];
    RouteNetlinkMessage::SetLink(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many prefixes are in use: one rule drops.
    #[test]
    fn one_rule_for_all_pods() {
        let of = |prefixes: &[&str]| {
            let prefixes = prefixes.iter().map(|prefix| (*prefix).to_owned());
            script(&Nat {
                pod_if_prefixes: prefixes.collect(),
                ..Nat::default()
            })
        };
        let (one, two) = (of(&["eni"]), of(&["eni", "mul"]));
        assert_eq!(one.lines().count(), two.lines().count());
        assert!(one.contains("  iifname != \"eni*\" accept\n  fib saddr . iif oif missing"));
        assert!(two.contains("  iifname != \"eni*\" iifname != \"mul*\" accept\n"));
    }
}
