//! What the kernel is told about pods' packets: by the daemon, by hand and as little as will do, or by
//! hand as the peer does it. Links, addresses, host routes and ENI tables stay as they are.

use super::bed::{Bed, Place, table, unfit};
use lab::LabError;
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use vpc_sim::NetNs;

/// For the daemon to have laid everything.
const LIMIT: Duration = Duration::from_secs(30);
const VPC: &str = "10.0.0.0/16";

/// One way to do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// By the daemon.
    Ours,
    /// Routes, and for pods on further ENIs the two rules that they need; no nftables, no connection
    /// tracking.
    Plain,
    /// The same with what any node with Services has: connection tracking, and hooks for translation.
    Node,
    /// By the daemon, with that.
    OursOnNode,
    /// The peer's rules and chains (nftables and iptables-nft), by its code's and its own runs' word.
    PeerRules,
}

impl Layout {
    pub(super) const ALL: [Self; 5] = [
        Self::Ours,
        Self::Plain,
        Self::PeerRules,
        Self::Node,
        Self::OursOnNode,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Plain => "plain",
            Self::Node => "node",
            Self::OursOnNode => "ours_on_node",
            Self::PeerRules => "peer_rules",
        }
    }

    /// Replaces what is there.
    pub(super) fn lay(self, bed: &mut Bed) -> Result<(), LabError> {
        let node = bed.cluster.nodes()[0].sim().net();
        bed.cluster.node().kill();
        feed(&node, "nft", &["-f", "-"], "flush ruleset\n")?;
        let mut rules = String::from(
            "rule flush\nrule add pref 32766 lookup main\nrule add pref 32767 lookup default\n",
        );
        let by_daemon = matches!(self, Self::Ours | Self::OursOnNode);
        if !by_daemon {
            rules += &self.rules(bed);
        }
        feed(&node, "ip", &["-batch", "-"], &rules)?;
        if matches!(self, Self::Node | Self::OursOnNode) {
            feed(&node, "nft", &["-f", "-"], SERVICES)?;
        }
        match self {
            Self::Plain | Self::Node => Ok(()),
            Self::PeerRules => {
                feed(&node, "nft", &["-f", "-"], PEER_MARKS)?;
                let primary = bed.enis().into_iter().find(|eni| eni.device_index == 0);
                let Some(primary) = primary else {
                    return Err(unfit("no primary ENI".into()));
                };
                let chains = peer_chains(&primary.link, &primary.primary.addr().to_string());
                feed(&node, "iptables-nft-restore", &[], &chains)
            }
            Self::Ours | Self::OursOnNode => {
                bed.cluster.node().start()?;
                bed.cluster.nodes()[0].wait_ready(LIMIT)?;
                wait_for_ours(&node)
            }
        }
    }

    fn rules(self, bed: &Bed) -> String {
        let mut text = String::new();
        let mut rule = |words: String| {
            let _ = writeln!(text, "rule add {words}");
        };
        let places = bed.places();
        if self == Self::PeerRules {
            rule("pref 1024 fwmark 0x80/0x80 lookup main".into());
            for Place { address, table } in &places {
                rule(format!("pref 512 to {address} lookup main"));
                if let Some(table) = table {
                    rule(format!("pref 1536 from {address} lookup {table}"));
                }
            }
            for eni in bed.enis() {
                if let Some(table) = table(&eni) {
                    let own = eni.primary.addr();
                    rule(format!("pref 32765 from {own} lookup {table}"));
                }
            }
        } else if let Some((place, table)) = places.get(1).and_then(|p| p.table.map(|t| (p, t))) {
            // Not asked for packets of other pods.
            let from = place.address;
            rule(format!(
                "pref 512 from {from} lookup main suppress_prefixlength 31"
            ));
            rule(format!("pref 1536 from {from} lookup {table}"));
        }
        text
    }
}

/// The least that kube-proxy has, in its nftables mode: chains of the same types, with no Service that the
/// load would meet.
const SERVICES: &str = "table ip bench {
  map services {
    type ipv4_addr . inet_proto . inet_service : verdict
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state invalid drop
  }
  chain nat-prerouting {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr . meta l4proto . th dport vmap @services
  }
  chain nat-postrouting {
    type nat hook postrouting priority srcnat; policy accept;
    meta mark & 0x4000 == 0 return
    masquerade fully-random
  }
}
";

/// The peer's table, as its release 1.23.1 was seen to make it.
const PEER_MARKS: &str = "table ip aws-cni {
  chain snat-mark {
    counter ip daddr 10.0.0.0/16 return
    counter ct mark set ct mark | 0x80
  }
  chain nat-prerouting {
    type nat hook prerouting priority dstnat + 10; policy accept;
    fib daddr type local return
    iifname \"eni*\" counter jump snat-mark
    counter meta mark set ct mark & 0x80
  }
}
";

fn peer_chains(primary: &str, address: &str) -> String {
    format!(
        "*nat
:AWS-SNAT-CHAIN-0 - [0:0]
-A POSTROUTING -m comment --comment \"AWS SNAT CHAIN\" -j AWS-SNAT-CHAIN-0
-A AWS-SNAT-CHAIN-0 -d {VPC} -m comment --comment \"AWS SNAT CHAIN\" -j RETURN
-A AWS-SNAT-CHAIN-0 ! -o vlan+ -m comment --comment \"AWS, SNAT\" -m addrtype ! --dst-type LOCAL -j \
         SNAT --to-source {address} --random-fully
COMMIT
*mangle
-A PREROUTING -i {primary} -m comment --comment \"AWS, primary ENI\" -m addrtype --dst-type LOCAL \
         --limit-iface-in -j CONNMARK --set-xmark 0x80/0x80
-A PREROUTING -i eni+ -m comment --comment \"AWS, primary ENI\" -j CONNMARK --restore-mark --nfmask \
         0x80 --ctmask 0x80
-A PREROUTING -i vlan+ -m comment --comment \"AWS, primary ENI\" -j CONNMARK --restore-mark --nfmask \
         0x80 --ctmask 0x80
COMMIT
"
    )
}

/// Its rules and its table come with its first look at the kernel.
fn wait_for_ours(node: &NetNs) -> Result<(), LabError> {
    let began = Instant::now();
    loop {
        let rules = output(node, "ip", &["rule"])?;
        let tables = output(node, "nft", &["list", "tables"])?;
        if rules.contains("suppress_prefixlength") && tables.contains("ip ipamd") {
            return Ok(());
        }
        if began.elapsed() > LIMIT {
            let what = format!("the daemon's rules and table (there are {rules} {tables})");
            return Err(LabError::TooLate { what, limit: LIMIT });
        }
        lab::interrupt::sleep(Duration::from_millis(20))?;
    }
}

fn output(node: &NetNs, program: &str, args: &[&str]) -> Result<String, LabError> {
    let mut command = Command::new(program);
    command.args(args);
    let output = node.output(command)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn feed(node: &NetNs, program: &str, args: &[&str], text: &str) -> Result<(), LabError> {
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = node.spawn(command)?;
    let failed = |e: std::io::Error| unfit(format!("{program}: {e}"));
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes()).map_err(failed)?;
    }
    let output = child.wait_with_output().map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(unfit(format!("{program}: {said}")))
}
