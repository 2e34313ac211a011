//! The one HTTP/1 server loop that all listeners share: keep-alive, chunked bodies, a limit on
//! bodies and on connections. What to answer is the handler's business.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderValue, SERVER};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

/// Connections that one listener serves at once; more wait in the kernel's queue.
const CONNECTIONS: usize = 1024;
/// An idle connection is closed after this.
const IDLE: Duration = Duration::from_secs(300);

/// A request, read whole.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Result<Bytes, BodyTooLarge>,
    pub(crate) connection: Arc<Connection>,
}

impl Inbound {
    /// A header's value, if it is there and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// The body was larger than the listener takes, or broke off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the body is too large or incomplete")]
pub(crate) struct BodyTooLarge;

/// Where a request came from.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) peer: SocketAddr,
    /// A second descriptor of the socket, for its options.
    pub(crate) socket: Option<std::os::fd::OwnedFd>,
}

/// Close the connection without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("closed on purpose")]
pub(crate) struct HangUp;

pub(crate) type Answer = Result<Response<Full<Bytes>>, HangUp>;

/// Serves a listener until the task is dropped.
pub(crate) async fn serve<H, F>(
    listener: TcpListener,
    server: &'static str,
    limit: usize,
    handler: H,
) where
    H: Fn(Inbound) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send,
{
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(e) => {
                // Out of descriptors, mostly: give others a moment to close theirs.
                tracing::warn!("accept: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let handler = handler.clone();
        tokio::spawn(async move {
            serve_connection(stream, peer, server, limit, handler).await;
            drop(permit);
        });
    }
}

async fn serve_connection<H, F>(
    stream: TcpStream,
    peer: SocketAddr,
    server: &'static str,
    limit: usize,
    handler: H,
) where
    H: Fn(Inbound) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Answer> + Send,
{
    use std::os::fd::AsFd;
    // Answers are small and written at once: waiting to fill a packet only costs time.
    drop(stream.set_nodelay(true));
    let socket = stream.as_fd().try_clone_to_owned().ok();
    let connection = Arc::new(Connection { peer, socket });
    let service = service_fn(move |request: Request<Incoming>| {
        let (handler, connection) = (handler.clone(), Arc::clone(&connection));
        async move {
            let mut response = handler(read(request, limit, connection).await).await?;
            response
                .headers_mut()
                .entry(SERVER)
                .or_insert(HeaderValue::from_static(server));
            Ok::<_, HangUp>(response)
        }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        // As AWS writes them; some programs compare names as they are.
        .title_case_headers(true)
        .header_read_timeout(IDLE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(e) = served {
        tracing::debug!("{peer}: {e}");
    }
}

async fn read(request: Request<Incoming>, limit: usize, connection: Arc<Connection>) -> Inbound {
    let (head, body) = request.into_parts();
    let body = Limited::new(body, limit).collect().await;
    Inbound {
        method: head.method,
        uri: head.uri,
        headers: head.headers,
        body: body
            .map(http_body_util::Collected::to_bytes)
            .map_err(|_| BodyTooLarge),
        connection,
    }
}

/// An answer with a content type.
pub(crate) fn answer(
    status: u16,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let value = HeaderValue::from_static(content_type);
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, value);
    response
}
