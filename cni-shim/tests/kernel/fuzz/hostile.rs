//! A daemon that is broken, older, newer, or an enemy: wirings that make no sense.

use super::{Picture, check_end, search};
use crate::daemon::Daemon;
use crate::see;
use crate::world::{Netns, Runtime};
use crate::{Failure, Outcome};
use cni_shim::{Process, run};
use ipam_proto::v1;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestCaseError;
use std::cell::RefCell;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Mutex;
use std::time::Instant;

/// A link of somebody else's, on the host and in the pod.
const DECOY: &str = "decoy";
/// A file that a wiring must not reach.
const FILE: &str = "{file}";

/// One change of a wiring.
#[derive(Clone, Debug)]
enum Change {
    Version(u32),
    Mtu(u32),
    HostIf(String),
    PodIf(String),
    Mac(String),
    Address(String),
    Gateways(usize),
    Dev(String),
    Destination(String),
    Via(String),
    Table(u32),
    Sysctl(bool, String, String),
    Neighbour(String, String),
    Rule(v1::Rule),
    /// A list, by number, so many times over.
    Again(usize, usize),
    Clear(usize),
}

fn odd_texts() -> Vec<String> {
    let fixed = [
        "",
        "x",
        "eth0",
        "lo",
        DECOY,
        "eni%d",
        "a/b",
        "..",
        "eni\u{0}x",
        "exactly15chars_",
        "sixteen_chars_xx",
        "\u{1f600}",
        "10.1.0.9/32",
        "10.1.0.1/0",
        "0.0.0.0/0",
        "fe80::/10",
        "::/0",
        "224.0.0.1/32",
        "255.255.255.255/32",
        "127.0.0.1/32",
        "169.254.1.1",
        "ff02::1",
        "::ffff:10.1.0.1",
        "10.1.0.1/33",
        "-1",
        "00:00:00:00:00:00",
        "ff:ff:ff:ff:ff:ff",
        "01:00:5e:00:00:01",
    ];
    let long = ["a".repeat(300), "b".repeat(70_000)];
    fixed.map(String::from).into_iter().chain(long).collect()
}

fn rule() -> impl Strategy<Value = v1::Rule> {
    let number = || select(vec![0, 1, 512, 2000, 32_766, u32::MAX]);
    let net = || select(vec!["", "10.1.0.1/32", "0.0.0.0/0", "::/0", "nonsense"]);
    (number(), any::<bool>(), net(), net(), number(), number()).prop_map(
        |(priority, v6, from, to, mark, table)| v1::Rule {
            priority,
            v6,
            from: from.into(),
            to: to.into(),
            fwmark: (mark > 1).then_some(mark),
            fwmask: mark,
            table,
            suppress_prefix_len: (table == 1).then_some(mark),
        },
    )
}

fn change() -> impl Strategy<Value = Change> {
    let number = || {
        select(vec![
            0,
            1,
            67,
            252,
            255,
            1_000,
            65_535,
            65_536,
            1 << 31,
            u32::MAX,
        ])
    };
    let text = || select(odd_texts());
    let keys = [
        "net/ipv4/ip_forward",
        "net/ipv4/nowhere",
        "net/../net/ipv4/ip_forward",
        "../../tmp/x",
        "",
        "net/ipv4",
        FILE,
    ];
    prop_oneof![
        number().prop_map(Change::Version),
        number().prop_map(Change::Mtu),
        text().prop_map(Change::HostIf),
        text().prop_map(Change::PodIf),
        text().prop_map(Change::Mac),
        text().prop_map(Change::Address),
        (0..4_usize).prop_map(Change::Gateways),
        text().prop_map(Change::Dev),
        text().prop_map(Change::Destination),
        text().prop_map(Change::Via),
        number().prop_map(Change::Table),
        (
            any::<bool>(),
            select(keys.map(String::from).to_vec()),
            select(vec!["1".to_owned(), "x".repeat(70_000)])
        )
            .prop_map(|(required, key, value)| Change::Sysctl(required, key, value)),
        (text(), text()).prop_map(|(ip, mac)| Change::Neighbour(ip, mac)),
        rule().prop_map(Change::Rule),
        (0..6_usize, select(vec![1, 40, 400, 4_000, 30_000]))
            .prop_map(|(list, times)| Change::Again(list, times)),
        (0..6_usize).prop_map(Change::Clear),
    ]
}

/// Applies `times` to one of the lists: each entry again so often, or none at all.
fn repeat<T: Clone>(list: &mut Vec<T>, times: Option<usize>) {
    let Some(times) = times else {
        return list.clear();
    };
    let one = list.clone();
    for _ in 0..times {
        list.extend(one.iter().cloned());
    }
}

fn apply(w: &mut v1::PodWiring, change: &Change, file: &Path) {
    let list = |w: &mut v1::PodWiring, list: usize, times: Option<usize>| match list {
        0 => {
            repeat(&mut w.pod_addresses, times);
            repeat(&mut w.gateways, times);
        }
        1 => repeat(&mut w.pod_routes, times),
        2 => repeat(&mut w.pod_neighbours, times),
        3 => repeat(&mut w.host_routes, times),
        4 => repeat(&mut w.host_rules, times),
        _ => repeat(&mut w.host_sysctls, times),
    };
    match change.clone() {
        Change::Version(version) => w.version = version,
        Change::Mtu(mtu) => w.mtu = mtu,
        Change::HostIf(name) => {
            // Consistently: the routes go by it.
            w.host_routes
                .iter_mut()
                .for_each(|r| r.dev.clone_from(&name));
            w.host_if = name;
        }
        Change::PodIf(name) => {
            w.pod_routes
                .iter_mut()
                .for_each(|r| r.dev.clone_from(&name));
            w.pod_neighbours
                .iter_mut()
                .for_each(|n| n.dev.clone_from(&name));
            w.pod_if = name;
        }
        Change::Mac(mac) => w.host_mac = mac,
        Change::Address(text) => w.pod_addresses.push(text),
        Change::Gateways(count) => w.gateways.resize(count, "169.254.1.1".into()),
        Change::Dev(dev) => {
            for route in w.host_routes.iter_mut().chain(&mut w.pod_routes) {
                route.dev.clone_from(&dev);
            }
        }
        Change::Destination(dst) => {
            let more: Vec<_> = w.host_routes.to_vec();
            w.host_routes
                .extend(more.into_iter().map(|route| v1::Route {
                    dst: dst.clone(),
                    ..route
                }));
        }
        Change::Via(via) => w.pod_routes.iter_mut().for_each(|r| r.via.clone_from(&via)),
        Change::Table(table) => w.host_routes.iter_mut().for_each(|r| r.table = table),
        Change::Sysctl(required, key, value) => {
            let key = key.replace(FILE, &file.display().to_string());
            w.host_sysctls.push(v1::Sysctl {
                key,
                value,
                required,
            });
        }
        Change::Neighbour(ip, mac) => {
            w.pod_neighbours.push(v1::Neighbour {
                dev: w.pod_if.clone(),
                ip,
                mac,
            });
        }
        Change::Rule(rule) => w.host_rules.push(rule),
        Change::Again(which, times) => list(w, which, Some(times)),
        Change::Clear(which) => list(w, which, None),
    }
}

/// Namespaces in which something of somebody else's is.
fn spaces() -> Result<(Netns, Netns), Failure> {
    let (host, pod) = (Netns::new()?, Netns::new()?);
    let third = Netns::new()?;
    for (netns, there) in [(&host, "a"), (&pod, "b")] {
        netns.run(|| see::change::add_veth(DECOY, there, &third))?;
        let index = see::link_named(netns, DECOY).map_or(0, |link| link.index);
        netns.run(|| see::change::set_up(index))?;
    }
    let there = see::links(&third);
    third.run(|| {
        there
            .iter()
            .try_for_each(|link| see::change::set_up(link.index))
    })?;
    KEPT.lock().expect("no panic while it was held").push(third);
    Ok((host, pod))
}

/// The far ends of decoys: a veth goes with its peer's namespace.
static KEPT: Mutex<Vec<Netns>> = Mutex::new(Vec::new());

/// One run in `host`: as [`Runtime::command`], with a limit.
pub(super) fn invoke(
    runtime: &Runtime,
    verb: &str,
    host: &Netns,
    pod: &Netns,
) -> Result<(Instant, u8, Vec<u8>), TestCaseError> {
    let env = runtime.env(verb, &pod.path());
    let conf = runtime.conf.to_string();
    let began = Instant::now();
    super::in_time(host, move || {
        let get = |name: &str| {
            env.iter()
                .find(|(key, _)| *key == name)
                .map(|(_, v)| OsString::from(v))
        };
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        let exit_code = run(&mut Process {
            env: &get,
            stdin: &mut conf.as_bytes(),
            stdout: &mut stdout,
            stderr: &mut stderr,
        });
        (began, exit_code, stdout)
    })
}

/// Wirings that were changed.
pub(crate) fn wirings() -> Outcome {
    let dir = tempfile::tempdir()?;
    let daemon = Daemon::start(dir.path());
    let file = dir.path().join("file");
    std::fs::write(&file, "untouched")?;
    let mut runtime = Runtime::new(dir.path());
    runtime.conf["addTimeout"] = "3s".into();
    let home = RefCell::new(spaces()?);
    search(250, &vec(change(), 1..4), |changes| {
        {
            let mut state = daemon.state();
            state.leases.clear();
            state.free = vec![IpAddr::from([10, 1, 0, 1])];
            let file = file.clone();
            state.harm = Some(Box::new(move |wiring| {
                changes
                    .iter()
                    .for_each(|change| apply(wiring, change, &file));
            }));
        }
        let borrowed = home.borrow();
        let (host, pod) = &*borrowed;
        let before = Picture::of(host, pod);
        let (began, exit_code, stdout) = invoke(&runtime, "ADD", host, pod)?;
        let json = check_end(began, exit_code, &stdout)?;
        let after = Picture::of(host, pod);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        prop_assert_eq!(text, "untouched");
        if exit_code != 0 {
            prop_assert_eq!(before, after, "{}", json);
            return Ok(());
        }
        // What was answered is there; what was there still is. (Of IPv6's own addresses, which each
        // link has, none is looked at.)
        let of_link = |ip: &&serde_json::Value| {
            let net: Option<ipnet::IpNet> =
                ip["address"].as_str().and_then(|text| text.parse().ok());
            matches!(net.map(|net| net.addr()), Some(IpAddr::V6(ip)) if ip.is_unicast_link_local())
        };
        let told = json["ips"].as_array().into_iter().flatten();
        let told = told.filter(|ip| !of_link(ip)).count();
        prop_assert_eq!(after.addresses.len(), told, "{}", json);
        for n in 0..2 {
            let stays = |link: &see::Link| after.links[n].contains(link);
            prop_assert!(before.links[n].iter().all(stays), "{:?}", after.links);
            prop_assert_eq!(after.links[n].len(), before.links[n].len() + 1);
        }
        // With the link goes all that was made for it.
        let decoy = see::link_named(host, DECOY).map_or(0, |link| link.index);
        let by_decoy = |routes: &[see::Route]| routes.iter().filter(|r| r.index == decoy).count();
        prop_assert_eq!(by_decoy(&before.routes[0]), by_decoy(&after.routes[0]));
        drop(borrowed);
        let fresh = spaces().map_err(|e| TestCaseError::fail(e.to_string()))?;
        *home.borrow_mut() = fresh;
        Ok(())
    })
}
