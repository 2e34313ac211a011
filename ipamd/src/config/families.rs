//! Which addresses pods get, and how they reach the other family.

use super::finding::Severity;
use super::read::Reader;
use ipam_core::Family;

/// A pod gets one address of each, in this order. The kubelet puts the node's own family first in a
/// pod's status, whatever the order here.
pub(super) fn families(read: &mut Reader<'_>) -> Vec<Family> {
    let (v4, v6) = (read.flag("ENABLE_IPv4"), read.flag("ENABLE_IPv6"));
    let first = read.word("IPAMD_FIRST_FAMILY", &["ipv4", "ipv6"]);
    match (v4, v6) {
        (true, true) if first == "ipv6" => vec![Family::V6, Family::V4],
        (true, true) => vec![Family::V4, Family::V6],
        (false, true) => vec![Family::V6],
        (true, false) => vec![Family::V4],
        (false, false) => {
            read.tell(
                Severity::Refusal,
                "ENABLE_IPv4, ENABLE_IPv6",
                "both are false: pods would get no address at all",
            );
            vec![Family::V4]
        }
    }
}

/// The family of which pods get a node-local address: the one that they have no other of.
pub(super) fn egress(read: &mut Reader<'_>, families: &[Family]) -> Option<Family> {
    let (v4, v6) = (read.flag("ENABLE_V4_EGRESS"), read.flag("ENABLE_V6_EGRESS"));
    match families {
        [Family::V6] => v4.then_some(Family::V4),
        [Family::V4] => v6.then_some(Family::V6),
        _ => None,
    }
}

/// The smallest MTU (RFC 8200 section 5: IPv6 needs 1280).
pub(super) fn smallest_mtu(families: &[Family]) -> u32 {
    if families.contains(&Family::V6) {
        1280
    } else {
        576
    }
}
