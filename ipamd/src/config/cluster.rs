//! Where the API server is, and who we are to it.

use super::finding::Severity;
use super::read::Reader;
use crate::kube::{ApiServer, Settings};
use hyper::Uri;

/// The API server's own port.
const HTTPS: u16 = 443;

pub(super) fn settings(read: &mut Reader<'_>) -> Settings {
    let named = endpoint(read);
    let service = service(read);
    Settings {
        server: named.or(service),
        node: read.text("MY_NODE_NAME"),
        credentials: read.text_or_default("IPAMD_SERVICE_ACCOUNT_DIR").into(),
    }
}

/// `CLUSTER_ENDPOINT`: a URL, as Amazon's CNI takes it.
fn endpoint(read: &mut Reader<'_>) -> Option<ApiServer> {
    const NAME: &str = "CLUSTER_ENDPOINT";
    let text = read.text(NAME)?;
    let server = text.parse::<Uri>().ok().and_then(|uri| {
        let https = uri.scheme_str().is_none_or(|scheme| scheme == "https");
        let host = uri.host().filter(|_| https)?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(ApiServer {
            host: host.into(),
            port: uri.port_u16().unwrap_or(HTTPS),
        })
    });
    if server.is_none() {
        let text = format!(
            "\"{}\" is not an https address; using the service's",
            text.escape_debug()
        );
        read.tell(Severity::Mistake, NAME, text);
    }
    server
}

/// What the kubelet tells every container.
fn service(read: &mut Reader<'_>) -> Option<ApiServer> {
    let port = read.text("KUBERNETES_SERVICE_PORT");
    let host = read.text("KUBERNETES_SERVICE_HOST")?;
    Some(ApiServer {
        host,
        port: port.and_then(|port| port.parse().ok()).unwrap_or(HTTPS),
    })
}
