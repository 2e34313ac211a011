//! Where the API server is, and who we are to it; what the node's runtime is to find.

use super::finding::Severity;
use super::in_force::without_password;
use super::read::Reader;
use super::table;
use crate::conflist;
use crate::kube::{ApiServer, Settings};
use hyper::Uri;
use std::path::{Path, PathBuf};

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
            without_password(&text).escape_debug()
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

/// The network configuration that the runtime is to find, and in which places the plugin must be told
/// of, since they are not where it looks by itself.
pub(super) fn conflist(read: &mut Reader<'_>) -> conflist::Settings {
    let no_pod_v6 = read.flag("DISABLE_POD_V6");
    if no_pod_v6 && read.flag("ENABLE_IPv6") {
        read.tell(
            Severity::Refusal,
            "DISABLE_POD_V6, ENABLE_IPv6",
            "pods can't have IPv6 addresses with IPv6 switched off",
        );
    }
    conflist::Settings {
        dir: read.text_or_default("HOST_CNI_CONFDIR_PATH").into(),
        name: conflist_name(read),
        source: read.text("IPAMD_CONFLIST").map(PathBuf::from),
        bandwidth: read.flag("ENABLE_BANDWIDTH_PLUGIN"),
        no_pod_v6,
        socket: elsewhere(read, "IPAMD_SOCKET"),
        spool: elsewhere(read, "IPAMD_STATE_DIR").map(|dir| dir.join("spool")),
    }
}

/// Runtimes read `*.conflist`, `*.conf` and `*.json`, and take the first by name.
fn conflist_name(read: &mut Reader<'_>) -> String {
    const NAME: &str = "IPAMD_CONFLIST_NAME";
    let name = read.text_or_default(NAME);
    let plain = !name.contains('/') && !name.starts_with('.');
    if plain && Path::new(&name).extension() == Some("conflist".as_ref()) {
        return name;
    }
    let text = format!(
        "\"{}\" is not a plain file name with the extension conflist",
        name.escape_debug()
    );
    read.tell(Severity::Refusal, NAME, text);
    table::find(NAME).map_or_else(String::new, |knob| knob.default.into())
}

/// A path, if it is not the default.
fn elsewhere(read: &mut Reader<'_>, name: &str) -> Option<PathBuf> {
    let default = table::find(name).map_or("", |knob| knob.default);
    read.text(name)
        .filter(|path| path != default)
        .map(PathBuf::from)
}
