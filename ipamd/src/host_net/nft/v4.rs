//! IPv4: translation and marks, as text for `nft`.
//!
//! ```text
//! prerouting, before translation   to the node's own address by the primary ENI: the connection
//!                                  gets the mark
//! prerouting, before routing       a packet from a pod:
//!   single addresses               the ENI's mark (leave by that ENI)
//!   a connection's first way       to outside the VPC: the mark (leave by the primary ENI)
//!   a connection's way back        the connection has the mark: the mark
//! postrouting, srcnat              marked, and not to a pod: gets the node's address
//! ```
//!
//! The decision is made after kube-proxy's translation (priority dstnat + 10), in a chain of type
//! filter: one of type nat would not see connections that are translated already. Marks are changed
//! bit by bit: the others are other people's. Ways back of connections that came in from outside the
//! VPC to a pod's own address are not marked: they leave by the ENI they came in by. Addresses of the
//! node itself, a Service's on kube-proxy's IPVS link among them, are not outside. The node's own
//! traffic is never touched.

use super::{Options, TABLE};
use crate::config::SnatPorts;
use ipam_core::wiring::{MARK_ENI_MASK, Nat};
use ipnet::{IpNet, Ipv4Net};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

/// The table, in place of the one that is there.
pub(super) fn table(nat: &Nat, options: Options<'_>) -> String {
    // "add" makes sure that there is something to delete; the three take effect as one.
    let mut out = format!("add table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{\n");
    let marks = eni_marks(nat);
    let node_port = options.primary.filter(|_| options.node_port);
    inside_set(&mut out, nat);
    eni_chains(&mut out, &marks);
    if let Some(primary) = node_port {
        connections_to_the_node(&mut out, nat.mark, primary);
    }
    packets_of_pods(&mut out, nat, !marks.is_empty(), node_port.is_some());
    if let Some(source) = nat.source {
        translation(&mut out, nat, source, options.ports);
    }
    out.push_str("}\n");
    out
}

/// Before kube-proxy's translation: afterwards the destination is no longer the node.
fn connections_to_the_node(out: &mut String, mark: u32, primary: &str) {
    let _ = writeln!(
        out,
        " chain nodeport {{
  type filter hook prerouting priority mangle; policy accept;
  iifname \"{primary}\" ct direction original fib daddr . iif type local ct mark set ct mark or \
         {mark:#x}
 }}"
    );
}

/// Matches packets that come by (`iifname`) or leave by (`oifname`) no pod's link.
pub(in crate::host_net) fn not_pods(which: &str, nat: &Nat) -> String {
    let prefixes = nat.pod_if_prefixes.iter();
    let each: Vec<String> = prefixes
        .map(|prefix| format!("{which} != \"{prefix}*\""))
        .collect();
    each.join(" ")
}

fn packets_of_pods(out: &mut String, nat: &Nat, has_marks: bool, node_port: bool) {
    let (elsewhere, mark) = (not_pods("iifname", nat), nat.mark);
    let _ = writeln!(
        out,
        " chain prerouting {{
  type filter hook prerouting priority dstnat + 10; policy accept;
  {elsewhere} accept"
    );
    if has_marks {
        let _ = writeln!(out, "  ip saddr vmap @enis");
    }
    if nat.source.is_some() {
        let _ = writeln!(
            out,
            "  ct direction original ip daddr != @inside fib daddr type != local meta mark set meta \
             mark or {mark:#x}"
        );
    }
    if node_port {
        let _ = writeln!(
            out,
            "  ct direction reply ct mark and {mark:#x} == {mark:#x} meta mark set meta mark or \
             {mark:#x}"
        );
    }
    let _ = writeln!(out, " }}");
}

fn translation(out: &mut String, nat: &Nat, source: Ipv4Addr, ports: SnatPorts) {
    let (elsewhere, mark) = (not_pods("oifname", nat), nat.mark);
    let ports = match ports {
        SnatPorts::FullyRandom => " fully-random",
        SnatPorts::Random => " random",
        SnatPorts::Kept => "",
    };
    let _ = writeln!(
        out,
        " chain postrouting {{
  type nat hook postrouting priority srcnat; policy accept;
  meta mark and {mark:#x} == {mark:#x} {elsewhere} ip daddr != @inside snat to \
         {source}{ports}
 }}"
    );
}

/// Single IPv4 addresses on secondary ENIs.
fn eni_marks(nat: &Nat) -> Vec<(Ipv4Addr, u32)> {
    let v4 = |(ip, mark): (&IpAddr, &u32)| match ip {
        IpAddr::V4(ip) => Some((*ip, mark & MARK_ENI_MASK)),
        IpAddr::V6(_) => None,
    };
    nat.eni_marks.iter().filter_map(v4).collect()
}

fn inside_set(out: &mut String, nat: &Nat) {
    let v4 = nat.inside.iter().filter_map(|net| match net {
        IpNet::V4(net) => Some(net.trunc()),
        IpNet::V6(_) => None,
    });
    let nets = Ipv4Net::aggregate(&v4.collect());
    let _ = writeln!(out, " set inside {{\n  type ipv4_addr; flags interval;");
    if !nets.is_empty() {
        let list: Vec<String> = nets.iter().map(ToString::to_string).collect();
        let _ = writeln!(out, "  elements = {{ {} }}", list.join(", "));
    }
    let _ = writeln!(out, " }}");
}

/// One chain an ENI, and the map that leads to it: what a packet costs does not grow with ENIs.
fn eni_chains(out: &mut String, marks: &[(Ipv4Addr, u32)]) {
    let enis: BTreeSet<u32> = marks.iter().map(|(_, mark)| *mark).collect();
    for mark in &enis {
        let keep = !MARK_ENI_MASK;
        let _ = writeln!(
            out,
            " chain eni-{mark:x} {{ meta mark set meta mark and {keep:#x} or {mark:#x}; }}"
        );
    }
    if !marks.is_empty() {
        let list: Vec<String> = marks
            .iter()
            .map(|(ip, mark)| format!("{ip} : jump eni-{mark:x}"))
            .collect();
        // Of a known size: the kernel takes its quickest table.
        let _ = writeln!(
            out,
            " map enis {{\n  type ipv4_addr : verdict; size {};\n  elements = {{ {} }}\n }}",
            list.len(),
            list.join(", ")
        );
    }
}

/// The marks of the map that [`eni_chains`] makes, out of the table's text.
pub(super) fn marks_in(table: &str) -> BTreeMap<IpAddr, u32> {
    let map = table.split_once("map enis {").map_or("", |(_, map)| map);
    let elements = map.split_once("elements = {").map_or("", |(_, list)| list);
    let elements = elements.split('}').next().unwrap_or_default();
    let one = |element: &str| {
        let (ip, verdict) = element.split_once(':')?;
        let mark = verdict.trim().strip_prefix("jump eni-")?;
        let mark = u32::from_str_radix(mark, 16).ok()?;
        Some((ip.trim().parse().ok()?, mark))
    };
    elements.split(',').filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_were_written() {
        let marks = (1..=9).map(|n| (IpAddr::from([10, 0, 3, n]), 0x200 << (n % 2)));
        let nat = Nat {
            eni_marks: marks.collect(),
            ..nat()
        };
        let written = text(&nat, true, SnatPorts::Kept);
        assert_eq!(marks_in(&written), nat.eni_marks);
        // As `nft` lists it.
        let listed = "table ip ipamd {\n\tset inside {\n\t\telements = { 10.0.0.0/16 }\n\t}\n\n\tmap enis {\n\t\ttype \
                      ipv4_addr : verdict\n\t\tsize 2\n\t\telements = { 10.0.3.1 : jump eni-200,\n\t\t\t     10.0.3.2 : \
                      jump eni-400 }\n\t}\n}\n";
        let two = [([10, 0, 3, 1], 0x200), ([10, 0, 3, 2], 0x400)];
        let two = two.map(|(ip, mark)| (IpAddr::from(ip), mark));
        assert_eq!(marks_in(listed), two.into());
        assert_eq!(marks_in("table ip ipamd {\n}\n"), BTreeMap::new());
    }

    fn nat() -> Nat {
        Nat {
            pod_if_prefixes: ["eni".to_owned()].into(),
            inside: vec![
                "10.0.0.0/16".parse().expect("parses"),
                "10.1.0.0/16".parse().expect("parses"),
                "100.64.0.0/16".parse().expect("parses"),
                "2001:db8::/56".parse().expect("parses"),
            ],
            source: Some(Ipv4Addr::new(10, 0, 0, 9)),
            ..Nat::default()
        }
    }

    fn text(nat: &Nat, node_port: bool, ports: SnatPorts) -> String {
        let primary = Some("ens5");
        let options = Options {
            primary,
            node_port,
            ports,
        };
        table(nat, options)
    }

    #[test]
    fn settings_show_in_the_table() {
        let whole = text(&nat(), true, SnatPorts::FullyRandom);
        assert!(whole.contains("{ 10.0.0.0/15, 100.64.0.0/16 }"), "{whole}");
        for (ports, end) in [
            (SnatPorts::FullyRandom, "snat to 10.0.0.9 fully-random\n"),
            (SnatPorts::Random, "snat to 10.0.0.9 random\n"),
            (SnatPorts::Kept, "snat to 10.0.0.9\n"),
        ] {
            assert!(text(&nat(), true, ports).contains(end), "{ports:?}");
        }
        let external = Nat {
            source: None,
            ..nat()
        };
        let external = text(&external, true, SnatPorts::Kept);
        assert!(!external.contains("snat"), "{external}");
        assert!(external.contains("ct direction reply"), "{external}");
        let no_ports = text(&nat(), false, SnatPorts::Kept);
        assert!(!no_ports.contains("ct mark"), "{no_ports}");
        assert!(no_ports.contains("snat"), "{no_ports}");
        let other = Nat {
            mark: 0x40,
            ..nat()
        };
        let other = text(&other, true, SnatPorts::Kept);
        assert!(!other.contains("0x80") && other.contains("0x40"), "{other}");
    }

    /// However many blocks: no rule more, and an entry a block only for single addresses.
    #[test]
    fn rules_do_not_grow_with_blocks() {
        let rules = |count: u8| {
            let marks = (1..=count).map(|n| (IpAddr::from([10, 0, 3, n]), 0x200));
            let nat = Nat {
                eni_marks: marks.collect(),
                ..nat()
            };
            text(&nat, true, SnatPorts::Kept).lines().count()
        };
        assert_eq!(rules(1), rules(200));
    }
}
