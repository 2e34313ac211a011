//! A daemon that speaks the real protocol over a real socket, and does as a test says. The wiring
//! is core's own.

use ipam_core::wiring::{MTU_DEFAULT, PodInput, PodWiring, host_if_name, pod_macs, pod_wiring};
use ipam_core::{AttachmentKey, Lease, PodRef, Timestamp};
use ipam_proto::v1::allocate_reply::Result as Allocated;
use ipam_proto::v1::ipam_server::{Ipam, IpamServer};
use ipam_proto::v1::{self, Refusal};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

/// Changes a wiring.
pub(crate) type Harm = Box<dyn Fn(&mut v1::PodWiring) + Send>;

/// What the daemon does and knows.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) leases: BTreeMap<AttachmentKey, PodWiring>,
    /// Given out in this order; an ADD beyond them is refused.
    pub(crate) free: Vec<IpAddr>,
    /// Both of them, if `true`.
    pub(crate) dual: bool,
    pub(crate) refuse: Option<Refusal>,
    pub(crate) refuse_release: Option<Refusal>,
    pub(crate) delay: Duration,
    /// Changes a wiring before it is sent.
    pub(crate) spoil: Option<fn(&mut v1::PodWiring)>,
    /// The same, by what a search has found.
    pub(crate) harm: Option<Harm>,
    pub(crate) not_ready: Option<(u32, String)>,
    /// Of the next attachment among its pod's.
    pub(crate) place: u32,
    /// Node-local addresses of the next leases.
    pub(crate) local: Vec<IpAddr>,
    pub(crate) allocated: Vec<v1::AllocateRequest>,
    pub(crate) released: Vec<v1::ReleaseRequest>,
    salt: u64,
}

#[derive(Clone, Default)]
struct Service(Arc<Mutex<State>>);

pub(crate) struct Daemon {
    state: Arc<Mutex<State>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
    socket: PathBuf,
}

impl Daemon {
    /// Listens in `dir` at `ipamd.sock`.
    pub(crate) fn start(dir: &Path) -> Self {
        let free = (1..=20).map(|n| IpAddr::from([10, 1, 0, n])).collect();
        Self::with(
            dir,
            Arc::new(Mutex::new(State {
                free,
                ..State::default()
            })),
        )
    }

    fn with(dir: &Path, state: Arc<Mutex<State>>) -> Self {
        let socket = dir.join("ipamd.sock");
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let (service, path) = (Service(Arc::clone(&state)), socket.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build();
            runtime.expect("a runtime").block_on(async move {
                let listener = tokio::net::UnixListener::bind(path).expect("the socket");
                ready.send(()).expect("the test waits");
                let server =
                    tonic::transport::Server::builder().add_service(IpamServer::new(service));
                let incoming = UnixListenerStream::new(listener);
                tokio::select! {
                    result = server.serve_with_incoming(incoming) => result.expect("serves"),
                    _ = stopped => {}
                }
            });
        });
        is_ready.recv().expect("the daemon listens");
        Self {
            state,
            stop: Some(stop),
            thread: Some(thread),
            socket,
        }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while it was held")
    }

    /// Ends it; what it knows stays for [`Daemon::again`].
    pub(crate) fn stop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the daemon ends well");
            std::fs::remove_file(&self.socket).expect("its socket is there");
        }
    }

    /// Starts it anew with what it knew.
    pub(crate) fn again(&mut self) {
        self.stop();
        let dir = self.socket.parent().expect("a directory").to_owned();
        *self = Self::with(&dir, Arc::clone(&self.state));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.stop();
    }
}

impl State {
    fn lease(&mut self, key: AttachmentKey, request: &v1::AllocateRequest) -> Option<PodWiring> {
        if let Some(wiring) = self.leases.get(&key) {
            return Some(wiring.clone());
        }
        let count = if self.dual { 2 } else { 1 };
        let mut addresses: Vec<_> = self.free.drain(..count.min(self.free.len())).collect();
        addresses.first()?;
        addresses.extend(&self.local);
        let pod = request.pod.clone().map(PodRef::from).unwrap_or_default();
        self.salt += 1;
        let (host_mac, pod_mac) = pod_macs(&key, self.salt);
        let host_if = host_if_name("eni", &pod, &key, self.place);
        let key_of = key.clone();
        let lease = Lease {
            key,
            pod,
            addresses,
            host_if,
            host_mac,
            pod_mac,
            since: Timestamp(0),
        };
        let mtu = if request.mtu == 0 {
            MTU_DEFAULT
        } else {
            request.mtu
        };
        let place = self.place;
        let wiring = pod_wiring(&lease, PodInput { mtu, place });
        self.leases.insert(key_of, wiring.clone());
        Some(wiring)
    }
}

fn key_of(key: Option<v1::Key>) -> Result<AttachmentKey, Status> {
    let key = key.ok_or_else(|| Status::invalid_argument("no key"))?;
    AttachmentKey::try_from(key).map_err(|e| Status::invalid_argument(e.to_string()))
}

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic while it was held")
    }
}

#[tonic::async_trait]
impl Ipam for Service {
    async fn allocate(
        &self,
        request: Request<v1::AllocateRequest>,
    ) -> Result<Response<v1::AllocateReply>, Status> {
        let delay = self.state().delay;
        if !delay.is_zero() {
            // Even a sleep of nothing waits for tokio's next millisecond.
            tokio::time::sleep(delay).await;
        }
        let request = request.into_inner();
        let key = key_of(request.key.clone())?;
        let mut state = self.state();
        state.allocated.push(request.clone());
        let result = match state.refuse.clone() {
            Some(refusal) => Allocated::Refusal(refusal),
            None => match state.lease(key, &request) {
                None => return Err(Status::resource_exhausted("the test has no more addresses")),
                Some(wiring) => {
                    let mut wiring = wiring.into();
                    if let Some(spoil) = state.spoil {
                        spoil(&mut wiring);
                    }
                    if let Some(harm) = &state.harm {
                        harm(&mut wiring);
                    }
                    Allocated::Wiring(wiring)
                }
            },
        };
        Ok(Response::new(v1::AllocateReply {
            result: Some(result),
        }))
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseReply>, Status> {
        let request = request.into_inner();
        let key = key_of(request.key.clone())?;
        let mut state = self.state();
        state.released.push(request);
        let mut reply = v1::ReleaseReply::default();
        if let Some(refusal) = state.refuse_release.clone() {
            reply.refusal = Some(refusal);
        } else if let Some(wiring) = state.leases.remove(&key) {
            reply.released = true;
            reply.addresses = wiring
                .pod_addresses
                .iter()
                .map(|net| net.addr().to_string())
                .collect();
            reply.host_if = wiring.host_if;
            reply.host_rules = wiring.host_rules.into_iter().map(v1::Rule::from).collect();
            reply.pod_rules = wiring.pod_rules.into_iter().map(v1::Rule::from).collect();
        }
        Ok(Response::new(reply))
    }

    async fn check(
        &self,
        request: Request<v1::CheckRequest>,
    ) -> Result<Response<v1::CheckReply>, Status> {
        let key = key_of(request.into_inner().key)?;
        let wiring = self
            .state()
            .leases
            .get(&key)
            .cloned()
            .map(v1::PodWiring::from);
        Ok(Response::new(v1::CheckReply {
            wiring,
            ..v1::CheckReply::default()
        }))
    }

    async fn collect(
        &self,
        _: Request<v1::CollectRequest>,
    ) -> Result<Response<v1::CollectReply>, Status> {
        // As a daemon that is older than the call.
        Err(Status::unimplemented("unknown method Collect"))
    }

    async fn status(
        &self,
        _: Request<v1::StatusRequest>,
    ) -> Result<Response<v1::StatusReply>, Status> {
        let state = self.state();
        let (cni_code, message) = state.not_ready.clone().unwrap_or_default();
        Ok(Response::new(v1::StatusReply {
            ready: cni_code == 0,
            cni_code,
            message,
            up: true,
        }))
    }

    async fn inspect(
        &self,
        _: Request<v1::InspectRequest>,
    ) -> Result<Response<v1::InspectReply>, Status> {
        Err(Status::unimplemented("not in this test"))
    }
}
