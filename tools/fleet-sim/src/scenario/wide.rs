//! What happens to nodes besides the common troubles: clocks that jump, records that are lost, disks
//! that come from another instance, tags that change. Thrown with dice of its own.

use super::dice::Plan;
use super::ground;
use super::known::Dice;
use super::machine::Machine;
use crate::rng::Rng;
use crate::world::World;
use vpc_model::fault::Omission;
use vpc_model::{Effect, Fault};

/// In seconds.
const HOUR: u64 = 3_600;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wide {
    /// A system clock is set.
    Clock,
    /// One record of a store can't be read any more.
    Record,
    /// A state directory is removed.
    State,
    /// A subnet's tags change.
    Tags,
    /// A node is made anew from an image of another one's disk.
    Image,
    /// Calls never reach EC2.
    Unreached,
    /// EC2's answers lack what is there.
    Thin,
}

/// Which of it there is in a scenario, and how often.
#[derive(Debug)]
pub(super) struct Breadth {
    seed: u64,
    kinds: Vec<Wide>,
    dice: Dice,
    /// After so many of a hundred events.
    often: u64,
}

impl Breadth {
    pub(super) fn new(plan: &Plan) -> Self {
        let (seed, dice) = (plan.spec.seed, plan.dice);
        let mut rng = Rng::stream(seed, "world/events");
        let mut kinds = Vec::new();
        for (kind, name, chance) in [
            (Wide::Clock, "clocks", 30),
            (Wide::Record, "lost record", 12),
            (Wide::State, "lost state", 6),
            (Wide::Image, "golden image", 8),
            (Wide::Unreached, "unreached calls", 20),
            (Wide::Thin, "thin answers", 15),
        ] {
            if rng.percent(chance) && dice.allow(name) {
                kinds.push(kind);
            }
        }
        if plan.ground.retags {
            kinds.push(Wide::Tags);
        }
        let often = *rng.pick(&[5, 10, 25]);
        Self {
            seed,
            kinds,
            dice,
            often,
        }
    }

    /// Whether none of it ends a daemon.
    pub(super) fn daemons_stay(&self) -> bool {
        let ends = |kind: &Wide| matches!(kind, Wide::Record | Wide::State | Wide::Image);
        !self.kinds.iter().any(ends)
    }

    /// After a common trouble there may be a wide one; a fault of EC2 that it is, is answered.
    pub(super) fn happen(
        &self,
        event: u32,
        world: &World,
        machines: &mut [Machine],
    ) -> Option<Fault> {
        let mut own = Rng::stream(self.seed, &format!("world/event {event}"));
        let rng = &mut own;
        if self.kinds.is_empty() || !rng.percent(self.often) {
            return None;
        }
        let kind = *rng.pick(&self.kinds);
        let most = machines.len().saturating_sub(1) as u64;
        let mut any = || usize::try_from(rng.range(0, most)).unwrap_or(0);
        let (at, from) = (any(), any());
        if machines[at].gone {
            return None;
        }
        match kind {
            Wide::Clock => set_clock(&machines[at], rng),
            Wide::Record => machines[at].lose_record(rng),
            Wide::State => machines[at].lose_state(rng),
            Wide::Tags => {
                world.oracle().retagged = true;
                ground::retag(world, rng);
            }
            Wide::Image if at != from => {
                let image = machines[from].site.store.copy();
                machines[at].made_from(&image, rng);
            }
            Wide::Image => {}
            Wide::Unreached => return Some(unreached(rng)),
            Wide::Thin => return self.thin(world, rng),
        }
        None
    }

    /// A fault by which answers lack what is there.
    fn thin(&self, world: &World, rng: &mut Rng) -> Option<Fault> {
        let share = Omission::Share {
            percent: *rng.pick(&[20, 50, 80]),
            seed: rng.next(),
        };
        let (action, what, name) = match rng.range(0, 5) {
            0 => ("DescribeSubnets", share, "thin subnets"),
            1 => ("DescribeSubnets", Omission::All, "thin subnets"),
            2 => (ENIS, Omission::All, "describe without the primary"),
            3 => (ENIS, Omission::Primary, "describe without the primary"),
            4 => (ENIS, Omission::AllButPrimary, "describe without an ENI"),
            // The primary may be among them.
            _ => (ENIS, share, "describe without the primary"),
        };
        let fault = Fault::new(action, Effect::LeaveOut { what });
        // What a subnet's tags say is known when EC2 tells of it the next time.
        world.oracle().retagged |= name == "thin subnets";
        self.dice.allow(name).then(|| fault.times(rng.count(1, 6)))
    }
}

const ENIS: &str = "DescribeNetworkInterfaces";

fn unreached(rng: &mut Rng) -> Fault {
    let action = *rng.pick(&["*", "Assign*", "Create*", "Attach*", "Describe*", "Detach*"]);
    let silent = rng.percent(50);
    Fault::new(action, Effect::Unreached { silent }).times(rng.count(1, 5))
}

/// Sets a node's system clock: a step of NTP, or days by a dead battery or by hand. By whole seconds: less
/// is within the store's tolerance, and an address may rest that much less.
fn set_clock(machine: &Machine, rng: &mut Rng) {
    let by = match rng.range(0, 3) {
        0 => rng.range(1, 5),
        1 => rng.range(5, 300),
        2 => rng.range(300, 3 * HOUR),
        _ => rng.range(3 * HOUR, 48 * HOUR),
    };
    let by = 1_000 * i64::try_from(by).unwrap_or(0);
    let clock = &machine.node.clock;
    let ahead = match rng.range(0, 4) {
        0 => 0,
        1 | 2 => by,
        _ => -by,
    };
    clock.set(ahead);
    machine.tell(|| format!("the system's clock is set: {ahead} ms ahead"));
}
