//! Asking the daemon, over the socket in its node's mounts.

use crate::error::LabError;
use hyper_util::rt::TokioIo;
use ipam_proto::v1;
use ipam_proto::v1::ipam_client::IpamClient;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use tonic::transport::{Channel, Endpoint};

/// One request, connection included.
const LIMIT: Duration = Duration::from_secs(10);

/// A node's daemon, as a client sees it.
#[derive(Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) runtime: &'a tokio::runtime::Handle,
    pub(crate) node: &'a vpc_sim::Node,
    pub(crate) socket: &'a Path,
}

impl Caller<'_> {
    /// Opens the socket, as any program on the node would.
    pub(crate) fn connect(&self) -> Result<UnixStream, LabError> {
        let path = self.socket.to_owned();
        let doing = format!("connecting to {} on {}", path.display(), self.node.name());
        self.node
            .run(move || UnixStream::connect(path))?
            .map_err(LabError::io(doing))
    }

    pub(crate) fn status(&self) -> Result<v1::StatusReply, LabError> {
        self.ask("status", async |client| {
            client.status(v1::StatusRequest {}).await
        })
    }

    pub(crate) fn inspect(&self) -> Result<String, LabError> {
        let reply = self.ask("inspection", async |client| {
            client.inspect(v1::InspectRequest {}).await
        })?;
        Ok(reply.json)
    }

    fn ask<T>(
        &self,
        what: &'static str,
        request: impl AsyncFnOnce(&mut IpamClient<Channel>) -> Result<tonic::Response<T>, tonic::Status>,
    ) -> Result<T, LabError> {
        let failed = |reason: String| LabError::Rpc {
            node: self.node.name().into(),
            what,
            reason,
        };
        let stream = self.connect()?;
        self.runtime.block_on(async {
            let asked = async {
                let channel = channel(stream).await.map_err(|e| failed(words(&e)))?;
                let mut client = IpamClient::new(channel);
                let reply = request(&mut client).await;
                reply
                    .map(tonic::Response::into_inner)
                    .map_err(|e| failed(e.to_string()))
            };
            let late = || LabError::TooLate {
                what: format!("the daemon's {what}"),
                limit: LIMIT,
            };
            tokio::time::timeout(LIMIT, asked)
                .await
                .map_err(|_| late())?
        })
    }
}

async fn channel(stream: UnixStream) -> Result<Channel, tonic::transport::Error> {
    let mut stream = Some(stream);
    let connector = tower::service_fn(move |_| {
        let stream = stream.take();
        async move {
            let stream = stream.ok_or_else(|| io::Error::other("the connection was lost"))?;
            stream.set_nonblocking(true)?;
            tokio::net::UnixStream::from_std(stream).map(TokioIo::new)
        }
    });
    Endpoint::from_static("http://ipamd")
        .connect_with_connector(connector)
        .await
}

fn words(error: &dyn std::error::Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        words = format!("{words}: {e}");
        cause = e.source();
    }
    words
}
