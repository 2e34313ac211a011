//! Within what time growth serves pods that wait, when all is well: what no daemon can avoid, from the
//! world's own numbers.
//!
//! The calls that growth takes one after the other, each with EC2's latency ([`STEPS`], and
//! [`HALVINGS`] where the subnet can't hold all that the nodes may ask for); the link of a new ENI; and
//! where EC2's buckets are small, what they refill for the calls of all nodes, once and a half of it, as
//! README promises, with the 4 s up to which a refused call may wait. Back-offs are no part of it.

use super::room::Room;
use crate::world::World;
use std::time::Duration;
use vpc_model::Latency;

/// Calls one after the other that growth takes: one that is under way, the list of subnets, blocks for an ENI
/// that is there, or a new one's Create and Attach.
const STEPS: u32 = 1 + 1 + 1 + 2;

/// More calls where EC2 refuses batches: each is halved from a whole ENI's slots to one, for prefixes and
/// again for single addresses, on an ENI that is there and on a new one.
const HALVINGS: u32 = 4 * 4;

/// A refused call of an action waits so long at most while pods wait, for Create, Attach and Assign.
const WINDOWS: Duration = Duration::from_secs(3 * 4);

/// What the engine gathers and the kernel takes.
const BASE: Duration = Duration::from_secs(3);

/// The time of one call.
pub(crate) fn call(world: &World) -> Duration {
    time(&world.vpc().spec().latencies.ec2_ms)
}

/// By how much Describe lags: two looks that settle an absence show so old a world each.
pub(crate) fn lag(world: &World) -> Duration {
    2 * time(&world.vpc().spec().latencies.describe_lag_ms)
}

fn time(latency: &Latency) -> Duration {
    match latency {
        Latency::Fixed(ms) => Duration::from_secs_f64(ms / 1000.0),
        Latency::Spread(spread) => Duration::from_secs_f64(spread.p99 * 4.0 / 1000.0),
    }
}

/// See the module. `rooms` are of all nodes that draw from the same subnets and buckets.
pub(crate) fn bound(world: &World, rooms: &[&Room]) -> Duration {
    let vpc = world.vpc();
    let spec = vpc.spec();
    let latencies = &spec.latencies;
    let everything: u32 = rooms.iter().map(|r| r.most()).sum();
    let tight = rooms.iter().any(|r| !r.holds(everything));
    let steps = STEPS + if tight { HALVINGS } else { 0 };
    let least = BASE + time(&latencies.ec2_ms) * steps;
    let link = time(&latencies.eni_link_ms).max(time(&latencies.eni_detach_ms));
    if spec.limits.buckets.is_empty() {
        return least + link;
    }
    let slowest = spec.limits.buckets.values().map(|bucket| bucket.refill);
    let refill = slowest.fold(5.0, f64::min);
    // Of one action: new ENIs of each node, or halved batches on each of its ENIs.
    let calls: u32 = rooms.iter().map(|r| r.enis_max.min(4) * 5).sum();
    let inevitable = Duration::from_secs_f64(f64::from(calls) / refill);
    least + link + WINDOWS + inevitable * 3 / 2
}
