//! Programs and conversations in the namespaces of a scenario.

use lab::probe::Protocol;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use vpc_sim::testing::Failure;
use vpc_sim::{NetNs, responder};

use crate::fail;

/// How long to wait for an answer.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How often a datagram is sent.
    pub tries: u32,
    /// For the answer to each, and for a whole conversation by connection.
    pub wait: Duration,
}

/// For answers that must come.
pub const PATIENT: Patience = Patience {
    tries: 4,
    wait: Duration::from_secs(3),
};

/// For answers that should not come.
pub const HASTY: Patience = Patience {
    tries: 2,
    wait: Duration::from_millis(400),
};

/// Runs a program in a namespace; its output.
///
/// # Errors
/// It can't be run, or fails; its words.
pub fn output(net: &NetNs, line: &str) -> Result<String, Failure> {
    feed(net, line, "")
}

/// The same, with input.
///
/// # Errors
/// As there.
pub fn feed(net: &NetNs, line: &str, input: &str) -> Result<String, Failure> {
    let mut words = line.split_whitespace();
    let mut command = Command::new(words.next().unwrap_or_default());
    command
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = net.spawn(command)?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    fail(format!("{line}: {words}"))
}

/// Asks a responder which source it sees. `Err` inside: in words, why no answer came.
///
/// # Errors
/// The namespace is gone.
pub fn ask(
    runtime: &Runtime,
    net: &NetNs,
    protocol: Protocol,
    to: SocketAddr,
    patience: Patience,
) -> Result<Result<(SocketAddr, SocketAddr), String>, Failure> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let answer = match protocol {
        Protocol::Udp => {
            let socket = net.udp(any)?;
            runtime.block_on(datagram(socket, to, patience))
        }
        Protocol::Tcp => {
            let socket = net.tcp_socket(to.is_ipv6())?;
            let whole = async {
                timeout(patience.wait * patience.tries, connection(socket, to))
                    .await
                    .unwrap_or_else(|_| Err(std::io::Error::other("no answer in time")))
            };
            runtime.block_on(whole)
        }
    };
    Ok(answer.map_err(|e| e.to_string()).and_then(|(own, bytes)| {
        let seen = responder::source(&bytes).ok_or("nothing readable")?;
        Ok((own, seen))
    }))
}

async fn datagram(
    socket: std::net::UdpSocket,
    to: SocketAddr,
    patience: Patience,
) -> std::io::Result<(SocketAddr, Vec<u8>)> {
    let socket = UdpSocket::from_std(socket)?;
    socket.connect(to).await?;
    let mut buffer = vec![0; 512];
    for _ in 0..patience.tries {
        socket.send(b"probe").await?;
        if let Ok(length) = timeout(patience.wait, socket.recv(&mut buffer)).await {
            buffer.truncate(length?);
            return Ok((socket.local_addr()?, buffer));
        }
    }
    Err(std::io::Error::other("no answer"))
}

async fn connection(
    socket: tokio::net::TcpSocket,
    to: SocketAddr,
) -> std::io::Result<(SocketAddr, Vec<u8>)> {
    let mut stream = socket.connect(to).await?;
    stream.write_all(b"probe").await?;
    let mut buffer = vec![0; 512];
    let length = stream.read(&mut buffer).await?;
    buffer.truncate(length);
    Ok((stream.local_addr()?, buffer))
}

/// Sends so many bytes over one connection and waits for at least as many back: packets as large as
/// the links take, in both directions.
///
/// # Errors
/// The namespace is gone, or they don't come back in time.
pub fn echo(
    runtime: &Runtime,
    net: &NetNs,
    to: SocketAddr,
    bytes: usize,
    limit: Duration,
) -> Result<(), Failure> {
    let socket = net.tcp_socket(to.is_ipv6())?;
    let whole = async {
        let stream = socket.connect(to).await?;
        let (mut reader, mut writer) = stream.into_split();
        let send = async { writer.write_all(&vec![b'x'; bytes]).await };
        let receive = async {
            let (mut buffer, mut got) = (vec![0; 1 << 16], 0);
            while got < bytes {
                match reader.read(&mut buffer).await? {
                    0 => return Err(std::io::Error::other("closed")),
                    n => got += n,
                }
            }
            Ok(())
        };
        let (sent, received) = tokio::join!(send, receive);
        sent.and(received)
    };
    match runtime.block_on(async { timeout(limit, whole).await }) {
        Ok(result) => Ok(result?),
        Err(_) => fail(format!("{bytes} bytes to {to} and back: not in {limit:?}")),
    }
}
