//! The same for IPv6, where the kernel's own `rp_filter` does nothing.

use crate::world::{
    Checked, check, dropped, in_vpc, must_be_dropped, must_reach, own, respond, secondary,
};
use std::net::IpAddr;

pub(crate) fn assigned_addresses_reach_each_other() -> Checked {
    in_vpc(|sim| async move {
        let (a, b) = (
            secondary(&sim, "node-a", true)?,
            secondary(&sim, "node-b", true)?,
        );
        let (Some(a), Some(b)) = (a.last().copied(), b.last().copied()) else {
            return Err("no IPv6 addresses".into());
        };
        let (net, there) = (own(&sim, "node-a", a)?, own(&sim, "node-b", b)?);
        respond(&there, b)?;
        let seen = must_reach(&net, a, b).await?;
        check(seen == a, format!("{b} saw {seen}"))?;
        check(dropped(&sim, "node-a")? == 0, "packets were dropped")
    })
}

pub(crate) fn a_foreign_source_is_dropped_and_counted() -> Checked {
    in_vpc(|sim| async move {
        let b = *secondary(&sim, "node-b", true)?
            .first()
            .ok_or("no address")?;
        respond(&own(&sim, "node-b", b)?, b)?;
        let foreign: IpAddr = "2001:db8:1::bad".parse()?;
        own(&sim, "node-a", foreign)?;
        must_be_dropped(&sim, "node-a", foreign, b).await
    })
}

pub(crate) fn the_internet_sees_the_pod() -> Checked {
    in_vpc(|sim| async move {
        let a = *secondary(&sim, "node-a", true)?
            .last()
            .ok_or("no address")?;
        let net = own(&sim, "node-a", a)?;
        let seen = must_reach(&net, a, sim.internet_addresses().v6.into()).await?;
        check(seen == a, format!("the internet saw {seen}"))
    })
}
