//! A few lines of HTTP/1.1, so that tests see bytes and not a client's opinion of them.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use vpc_sim::NetNs;
use vpc_sim::testing::Failure;

/// What came back; status 0 if the connection closed without a word.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// One exchange on a connection of its own from `net`; `None` if nothing came in time.
pub(crate) async fn request(
    net: &NetNs,
    (to, port): (impl Into<IpAddr>, u16),
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    time: Duration,
) -> Result<Option<Answer>, Failure> {
    let to = SocketAddr::new(to.into(), port);
    let socket = net.tcp_socket(to.is_ipv6())?;
    let Ok(stream) = tokio::time::timeout(time, socket.connect(to)).await else {
        return Ok(None);
    };
    exchange(stream?, method, path, headers, body, time).await
}

/// One exchange on this connection, which the server is asked to close.
pub(crate) async fn exchange(
    mut stream: TcpStream,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
    time: Duration,
) -> Result<Option<Answer>, Failure> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    let exchange = async {
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let Ok(answer) = tokio::time::timeout(time, exchange).await else {
        return Ok(None);
    };
    let answer = answer?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, b)| b.to_owned())
        .unwrap_or_default();
    Ok(Some(Answer { status, body }))
}
