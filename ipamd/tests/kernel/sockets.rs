//! The daemon's socket when the machine is short of something, or somebody removes it.

use ipam_core::Mac;
use ipam_engine::Handle;
use ipam_engine::ports::Fut;
use ipamd::metrics::Metrics;
use ipamd::rpc::{self, Bound, Node};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::sleep;

#[derive(Debug)]
struct Whole;

impl Node for Whole {
    fn lacking(&self) -> Fut<'_, Vec<String>> {
        Box::pin(async { Vec::new() })
    }

    fn trouble(&self) -> Fut<'_, Option<String>> {
        Box::pin(async { None })
    }

    fn pods_links(&self) -> Fut<'_, BTreeMap<String, Mac>> {
        Box::pin(async { BTreeMap::new() })
    }
}

fn serve(path: &Path) -> tokio::task::JoinHandle<()> {
    let bound = Bound::bind(path).expect("binds");
    let metrics = Arc::new(Metrics::new("empty", None).expect("makes the metrics"));
    let (engine, door) = Handle::new();
    tokio::spawn(async move {
        let _door = door;
        let serving = rpc::serve(
            bound,
            engine,
            metrics,
            Arc::new(Whole),
            std::future::pending(),
        );
        serving.await.expect("serves");
    })
}

/// Processor time of this process, in hundredths of a second (proc(5), `/proc/PID/stat`).
fn spent() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").expect("reads");
    let after = stat.rsplit(") ").next().expect("has a name");
    let fields: Vec<u64> = after.split(' ').map(|n| n.parse().unwrap_or(0)).collect();
    fields[11] + fields[12]
}

/// Whether the server says something: HTTP/2 begins with its settings.
async fn is_served(stream: &mut UnixStream) -> bool {
    stream.set_nonblocking(true).expect("is a socket");
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(10) {
        if stream.read(&mut [0; 9]).is_ok_and(|n| n > 0) {
            return true;
        }
        sleep(Duration::from_millis(20)).await;
    }
    false
}

/// The accept loop neither spins nor ends, and who waits is served once there are descriptors again.
pub(super) async fn without_descriptors_the_socket_waits() {
    let dir = tempfile::TempDir::new().expect("makes a directory");
    let path = dir.path().join("ipamd.sock");
    let _server = serve(&path);
    sleep(Duration::from_millis(100)).await;
    let own = std::process::id().to_string();
    let lowered = Command::new("prlimit")
        .args(["--pid", &own, "--nofile=64:64"])
        .status();
    assert!(lowered.is_ok_and(|status| status.success()));
    let before = spent();
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    taken.pop();
    let mut stream = UnixStream::connect(&path).expect("is queued");
    sleep(Duration::from_secs(3)).await;
    drop(taken);
    let spent = spent() - before;
    assert!(spent < 60, "{spent} of 300 hundredths of a second");
    assert!(is_served(&mut stream).await);
}

pub(super) async fn the_socket_comes_back() {
    let dir = tempfile::TempDir::new().expect("makes a directory");
    let path = dir.path().join("run").join("ipamd.sock");
    let _server = serve(&path);
    let damages: [&dyn Fn(); 3] = [
        &|| fs::remove_file(&path).expect("removes"),
        &|| fs::remove_dir_all(dir.path().join("run")).expect("removes"),
        &|| {
            fs::remove_file(&path).expect("removes");
            fs::write(&path, "").expect("writes");
        },
    ];
    for damage in damages {
        sleep(Duration::from_millis(100)).await;
        damage();
        let begin = Instant::now();
        let mut stream = loop {
            match UnixStream::connect(&path) {
                Ok(stream) => break stream,
                Err(error) => assert!(begin.elapsed() < Duration::from_secs(10), "{error}"),
            }
            sleep(Duration::from_millis(20)).await;
        };
        assert!(is_served(&mut stream).await);
    }
    // A successor's is left alone.
    fs::remove_file(&path).expect("removes");
    let successor = std::os::unix::net::UnixListener::bind(&path).expect("binds");
    sleep(Duration::from_millis(2500)).await;
    let inode = |path: &Path| {
        use std::os::unix::fs::MetadataExt as _;
        fs::metadata(path).map(|m| m.ino()).expect("is there")
    };
    let before = inode(&path);
    sleep(Duration::from_millis(1200)).await;
    assert_eq!(inode(&path), before);
    drop(successor);
}
