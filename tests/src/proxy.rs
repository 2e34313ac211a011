//! Services as kube-proxy translates them, in its three ways, for scenarios: written by hand, since what
//! matters is where in the kernel the translation happens.

use crate::net::feed;
use lab::probe::Protocol;
use std::fmt::Write as _;
use std::net::Ipv4Addr;
use vpc_sim::NetNs;
use vpc_sim::testing::Failure;

/// By which kernel interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// `iptables-nft`
    IptablesNft,
    /// `iptables-legacy`
    IptablesLegacy,
    /// A table of nftables.
    Nftables,
}

/// Where a Service is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Front {
    /// At an address of its own.
    Cluster(Ipv4Addr),
    /// At every address of the node.
    Node,
}

/// When the source is translated, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masquerade {
    /// Only where the endpoint would talk to itself.
    Hairpin,
    /// Always: `externalTrafficPolicy: Cluster`.
    Always,
}

/// One Service with one endpoint, by both protocols.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Where it is reached, and
    pub front: Front,
    /// at which port.
    pub port: u16,
    /// Its endpoint, and
    pub to: Ipv4Addr,
    /// its port.
    pub to_port: u16,
    /// See there.
    pub masquerade: Masquerade,
}

/// Makes the node translate these Services and no others.
///
/// # Errors
/// [`Failure::Skip`] where the program is not there; what it refuses.
pub fn install(node: &NetNs, backend: Backend, services: &[Service]) -> Result<(), Failure> {
    let program = match backend {
        Backend::IptablesNft => "iptables-nft-restore",
        Backend::IptablesLegacy => "iptables-legacy-restore",
        Backend::Nftables => {
            let text = nftables(services);
            return feed(node, "nft -f -", &text).map(drop);
        }
    };
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
        return Err(Failure::Skip(format!("no {program} on PATH")));
    }
    feed(node, program, &iptables(services)).map(drop)
}

const PROTOCOLS: [(Protocol, &str); 2] = [(Protocol::Tcp, "tcp"), (Protocol::Udp, "udp")];

/// What kube-proxy's iptables mode has in its table nat, without its Services' names.
fn iptables(services: &[Service]) -> String {
    let mut out = "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
                   :POSTROUTING ACCEPT [0:0]\n:KUBE-SERVICES - [0:0]\n:KUBE-NODEPORTS - [0:0]\n\
                   :KUBE-MARK-MASQ - [0:0]\n:KUBE-POSTROUTING - [0:0]\n"
        .to_owned();
    let mut rules = "-A PREROUTING -j KUBE-SERVICES\n-A OUTPUT -j KUBE-SERVICES\n\
                     -A POSTROUTING -j KUBE-POSTROUTING\n\
                     -A KUBE-MARK-MASQ -j MARK --or-mark 0x4000\n\
                     -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n\
                     -A KUBE-POSTROUTING -j MARK --xor-mark 0x4000\n\
                     -A KUBE-POSTROUTING -j MASQUERADE --random-fully\n"
        .to_owned();
    for (n, service) in services.iter().enumerate() {
        let (port, to, to_port) = (service.port, service.to, service.to_port);
        for (_, protocol) in PROTOCOLS {
            let chain = format!("KUBE-SEP-{n}-{protocol}");
            let _ = writeln!(out, ":{chain} - [0:0]");
            let matched = format!("-p {protocol} -m {protocol} --dport {port} -j {chain}");
            let _ = match service.front {
                Front::Cluster(ip) => {
                    writeln!(rules, "-A KUBE-SERVICES -d {ip}/32 {matched}")
                }
                Front::Node => writeln!(rules, "-A KUBE-NODEPORTS {matched}"),
            };
            let source = match service.masquerade {
                Masquerade::Always => String::new(),
                Masquerade::Hairpin => format!("-s {to}/32 "),
            };
            let _ = writeln!(
                rules,
                "-A {chain} {source}-j KUBE-MARK-MASQ\n\
                 -A {chain} -p {protocol} -m {protocol} -j DNAT --to-destination {to}:{to_port}"
            );
        }
    }
    rules.push_str("-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS\nCOMMIT\n");
    out + &rules
}

fn nftables(services: &[Service]) -> String {
    let mut out = "add table ip kube-proxy\ndelete table ip kube-proxy\ntable ip kube-proxy {\n\
         chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }\n\
         chain nat-output { type nat hook output priority -100; jump services; }\n\
         chain nat-postrouting { type nat hook postrouting priority srcnat;\n\
         meta mark and 0x4000 == 0 return\n meta mark set meta mark xor 0x4000\n\
         masquerade fully-random\n }\n"
        .to_owned();
    let (mut cluster, mut node) = (String::new(), String::new());
    for (n, service) in services.iter().enumerate() {
        let (port, to, to_port) = (service.port, service.to, service.to_port);
        for (_, protocol) in PROTOCOLS {
            let chain = format!("sep-{n}-{protocol}");
            let matched = format!("{protocol} dport {port} goto {chain}");
            let _ = match service.front {
                Front::Cluster(ip) => writeln!(cluster, "ip daddr {ip} {matched}"),
                Front::Node => writeln!(node, "{matched}"),
            };
            let source = match service.masquerade {
                Masquerade::Always => String::new(),
                Masquerade::Hairpin => format!("ip saddr {to} "),
            };
            let _ = writeln!(
                out,
                "chain {chain} {{\n{source}meta mark set meta mark or 0x4000\n\
                 meta l4proto {protocol} dnat to {to}:{to_port}\n}}"
            );
        }
    }
    let _ = writeln!(
        out,
        "chain nodeports {{\n{node}}}\nchain services {{\n{cluster}fib daddr type local goto \
         nodeports\n}}\n}}"
    );
    out
}
