//! Hostile input, searched for: bytes and changed valid inputs, by proptest. Whatever comes, a run
//! ends soon, with a result or with one CNI error and exit code 1, and one that failed has left the
//! kernel as it was.

mod hostile;
mod input;
mod replies;

pub(crate) use hostile::wirings;
pub(crate) use input::requests;
pub(crate) use replies::replies;

use crate::see;
use crate::world::Netns;
use crate::{Failure, Outcome};
use nix::mount::{MsFlags, mount};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use serde_json::Value;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::time::{Duration, Instant};

/// Far more than any run takes when nothing hangs.
const LIMIT: Duration = Duration::from_secs(8);

/// Tries so many inputs. A failure names the smallest input that fails and the seed;
/// `PROPTEST_RNG_SEED` replays one.
fn search<S: Strategy>(
    cases: u32,
    inputs: &S,
    test: impl Fn(S::Value) -> Result<(), TestCaseError>,
) -> Outcome {
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
    let found = TestRunner::new(config).run(inputs, test);
    found.map_err(|error| Failure::Wrong(format!("PROPTEST_RNG_SEED={seed}: {error}")))
}

/// Places of its own for the plugin's default paths: a changed configuration may name none.
fn private_places() -> Result<(), Failure> {
    for place in ["/run", "/var/lib"] {
        mount(
            Some("tmpfs"),
            place,
            Some("tmpfs"),
            MsFlags::empty(),
            None::<&str>,
        )?;
    }
    std::fs::create_dir("/run/ipamd")?;
    Ok(())
}

/// All that a failed run must leave as it was.
#[derive(Debug, PartialEq)]
struct Picture {
    links: [Vec<see::Link>; 2],
    routes: [Vec<see::Route>; 2],
    addresses: Vec<(u32, std::net::IpAddr, u8)>,
    rules: usize,
}

impl Picture {
    fn of(host: &Netns, pod: &Netns) -> Self {
        Self {
            links: [see::links(host), see::links(pod)],
            routes: [see::routes(host), see::routes(pod)],
            addresses: see::addresses(pod),
            rules: see::rules(host),
        }
    }
}

/// Runs `work` in a namespace. What hangs is left behind, and said.
fn in_time<T: Send + 'static>(
    netns: &Netns,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, TestCaseError> {
    let netns = netns
        .again()
        .map_err(|e| TestCaseError::fail(e.to_string()))?;
    let (send, receive) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Nobody listens any more after the limit.
        let _ = send.send(netns.run_here(work));
    });
    let done = receive.recv_timeout(LIMIT * 2);
    done.map_err(|e| TestCaseError::fail(format!("it hangs or panicked: {e}")))
}

/// What every run must be, whatever it was asked.
fn check_end(began: Instant, exit_code: u8, stdout: &[u8]) -> Result<Value, TestCaseError> {
    let took = began.elapsed();
    prop_assert!(took < LIMIT, "it took {took:?}");
    prop_assert!(exit_code <= 1, "exit code {exit_code}");
    let said = String::from_utf8_lossy(stdout);
    if exit_code == 0 && stdout.is_empty() {
        return Ok(Value::Null);
    }
    let json: Result<Value, _> = serde_json::from_slice(stdout);
    let Ok(json) = json else {
        return Err(TestCaseError::fail(format!(
            "stdout is not one JSON value: {said}"
        )));
    };
    let version = json["cniVersion"].as_str().unwrap_or_default();
    prop_assert!(
        ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"].contains(&version),
        "{said}"
    );
    if exit_code == 1 {
        let code = json["code"].as_u64().unwrap_or_default();
        prop_assert!(code > 0 && code < 1 << 32, "no error code: {said}");
        let words = json["msg"].as_str().unwrap_or_default();
        prop_assert!(!words.is_empty(), "an error without words: {said}");
    }
    Ok(json)
}

/// A pipe that nobody writes to or reads: who opens it without care waits for ever.
fn fifo(dir: &Path) -> Result<std::path::PathBuf, Failure> {
    let path = dir.join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)?;
    Ok(path)
}
