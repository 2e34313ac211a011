//! Pods' veths as a plugin sees them: by name and Ethernet address. A new sandbox of a pod has a link of
//! the same name as the old one's, with another address.

use super::Kernel;
use ipam_core::Mac;
use ipam_engine::ports::KernelEvent;
use std::collections::BTreeMap;
use std::net::IpAddr;

impl Kernel {
    /// The Ethernet address of the host's end of this name, if it is there.
    pub(crate) fn veth(&self, host_if: &str) -> Option<Mac> {
        let tables = self.tables();
        let index = tables.veths.get(host_if)?;
        Some(tables.macs.get(index).copied().unwrap_or(Mac([0; 6])))
    }

    /// All of them, as the daemon's adapter lists them for a GC.
    pub(crate) fn pods_links(&self) -> BTreeMap<String, Mac> {
        let tables = self.tables();
        let links = tables.veths.iter();
        let with_mac = links.filter_map(|(name, n)| Some((name.clone(), *tables.macs.get(n)?)));
        with_mac.collect()
    }

    /// Makes a veth. `false`: there is one of this name.
    pub(crate) fn make_veth(&self, host_if: &str, mac: Mac) -> bool {
        let mut tables = self.tables();
        let new = !tables.veths.contains_key(host_if);
        if new {
            let index = tables.new_veth(host_if);
            tables.macs.insert(index, mac);
        }
        new
    }

    /// Routes of pods of which nobody knows anything.
    pub(crate) fn crowd(&self, ips: impl Iterator<Item = IpAddr>) {
        const LINK: &str = "eni00000000000";
        let mut tables = self.tables();
        tables.new_veth(LINK);
        ips.for_each(|ip| tables.lead(ip, LINK));
    }

    /// Whether a host route leads through a link.
    pub(crate) fn carries(&self, host_if: &str) -> bool {
        let tables = self.tables();
        tables.routes.values().any(|led| led.link == host_if)
    }

    /// Adds a pod's host route, if its link is there.
    pub(crate) async fn route_pod(&self, ip: IpAddr, host_if: &str, mac: Mac) -> bool {
        if self.veth(host_if) != Some(mac) {
            return false;
        }
        {
            let mut tables = self.tables();
            tables.lead(ip, host_if);
            tables.tracked.insert(ip);
        }
        self.tell(KernelEvent::PodRouteAdded(ip, host_if.into()))
            .await;
        true
    }

    /// A namespace goes and takes its own veth along: one of the same name that another has made since
    /// stays.
    pub(crate) async fn end_own_veth(&self, host_if: &str, mac: Mac) {
        if self.veth(host_if) == Some(mac) {
            self.remove_link(host_if).await;
        }
    }
}
