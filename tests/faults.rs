//! Promise: when EC2 or IMDS fail, lag or refuse, the daemon says so, keeps trying, and does neither
//! lose nor double anything.

use ipamd_tests::{Mode, Outcome, SOON, Scene, ensure, eventually, fail, refused, spec};
use lab::{LabError, Patience};
use std::time::Duration;
use vpc_model::{Effect, Fault, SubnetSpec};
use vpc_sim::testing::{Failure, Test, run};

fn main() -> std::process::ExitCode {
    run(&[
        Test {
            name: "ec2_silent_at_start",
            run: ec2_silent,
        },
        Test {
            name: "ec2_refuses_at_start",
            run: ec2_refuses,
        },
        Test {
            name: "imds_silent_at_start",
            run: imds_silent,
        },
        Test {
            name: "imds_in_trouble_at_start",
            run: imds_errors,
        },
        Test {
            name: "a_full_subnet_is_told",
            run: subnet_full,
        },
        Test {
            name: "no_free_prefix_in_a_fragmented_subnet",
            run: fragmented,
        },
        Test {
            name: "throttled",
            run: throttled,
        },
        Test {
            name: "dropped_answers",
            run: dropped_answers,
        },
        Test {
            name: "an_eni_that_imds_hides",
            run: hidden_eni,
        },
        Test {
            name: "stale_describes",
            run: stale_describes,
        },
    ])
}

fn with_fault(fault: Fault) -> Result<(Scene, u64), Failure> {
    let mut scene = Scene::new(spec(Mode::Prefix, "m5.large")?)?;
    let id = scene.cluster.sim().vpc().add_fault(fault);
    scene.node().start()?;
    Ok((scene, id))
}

/// The daemon lives, says that it can't serve and why, and serves once the fault is gone.
fn trouble_then_well(mut scene: Scene, fault: u64, why: &str) -> Outcome {
    let look = |scene: &Scene| {
        let node = &scene.cluster.nodes()[0];
        node.daemon()?.check_running()?;
        match node.status() {
            Ok(status) => Ok(Some(status)),
            // The socket may come a moment after the process.
            Err(LabError::Io { .. }) => Ok(None),
            Err(e) => Err(Failure::from(e)),
        }
    };
    let says = |seen: &Option<(bool, String)>| {
        seen.as_ref().is_some_and(|(ready, words)| {
            !ready && words.to_lowercase().contains(&why.to_lowercase())
        })
    };
    eventually(
        Duration::from_secs(15),
        || look(&scene),
        says,
        |seen| {
            ensure(
                says(&seen),
                format!("health says {seen:?}, not a word of \"{why}\""),
            )
        },
    )?;
    scene.cluster.sim().vpc().remove_fault(fault);
    scene.node().wait_ready(Duration::from_secs(40))?;
    scene.add_pods(5)?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

fn ec2_silent() -> Outcome {
    let (scene, id) = with_fault(Fault::new("*", Effect::Delay { ms: 600_000 }))?;
    trouble_then_well(scene, id, "EC2")
}

fn ec2_refuses() -> Outcome {
    let refusal = Effect::Fail {
        code: "UnauthorizedOperation".into(),
        message: "You are not authorized to perform this operation.".into(),
        http_status: 403,
    };
    let (scene, id) = with_fault(Fault::new("*", refusal))?;
    trouble_then_well(scene, id, "EC2")
}

fn imds_silent() -> Outcome {
    let (scene, id) = with_fault(Fault::new("*", Effect::ImdsDrop))?;
    trouble_then_well(scene, id, "IMDS")
}

fn imds_errors() -> Outcome {
    let (scene, id) = with_fault(Fault::new("*", Effect::ImdsFail { http_status: 503 }))?;
    trouble_then_well(scene, id, "IMDS")
}

/// A /28 has eleven usable addresses; one is the node's.
fn subnet_full() -> Outcome {
    let mut spec = spec(Mode::Secondary, "m5.large")?;
    spec.vpc.subnets = vec![SubnetSpec::new("10.0.0.0/28".parse()?)];
    spec.vpc.nodes[0].subnet = None;
    let mut scene = Scene::ready(spec)?;
    let mut pods = scene.make_pods(12)?;
    let tally = scene
        .runtime
        .add_all(&mut pods, 4, Patience::NONE, |_| ())?;
    let up = pods.iter().filter(|p| p.is_up()).count();
    // A further ENI would need a primary address of its own.
    ensure(
        (9..=10).contains(&up),
        format!("{up} pods up; {:?}", tally.failed_adds),
    )?;
    let mut one_more = scene.make_pod()?;
    let call = scene.runtime.add(&mut one_more)?;
    refused("one more pod", &call, 11, "subnet")?;
    scene.runtime.del(&mut one_more)?;
    scene.pods = pods;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// No aligned /28 is free, but addresses are: pods get those.
fn fragmented() -> Outcome {
    let mut spec = spec(Mode::Prefix, "m5.large")?;
    spec.vpc.subnets = vec![SubnetSpec::new("10.0.0.0/27".parse()?)];
    spec.vpc.nodes[0].subnet = None;
    spec.vpc.nodes[0].primary_ip = Some("10.0.0.20".parse()?);
    let mut scene = Scene::ready(spec)?;
    scene.add_pods(4)?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

fn throttled() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    scene
        .cluster
        .sim()
        .vpc()
        .add_fault(Fault::new("*", Effect::Throttle).times(3));
    scene.add_pods(60)?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// EC2 did it and the answer was lost: the daemon must find out, and not ask twice.
fn dropped_answers() -> Outcome {
    let mut spec = spec(Mode::Prefix, "m5.large")?;
    // Past EC2's consistency window the doubt is settled; here that is moved forward by hand.
    spec.daemon = spec.daemon.set("IPAMD_ADD_TIMEOUT_MS", "100000");
    let mut scene = Scene::ready(spec)?;
    scene
        .cluster
        .sim()
        .vpc()
        .add_fault(Fault::new("Assign*", Effect::DropAnswer).times(1));
    let before = scene.calls("Assign");
    scene.add_pods(40)?;
    scene.all_agree()?;
    let bought: usize = {
        let sim = scene.cluster.sim();
        let enis = sim.vpc().enis(sim.clock().now());
        enis.iter().map(|e| e.v4_prefixes.len()).sum()
    };
    // 40 pods and one warm prefix need four, and pods may come in parts. A repeated call would have
    // bought more, and so would another ENI while the next Describe tells what became of the first.
    let calls = scene.calls("Assign") - before;
    ensure(
        bought <= 5,
        format!("{bought} prefixes in {calls} calls for 40 pods"),
    )?;
    scene.nothing_is_left()
}

/// EC2 says that it is attached, the link is there, IMDS does not list it: EC2's word counts.
fn hidden_eni() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Secondary, "m5.large")?)?;
    scene
        .cluster
        .sim()
        .vpc()
        .add_fault(Fault::new("*", Effect::HideEni { eni: None }));
    scene.add_pods(20)?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.node().kill();
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// Describe shows the VPC as it was 20 s ago, also after one's own write.
fn stale_describes() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Secondary, "m5.large")?)?;
    scene
        .cluster
        .sim()
        .vpc()
        .add_fault(Fault::new("Describe*", Effect::Stale { ms: 20_000 }));
    scene.add_pods(20)?;
    scene.all_agree()?;
    scene.node().kill();
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    scene.all_agree()?;
    let used = scene.node().snapshot()?.totals.used;
    if used == 20 {
        scene.nothing_is_left()
    } else {
        fail(format!("{used} leases, not 20"))
    }
}
