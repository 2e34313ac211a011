//! The oracle of the kernel is no mute: each of its promises is broken here on purpose, and it says so.

use super::*;
use crate::life::Life;
use crate::node::Node;
use crate::oracle::{Living, Promise};
use crate::settle::settings;
use ipam_core::plan::Policy;
use ipam_engine::ports::{HostNet, Leftover};
use vpc_model::request::{Action, UnassignPrivateIpAddresses};

const SECOND: Duration = Duration::from_secs(1);

/// A node whose daemon runs, and a pod on it that has been served for a while.
struct Scene {
    world: World,
    node: Node,
    ip: IpAddr,
    host_if: String,
}

impl Scene {
    async fn new() -> Self {
        let world = World::of_one_node().expect("a VPC");
        let mut node = Node::new(&world, "a").expect("a node");
        node.start(settings(Policy::default()));
        let wiring = node.add(1, 30 * SECOND).await.expect("an address");
        let ip = wiring.pod_addresses[0].addr();
        let scene = Self {
            host_if: wiring.host_if,
            world,
            node,
            ip,
        };
        scene.lives();
        scene.node.kernel.wired(&[ip]);
        // What the start of the daemon excuses is over.
        tokio::time::sleep(90 * SECOND).await;
        assert_eq!(scene.broken(), []);
        scene
    }

    /// The pod is up, as the oracle is told of it.
    fn lives(&self) {
        let living = Living {
            ips: vec![self.ip],
            host_if: self.host_if.clone(),
            wired: true,
            ..Living::default()
        };
        let key = ("a".to_owned(), crate::node::pod(1).0);
        self.world.oracle().living.insert(key, living);
    }

    /// Promises that were broken since the last look.
    fn broken(&self) -> Vec<Promise> {
        let breaches = std::mem::take(&mut self.world.oracle().breaches);
        breaches.into_iter().map(|breach| breach.promise).collect()
    }

    fn host(&self) -> MortalKernel {
        MortalKernel::new(self.node.kernel.clone(), Life::default())
    }

    fn leftover(&self) -> Vec<Leftover> {
        vec![Leftover {
            address: self.ip,
            host_if: self.host_if.clone(),
        }]
    }

    /// Nothing of the path is left as it was, in the way that `change` says.
    fn break_by(&self, by: By, change: impl FnOnce(&mut Tables)) {
        change(&mut self.node.kernel.tables());
        self.node.kernel.judge(by);
    }
}

fn no_rules(tables: &mut Tables) {
    tables.rules.clear();
    tables.dirty.all = true;
}

fn no_route(tables: &mut Tables, ip: IpAddr) {
    assert!(tables.unlead(ip));
}

/// What others break and the daemon hears of is back in time, and nothing is said.
#[tokio::test(start_paused = true)]
async fn a_repair_in_time_is_no_breach() {
    let scene = Scene::new().await;
    scene.node.set_route(scene.ip, None).await;
    tokio::time::sleep(120 * SECOND).await;
    scene.node.set_route(scene.ip, Some("docker0")).await;
    tokio::time::sleep(120 * SECOND).await;
    assert_eq!(scene.broken(), []);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_comes_up_unserved_is_seen() {
    let scene = Scene::new().await;
    scene.node.kernel.tables().unlead(scene.ip);
    scene.node.kernel.wired(&[scene.ip]);
    assert_eq!(scene.broken(), [Promise::PodIsServed]);
}

#[tokio::test(start_paused = true)]
async fn whatever_the_daemon_breaks_is_seen_at_once() {
    let scene = Scene::new().await;
    let daemon = By::Daemon("apply");
    scene.break_by(daemon, no_rules);
    assert_eq!(scene.broken(), [Promise::DaemonBreaksNothing]);
    // Once, as long as it stays so.
    scene.break_by(daemon, no_rules);
    assert_eq!(scene.broken(), []);
    let own = tables::kernels_own();
    scene.break_by(daemon, |tables| {
        tables.rules.extend(own);
        tables.dirty.all = true;
    });
    let ip = scene.ip;
    scene.break_by(daemon, |tables| no_route(tables, ip));
    assert_eq!(scene.broken(), [Promise::DaemonBreaksNothing]);
    scene.break_by(daemon, |tables| tables.lead(ip, "another"));
    assert_eq!(scene.broken(), [], "it is broken as it was");
    let link = scene.host_if.clone();
    scene.break_by(daemon, |tables| drop(tables.remove_veth(&link)));
    assert_eq!(scene.broken(), [Promise::DaemonBreaksNothing]);
}

/// A rule that is asked before the node's own sends the pod's packets to where nobody knows them.
#[tokio::test(start_paused = true)]
async fn a_rule_that_shadows_is_seen() {
    let scene = Scene::new().await;
    let (ip, mac) = (scene.ip, Mac([2, 0, 0, 0, 0, 1]));
    scene.break_by(By::Daemon("apply"), |tables| {
        let dev = EniDev {
            name: "ens6".into(),
            primary: false,
            up: true,
        };
        tables.enis.insert(mac, dev);
        let all = ipnet::IpNet::new_assert([0, 0, 0, 0].into(), 0);
        let route = tables::EniRoute::new(None, mac);
        tables.eni_routes.insert((2, all), route);
        tables.rules.insert(ipam_core::wiring::Rule {
            priority: 1536,
            v6: false,
            from: Some(ip.into()),
            to: None,
            fwmark: None,
            table: 2,
            suppress_prefix_len: None,
        });
        tables.dirty.all = true;
    });
    assert_eq!(scene.broken(), [Promise::DaemonBreaksNothing]);
}

/// The daemon does not hear of it, and nothing tells the oracle to be patient.
#[tokio::test(start_paused = true)]
async fn a_repair_that_does_not_come_is_seen() {
    for change in [no_route as fn(&mut Tables, IpAddr), |tables, _| {
        no_rules(tables);
    }] {
        let scene = Scene::new().await;
        let ip = scene.ip;
        scene.break_by(By::Other("a test"), |tables| change(tables, ip));
        assert_eq!(scene.broken(), []);
        tokio::time::sleep(2 * SECOND).await;
        assert_eq!(scene.broken(), [Promise::RepairedInTime]);
    }
}

#[tokio::test(start_paused = true)]
async fn what_rests_and_is_given_back_is_seen() {
    let scene = Scene::new().await;
    let IpAddr::V4(ip) = scene.ip else {
        panic!("an IPv4 pool");
    };
    let give_back = || {
        let enis = oracle::enis(&scene.world);
        let action = Action::UnassignPrivateIpAddresses(UnassignPrivateIpAddresses {
            eni: enis[0].id.as_str().into(),
            addresses: vec![ip],
            prefixes: Vec::new(),
        });
        let now = scene.world.elapsed();
        scene.world.oracle().does(now, "a", &action, &enis);
    };
    let now = scene.world.elapsed();
    let key = ("a".to_owned(), crate::node::pod(1).0);
    scene.world.oracle().ended(now, &key);
    tokio::time::sleep(29 * SECOND).await;
    give_back();
    assert_eq!(scene.broken(), [Promise::CoolingIsNotUnassigned]);
    tokio::time::sleep(2 * SECOND).await;
    give_back();
    assert_eq!(scene.broken(), []);
}

#[tokio::test(start_paused = true)]
async fn a_sweep_of_what_lives_is_seen() {
    let scene = Scene::new().await;
    // By the name of the link alone: the address is an earlier pod's.
    let mut leftover = scene.leftover();
    leftover[0].address = "10.9.9.9".parse().expect("an address");
    scene.host().sweep(leftover).await.expect("swept");
    assert_eq!(scene.broken(), [Promise::SweepsOnlyTheDead]);
    assert!(
        scene.node.has_link(&scene.host_if),
        "the adapter's own look"
    );
    scene.host().sweep(scene.leftover()).await.expect("swept");
    let both = [Promise::SweepsOnlyTheDead, Promise::DaemonBreaksNothing];
    assert_eq!(scene.broken()[..2], both);
    // Of one that has ended nothing is said.
    scene.world.oracle().living.clear();
    scene.host().sweep(scene.leftover()).await.expect("swept");
    assert_eq!(scene.broken(), []);
}

#[tokio::test(start_paused = true)]
async fn a_released_pods_route_put_back_is_seen() {
    let scene = Scene::new().await;
    scene.node.kernel.tables().unlead(scene.ip);
    scene.host().reroute(scene.leftover()).await.expect("put");
    assert_eq!(scene.broken(), []);
    scene.world.oracle().released("a", &[scene.ip]);
    scene.host().reroute(scene.leftover()).await.expect("put");
    assert_eq!(scene.broken(), [Promise::ReroutesOnlyTheLiving]);
}

/// An earlier sandbox has left its link, and a new one of the same pod has a link of the same name: the
/// daemon does not ask for its end.
#[tokio::test(start_paused = true)]
async fn a_namesakes_link_is_not_swept() {
    let mut scene = Scene::new().await;
    scene.node.end(1).await.expect("released");
    scene.world.oracle().living.clear();
    // The look at the connections has found the link, and nothing is swept before the rest is over.
    tokio::time::sleep(29 * SECOND + SECOND / 2).await;
    let (key, pod) = crate::node::named("sandbox-1a", "pod-1");
    let request = ipam_engine::Allocate {
        key,
        pod,
        timeout: None,
        wiring_version: ipam_core::wiring::WIRING_VERSION,
        veth_prefix: None,
        mtu: None,
    };
    let handle = scene.node.handle().expect("a daemon").clone();
    let wiring = handle.allocate(request).await.expect("an address");
    assert_eq!(wiring.host_if, scene.host_if);
    scene.ip = wiring.pod_addresses[0].addr();
    // Its plugin is at work: nothing leads through the link yet.
    scene.lives();
    tokio::time::sleep(30 * SECOND).await;
    scene
        .world
        .oracle()
        .breaches
        .retain(|b| b.promise == Promise::SweepsOnlyTheDead);
    assert_eq!(scene.broken(), []);
    assert!(scene.node.has_link(&scene.host_if));
}
