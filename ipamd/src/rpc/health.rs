//! `grpc.health.v1.Health`, answered from the engine's state at the time of asking.

use ipam_engine::Handle;
use std::pin::Pin;
use tokio_stream::Stream;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::Health;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// The services that have a health: the server as a whole, and the one service.
const SERVICES: [&str; 2] = ["", "ipamd.v1.Ipam"];

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Live {
    engine: Handle,
}

impl Live {
    pub(super) const fn new(engine: Handle) -> Self {
        Self { engine }
    }
}

#[tonic::async_trait]
impl Health for Live {
    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !SERVICES.contains(&service.as_str()) {
            return Err(Status::not_found(format!("no service {service:?} here")));
        }
        let ready = self
            .engine
            .status()
            .await
            .is_ok_and(|status| status.ready && status.served);
        let status = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        Ok(Response::new(HealthCheckResponse {
            status: status.into(),
        }))
    }

    type WatchStream =
        Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send + 'static>>;

    async fn watch(
        &self,
        _: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        // The health protocol lets a server do without; callers then ask again and again.
        Err(Status::unimplemented(
            "watching is not supported; use Check",
        ))
    }
}
