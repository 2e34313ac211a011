//! The HTTP client under the SDK: rustls on ring, proxies, and a CA bundle, all by the settings.
//!
//! Certificates are read when the first `https` request is made, not before: a start must not wait
//! for them, and a node that talks to plain endpoints never holds them.

use super::CONNECT_TIMEOUT;
use crate::config;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use aws_smithy_http_client::{Connector, ConnectorBuilder};
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use std::net::{IpAddr, Ipv6Addr};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How long an unused connection is kept: EC2 closes it after a minute or so, and a node has little
/// to say.
const IDLE: Duration = Duration::from_secs(20);

/// How a certificate begins in a PEM file (RFC 7468).
const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// The client for every AWS service and for IMDS.
#[must_use]
pub fn http_client(settings: config::Http) -> SharedHttpClient {
    SharedHttpClient::new(Client(Arc::new(Wires {
        direct: OnceLock::new(),
        plain: OnceLock::new(),
        tls: OnceLock::new(),
        settings,
    })))
}

#[derive(Clone, Debug)]
struct Client(Arc<Wires>);

/// One connector per way out, each made when it is first needed.
#[derive(Debug)]
struct Wires {
    direct: OnceLock<Connector>,
    plain: OnceLock<Result<Connector, Unusable>>,
    tls: OnceLock<Result<Connector, Unusable>>,
    settings: config::Http,
}

/// A setting of the HTTP client that can't be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
struct Unusable(String);

impl HttpClient for Client {
    fn http_connector(
        &self,
        _: &HttpConnectorSettings,
        _: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Client {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        match self.0.way(request.uri()) {
            Ok(connector) => connector.call(request),
            Err(error) => HttpConnectorFuture::ready(Err(ConnectorError::user(error.into()))),
        }
    }
}

impl Wires {
    fn way(&self, uri: &str) -> Result<&Connector, Unusable> {
        let way = if uri.starts_with("https://") {
            self.tls.get_or_init(|| self.tls())
        } else if is_link_local(uri) {
            return Ok(self.direct.get_or_init(|| builder().build_http()));
        } else {
            self.plain.get_or_init(|| self.plain())
        };
        way.as_ref().map_err(Clone::clone)
    }

    fn plain(&self) -> Result<Connector, Unusable> {
        let proxy = self.proxy(
            self.settings.http_proxy.as_deref(),
            "HTTP_PROXY",
            ProxyConfig::http,
        )?;
        Ok(builder().proxy_config(proxy).build_http())
    }

    fn tls(&self) -> Result<Connector, Unusable> {
        let proxy = self.proxy(
            self.settings.https_proxy.as_deref(),
            "HTTPS_PROXY",
            ProxyConfig::https,
        )?;
        let trust = match &self.settings.ca_bundle {
            None => TrustStore::default(),
            Some(path) => {
                let unusable =
                    |why: &str| Unusable(format!("AWS_CA_BUNDLE {}: {why}", path.display()));
                let pem = std::fs::read(path).map_err(|error| unusable(&error.to_string()))?;
                if !pem
                    .windows(CERTIFICATE.len())
                    .any(|bytes| bytes == CERTIFICATE)
                {
                    return Err(unusable("there is no certificate in it"));
                }
                TrustStore::empty().with_pem_certificate(pem)
            }
        };
        // The TLS layer panics on certificates that it can't parse.
        let built = catch_unwind(AssertUnwindSafe(|| {
            TlsContext::builder()
                .with_trust_store(trust)
                .build()
                .map(|context| {
                    builder()
                        .proxy_config(proxy)
                        .tls_provider(Provider::rustls(CryptoMode::Ring))
                        .tls_context(context)
                        .build()
                })
        }));
        match built {
            Ok(Ok(connector)) => Ok(connector),
            Ok(Err(error)) => Err(Unusable(format!("TLS can't be set up: {error}"))),
            Err(_) => Err(Unusable(
                "trusted certificates can't be parsed (AWS_CA_BUNDLE)".into(),
            )),
        }
    }

    fn proxy<E: std::fmt::Display>(
        &self,
        url: Option<&str>,
        setting: &str,
        make: impl FnOnce(String) -> Result<ProxyConfig, E>,
    ) -> Result<ProxyConfig, Unusable> {
        let Some(url) = url else {
            return Ok(ProxyConfig::disabled());
        };
        // "proxy:3128" is what people write; curl and Go read it as http.
        let url = if url.contains("://") {
            url.to_owned()
        } else {
            format!("http://{url}")
        };
        let proxy = make(url).map_err(|error| Unusable(format!("{setting}: {error}")))?;
        Ok(match &self.settings.no_proxy {
            Some(rules) => proxy.no_proxy(rules),
            None => proxy,
        })
    }
}

fn builder() -> ConnectorBuilder {
    let settings = HttpConnectorSettings::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .build();
    Connector::builder()
        .connector_settings(settings)
        .pool_idle_timeout(IDLE)
}

/// Whether `uri` is one that no proxy can reach for us: the instance's or the pod identity agent's
/// credentials, or IMDS.
fn is_link_local(uri: &str) -> bool {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => ip.is_link_local() || ip.is_loopback(),
        // IMDS and the pod identity agent are in fd00:ec2::/32.
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unicast_link_local() || in_ec2_local(ip),
        Err(_) => host == "localhost",
    }
}

const fn in_ec2_local(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    a == 0xfd00 && b == 0x0ec2
}
