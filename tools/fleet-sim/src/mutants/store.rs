//! The disk, a start, turns of the owner, and who waits.

use super::{Mutant, Pods, seeds, tests};

#[rustfmt::skip]
pub(super) const TABLE: &[Mutant] = &[
    tests("store/without-a-name-proves-nothing", "ipamd/engine/src/lib.rs",
        "ENIs of a store that has lost whose it is are not deleted as ours"),
    seeds("store/lease-before-answer", Pods::V4, 200,
        "a lease is durable before it is told"),
    seeds("store/intent-before-call", Pods::V4, 400,
        "no call is sent whose intent could not be stored"),
    seeds("store/failed-writes-are-kept", Pods::V4, 200,
        "what could not be stored is stored the next time"),
    seeds("store/leases-are-written", Pods::V4, 25,
        "every lease is on the disk"),
    seeds("store/ends-are-written", Pods::V4, 25,
        "a lease that ended does not come back with a restart"),
    seeds("store/rests-are-written", Pods::V4, 25,
        "the time of a release outlives a restart"),
    tests("refusal/not-before-ec2-told", "tools/fleet-sim/tests/cooldown.rs",
        "no pod is refused before all is known"),
    tests("refusal/not-while-a-call-is-under-way", "tools/fleet-sim/tests/subnets/main.rs",
        "no pod is refused while a call may bring it an address"),
    seeds("store/full-disk-is-told", Pods::V4, 200,
        "pods are told when nothing can be stored")
        .unseen("a full disk that does not heal before an ADD's deadline is rare in the dice"),
    tests("queue/no-overtaking", "tools/fleet-sim/src/lib.rs",
        "those who came earlier come first"),
    seeds("start/not-before-the-kernel-was-seen", Pods::V4, 200,
        "no ADD is served before the kernel was looked at")
        .unseen("the first look at the kernel takes no time in the simulation"),
    tests("start/unconfirmed-serves-nobody", "tools/fleet-sim/src/lib.rs",
        "blocks of another boot, or of a damaged store, serve nobody before EC2 has told"),
    seeds("plugin/too-old-is-told", Pods::V4, 200,
        "a plugin that cannot do what is asked of it is told so")
        .unseen("the runtime of the simulation knows no renamed network, no other plugin and no DEL of an unknown key that matters"),
    seeds("del/unknown-key-names-addresses", Pods::V4, 200,
        "a DEL frees an address that only the kernel knew")
        .unseen("the runtime of the simulation knows no renamed network, no other plugin and no DEL of an unknown key that matters"),
    seeds("del/of-another-name", Pods::V4, 200,
        "a DEL by a renamed network ends the lease")
        .unseen("the runtime of the simulation knows no renamed network, no other plugin and no DEL of an unknown key that matters"),
    tests("del/withdraws-its-add", "tools/fleet-sim/tests/engine.rs",
        "a DEL withdraws the ADD that waits"),
    seeds("stop/parked-are-answered", Pods::V4, 200,
        "who waits is told when the daemon stops"),
    tests("del/withdraws-only-its-own-add", "tools/fleet-sim/src/lib.rs",
        "a DEL cancels the ADD of its own key only"),
    tests("queue/first-come-first-served", "tools/fleet-sim/src/lib.rs",
        "first come, first served"),
    tests("queue/last-is-refused-first", "tools/fleet-sim/src/lib.rs",
        "where not all can be served, those who came last are refused"),
    seeds("refusal/by-the-deadline", Pods::V4, 25,
        "an ADD is answered by its deadline"),
    tests("queue/caller-that-went", "tools/fleet-sim/tests/engine.rs",
        "an ADD whose caller has gone is nobody's demand"),
    seeds("store/damage-is-told-to-the-pool", Pods::V4, 200,
        "the store's damage is heeded")
        .unseen("a damaged store is rare in the dice, and what it forgot is forgiven to the daemon"),
    seeds("store/damage-asks-ec2-first", Pods::V4, 200,
        "a damaged store is not believed before EC2 has told")
        .unseen("a damaged store is rare in the dice, and what it forgot is forgiven to the daemon"),
    tests("clock/releases-of-the-future", "tools/fleet-sim/src/lib.rs",
        "a clock that was set back does not make an address rest longer"),
    tests("store/another-instances-rests-go", "ipamd/engine/src/lib.rs",
        "another instance's records do not stay on the disk"),
    seeds("store/another-instance", Pods::V4, 200,
        "nothing that another instance stored is believed")
        .unseen("a disk never comes up on another instance"),
    seeds("boot/wired-before-is-not-wired-now", Pods::V4, 200,
        "after a reboot nothing is wired")
        .unseen("after a reboot the first wiring takes no time in the simulation and comes before any ADD is served"),
    seeds("boot/enis-are-wired-anew", Pods::V4, 200,
        "after a reboot an ENI serves only when it is wired")
        .unseen("after a reboot the first wiring takes no time in the simulation and comes before any ADD is served"),
    seeds("boot/blocks-wait-for-ec2", Pods::V4, 200,
        "what was stored is unconfirmed until EC2 has told")
        .unseen("a damaged store is rare in the dice, and what it forgot is forgiven to the daemon"),
    seeds("start/only-blocks-in-use-were-wired", Pods::V4, 200,
        "a stored block may not have been wired any more")
        .unseen("after a reboot the first wiring takes no time in the simulation and comes before any ADD is served"),
    seeds("gc/valid-stays", Pods::V4, 200,
        "GC ends no lease that the runtime names")
        .unseen("the runtime of the simulation never sends a GC"),
    tests("gc/own-network-only", "tools/fleet-sim/tests/collect.rs",
        "GC ends leases of its own network only"),
    tests("gc/younger-than-the-question", "tools/fleet-sim/tests/collect.rs",
        "GC does not judge a lease that is younger than the question"),
    tests("gc/being-wired-stays", "tools/fleet-sim/tests/collect.rs",
        "GC does not judge a lease that is being wired"),
    tests("gc/wired-after-the-question-stays", "tools/fleet-sim/tests/collect.rs",
        "a lease that was wired after the runtime asked is not judged by the answer"),
    tests("gc/links-of-others-stay", "tools/fleet-sim/tests/collect.rs",
        "GC removes links of its own network only"),
    seeds("del/of-another-name-waits-for-the-link", Pods::V4, 200,
        "a DEL by another network's name ends no living pod's lease")
        .unseen("the runtime of the simulation knows no renamed network, no other plugin and no DEL of an unknown key that matters"),
    seeds("start/stored-instance-is-proved", Pods::V4, 200,
        "the same disk on another instance is another node")
        .unseen("a disk never comes up on another instance"),
    tests("served/only-when-wired", "tools/fleet-sim/tests/notices.rs",
        "a node that cannot route an address has not served"),
];
