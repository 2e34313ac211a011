//! Pods' host routes that went are put back.

use super::netlink::{EEXIST, ENETDOWN, ENODEV};
use super::{KernelNet, links, routes};
use ipam_engine::ports::{HostNetError, Leftover};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use std::collections::BTreeMap;

impl KernelNet {
    /// A route by any metric, through any link, is as good as ours: Calico's Felix has its own. A link that
    /// is gone or down took the route along, and its pod.
    pub(super) async fn reroute_all(&self, pods: Vec<Leftover>) -> Result<(), HostNetError> {
        let failed = |error: super::netlink::Refused| error.while_doing("putting routes back");
        let names = links::names(&self.netlink).await.map_err(failed)?;
        let by_name: BTreeMap<&str, u32> = names
            .iter()
            .map(|(index, name)| (name.as_str(), *index))
            .collect();
        let seen = routes::all(&self.netlink).await.map_err(failed)?;
        for pod in pods.iter().filter(|pod| self.is_pods(&pod.host_if)) {
            let Some(index) = by_name.get(pod.host_if.as_str()) else {
                continue;
            };
            let routed = |route: &routes::Seen| {
                routes::is_host_route(route) && route.dst.addr() == pod.address
            };
            if seen.iter().any(routed) {
                continue;
            }
            let new = RouteNetlinkMessage::NewRoute(routes::of_pod(pod.address, *index));
            let fine = &[EEXIST, ENODEV, ENETDOWN];
            self.netlink
                .change_unless(new, NLM_F_CREATE | NLM_F_EXCL, fine)
                .await
                .map_err(failed)?;
            tracing::info!(address = %pod.address, link = pod.host_if, "a pod's host route was gone; it is back");
        }
        Ok(())
    }
}
