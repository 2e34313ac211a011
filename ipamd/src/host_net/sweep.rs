//! What a finished pod left behind: its host route, its link, and the connections that the kernel
//! remembers of it.

use super::netlink::{EAFNOSUPPORT, ENODEV, ENOENT, EOPNOTSUPP, ESRCH};
use super::{KernelNet, conntrack, links, routes};
use ipam_engine::ports::{Forgotten, HostNetError, Leftover, Trace};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

impl KernelNet {
    /// The host's ends of pods that are there: indices by name.
    pub(super) async fn links_of<'a>(
        &self,
        pods: &'a [Leftover],
    ) -> Result<BTreeMap<&'a str, u32>, super::netlink::Refused> {
        let names = pods.iter().map(|pod| pod.host_if.as_str()).collect();
        links::named(&self.netlink, &names).await
    }

    /// Removes routes before links: a link takes its routes along, but its removal waits for the
    /// kernel's RCU grace time.
    pub(super) async fn sweep_all(&self, leftovers: Vec<Leftover>) -> Result<(), HostNetError> {
        if leftovers.is_empty() {
            return Ok(());
        }
        let failed = |error: super::netlink::Refused| error.while_doing("sweeping");
        let by_name = self.links_of(&leftovers).await.map_err(failed)?;
        if by_name.is_empty() {
            return Ok(());
        }
        let seen = routes::all(&self.netlink).await.map_err(failed)?;
        let mut gone = BTreeSet::new();
        for leftover in leftovers
            .iter()
            .filter(|leftover| self.is_pods(&leftover.host_if))
        {
            let Some(index) = by_name.get(leftover.host_if.as_str()) else {
                continue;
            };
            let of_pod = |route: &&routes::Seen| {
                routes::is_host_route(route)
                    && route.dst.addr() == leftover.address
                    && route.link == *index
            };
            for route in seen.iter().filter(of_pod) {
                routes::remove(&self.netlink, route).await.map_err(failed)?;
            }
            // A link that another pod has meanwhile carries another address.
            let shared = seen.iter().any(|route| {
                routes::is_host_route(route)
                    && route.link == *index
                    && !swept(&leftovers, route.dst.addr())
            });
            if !shared {
                gone.insert(*index);
            }
        }
        for index in gone {
            let mut message = LinkMessage::default();
            message.header.index = index;
            let fine = &[ENODEV, ENOENT, ESRCH, EAFNOSUPPORT, EOPNOTSUPP];
            self.netlink
                .change_unless(RouteNetlinkMessage::DelLink(message), 0, fine)
                .await
                .map_err(failed)?;
        }
        Ok(())
    }
}

impl KernelNet {
    /// Links first: a pod whose link is there may still make connections.
    pub(super) async fn forget_all(&self, traces: Vec<Trace>) -> Result<Forgotten, HostNetError> {
        let names = traces.iter().filter_map(|trace| trace.host_if.as_deref());
        let there = links::named(&self.netlink, &names.collect())
            .await
            .map_err(|error| error.while_doing("looking for finished pods' links"))?;
        let has_link = |trace: &&Trace| {
            let name = trace.host_if.as_deref();
            name.is_some_and(|name| there.contains_key(name))
        };
        let (linked, gone): (Vec<&Trace>, Vec<&Trace>) = traces.iter().partition(has_link);
        let addresses: BTreeSet<IpAddr> = gone.into_iter().map(|t| t.address).collect();
        Ok(Forgotten {
            linked: linked.into_iter().map(|t| t.address).collect(),
            connections: conntrack::forget(&addresses).await,
        })
    }
}

fn swept(leftovers: &[Leftover], address: IpAddr) -> bool {
    leftovers.iter().any(|leftover| leftover.address == address)
}
