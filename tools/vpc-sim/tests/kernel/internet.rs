//! The internet gateway: public addresses pass, translated; private ones don't.

use crate::world::{
    Checked, NEVER, SOON, ask, check, in_vpc, must_reach, own, respond, secondary, wire,
};
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use vpc_sim::responder;

pub(crate) fn sees_the_public_address() -> Checked {
    in_vpc(|sim| async move {
        let a = wire(&sim, "node-a")?.primary.addr().into();
        let internet = sim.internet_addresses().v4.into();
        let net = sim.node("node-a")?.net();
        let public: IpAddr = "198.51.100.11".parse()?;
        let seen = must_reach(&net, a, internet).await?;
        check(seen == public, format!("UDP: the internet saw {seen}"))?;
        let seen = over_tcp(&net, SocketAddr::new(internet, responder::PORT)).await?;
        check(seen.ip() == public, format!("TCP: the internet saw {seen}"))?;
        let who = sim.describe_address(public);
        check(who.contains("node-a") && who.contains(&a.to_string()), who)
    })
}

async fn over_tcp(
    net: &vpc_sim::NetNs,
    to: SocketAddr,
) -> Result<SocketAddr, vpc_sim::testing::Failure> {
    let exchange = async {
        let mut stream = net.tcp_socket(false)?.connect(to).await?;
        // Larger than a packet: checksums of all segments have to be right.
        let question = vec![b'x'; 20_000];
        stream.write_all(&question).await?;
        let mut answer = vec![0; 10_000];
        let length = stream.read(&mut answer).await?;
        Ok(responder::source(answer.get(..length).unwrap_or_default()))
    };
    let answer: Result<_, vpc_sim::testing::Failure> = tokio::time::timeout(SOON, exchange).await?;
    answer?.ok_or_else(|| "an answer without a source".into())
}

pub(crate) fn never_sees_a_private_address() -> Checked {
    in_vpc(|sim| async move {
        let internet = sim.internet_addresses().v4.into();
        let pod = *secondary(&sim, "node-a", false)?
            .first()
            .ok_or("no address")?;
        let before = sim.books()?.igw_dropped;
        let seen = ask(&own(&sim, "node-a", pod)?, pod, internet, NEVER).await?;
        check(seen.is_none(), format!("the internet saw {seen:?}"))?;
        let dropped = sim.books()?.igw_dropped;
        check(
            before == 0 && dropped > 0,
            format!("{before}, then {dropped} dropped"),
        )?;
        // Node b has no public address either.
        let b = wire(&sim, "node-b")?.primary.addr().into();
        let seen = ask(&sim.node("node-b")?.net(), b, internet, NEVER).await?;
        check(seen.is_none(), format!("the internet saw {seen:?}"))?;
        let violations = sim.books()?.violations;
        check(
            violations.is_empty(),
            format!("that is no violation: {violations:?}"),
        )
    })
}

pub(crate) fn reaches_the_public_address() -> Checked {
    in_vpc(|sim| async move {
        let a = wire(&sim, "node-a")?.primary.addr().into();
        respond(&sim.node("node-a")?.net(), a)?;
        let internet = sim.internet_addresses().v4.into();
        let seen = must_reach(&sim.internet(), internet, "198.51.100.11".parse()?).await?;
        check(seen == internet, format!("node-a saw {seen}"))?;
        let private = ask(&sim.internet(), internet, a, NEVER).await?;
        check(private.is_none(), "the internet reaches a private address")
    })
}
