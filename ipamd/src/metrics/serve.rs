//! `GET /metrics` over HTTP, on a thread of its own.
//!
//! Anybody on the node's network may ask: what is shown has no secret in it, and who asks takes nothing from
//! others, and next to nothing from ADDs: connections are bounded for each source, each lasts for one request,
//! whose head must come soon, and the text is made some times a second at most.

use super::Metrics;
use super::guests::Guests;
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
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{sleep, timeout};

/// How long one connection may last.
const CONNECTION: Duration = Duration::from_secs(10);
/// How long a request's head may take.
const HEAD: Duration = Duration::from_secs(2);
/// How long the engine may take to show the pool; without it, its numbers are those of the last time.
const POOL: Duration = Duration::from_secs(2);
/// How long a text is good for everybody who asks.
pub(super) const FRESH: Duration = Duration::from_millis(250);
/// How often an address that is taken is tried again: by a predecessor that is about to end, mostly.
const AGAIN: Duration = Duration::from_secs(5);

/// Prometheus' text format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The thread that serves; it ends when this is dropped.
#[derive(Debug)]
pub struct Serving(
    /// Only held: the thread waits for its end.
    #[expect(dead_code, reason = "held for its end")]
    oneshot::Sender<Infallible>,
);

/// Serves on a thread of its own.
///
/// # Errors
/// There is no thread to be had.
pub fn begin(address: SocketAddr, metrics: Arc<Metrics>, engine: Handle) -> io::Result<Serving> {
    let (held, ended) = oneshot::channel();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::Builder::new()
        .name("metrics".into())
        .spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(address, metrics, engine) => {}
                    _ = ended => {}
                }
            });
        })?;
    Ok(Serving(held))
}

/// What is shown, made anew when it is no longer fresh.
#[derive(Debug)]
struct Page {
    metrics: Arc<Metrics>,
    engine: Handle,
    made: Mutex<Option<(Instant, Bytes)>>,
}

impl Page {
    async fn text(&self) -> Bytes {
        let mut made = self.made.lock().await;
        if let Some((_, text)) = made.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return text.clone();
        }
        if let Ok(Ok(snapshot)) = timeout(POOL, self.engine.inspect()).await {
            self.metrics.see(&snapshot);
        }
        let text = Bytes::from(self.metrics.text());
        *made = Some((Instant::now(), text.clone()));
        text
    }
}

/// Serves until it is dropped. An address that can't be had is told once and tried again.
pub(super) async fn serve(address: SocketAddr, metrics: Arc<Metrics>, engine: Handle) {
    let listener = listen(address, AGAIN).await;
    let page = Arc::new(Page {
        metrics,
        engine,
        made: Mutex::default(),
    });
    let mut guests = Guests::default();
    loop {
        match listener.accept().await {
            Ok((stream, from)) if guests.may(from.ip(), Instant::now()) => {
                let attending = attend(stream, page.clone());
                let task = tokio::spawn(async {
                    // A connection that breaks or lasts too long is its maker's affair.
                    let _ = timeout(CONNECTION, attending).await;
                });
                guests.came(from.ip(), task.abort_handle());
            }
            Ok(_) => {}
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

async fn attend(stream: TcpStream, page: Arc<Page>) -> Result<(), hyper::Error> {
    let service = service_fn(move |request| answer(request, page.clone()));
    hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service)
        .await
}

async fn answer(
    request: Request<Incoming>,
    page: Arc<Page>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/metrics") => (StatusCode::OK, page.text().await),
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
