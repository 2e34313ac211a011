//! Packets to pods that have just ended: the node must not send them on, since they would leave by an ENI
//! that does not hold their source, or go round and round between node and router.

use crate::{Outcome, Scene, ensure, fail, succeeded};
use lab::{Pod, probe};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use vpc_model::Wire;
use vpc_sim::testing::Failure;
use vpc_sim::{NetNs, responder};

/// Datagrams from each who talks to each address of each pod that ends.
const DATAGRAMS: u64 = 5;
/// TCP repeats what is not acknowledged after 0.2 s, then 0.4, 0.8.
const REPEATS: Duration = Duration::from_millis(1700);
/// For one answer of a pod that is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// A conversation with a pod that ends.
struct Talk {
    stream: TcpStream,
    datagrams: UdpSocket,
}

/// Ends a pod on each ENI of the first node, in the middle of conversations with: a pod on each of these ENIs,
/// the pod elsewhere, both nodes, and the internet in both families.
///
/// # Errors
/// One could not be talked to before, or the router saw what it should not.
pub fn talked_to(scene: &mut Scene) -> Outcome {
    let runtime = scene.cluster.runtime().handle().clone();
    let enis = wires(scene);
    let mut ending = Vec::new();
    let mut from = vec![
        scene.cluster.nodes()[0].sim().net(),
        scene.cluster.nodes()[1].sim().net(),
    ];
    for eni in &enis {
        let on = |pod: &Pod| {
            let ip = pod.addresses().first().copied();
            ip.is_some_and(|ip| eni.allowed.iter().any(|net| net.contains(&ip)))
        };
        let first = scene.pods.iter().position(on);
        // Where pods have none of its addresses, there is nobody to end.
        ending.extend(first.map(|n| scene.pods.remove(n)));
        let stays = scene.pods.iter().find(|pod| on(pod));
        from.extend(
            stays
                .and_then(|pod| pod.netns.as_ref())
                .map(|ns| ns.net().clone()),
        );
    }
    let Some(elsewhere) = scene.pods.last().and_then(|pod| pod.netns.as_ref()) else {
        return fail("nobody elsewhere");
    };
    from.push(elsewhere.net().clone());
    ensure(!ending.is_empty(), "nobody ends")?;
    let responders = probe::answer(&scene.cluster, &ending)?;
    let mut talks = Vec::new();
    for ip in ending.iter().flat_map(Pod::addresses) {
        for net in &from {
            talks.push(runtime.block_on(begin(net, SocketAddr::new(ip, responder::PORT)))?);
        }
    }
    let mut outward = Vec::new();
    let internet = scene.cluster.sim().internet_addresses();
    let internet = [IpAddr::V4(internet.v4), IpAddr::V6(internet.v6)];
    for net in ending.iter().filter_map(|pod| pod.netns.as_ref()) {
        for ip in internet {
            let to = SocketAddr::new(ip, responder::PORT);
            outward.push(runtime.block_on(begin(net.net(), to))?);
        }
    }
    for pod in &mut ending {
        let call = scene.runtime.del(pod)?;
        succeeded("DEL in the middle of conversations", &call)?;
    }
    // Its end of the connection can no longer say that it ends.
    drop(responders);
    // These ends can, and are answered.
    runtime.block_on(async {
        drop(outward);
        sleep(Duration::from_millis(300)).await;
    });
    for pod in &mut ending {
        pod.remove_netns()?;
    }
    let before = sent(scene)?;
    let packets = u64::try_from(talks.len())? * (DATAGRAMS + 5);
    runtime.block_on(go_on(talks));
    let after = sent(scene)?;
    // Each may leave its own ENI once, and an answer of the node's for each.
    let went = after - before;
    ensure(
        went <= 3 * packets,
        format!("{packets} packets to pods that had ended made {went} on the wire"),
    )
}

async fn begin(net: &NetNs, to: SocketAddr) -> Result<Talk, Failure> {
    let any: IpAddr = match to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let datagrams = net.udp(SocketAddr::new(any, 0))?;
    datagrams.connect(to)?;
    let socket = net.tcp_socket(to.is_ipv6())?;
    let talk = async {
        let mut stream = socket.connect(to).await?;
        stream.write_all(b"here?").await?;
        // All of it: who closes with something unread resets, and is not answered.
        match stream.read(&mut [0; 512]).await? {
            0 => Err(std::io::Error::other("closed")),
            _ => Ok(stream),
        }
    };
    let stream = match timeout(PATIENCE, talk).await {
        Ok(stream) => stream?,
        Err(_) => return fail(format!("{to} does not answer before its end")),
    };
    Ok(Talk { stream, datagrams })
}

/// Errors are those of a pod that is not there any more.
async fn go_on(mut talks: Vec<Talk>) {
    for talk in &mut talks {
        let _ = talk.stream.try_write(b"still here?");
    }
    for _ in 0..DATAGRAMS {
        for talk in &talks {
            let _ = talk.datagrams.send(b"still here?");
        }
        sleep(Duration::from_millis(20)).await;
    }
    sleep(REPEATS).await;
}

fn wires(scene: &Scene) -> Vec<Wire> {
    let sim = scene.cluster.sim();
    let wires = sim.vpc().wires(sim.clock().now());
    let here = |wire: &Wire| wire.node.as_str() == "node-1";
    wires.into_iter().filter(here).collect()
}

/// Packets that left the first node; none may have been dropped.
fn sent(scene: &Scene) -> Result<u64, Failure> {
    let books = scene.cluster.sim().books()?;
    for eni in &books.enis {
        println!("  {eni:?}");
        ensure(eni.dropped == 0, format!("{eni:?}"))?;
    }
    let here = books.enis.iter().filter(|eni| eni.node == "node-1");
    Ok(here.map(|eni| eni.sent).sum())
}
