//! NAT and marks: one nftables table of our own, replaced as a whole in one transaction.
//!
//! ```text
//! prerouting, before routing     a packet from a pod:
//!   a connection's first way     to outside the VPC: mark 0x80 (leave by the primary ENI)
//!                                single addresses: mark of the ENI (leave by that ENI)
//!   a connection's way back      came in by the node's own address: mark 0x80
//! postrouting, srcnat            marked 0x80, not to a pod: gets the node's address
//! ```
//!
//! The decision is made after kube-proxy's translation (priority dstnat + 10), in a chain of type
//! filter: one of type nat would not see connections that are translated already. Marks are changed
//! bit by bit: the others are other people's. Ways back of connections that came in from outside the
//! VPC are not marked: they leave by the ENI they came in by. The node's own traffic is never
//! touched.

use crate::config::SnatPorts;
use ipam_core::wiring::{MARK_ENI_MASK, MARK_MAIN, Nat};
use ipam_engine::ports::HostNetError;
use ipnet::{IpNet, Ipv4Net};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Our table; no other is ever touched.
pub(super) const TABLE: &str = "ipamd";
/// `nft` takes some milliseconds.
const DEADLINE: Duration = Duration::from_secs(10);

/// What the table depends on besides the wiring.
#[derive(Clone, Copy, Debug)]
pub(super) struct Options<'a> {
    /// The primary ENI's link.
    pub(super) primary: Option<&'a str>,
    /// Answers to what came to the node's own address leave by the primary ENI.
    pub(super) node_port: bool,
    pub(super) ports: SnatPorts,
}

/// The transaction that makes the table be as `nat` says.
pub(super) fn script(nat: &Nat, options: Options<'_>) -> String {
    let mut out = String::new();
    // "add" makes sure that there is something to delete; the three take effect as one.
    let _ = writeln!(
        out,
        "add table ip {TABLE}\ndelete table ip {TABLE}\ntable ip {TABLE} {{"
    );
    let pods = format!("iifname \"{}*\"", nat.pod_if_prefix);
    let marks = eni_marks(nat);
    inside_set(&mut out, nat);
    eni_chains(&mut out, &marks);

    let _ = writeln!(out, " chain prerouting {{");
    let _ = writeln!(
        out,
        "  type filter hook prerouting priority dstnat + 10; policy accept;"
    );
    if !marks.is_empty() {
        let _ = writeln!(out, "  {pods} ip saddr vmap @enis");
    }
    let _ = writeln!(out, " }}");

    let _ = writeln!(out, " chain outside {{");
    let _ = writeln!(
        out,
        "  type filter hook prerouting priority dstnat + 11; policy accept;"
    );
    if nat.source.is_some() {
        let _ = writeln!(
            out,
            "  {pods} ct direction original ip daddr != @inside meta mark set meta mark or \
             {MARK_MAIN:#x}"
        );
    }
    if let Some(primary) = options.primary.filter(|_| options.node_port) {
        let _ = writeln!(
            out,
            "  {pods} ct direction reply ct mark and {MARK_MAIN:#x} == {MARK_MAIN:#x} meta mark \
             set meta mark or {MARK_MAIN:#x}"
        );
        let _ = writeln!(out, " }}\n chain nodeport {{");
        let _ = writeln!(
            out,
            "  type filter hook prerouting priority mangle; policy accept;"
        );
        let _ = writeln!(
            out,
            "  iifname \"{primary}\" fib daddr . iif type local ct mark set ct mark or \
             {MARK_MAIN:#x}"
        );
    }
    let _ = writeln!(out, " }}");

    if let Some(source) = nat.source {
        let _ = writeln!(out, " chain postrouting {{");
        let _ = writeln!(
            out,
            "  type nat hook postrouting priority srcnat; policy accept;"
        );
        let _ = writeln!(
            out,
            "  meta mark and {MARK_MAIN:#x} == {MARK_MAIN:#x} oifname != \"{}*\" ip daddr != \
             @inside fib daddr type != local snat to {source}{}",
            nat.pod_if_prefix,
            match options.ports {
                SnatPorts::FullyRandom => " fully-random",
                SnatPorts::Random => " random",
                SnatPorts::Kept => "",
            }
        );
        let _ = writeln!(out, " }}");
    }
    out.push_str("}\n");
    out
}

/// Single IPv4 addresses on secondary ENIs. (IPv6 pods need no translation and no marks yet.)
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
        let _ = writeln!(
            out,
            " map enis {{\n  type ipv4_addr : verdict;\n  elements = {{ {} }}\n }}",
            list.join(", ")
        );
    }
}

/// Hands a script to `nft`.
pub(super) async fn run(nft: &Path, script: &str) -> Result<(), HostNetError> {
    let failed = |cause: String| HostNetError {
        what: "replacing the nftables table".into(),
        cause,
    };
    let mut child = Command::new(nft)
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| failed(format!("{} can't be run: {error}", nft.display())))?;
    let feed = async {
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(script.as_bytes()).await?;
        }
        child.wait_with_output().await
    };
    match timeout(DEADLINE, feed).await {
        Err(_) => Err(failed(format!(
            "{} did not end within {DEADLINE:?}",
            nft.display()
        ))),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Ok(Ok(output)) if output.status.success() => Ok(()),
        Ok(Ok(output)) => {
            let words = String::from_utf8_lossy(&output.stderr);
            Err(failed(words.trim().chars().take(500).collect()))
        }
    }
}
