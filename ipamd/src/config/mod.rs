//! The daemon's settings: the only reader of the environment.
//!
//! Everything is parsed once, at start, into plain values; every mistake is reported at once. Names
//! and spellings are those of Amazon's VPC CNI: what it accepts is accepted, so that a cluster's
//! settings carry over when only the image changes. (The AWS SDK reads the settings that all SDKs
//! share by itself.)

mod cluster;
mod families;
mod finding;
mod in_force;
mod lists;
mod mark;
mod misspelt;
mod read;
mod rows;
mod source;
mod table;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub use finding::{Finding, Severity};
pub use in_force::InForce;
pub use source::{NotText, ProcessEnv, Source};
pub use table::{Kind, Knob, Status, all, find, markdown};

use crate::conflist;
use crate::kube;
use ipam_core::Family;
use ipam_core::plan::{Policy, Subnets};
use ipam_engine::settings::{OrphanScope, Settings};
use read::Reader;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The most that any time limit in milliseconds may be.
const LONGEST_MS: u32 = 600_000;

/// How the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// What is logged: this and worse.
    pub level: tracing::Level,
    /// One JSON object a line instead of text.
    pub json: bool,
}

/// How the source ports of translated connections are chosen (`AWS_VPC_K8S_CNI_RANDOMIZESNAT`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnatPorts {
    /// `prng`: at random.
    FullyRandom,
    /// `hashrandom`: by a seeded hash of source and destination.
    Random,
    /// `none`: kept if free.
    Kept,
}

/// Settings of the EC2 adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ec2 {
    /// EC2's address by `AWS_EC2_ENDPOINT`; the SDK's own settings go first.
    pub endpoint: Option<String>,
    /// Time limit of one call.
    pub timeout: Duration,
    /// `CLUSTER_NAME`.
    pub cluster: Option<String>,
    /// More tags for new ENIs.
    pub tags: BTreeMap<String, String>,
    /// Whether ENIs without this node's tag are used.
    pub manage_untagged: bool,
}

/// Settings of the HTTP client under the SDK.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Http {
    /// Proxy for `http` addresses.
    pub http_proxy: Option<String>,
    /// Proxy for `https` addresses.
    pub https_proxy: Option<String>,
    /// What is reached without a proxy.
    pub no_proxy: Option<String>,
    /// Trusted certificates, instead of the system's.
    pub ca_bundle: Option<PathBuf>,
}

/// Settings of the kernel adapter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The `nft` program.
    pub nft: PathBuf,
    /// How host ends of pods' links begin.
    pub veth_prefix: String,
    /// Answers to what came to the node's own address leave by the primary ENI.
    pub node_port: bool,
    /// How translated source ports are chosen.
    pub snat_ports: SnatPorts,
    /// Pods may send from their own addresses alone.
    pub source_check: bool,
}

/// All settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// The engine's.
    pub engine: Settings,
    /// The EC2 adapter's.
    pub ec2: Ec2,
    /// The HTTP client's.
    pub http: Http,
    /// The kernel adapter's.
    pub host: Host,
    /// The log's.
    pub log: Log,
    /// The cluster's, for events.
    pub kube: kube::Settings,
    /// Where metrics are served, if they are.
    pub metrics: Option<SocketAddr>,
    /// Where the state is.
    pub state_dir: PathBuf,
    /// The socket.
    pub socket: PathBuf,
    /// Instead of the kernel's boot id.
    pub boot_id: Option<String>,
    /// Time limit of one look at IMDS.
    pub imds_timeout: Duration,
    /// The network configuration for the runtime.
    pub conflist: conflist::Settings,
    /// Where the reason for not starting goes.
    pub termination_log: PathBuf,
}

/// Settings, and what is to be said about them. They may be used only if nothing is a
/// [`Severity::Refusal`].
#[derive(Debug)]
pub struct Loaded {
    /// The settings, with defaults where a value can't be used.
    pub config: Config,
    /// In the order in which they were found.
    pub findings: Vec<Finding>,
    /// What each setting that has an effect comes to, if nothing is wrong with any.
    pub in_force: Vec<InForce>,
}

impl Loaded {
    /// Findings at least this bad.
    pub fn at_least(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.severity >= severity)
    }
}

impl Config {
    /// Reads all settings.
    #[must_use]
    pub fn load(source: &dyn Source) -> Loaded {
        let mut read = Reader::new(source);
        let config = Self {
            engine: engine(&mut read),
            ec2: ec2(&mut read),
            http: http(&mut read),
            host: host(&mut read),
            log: log(&mut read),
            kube: cluster::settings(&mut read),
            metrics: lists::metrics_address(&mut read),
            state_dir: read.text_or_default("IPAMD_STATE_DIR").into(),
            socket: read.text_or_default("IPAMD_SOCKET").into(),
            boot_id: read.text("IPAMD_BOOT_ID"),
            imds_timeout: millis(read.number("IPAMD_IMDS_TIMEOUT_MS", 100..=LONGEST_MS), 5000),
            conflist: cluster::conflist(&mut read),
            termination_log: read.text_or_default("IPAMD_TERMINATION_LOG").into(),
        };
        read.check_unheeded();
        misspelt::check(&mut read);
        Loaded {
            config,
            findings: read.findings,
            in_force: in_force::all(source),
        }
    }
}

fn millis(value: Option<u32>, default: u32) -> Duration {
    Duration::from_millis(value.unwrap_or(default).into())
}

fn engine(read: &mut Reader<'_>) -> Settings {
    let families = families::families(read);
    let mtus = families::smallest_mtu(&families)..=9001;
    let eni_mtu = read
        .strict_number("AWS_VPC_ENI_MTU", mtus.clone())
        .unwrap_or(9001);
    let has_v4 = families.contains(&Family::V4);
    Settings {
        egress: families::egress(read, &families),
        metadata_every: Duration::from_secs(21),
        policy: policy(read, families),
        veth_prefix: lists::veth_prefix(read),
        eni_mtu,
        pod_mtu: read.strict_number("POD_MTU", mtus).unwrap_or(eni_mtu),
        snat: !read.flag("AWS_VPC_K8S_CNI_EXTERNALSNAT"),
        snat_exclude: lists::v4_nets(read, "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS"),
        mark: mark::connmark(read),
        services: lists::services(read),
        add_timeout: millis(read.number("IPAMD_ADD_TIMEOUT_MS", 1..=LONGEST_MS), 30_000),
        security_groups: lists::security_groups(read),
        provisioning: !read.flag("DISABLE_NETWORK_RESOURCE_PROVISIONING"),
        orphans: match (
            read.flag("DISABLE_LEAKED_ENI_CLEANUP"),
            read.text("CLUSTER_NAME"),
        ) {
            // IPv6 alone makes no ENI, and its IAM policy has no right to delete any.
            _ if !has_v4 => OrphanScope::Off,
            (true, _) => OrphanScope::Off,
            (false, None) => OrphanScope::Instance,
            (false, Some(_)) => OrphanScope::Cluster,
        },
    }
}

fn policy(read: &mut Reader<'_>, families: Vec<Family>) -> Policy {
    let any = 0..=u32::MAX;
    let subnets = lists::subnets(read);
    let policy = Policy {
        // The IPv6 prefix is on the primary ENI: there is nothing to choose.
        subnets: if families.contains(&Family::V4) {
            subnets
        } else {
            Subnets::Primary
        },
        families,
        prefixes: read.flag("ENABLE_PREFIX_DELEGATION"),
        warm_eni: read.number("WARM_ENI_TARGET", any.clone()).unwrap_or(1),
        warm_ip: read
            .number("WARM_IP_TARGET", any.clone())
            .filter(|n| *n > 0),
        minimum_ip: read
            .number("MINIMUM_IP_TARGET", any.clone())
            .filter(|n| *n > 0),
        warm_prefix: read.number("WARM_PREFIX_TARGET", any.clone()).unwrap_or(1),
        max_eni: read.number("MAX_ENI", 1..=u32::MAX),
        max_pods: read.number("IPAMD_MAX_PODS", 1..=u32::MAX),
        cooldown: Duration::from_secs(
            read.strict_number("IP_COOLDOWN_PERIOD", any)
                .unwrap_or(30)
                .into(),
        ),
    };
    if policy.prefixes
        && policy.wants(Family::V4)
        && policy.warm_prefix == 0
        && policy.warm_ip.is_none()
        && policy.minimum_ip.is_none()
    {
        read.tell(
            Severity::Refusal,
            "ENABLE_PREFIX_DELEGATION, WARM_PREFIX_TARGET, WARM_IP_TARGET, MINIMUM_IP_TARGET",
            "prefix delegation needs one of the three targets to be more than 0",
        );
    }
    policy
}

fn ec2(read: &mut Reader<'_>) -> Ec2 {
    let seconds = read.number("HTTP_TIMEOUT", 10..=600).unwrap_or(10);
    // The SDK reads its own settings; what is set here would go before them.
    let has_sdk_endpoint = read.text("AWS_ENDPOINT_URL_EC2").is_some();
    Ec2 {
        endpoint: read.text("AWS_EC2_ENDPOINT").filter(|_| !has_sdk_endpoint),
        timeout: millis(
            read.number("IPAMD_EC2_TIMEOUT_MS", 100..=LONGEST_MS),
            seconds * 1000,
        ),
        cluster: read.text("CLUSTER_NAME"),
        tags: lists::eni_tags(read),
        manage_untagged: read.flag("MANAGE_UNTAGGED_ENI"),
    }
}

/// Upper and lower case, as curl and Go do.
fn either(read: &mut Reader<'_>, name: &str) -> Option<String> {
    read.text(name)
        .or_else(|| read.text(&name.to_ascii_lowercase()))
}

fn http(read: &mut Reader<'_>) -> Http {
    let all = either(read, "ALL_PROXY");
    Http {
        http_proxy: either(read, "HTTP_PROXY").or_else(|| all.clone()),
        https_proxy: either(read, "HTTPS_PROXY").or(all),
        no_proxy: either(read, "NO_PROXY"),
        ca_bundle: read.text("AWS_CA_BUNDLE").map(PathBuf::from),
    }
}

fn host(read: &mut Reader<'_>) -> Host {
    Host {
        nft: read.text_or_default("IPAMD_NFT").into(),
        veth_prefix: lists::veth_prefix(&mut Reader::new(read.source())),
        node_port: read.flag("AWS_VPC_CNI_NODE_PORT_SUPPORT"),
        snat_ports: match read
            .word(
                "AWS_VPC_K8S_CNI_RANDOMIZESNAT",
                &["prng", "hashrandom", "none"],
            )
            .as_str()
        {
            "hashrandom" => SnatPorts::Random,
            "none" => SnatPorts::Kept,
            _ => SnatPorts::FullyRandom,
        },
        source_check: read.flag("IPAMD_SOURCE_CHECK"),
    }
}

fn log(read: &mut Reader<'_>) -> Log {
    let words = ["DEBUG", "INFO", "WARN", "ERROR", "FATAL", "TRACE"];
    Log {
        level: match read.word("AWS_VPC_K8S_CNI_LOGLEVEL", &words).as_str() {
            "TRACE" => tracing::Level::TRACE,
            "DEBUG" => tracing::Level::DEBUG,
            "WARN" => tracing::Level::WARN,
            "ERROR" | "FATAL" => tracing::Level::ERROR,
            _ => tracing::Level::INFO,
        },
        json: read.word("IPAMD_LOG_FORMAT", &["text", "json"]) == "json",
    }
}
