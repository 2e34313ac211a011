//! `GET /metrics` over HTTP.
//!
//! Anybody on the node's network may ask: what is shown has no secret in it, and who asks can make no
//! more than a few connections, each for a short while.

use super::Metrics;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use ipam_engine::Handle;
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// Connections at once; a cluster has one or two Prometheus servers.
const CONNECTIONS: usize = 8;
/// How long one connection may last.
const CONNECTION: Duration = Duration::from_secs(60);
/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(5);
/// How long the engine may take to show the pool; without it, its numbers are those of the last time.
const POOL: Duration = Duration::from_secs(2);
/// How often an address that is taken is tried again: by a predecessor that is about to end, mostly.
const AGAIN: Duration = Duration::from_secs(5);

/// Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until the task is dropped. An address that can't be had is told once and tried again.
pub async fn serve(address: SocketAddr, metrics: Arc<Metrics>, engine: Handle) {
    let listener = listen(address, AGAIN).await;
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        // The semaphore is never closed.
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (metrics, engine) = (metrics.clone(), engine.clone());
                tokio::spawn(async move {
                    // A connection that breaks or lasts too long is its maker's affair.
                    let _ = timeout(CONNECTION, attend(stream, metrics, engine)).await;
                    drop(permit);
                });
            }
            // Out of descriptors, mostly.
            Err(error) => {
                tracing::warn!(%error, "a connection for metrics could not be taken");
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

pub(super) async fn listen(address: SocketAddr, again: Duration) -> TcpListener {
    let mut told = false;
    loop {
        match bind(address).await {
            Ok(listener) => return listener,
            Err(error) if !told => {
                told = true;
                tracing::warn!(cause = "metrics_port", %address, %error,
                    "the metrics' address can't be had; it is tried again every {again:?}");
            }
            Err(_) => {}
        }
        sleep(again).await;
    }
}

/// `[::]` is every address of both families, where there is IPv6 at all.
async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED
                && error.kind() != io::ErrorKind::AddrInUse =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await
        }
        other => other,
    }
}

async fn attend(
    stream: TcpStream,
    metrics: Arc<Metrics>,
    engine: Handle,
) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| answer(request, metrics.clone(), engine.clone()));
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(
    request: Request<Incoming>,
    metrics: Arc<Metrics>,
    engine: Handle,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => {
            if let Ok(Ok(snapshot)) = timeout(POOL, engine.inspect()).await {
                metrics.see(&snapshot);
            }
            (StatusCode::OK, Bytes::from(metrics.text()))
        }
        (_, "/metrics") => (
            StatusCode::METHOD_NOT_ALLOWED,
            Bytes::from_static(b"GET only\n"),
        ),
        _ => (
            StatusCode::NOT_FOUND,
            Bytes::from_static(b"the metrics are at /metrics\n"),
        ),
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    Ok(response)
}
