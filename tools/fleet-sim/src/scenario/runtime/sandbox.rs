//! A pod's sandbox: its namespace with the ends of its veths, and its attachments.

use super::Worker;
use super::book::SECOND;
use ipam_core::wiring::PodWiring;
use ipam_core::{AttachmentKey, Mac, PodRef};
use ipam_engine::Release;
use std::net::IpAddr;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Sandbox {
    pub(super) id: String,
    pub(super) pod: PodRef,
    /// In the order of their ADDs.
    pub(super) attachments: Vec<Attachment>,
    /// The veths whose other ends are in its namespace.
    pub(super) veths: Vec<Veth>,
}

/// A veth with an end in a pod.
#[derive(Clone, Debug)]
pub(super) struct Veth {
    /// The host's end.
    pub(super) host_if: String,
    pub(super) host_mac: Mac,
    pub(super) pod_if: String,
}

/// One interface of a sandbox.
#[derive(Clone, Debug)]
pub(super) struct Attachment {
    pub(super) key: AttachmentKey,
    /// What its ADD was answered: the runtime keeps it for the DEL (`prevResult`).
    pub(super) told: Option<PodWiring>,
}

impl Attachment {
    /// A DEL of it, by today's configuration or by that of its ADD.
    pub(super) fn release(&self, pod: &PodRef, network: &str) -> Release {
        let told = self.told.iter();
        Release {
            key: AttachmentKey {
                network: network.into(),
                ..self.key.clone()
            },
            pod: pod.clone(),
            addresses: told.flat_map(addresses).collect(),
        }
    }
}

/// The addresses of a wiring.
pub(super) fn addresses(wiring: &PodWiring) -> Vec<IpAddr> {
    wiring
        .pod_addresses
        .iter()
        .map(ipnet::IpNet::addr)
        .collect()
}

impl Worker {
    /// A new sandbox of a pod, with one interface or two.
    pub(super) fn sandbox(&mut self, pod: &str, number: u32) -> Sandbox {
        let id = format!("{pod}.{number}");
        let first = self.site.book.network();
        let mut networks = vec![first.clone()];
        if self.site.habits.second && self.rng.percent(40) {
            let own = self.rng.percent(75);
            networks.push(if own { SECOND.into() } else { first });
        }
        let attachments = networks.into_iter().zip(["eth0", "net1"]);
        let attachments = attachments.map(|(network, if_name)| Attachment {
            key: AttachmentKey {
                network,
                container_id: id.clone(),
                if_name: if_name.into(),
            },
            told: None,
        });
        Sandbox {
            attachments: attachments.collect(),
            id,
            pod: PodRef {
                namespace: "default".into(),
                name: pod.into(),
                uid: String::new(),
            },
            veths: Vec::new(),
        }
    }

    /// The namespace goes, and its veths with it.
    pub(super) async fn vanish(&mut self, sandbox: &mut Sandbox) {
        let now = self.site.world.elapsed();
        for attachment in &sandbox.attachments {
            let pod = self.pod_key(&attachment.key);
            let mut oracle = self.site.world.oracle();
            match oracle.living.get_mut(&pod) {
                // Its link was the last witness.
                Some(living) if living.unstored => oracle.ended(now, &pod),
                Some(living) => living.wired = false,
                None => {}
            }
        }
        for veth in std::mem::take(&mut sandbox.veths) {
            let kernel = &self.site.kernel;
            kernel.end_own_veth(&veth.host_if, veth.host_mac).await;
        }
    }
}
