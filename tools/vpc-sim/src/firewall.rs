//! The router's nftables rules as text: who may send what, and the internet gateway's translation.
//! Pure; [`crate::fabric`] applies it. Each ENI has two chains of its own, so a change of one ENI
//! replaces those and leaves all else, counters too, as it is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::Ipv4Addr;
use vpc_model::Wire;

/// Name of the router's link to the internet.
pub(crate) const IGW: &str = "igw";
/// Counter of packets that the internet gateway had no public address for.
pub(crate) const IGW_DROPPED: &str = "igw_dropped";

/// What is there before any ENI: an unknown link may send nothing.
pub(crate) fn base() -> String {
    format!(
        "table inet vpc {{
  counter {IGW_DROPPED} {{}}
  map public_out {{ type ipv4_addr : ipv4_addr; }}
  map public_in {{ type ipv4_addr : ipv4_addr; }}
  map from_eni {{ type ifname : verdict; }}
  map sent {{ type ifname : verdict; }}
  map received {{ type ifname : verdict; }}
  chain from_internet {{
    ip daddr set ip daddr map @public_in return
    meta nfproto ipv4 drop
  }}
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    iifname \"lo\" return
    iifname \"{IGW}\" goto from_internet
    iifname vmap @from_eni
    drop
  }}
  chain forward {{
    type filter hook forward priority 0; policy accept;
    iifname vmap @sent
    oifname vmap @received
    oifname \"{IGW}\" meta nfproto ipv6 return
    oifname \"{IGW}\" ip saddr set ip saddr map @public_out return
    oifname \"{IGW}\" counter name {IGW_DROPPED} drop
  }}
}}
"
    )
}

/// Some kernels have no nftables for ARP; then nothing but the subnet's own questions is lost.
pub(crate) const ARP_BASE: &str = "table arp vpc {
  map from_eni { type ifname : verdict; }
  chain input {
    type filter hook input priority 0; policy accept;
    iifname vmap @from_eni
  }
}
";

/// Counter of what was dropped on its way from the ENI.
pub(crate) fn dropped(link: &str) -> String {
    format!("{link}_dropped")
}

/// Counter of what was forwarded from the ENI.
pub(crate) fn sent(link: &str) -> String {
    format!("{link}_sent")
}

/// Counter of what was forwarded to the ENI.
pub(crate) fn received(link: &str) -> String {
    format!("{link}_received")
}

/// A new ENI, on the router's link of that name.
pub(crate) fn add(link: &str, wire: &Wire, arp: bool) -> String {
    let mut s = String::new();
    for counter in [dropped(link), sent(link), received(link)] {
        line(&mut s, format_args!("add counter inet vpc {counter}"));
    }
    for (chain, counter) in [(sent(link), sent(link)), (received(link), received(link))] {
        line(&mut s, format_args!("add chain inet vpc {chain}"));
        line(
            &mut s,
            format_args!("add rule inet vpc {chain} counter name {counter}"),
        );
    }
    line(&mut s, format_args!("add chain inet vpc {link}_from"));
    s += &from_rules(link, wire);
    for (map, chain) in maps(link) {
        line(
            &mut s,
            format_args!("add element inet vpc {map} {{ \"{link}\" : jump {chain} }}"),
        );
    }
    if arp {
        line(&mut s, format_args!("add chain arp vpc {link}"));
        s += &arp_rules(link, wire);
        line(
            &mut s,
            format_args!("add element arp vpc from_eni {{ \"{link}\" : jump {link} }}"),
        );
    }
    s
}

/// An ENI whose addresses or source check changed.
pub(crate) fn change(link: &str, wire: &Wire) -> String {
    format!(
        "flush chain inet vpc {link}_from\n{}",
        from_rules(link, wire)
    )
}

/// An ENI that is gone.
pub(crate) fn remove(link: &str, arp: bool) -> String {
    let mut s = String::new();
    for (map, chain) in maps(link) {
        line(
            &mut s,
            format_args!("delete element inet vpc {map} {{ \"{link}\" }}"),
        );
        line(&mut s, format_args!("flush chain inet vpc {chain}"));
        line(&mut s, format_args!("delete chain inet vpc {chain}"));
    }
    for counter in [dropped(link), sent(link), received(link)] {
        line(&mut s, format_args!("delete counter inet vpc {counter}"));
    }
    if arp {
        line(
            &mut s,
            format_args!("delete element arp vpc from_eni {{ \"{link}\" }}"),
        );
        line(&mut s, format_args!("flush chain arp vpc {link}"));
        line(&mut s, format_args!("delete chain arp vpc {link}"));
    }
    s
}

/// All translations of the internet gateway, private to public.
pub(crate) fn public(addresses: &BTreeMap<Ipv4Addr, Ipv4Addr>) -> String {
    let mut s = "flush map inet vpc public_out\nflush map inet vpc public_in\n".to_owned();
    for (private, public) in addresses {
        line(
            &mut s,
            format_args!("add element inet vpc public_out {{ {private} : {public} }}"),
        );
        line(
            &mut s,
            format_args!("add element inet vpc public_in {{ {public} : {private} }}"),
        );
    }
    s
}

fn maps(link: &str) -> [(&'static str, String); 3] {
    [
        ("from_eni", format!("{link}_from")),
        ("sent", sent(link)),
        ("received", received(link)),
    ]
}

fn from_rules(link: &str, wire: &Wire) -> String {
    let mut s = String::new();
    let mut rule = |text: &str| line(&mut s, format_args!("add rule inet vpc {link}_from {text}"));
    let drop = format!("counter name {} drop", dropped(link));
    rule(&format!("ether saddr != {} {drop}", wire.mac));
    if wire.source_dest_check {
        let of = |v4: bool| {
            let nets = wire
                .allowed
                .iter()
                .filter(move |n| n.addr().is_ipv4() == v4);
            nets.map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        for (family, nets) in [("ip", of(true)), ("ip6", of(false))] {
            if !nets.is_empty() {
                rule(&format!("{family} saddr {{ {nets} }} accept"));
            }
        }
        // What hosts say before they have an address (DHCP, duplicate address detection) and
        // among neighbours: none of it is ever routed.
        rule("ip saddr 0.0.0.0 drop");
        rule("ip6 saddr { ::, fe80::/10 } accept");
        rule(&drop);
    } else {
        rule("accept");
    }
    s
}

/// Only the subnet, and what the router owns everywhere, may be asked for.
fn arp_rules(link: &str, wire: &Wire) -> String {
    let subnet = wire.primary.trunc();
    let known = format!("{{ {subnet}, 169.254.169.0/24 }}");
    format!("add rule arp vpc {link} arp daddr ip != {known} drop\n")
}

fn line(s: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String never fails.
    let _ = writeln!(s, "{text}");
}
