//! IPv4 between nodes: what passes the router and what does not.

use crate::world::{
    Checked, NEVER, ask, check, dropped, ec2, in_vpc, must_be_dropped, must_reach, own, respond,
    secondary, wire,
};
use std::net::IpAddr;
use vpc_sim::vpc_model::ViolationClass;
use vpc_sim::vpc_model::request::UnassignPrivateIpAddresses;

pub(crate) fn assigned_addresses_of_two_nodes_reach_each_other() -> Checked {
    in_vpc(|sim| async move {
        let a = *secondary(&sim, "node-a", false)?
            .first()
            .ok_or("no address")?;
        let b = *secondary(&sim, "node-b", false)?
            .first()
            .ok_or("no address")?;
        let (net, there) = (own(&sim, "node-a", a)?, own(&sim, "node-b", b)?);
        respond(&there, b)?;
        let seen = must_reach(&net, a, b).await?;
        check(seen == a, format!("{b} saw {seen} instead of {a}"))?;
        let books = sim.books()?;
        check(
            books.violations.is_empty(),
            format!("{:?}", books.violations),
        )?;
        for node in ["node-a", "node-b"] {
            let eni = wire(&sim, node)?.eni.to_string();
            let packets = books.packets_per_eni.get(&eni).copied().unwrap_or(0);
            check(
                packets >= 2,
                format!("{eni} of {node} has {packets} packets"),
            )?;
        }
        Ok(())
    })
}

pub(crate) fn two_subnets_reach_each_other() -> Checked {
    in_vpc(|sim| async move {
        let (a, c) = (wire(&sim, "node-a")?, wire(&sim, "node-c")?);
        check(
            a.primary.trunc() != c.primary.trunc(),
            "the nodes are in one subnet",
        )?;
        let pod = *secondary(&sim, "node-c", false)?
            .get(2)
            .ok_or("no address in the prefix")?;
        respond(&own(&sim, "node-c", pod)?, pod)?;
        let net = sim.node("node-a")?.net();
        let seen = must_reach(&net, a.primary.addr().into(), pod).await?;
        check(seen == a.primary.addr(), format!("{pod} saw {seen}"))
    })
}

/// The kernel sends nothing to a neighbour in its own subnet before it has an answer to ARP.
pub(crate) fn neighbours_in_a_subnet_answer_arp() -> Checked {
    in_vpc(|sim| async move {
        let (a, b) = (wire(&sim, "node-a")?, wire(&sim, "node-b")?);
        let net = sim.node("node-a")?.net();
        respond(&sim.node("node-b")?.net(), b.primary.addr().into())?;
        must_reach(&net, a.primary.addr().into(), b.primary.addr().into()).await?;
        let arp = net.run(|| std::fs::read_to_string("/proc/thread-self/net/arp"))??;
        let known = |ip: IpAddr| {
            arp.lines()
                .any(|l| l.starts_with(&format!("{ip} ")) && !l.contains("00:00:00:00:00:00"))
        };
        check(
            known(b.primary.addr().into()),
            format!("no neighbour {}: {arp}", b.primary.addr()),
        )?;
        let outside: IpAddr = "203.0.113.10".parse()?;
        net.add_route(outside.into(), "ens5", None)?;
        let seen = ask(&net, a.primary.addr().into(), outside, NEVER).await?;
        check(
            seen.is_none(),
            "the router answers ARP for an address outside of the subnet",
        )
    })
}

pub(crate) fn a_foreign_source_is_dropped_and_counted() -> Checked {
    in_vpc(|sim| async move {
        let b = wire(&sim, "node-b")?.primary.addr().into();
        respond(&sim.node("node-b")?.net(), b)?;
        // Node b's address, an address that nobody has, and one outside of the VPC.
        let foreign = [
            secondary(&sim, "node-b", false)?.first().copied(),
            "10.0.3.77".parse().ok(),
            "192.0.2.1".parse().ok(),
        ];
        let before = dropped(&sim, "node-a")?;
        check(before == 0, format!("{before} packets dropped before any"))?;
        for source in foreign.into_iter().flatten() {
            own(&sim, "node-a", source)?;
            must_be_dropped(&sim, "node-a", source, b).await?;
        }
        let violations = sim.books()?.violations;
        let spoofed = violations
            .iter()
            .any(|v| v.class == ViolationClass::SourceCheck && v.node.as_deref() == Some("node-a"));
        check(spoofed, format!("not in the books: {violations:?}"))
    })
}

/// The counterpart: the check can say yes.
pub(crate) fn an_own_source_is_not_counted() -> Checked {
    in_vpc(|sim| async move {
        let b = wire(&sim, "node-b")?.primary.addr().into();
        respond(&sim.node("node-b")?.net(), b)?;
        for source in secondary(&sim, "node-a", false)? {
            let net = own(&sim, "node-a", source)?;
            must_reach(&net, source, b).await?;
        }
        let count = dropped(&sim, "node-a")?;
        check(count == 0, format!("{count} packets dropped"))
    })
}

pub(crate) fn a_foreign_ethernet_address_is_dropped_and_counted() -> Checked {
    in_vpc(|sim| async move {
        let (a, b) = (wire(&sim, "node-a")?, wire(&sim, "node-b")?);
        respond(&sim.node("node-b")?.net(), b.primary.addr().into())?;
        let node = sim.node("node-a")?;
        must_reach(
            &node.net(),
            a.primary.addr().into(),
            b.primary.addr().into(),
        )
        .await?;
        let mut ip = std::process::Command::new("ip");
        ip.args(["link", "set", "dev", "ens5", "address", "02:00:00:00:00:77"]);
        let Ok(output) = node.output(ip) else {
            return Err(vpc_sim::testing::Failure::Skip(
                "the program ip is not there".into(),
            ));
        };
        check(
            output.status.success(),
            String::from_utf8_lossy(&output.stderr),
        )?;
        let (from, to) = (a.primary.addr().into(), b.primary.addr().into());
        must_be_dropped(&sim, "node-a", from, to).await
    })
}

pub(crate) fn nobodys_address_leads_nowhere() -> Checked {
    in_vpc(|sim| async move {
        let a = wire(&sim, "node-a")?;
        let nobody: IpAddr = "10.0.3.77".parse()?;
        // Node b would answer, if the router brought it there.
        respond(&own(&sim, "node-b", nobody)?, nobody)?;
        let seen = ask(
            &sim.node("node-a")?.net(),
            a.primary.addr().into(),
            nobody,
            NEVER,
        )
        .await?;
        check(
            seen.is_none(),
            "an address that EC2 gave to nobody is reached",
        )?;
        let dropped = sim.books()?.igw_dropped;
        check(
            dropped == 0,
            "what is for the VPC went to the internet gateway",
        )
    })
}

pub(crate) fn an_unassigned_address_stops_working() -> Checked {
    in_vpc(|sim| async move {
        let a = wire(&sim, "node-a")?.primary.addr().into();
        let b = *secondary(&sim, "node-b", false)?
            .first()
            .ok_or("no address")?;
        respond(&own(&sim, "node-b", b)?, b)?;
        let net = sim.node("node-a")?.net();
        must_reach(&net, a, b).await?;
        let IpAddr::V4(v4) = b else {
            return Err("not IPv4".into());
        };
        let eni = wire(&sim, "node-b")?.eni;
        let unassign = UnassignPrivateIpAddresses {
            eni,
            addresses: vec![v4],
            prefixes: vec![],
        };
        ec2(&sim, "node-b", unassign)?;
        sim.caught_up().await;
        check(
            ask(&net, a, b, NEVER).await?.is_none(),
            format!("{b} is still reached"),
        )?;
        must_be_dropped(&sim, "node-b", b, a).await
    })
}
