//! The daemon's life: store, kernel, socket, engine; then until a signal.

use crate::aws::{Site, http_client};
use crate::clock::WallClock;
use crate::config::Config;
use crate::conflist;
use crate::ec2::Ec2;
use crate::host_net::{KernelNet, watch};
use crate::imds::Imds;
use crate::kube::Kube;
use crate::log::Dropped;
use crate::metrics::{self, Metered, MeteredStore, Metrics, MetricsError};
use crate::rpc::{self, Bound, SocketError};
use crate::served;
use crate::speak::Speaker;
use crate::spool;
use crate::store::{self, OpenError};
use ipam_engine::ports::HostNet as _;
use ipam_engine::{Handle, Ports, run};
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

/// How long the end may take; the pod's grace time is 10 s.
const STOP_DEADLINE: Duration = Duration::from_secs(8);

/// Something that the daemon can't run without is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The boot's id.
    #[error("reading /proc/sys/kernel/random/boot_id")]
    BootId(#[source] io::Error),
    /// The state.
    #[error("opening the state")]
    Store(#[from] OpenError),
    /// The metrics.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The kernel.
    #[error("opening a netlink socket")]
    Netlink(#[source] io::Error),
    /// The thread of the metrics.
    #[error("starting the thread that serves metrics")]
    Scrapes(#[source] io::Error),
    /// The socket.
    #[error("opening the socket")]
    Socket(#[from] SocketError),
    /// Signals.
    #[error("listening for signals")]
    Signals(#[source] io::Error),
    /// The socket broke.
    #[error("serving")]
    Serve(#[from] tonic::transport::Error),
    /// The engine ended without being told to.
    #[error("the engine has ended unexpectedly")]
    Engine,
}

/// Runs until SIGTERM or SIGINT. The order is what makes restarts safe and quick: the state first,
/// then ears for the kernel, then the socket; IMDS and EC2 are asked by the engine, beside.
///
/// # Errors
/// See [`StartError`].
pub async fn live(config: Config, dropped: Dropped) -> Result<(), StartError> {
    let stop = stop_signal().map_err(StartError::Signals)?;
    let kernel_boot_id = kernel_boot_id().map_err(StartError::BootId)?;
    let boot_id = config.boot_id.clone().unwrap_or(kernel_boot_id.clone());
    let marker = served::Place::beside(&config.socket, &kernel_boot_id, &boot_id);
    let mut opened = store::open(&config.state_dir, &boot_id)?;
    opened.loaded.served = marker.is_marked();
    let site = Arc::new(Site::default());
    let http = http_client(config.http);
    let host = Arc::new(KernelNet::open(config.host).map_err(StartError::Netlink)?);
    // A disk may be another instance's, a golden image's. The link of its primary ENI proves that it is this one's.
    if let Some(facts) = opened
        .loaded
        .facts
        .as_ref()
        .filter(|_| opened.loaded.same_boot)
    {
        let links = host.survey().await.map(|survey| survey.links);
        if links.is_ok_and(|links| links.contains(&facts.primary_mac)) {
            let _first = site.learn(facts);
        }
    }
    let metrics = Arc::new(Metrics::new(start_state(&opened.loaded), Some(dropped))?);
    metrics.watch_packets(host.clone());
    let ec2 = Ec2::new(config.ec2, http.clone(), site.clone());
    let imds = Imds::new(http, config.imds_timeout, site);
    let ports = Ports {
        clock: Arc::new(WallClock::default()),
        cloud: Arc::new(Metered::new(ec2, metrics.clone())),
        metadata: Arc::new(Metered::new(imds, metrics.clone())),
        host: host.clone(),
        cluster: Arc::new(Speaker {
            kube: Kube::start(config.kube, metrics.clone()),
        }),
        store: Box::new(MeteredStore::new(opened.store, metrics.clone())),
    };
    let (engine, door) = Handle::new();
    // Before the engine's own look at the kernel: what happens in between is not missed.
    let monitor = watch(host.clone(), engine.clone()).map_err(StartError::Netlink)?;
    let bound = Bound::bind(&config.socket)?;
    let engine_run = tokio::spawn(run(config.engine, ports, opened.loaded, door, seed()));
    let monitor = tokio::spawn(monitor);
    tracing::info!(socket = %config.socket.display(), "listening");

    let releases = {
        let (dir, engine) = (config.state_dir.join("spool"), engine.clone());
        // The plugin knows the kernel's word alone.
        let boots = [kernel_boot_id, boot_id];
        tokio::spawn(async move {
            let boots = boots.each_ref().map(String::as_str);
            spool::keep_drained(&dir, &boots, &engine).await;
        })
    };
    let marking = tokio::spawn(marker.mark(engine.clone()));
    let installing = tokio::spawn(conflist::install(config.conflist, engine.clone()));
    let scrapes = config
        .metrics
        .map(|address| metrics::begin(address, metrics.clone(), engine.clone()))
        .transpose()
        .map_err(StartError::Scrapes)?;
    let result = until_stopped(bound, engine, (metrics, host), engine_run, stop).await;
    drop(scrapes);
    releases.abort();
    marking.abort();
    installing.abort();
    monitor.abort();
    result
}

/// Serves until `stop`; then the engine ends first (parked ADDs get their answer, the state is
/// flushed), the open calls after it.
async fn until_stopped(
    bound: Bound,
    engine: Handle,
    (metrics, host): (Arc<Metrics>, Arc<KernelNet>),
    mut engine_run: tokio::task::JoinHandle<()>,
    stop: impl Future<Output = ()>,
) -> Result<(), StartError> {
    let (told, ended) = tokio::sync::oneshot::channel::<()>();
    let mut server = tokio::spawn(rpc::serve(bound, engine.clone(), metrics, host, async {
        // An error means the same: nobody is there to serve.
        let _ = ended.await;
    }));
    tokio::select! {
        () = stop => {}
        result = &mut server => {
            return match result {
                Ok(Err(error)) => Err(error.into()),
                _ => Err(StartError::Engine),
            };
        }
        _ = &mut engine_run => return Err(StartError::Engine),
    }
    tracing::info!("stopping");
    let end = async {
        engine.stop().await;
        // A panic in the engine has been told by the panic's own message.
        let _ = engine_run.await;
        let _ = told.send(());
        let _ = server.await;
    };
    if timeout(STOP_DEADLINE, end).await.is_err() {
        tracing::warn!("not everything came to its end within {STOP_DEADLINE:?}");
    }
    Ok(())
}

/// Done when SIGTERM or SIGINT comes.
fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

fn kernel_boot_id() -> io::Result<String> {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned())
}

/// Another number for each run: the standard library seeds its hash maps from the kernel.
fn seed() -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    hasher.finish()
}

/// What the stored state was like.
fn start_state(loaded: &ipam_engine::ports::Loaded) -> &'static str {
    if !loaded.damage.is_empty() {
        "damaged"
    } else if loaded.instance.is_none() && loaded.enis.is_empty() {
        "empty"
    } else if loaded.same_boot {
        "same_boot"
    } else {
        "other_boot"
    }
}
