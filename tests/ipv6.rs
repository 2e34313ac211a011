//! Promise: with `ENABLE_IPv6` alone, pods have IPv6 addresses of one /80 on the primary ENI, reach all
//! that they must with them, and IPv4 hosts with their node's address.

use ipamd_tests::six::{Families, spec_of};
use ipamd_tests::{Outcome, Scene, ensure};
use vpc_sim::testing::{Test, run};

fn main() -> std::process::ExitCode {
    run(&[Test {
        name: "pods_reach_all_that_they_must",
        run: reach,
    }])
}

fn reach() -> Outcome {
    let mut scene = Scene::ready(spec_of(Families::V6, "m5.large", 2)?)?;
    scene.add_pods(4)?;
    scene.add_elsewhere()?;
    scene.all_have(&[true])?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.all_get_out()?;
    let (assigns, creates) = (scene.calls("Assign"), scene.calls("Create"));
    ensure(
        (assigns, creates) == (1, 0),
        format!("{assigns} Assigns, {creates} Creates for one prefix"),
    )?;
    scene.nothing_is_left()
}
