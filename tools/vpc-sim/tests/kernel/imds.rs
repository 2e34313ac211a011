//! IMDS over the wires.

use crate::world::{Checked, NEVER, SOON, check, in_vpc, wire};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vpc_sim::testing::Failure;
use vpc_sim::{IMDS_ADDRESS, IMDS_ADDRESS_V6, NetNs, Sim};

/// One HTTP/1.1 exchange on a connection of its own: status and body; `None` if nothing came.
async fn http(
    net: &NetNs,
    to: IpAddr,
    request: &str,
    time: Duration,
) -> Result<Option<(u16, String)>, Failure> {
    let socket = net.tcp_socket(to.is_ipv6())?;
    let exchange = async {
        let mut stream = socket.connect(SocketAddr::new(to, 80)).await?;
        let text = format!("{request}\r\nHost: imds\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    let Ok(answer) = tokio::time::timeout(time, exchange).await else {
        return Ok(None);
    };
    let answer = answer?;
    let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
    let body = answer.split_once("\r\n\r\n").map(|(_, b)| b.to_owned());
    Ok(status.zip(body))
}

async fn get_token(net: &NetNs, to: IpAddr, time: Duration) -> Result<Option<String>, Failure> {
    let put = "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\nContent-Length: 0";
    match http(net, to, put, time).await? {
        Some((200, token)) => Ok(Some(token)),
        Some((status, body)) => Err(format!("PUT was answered {status}: {body}").into()),
        None => Ok(None),
    }
}

async fn get(net: &NetNs, path: &str) -> Result<(u16, String), Failure> {
    let token = get_token(net, IMDS_ADDRESS.into(), SOON)
        .await?
        .ok_or("no token")?;
    let request = format!("GET {path} HTTP/1.1\r\nX-aws-ec2-metadata-token: {token}");
    http(net, IMDS_ADDRESS.into(), &request, SOON)
        .await?
        .ok_or_else(|| "no answer".into())
}

pub(crate) fn knows_the_node_by_its_wire() -> Checked {
    in_vpc(|sim| async move {
        for name in ["node-a", "node-b", "node-c"] {
            let net = sim.node(name)?.net();
            let (status, body) = get(&net, "/latest/meta-data/mac").await?;
            let mac = wire(&sim, name)?.mac.to_string();
            check(
                status == 200 && body == mac,
                format!("{name}: {status} {body}, not {mac}"),
            )?;
        }
        Ok(())
    })
}

pub(crate) fn wants_a_token() -> Checked {
    in_vpc(|sim| async move {
        let net = sim.node("node-a")?.net();
        let ttl = "X-aws-ec2-metadata-token-ttl-seconds";
        for (request, wanted) in [
            ("GET /latest/meta-data/mac HTTP/1.1".to_owned(), 401),
            (
                "GET /latest/meta-data/mac HTTP/1.1\r\nX-aws-ec2-metadata-token: no".to_owned(),
                401,
            ),
            (
                "PUT /latest/api/token HTTP/1.1\r\nContent-Length: 0".to_owned(),
                400,
            ),
            (
                format!("PUT /latest/api/token HTTP/1.1\r\nContent-Length: 0\r\n{ttl}: 0"),
                400,
            ),
            (
                format!("PUT /latest/api/token HTTP/1.1\r\nContent-Length: 0\r\n{ttl}: 21601"),
                400,
            ),
            (
                format!(
                    "PUT /latest/api/token HTTP/1.1\r\nContent-Length: 0\r\n{ttl}: 60\r\nX-Forwarded-For: 10.0.0.1"
                ),
                403,
            ),
            (
                format!("PUT /latest/api/token HTTP/1.1\r\nContent-Length: 0\r\n{ttl}: 21600"),
                200,
            ),
            (
                "POST /latest/meta-data/mac HTTP/1.1\r\nContent-Length: 0".to_owned(),
                405,
            ),
        ] {
            let answer = http(&net, IMDS_ADDRESS.into(), &request, SOON).await?;
            let status = answer.map(|(status, _)| status);
            check(
                status == Some(wanted),
                format!("{request:?}: {status:?}, not {wanted}"),
            )?;
        }
        let (status, _) = get(&net, "/latest/meta-data/no-such-thing").await?;
        check(status == 404, format!("an unknown path: {status}"))
    })
}

/// A pod one hop behind the node: with a hop limit of 2 it gets a token, with 1 it does not.
pub(crate) fn answers_reach_as_far_as_the_hop_limit() -> Checked {
    in_vpc(|sim| async move {
        for (name, hops) in [("node-a", 2), ("node-b", 1)] {
            let pod = pod_behind(&sim, name)?;
            let node = sim.node(name)?;
            let near = get_token(&node.net(), IMDS_ADDRESS.into(), SOON).await?;
            check(near.is_some(), format!("{name} itself gets no token"))?;
            let time = if hops == 2 { SOON } else { NEVER };
            let far = get_token(pod.net(), IMDS_ADDRESS.into(), time).await?;
            check(
                far.is_some() == (hops == 2),
                format!("{name}, hop limit {hops}: {far:?}"),
            )?;
            // Only the token's answer has the limit.
            let get = "GET /latest/meta-data/mac HTTP/1.1";
            let answer = http(pod.net(), IMDS_ADDRESS.into(), get, SOON).await?;
            check(
                answer.is_some_and(|(s, _)| s == 401),
                format!("{name}: GET does not arrive"),
            )?;
        }
        Ok(())
    })
}

/// A pod with the first secondary address of its node, routed through the node.
fn pod_behind(sim: &Sim, name: &str) -> Result<vpc_sim::PodNs, Failure> {
    let node = sim.node(name)?;
    let address = *crate::world::secondary(sim, name, false)?
        .first()
        .ok_or("no address")?;
    let gateway: IpAddr = "169.254.1.1".parse()?;
    let pod = node.make_pod_netns("pod")?;
    node.net().join("eni0", pod.net(), "eth0")?;
    node.net().sysctl("ipv4/conf/eni0/proxy_arp", "1")?;
    node.net().sysctl("ipv4/neigh/eni0/proxy_delay", "0")?;
    node.net().add_route(address.into(), "eni0", None)?;
    pod.net().add_address("eth0", address.into())?;
    pod.net().add_route(gateway.into(), "eth0", None)?;
    pod.net()
        .add_route("0.0.0.0/0".parse()?, "eth0", Some(gateway))?;
    Ok(pod)
}

pub(crate) fn is_reached_over_ipv6() -> Checked {
    in_vpc(|sim| async move {
        let net = sim.node("node-a")?.net();
        let token = get_token(&net, IMDS_ADDRESS_V6.into(), SOON).await?;
        check(token.is_some(), "no answer over IPv6")
    })
}
