//! Bad weather in EC2 and IMDS: faults come and go.

use super::{Dice, Sky};
use std::time::Duration;
use vpc_model::{Effect, Fault};
use vpc_sim::Sim;

const WRITES: [&str; 8] = [
    "CreateNetworkInterface",
    "AttachNetworkInterface",
    "ModifyNetworkInterfaceAttribute",
    "AssignPrivateIpAddresses",
    "UnassignPrivateIpAddresses",
    "DetachNetworkInterface",
    "DeleteNetworkInterface",
    "*",
];

/// Until the storm is over; then none is left.
pub(super) fn blow(sky: &Sky, sim: &Sim) {
    let mut dice = Dice(sky.storm.seed ^ 0xfa17);
    while sky.blows() {
        let fault = fault(sky, &mut dice);
        let id = sim.vpc().add_fault(fault);
        std::thread::sleep(Duration::from_millis(300 + dice.below(2_000)));
        sim.vpc().remove_fault(id);
        std::thread::sleep(Duration::from_millis(dice.below(500)));
    }
}

fn fault(sky: &Sky, dice: &mut Dice) -> Fault {
    let write = *dice.one(&WRITES);
    let fail = |code: &str, message: &str, http_status| Effect::Fail {
        code: code.into(),
        message: message.into(),
        http_status,
    };
    // A lost answer to a write leaves a doubt that only time settles (a minute): not too late.
    let early = sky.now() < sky.storm.lasts / 3;
    let times = u32::try_from(1 + dice.below(3)).unwrap_or(1);
    match dice.below(12) {
        0 => Fault::new("*", Effect::Throttle).times(4 * times),
        1 => Fault::new(write, Effect::Throttle),
        2 | 3 if early => Fault::new(write, Effect::DropAnswer).times(1),
        2 => Fault::new("Describe*", Effect::DropAnswer).times(times),
        3 => Fault::new("*", Effect::Delay { ms: 3_000 }).times(times),
        4 => Fault::new(
            write,
            Effect::Delay {
                ms: 100 + dice.below(2_000),
            },
        ),
        5 if early => Fault::new(
            write,
            fail("InternalError", "An internal error has occurred", 500),
        )
        .times(times),
        5 | 6 => Fault::new(
            "Describe*",
            fail("Unavailable", "The service is unavailable.", 503),
        ),
        7 | 8 => Fault::new("Describe*", Effect::Stale { ms: 20_000 }),
        9 => Fault::new("*", Effect::ImdsStale { ms: 30_000 }),
        10 => Fault::new("*", Effect::ImdsFail { http_status: 503 }),
        _ => Fault::new("*", Effect::HideEni { eni: None }),
    }
}
