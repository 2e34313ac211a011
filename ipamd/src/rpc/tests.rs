//! The server on a real socket, with an engine that the test plays.

use super::*;
use crate::rpc::socket::SocketError;
use ipam_engine::api::Request as Ask;
use ipam_engine::{Refusal, RefusalKind, Status as Words};
use ipam_proto::v1;
use ipam_proto::v1::ipam_client::IpamClient;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tonic::transport::{Channel, Endpoint};

struct World {
    client: IpamClient<Channel>,
    door: mpsc::Receiver<Ask>,
    stop: oneshot::Sender<()>,
    server: tokio::task::JoinHandle<Result<(), tonic::transport::Error>>,
    path: PathBuf,
    _dir: TempDir,
}

async fn client(path: &Path) -> IpamClient<Channel> {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(path).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let channel = Endpoint::from_static("http://ipamd")
        .connect_with_connector(connector)
        .await;
    IpamClient::new(channel.expect("connects"))
}

async fn world() -> World {
    let dir = TempDir::new().expect("makes a directory");
    let path = dir.path().join("run").join("ipamd.sock");
    let bound = Bound::bind(&path).expect("binds");
    let (engine, door) = Handle::new();
    let (stop, stopped) = oneshot::channel();
    let server = tokio::spawn(serve(bound, engine, metrics(), Arc::new(Whole), async {
        let _ = stopped.await;
    }));
    let client = client(&path).await;
    World {
        client,
        door,
        stop,
        server,
        path,
        _dir: dir,
    }
}

/// A node that lacks nothing.
#[derive(Debug)]
pub(super) struct Whole;

impl Node for Whole {
    fn lacking(&self) -> Fut<'_, Vec<String>> {
        Box::pin(std::future::ready(Vec::new()))
    }

    fn trouble(&self) -> Fut<'_, Option<String>> {
        Box::pin(std::future::ready(None))
    }

    fn pods_links(&self) -> Fut<'_, BTreeMap<String, Mac>> {
        Box::pin(std::future::ready(BTreeMap::new()))
    }
}

fn metrics() -> Arc<Metrics> {
    Arc::new(Metrics::new("empty", None).expect("makes the metrics"))
}

fn allocate() -> v1::AllocateRequest {
    v1::AllocateRequest {
        wiring_version: 1,
        key: Some(v1::Key {
            network: "n".into(),
            container_id: "c".into(),
            if_name: "eth0".into(),
        }),
        timeout_ms: 1500,
        ..v1::AllocateRequest::default()
    }
}

#[tokio::test]
async fn a_refusal_keeps_its_words_and_gets_its_code() {
    use v1::allocate_reply::Result as Outcome;
    for (kind, code) in [
        (RefusalKind::TryAgain, 11),
        (RefusalKind::Cancelled, 11),
        (RefusalKind::BadRequest, 7),
        (RefusalKind::Internal, 5),
    ] {
        let mut world = world().await;
        let call = tokio::spawn(async move { world.client.allocate(allocate()).await });
        let Some(Ask::Allocate(request, reply)) = world.door.recv().await else {
            panic!("not an Allocate");
        };
        assert_eq!(request.timeout, Some(Duration::from_millis(1500)));
        assert_eq!((request.veth_prefix, request.mtu), (None, None));
        let refusal = Refusal {
            kind,
            message: "subnet full".into(),
            cause: "subnet_full",
            notes: Vec::new(),
        };
        reply.send(Err(refusal)).expect("is waited for");
        let answer = call.await.expect("ends").expect("is answered").into_inner();
        let Some(Outcome::Refusal(refusal)) = answer.result else {
            panic!("no refusal")
        };
        assert_eq!(refusal.cni_code, code);
        assert_eq!(
            (refusal.message.as_str(), refusal.cause.as_str()),
            ("subnet full", "subnet_full")
        );
    }
}

/// No answer before the engine's own.
#[tokio::test]
async fn a_release_is_answered_when_the_engine_has_answered() {
    let mut world = world().await;
    let request = v1::ReleaseRequest {
        key: allocate().key,
        ..v1::ReleaseRequest::default()
    };
    let mut call = tokio::spawn(async move { world.client.release(request).await });
    let Some(Ask::Release(_, reply)) = world.door.recv().await else {
        panic!("not a Release");
    };
    let early = tokio::time::timeout(Duration::from_millis(300), &mut call).await;
    assert!(early.is_err(), "{early:?}");
    let released = ipam_engine::Released {
        released: true,
        ..ipam_engine::Released::default()
    };
    reply.send(Ok(released)).expect("is waited for");
    let answer = call.await.expect("ends").expect("is answered").into_inner();
    assert!(answer.released && answer.refusal.is_none());
}

/// The plugin takes it as it takes a daemon that is away: the next one is asked.
#[tokio::test]
async fn a_daemon_that_stops_is_away() {
    let mut world = world().await;
    let call = tokio::spawn(async move { world.client.allocate(allocate()).await });
    let Some(Ask::Allocate(_, reply)) = world.door.recv().await else {
        panic!("not an Allocate");
    };
    let refusal = Refusal {
        kind: RefusalKind::Stopping,
        message: "stopping".into(),
        cause: "stopping",
        notes: Vec::new(),
    };
    reply.send(Err(refusal)).expect("is waited for");
    let status = call.await.expect("ends").expect_err("is no answer");
    assert_eq!(status.code(), tonic::Code::Unavailable);
}

/// A GC whose list can't be read whole ends no lease: who can't be read may live.
#[tokio::test]
async fn a_gc_that_is_half_readable_is_refused() {
    let mut world = world().await;
    let valid = |container_id: &str| v1::Valid {
        container_id: container_id.into(),
        if_name: "eth0".into(),
    };
    let request = v1::CollectRequest {
        network: "n".into(),
        valid: vec![valid("c"), valid("")],
        age_ms: 0,
    };
    let call = world.client.collect(request);
    let call = tokio::time::timeout(Duration::from_secs(20), call).await;
    let answer = call
        .expect("asks nobody")
        .expect("is answered")
        .into_inner();
    assert_eq!(answer.refusal.map(|refusal| refusal.cni_code), Some(4));
    assert!(world.door.try_recv().is_err());
}

/// A call that does not end holds up the daemon's end for a moment only.
#[tokio::test]
async fn a_call_that_stays_does_not_hold_up_the_end() {
    let mut world = world().await;
    let call = tokio::spawn(async move { world.client.allocate(allocate()).await });
    let Some(Ask::Allocate(_, _reply)) = world.door.recv().await else {
        panic!("not an Allocate");
    };
    world.stop.send(()).expect("is waited for");
    let ended = tokio::time::timeout(Duration::from_secs(30), world.server).await;
    ended.expect("in time").expect("ends").expect("serves");
    drop(call);
}

#[tokio::test]
async fn a_caller_that_goes_away_withdraws_its_request() {
    let mut world = world().await;
    let call = tokio::spawn(async move {
        let _ = world.client.allocate(allocate()).await;
    });
    let Some(Ask::Allocate(_, mut reply)) = world.door.recv().await else {
        panic!("not an Allocate");
    };
    assert!(!reply.is_closed());
    call.abort();
    let gone = tokio::time::timeout(Duration::from_secs(5), reply.closed());
    gone.await.expect("the request is withdrawn");
}

#[tokio::test]
async fn nonsense_is_answered_without_asking_the_engine() {
    use v1::allocate_reply::Result as Outcome;
    let mut world = world().await;
    let answer = world
        .client
        .allocate(v1::AllocateRequest::default())
        .await
        .expect("is answered");
    let Some(Outcome::Refusal(refusal)) = answer.into_inner().result else {
        panic!("no refusal")
    };
    assert_eq!(refusal.cni_code, 4);
    let huge = v1::ReleaseRequest {
        reason: "x".repeat(600_000),
        ..v1::ReleaseRequest::default()
    };
    let status = world.client.release(huge).await.expect_err("is too large");
    assert_eq!(status.code(), tonic::Code::OutOfRange);
    let bad = v1::ReleaseRequest {
        key: allocate().key,
        addresses: vec!["10.0.0.256".into()],
        ..v1::ReleaseRequest::default()
    };
    let answer = world
        .client
        .release(bad)
        .await
        .expect("is answered")
        .into_inner();
    assert_eq!(answer.refusal.map(|refusal| refusal.cni_code), Some(4));
    assert!(world.door.try_recv().is_err());
}

#[tokio::test]
async fn health_says_what_status_says() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let mut world = world().await;
    let path = world.path.clone();
    let engine = tokio::spawn(async move {
        let mut ready = true;
        while let Some(Ask::Status(reply)) = world.door.recv().await {
            let _ = reply.send(Words {
                ready,
                served: true,
                degraded: None,
                message: "words".into(),
            });
            ready = !ready;
        }
    });
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(path).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let channel = Endpoint::from_static("http://ipamd")
        .connect_with_connector(connector)
        .await;
    let mut health = HealthClient::new(channel.expect("connects"));
    for (service, want) in [("", 1), ("ipamd.v1.Ipam", 2)] {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let answer = health
            .check(request)
            .await
            .expect("is answered")
            .into_inner();
        assert_eq!(answer.status, want, "{service:?}");
    }
    let request = HealthCheckRequest {
        service: "other".into(),
    };
    assert_eq!(
        health.check(request).await.expect_err("no").code(),
        tonic::Code::NotFound
    );
    let probed = probe(&world.path).await.expect("is ready");
    assert_eq!(probed, "words");
    assert!(matches!(
        probe(&world.path).await,
        Err(ProbeError::NotReady(_))
    ));
    engine.abort();
    assert!(matches!(
        probe(Path::new("/nonexistent")).await,
        Err(ProbeError::Unreachable(..))
    ));
}

#[tokio::test]
async fn the_socket_is_its_owners_and_goes_with_the_server() {
    let world = world().await;
    let mode = std::fs::metadata(&world.path)
        .expect("is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(matches!(
        Bound::bind(&world.path),
        Err(SocketError::Taken(_))
    ));
    world.stop.send(()).expect("is waited for");
    drop(world.client);
    world
        .server
        .await
        .expect("ends")
        .expect("serves to the end");
    assert!(!world.path.exists());
}

#[tokio::test]
async fn a_dead_daemons_socket_is_replaced() {
    let dir = TempDir::new().expect("makes a directory");
    let path = dir.path().join("ipamd.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).expect("binds"));
    assert!(path.exists());
    let bound = Bound::bind(&path).expect("replaces it");
    // A successor's socket is not removed by its predecessor's end.
    std::fs::remove_file(&path).expect("removes");
    let _next = std::os::unix::net::UnixListener::bind(&path).expect("binds");
    drop(bound);
    assert!(path.exists());
}

#[test]
fn only_root_and_the_owner_are_admitted() {
    for (caller, owner, want) in [
        (Some(0), 0, true),
        (Some(0), 1000, true),
        (Some(1000), 1000, true),
        (Some(1000), 0, false),
        (Some(1001), 1000, false),
        (None, 0, false),
    ] {
        assert_eq!(
            admitted(caller, owner).is_ok(),
            want,
            "{caller:?} calls {owner}"
        );
    }
    // Without the kernel's word on the caller there is no admission.
    assert!(admit(Request::new(()), 0).is_err());
}
