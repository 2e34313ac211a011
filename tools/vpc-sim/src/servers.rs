//! The thread of the servers: one tokio runtime that answers for IMDS, EC2, the internet and the
//! control API, and keeps the kernel in step. Sockets are made in their namespaces and served here.

use crate::error::SimError;
use crate::http;
use crate::imds::{self, Asker};
use crate::netns::NetNs;
use crate::router::{Core, Internet};
use crate::shared::Shared;
use crate::sim::Nodes;
use crate::{EC2_ADDRESS, IMDS_ADDRESS, IMDS_ADDRESS_V6, control, ec2_server, responder};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// Blocking work in flight when the servers end is waited for so long.
const LAST_WORK: Duration = Duration::from_secs(3);

/// Listeners outside the VPC's namespaces, all optional.
#[derive(Debug, Default)]
pub struct Listeners {
    /// The control API (HTTP and JSON). Whoever reaches it may do anything to the VPC.
    pub control: Option<TcpListener>,
    /// EC2 for programs outside.
    pub ec2: Option<TcpListener>,
    /// Node name to a listener that is this node's IMDS for programs outside.
    pub imds: BTreeMap<String, TcpListener>,
}

/// The running thread; dropping ends it.
#[derive(Debug)]
pub(crate) struct Servers {
    pub(crate) control: Option<SocketAddr>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// All sockets, made but not yet served.
struct Sockets {
    ec2: Vec<TcpListener>,
    imds: Vec<(Asker, TcpListener)>,
    echo_udp: Vec<UdpSocket>,
    echo_tcp: Vec<TcpListener>,
    web: Vec<TcpListener>,
    control: Option<TcpListener>,
}

impl Servers {
    pub(crate) fn start(
        shared: &Arc<Shared>,
        core: &Core,
        internet: Internet,
        nodes: &Nodes,
        listeners: Listeners,
    ) -> Result<Self, SimError> {
        let control = listeners.control.as_ref().and_then(|l| l.local_addr().ok());
        let sockets = open_sockets(core, internet, listeners)?;
        let context = control::Context {
            shared: Arc::clone(shared),
            nodes: Arc::clone(nodes),
            internet,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(SimError::os("starting the servers"))?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new()
            .name("vpc-sim".into())
            .spawn(move || {
                runtime.block_on(async {
                    if let Err(e) = serve(sockets, &context) {
                        tracing::error!("{e}");
                    }
                    // An error means that the other end is gone: stop, too.
                    drop(stopped.await);
                });
                runtime.shutdown_timeout(LAST_WORK);
            })
            .map_err(SimError::os("starting the servers"))?;
        Ok(Self {
            control,
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn open_sockets(
    core: &Core,
    internet: Internet,
    listeners: Listeners,
) -> Result<Sockets, SimError> {
    let router = NetNs::of(&core.router);
    let there = NetNs::of(&core.internet);
    let web = |ip: IpAddr| SocketAddr::new(ip, 80);
    let echo = |ip: IpAddr| SocketAddr::new(ip, responder::PORT);
    let mut imds = vec![(
        Asker::BySource,
        router.tcp_listener(web(IMDS_ADDRESS.into()))?,
    )];
    let mut sockets = Sockets {
        ec2: vec![router.tcp_listener(web(EC2_ADDRESS.into()))?],
        imds: Vec::new(),
        echo_udp: Vec::new(),
        echo_tcp: Vec::new(),
        web: Vec::new(),
        control: listeners.control,
    };
    match router.tcp_listener(web(IMDS_ADDRESS_V6.into())) {
        Ok(listener) => imds.push((Asker::BySource, listener)),
        Err(e) => tracing::debug!("no IPv6 IMDS: {e}"),
    }
    let outside = listeners
        .imds
        .into_iter()
        .map(|(node, l)| (Asker::Node(node), l));
    sockets.imds = imds.into_iter().chain(outside).collect();
    sockets.ec2.extend(listeners.ec2);
    for ip in [IpAddr::V4(internet.v4), IpAddr::V6(internet.v6)] {
        let made = there.udp(echo(ip)).and_then(|udp| {
            sockets.echo_udp.push(udp);
            sockets.echo_tcp.push(there.tcp_listener(echo(ip))?);
            sockets.web.push(there.tcp_listener(web(ip))?);
            Ok(())
        });
        match made {
            // A kernel without IPv6 has no IPv6 internet.
            Err(e) if ip.is_ipv6() => tracing::debug!("no IPv6 internet: {e}"),
            other => other?,
        }
    }
    Ok(sockets)
}

fn serve(sockets: Sockets, context: &control::Context) -> std::io::Result<()> {
    use tokio::net::{TcpListener, UdpSocket};
    let listener = |l: std::net::TcpListener| {
        l.set_nonblocking(true)?;
        TcpListener::from_std(l)
    };
    let shared = &context.shared;
    tokio::spawn(Arc::clone(shared).follow());
    for ec2 in sockets.ec2 {
        let shared = Arc::clone(shared);
        let handler = move |request| ec2_server::handle(Arc::clone(&shared), request);
        tokio::spawn(http::serve(
            listener(ec2)?,
            ec2_server::SERVER,
            ec2_server::BODY_LIMIT,
            handler,
        ));
    }
    for (asker, socket) in sockets.imds {
        let shared = Arc::clone(shared);
        let handler = move |request| imds::handle(Arc::clone(&shared), asker.clone(), request);
        tokio::spawn(http::serve(
            listener(socket)?,
            imds::SERVER,
            imds::BODY_LIMIT,
            handler,
        ));
    }
    for socket in sockets.echo_udp {
        tokio::spawn(responder::udp(UdpSocket::from_std(socket)?));
    }
    for socket in sockets.echo_tcp {
        tokio::spawn(responder::tcp(listener(socket)?));
    }
    for socket in sockets.web {
        let context = context.clone();
        let handler = move |request: http::Inbound| {
            let answer = control::internet(&context, &request);
            async move { Ok(answer) }
        };
        tokio::spawn(http::serve(listener(socket)?, "internet", 0, handler));
    }
    if let Some(socket) = sockets.control {
        let context = context.clone();
        let handler = move |request| control::handle(context.clone(), request);
        tokio::spawn(http::serve(
            listener(socket)?,
            "vpc-sim",
            control::BODY_LIMIT,
            handler,
        ));
    }
    Ok(())
}
