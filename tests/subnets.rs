//! Promise: addresses come from where the VPC has them, tagged subnets and fragmented ones too, and
//! pods are reached there; and a switch between prefixes and single addresses touches no pod.

use ipamd_tests::{Mode, Outcome, SOON, Scene, ensure, fail, none_wrong, spec};
use lab::{ClusterSpec, Patience, check};
use std::net::IpAddr;
use std::time::{Duration, Instant};
use vpc_model::spec::{ReservationKind, ReservationSpec};
use vpc_model::{Effect, Fault, SubnetSpec};
use vpc_sim::testing::{Failure, Test, run};

fn main() -> std::process::ExitCode {
    run(&[
        Test {
            name: "pods_in_a_tagged_subnet_are_reached",
            run: tagged_subnet,
        },
        Test {
            name: "without_the_right_to_list_subnets",
            run: not_listed,
        },
        Test {
            name: "a_fragmented_subnet_gives_single_addresses",
            run: fragmented,
        },
        Test {
            name: "prefixes_switched_at_restarts_under_load",
            run: switched,
        },
    ])
}

/// Twice the size of the node's own subnet: it stays the emptier one, whatever the order of the calls.
const MORE: &str = "10.0.128.0/17";

/// Two nodes in zones of their own, and one more subnet in the first one's zone, with more room.
fn with_more(mode: Mode) -> Result<ClusterSpec, Failure> {
    let one = spec(mode, "m5.large")?;
    let mut two = ClusterSpec::new(one.daemon, "m5.large", 2);
    two.vpc.latencies = one.vpc.latencies;
    let Ok(cidr) = MORE.parse() else {
        return fail("not a CIDR");
    };
    let mut more = SubnetSpec::new(cidr);
    more.az.clone_from(&two.vpc.subnets[0].az);
    more.tags
        .insert("kubernetes.io/role/cni".into(), "1".into());
    two.vpc.subnets.push(more);
    Ok(two)
}

/// How many pods have an address there.
fn pods_in_more(scene: &Scene) -> usize {
    let inside = |pod: &&lab::Pod| match pod.address() {
        Some(IpAddr::V4(ip)) => ip.octets()[2] >= 128,
        _ => false,
    };
    scene.pods.iter().filter(inside).count()
}

/// 27 pods on three ENIs, two of them in a subnet with another router and another size than the
/// node's: each pod reaches a pod here, one there, its node and the internet.
fn tagged_subnet() -> Outcome {
    let mut scene = Scene::ready(with_more(Mode::Secondary)?)?;
    scene.add_pods(27)?;
    scene.add_elsewhere()?;
    let there = pods_in_more(&scene);
    // All of both further ENIs' addresses, of which each has nine.
    ensure(there == 18, format!("{there} pods in the tagged subnet"))?;
    scene.all_agree()?;
    scene.all_reach()?;
    let books = scene.cluster.sim().books()?;
    let here: Vec<_> = books.enis.iter().filter(|e| e.node == "node-1").collect();
    ensure(
        here.len() == 3 && here.iter().all(|e| e.sent >= 9 && e.dropped == 0),
        format!("{here:?}"),
    )?;
    let asked = scene.calls("DescribeSubnets");
    ensure(asked == 1, format!("{asked} questions about subnets"))?;
    // A restart wires them again, by what it has stored.
    scene.node().kill();
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

fn not_listed() -> Outcome {
    let mut scene = Scene::new(with_more(Mode::Secondary)?)?;
    let denied = Effect::Fail {
        code: "UnauthorizedOperation".into(),
        message: "You are not authorized to perform this operation.".into(),
        http_status: 403,
    };
    let denied = Fault::new("DescribeSubnets", denied);
    scene.cluster.sim().vpc().add_fault(denied);
    scene.cluster.start_daemons(SOON)?;
    scene.add_pods(27)?;
    let there = pods_in_more(&scene);
    ensure(there == 0, format!("{there} pods in a subnet nobody saw"))?;
    let log = scene.node().log_tail(200);
    ensure(
        log.contains("ec2:DescribeSubnets"),
        format!("no reason: {log}"),
    )?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// An address of every /28 is set aside: plenty is free, and no prefix.
fn fragmented() -> Outcome {
    let mut spec = spec(Mode::Prefix, "m5.large")?;
    let Ok(cidr) = "10.0.0.0/24".parse() else {
        return fail("not a CIDR");
    };
    spec.vpc.subnets[0].cidr = cidr;
    spec.vpc.nodes[0].subnet = Some(cidr.to_string());
    for lane in 0..16 {
        let Ok(cidr) = format!("10.0.0.{}/32", lane * 16 + 8).parse() else {
            return fail("not a CIDR");
        };
        let kind = ReservationKind::Explicit;
        spec.vpc.subnets[0]
            .reservations
            .push(ReservationSpec { cidr, kind });
    }
    let mut scene = Scene::ready(spec)?;
    let began = Instant::now();
    scene.add_pods(12)?;
    let took = began.elapsed();
    // A back-off would be half a minute.
    ensure(took < Duration::from_secs(12), format!("took {took:?}"))?;
    let pool = scene.node().snapshot()?;
    let report = pool.report.join("; ");
    ensure(report.contains("no /28 prefix"), report)?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

/// To and fro, with ADDs in flight at each restart: all come up, and those that were up keep their
/// addresses.
fn switched() -> Outcome {
    let mut scene = Scene::ready(spec(Mode::Prefix, "m5.large")?)?;
    scene.add_pods(4)?;
    for round in 0..4 {
        let prefixes = round % 2 == 1;
        let before = scene.node().snapshot()?.leases();
        let mut pods = scene.make_pods(3)?;
        let runtime = scene.runtime.clone();
        let patience = Patience {
            retry_after: Duration::from_millis(300),
            limit: Duration::from_secs(30),
        };
        let adds = std::thread::spawn(move || {
            let tally = runtime.add_all(&mut pods, 3, patience, |_| ());
            (pods, tally)
        });
        if round < 2 {
            scene.node().stop()?;
        } else {
            scene.node().kill();
        }
        let daemon = scene.node().spec_mut().clone();
        *scene.node().spec_mut() = daemon.set("ENABLE_PREFIX_DELEGATION", prefixes);
        scene.node().start()?;
        let Ok((mut pods, tally)) = adds.join() else {
            return fail("the ADDs' thread panicked");
        };
        tally?;
        let down = pods.iter().filter(|p| !p.is_up()).count();
        ensure(down == 0, format!("round {round}: {down} pods not up"))?;
        scene.pods.append(&mut pods);
        scene.node().wait_ready(SOON)?;
        let after = scene.node().snapshot()?.leases();
        let moved = before.iter().find(|(ip, pod)| after.get(ip) != Some(pod));
        ensure(moved.is_none(), format!("round {round}: {moved:?} is gone"))?;
        none_wrong(check::no_address_twice(&scene.pods)?)?;
        scene.all_agree()?;
    }
    scene.all_reach()?;
    scene.nothing_is_left()
}
