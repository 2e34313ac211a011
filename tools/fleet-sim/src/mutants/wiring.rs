//! The kernel's side of the datapath, as values.

use super::{Mutant, Pods, seeds, tests};

#[rustfmt::skip]
pub(super) const TABLE: &[Mutant] = &[
    tests("wiring/local-pods-by-host-routes-only", "ipamd/core/tests/wiring.rs",
        "the rule for local pods leaves all other traffic alone"),
    tests("wiring/enis-address-has-its-table", "ipamd/core/tests/wiring.rs",
        "what an ENI's own address sends leaves by it"),
    seeds("wiring/block-has-its-enis-table", Pods::V4, 75,
        "what a prefix's pods send leaves by their ENI"),
    seeds("wiring/address-has-its-enis-mark", Pods::V4, 25,
        "what a secondary address's pod sends leaves by its ENI"),
    tests("wiring/marked-leaves-by-the-primary", "ipamd/core/tests/wiring.rs",
        "answers to what came to the node leave by the primary ENI"),
    tests("wiring/services-by-main", "ipamd/core/tests/wiring.rs",
        "services are looked up in the main table before blocks are"),
    tests("wiring/not-in-main", "ipamd/core/tests/wiring.rs",
        "the node's own traffic leaves by the primary ENI"),
    tests("wiring/pods-are-named", "ipamd/core/tests/wiring.rs",
        "every block is known to be pods'"),
    tests("wiring/gateway-is-the-subnets", "ipamd/core/tests/wiring.rs",
        "an ENI's table leads to its subnet's router"),
    tests("wiring/local-pods-of-ipv6", "ipamd/core/tests/wiring.rs",
        "the rule for local IPv6 pods finds host routes only"),
    tests("wiring/neighbour-is-the-host-end", "ipamd/core/tests/wiring.rs",
        "a pod's gateway is its link's host end"),
    tests("wiring/further-interface-has-a-table", "ipamd/core/tests/wiring.rs",
        "what a further interface's address sends leaves by it"),
    tests("wiring/first-interface-keeps-the-default", "ipamd/core/tests/wiring.rs",
        "the first interface keeps the default route"),
    tests("wiring/node-local-is-nobodys-address", "ipamd/core/tests/wiring.rs",
        "a node-local address is not in the CNI result"),
    tests("wiring/no-routes-from-pods", "ipamd/core/tests/wiring.rs",
        "a pod cannot give the host a route"),
    tests("wiring/link-tells-its-attachment", "ipamd/core/src/lib.rs",
        "a link is told from those of other attachments"),
];
