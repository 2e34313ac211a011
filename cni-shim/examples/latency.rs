//! How long the real plugin process takes, exec to exit, against a daemon that answers at once:
//!
//! ```text
//! cargo build -p cni-shim --profile shim --features floor
//! cargo run -p cni-shim --example latency -- target/shim 300
//! ```
//!
//! `cni-floor` is the same netlink messages with no call and no JSON.

#[path = "../tests/kernel/daemon.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod daemon;
#[path = "../tests/kernel/world.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod world;

use daemon::Daemon;
use std::cell::RefCell;
use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use world::{Netns, Runtime};

struct Bench {
    plugin: PathBuf,
    floor: PathBuf,
    runtime: Runtime,
    /// A dying namespace keeps the kernel busy, and would be measured with the next round.
    kept: RefCell<Vec<Netns>>,
}

fn main() -> Result<(), Box<dyn Error>> {
    vpc_sim::isolate()?;
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(
        arguments
            .next()
            .ok_or("which directory are the binaries in?")?,
    );
    let count: usize = arguments.next().map_or(Ok(300), |n| n.parse())?;
    let scratch = tempfile::tempdir()?;
    let daemon = Daemon::start(scratch.path());
    let runtime = Runtime::new(scratch.path());
    let (plugin, floor) = (dir.join("ipamd-cni"), dir.join("cni-floor"));
    let bench = Bench {
        plugin,
        floor,
        runtime,
        kept: RefCell::default(),
    };
    let names = ["true", "VERSION", "ADD", "DEL", "floor add", "floor del"];
    let mut times = names.map(|_| Vec::with_capacity(count));
    for n in 0..count {
        daemon.state().free = vec![[10, 1, 0, 1].into()];
        for (times, took) in times.iter_mut().zip(bench.round(n)?) {
            times.push(took);
        }
    }
    println!(
        "{:10} {:>7} {:>7} {:>7} {:>7} ms",
        "", "min", "p50", "p90", "p99"
    );
    for (name, mut times) in names.iter().zip(times) {
        times.sort_unstable();
        let at = |per_cent: usize| times[(times.len() - 1) * per_cent / 100].as_secs_f64() * 1e3;
        println!(
            "{name:10} {:7.2} {:7.2} {:7.2} {:7.2}",
            at(0),
            at(50),
            at(90),
            at(99)
        );
    }
    Ok(())
}

impl Bench {
    fn round(&self, n: usize) -> Result<[Duration; 6], Box<dyn Error>> {
        let (pod, other) = (Netns::new()?, Netns::new()?);
        let runtime = self.runtime.other(&format!("c{n}"), &format!("p{n}"));
        let nothing = timed(Command::new("/bin/true"), "")?;
        let version = self.plugin(&runtime, "VERSION", &pod)?;
        let add = self.plugin(&runtime, "ADD", &pod)?;
        let del = self.plugin(&runtime, "DEL", &pod)?;
        let link = format!("floor{n}");
        let mut floor = Command::new(&self.floor);
        floor.args(["add", &other.path(), &link, "eth0", "10.2.0.1"]);
        let floor_add = timed(floor, "")?;
        let mut floor = Command::new(&self.floor);
        floor.args(["del", &other.path(), &link, "eth0", "10.2.0.1"]);
        let floor_del = timed(floor, "")?;
        self.kept.borrow_mut().extend([pod, other]);
        Ok([nothing, version, add, del, floor_add, floor_del])
    }

    fn plugin(
        &self,
        runtime: &Runtime,
        verb: &str,
        pod: &Netns,
    ) -> Result<Duration, Box<dyn Error>> {
        let mut command = Command::new(&self.plugin);
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}",
            runtime.pod
        );
        command
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &runtime.container_id)
            .env("CNI_NETNS", pod.path())
            .env("CNI_IFNAME", &runtime.if_name)
            .env("CNI_ARGS", args);
        timed(command, &runtime.conf.to_string())
    }
}

fn timed(mut command: Command, stdin: &str) -> Result<Duration, Box<dyn Error>> {
    let begin = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    // A plugin that does not read its stdin is gone already.
    if let Some(mut pipe) = child.stdin.take() {
        drop(pipe.write_all(stdin.as_bytes()));
    }
    let output = child.wait_with_output()?;
    let took = begin.elapsed();
    if output.status.success() {
        Ok(took)
    } else {
        Err(format!("{command:?}: {output:?}").into())
    }
}
