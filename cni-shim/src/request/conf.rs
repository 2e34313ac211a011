//! The network configuration on stdin.

use super::{ValidAttachment, Verb, duration, valid};
use crate::error::{CniError, code};
use crate::trust::{Trust, Use};
use ipam_core::Mac;
use ipam_proto::tombstone::SPOOL_DIR;
use serde_json::{Map, Value};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the daemon listens unless `socket` says otherwise.
pub const SOCKET: &str = "/run/ipamd/ipamd.sock";

/// The spec versions that we speak, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// 0.3.0
    V0_3_0,
    /// 0.3.1: the same, in other words
    V0_3_1,
    /// 0.4.0: CHECK
    V0_4_0,
    /// 1.0.0: `ips` without `version`
    V1_0_0,
    /// 1.1.0: GC, STATUS; `mtu` of interfaces, `scope` of routes
    V1_1_0,
}

impl Version {
    /// All of them, oldest first.
    pub const ALL: [Self; 5] = [
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];
    /// What we answer with when nobody said.
    pub const LATEST: Self = Self::V1_1_0;

    /// As in `cniVersion`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version of this name, if we speak it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }
}

/// An interface of an earlier result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrevInterface {
    /// Its name.
    pub name: String,
    /// Its Ethernet address, if a real one was given.
    pub mac: Option<Mac>,
    /// Whether it is in a container (it has a `sandbox`).
    pub in_container: bool,
}

/// `prevResult`, as far as we use it. What can't be read is passed over: a DEL must go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PrevResult {
    /// `interfaces`
    pub interfaces: Vec<PrevInterface>,
    /// `ips[].address` without the prefix length
    pub addresses: Vec<IpAddr>,
    /// As it came, for a result that passes it on.
    pub raw: Map<String, Value>,
}

/// A file that takes lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The directory that it has to be below.
    pub dir: PathBuf,
    /// Its path from there.
    pub name: PathBuf,
}

/// The network configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conf {
    /// `cniVersion`
    pub version: Version,
    /// `name`
    pub name: String,
    /// `socket`: the daemon's, default [`SOCKET`]
    pub socket: String,
    /// `spoolDir`: where DELs wait for the daemon, default
    /// [`SPOOL_DIR`]
    pub spool_dir: String,
    /// `vethPrefix`; empty: the daemon's setting
    pub veth_prefix: String,
    /// `mtu`, a number or a text; 0: the daemon's setting
    pub mtu: u32,
    /// `addTimeout`, milliseconds or a Go duration; `None`: the daemon's setting
    pub add_timeout: Option<Duration>,
    /// `pluginLogFile`; `None`: stderr
    pub log_file: Option<LogFile>,
    /// `dns`, if there is anything in it (ADD only)
    pub dns: Option<Map<String, Value>>,
    /// `prevResult`
    pub prev_result: Option<PrevResult>,
    /// `cni.dev/valid-attachments`; `None`: the runtime gave no list (GC only)
    pub valid: Option<Vec<ValidAttachment>>,
}

/// A text; the others are lists of texts.
const DNS_DOMAIN: &str = "domain";
const DNS_KEYS: [&str; 4] = ["nameservers", DNS_DOMAIN, "search", "options"];

/// Reads fields and gathers what is wrong with them.
struct Fields<'a> {
    map: &'a Map<String, Value>,
    trust: &'a Trust,
    problems: Vec<String>,
}

impl Fields<'_> {
    /// A text; absent and `null` are the same.
    fn text(&mut self, key: &str) -> Option<String> {
        match self.map.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => {
                self.problems.push(format!("{key}: {other} is not a text"));
                None
            }
        }
    }

    /// A path that is allowed; the default one where none is given, or none that is good.
    fn path(&mut self, key: &str, of: Use, default: &str) -> String {
        let Some(path) = self.text(key).filter(|text| !text.is_empty()) else {
            return default.into();
        };
        let problem = if path.starts_with('/') {
            match self.trust.root(Path::new(&path), of) {
                Ok(_) => return path,
                Err(why) => why,
            }
        } else {
            format!("{path:?} is not an absolute path")
        };
        self.problems.push(format!("{key}: {problem}"));
        default.into()
    }

    /// A number, or a text that holds one, within 68 (RFC 791) and 65535.
    fn mtu(&mut self) -> u32 {
        let number = match self.map.get("mtu") {
            None | Some(Value::Null) => return 0,
            Some(Value::String(text)) if text.is_empty() => return 0,
            Some(Value::String(text)) => text.trim().parse().ok(),
            Some(other) => other.as_u64().and_then(|n| u32::try_from(n).ok()),
        };
        match number {
            Some(mtu) if mtu == 0 || (68..=65_535).contains(&mtu) => mtu,
            _ => {
                self.problems
                    .push(format!("mtu: {} is not 68 to 65535", self.map["mtu"]));
                0
            }
        }
    }

    fn add_timeout(&mut self) -> Option<Duration> {
        let value = self.map.get("addTimeout").filter(|v| !v.is_null())?;
        let timeout = match value {
            Value::String(text) => duration::parse(text),
            other => other
                .as_u64()
                .filter(|&ms| ms <= 86_400_000)
                .map(Duration::from_millis),
        };
        if timeout.is_none_or(|t| t.is_zero()) {
            let wanted = "milliseconds above 0 or a duration such as \"30s\"";
            self.problems
                .push(format!("addTimeout: {value} is not {wanted}"));
        }
        timeout
    }

    /// Resolver settings for the result (CNI spec 1.1.0, section 1, "dns").
    fn dns(&mut self) -> Option<Map<String, Value>> {
        let said = match self.map.get("dns") {
            None | Some(Value::Null) => return None,
            Some(Value::Object(said)) => said,
            Some(other) => {
                self.problems.push(format!("dns: {other} is not an object"));
                return None;
            }
        };
        let mut dns = Map::new();
        for key in DNS_KEYS {
            let is_good = |value: &Value| match value {
                Value::Array(list) => key != DNS_DOMAIN && list.iter().all(Value::is_string),
                value => key == DNS_DOMAIN && value.is_string(),
            };
            match said.get(key) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) if text.is_empty() && key == DNS_DOMAIN => {}
                Some(Value::Array(list)) if list.is_empty() => {}
                Some(value) if is_good(value) => drop(dns.insert(key.into(), value.clone())),
                Some(other) => {
                    let wanted = if key == DNS_DOMAIN {
                        "a text"
                    } else {
                        "a list of texts"
                    };
                    self.problems
                        .push(format!("dns.{key}: {other} is not {wanted}"));
                }
            }
        }
        Some(dns).filter(|dns| !dns.is_empty())
    }

    /// The prefix and 11 characters make an interface's name of at most 15.
    fn veth_prefix(&mut self) -> String {
        let Some(prefix) = self.text("vethPrefix") else {
            return String::new();
        };
        let plain = prefix
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if prefix.len() > 4 || !plain {
            self.problems.push(format!(
                "vethPrefix: {prefix:?} is not up to 4 letters or digits"
            ));
        } else if ["eth", "vlan", "lo"].contains(&prefix.as_str()) {
            self.problems.push(format!(
                "vethPrefix: {prefix:?} is used by other interfaces"
            ));
        }
        prefix
    }
}

/// The spec's alphabet of network names and container ids (1.1.0, sections 1 and 2).
pub(super) fn is_identifier(text: &str) -> bool {
    let rest = |b: u8| b.is_ascii_alphanumeric() || b"_.-".contains(&b);
    text.starts_with(|c: char| c.is_ascii_alphanumeric()) && text.bytes().all(rest)
}

impl Conf {
    /// Reads the configuration of a command. DEL and GC ask for less than an ADD: they must be able to clean
    /// up after a configuration that is no longer good (CNI spec 1.1.0, section 2, DEL), and take the
    /// default where a field is not.
    ///
    /// # Errors
    /// One of the codes 1, 2 and 7, with all that is wrong.
    pub(super) fn parse(
        map: &Map<String, Value>,
        verb: Verb,
        trust: &Trust,
    ) -> Result<Self, CniError> {
        let version = version(map, verb)?;
        let cleans_up = matches!(verb, Verb::Del | Verb::Gc);
        let ipam = map.get("ipam").filter(|_| !cleans_up);
        if let Some(kind) = ipam.and_then(|ipam| ipam.get("type")) {
            let msg = format!("unsupported field ipam.type: {kind}; ipamd manages the addresses");
            return Err(CniError::new(code::UNSUPPORTED_FIELD, msg));
        }
        let mut fields = Fields {
            map,
            trust,
            problems: Vec::new(),
        };
        let socket = fields.path("socket", Use::Socket, SOCKET);
        let spool_dir = fields.path("spoolDir", Use::Spool, SPOOL_DIR);
        if cleans_up {
            fields.problems.clear();
        }
        let name = fields.text("name").unwrap_or_default();
        if name.is_empty() {
            fields.problems.push("name: missing".into());
        } else if !is_identifier(&name) {
            fields.problems.push(format!(
                "name: {name:?} is not letters, digits and _.- only"
            ));
        }
        let mut conf = Self {
            version,
            name,
            socket,
            spool_dir,
            veth_prefix: String::new(),
            mtu: 0,
            add_timeout: None,
            log_file: log_file(map, trust),
            dns: None,
            prev_result: prev_result(map),
            valid: None,
        };
        if verb == Verb::Add {
            conf.veth_prefix = fields.veth_prefix();
            conf.add_timeout = fields.add_timeout();
            conf.dns = fields.dns();
        }
        if matches!(verb, Verb::Add | Verb::Check) {
            conf.mtu = fields.mtu();
        }
        if verb == Verb::Gc {
            conf.valid = valid::read(map, &mut fields.problems);
        }
        if verb == Verb::Check && conf.prev_result.is_none() {
            fields
                .problems
                .push("prevResult: missing, and CHECK needs it".into());
        }
        if fields.problems.is_empty() {
            return Ok(conf);
        }
        let msg = format!("network configuration: {}", fields.problems.join("; "));
        Err(CniError::new(code::INVALID_CONFIG, msg))
    }
}

pub(super) fn object(text: &[u8]) -> Result<Map<String, Value>, CniError> {
    let failed = |why: String| {
        CniError::new(
            code::DECODING_FAILURE,
            format!("network configuration on stdin: {why}"),
        )
    };
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(failed("nothing is there".into()));
    }
    match serde_json::from_slice(text) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) => Err(failed("not a JSON object".into())),
        Err(error) => Err(failed(format!("not JSON: {error}"))),
    }
}

fn version(map: &Map<String, Value>, verb: Verb) -> Result<Version, CniError> {
    let refuse = |msg: String| Err(CniError::new(code::INCOMPATIBLE_VERSION, msg));
    let ours = Version::ALL.map(Version::as_str).join(", ");
    let Some(said) = map.get("cniVersion").filter(|v| !v.is_null()) else {
        // The spec's reading of a missing version is 0.1.0.
        return refuse(format!("cniVersion is missing; this plugin speaks {ours}"));
    };
    let Some(version) = said.as_str().and_then(Version::parse) else {
        return refuse(format!(
            "cniVersion {said} is not spoken here; this plugin speaks {ours}"
        ));
    };
    let since = verb.since();
    if version < since {
        let (verb, since, version) = (verb.as_str(), since.as_str(), version.as_str());
        return refuse(format!(
            "{verb} came with CNI {since}; the configuration says {version}"
        ));
    }
    Ok(version)
}

/// Never a reason to fail: lines go to stderr instead.
fn log_file(map: &Map<String, Value>, trust: &Trust) -> Option<LogFile> {
    let path = Path::new(
        map.get("pluginLogFile")?
            .as_str()
            .filter(|path| *path != "stderr")?,
    );
    let dir = trust.root(path, Use::Log).ok()?;
    let name = path.strip_prefix(&dir).ok()?.to_owned();
    Some(LogFile { dir, name })
}

fn prev_result(map: &Map<String, Value>) -> Option<PrevResult> {
    let raw = map.get("prevResult")?.as_object()?;
    let list = |key: &str| raw.get(key).and_then(Value::as_array).into_iter().flatten();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(String::from);
    let interfaces = list("interfaces").filter_map(|interface| {
        Some(PrevInterface {
            name: text(interface, "name")?,
            mac: text(interface, "mac").and_then(|mac| mac.parse().ok()),
            in_container: text(interface, "sandbox").is_some_and(|s| !s.is_empty()),
        })
    });
    let address = |ip: &Value| text(ip, "address")?.split('/').next()?.parse().ok();
    Some(PrevResult {
        interfaces: interfaces.collect(),
        addresses: list("ips").filter_map(address).collect(),
        raw: raw.clone(),
    })
}
