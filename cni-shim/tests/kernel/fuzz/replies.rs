//! Replies whose bytes were changed: no gRPC, or nearly.

use super::hostile::invoke;
use super::{Picture, check_end, search};
use crate::see;
use crate::world::{Netns, Runtime};
use crate::{Failure, Outcome};
use ipam_proto::v1;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;
use prost::Message as _;
use std::cell::RefCell;
use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// HTTP/2 frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

/// Literal field without indexing, no Huffman code (RFC 7541, section 6.2.2).
fn field(name: &str, value: &str) -> Vec<u8> {
    let mut bytes = vec![0];
    for text in [name, value] {
        bytes.push(u8::try_from(text.len()).unwrap_or(0));
        bytes.extend_from_slice(text.as_bytes());
    }
    bytes
}

/// A good answer, frame by frame.
fn good_frames(message: &[u8]) -> Vec<Vec<u8>> {
    let mut head = vec![0x88];
    head.extend(field("content-type", "application/grpc"));
    let mut body = vec![0];
    body.extend(u32::try_from(message.len()).unwrap_or(0).to_be_bytes());
    body.extend_from_slice(message);
    vec![
        frame(4, 0, 0, &[]),
        frame(4, 1, 0, &[]),
        frame(1, 4, 1, &head),
        frame(0, 0, 1, &body),
        frame(1, 5, 1, &field("grpc-status", "0")),
    ]
}

#[derive(Clone, Debug)]
enum Harm {
    None,
    Cut,
    Flip(u8),
    Insert(Vec<u8>),
    Again,
    Drop,
}

#[derive(Clone, Debug)]
struct Reply {
    harms: Vec<(usize, prop::sample::Index, Harm)>,
    /// The connection stays open, and silent.
    hangs: bool,
    verb: &'static str,
}

fn reply() -> impl Strategy<Value = Reply> {
    let harm = prop_oneof![
        1 => Just(Harm::None),
        2 => Just(Harm::Cut),
        4 => any::<u8>().prop_map(|bits| Harm::Flip(bits | 1)),
        2 => vec(any::<u8>(), 1..40).prop_map(Harm::Insert),
        1 => Just(Harm::Again),
        1 => Just(Harm::Drop),
    ];
    let verb = select(vec!["ADD", "ADD", "DEL", "CHECK", "STATUS"]);
    (
        vec((0..5_usize, any::<prop::sample::Index>(), harm), 1..4),
        prop::bool::weighted(0.1),
        verb,
    )
        .prop_map(|(harms, hangs, verb)| Reply {
            harms,
            // Only an ADD says itself how long it waits.
            hangs: hangs && verb == "ADD",
            verb,
        })
}

fn bytes_of(reply: &Reply, message: &[u8]) -> Vec<u8> {
    let mut frames = good_frames(message);
    for (at, index, harm) in &reply.harms {
        let frame = &mut frames[*at];
        let place = index.index(frame.len() + 1);
        match harm {
            Harm::None => {}
            Harm::Cut => frame.truncate(place),
            Harm::Flip(bits) => {
                if let Some(byte) = frame.get_mut(place) {
                    *byte ^= bits;
                }
            }
            Harm::Insert(bytes) => drop(frame.splice(place..place, bytes.iter().copied())),
            Harm::Again => frame.extend(frame.clone()),
            Harm::Drop => frame.clear(),
        }
    }
    frames.concat()
}

/// What a connection is answered with, and whether it stays open then.
type Words = (Vec<u8>, bool);

/// Answers the next connection with what it is told, and those after it well: a plugin that tries
/// again is not what this is about.
struct Parrot {
    bytes: Arc<Mutex<(Words, Option<Vec<u8>>)>>,
    ended: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
    socket: std::path::PathBuf,
}

impl Parrot {
    fn start(dir: &Path) -> Result<Self, Failure> {
        let socket = dir.join("ipamd.sock");
        let listener = UnixListener::bind(&socket)?;
        let bytes = Arc::new(Mutex::new(((Vec::new(), false), None)));
        let ended = Arc::new(AtomicBool::new(false));
        let (words, end) = (Arc::clone(&bytes), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                if end.load(Ordering::Relaxed) {
                    return;
                }
                // The greeting and the request come in one piece.
                let _ = stream.set_read_timeout(Some(Duration::from_secs(1)));
                let _ = stream.read(&mut [0; 16 * 1024]);
                let (bytes, hangs) = {
                    let mut words = words.lock().expect("no panic while it was held");
                    match words.1.take() {
                        Some(good) => std::mem::replace(&mut words.0, (good, false)),
                        None => words.0.clone(),
                    }
                };
                // The plugin may have gone.
                let _ = stream.write_all(&bytes);
                if hangs {
                    silent.push(stream);
                    let surplus = silent.len().saturating_sub(8);
                    silent.drain(..surplus);
                }
            }
        });
        Ok(Self {
            bytes,
            ended,
            thread: Some(thread),
            socket,
        })
    }
}

impl Drop for Parrot {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        let _ = std::os::unix::net::UnixStream::connect(&self.socket);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A message that was good: what a real daemon says.
fn message(verb: &str) -> Vec<u8> {
    let wiring = v1::PodWiring {
        version: 1,
        host_if: "eni0123456789a".into(),
        host_mac: "02:00:00:00:00:01".into(),
        pod_if: "eth0".into(),
        pod_mac: "02:00:00:00:00:02".into(),
        mtu: 1500,
        pod_addresses: vec!["10.1.0.1/32".into()],
        gateways: vec!["169.254.1.1".into()],
        ..v1::PodWiring::default()
    };
    match verb {
        "ADD" => {
            let result = Some(v1::allocate_reply::Result::Wiring(wiring));
            v1::AllocateReply { result }.encode_to_vec()
        }
        "DEL" => v1::ReleaseReply {
            released: true,
            host_if: wiring.host_if,
            addresses: vec!["10.1.0.1".into()],
            ..v1::ReleaseReply::default()
        }
        .encode_to_vec(),
        "CHECK" => v1::CheckReply {
            wiring: Some(wiring),
            ..v1::CheckReply::default()
        }
        .encode_to_vec(),
        _ => v1::StatusReply {
            ready: true,
            ..v1::StatusReply::default()
        }
        .encode_to_vec(),
    }
}

/// Replies whose bytes were changed.
pub(crate) fn replies() -> Outcome {
    let dir = tempfile::tempdir()?;
    let parrot = Parrot::start(dir.path())?;
    let mut runtime = Runtime::new(dir.path());
    runtime.conf["addTimeout"] = "500ms".into();
    runtime.conf["prevResult"] = serde_json::json!({"ips": [{"address": "10.1.0.1/32"}]});
    let host = Netns::new()?;
    let home = RefCell::new((host, Netns::new()?));
    search(200, &reply(), |reply| {
        let good = message(reply.verb);
        *parrot.bytes.lock().expect("no panic while it was held") = (
            (bytes_of(&reply, &good), reply.hangs),
            Some(good_frames(&good).concat()),
        );
        let (host, pod) = &*home.borrow();
        let before = Picture::of(host, pod);
        let (began, exit_code, stdout) = invoke(&runtime, reply.verb, host, pod)?;
        check_end(began, exit_code, &stdout)?;
        if reply.verb != "ADD" || exit_code != 0 {
            prop_assert_eq!(before, Picture::of(host, pod), "exit code {}", exit_code);
        } else {
            let index = see::links(host)
                .iter()
                .map(|link| link.index)
                .collect::<Vec<_>>();
            host.run(|| {
                index
                    .iter()
                    .try_for_each(|index| see::change::delete(*index))
            })
            .map_err(|e| TestCaseError::fail(e.to_string()))?;
        }
        Ok(())
    })
}
