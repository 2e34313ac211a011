//! Packets in flight: a numbered datagram every few milliseconds to a responder, and what came back.

use crate::fail;
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};
use vpc_sim::NetNs;
use vpc_sim::testing::Failure;

/// Between two datagrams.
const EVERY: Duration = Duration::from_millis(5);
/// For the last answers.
const LAST: Duration = Duration::from_secs(2);

/// What became of a flow.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Datagrams sent.
    pub sent: usize,
    /// Those of which no answer came.
    pub lost: usize,
    /// The longest time without an answer.
    pub gap: Duration,
}

/// A flow that runs until it is asked for what became of it.
#[derive(Debug)]
pub struct Flow {
    name: String,
    end: Arc<AtomicBool>,
    task: JoinHandle<io::Result<Told>>,
    runtime: Handle,
}

impl Flow {
    /// Begins one, from a namespace to a responder.
    ///
    /// # Errors
    /// No socket.
    pub fn begin(
        runtime: &Runtime,
        name: &str,
        net: &NetNs,
        to: SocketAddr,
    ) -> Result<Self, Failure> {
        let any: IpAddr = match to {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = net.udp(SocketAddr::new(any, 0))?;
        let end = Arc::new(AtomicBool::new(false));
        let task = runtime.spawn(run(socket, to, Arc::clone(&end)));
        Ok(Self {
            name: name.into(),
            end,
            task,
            runtime: runtime.handle().clone(),
        })
    }

    /// Ends it.
    ///
    /// # Errors
    /// Nothing ever came back.
    pub fn end(self) -> Result<Told, Failure> {
        self.end.store(true, Ordering::Relaxed);
        let told = self.runtime.block_on(self.task)??;
        println!("  {}: {told:?}", self.name);
        if told.lost == told.sent {
            return fail(format!("{}: nothing came back", self.name));
        }
        Ok(told)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

async fn run(
    socket: std::net::UdpSocket,
    to: SocketAddr,
    end: Arc<AtomicBool>,
) -> io::Result<Told> {
    let socket = UdpSocket::from_std(socket)?;
    socket.connect(to).await?;
    let mut clock = interval(EVERY);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut sent, mut back) = (0_usize, BTreeSet::new());
    let (mut last, mut gap) = (Instant::now(), Duration::ZERO);
    let mut buffer = [0; 512];
    while !end.load(Ordering::Relaxed) {
        tokio::select! {
            _ = clock.tick() => {
                // A way that is gone for a moment is told by an error: that is a loss like any other.
                let _ = socket.send(format!("#{sent}").as_bytes()).await;
                sent += 1;
            }
            received = socket.recv(&mut buffer) => if let Ok(length) = received {
                back.extend(number(&buffer[..length]));
                gap = gap.max(last.elapsed());
                last = Instant::now();
            }
        }
    }
    let rest = Instant::now();
    while back.len() < sent && rest.elapsed() < LAST {
        if let Ok(Ok(length)) = timeout(LAST / 10, socket.recv(&mut buffer)).await {
            back.extend(number(&buffer[..length]));
        }
    }
    // A way that did not come back by the end has no last answer.
    let open = rest.duration_since(last);
    Ok(Told {
        sent,
        lost: sent - back.len(),
        gap: gap.max(open),
    })
}

fn number(answer: &[u8]) -> Option<usize> {
    let text = std::str::from_utf8(answer).ok()?;
    text.rsplit_once('#')?.1.parse().ok()
}
