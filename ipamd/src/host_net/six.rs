//! IPv6 forwarding, and egress of the family that pods have no address of.
//!
//! Egress is a table of its own for each family, replaced as a whole in one transaction: what comes
//! from the node-local range leaves with the node's address, and nobody sends to such an address through the
//! node but in answer (what belongs to no connection is not new to the kernel either: a SYN-ACK or RST out of
//! the blue). One rule for all pods.

use super::netlink::Refused;
use super::{KernelNet, State, nft};
use ipam_core::wiring::{Egress, HostWiring, Nat};
use ipam_engine::ports::HostNetError;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use nft::EGRESS_TABLE as TABLE;

impl KernelNet {
    /// Makes it so. `primary` is the primary ENI's link.
    pub(super) async fn six(
        &self,
        wiring: &HostWiring,
        primary: Option<&str>,
        state: &mut State,
        suspect: bool,
    ) -> Result<(), HostNetError> {
        if let Some(primary) = primary.filter(|_| wiring.six.forwards) {
            forward(primary)?;
        }
        let script = script(&wiring.six.egress, &wiring.nat);
        let tables = tables(wiring);
        state
            .egress
            .make(&self.settings.nft, script, &tables, suspect)
            .await
    }
}

/// Our tables of egress that this wiring needs.
pub(super) fn tables(wiring: &HostWiring) -> Vec<(&'static str, &'static str)> {
    let all = wiring.six.egress.iter();
    all.map(|egress| (family(egress), TABLE)).collect()
}

/// The node forwards. A forwarding host believes no router advertisement unless told to, and would
/// lose its default route (kernel documentation, ip-sysctl, `accept_ra`): that comes first.
fn forward(primary: &str) -> Result<(), HostNetError> {
    set("all/disable_ipv6", "0")?;
    set(&format!("{primary}/accept_ra"), "2")?;
    set("all/forwarding", "1")
}

/// Writes what is not so already: `/proc/sys` is read-only in an unprivileged container, where an init
/// step has set these.
fn set(key: &str, value: &str) -> Result<(), HostNetError> {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(key);
    let is_so = |text: String| text.trim() == value;
    if fs::read_to_string(&path).is_ok_and(is_so) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|error: io::Error| {
        Refused::Kernel(error).while_doing(format!(
            "setting net.ipv6.conf.{} to {value}",
            key.replace('/', ".")
        ))
    })
}

const fn family(egress: &Egress) -> &'static str {
    match egress.source {
        IpAddr::V4(_) => "ip",
        IpAddr::V6(_) => "ip6",
    }
}

/// The transaction that makes both tables be as `egress` says. "add" makes sure that there is something
/// to delete.
fn script(egress: &[Egress], nat: &Nat) -> String {
    let elsewhere = nft::not_pods("oifname", nat);
    let mut out = String::new();
    for family in ["ip", "ip6"] {
        let _ = writeln!(
            out,
            "add table {family} {TABLE}\ndelete table {family} {TABLE}"
        );
    }
    for one in egress {
        let (family, Egress { range, source }) = (family(one), one);
        let _ = writeln!(
            out,
            "table {family} {TABLE} {{\n\
             \x20chain forward {{\n\
             \x20 type filter hook forward priority filter; policy accept;\n\
             \x20 {family} daddr {range} ct state != {{ established, related }} reject\n\
             \x20}}\n\
             \x20chain postrouting {{\n\
             \x20 type nat hook postrouting priority srcnat; policy accept;\n\
             \x20 {family} saddr {range} {elsewhere} snat to {source}\n\
             \x20}}\n}}"
        );
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_for_all_pods_and_none_where_there_is_no_egress() {
        let nat = Nat {
            pod_if_prefixes: ["eni".to_owned(), "mul".to_owned()].into(),
            ..Nat::default()
        };
        let none = script(&[], &nat);
        assert_eq!(none.matches("delete table").count(), 2);
        assert!(!none.contains("chain"));
        let v4 = script(&[Egress::by([10, 0, 0, 9].into())], &nat);
        assert!(
            v4.contains(
                "ip saddr 169.254.172.0/22 oifname != \"eni*\" oifname != \"mul*\" snat to 10.0.0.9"
            ),
            "{v4}"
        );
        assert!(
            v4.contains("ip daddr 169.254.172.0/22 ct state != { established, related } reject")
        );
        assert!(!v4.contains("table ip6 ipamd_egress {"));
    }
}
