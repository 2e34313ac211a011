//! Messages to and from core's types. Towards the wire every value fits; from the wire each field is
//! parsed, and the first that doesn't fit is named by its path.

use crate::v1;
use core::net::IpAddr;
use ipam_core::wiring::{
    Neighbour, PodWiring, Route, Rule, Scope, Sysctl, WIRING_LOCAL, WIRING_VERSION,
};
use ipam_core::{AttachmentKey, Mac, PodRef};
use ipnet::IpNet;
use std::str::FromStr;

/// A message that core's types can't hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field {field}: {problem}")]
pub struct ConvertError {
    /// Path of the field in its message, e.g. `pod_routes[1].dst`.
    pub field: String,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A required field is not there.
    #[error("missing")]
    Missing,
    /// The text is not what the field holds.
    #[error("{text:?} is not {wanted}")]
    Text {
        /// As received.
        text: String,
        /// What was expected there.
        wanted: &'static str,
    },
    /// More bytes than a name can have.
    #[error("{length} bytes, where at most {NAME_MAX} are taken")]
    Long {
        /// Bytes that came.
        length: usize,
    },
    /// A character that no name has, and that would begin another line in a log.
    #[error("has a control character in it")]
    Control,
    /// A wiring of a version that this program does not know: steps that it can't see may be
    /// required, since protobuf drops unknown fields.
    #[error("wiring version {0} is unknown here (known: 1 to {WIRING_VERSION})")]
    Version(u32),
    /// Two repeated fields that belong together differ in length.
    #[error("{0} entries where {1} belong")]
    Count(usize, usize),
}

impl ConvertError {
    fn new(field: impl Into<String>, problem: Problem) -> Self {
        Self {
            field: field.into(),
            problem,
        }
    }

    fn within(mut self, outer: &str) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

fn parse<T: FromStr>(field: &str, text: &str, wanted: &'static str) -> Result<T, ConvertError> {
    match text.parse() {
        Ok(value) => Ok(value),
        Err(_) if text.is_empty() => Err(ConvertError::new(field, Problem::Missing)),
        Err(_) => Err(ConvertError::new(
            field,
            Problem::Text {
                text: text.into(),
                wanted,
            },
        )),
    }
}

/// An empty text is the protocol's "none".
fn parse_opt<T: FromStr>(
    field: &str,
    text: &str,
    wanted: &'static str,
) -> Result<Option<T>, ConvertError> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse(field, text, wanted).map(Some)
    }
}

fn text_of<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(String::new, |v| v.to_string())
}

/// The longest name that is taken, bytes: a Kubernetes name has at most 253 (RFC 1123 subdomain), a
/// container id of containerd and CRI-O 64, a file name 255.
pub const NAME_MAX: usize = 255;

fn name(field: &str, text: String) -> Result<String, ConvertError> {
    if text.is_empty() {
        return Err(ConvertError::new(field, Problem::Missing));
    }
    plain(field, &text).map(|()| text)
}

/// A text that can be kept, and shown to people in one line.
fn plain(field: &str, text: &str) -> Result<(), ConvertError> {
    let problem = if text.len() > NAME_MAX {
        Problem::Long { length: text.len() }
    } else if text.contains(char::is_control) {
        Problem::Control
    } else {
        return Ok(());
    };
    Err(ConvertError::new(field, problem))
}

/// The pod's names in a request.
///
/// # Errors
/// One of them is longer than [`NAME_MAX`], or has a control character in it.
pub fn pod(pod: v1::Pod) -> Result<PodRef, ConvertError> {
    plain("pod.namespace", &pod.namespace)?;
    plain("pod.name", &pod.name)?;
    plain("pod.uid", &pod.uid)?;
    Ok(pod.into())
}

/// Converts each of `items`, and says which one it was that didn't fit.
fn each<M, T: TryFrom<M, Error = ConvertError>>(
    field: &str,
    items: Vec<M>,
) -> Result<Vec<T>, ConvertError> {
    let numbered = items.into_iter().enumerate();
    numbered
        .map(|(n, item)| T::try_from(item).map_err(|e| e.within(&format!("{field}[{n}]"))))
        .collect()
}

fn parse_each<T: FromStr>(
    field: &str,
    items: &[String],
    wanted: &'static str,
) -> Result<Vec<T>, ConvertError> {
    let numbered = items.iter().enumerate();
    numbered
        .map(|(n, text)| parse(&format!("{field}[{n}]"), text, wanted))
        .collect()
}

const MAC: &str = "an Ethernet address";
const ADDRESS: &str = "an IP address";
const NETWORK: &str = "a network in CIDR notation";

/// Addresses in a message, such as [`v1::ReleaseRequest::addresses`].
///
/// # Errors
/// The first text that is no address, under the name `field`.
pub fn addresses(field: &str, items: &[String]) -> Result<Vec<IpAddr>, ConvertError> {
    parse_each(field, items, ADDRESS)
}

impl From<AttachmentKey> for v1::Key {
    fn from(key: AttachmentKey) -> Self {
        Self {
            network: key.network,
            container_id: key.container_id,
            if_name: key.if_name,
        }
    }
}

impl TryFrom<v1::Key> for AttachmentKey {
    type Error = ConvertError;
    fn try_from(key: v1::Key) -> Result<Self, ConvertError> {
        Ok(Self {
            network: name("network", key.network)?,
            container_id: name("container_id", key.container_id)?,
            if_name: name("if_name", key.if_name)?,
        })
    }
}

impl From<PodRef> for v1::Pod {
    fn from(pod: PodRef) -> Self {
        Self {
            namespace: pod.namespace,
            name: pod.name,
            uid: pod.uid,
        }
    }
}

impl From<v1::Pod> for PodRef {
    fn from(pod: v1::Pod) -> Self {
        Self {
            namespace: pod.namespace,
            name: pod.name,
            uid: pod.uid,
        }
    }
}

impl From<Sysctl> for v1::Sysctl {
    fn from(s: Sysctl) -> Self {
        Self {
            key: s.key,
            value: s.value,
            required: s.required,
        }
    }
}

impl From<v1::Sysctl> for Sysctl {
    fn from(s: v1::Sysctl) -> Self {
        Self {
            key: s.key,
            value: s.value,
            required: s.required,
        }
    }
}

impl From<Route> for v1::Route {
    fn from(r: Route) -> Self {
        Self {
            dst: r.dst.to_string(),
            via: text_of(r.via),
            dev: r.dev,
            on_link: r.scope == Scope::Link,
            table: r.table,
        }
    }
}

impl TryFrom<v1::Route> for Route {
    type Error = ConvertError;
    fn try_from(r: v1::Route) -> Result<Self, ConvertError> {
        Ok(Self {
            dst: parse("dst", &r.dst, NETWORK)?,
            via: parse_opt("via", &r.via, ADDRESS)?,
            dev: name("dev", r.dev)?,
            scope: if r.on_link {
                Scope::Link
            } else {
                Scope::Global
            },
            table: r.table,
        })
    }
}

impl From<Neighbour> for v1::Neighbour {
    fn from(n: Neighbour) -> Self {
        Self {
            dev: n.dev,
            ip: n.ip.to_string(),
            mac: n.mac.to_string(),
        }
    }
}

impl TryFrom<v1::Neighbour> for Neighbour {
    type Error = ConvertError;
    fn try_from(n: v1::Neighbour) -> Result<Self, ConvertError> {
        Ok(Self {
            dev: name("dev", n.dev)?,
            ip: parse("ip", &n.ip, ADDRESS)?,
            mac: parse("mac", &n.mac, MAC)?,
        })
    }
}

impl From<Rule> for v1::Rule {
    fn from(r: Rule) -> Self {
        Self {
            priority: r.priority,
            v6: r.v6,
            from: text_of(r.from),
            to: text_of(r.to),
            fwmark: r.fwmark.map(|(mark, _)| mark),
            fwmask: r.fwmark.map_or(0, |(_, mask)| mask),
            table: r.table,
            suppress_prefix_len: r.suppress_prefix_len,
        }
    }
}

impl TryFrom<v1::Rule> for Rule {
    type Error = ConvertError;
    fn try_from(r: v1::Rule) -> Result<Self, ConvertError> {
        Ok(Self {
            priority: r.priority,
            v6: r.v6,
            from: parse_opt("from", &r.from, NETWORK)?,
            to: parse_opt("to", &r.to, NETWORK)?,
            fwmark: r.fwmark.map(|mark| (mark, r.fwmask)),
            table: r.table,
            suppress_prefix_len: r.suppress_prefix_len,
        })
    }
}

fn all<T, M: From<T>>(items: Vec<T>) -> Vec<M> {
    items.into_iter().map(M::from).collect()
}

fn texts<T: ToString>(items: &[T]) -> Vec<String> {
    items.iter().map(T::to_string).collect()
}

impl From<PodWiring> for v1::PodWiring {
    fn from(w: PodWiring) -> Self {
        Self {
            version: w.version,
            host_if: w.host_if,
            host_mac: w.host_mac.to_string(),
            pod_if: w.pod_if,
            pod_mac: w.pod_mac.to_string(),
            mtu: w.mtu,
            host_sysctls: all(w.host_sysctls),
            pod_sysctls: all(w.pod_sysctls),
            pod_addresses: texts(&w.pod_addresses),
            pod_routes: all(w.pod_routes),
            pod_rules: all(w.pod_rules),
            pod_neighbours: all(w.pod_neighbours),
            host_routes: all(w.host_routes),
            host_rules: all(w.host_rules),
            gateways: texts(&w.gateways),
            host_neighbours: all(w.host_neighbours),
        }
    }
}

/// Refuses a version that [`WIRING_VERSION`] does not cover: this is where a plugin that is older
/// than its daemon stops.
impl TryFrom<v1::PodWiring> for PodWiring {
    type Error = ConvertError;
    fn try_from(w: v1::PodWiring) -> Result<Self, ConvertError> {
        if w.version == 0 || w.version > WIRING_VERSION {
            return Err(ConvertError::new("version", Problem::Version(w.version)));
        }
        let (gateways, addresses_told) = (w.gateways.len(), w.pod_addresses.len());
        let fewer = w.version >= WIRING_LOCAL && gateways < addresses_told;
        if gateways != addresses_told && !fewer {
            let problem = Problem::Count(gateways, addresses_told);
            return Err(ConvertError::new("gateways", problem));
        }
        Ok(Self {
            version: w.version,
            host_if: name("host_if", w.host_if)?,
            host_mac: parse::<Mac>("host_mac", &w.host_mac, MAC)?,
            pod_if: name("pod_if", w.pod_if)?,
            pod_mac: parse::<Mac>("pod_mac", &w.pod_mac, MAC)?,
            mtu: w.mtu,
            host_sysctls: all(w.host_sysctls),
            pod_sysctls: all(w.pod_sysctls),
            pod_addresses: parse_each::<IpNet>("pod_addresses", &w.pod_addresses, NETWORK)?,
            pod_routes: each("pod_routes", w.pod_routes)?,
            pod_rules: each("pod_rules", w.pod_rules)?,
            pod_neighbours: each("pod_neighbours", w.pod_neighbours)?,
            host_routes: each("host_routes", w.host_routes)?,
            host_rules: each("host_rules", w.host_rules)?,
            gateways: addresses("gateways", &w.gateways)?,
            host_neighbours: each("host_neighbours", w.host_neighbours)?,
        })
    }
}
