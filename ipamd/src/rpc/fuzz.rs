//! Bytes on the socket that are no gRPC, or nearly: others are served all the while.

use super::*;
use crate::fuzz::{Harm, harmed_bytes, harms, odd_text, search};
use ipam_engine::api::Request as Ask;
use ipam_engine::{Refusal, RefusalKind, Released};
use ipam_proto::v1;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;
use tempfile::TempDir;

/// The server's thread. A panic while it serves a call ends that call's connection only.
const SERVER: &str = "rpc-fuzz";

/// Panics in the server's thread.
static PANICS: AtomicUsize = AtomicUsize::new(0);
/// Requests that came as far as the engine.
static ASKED: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if std::thread::current().name() == Some(SERVER) {
            PANICS.fetch_add(1, Ordering::SeqCst);
        }
        usual(panic);
    }));
}

/// Where the server listens; it ends with the test's process.
fn start(dir: &TempDir) -> PathBuf {
    let path = dir.path().join("ipamd.sock");
    let (place, listens) = (path.clone(), std::sync::mpsc::channel());
    let server = std::thread::Builder::new().name(SERVER.into());
    let server = server.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async move {
            let bound = Bound::bind(&place).expect("binds");
            let (engine, mut door) = Handle::new();
            listens.0.send(()).expect("is waited for");
            tokio::spawn(async move {
                while let Some(ask) = door.recv().await {
                    play(ask);
                }
            });
            serve(
                bound,
                engine,
                std::sync::Arc::new(
                    crate::metrics::Metrics::new("empty", None).expect("makes the metrics"),
                ),
                std::sync::Arc::new(super::tests::Whole),
                std::future::pending(),
            )
            .await
            .expect("serves");
        });
    });
    drop(server.expect("a thread"));
    listens.1.recv().expect("listens");
    path
}

fn play(ask: Ask) {
    if !matches!(ask, Ask::Status(_)) {
        ASKED.fetch_add(1, Ordering::SeqCst);
    }
    match ask {
        Ask::Allocate(_, reply) => drop(reply.send(Err(Refusal {
            kind: RefusalKind::TryAgain,
            message: "none".into(),
            cause: "none",
            notes: Vec::new(),
        }))),
        Ask::Release(_, reply) => drop(reply.send(Ok(Released::default()))),
        Ask::Status(reply) => drop(reply.send(ipam_engine::Status {
            ready: true,
            served: true,
            degraded: None,
            message: "words".into(),
        })),
        _ => {}
    }
}

fn frame(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    let stream: u32 = if kind == 4 { 0 } else { 1 };
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Literal fields without indexing (RFC 7541, section 6.2.2); names by the static table.
fn head(method: &str) -> Vec<u8> {
    let mut bytes = vec![0x83, 0x86];
    let path = format!("/ipamd.v1.Ipam/{method}");
    for (name, value) in [(4_u8, path.as_str()), (1, "ipamd")] {
        bytes.push(name);
        bytes.push(u8::try_from(value.len()).unwrap_or(0));
        bytes.extend_from_slice(value.as_bytes());
    }
    for (name, value) in [("te", "trailers"), ("content-type", "application/grpc")] {
        bytes.push(0);
        for text in [name, value] {
            bytes.push(u8::try_from(text.len()).unwrap_or(0));
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    bytes
}

#[derive(Clone, Debug)]
struct Call {
    method: &'static str,
    texts: [String; 4],
    number: u32,
    harms: Vec<Harm>,
    keyless: bool,
    /// The connection stays open, and silent.
    stays: bool,
}

fn call() -> impl Strategy<Value = Call> {
    let method = select(vec![
        "Allocate", "Allocate", "Release", "Release", "Check", "Collect", "Status", "Inspect",
        "Nothing",
    ]);
    let texts = [
        odd_text().boxed(),
        odd_text().boxed(),
        odd_text().boxed(),
        odd_text().boxed(),
    ];
    (
        method,
        texts,
        select(vec![0, 1, 600_000, u32::MAX]),
        prop_oneof![1 => Just(Vec::new()), 1 => harms()],
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.3),
    )
        .prop_map(|(method, texts, number, harms, keyless, stays)| Call {
            method,
            texts,
            number,
            harms,
            keyless,
            stays,
        })
}

fn bytes_of(call: &Call) -> Vec<u8> {
    let [network, container_id, if_name, other] = call.texts.clone();
    let valid = v1::Valid {
        container_id: container_id.clone(),
        if_name: if_name.clone(),
    };
    let key = v1::Key {
        network: network.clone(),
        container_id,
        if_name,
    };
    let key = (!call.keyless).then_some(key);
    let message = match call.method {
        "Allocate" => prost_bytes(&v1::AllocateRequest {
            wiring_version: call.number,
            key,
            netns: other,
            timeout_ms: call.number,
            mtu: call.number,
            ..v1::AllocateRequest::default()
        }),
        "Check" => prost_bytes(&v1::CheckRequest {
            key,
            wiring_version: call.number,
        }),
        "Collect" => prost_bytes(&v1::CollectRequest {
            network,
            valid: vec![valid],
            age_ms: call.number.into(),
        }),
        _ => prost_bytes(&v1::ReleaseRequest {
            key,
            addresses: vec![other],
            ..v1::ReleaseRequest::default()
        }),
    };
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    body.extend(message);
    // A frame holds 16 KiB at most; a longer one is one more way of being wrong.
    let good = [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, &[]),
        frame(1, 4, &head(call.method)),
        frame(0, 1, &body),
    ]
    .concat();
    harmed_bytes(good, &call.harms)
}

fn prost_bytes(message: &impl prost::Message) -> Vec<u8> {
    message.encode_to_vec()
}

#[test]
fn whatever_is_sent_others_are_answered() {
    count_panics();
    let dir = TempDir::new().expect("makes a directory");
    let path = start(&dir);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    // Begun, and never ended.
    let mut half_open = Vec::new();
    for n in 0..150 {
        let mut stream = UnixStream::connect(&path).expect("connects");
        let greeting: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        stream
            .write_all(&greeting[..n % greeting.len()])
            .expect("writes");
        half_open.push(stream);
    }
    let half_open = std::cell::RefCell::new(half_open);
    search(120, &vec(call(), 1..4), |calls| {
        for call in calls {
            let mut stream = UnixStream::connect(&path).expect("connects");
            stream.set_read_timeout(Some(Duration::from_millis(20)))?;
            stream.set_write_timeout(Some(Duration::from_secs(5)))?;
            // The server may close while we write.
            let _ = stream.write_all(&bytes_of(&call));
            if call.stays {
                let mut open = half_open.borrow_mut();
                open.push(stream);
                open.remove(0);
            } else {
                let _ = stream.read(&mut [0; 4096]);
            }
        }
        let began = Instant::now();
        let probed = runtime.block_on(probe(&path));
        prop_assert!(probed.is_ok(), "{:?}", probed);
        prop_assert!(
            began.elapsed() < Duration::from_secs(5),
            "it took {:?}",
            began.elapsed()
        );
        prop_assert_eq!(PANICS.load(Ordering::SeqCst), 0, "panics of the server");
        Ok(())
    });
    let asked = ASKED.load(Ordering::SeqCst);
    assert!(asked > 20, "only {asked} requests were understood");
}
