use super::*;
use crate::config::Http;
use aws_sdk_ec2::config::Credentials;
use std::net::SocketAddr;
use std::path::PathBuf;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Takes one connection and answers the first line that came.
async fn listen() -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
    let address = listener.local_addr().expect("has an address");
    let first = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("accepts");
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await.expect("reads");
        let _ = stream
            .write_all(b"HTTP/1.1 502 no\r\ncontent-length: 0\r\n\r\n")
            .await;
        line.trim_end().to_owned()
    });
    (address, first)
}

/// Sends one EC2 request to `endpoint`.
async fn ask(settings: Http, endpoint: &str) -> String {
    let config = aws_sdk_ec2::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("a", "b", None, None, "test"))
        .retry_config(RetryConfig::disabled())
        .timeout_config(
            TimeoutConfig::builder()
                .operation_timeout(Duration::from_secs(3))
                .build(),
        )
        .http_client(http_client(settings))
        .endpoint_url(endpoint)
        .build();
    let answer = aws_sdk_ec2::Client::from_conf(config)
        .describe_vpcs()
        .send()
        .await;
    crate::report::with_causes(&answer.expect_err("nobody answers well"))
}

#[tokio::test]
async fn plain_requests_go_through_the_plain_proxy() {
    let (proxy, line) = listen().await;
    let settings = Http {
        http_proxy: Some(proxy.to_string()),
        ..Http::default()
    };
    ask(settings, "http://ec2.example.test").await;
    assert_eq!(
        line.await.expect("ends"),
        "POST http://ec2.example.test/ HTTP/1.1"
    );
}

#[tokio::test]
async fn secure_requests_tunnel_through_the_secure_proxy() {
    let (proxy, line) = listen().await;
    let settings = Http {
        https_proxy: Some(format!("http://{proxy}")),
        ..Http::default()
    };
    ask(settings, "https://ec2.example.test").await;
    assert_eq!(
        line.await.expect("ends"),
        "CONNECT ec2.example.test:443 HTTP/1.1"
    );
}

#[tokio::test]
async fn no_proxy_and_local_addresses_go_straight() {
    let (server, line) = listen().await;
    let settings = Http {
        http_proxy: Some("127.0.0.1:1".into()),
        ..Http::default()
    };
    ask(settings, &format!("http://{server}")).await;
    assert_eq!(line.await.expect("ends"), "POST / HTTP/1.1");

    let settings = Http {
        http_proxy: Some("127.0.0.1:1".into()),
        no_proxy: Some("example.test".into()),
        ..Http::default()
    };
    let error = ask(settings, "http://ec2.example.test").await;
    // It was looked up, which a proxied name never is.
    assert!(error.contains("dns") || error.contains("lookup"), "{error}");
}

#[tokio::test]
async fn a_bad_bundle_is_said_and_survived() {
    let missing = PathBuf::from("/nonexistent/bundle.pem");
    let settings = Http {
        ca_bundle: Some(missing),
        ..Http::default()
    };
    let error = ask(settings, "https://127.0.0.1:1").await;
    assert!(error.contains("AWS_CA_BUNDLE"), "{error}");

    let dir = tempfile::TempDir::new().expect("makes a directory");
    let path = dir.path().join("bundle.pem");
    let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    for pem in [broken, "", "some other file"] {
        std::fs::write(&path, pem).expect("writes");
        let settings = Http {
            ca_bundle: Some(path.clone()),
            ..Http::default()
        };
        let error = ask(settings, "https://127.0.0.1:1").await;
        assert!(error.contains("AWS_CA_BUNDLE"), "{pem}: {error}");
    }
}
