//! ENIs that nobody has any more.

use super::{Mutant, Pods, seeds, tests};

#[rustfmt::skip]
pub(super) const TABLE: &[Mutant] = &[
    tests("orphans/young-stays", "ipamd/core/src/lib.rs",
        "an ENI that may be on its way is not deleted"),
    tests("orphans/known-stays", "ipamd/core/src/lib.rs",
        "an ENI that the pool has in hand is not deleted by the sweep"),
    tests("orphans/free-only", "ipamd/core/src/lib.rs",
        "an ENI that is attached is not deleted by the sweep"),
    tests("orphans/undated-is-dated", "ipamd/core/src/lib.rs",
        "an ENI without a date of birth is given one"),
    tests("orphans/are-deleted", "tools/fleet-sim/tests/orphans.rs",
        "an ENI that a dead node left is gone within ten minutes"),
    tests("orphans/one-looks-per-slot", "tools/fleet-sim/tests/orphans.rs",
        "looks do not grow with the cluster"),
    tests("orphans/quiet-start", "ipamd/core/src/lib.rs",
        "a restarted daemon leaves EC2 alone for ten minutes"),
    tests("orphans/own-instance-only", "tools/fleet-sim/tests/orphans.rs",
        "a node outside a cluster deletes its own ENIs only"),
    seeds("orphans/not-before-ec2-told", Pods::V4, 200,
        "the sweep waits until the pool knows its own ENIs")
        .unseen("the sweep looks minutes after the start, when EC2 has always told"),
    tests("orphans/other-clusters-stay", "tools/fleet-sim/src/lib.rs",
        "another cluster's ENIs are left alone"),
];
