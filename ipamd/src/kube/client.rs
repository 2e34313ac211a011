//! The little of the Kubernetes API that events need: JSON over HTTPS with a bearer token.
//!
//! One connection a request: events are rare, and nothing is held open for them. Token and
//! certificates are read for each request, since the kubelet replaces both. Proxies are not used: the
//! API server's address in the cluster is not behind one.

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// The most of an answer that is read.
const ANSWER_MAX: usize = 64 * 1024;
/// Longer words of the API server are cut.
const WORDS_MAX: usize = 200;

/// Where the API server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiServer {
    /// Name or address, an IPv6 one without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A request came to nothing.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// The service account's files.
    #[error("reading {0}: {1}")]
    Credentials(PathBuf, #[source] io::Error),
    /// The certificates, or the server's name, can't be used.
    #[error("TLS to the API server: {0}")]
    Tls(String),
    /// The connection.
    #[error("connecting to the API server: {0}")]
    Connect(#[source] io::Error),
    /// HTTP.
    #[error("talking to the API server: {0}")]
    Http(String),
    /// No answer.
    #[error("the API server did not answer within {0:?}")]
    Late(Duration),
    /// It said no.
    #[error("the API server refused: {status} {words}")]
    Refused { status: u16, words: String },
}

impl ApiError {
    /// Whether another try may be better.
    pub(super) const fn passing(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Http(_) | Self::Late(_) => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            Self::Credentials(..) | Self::Tls(_) => false,
        }
    }
}

/// What the API server answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    body: Bytes,
}

impl Answer {
    pub(super) fn refusal(&self) -> ApiError {
        // A `Status` object says why; anything else is a proxy's page.
        let value: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let words = value["message"].as_str().unwrap_or_default();
        ApiError::Refused {
            status: self.status,
            words: words.chars().take(WORDS_MAX).collect(),
        }
    }
}

/// See the module.
pub(super) struct Api {
    server: ApiServer,
    credentials: PathBuf,
    tls: Option<(Vec<u8>, Arc<ClientConfig>)>,
}

impl Api {
    pub(super) const fn new(server: ApiServer, credentials: PathBuf) -> Self {
        Self {
            server,
            credentials,
            tls: None,
        }
    }

    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Answer, ApiError> {
        self.call(Method::POST, path, "application/json", body)
            .await
    }

    pub(super) async fn patch(&mut self, path: &str, body: &Value) -> Result<Answer, ApiError> {
        const MERGE: &str = "application/merge-patch+json";
        self.call(Method::PATCH, path, MERGE, body).await
    }

    async fn call(
        &mut self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: &Value,
    ) -> Result<Answer, ApiError> {
        let request = self.request(method, path, content_type, body)?;
        let tls = self.tls()?;
        let ApiServer { host, port } = &self.server;
        let name = ServerName::try_from(host.clone())
            .map_err(|error| ApiError::Tls(format!("{host}: {error}")))?;
        let stream = TcpStream::connect((host.as_str(), *port))
            .await
            .map_err(ApiError::Connect)?;
        let stream = TlsConnector::from(tls)
            .connect(name, stream)
            .await
            .map_err(ApiError::Connect)?;
        let http = |error: hyper::Error| ApiError::Http(error.to_string());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(http)?;
        // Moves the connection, and ends with this call, whatever becomes of it.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let answer = sender.send_request(request).await.map_err(http)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), ANSWER_MAX)
            .collect()
            .await
            .map_err(|error| ApiError::Http(error.to_string()))?;
        Ok(Answer {
            status,
            body: body.to_bytes(),
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: &Value,
    ) -> Result<Request<Full<Bytes>>, ApiError> {
        let token = String::from_utf8_lossy(&self.read("token")?).into_owned();
        let unusable =
            |_| ApiError::Http("the token or the server's name has odd characters".into());
        let mut bearer =
            HeaderValue::try_from(format!("Bearer {}", token.trim())).map_err(unusable)?;
        bearer.set_sensitive(true);
        let ApiServer { host, port } = &self.server;
        let host = if host.contains(':') {
            format!("[{host}]:{port}")
        } else {
            format!("{host}:{port}")
        };
        let host = HeaderValue::try_from(host).map_err(unusable)?;
        Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, host)
            .header(AUTHORIZATION, bearer)
            .header(CONTENT_TYPE, content_type)
            .header(USER_AGENT, concat!("ipamd/", env!("CARGO_PKG_VERSION")))
            .body(Full::new(Bytes::from(body.to_string())))
            .map_err(|error| ApiError::Http(error.to_string()))
    }

    fn read(&self, file: &str) -> Result<Vec<u8>, ApiError> {
        let path = self.credentials.join(file);
        std::fs::read(&path).map_err(|error| ApiError::Credentials(path, error))
    }

    /// Made anew when the certificates have changed.
    fn tls(&mut self) -> Result<Arc<ClientConfig>, ApiError> {
        let pem = self.read("ca.crt")?;
        if let Some((_, tls)) = self.tls.as_ref().filter(|(old, _)| *old == pem) {
            return Ok(tls.clone());
        }
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&pem) {
            let certificate =
                certificate.map_err(|error| ApiError::Tls(format!("ca.crt: {error}")))?;
            // One that can't be used does not spoil the others.
            let _ = roots.add(certificate);
        }
        if roots.is_empty() {
            return Err(ApiError::Tls("ca.crt has no certificate".into()));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| ApiError::Tls(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        self.tls = Some((pem, config.clone()));
        Ok(config)
    }
}
