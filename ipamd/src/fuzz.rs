//! What the searches for hostile input share: how they run, what is odd, and a server that says it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Tries so many inputs. A failure names the smallest input that fails and the seed;
/// `PROPTEST_RNG_SEED` replays one.
pub(crate) fn search<S: Strategy>(
    cases: u32,
    inputs: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) {
    let named = std::env::var("PROPTEST_RNG_SEED").ok();
    let seed = named.and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()));
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 400,
        max_shrink_time: 20_000,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    if let Err(error) = TestRunner::new(config).run(inputs, test) {
        panic!("PROPTEST_RNG_SEED={seed}: {error}");
    }
}

/// Texts that are seldom what was expected.
pub(crate) fn odd_text() -> impl Strategy<Value = String> {
    let fixed = [
        "",
        " ",
        "0",
        "-1",
        "true",
        "\u{0}",
        "%s%n",
        "\u{e4}\u{1f600}",
        "..",
        "/",
        "a b",
        "a\nb",
        "18446744073709551616",
        "4294967295",
        "-9223372036854775809",
        "1e400",
        "NaN",
        "0x7fffffffffffffff",
        "10.0.0.7",
        "10.0.0.256",
        "10.0.0.8/33",
        "10.0.1.16/28",
        "10.0.0.0/28",
        "10.0.0.7/32",
        "::1",
        "fe80::/80",
        "0.0.0.0",
        "02:00:00:00:00:07",
        "ff:ff:ff:ff:ff:ff",
        "2026-11-21T00:00:00Z",
        "&lt;",
        "&#0;",
        "&bogus;",
        "<a>",
        "]]>",
        "RequestLimitExceeded",
    ];
    let mut texts: Vec<String> = fixed.map(String::from).to_vec();
    texts.extend([
        "x".repeat(200_000),
        "9".repeat(400),
        "<a>".repeat(20_000),
        "x".to_owned() + &"\u{e4}".repeat(999),
    ]);
    prop_oneof![4 => select(texts), 1 => "\\PC{0,30}"]
}

/// One change of a text that is made of tags, lines or other pieces.
#[derive(Clone, Debug)]
pub(crate) enum Harm {
    Remove(Index),
    Twice(Index),
    Swap(Index, Index),
    Replace(Index, String),
    Insert(Index, Vec<u8>),
    Flip(Index, u8),
    Cut(Index),
}

pub(crate) fn harms() -> impl Strategy<Value = Vec<Harm>> {
    let place = any::<Index>;
    let harm = prop_oneof![
        3 => place().prop_map(Harm::Remove),
        2 => place().prop_map(Harm::Twice),
        2 => (place(), place()).prop_map(|(a, b)| Harm::Swap(a, b)),
        6 => (place(), odd_text()).prop_map(|(at, text)| Harm::Replace(at, text)),
        1 => (place(), vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Harm::Insert(at, bytes)),
        1 => (place(), any::<u8>()).prop_map(|(at, bits)| Harm::Flip(at, bits | 1)),
        1 => place().prop_map(Harm::Cut),
    ];
    vec(harm, 0..4)
}

/// Applies them to XML: a piece is a tag with the text behind it.
pub(crate) fn harmed(xml: &str, harms: &[Harm]) -> Vec<u8> {
    let mut pieces: Vec<Vec<u8>> = xml
        .split_inclusive('<')
        .map(|p| p.as_bytes().to_vec())
        .collect();
    for harm in harms.iter().filter(|_| !xml.is_empty()) {
        if pieces.is_empty() {
            break;
        }
        let at = |index: &Index| index.index(pieces.len());
        match harm {
            Harm::Remove(index) => drop(pieces.remove(at(index))),
            Harm::Twice(index) => {
                let at = at(index);
                pieces.insert(at, pieces[at].clone());
            }
            Harm::Swap(a, b) => {
                let (a, b) = (at(a), at(b));
                pieces.swap(a, b);
            }
            Harm::Replace(index, text) => {
                // What stands between this tag's end and the next tag.
                let at = at(index);
                let end = pieces[at]
                    .iter()
                    .position(|b| *b == b'>')
                    .map_or(0, |n| n + 1);
                pieces[at].truncate(end);
                pieces[at].extend_from_slice(text.as_bytes());
                pieces[at].push(b'<');
            }
            Harm::Insert(..) | Harm::Flip(..) | Harm::Cut(_) => {}
        }
    }
    harmed_bytes(pieces.concat(), harms)
}

/// Other texts in the place of some of an XML's values: what is read stays whole, and says something else.
pub(crate) fn revalued(xml: &str, values: &[(Index, String)]) -> String {
    let mut pieces: Vec<String> = xml.split('<').map(str::to_owned).collect();
    let holds = |piece: &String| {
        piece
            .split_once('>')
            .is_some_and(|(_, text)| !text.is_empty())
    };
    let places: Vec<usize> = (0..pieces.len()).filter(|n| holds(&pieces[*n])).collect();
    for (at, text) in values.iter().filter(|_| !places.is_empty()) {
        let piece = &mut pieces[*at.get(&places)];
        if let Some(end) = piece.find('>') {
            piece.truncate(end + 1);
            piece.push_str(text);
        }
    }
    pieces.join("<")
}

/// Applies those that need no pieces.
pub(crate) fn harmed_bytes(mut bytes: Vec<u8>, harms: &[Harm]) -> Vec<u8> {
    for harm in harms {
        let at = |index: &Index| index.index(bytes.len() + 1);
        match harm {
            Harm::Insert(index, new) => {
                let at = at(index);
                bytes.splice(at..at, new.iter().copied());
            }
            Harm::Flip(index, bits) => {
                let at = at(index);
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= bits;
                }
            }
            Harm::Cut(index) => bytes.truncate(index.index(bytes.len() + 1)),
            _ => {}
        }
    }
    bytes
}

type Answer = Box<dyn Fn(&str) -> Vec<u8> + Send>;

/// An HTTP server on loopback whose answers are what the test says: from a request to all bytes.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let address = listener.local_addr().expect("has an address");
        let nothing: Answer = Box::new(|_| Vec::new());
        let answer = Arc::new(Mutex::new(nothing));
        let said = Arc::clone(&answer);
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let said = Arc::clone(&said);
                std::thread::spawn(move || serve(stream, &said));
            }
        });
        Self { address, answer }
    }

    pub(crate) fn answers(&self, answer: impl Fn(&str) -> Vec<u8> + Send + 'static) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(answer);
    }
}

fn serve(mut stream: TcpStream, answer: &Mutex<Answer>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(2)));
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    let text = loop {
        let n = stream.read(&mut chunk).unwrap_or(0);
        bytes.extend_from_slice(&chunk[..n]);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            if n == 0 {
                return;
            }
            continue;
        };
        let length = head.lines().find_map(|line| {
            let line = line.to_ascii_lowercase();
            line.strip_prefix("content-length: ")?.trim().parse().ok()
        });
        if n == 0 || body.len() >= length.unwrap_or(0) {
            break text;
        }
    };
    let said = answer.lock().unwrap_or_else(PoisonError::into_inner)(&text);
    // The client may have gone.
    let _ = stream.write_all(&said);
}

/// An answer with this status and body.
pub(crate) fn http(status: u16, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}
