//! Names and Ethernet addresses of a pod's veth.

use crate::{AttachmentKey, Mac, PodRef};
use alloc::format;
use alloc::string::String;
use sha1::{Digest, Sha1};

/// The host end's name: `prefix` and the first 11 hex digits of sha1("namespace.name"), as Calico
/// and Amazon's VPC CNI compute it (Felix drops all traffic of an `eni*` link with another name).
/// A further interface of a pod (`index` > 0) hashes "namespace.name.index"; an attachment without a
/// pod hashes its key.
#[must_use]
pub fn host_if_name(prefix: &str, pod: &PodRef, key: &AttachmentKey, index: u32) -> String {
    let mut hash = Sha1::new();
    if pod.name.is_empty() {
        hash.update(format!(
            "{}.{}.{}",
            key.network, key.container_id, key.if_name
        ));
    } else if index == 0 {
        hash.update(format!("{}.{}", pod.namespace, pod.name));
    } else {
        hash.update(format!("{}.{}.{index}", pod.namespace, pod.name));
    }
    let mut name = String::from(prefix);
    for byte in &hash.finalize()[..6] {
        name.push_str(&format!("{byte:02x}"));
    }
    name.truncate(prefix.len() + 11);
    name
}

/// The Ethernet addresses of the host's and the pod's end: locally administered and unicast. `salt`
/// differs from lease to lease, so that a late DEL can tell its own link from a namesake's; the lease
/// keeps them, so that a repeated ADD gives the same answer. They meet nobody but each other.
#[must_use]
pub fn pod_macs(key: &AttachmentKey, salt: u64) -> (Mac, Mac) {
    let mut hash = Sha1::new();
    hash.update(format!("{key}#{salt}"));
    let digest = hash.finalize();
    let mac = |at: usize| {
        let mut bytes = [0; 6];
        bytes.copy_from_slice(&digest[at..at + 6]);
        bytes[0] = bytes[0] & 0xfc | 0x02;
        Mac(bytes)
    };
    (mac(0), mac(6))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(namespace: &str, pod: &str) -> String {
        let pod = PodRef {
            namespace: namespace.into(),
            name: pod.into(),
            uid: String::new(),
        };
        let key = AttachmentKey {
            network: "n".into(),
            container_id: "c".into(),
            if_name: "eth0".into(),
        };
        host_if_name("eni", &pod, &key, 0)
    }

    #[test]
    fn names_are_those_of_amazons_cni() {
        assert_eq!(
            name("kube-system", "coredns-57ff979f67-qqbdh"),
            "enib5faff8a083"
        );
        assert_eq!(
            name("kube-system", "coredns-57ff979f67-8ns9b"),
            "eni9571956a6cc"
        );
        assert_eq!(name("default", "sample-pod"), "enicc21c2d7785");
        assert_eq!(name("default", "web-0"), "eni0d7763386da");
    }
}
