//! Settings that are lists, maps or names.

use super::finding::Severity;
use super::read::Reader;
use ipam_core::plan::Subnets;
use ipam_core::{SecurityGroupId, SubnetId};
use ipnet::{IpNet, Ipv4Net};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// How the kernel, systemd and distributions call links with a network behind them
/// (systemd.net-naming-scheme(7)): one with such a name may be the primary ENI.
const OTHERS: [&str; 16] = [
    "eth", "eno", "ens", "enp", "enx", "enX", "enP", "enc", "wlan", "wlp", "lo", "vlan", "bond",
    "team", "docker", "veth",
];

/// Amazon's CNI takes at most four characters and refuses the names of some other links.
pub(super) fn veth_prefix(read: &mut Reader<'_>) -> String {
    const NAME: &str = "AWS_VPC_K8S_CNI_VETHPREFIX";
    let prefix = read.text_or_default(NAME);
    let wrong = if prefix.len() > 4 {
        "is longer than 4 characters"
    } else if OTHERS.iter().any(|other| are_mixed_up(&prefix, other)) {
        "is how other links are called: the primary ENI's would be taken for a pod's"
    } else if !prefix
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
    {
        "has characters that are not letters, digits, '-' or '_'"
    } else {
        return prefix;
    };
    let text = format!("\"{}\" {wrong}", prefix.escape_debug());
    read.tell(Severity::Refusal, NAME, text);
    "eni".into()
}

/// Whether a link whose name begins with `other` may begin with `prefix`.
fn are_mixed_up(prefix: &str, other: &str) -> bool {
    other.starts_with(prefix) || prefix.starts_with(other)
}

/// IPv6 and unreadable entries are skipped, as Amazon's CNI does.
pub(super) fn v4_nets(read: &mut Reader<'_>, name: &str) -> Vec<IpNet> {
    let text = read.text(name).unwrap_or_default();
    let mut nets = Vec::new();
    for entry in text
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
    {
        match entry.parse::<Ipv4Net>() {
            Ok(net) => nets.push(IpNet::V4(net.trunc())),
            Err(_) => read.tell(
                Severity::Mistake,
                name,
                format!(
                    "\"{}\" is not an IPv4 CIDR; skipping it",
                    entry.escape_debug()
                ),
            ),
        }
    }
    nets
}

/// Everything is two halves: the kernel knows a rule for all destinations by having none, and so would take
/// it for a rule of no service.
pub(super) fn services(read: &mut Reader<'_>) -> Vec<IpNet> {
    let nets = v4_nets(read, "AWS_EXTERNAL_SERVICE_CIDRS");
    let halves = |net: IpNet| match net.subnets(1) {
        Ok(halves) if net.prefix_len() == 0 => halves.collect(),
        _ => vec![net],
    };
    nets.into_iter().flat_map(halves).collect()
}

/// Explicit subnets go before discovery by tag. An id that EC2 could not have made is a refusal: new
/// ENIs would go somewhere else than was meant.
pub(super) fn subnets(read: &mut Reader<'_>) -> Subnets {
    const LIST: &str = "IPAMD_SUBNET_IDS";
    const ONE: &str = "IPAMD_ENI_SUBNET";
    let discovery = read.flag("ENABLE_SUBNET_DISCOVERY");
    let cluster = read.text("CLUSTER_NAME").filter(|name| !name.is_empty());
    let (name, text) = match (read.text(LIST), read.text(ONE)) {
        (Some(list), one) => {
            if one.is_some() {
                read.tell(Severity::Note, ONE, format!("{LIST} goes before it"));
            }
            (LIST, list)
        }
        (None, Some(one)) => (ONE, one),
        (None, None) if discovery => return Subnets::Tagged { cluster },
        (None, None) => return Subnets::Primary,
    };
    let mut ids: Vec<SubnetId> = Vec::new();
    for id in text.split(',').map(str::trim).filter(|id| !id.is_empty()) {
        let digits = id.strip_prefix("subnet-").unwrap_or_default();
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
            let text = format!("\"{}\" is not a subnet's id", id.escape_debug());
            read.tell(Severity::Refusal, name, text);
        } else if !ids.iter().any(|known| known.as_str() == id) {
            ids.push(SubnetId::from(id));
        }
    }
    if ids.is_empty() {
        Subnets::Primary
    } else {
        Subnets::Listed(ids)
    }
}

/// `None` if not set.
pub(super) fn security_groups(read: &mut Reader<'_>) -> Option<Vec<SecurityGroupId>> {
    let text = read.text("IPAMD_ENI_SECURITY_GROUPS")?;
    let ids = text.split(',').map(str::trim).filter(|id| !id.is_empty());
    Some(ids.map(SecurityGroupId::from).collect::<Vec<_>>()).filter(|ids| !ids.is_empty())
}

/// Keys that contain this are Amazon's own.
const RESERVED_TAG: &str = "k8s.amazonaws.com";

/// Unreadable JSON and reserved keys only warn, as in Amazon's CNI.
pub(super) fn eni_tags(read: &mut Reader<'_>) -> BTreeMap<String, String> {
    const NAME: &str = "ADDITIONAL_ENI_TAGS";
    let Some(text) = read.text(NAME) else {
        return BTreeMap::new();
    };
    let mut tags: BTreeMap<String, String> = match serde_json::from_str(&text) {
        Ok(tags) => tags,
        Err(error) => {
            let text = format!("is not a JSON object of strings ({error}); adding no tags");
            read.tell(Severity::Mistake, NAME, text);
            return BTreeMap::new();
        }
    };
    tags.retain(|key, _| {
        let reserved = key.contains(RESERVED_TAG);
        if reserved {
            let text = format!(
                "\"{}\" has {RESERVED_TAG} in it; leaving it out",
                key.escape_debug()
            );
            read.tell(Severity::Mistake, NAME, text);
        }
        !reserved
    });
    tags
}

/// `None`: no metrics. An address that can't be read is told, and the default's stands in for it.
pub(super) fn metrics_address(read: &mut Reader<'_>) -> Option<SocketAddr> {
    const NAME: &str = "IPAMD_METRICS_ADDRESS";
    let default = super::find(NAME).and_then(|knob| knob.default.parse().ok());
    let off = read.flag("DISABLE_METRICS");
    let text = read.text_or_default(NAME);
    let address = text.parse().ok().or_else(|| {
        let text = format!(
            "\"{}\" is not an address and port; using the default",
            text.escape_debug()
        );
        read.tell(Severity::Mistake, NAME, text);
        default
    });
    address.filter(|_| !off)
}
