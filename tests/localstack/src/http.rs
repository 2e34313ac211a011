//! One HTTP/1.1 exchange on a connection of its own. Knows nothing of what is said.

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::{HeaderMap, Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use thiserror::Error;
use tokio::net::TcpStream;

/// LocalStack's first answer builds a catalogue of services, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// No answer is larger.
const ANSWER_MAX: usize = 32 << 20;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum HttpError {
    /// Nobody listens, or the connection broke.
    #[error("no connection to {0}: {1}")]
    Connection(SocketAddr, std::io::Error),
    /// The other side does not speak HTTP, or hung up.
    #[error("{0} does not answer: {1}")]
    Protocol(SocketAddr, hyper::Error),
    /// The answer is too long or broke off.
    #[error("the answer of {0} can't be read: {1}")]
    Body(SocketAddr, Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("{0} has not answered within {LIMIT:?}")]
    Late(SocketAddr),
}

/// An answer, read whole.
#[derive(Clone, Debug)]
pub struct HttpAnswer {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

/// Sends a request and reads the answer.
///
/// # Errors
/// There is none.
pub async fn exchange(
    to: SocketAddr,
    method: Method,
    path: &str,
    headers: &HeaderMap,
    body: Bytes,
) -> Result<HttpAnswer, HttpError> {
    let work = async {
        let stream = TcpStream::connect(to)
            .await
            .map_err(|e| HttpError::Connection(to, e))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| HttpError::Protocol(to, e))?;
        // Ends with the exchange; what goes wrong there is said here as well.
        let driver = tokio::spawn(connection);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap_or_default();
        request.headers_mut().clone_from(headers);
        if !request.headers().contains_key(hyper::header::HOST)
            && let Ok(host) = to.to_string().parse()
        {
            request.headers_mut().insert(hyper::header::HOST, host);
        }
        let answer = sender.send_request(request).await;
        let (head, body) = answer.map_err(|e| HttpError::Protocol(to, e))?.into_parts();
        let body = Limited::new(body, ANSWER_MAX)
            .collect()
            .await
            .map_err(|e| HttpError::Body(to, e))?;
        driver.abort();
        Ok(HttpAnswer {
            status: head.status,
            headers: head.headers,
            body: body.to_bytes(),
        })
    };
    tokio::time::timeout(LIMIT, work)
        .await
        .unwrap_or(Err(HttpError::Late(to)))
}
