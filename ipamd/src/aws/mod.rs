//! What all AWS clients share: the HTTP client under them, their configuration, and what IMDS has
//! told of this node.

mod http;
mod site;

#[cfg(test)]
mod tests;

pub use http::http_client;
pub use site::Site;

use aws_config::environment::EnvironmentVariableRegionProvider;
use aws_config::meta::region::RegionProviderChain;
use aws_config::profile::ProfileFileRegionProvider;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{AppName, BehaviorVersion, Region, SdkConfig};
use aws_sdk_ec2::config::SharedHttpClient;
use std::time::Duration;

/// Time limit of a TCP and TLS connect. Shorter than a call's, so that a dead host is told from a
/// slow answer: nothing was sent.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// The configuration of an AWS client. Region, credentials, endpoints, FIPS and dual-stack come from
/// the settings that all SDKs share, by the SDK's own chains; `region` stands in where those name
/// none. Nothing retries, and each call ends within `timeout`.
pub async fn sdk_config(http: SharedHttpClient, region: String, timeout: Duration) -> SdkConfig {
    let region = RegionProviderChain::first_try(EnvironmentVariableRegionProvider::new())
        .or_else(ProfileFileRegionProvider::new())
        .or_else(Region::new(region));
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(timeout)
        .operation_timeout(timeout)
        .build();
    let mut loader = aws_config::defaults(BehaviorVersion::latest())
        .http_client(http)
        .region(region)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts);
    if let Ok(name) = AppName::new("ipamd") {
        loader = loader.app_name(name);
    }
    loader.load().await
}
