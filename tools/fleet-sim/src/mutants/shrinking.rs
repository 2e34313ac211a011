//! Fewer addresses: only what nobody misses.

use super::{Mutant, Pods, seeds, tests};

#[rustfmt::skip]
pub(super) const TABLE: &[Mutant] = &[
    tests("shrink/cooling-block", "ipamd/core/tests/rate.rs",
        "cooling addresses are never unassigned"),
    tests("shrink/young-eni", "ipamd/core/tests/rate.rs",
        "an ENI younger than a minute is not given back"),
    tests("shrink/in-doubt", "ipamd/core/tests/rate.rs",
        "nothing is given back of an ENI in doubt"),
    tests("shrink/busy-eni", "ipamd/core/tests/rate.rs",
        "nothing is given back of an ENI with a call under way"),
    tests("excluded/one-family-a-call", "ipamd/core/tests/unassign.rs",
        "an action is one call to EC2"),
    tests("shrink/primary-stays", "ipamd/core/tests/rate.rs",
        "only ENIs that the daemon made are ever detached"),
    seeds("shrink/idle-eni-only", Pods::V4, 25,
        "an ENI with a pod is not given back"),
    seeds("shrink/moments-peak-stays", Pods::V4, 200,
        "what was too much all the time goes, a moment's peak stays")
        .unseen("no promise of the oracle says how soon something may be given back"),
    seeds("shrink/not-while-growing", Pods::V4, 200,
        "nothing is given back while something comes")
        .unseen("no promise counts calls: what is given back and bought anew is not seen"),
    seeds("shrink/other-kind-first", Pods::V4, 200,
        "blocks of the other kind go first")
        .unseen("no promise counts calls: what is given back and bought anew is not seen"),
    seeds("shrink/whole-enis", Pods::V4, 200,
        "by WARM_ENI_TARGET only whole ENIs go back")
        .unseen("no promise counts calls: what is given back and bought anew is not seen"),
    tests("shrink/not-below-the-target", "tools/fleet-sim/tests/subnets/main.rs",
        "no more is given back than what is too much"),
    tests("shrink/surplus-goes", "ipamd/core/tests/rate.rs",
        "a surplus is given back"),
    tests("excluded/drains", "tools/fleet-sim/tests/subnets/main.rs",
        "ENIs in excluded subnets give back what nobody uses"),
];
