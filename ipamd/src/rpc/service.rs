//! The service `ipamd.v1.Ipam`.

use super::Node;
use crate::metrics::Metrics;
use ipam_core::{AttachmentKey, Mac};
use ipam_engine::{Allocate, Collect, Handle, Origin, Refusal, RefusalKind, Release};
use ipam_proto::v1::ipam_server::Ipam;
use ipam_proto::{ConvertError, NAME_MAX, addresses, pod, v1};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tonic::{Request, Response, Status};

/// CNI error codes (CNI specification 1.1.0, "Error").
mod code {
    pub(super) const BAD_ENVIRONMENT: u32 = 4;
    pub(super) const IO: u32 = 5;
    pub(super) const BAD_NETWORK_CONFIG: u32 = 7;
    pub(super) const TRY_AGAIN: u32 = 11;
    pub(super) const NOT_AVAILABLE: u32 = 50;
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Service {
    engine: Handle,
    metrics: Arc<Metrics>,
    node: Arc<dyn Node>,
}

impl Service {
    pub(super) const fn new(engine: Handle, metrics: Arc<Metrics>, node: Arc<dyn Node>) -> Self {
        Self {
            engine,
            metrics,
            node,
        }
    }

    /// What CHECK is told of the node: pods' packets need it as they need their own routes.
    async fn node_lacks(&self) -> Vec<String> {
        let looked = tokio::time::timeout(LOOK, self.node.lacking()).await;
        looked.unwrap_or_else(|_| vec!["looking at it takes too long".into()])
    }

    /// Without a look nothing is judged by it.
    async fn pods_links(&self) -> BTreeMap<String, Mac> {
        let looked = tokio::time::timeout(LOOK, self.node.pods_links()).await;
        looked.unwrap_or_default()
    }
}

/// A wiring that is being made has no word on the last one.
const GLANCE: Duration = Duration::from_millis(500);
/// The plugin waits 10 s for an answer.
const LOOK: Duration = Duration::from_secs(5);

fn key(key: Option<v1::Key>) -> Result<AttachmentKey, v1::Refusal> {
    let key = key.ok_or_else(|| bad_request("field key: missing"))?;
    AttachmentKey::try_from(key).map_err(|error| unreadable(&error))
}

fn bad_request(message: impl Into<String>) -> v1::Refusal {
    v1::Refusal {
        cni_code: code::BAD_ENVIRONMENT,
        message: message.into(),
        details: String::new(),
        cause: "bad_request".into(),
    }
}

fn unreadable(error: &ConvertError) -> v1::Refusal {
    bad_request(error.to_string())
}

/// A call that is not served: refused in words, or by a daemon that stops. The plugin takes the latter
/// as it takes a daemon that is away, and asks the next one.
enum Unserved {
    Refused(v1::Refusal),
    Stopping(Status),
}

impl From<v1::Refusal> for Unserved {
    fn from(refusal: v1::Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<Refusal> for Unserved {
    fn from(words: Refusal) -> Self {
        if words.kind == RefusalKind::Stopping {
            Self::Stopping(stopping(words))
        } else {
            Self::Refused(refusal(words))
        }
    }
}

/// The reply, with the refusal in it if there is one.
fn reply<T>(
    served: Result<T, Unserved>,
    refused: impl FnOnce(v1::Refusal) -> T,
) -> Result<T, Status> {
    match served {
        Ok(reply) => Ok(reply),
        Err(Unserved::Refused(refusal)) => Ok(refused(refusal)),
        Err(Unserved::Stopping(status)) => Err(status),
    }
}

fn refusal(refusal: Refusal) -> v1::Refusal {
    v1::Refusal {
        cni_code: match refusal.kind {
            RefusalKind::TryAgain | RefusalKind::Cancelled | RefusalKind::Stopping => {
                code::TRY_AGAIN
            }
            RefusalKind::BadRequest => code::BAD_NETWORK_CONFIG,
            RefusalKind::Internal => code::IO,
        },
        message: refusal.message,
        details: format!("cause={}", refusal.cause),
        cause: refusal.cause.into(),
    }
}

/// Whose ADD or DEL it is, for the log: what came, cut to the length of a name.
fn whose(pod: Option<&v1::Pod>, key: Option<&v1::Key>) -> String {
    let cut = |text: &str| text.chars().take(NAME_MAX).collect::<String>();
    match (pod, key) {
        (Some(pod), _) if !pod.name.is_empty() => {
            format!("{}/{}", cut(&pod.namespace), cut(&pod.name))
        }
        (_, Some(key)) => cut(&key.container_id),
        _ => String::new(),
    }
}

/// The interface that it is about.
fn interface(key: Option<&v1::Key>) -> String {
    key.map_or_else(String::new, |key| key.if_name.chars().take(16).collect())
}

/// Milliseconds with a tenth: a warm ADD takes less than one.
fn milliseconds(took: Duration) -> f64 {
    (took.as_secs_f64() * 10_000.0).round() / 10.0
}

impl Service {
    /// The same cause in the answer, the log and the metrics.
    fn tell_refused(&self, pod: &str, interface: &str, refusal: &v1::Refusal, took: Duration) {
        self.metrics.added(took, Some(&refusal.cause));
        if refusal.cni_code == code::TRY_AGAIN {
            self.metrics.no_address();
        }
        tracing::warn!(
            cause = %refusal.cause,
            code = refusal.cni_code,
            pod,
            interface,
            took_ms = milliseconds(took),
            "ADD refused: {}",
            refusal.message
        );
    }

    async fn lease(
        &self,
        request: v1::AllocateRequest,
    ) -> Result<(v1::PodWiring, Origin), Unserved> {
        let request = Allocate {
            key: key(request.key)?,
            pod: request
                .pod
                .map(pod)
                .transpose()
                .map_err(|error| unreadable(&error))?
                .unwrap_or_default(),
            timeout: (request.timeout_ms > 0)
                .then(|| Duration::from_millis(request.timeout_ms.into())),
            wiring_version: request.wiring_version,
            veth_prefix: Some(request.veth_prefix).filter(|prefix| !prefix.is_empty()),
            mtu: Some(request.mtu).filter(|mtu| *mtu > 0),
        };
        let leased = self.engine.lease(request).await?;
        Ok((leased.wiring.into(), leased.origin))
    }

    async fn known(&self, request: v1::CheckRequest) -> Result<v1::CheckReply, Unserved> {
        let key = key(request.key)?;
        let wiring = self.engine.check(key).await?;
        if let Some(emits) = wiring.as_ref().map(|w| w.version)
            && request.wiring_version < emits
        {
            let refusal = v1::Refusal {
                cni_code: code::BAD_NETWORK_CONFIG,
                message: format!(
                    "this ipamd-cni knows wiring version {} and this ipamd emits {emits}",
                    request.wiring_version
                ),
                details: String::new(),
                cause: "plugin_too_old".into(),
            };
            return Err(refusal.into());
        }
        let node = match &wiring {
            Some(_) => self.node_lacks().await,
            None => Vec::new(),
        };
        Ok(v1::CheckReply {
            wiring: wiring.map(Into::into),
            refusal: None,
            node,
        })
    }

    async fn gather(&self, request: v1::CollectRequest) -> Result<v1::CollectReply, Unserved> {
        let network = request.network;
        let attachment = |valid: v1::Valid| {
            let key = v1::Key {
                network: network.clone(),
                container_id: valid.container_id,
                if_name: valid.if_name,
            };
            AttachmentKey::try_from(key).map_err(|error| unreadable(&error))
        };
        let valid = request.valid.into_iter().map(attachment);
        let request = Collect {
            valid: valid.collect::<Result<_, _>>()?,
            network: network.clone(),
            age: Duration::from_millis(request.age_ms),
            links: self.pods_links().await,
        };
        let ended = self.engine.collect(request).await?;
        let told = ended.into_iter().map(|ended| v1::Collected {
            key: ended.key.map(Into::into),
            host_if: ended.host_if,
            host_mac: ended.host_mac.to_string(),
            addresses: ended.addresses.iter().map(ToString::to_string).collect(),
        });
        Ok(v1::CollectReply {
            collected: told.collect(),
            refusal: None,
        })
    }

    async fn end(
        &self,
        request: v1::ReleaseRequest,
    ) -> Result<(v1::ReleaseReply, Origin), Unserved> {
        let request = Release {
            key: key(request.key)?,
            // A DEL goes by its key: names that no pod has must not keep it from ending.
            pod: request.pod.and_then(|p| pod(p).ok()).unwrap_or_default(),
            addresses: addresses("addresses", &request.addresses)
                .map_err(|error| unreadable(&error))?,
        };
        let released = self.engine.release(request).await?;
        let reply = v1::ReleaseReply {
            released: released.released,
            host_if: released.host_if,
            addresses: released.addresses.iter().map(ToString::to_string).collect(),
            // Wiring version 1 has none.
            host_rules: Vec::new(),
            pod_rules: released.pod_rules.into_iter().map(Into::into).collect(),
            refusal: None,
        };
        Ok((reply, released.origin))
    }
}

/// One line for a DEL. A runtime repeats DELs: one that finds nothing any more is no news.
fn tell_released(
    pod: &str,
    interface: &str,
    (reply, origin): (&v1::ReleaseReply, &Origin),
    took: Duration,
) {
    let took_ms = milliseconds(took);
    match &reply.refusal {
        Some(refusal) => tracing::warn!(cause = %refusal.cause, pod, interface, took_ms,
            "DEL failed: {}", refusal.message),
        None if reply.released => {
            let addresses = reply.addresses.join(" ");
            tracing::info!(
                pod,
                interface,
                addresses,
                link = reply.host_if,
                eni = origin.eni,
                pool = origin.pool,
                took_ms,
                "DEL: released"
            );
        }
        None => tracing::debug!(pod, interface, took_ms, "DEL: nothing was leased"),
    }
}

fn stopping(refusal: Refusal) -> Status {
    Status::unavailable(refusal.message)
}

#[tonic::async_trait]
impl Ipam for Service {
    async fn allocate(
        &self,
        request: Request<v1::AllocateRequest>,
    ) -> Result<Response<v1::AllocateReply>, Status> {
        use v1::allocate_reply::Result as Outcome;
        let request = request.into_inner();
        let (pod, key) = (request.pod.as_ref(), request.key.as_ref());
        let (pod, interface) = (whose(pod, key), interface(key));
        let began = Instant::now();
        let outcome = match self.lease(request).await {
            Ok((wiring, origin)) => {
                let took = began.elapsed();
                self.metrics.added(took, None);
                tracing::info!(
                    pod,
                    interface,
                    addresses = wiring.pod_addresses.join(" "),
                    link = wiring.host_if,
                    eni = origin.eni,
                    pool = origin.pool,
                    took_ms = milliseconds(took),
                    "ADD: leased"
                );
                Outcome::Wiring(wiring)
            }
            Err(Unserved::Refused(refusal)) => {
                self.tell_refused(&pod, &interface, &refusal, began.elapsed());
                Outcome::Refusal(refusal)
            }
            Err(Unserved::Stopping(status)) => return Err(status),
        };
        Ok(Response::new(v1::AllocateReply {
            result: Some(outcome),
        }))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseReply>, Status> {
        let request = request.into_inner();
        let (pod, key) = (request.pod.as_ref(), request.key.as_ref());
        let (pod, interface) = (whose(pod, key), interface(key));
        let (began, reason) = (Instant::now(), request.reason.clone());
        let (reply, origin) = reply(self.end(request).await, |refusal| {
            let refused = v1::ReleaseReply {
                refusal: Some(refusal),
                ..v1::ReleaseReply::default()
            };
            (refused, Origin::default())
        })?;
        let took = began.elapsed();
        self.metrics.deleted(took, &reason, reply.refusal.is_some());
        tell_released(&pod, &interface, (&reply, &origin), took);
        Ok(Response::new(reply))
    }

    async fn check(
        &self,
        request: Request<v1::CheckRequest>,
    ) -> Result<Response<v1::CheckReply>, Status> {
        let known = self.known(request.into_inner()).await;
        let reply = reply(known, |refusal| v1::CheckReply {
            refusal: Some(refusal),
            ..v1::CheckReply::default()
        })?;
        Ok(Response::new(reply))
    }

    async fn collect(
        &self,
        request: Request<v1::CollectRequest>,
    ) -> Result<Response<v1::CollectReply>, Status> {
        let began = Instant::now();
        let gathered = self.gather(request.into_inner()).await;
        let reply = reply(gathered, |refusal| v1::CollectReply {
            collected: Vec::new(),
            refusal: Some(refusal),
        })?;
        for _ in &reply.collected {
            self.metrics.deleted(began.elapsed(), "gc", false);
        }
        Ok(Response::new(reply))
    }

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        let mut status = self.engine.status().await.map_err(stopping)?;
        let trouble = tokio::time::timeout(GLANCE, self.node.trouble()).await;
        if let Ok(Some(trouble)) = trouble
            && !status.message.contains(&trouble)
        {
            let words = &status.message;
            status.message = format!("degraded: the node can't be wired: {trouble}; {words}");
        }
        Ok(Response::new(v1::StatusReply {
            ready: status.served,
            cni_code: if status.served {
                0
            } else {
                code::NOT_AVAILABLE
            },
            message: status.message,
            up: status.ready,
        }))
    }

    async fn inspect(
        &self,
        _: Request<v1::InspectRequest>,
    ) -> Result<Response<v1::InspectReply>, Status> {
        let snapshot = self.engine.inspect().await.map_err(stopping)?;
        let json = serde_json::to_string(&snapshot)
            .map_err(|error| Status::internal(format!("the snapshot can't be written: {error}")))?;
        Ok(Response::new(v1::InspectReply { json }))
    }
}
