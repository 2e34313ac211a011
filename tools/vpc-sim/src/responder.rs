//! A host that tells who it thinks is talking: each answer begins with `SRC=<address>:<port> `,
//! as the packets came in, and goes on with what was sent. Runs on any sockets: the internet's,
//! a node's or a pod's.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;

/// Port of the responders that every simulation starts itself (`echo`, RFC 862).
pub const PORT: u16 = 7;
/// Connections that one TCP responder serves at once.
const CONNECTIONS: usize = 1024;

/// Answers each datagram, for ever.
///
/// # Errors
/// The socket can no longer receive. Failures to answer one sender are passed over.
pub async fn udp(socket: UdpSocket) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let (length, from) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            // An earlier answer met an ICMP error.
            Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => continue,
            Err(e) => return Err(e),
        };
        let payload = buffer.get(..length).unwrap_or_default();
        drop(socket.send_to(&reply(from, payload), from).await);
    }
}

/// Answers each piece of data on each connection, for ever.
///
/// # Errors
/// The listener can no longer accept.
pub async fn tcp(listener: TcpListener) -> io::Result<()> {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return Ok(());
        };
        let (stream, from) = listener.accept().await?;
        tokio::spawn(async move {
            if let Err(e) = converse(stream, from).await {
                tracing::debug!("{from}: {e}");
            }
            drop(permit);
        });
    }
}

/// The source that an answer names, without what follows.
///
/// ```
/// let source = vpc_sim::responder::source(b"SRC=10.0.0.7:4711 ping");
/// assert_eq!(source, Some("10.0.0.7:4711".parse().unwrap()));
/// ```
pub fn source(answer: &[u8]) -> Option<SocketAddr> {
    let text = answer.strip_prefix(b"SRC=")?;
    let end = text.iter().position(|b| *b == b' ')?;
    std::str::from_utf8(text.get(..end)?).ok()?.parse().ok()
}

async fn converse(mut stream: TcpStream, from: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = stream.read(&mut buffer).await?;
        if length == 0 {
            return Ok(());
        }
        let payload = buffer.get(..length).unwrap_or_default();
        stream.write_all(&reply(from, payload)).await?;
    }
}

fn reply(from: SocketAddr, payload: &[u8]) -> Vec<u8> {
    // IPv4 by an IPv6 socket is IPv4 to the reader.
    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
    let mut answer = format!("SRC={from} ").into_bytes();
    answer.extend_from_slice(payload);
    answer
}
