//! The daemon's socket: gRPC for the plugin and for tools.
//!
//! Translates between messages and the engine's door; decides nothing. Only root and the daemon's
//! own user are served. A caller that goes away withdraws its request: its future is dropped.

mod door;
mod health;
mod probe;
mod service;
mod socket;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

pub use probe::{ProbeError, probe};
pub use socket::{Bound, SocketError};

use crate::metrics::Metrics;
use door::Door;
use ipam_core::Mac;
use ipam_engine::Handle;
use ipam_engine::ports::Fut;
use ipam_proto::v1::ipam_server::IpamServer;
use service::Service;
use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::UdsConnectInfo;
use tonic::{Request, Status};
use tonic_health::pb::health_server::HealthServer;

/// The largest request, bytes: a GC's list of some thousand attachments.
const REQUEST_MAX: usize = 512 * 1024;
/// Calls that one connection may have under way.
const STREAMS_MAX: u32 = 1024;
/// How long open calls may take to end once the daemon stops.
const GRACE: Duration = Duration::from_secs(3);

/// What CNI CHECK and GC look at in the kernel.
pub trait Node: fmt::Debug + Send + Sync {
    /// What the kernel lacks of it, in words; nothing is changed. Empty: all is there.
    fn lacking(&self) -> Fut<'_, Vec<String>>;

    /// What could not be put right the last time, in words.
    fn trouble(&self) -> Fut<'_, Option<String>>;

    /// The host's ends of pods' links, by name, with their Ethernet addresses; none if they can't be read.
    fn pods_links(&self) -> Fut<'_, BTreeMap<String, Mac>>;
}

/// Serves until `stop` is done, then lets open calls end.
///
/// # Errors
/// The socket broke.
pub async fn serve(
    bound: Bound,
    engine: Handle,
    metrics: Arc<Metrics>,
    node: Arc<dyn Node>,
    stop: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let owner = bound.owner();
    let guard = move |request: Request<()>| admit(request, owner);
    let ipam = IpamServer::new(Service::new(engine.clone(), metrics, node))
        .max_decoding_message_size(REQUEST_MAX);
    let health =
        HealthServer::new(health::Live::new(engine)).max_decoding_message_size(REQUEST_MAX);
    let guests = Door::new(bound).guests();
    let (stopped, is_stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = Server::builder()
        .max_concurrent_streams(STREAMS_MAX)
        .add_service(InterceptedService::new(ipam, guard))
        .add_service(InterceptedService::new(health, guard))
        .serve_with_incoming_shutdown(guests, async {
            stop.await;
            // The receiver lives as long as this future.
            let _ = stopped.send(());
        });
    let overdue = async {
        // An error means that serving has ended by itself.
        let _ = is_stopped.await;
        tokio::time::sleep(GRACE).await;
    };
    tokio::select! {
        result = serving => result,
        () = overdue => Ok(()),
    }
}

/// Root and the daemon's own user may call.
fn admit(request: Request<()>, owner: u32) -> Result<Request<()>, Status> {
    let info = request.extensions().get::<UdsConnectInfo>();
    admitted(
        info.and_then(|info| info.peer_cred).map(|cred| cred.uid()),
        owner,
    )
    .map(|()| request)
}

fn admitted(caller: Option<u32>, owner: u32) -> Result<(), Status> {
    match caller {
        Some(uid) if uid == 0 || uid == owner => Ok(()),
        Some(uid) => Err(Status::permission_denied(format!(
            "user {uid} may not call ipamd"
        ))),
        None => Err(Status::permission_denied("the caller's user is not known")),
    }
}
