//! Names and Ethernet addresses of a pod's veth.

use crate::{AttachmentKey, Mac, PodRef};
use alloc::format;
use alloc::string::String;
use mutant::mutant;
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
    name.truncate(prefix.len() + DIGITS);
    name
}

/// Digits of a host end's name, behind its prefix.
const DIGITS: usize = 11;

/// The longest prefix that a network configuration can set (`vethPrefix`).
const PREFIX_MAX: usize = 4;

/// The prefix of a host end's name, if [`host_if_name`] can have made it.
#[must_use]
pub fn host_if_prefix(name: &str) -> Option<&str> {
    let (prefix, digits) = name.split_at_checked(name.len().checked_sub(DIGITS)?)?;
    let own = (1..=PREFIX_MAX).contains(&prefix.len())
        && prefix.bytes().all(|b| b.is_ascii_alphanumeric())
        && digits
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    own.then_some(prefix)
}

/// The Ethernet addresses of the host's and the pod's end: locally administered and unicast. `salt`
/// differs from lease to lease, so that a late DEL can tell its own link from a namesake's; the lease
/// keeps them, so that a repeated ADD gives the same answer. They meet nobody but each other.
///
/// The host's says whose it is, for the day on which no lease does ([`is_of_network`], [`is_of_attachment`]).
#[must_use]
pub fn pod_macs(key: &AttachmentKey, salt: u64) -> (Mac, Mac) {
    let (network, own) = (network_tag(&key.network), attachment_tag(key));
    let lease = digest(&format!("{key}#{salt}"));
    let host = [network[0], network[1], network[2], own[0], own[1], lease[0]];
    let mut pod = [0; 6];
    pod.copy_from_slice(&lease[6..12]);
    pod[0] = local(pod[0]);
    (Mac(host), Mac(pod))
}

/// Whether a host end's Ethernet address was made for this network (another one's has the same 22 bits only
/// by chance).
#[must_use]
pub fn is_of_network(mac: Mac, network: &str) -> bool {
    mac.0[..3] == network_tag(network)
}

/// Whether it may have been made for this attachment (another one's of the same network has the same 16
/// bits only by chance).
#[must_use]
pub fn is_of_attachment(mac: Mac, key: &AttachmentKey) -> bool {
    is_of_network(mac, &key.network)
        && mutant!(
            "wiring/link-tells-its-attachment",
            mac.0[3..5] == attachment_tag(key),
            true
        )
}

fn network_tag(network: &str) -> [u8; 3] {
    let hash = digest(network);
    [local(hash[0]), hash[1], hash[2]]
}

fn attachment_tag(key: &AttachmentKey) -> [u8; 2] {
    let hash = digest(&format!("{key}"));
    [hash[0], hash[1]]
}

/// The first byte of a locally administered, unicast address.
const fn local(byte: u8) -> u8 {
    byte & 0xfc | 0x02
}

fn digest(text: &str) -> [u8; 20] {
    let mut hash = Sha1::new();
    hash.update(text);
    hash.finalize().into()
}

#[cfg(test)]
mod tests;
