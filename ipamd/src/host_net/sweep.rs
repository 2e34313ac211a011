//! What a finished pod left behind: its host route, its link, and the rules that Amazon's CNI made
//! for it.

use super::netlink::{EAFNOSUPPORT, ENODEV, ENOENT, EOPNOTSUPP, ESRCH};
use super::{KernelNet, links, routes};
use ipam_engine::ports::{HostNetError, Leftover};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::LinkMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

impl KernelNet {
    /// Removes routes before links: a link takes its routes along, but its removal waits for the
    /// kernel's RCU grace time.
    pub(super) async fn sweep_all(&self, leftovers: Vec<Leftover>) -> Result<(), HostNetError> {
        if leftovers.is_empty() {
            return Ok(());
        }
        let failed = |error: super::netlink::Refused| error.while_doing("sweeping");
        let names = links::names(&self.netlink).await.map_err(failed)?;
        let by_name: BTreeMap<&str, u32> = names
            .iter()
            .map(|(index, name)| (name.as_str(), *index))
            .collect();
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

fn swept(leftovers: &[Leftover], address: IpAddr) -> bool {
    leftovers.iter().any(|leftover| leftover.address == address)
}
