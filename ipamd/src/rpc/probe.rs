//! `ipamd --probe`: asks a running daemon whether ADDs can be served.

use ipam_proto::v1;
use ipam_proto::v1::ipam_client::IpamClient;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::timeout;
use tonic::transport::Endpoint;

/// The kubelet's own probes give up after 10 s.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why the answer is no.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nobody answers.
    #[error("no answer at {0}")]
    Unreachable(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
    /// Not within the deadline.
    #[error("no answer at {0} within {DEADLINE:?}")]
    Silent(PathBuf),
    /// There is an answer, and it is none.
    #[error("the daemon does not answer: {0}")]
    Refused(String),
    /// The daemon says no, and why.
    #[error("{0}")]
    NotReady(String),
}

/// The daemon's words, if it is ready.
///
/// # Errors
/// It is not, or does not answer.
pub async fn probe(socket: &Path) -> Result<String, ProbeError> {
    let ask = async {
        let path = socket.to_owned();
        let unreachable = |error: Box<dyn std::error::Error + Send + Sync>| {
            ProbeError::Unreachable(socket.to_owned(), error)
        };
        // The URI is not used: a Unix socket has no host.
        let channel = Endpoint::from_static("http://ipamd")
            .connect_with_connector(tower::service_fn(move |_| {
                let path = path.clone();
                async move {
                    let stream = tokio::net::UnixStream::connect(path).await?;
                    Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
                }
            }))
            .await
            .map_err(|error| unreachable(error.into()))?;
        let answer = IpamClient::new(channel)
            .status(v1::StatusRequest {})
            .await
            .map_err(|status| ProbeError::Refused(status.message().to_owned()))?;
        let answer = answer.into_inner();
        if answer.ready && answer.up {
            Ok(answer.message)
        } else {
            Err(ProbeError::NotReady(answer.message))
        }
    };
    timeout(DEADLINE, ask)
        .await
        .unwrap_or_else(|_| Err(ProbeError::Silent(socket.to_owned())))
}
