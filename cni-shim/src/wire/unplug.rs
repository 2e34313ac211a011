//! An interface out of a pod that may live on (a hot-unplug by Multus, cnitool, podman).
//!
//! The CNI spec has a DEL delete the interface (1.1.0, section 2, DEL). Deleting a veth waits for an RCU
//! grace period of 20 ms and more, and holds everybody else's change of a link up for it. So the pod's end goes down,
//! which takes its routes and IPv6 addresses along, loses its other addresses, and gets out of the way
//! of its name; the pair goes with the namespace, or by the daemon's sweep. That is 0.25 ms.

use super::Kernel;
use super::existing::host_end_of;
use crate::netlink::{Batch, Link, verbs};
use ipam_core::wiring::Rule;
use nix::errno::Errno;
use std::net::IpAddr;

/// What was taken away.
#[derive(Debug)]
pub(crate) struct Unplugged {
    /// The host's end, which stays.
    pub(crate) host: Link,
    /// What the pod's end had, but for link-local ones.
    pub(crate) addresses: Vec<IpAddr>,
}

impl Kernel {
    /// Takes the pod's rules away, and the interface of this name if it is a veth into this very namespace
    /// whose end there `is_own`. Goes on where the kernel refuses a step: each one helps for itself.
    pub(crate) fn unplug(
        &mut self,
        if_name: &str,
        rules: &[Rule],
        is_own: impl FnOnce(&Link) -> bool,
    ) -> Result<Option<Unplugged>, Errno> {
        let mut batch = Batch::default();
        for rule in rules {
            verbs::rule(&mut batch, verbs::Change::Delete, rule);
        }
        let unplugged = match self.pod.link(if_name)? {
            Some(pod) => match host_end_of(self, &pod)?.filter(is_own) {
                Some(host) => Some(self.take_down(&mut batch, &pod, host)?),
                None => None,
            },
            None => None,
        };
        self.pod.exchange(batch)?;
        Ok(unplugged)
    }

    fn take_down(&mut self, batch: &mut Batch, pod: &Link, host: Link) -> Result<Unplugged, Errno> {
        let mut addresses = self.pod.addresses()?;
        addresses.retain(|address| address.index == pod.index);
        verbs::set_down(batch, pod.index);
        for address in &addresses {
            verbs::delete_address(batch, pod.index, address.net);
        }
        // No other interface of the namespace has this index.
        verbs::rename(batch, pod.index, &format!("gone{}", pod.index));
        let addresses = addresses.iter().map(|address| address.net.addr());
        let is_local = |ip: &IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        Ok(Unplugged {
            host,
            addresses: addresses.filter(|ip| !is_local(ip)).collect(),
        })
    }
}
