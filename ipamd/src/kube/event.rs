//! From a notice to Kubernetes Events (API group core, version v1, kind Event).

use aws_sdk_ec2::primitives::{DateTime, DateTimeFormat};
use ipam_core::{PodRef, Timestamp};
use ipam_engine::{Notice, Severity, Told};
use serde_json::{Value, json};

/// The API server takes 1,024 bytes.
const MESSAGE_MAX: usize = 1000;
/// Pods of one notice that get an event of their own.
const PODS_MAX: usize = 16;
/// Events about nodes are in this namespace (Kubernetes API, Event, `metadata.namespace`).
const NODE_NAMESPACE: &str = "default";

/// One event to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// The same for the same news about the same object.
    pub(super) key: String,
    /// The pod, or the node if there is none.
    pod: Option<PodRef>,
    node: String,
    reason: String,
    message: String,
    at: Timestamp,
    /// How often it happened since the last time.
    count: u32,
}

/// An event that the API server has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    namespace: String,
    name: String,
    count: u32,
}

/// The events of a notice: one on the node, and one on each pod that it is about.
pub(super) fn events(told: &Told, node: &str) -> Vec<Event> {
    let notice = &told.notice;
    if notice.severity() == Severity::Info {
        return Vec::new();
    }
    let (label, what) = notice.key();
    let event = |pod: Option<PodRef>, reason: String, message: &str| Event {
        key: format!(
            "{label} {what} {}",
            pod.as_ref().map_or_else(String::new, |p| format!(
                "{}/{} {}",
                p.namespace, p.name, p.uid
            ))
        ),
        pod,
        node: node.into(),
        reason,
        message: message.chars().take(MESSAGE_MAX).collect(),
        at: told.at,
        count: told.repeats.saturating_add(1),
    };
    let mut events = vec![event(None, reason(notice), &notice.to_string())];
    for lost in notice
        .pods()
        .iter()
        .filter(|lost| plain(&lost.pod.name) && plain(&lost.pod.namespace))
        .take(PODS_MAX)
    {
        let message = format!(
            "The pod's address {} was taken away in EC2 ({label}: {what}): it has no network any \
             more and must be replaced",
            lost.address
        );
        events.push(event(
            Some(lost.pod.clone()),
            "AddressLost".into(),
            &message,
        ));
    }
    events
}

/// A name as Kubernetes has them (RFC 1123): the runtime told it, and it becomes part of a path.
fn plain(name: &str) -> bool {
    let fit = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'.';
    let dots = name.split('.').any(str::is_empty);
    !name.is_empty() && name.len() <= 253 && !dots && name.bytes().all(fit)
}

/// As events spell their reasons; a missing permission has the one that Amazon's CNI uses.
fn reason(notice: &Notice) -> String {
    let label = notice.label();
    if label == "unauthorized" {
        return "MissingIAMPermissions".into();
    }
    let words = label.split('_').map(|word| {
        let mut chars = word.chars();
        let first = chars.next().map(|c| c.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    });
    words.collect()
}

fn time(at: Timestamp) -> String {
    let at = DateTime::from_secs(i64::try_from(at.0 / 1000).unwrap_or(0));
    at.fmt(DateTimeFormat::DateTime).unwrap_or_default()
}

impl Event {
    fn object(&self) -> Value {
        match &self.pod {
            Some(pod) => json!({
                "apiVersion": "v1", "kind": "Pod",
                "namespace": pod.namespace, "name": pod.name, "uid": pod.uid,
            }),
            // The kubelet's own events on its node have its name for a uid, too.
            None => json!({
                "apiVersion": "v1", "kind": "Node", "name": self.node, "uid": self.node,
            }),
        }
    }

    /// The event as it is made.
    pub(super) fn body(&self, known: &Known) -> Value {
        let at = time(self.at);
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"namespace": known.namespace, "name": known.name},
            "involvedObject": self.object(),
            "type": "Warning",
            "reason": self.reason,
            "message": self.message,
            "source": {"component": "ipamd", "host": self.node},
            "reportingComponent": "ipamd",
            "reportingInstance": self.node,
            "firstTimestamp": at,
            "lastTimestamp": at,
            "count": known.count,
        })
    }
}

impl Known {
    pub(super) fn new(event: &Event) -> Self {
        let (namespace, object) = match &event.pod {
            Some(pod) => (pod.namespace.as_str(), pod.name.as_str()),
            None => (NODE_NAMESPACE, event.node.as_str()),
        };
        // Two kinds of news about one object at one time must have two names.
        let hash = crc32fast::hash(event.key.as_bytes());
        let object: String = object.chars().take(200).collect();
        Self {
            namespace: namespace.into(),
            name: format!("{object}.{:x}{hash:08x}", event.at.0),
            count: event.count,
        }
    }

    /// The same, once more.
    pub(super) fn again(&self, event: &Event) -> Self {
        Self {
            count: self.count.saturating_add(event.count),
            ..self.clone()
        }
    }

    pub(super) fn collection(&self) -> String {
        format!("/api/v1/namespaces/{}/events", self.namespace)
    }

    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.collection(), self.name)
    }

    /// What counting up changes (JSON merge patch, RFC 7386).
    pub(super) fn patch(&self, event: &Event) -> Value {
        json!({
            "count": self.count,
            "lastTimestamp": time(event.at),
            "message": event.message,
        })
    }
}
