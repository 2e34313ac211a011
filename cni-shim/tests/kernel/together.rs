//! Two plugin processes for one attachment at once.

use crate::see::{self, assert_empty, assert_wired};
use crate::world::{Answer, Netns, Runtime};
use crate::{Outcome, Scene};
use serde_json::json;
use std::fs::File;
use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PODS: usize = 10;

/// A plugin process.
#[derive(Debug)]
struct Plugin {
    child: Child,
    conf: String,
}

impl Plugin {
    /// Starts an ADD. It waits for [`Plugin::go`].
    fn add(runtime: &Runtime, netns: &Netns) -> std::io::Result<Self> {
        let child = Command::new(env!("CARGO_BIN_EXE_ipamd-cni"))
            .envs(runtime.env("ADD", &netns.path()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let conf = runtime.conf.to_string();
        Ok(Self { child, conf })
    }

    /// Tells it the configuration, which it waits for.
    fn go(&mut self) -> std::io::Result<()> {
        let mut stdin = self.child.stdin.take().expect("not told before");
        stdin.write_all(self.conf.as_bytes())
    }

    fn answer(self) -> std::io::Result<Answer> {
        let output = self.child.wait_with_output()?;
        let exit_code = output.status.code().and_then(|code| code.try_into().ok());
        Ok(Answer::read(exit_code.expect("it exits"), &output.stdout))
    }
}

/// A lock on a namespace such as another plugin process holds.
fn locked(netns: &Netns) -> std::io::Result<File> {
    let file = File::open(netns.path())?;
    file.lock()?;
    Ok(file)
}

/// Both succeed with the same result, of a pod that is wired and leased once.
pub(crate) fn two_adds_of_each_pod() -> Outcome {
    let scene = Scene::new()?;
    let pods: Vec<_> = (0..PODS).map(|_| Netns::new()).collect::<Result<_, _>>()?;
    let runtime = |n| scene.runtime.other(&format!("c{n}"), &format!("web-{n}"));
    let mut started = Vec::new();
    for (n, netns) in pods.iter().enumerate() {
        let runtime = runtime(n);
        started.push([Plugin::add(&runtime, netns)?, Plugin::add(&runtime, netns)?]);
    }
    // Each waits for its configuration.
    for plugin in started.iter_mut().flatten() {
        plugin.go()?;
    }
    let mut wrong = Vec::new();
    for (n, pair) in started.into_iter().enumerate() {
        let [one, other] = pair.map(|plugin| plugin.answer().expect("it ends"));
        if one.exit_code != 0 || one.json != other.json {
            wrong.push(format!("pod {n}: {} and {}", one.json, other.json));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let state = scene.daemon.state();
    assert!(state.released.is_empty(), "{:?}", state.released);
    assert_eq!(
        (state.leases.len(), state.allocated.len()),
        (PODS, 2 * PODS)
    );
    assert_eq!(see::links(&scene.host).len(), PODS);
    for (n, netns) in pods.iter().enumerate() {
        let mut leases = state.leases.iter();
        let lease = leases.find(|(key, _)| key.container_id == format!("c{n}"));
        assert_wired(&scene.host, netns, lease.expect("a lease").1);
    }
    Ok(())
}

/// One fails and gives its lease back: the other must not wire that lease, but get one of its own.
pub(crate) fn one_fails_and_releases() -> Outcome {
    let scene = Scene::new()?;
    scene.daemon.state().spoil = Some(|wiring| {
        if wiring.pod_addresses[0].starts_with("10.1.0.1/") {
            wiring.pod_routes[1].via = "10.250.0.1".into();
        }
    });
    // Both requests are with the daemon before either is answered, if nothing keeps one back.
    scene.daemon.state().delay = Duration::from_millis(100);
    let mut started = [(); 2].map(|()| Plugin::add(&scene.runtime, &scene.pod).expect("it starts"));
    for plugin in &mut started {
        plugin.go()?;
    }
    let answers = started.map(|plugin| plugin.answer().expect("it ends"));
    let (good, bad): (Vec<Answer>, Vec<Answer>) = answers
        .into_iter()
        .partition(|answer| answer.exit_code == 0);
    for answer in bad {
        let msg = answer.error(101);
        assert!(msg.contains("add route 0.0.0.0/0 in the pod"), "{msg}");
    }
    assert_eq!(good.len(), 1);
    assert_eq!(good[0].json["ips"][0]["address"], "10.1.0.2/32");
    assert_eq!(scene.daemon.state().leases.len(), 1);
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    Ok(())
}

/// The other one takes its time: longer than this ADD may, or not.
pub(crate) fn add_waits_for_another() -> Outcome {
    let scene = Scene::new()?;
    let mut runtime = scene.runtime.clone();
    runtime.conf["addTimeout"] = json!("400ms");
    let lock = locked(&scene.pod)?;
    let begin = Instant::now();
    let msg = runtime.add(&scene.pod).error(11);
    assert!(msg.contains("another ADD or DEL in"), "{msg}");
    let waited = begin.elapsed();
    assert!((300..2000).contains(&waited.as_millis()), "{waited:?}");
    assert!(scene.daemon.state().allocated.is_empty());
    assert_empty(&scene.host);
    std::thread::scope(|scope| {
        let add = scope.spawn(|| scene.runtime.add(&scene.pod).ok());
        std::thread::sleep(Duration::from_millis(200));
        assert!(see::links(&scene.host).is_empty(), "it waits");
        drop(lock);
        add.join().expect("the ADD ends")
    });
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    Ok(())
}

/// A DEL lets an ADD finish before it looks for routes, but releases at once, and is never kept.
pub(crate) fn del_waits_a_moment() -> Outcome {
    let scene = Scene::new()?;
    let result = scene.runtime.add(&scene.pod).ok();
    let _lock = locked(&scene.pod)?;
    let begin = Instant::now();
    scene.runtime.with_result(&result).del(&scene.pod).ok();
    let waited = begin.elapsed();
    assert!((250..2000).contains(&waited.as_millis()), "{waited:?}");
    assert!(scene.daemon.state().leases.is_empty());
    assert_eq!(see::routes(&scene.host), []);
    Ok(())
}

/// A repeated ADD that fails without having built anything leaves the first one's lease alone.
pub(crate) fn failed_add_of_a_live_pod() -> Outcome {
    let scene = Scene::new()?;
    scene.runtime.add(&scene.pod).ok();
    let wiring = scene.wiring();
    scene.daemon.state().spoil = Some(|wiring| wiring.version = 99);
    scene.runtime.add(&scene.pod).error(103);
    assert!(scene.daemon.state().released.is_empty());
    assert_wired(&scene.host, &scene.pod, &wiring);
    // The daemon tells another name for the pod's end, and a stranger has it.
    let third = Netns::new()?;
    scene
        .pod
        .run(|| see::change::add_veth("eth1", "x", &third))?;
    scene.daemon.state().spoil = Some(|wiring| {
        wiring.pod_if = "eth1".into();
        let routes = wiring.pod_routes.iter_mut().map(|route| &mut route.dev);
        let neighbours = wiring.pod_neighbours.iter_mut().map(|n| &mut n.dev);
        routes
            .chain(neighbours)
            .for_each(|dev| *dev = "eth1".into());
    });
    scene.runtime.add(&scene.pod).error(100);
    assert!(scene.daemon.state().released.is_empty());
    assert_eq!(see::links(&scene.host).len(), 1);
    Ok(())
}
