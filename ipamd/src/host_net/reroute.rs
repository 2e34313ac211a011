//! Pods' host routes that went, or that lead elsewhere, are put back.

use super::netlink::{EEXIST, ENETDOWN, ENODEV, Netlink, Refused};
use super::routes::Seen;
use super::{KernelNet, routes};
use ipam_engine::ports::{HostNetError, Leftover};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use std::net::IpAddr;

impl KernelNet {
    /// A route of another metric through the pod's link is as good as ours: Calico's Felix has its own. One
    /// that goes before and leads elsewhere, or nowhere, takes the pod's packets: ours takes its place. A link
    /// that is gone or down took the route along, and its pod.
    pub(super) async fn reroute_all(&self, pods: Vec<Leftover>) -> Result<(), HostNetError> {
        let failed = |error: super::netlink::Refused| error.while_doing("putting routes back");
        let by_name = self.links_of(&pods).await.map_err(failed)?;
        if by_name.is_empty() {
            return Ok(());
        }
        let seen = routes::all(&self.netlink).await.map_err(failed)?;
        for pod in pods.iter().filter(|pod| self.is_pods(&pod.host_if)) {
            let Some(index) = by_name.get(pod.host_if.as_str()) else {
                continue;
            };
            let mut of_pod: Vec<&Seen> = seen
                .iter()
                .filter(|route| routes::is_single(route) && route.dst.addr() == pod.address)
                .collect();
            // The kernel's own order among those of one metric.
            of_pod.sort_by_key(|route| route.metric);
            let own = own_metric(pod.address);
            let good = |route: &Seen| route.link == *index && (route.plain || route.metric != own);
            if of_pod.first().is_some_and(|first| good(first)) {
                continue;
            }
            put(&self.netlink, pod.address, *index)
                .await
                .map_err(failed)?;
            for stranger in of_pod
                .iter()
                .filter(|route| route.metric <= own && !good(route))
            {
                routes::remove(&self.netlink, stranger)
                    .await
                    .map_err(failed)?;
            }
            tracing::info!(address = %pod.address, link = pod.host_if, "a pod's host route was gone or changed; it is back");
        }
        Ok(())
    }
}

/// What the kernel makes of a route without a metric (`IP6_RT_PRIO_USER`, linux/ipv6_route.h).
const fn own_metric(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 0,
        IpAddr::V6(_) => 1024,
    }
}

async fn put(netlink: &Netlink, address: IpAddr, link: u32) -> Result<(), Refused> {
    let new = RouteNetlinkMessage::NewRoute(routes::of_pod(address, link));
    // It exists: behind a stranger's, which goes.
    let fine = &[EEXIST, ENODEV, ENETDOWN];
    netlink
        .change_unless(new, NLM_F_CREATE | NLM_F_REPLACE, fine)
        .await
}
