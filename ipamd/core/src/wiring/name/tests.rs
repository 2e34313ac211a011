//! Vectors by `sha1sum`: a daemon must know the links that an earlier one made, and Calico the names.

use super::*;

fn pod(namespace: &str, name: &str) -> PodRef {
    PodRef {
        namespace: namespace.into(),
        name: name.into(),
        uid: String::new(),
    }
}

fn key(network: &str, container_id: &str, if_name: &str) -> AttachmentKey {
    AttachmentKey {
        network: network.into(),
        container_id: container_id.into(),
        if_name: if_name.into(),
    }
}

#[test]
fn names_are_those_of_amazons_cni() {
    let (eth0, net1) = (key("net", "sandbox", "eth0"), key("net", "sandbox", "net1"));
    let coredns = "coredns-57ff979f67-qqbdh";
    for (prefix, pod, key, index, name) in [
        // Of Amazon's CNI itself.
        (
            "eni",
            pod("kube-system", coredns),
            &eth0,
            0,
            "enib5faff8a083",
        ),
        (
            "eni",
            pod("kube-system", "coredns-57ff979f67-8ns9b"),
            &eth0,
            0,
            "eni9571956a6cc",
        ),
        (
            "eni",
            pod("default", "sample-pod"),
            &eth0,
            0,
            "enicc21c2d7785",
        ),
        ("eni", pod("default", "web-0"), &eth0, 0, "eni0d7763386da"),
        // Another prefix (`AWS_VPC_K8S_CNI_VETHPREFIX`), the same digits.
        ("v", pod("default", "web-0"), &eth0, 0, "v0d7763386da"),
        ("veth", pod("default", "web-0"), &eth0, 0, "veth0d7763386da"),
        // Whatever the attachment is called, as long as it is the pod's first.
        ("eni", pod("default", "web-0"), &net1, 0, "eni0d7763386da"),
        // Further ones: sha1("default.web-0.1").
        ("eni", pod("default", "web-0"), &net1, 1, "enib813f772d20"),
        ("eni", pod("default", "web-0"), &net1, 2, "eni68e8eca5cc4"),
        // No pod: sha1("net.sandbox.net1"), whichever it is.
        ("eni", pod("", ""), &net1, 0, "eni8b6f65d1802"),
        ("eni", pod("", ""), &net1, 3, "eni8b6f65d1802"),
    ] {
        assert_eq!(host_if_name(prefix, &pod, key, index), name);
        // The kernel takes 15 bytes (IFNAMSIZ - 1).
        assert!(name.len() <= 15, "{name}");
        assert_eq!(host_if_prefix(name), Some(prefix));
    }
}

#[test]
fn a_name_tells_its_prefix() {
    for (name, prefix) in [
        ("eni0d7763386da", Some("eni")),
        ("mulcc21c2d7785", Some("mul")),
        ("veth0d7763386da", Some("veth")),
        ("0d7763386da", None),
        ("ens5", None),
        ("veth1a2b3c4d", None),
        ("eni0d7763386dX", None),
        ("eni0D7763386DA", None),
        ("vetho0d7763386da", None),
        ("e\"i0d7763386da", None),
        ("\u{e9}0d7763386da", None),
        ("", None),
    ] {
        assert_eq!(host_if_prefix(name), prefix, "{name}");
    }
}

/// sha1("pods") is 9b1c6b..., sha1("pods/sandbox/eth0") 8bfc..., and the lease's, with its salt, 75b974062a2f
/// e6496f22b6ff... and db418ecf73df d5349c4abc20...: three bytes, two, one, and the pod's six; the first
/// byte of each end made local and unicast.
#[test]
fn ethernet_addresses_are_what_they_were() {
    let own = key("pods", "sandbox", "eth0");
    for (salt, host, pod) in [
        (1_767_225_600_000, "9a:1c:6b:8b:fc:75", "e6:49:6f:22:b6:ff"),
        (1_767_225_600_001, "9a:1c:6b:8b:fc:db", "d6:34:9c:4a:bc:20"),
    ] {
        let (host_mac, pod_mac) = pod_macs(&own, salt);
        assert_eq!(
            (format!("{host_mac}"), format!("{pod_mac}")),
            (host.into(), pod.into())
        );
    }
}

#[test]
fn a_links_address_tells_its_network_and_attachment() {
    let own = key("n", "c", "eth0");
    let (host, pod) = pod_macs(&own, 1);
    assert!(is_of_network(host, "n") && is_of_attachment(host, &own));
    assert!(!is_of_network(host, "m") && !is_of_attachment(host, &key("m", "c", "eth0")));
    assert!(!is_of_attachment(host, &key("n", "d", "eth0")));
    assert!(!is_of_attachment(host, &key("n", "c", "net1")));
    assert!(!is_of_network(pod, "n"));
    let (later, _) = pod_macs(&own, 2);
    assert!(later != host && is_of_attachment(later, &own));
    for mac in [host, pod, later] {
        assert_eq!(mac.0[0] & 3, 2, "{mac}: local, unicast");
    }
}
