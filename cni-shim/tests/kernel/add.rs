//! ADD when all is well.

use crate::see::{self, assert_wired};
use crate::world::Netns;
use crate::{Outcome, Scene};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

pub(crate) fn is_wired_as_told() -> Outcome {
    let scene = Scene::new()?;
    scene.runtime.add(&scene.pod).ok();
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    scene
        .runtime
        .with_result(&Value::Null)
        .command("STATUS", "")
        .ok();
    Ok(())
}

pub(crate) fn dual_stack() -> Outcome {
    let scene = Scene::new()?;
    let mut runtime = scene.runtime.clone();
    runtime.conf["mtu"] = json!("1400");
    {
        let mut state = scene.daemon.state();
        state.dual = true;
        state.free = vec!["10.1.0.7".parse()?, "fd00:1::7".parse()?];
    }
    // As some runtimes leave it.
    let conf = "/proc/sys/net/ipv6/conf/default/disable_ipv6";
    scene.pod.run(|| std::fs::write(conf, "1"))?;
    let result = runtime.add(&scene.pod).ok();
    assert_wired(&scene.host, &scene.pod, &scene.wiring());
    assert_eq!(scene.wiring().mtu, 1400);
    assert_eq!(result["ips"][1]["address"], "fd00:1::7/128");
    assert_eq!(result["ips"][1]["gateway"], "fe80::1");
    runtime
        .with_result(&result)
        .command("CHECK", &scene.pod.path())
        .ok();
    runtime.with_result(&result).del(&scene.pod).ok();
    assert_eq!(see::routes(&scene.host), []);
    Ok(())
}

pub(crate) fn result_of_each_version() -> Outcome {
    let scene = Scene::new()?;
    let w = {
        scene.runtime.add(&scene.pod).ok();
        scene.wiring()
    };
    for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let mut runtime = scene.runtime.clone();
        runtime.conf["cniVersion"] = json!(version);
        let result = runtime.add(&scene.pod).ok();
        let mut host = json!({ "name": w.host_if, "mac": w.host_mac.to_string() });
        let mut pod = json!({
            "name": "eth0", "mac": w.pod_mac.to_string(), "sandbox": scene.pod.path(),
        });
        let mut ip = json!({
            "address": "10.1.0.1/32", "gateway": "169.254.1.1", "interface": 1,
        });
        let mut link = json!({ "dst": "169.254.1.1/32" });
        if version.starts_with('0') {
            ip["version"] = json!("4");
        }
        if version == "1.1.0" {
            host["mtu"] = json!(9001);
            pod["mtu"] = json!(9001);
            link["scope"] = json!(253);
        }
        let default = json!({ "dst": "0.0.0.0/0", "gw": "169.254.1.1" });
        let wanted = json!({
            "cniVersion": version,
            "interfaces": [host, pod],
            "ips": [ip],
            "routes": [link, default],
            "dns": {},
        });
        assert_eq!(result, wanted, "{version}");
    }
    Ok(())
}

/// A chain in which an earlier plugin has given the pod another interface.
pub(crate) fn passes_on_a_prev_result() -> Outcome {
    let scene = Scene::new()?;
    let earlier = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{ "name": "net1", "mac": "02:00:00:00:00:09", "sandbox": "/x" }],
        "ips": [{ "address": "10.9.0.1/24", "interface": 0 }],
        "dns": { "nameservers": ["10.0.0.2"] },
    });
    let result = scene.runtime.with_result(&earlier).add(&scene.pod).ok();
    let names = ["net1", scene.wiring().host_if.as_str(), "eth0"].map(Value::from);
    for (n, name) in names.iter().enumerate() {
        assert_eq!(&result["interfaces"][n]["name"], name);
    }
    assert_eq!(result["ips"][0], earlier["ips"][0]);
    assert_eq!(result["ips"][1]["interface"], 2);
    assert_eq!(result["dns"], earlier["dns"]);
    Ok(())
}

/// As the reference plugins do: the network's word, and before an earlier plugin's.
pub(crate) fn dns_reaches_the_result() -> Outcome {
    let scene = Scene::new()?;
    let dns = json!({ "nameservers": ["10.0.0.2"], "domain": "example.com", "search": ["a.example.com"] });
    let mut runtime = scene.runtime.clone();
    for (said, wanted) in [
        (json!({}), json!({})),
        (json!({ "search": [] }), json!({})),
        (dns.clone(), dns.clone()),
    ] {
        runtime.conf["dns"] = said;
        assert_eq!(runtime.add(&scene.pod).ok()["dns"], wanted);
    }
    let earlier = json!({ "cniVersion": "1.1.0", "dns": { "nameservers": ["10.9.9.9"], "options": ["ndots:2"] } });
    let with = runtime.with_result(&earlier);
    assert_eq!(with.add(&scene.pod).ok()["dns"], dns);
    runtime.conf["dns"] = json!({ "nameservers": [] });
    let with = runtime.with_result(&earlier);
    assert_eq!(with.add(&scene.pod).ok()["dns"], earlier["dns"]);
    Ok(())
}

pub(crate) fn request_carries_everything() -> Outcome {
    let scene = Scene::new()?;
    let mut runtime = scene.runtime.clone();
    runtime.conf["vethPrefix"] = json!("abc");
    runtime.conf["mtu"] = json!(1500);
    runtime.conf["addTimeout"] = json!(4000);
    runtime.add(&scene.pod).ok();
    let state = scene.daemon.state();
    let request = state.allocated.first().expect("one request");
    let key = request.key.clone().expect("a key");
    assert_eq!(
        (key.network, key.container_id, key.if_name),
        ("net".into(), "c1".into(), "eth0".into())
    );
    let pod = request.pod.clone().expect("a pod");
    assert_eq!(
        (pod.namespace.as_str(), pod.name.as_str()),
        ("default", "web-0")
    );
    assert_eq!((request.wiring_version, request.mtu), (2, 1500));
    assert_eq!(
        (request.veth_prefix.as_str(), request.netns.as_str()),
        ("abc", scene.pod.path().as_str())
    );
    assert!(
        (3000..4000).contains(&request.timeout_ms),
        "{}",
        request.timeout_ms
    );
    drop(state);
    assert!(
        scene.wiring().host_if.starts_with("eni"),
        "the daemon names it"
    );
    Ok(())
}

/// Two pods and the host, each to each, through the host.
pub(crate) fn pods_and_host_exchange_packets() -> Outcome {
    let scene = Scene::new()?;
    std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
    let other = Netns::new()?;
    scene.runtime.add(&scene.pod).ok();
    scene.runtime.other("c2", "web-1").add(&other).ok();
    let (a, b): (IpAddr, IpAddr) = ("10.1.0.1".parse()?, "10.1.0.2".parse()?);
    // The host speaks from an address of its own, as a node does.
    let host_ip: IpAddr = "10.1.0.100".parse()?;
    scene.host.run(|| add_host_address(host_ip))?;
    let places = [(&scene.pod, a), (&other, b), (&scene.host, host_ip)];
    for (from_place, from) in places {
        for (to_place, to) in places.iter().filter(|(_, ip)| *ip != from) {
            let server = to_place.run(|| udp(*to, 7000))?;
            let client = from_place.run(|| udp(from, 0))?;
            client.send_to(b"hello", SocketAddr::new(*to, 7000))?;
            let mut buffer = [0; 16];
            let (count, source) = server.recv_from(&mut buffer)?;
            assert_eq!(
                (&buffer[..count], source.ip()),
                (&b"hello"[..], from),
                "{from} to {to}"
            );
            server.send_to(b"back", source)?;
            assert_eq!(client.recv(&mut buffer)?, 4, "{to} back to {from}");
        }
    }
    Ok(())
}

fn udp(ip: IpAddr, port: u16) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((ip, port))?;
    socket.set_read_timeout(Some(Duration::from_secs(3)))?;
    Ok(socket)
}

/// On `lo`, by the other netlink crate.
fn add_host_address(ip: IpAddr) -> std::io::Result<()> {
    see::change::add_address(1, ip)?;
    see::change::set_up(1)
}

/// As a node that starts: every one gets its own address and wiring.
pub(crate) fn many_at_once() -> Outcome {
    let scene = Scene::new()?;
    let pods: Vec<_> = (0..12).map(|_| Netns::new()).collect::<Result<_, _>>()?;
    std::thread::scope(|scope| {
        for (n, netns) in pods.iter().enumerate() {
            let runtime = scene.runtime.other(&format!("c{n}"), &format!("web-{n}"));
            scope.spawn(move || runtime.add(netns).ok());
        }
    });
    for (n, netns) in pods.iter().enumerate() {
        let state = scene.daemon.state();
        let wiring = state
            .leases
            .iter()
            .find(|(key, _)| key.container_id == format!("c{n}"));
        assert_wired(&scene.host, netns, wiring.expect("a lease").1);
    }
    Ok(())
}
