//! IMDS over the wires.

use crate::http::{Answer, request};
use crate::world::{Checked, NEVER, SOON, check, in_vpc, wire};
use std::net::IpAddr;
use std::time::Duration;
use vpc_sim::testing::Failure;
use vpc_sim::{IMDS_ADDRESS, IMDS_ADDRESS_V6, NetNs, Sim};

const PORT: u16 = 80;
const TOKEN: &str = "/latest/api/token";
const TTL: &str = "X-aws-ec2-metadata-token-ttl-seconds";

/// One exchange with IMDS.
async fn ask(
    net: &NetNs,
    to: impl Into<IpAddr>,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    time: Duration,
) -> Result<Option<Answer>, Failure> {
    request(net, (to, PORT), method, path, headers, b"", time).await
}

async fn get_token(
    net: &NetNs,
    to: impl Into<IpAddr>,
    time: Duration,
) -> Result<Option<String>, Failure> {
    match ask(net, to, ("PUT", TOKEN), &[(TTL, "60")], time).await? {
        Some(Answer { status: 200, body }) => Ok(Some(body)),
        Some(other) => Err(format!("PUT was answered {other:?}").into()),
        None => Ok(None),
    }
}

async fn get(net: &NetNs, path: &str) -> Result<(u16, String), Failure> {
    let token = get_token(net, IMDS_ADDRESS, SOON)
        .await?
        .ok_or("no token")?;
    let headers = [("X-aws-ec2-metadata-token", token.as_str())];
    let answer = ask(net, IMDS_ADDRESS, ("GET", path), &headers, SOON).await?;
    answer
        .map(|a| (a.status, a.body))
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
        let mac = "/latest/meta-data/mac";
        let bad = [("X-aws-ec2-metadata-token", "no")];
        let forwarded = [(TTL, "60"), ("X-Forwarded-For", "10.0.0.1")];
        let cases: [(_, &[(&str, &str)], u16); 8] = [
            (("GET", mac), &[], 401),
            (("GET", mac), &bad, 401),
            (("PUT", TOKEN), &[], 400),
            (("PUT", TOKEN), &[(TTL, "0")], 400),
            (("PUT", TOKEN), &[(TTL, "21601")], 400),
            (("PUT", TOKEN), &forwarded, 403),
            (("PUT", TOKEN), &[(TTL, "21600")], 200),
            (("POST", mac), &[], 405),
        ];
        for (what, headers, wanted) in cases {
            let status = ask(&net, IMDS_ADDRESS, what, headers, SOON)
                .await?
                .map(|a| a.status);
            check(
                status == Some(wanted),
                format!("{what:?} {headers:?}: {status:?}, not {wanted}"),
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
            let near = get_token(&node.net(), IMDS_ADDRESS, SOON).await?;
            check(near.is_some(), format!("{name} itself gets no token"))?;
            let time = if hops == 2 { SOON } else { NEVER };
            let far = get_token(pod.net(), IMDS_ADDRESS, time).await?;
            check(
                far.is_some() == (hops == 2),
                format!("{name}, hop limit {hops}: {far:?}"),
            )?;
            // Only the token's answer has the limit.
            let get = ("GET", "/latest/meta-data/mac");
            let answer = ask(pod.net(), IMDS_ADDRESS, get, &[], SOON).await?;
            check(
                answer.is_some_and(|a| a.status == 401),
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
        let token = get_token(&net, IMDS_ADDRESS_V6, SOON).await?;
        check(token.is_some(), "no answer over IPv6")
    })
}
