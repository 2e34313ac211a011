//! Promise: a pod that gets no address is told why, in words that a person can act on, with the next
//! try; and the same cause is in the log and in the metrics.

use ipamd_tests::seen::{log, metrics, value};
use ipamd_tests::{Mode, Outcome, SOON, Scene, ensure, spec};
use lab::{ClusterSpec, Patience};
use std::process::Command;
use std::time::Duration;
use vpc_model::{Effect, Fault, SubnetSpec};
use vpc_sim::testing::{Failure, Test, run};

/// What a pod is to be told.
struct Reason {
    /// CNI code.
    code: u64,
    /// The label, the same in answer, log and metric.
    cause: &'static str,
    /// All of these are in the message.
    says: &'static [&'static str],
}

const fn reason(cause: &'static str, says: &'static [&'static str]) -> Reason {
    Reason {
        code: 11,
        cause,
        says,
    }
}

fn main() -> std::process::ExitCode {
    run(&[
        test("subnet_full", subnet_full),
        test("subnet_full_for_prefixes", subnet_full_for_prefixes),
        test("instance_limit", instance_limit),
        test("max_eni", max_eni),
        test("throttled", throttled),
        test("unauthorized", unauthorized),
        test("account_full", account_full),
        test("ec2_unreachable", ec2_unreachable),
        test("ec2_silent", ec2_silent),
        test("ec2_broken", ec2_broken),
        test("imds_down", imds_down),
        test("in_doubt", in_doubt),
        test("cooling", cooling),
        test("provisioning_disabled", provisioning_disabled),
        test("store_failed", store_failed),
        test("daemon_away", daemon_away),
    ])
}

const fn test(name: &'static str, run: fn() -> Outcome) -> Test {
    Test { name, run }
}

/// A node that holds no more than is asked for, and whose ADDs wait for three seconds only.
fn lean(mode: Mode, instance_type: &str) -> Result<ClusterSpec, Failure> {
    let mut spec = spec(mode, instance_type)?;
    for (name, value) in [
        ("WARM_IP_TARGET", "1"),
        ("MINIMUM_IP_TARGET", "1"),
        ("IPAMD_ADD_TIMEOUT_MS", "3000"),
    ] {
        spec.daemon = spec.daemon.set(name, value);
    }
    Ok(spec)
}

fn fail_with(code: &str, message: &str, http_status: u16) -> Effect {
    Effect::Fail {
        code: code.into(),
        message: message.into(),
        http_status,
    }
}

/// Adds pods until one gets no address.
fn exhaust(scene: &mut Scene) -> Outcome {
    for _ in 0..64 {
        let mut pod = scene.make_pod()?;
        let call = scene.runtime.add(&mut pod)?;
        if !call.ok() {
            scene.runtime.del(&mut pod)?;
            return Ok(());
        }
        scene.pods.push(pod);
    }
    ipamd_tests::fail("64 pods and still addresses")
}

/// One more ADD: its answer, the log and the metrics have the same cause.
fn told(scene: &mut Scene, want: &Reason) -> Outcome {
    let Reason { code, cause, says } = want;
    let series = format!("ipamd_add_failures_total{{cause=\"{cause}\"}}");
    let before = value(&metrics(scene)?, &series);
    let mut pod = scene.make_pod()?;
    let call = scene.runtime.add(&mut pod)?;
    let words = call.words();
    let Some(error) = call.error() else {
        return ipamd_tests::fail(format!("the ADD was not refused: {words}"));
    };
    ensure(error.code == *code, format!("not code {code}: {words}"))?;
    for part in *says {
        ensure(error.msg.contains(part), format!("no \"{part}\": {words}"))?;
    }
    ensure(
        error.details.contains(&format!("cause={cause}")),
        format!("not cause={cause}: {words}"),
    )?;
    // What fails the daemon as a whole is no pod's matter.
    let whose = *code != 11 || error.msg.contains(&pod.full_name());
    ensure(whose, format!("whose? {words}"))?;
    ensure(error.msg.len() < 1024, format!("too long: {words}"))?;
    ensure(!words.contains("Encoded"), format!("a secret: {words}"))?;
    let text = metrics(scene)?;
    let seen = value(&text, &series) - before;
    ensure(seen == 1.0, format!("{seen} more of {series}"))?;
    let log = log(scene)?;
    let line = log
        .lines()
        .find(|line| line.contains("ADD refused") && line.contains(&format!("cause={cause} ")));
    ensure(line.is_some(), format!("no line with {cause}:\n{log}"))?;
    scene.runtime.del(&mut pod)?;
    pod.remove_netns()?;
    eprintln!("{cause}: {}", error.msg);
    Ok(())
}

/// Everything is refused for this reason, and all is well once pods are gone.
fn exhausted(spec: ClusterSpec, want: &Reason) -> Outcome {
    let mut scene = Scene::ready(spec)?;
    exhaust(&mut scene)?;
    told(&mut scene, want)?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// As [`refused_by`]; without the faults all is well again.
fn faulty(spec: ClusterSpec, faults: Vec<Fault>, want: &Reason) -> Outcome {
    refused_by(spec, faults, want)?.nothing_is_left()
}

/// With these faults from when the node is ready, the next ADDs are refused for this reason. Then the
/// faults are gone.
fn refused_by(spec: ClusterSpec, faults: Vec<Fault>, want: &Reason) -> Result<Scene, Failure> {
    let mut scene = Scene::ready(spec)?;
    scene.settled()?;
    let ids: Vec<u64> = {
        let mut vpc = scene.cluster.sim().vpc();
        faults.into_iter().map(|f| vpc.add_fault(f)).collect()
    };
    exhaust(&mut scene)?;
    told(&mut scene, want)?;
    scene.all_agree()?;
    for id in ids {
        scene.cluster.sim().vpc().remove_fault(id);
    }
    Ok(scene)
}

fn subnet(cidr: &str, spec: &mut ClusterSpec) -> Outcome {
    let cidr = cidr.parse().map_err(|_| Failure::Wrong(cidr.into()))?;
    spec.vpc.subnets = vec![SubnetSpec::new(cidr)];
    spec.vpc.nodes[0].subnet = None;
    Ok(())
}

fn subnet_full() -> Outcome {
    let mut spec = lean(Mode::Secondary, "m5.large")?;
    subnet("10.0.0.0/28", &mut spec)?;
    let says = &["subnet-", "no free address", "next try "];
    exhausted(spec, &reason("subnet_full", says))
}

/// No prefix, and no single address in its place.
fn subnet_full_for_prefixes() -> Outcome {
    let mut spec = lean(Mode::Prefix, "m5.large")?;
    subnet("10.0.0.0/28", &mut spec)?;
    let says = &["subnet-", "/28", "no free address", "next try "];
    exhausted(spec, &reason("subnet_full", says))
}

fn instance_limit() -> Outcome {
    let spec = lean(Mode::Secondary, "t3.nano")?;
    let says = &["instance type takes 2 ENIs", "when a pod ends"];
    exhausted(spec, &reason("instance_limit", says))
}

fn max_eni() -> Outcome {
    let mut spec = lean(Mode::Secondary, "m5.large")?;
    spec.daemon = spec.daemon.set("MAX_ENI", "1");
    let says = &["MAX_ENI allows 1 ENI", "higher MAX_ENI"];
    exhausted(spec, &reason("instance_limit", says))
}

fn throttled() -> Outcome {
    let spec = lean(Mode::Secondary, "m5.large")?;
    let faults = vec![Fault::new("*", Effect::Throttle)];
    let says = &["throttles", "RequestLimitExceeded", "next try "];
    let mut scene = refused_by(spec, faults, &reason("throttled", says))?;
    // What nobody waits for waits out the back-off, which is longer than this test.
    scene.del_pods()?;
    scene.node().stop()?;
    Ok(())
}

fn unauthorized() -> Outcome {
    let spec = lean(Mode::Secondary, "m5.large")?;
    let message = "You are not authorized to perform this operation. User: \
                   arn:aws:sts::123456789012:assumed-role/node/i-1 is not authorized to perform: \
                   ec2:AssignPrivateIpAddresses on resource: * because no identity-based policy \
                   allows it. Encoded authorization failure message: c2VjcmV0";
    let denied = fail_with("UnauthorizedOperation", message, 403);
    let faults = vec![
        Fault::new("Assign*", denied.clone()),
        Fault::new("Create*", denied),
    ];
    let says = &["IAM role", "ec2:AssignPrivateIpAddresses", "next try "];
    faulty(spec, faults, &reason("unauthorized", says))
}

fn account_full() -> Outcome {
    let spec = lean(Mode::Secondary, "m5.large")?;
    let full = fail_with(
        "NetworkInterfaceLimitExceeded",
        "The maximum number of network interfaces has been reached.",
        400,
    );
    let faults = vec![Fault::new("Create*", full)];
    let says = &["quota", "NetworkInterfaceLimitExceeded", "next try "];
    faulty(spec, faults, &reason("account_full", says))
}

/// Nothing can be had from the first moment on.
fn from_the_start(spec: ClusterSpec, faults: Vec<Fault>, want: &Reason) -> Outcome {
    let mut scene = Scene::new(spec)?;
    for fault in faults {
        scene.cluster.sim().vpc().add_fault(fault);
    }
    scene.node().start()?;
    scene.node().wait_socket(SOON)?;
    told(&mut scene, want)?;
    scene.node().stop()?;
    Ok(())
}

fn ec2_unreachable() -> Outcome {
    let mut spec = lean(Mode::Secondary, "m5.large")?;
    spec.daemon = spec
        .daemon
        .set("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:9");
    let says = &["can't be reached", "VPC endpoint", "next try "];
    from_the_start(spec, Vec::new(), &reason("ec2_unreachable", says))
}

fn ec2_silent() -> Outcome {
    let mut spec = lean(Mode::Secondary, "m5.large")?;
    spec.daemon = spec.daemon.set("IPAMD_EC2_TIMEOUT_MS", "500");
    let faults = vec![Fault::new("*", Effect::Delay { ms: 600_000 })];
    let says = &["EC2 did not answer", "next try "];
    from_the_start(spec, faults, &reason("unknown_outcome", says))
}

fn ec2_broken() -> Outcome {
    let spec = lean(Mode::Secondary, "m5.large")?;
    let broken = fail_with("InternalError", "An internal error has occurred", 500);
    let faults = vec![Fault::new("*", broken)];
    let says = &["InternalError", "next try "];
    from_the_start(spec, faults, &reason("unknown_outcome", says))
}

fn imds_down() -> Outcome {
    let spec = lean(Mode::Secondary, "m5.large")?;
    let faults = vec![Fault::new("*", Effect::ImdsDrop)];
    let says = &["instance metadata service does not answer", "next try "];
    from_the_start(spec, faults, &reason("imds_unreachable", says))
}

/// EC2 did it and the answer was lost; there is no other ENI to turn to.
fn in_doubt() -> Outcome {
    let mut spec = lean(Mode::Secondary, "m5.large")?;
    spec.daemon = spec.daemon.set("MAX_ENI", "1");
    let mut scene = Scene::ready(spec)?;
    scene.settled()?;
    {
        let mut vpc = scene.cluster.sim().vpc();
        vpc.add_fault(Fault::new("Assign*", Effect::DropAnswer).times(1));
        // A Describe that still shows what was before does not settle it.
        vpc.add_fault(Fault::new("Describe*", Effect::Stale { ms: 30_000 }));
    }
    exhaust(&mut scene)?;
    let says = &["was not answered", "EC2 is asked at "];
    told(&mut scene, &reason("in_doubt", says))?;
    let text = metrics(&mut scene)?;
    ensure(
        value(&text, "ipamd_enis_in_doubt") == 1.0,
        format!("no ENI in doubt: {text}"),
    )?;
    scene.all_agree()?;
    scene.nothing_is_left()
}

/// Every address of the instance was released a moment ago.
fn cooling() -> Outcome {
    let mut scene = Scene::ready(lean(Mode::Secondary, "t3.nano")?)?;
    let mut pods = scene.make_pods(2)?;
    let tally = scene
        .runtime
        .add_all(&mut pods, 2, Patience::NONE, |_| ())?;
    ensure(tally.failed_adds.is_empty(), tally.failed_adds.join("\n"))?;
    scene.runtime.del_all(&mut pods, 2)?;
    drop(pods);
    let says = &["are resting", "free at "];
    told(&mut scene, &reason("cooling", says))?;
    scene.nothing_is_left()
}

fn provisioning_disabled() -> Outcome {
    let mut spec = lean(Mode::Secondary, "m5.large")?;
    spec.daemon = spec
        .daemon
        .set("DISABLE_NETWORK_RESOURCE_PROVISIONING", "true");
    let says = &["DISABLE_NETWORK_RESOURCE_PROVISIONING", "when a pod ends"];
    from_the_start(spec, Vec::new(), &reason("provisioning_disabled", says))
}

/// The state's disk is full.
fn store_failed() -> Outcome {
    let mut spec = lean(Mode::Secondary, "m5.large")?;
    spec.daemon = spec.daemon.set("IP_COOLDOWN_PERIOD", "0");
    let mut scene = Scene::new(spec)?;
    let small = "mkdir -p /var/lib/ipamd && mount -t tmpfs -o size=2m tmpfs /var/lib/ipamd";
    shell(&mut scene, small)?;
    scene.node().start()?;
    scene.node().wait_ready(SOON)?;
    scene.settled()?;
    // `dd` ends with an error when there is no room left, as it should.
    let fill = "dd if=/dev/zero of=/var/lib/ipamd/filler bs=4096 2>/dev/null; true";
    shell(&mut scene, fill)?;
    // The database has some room left in the file that it has.
    let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while std::time::Instant::now() < end {
        let mut pod = scene.make_pod()?;
        let added = scene.runtime.add(&mut pod)?;
        let deleted = scene.runtime.del(&mut pod)?;
        pod.remove_netns()?;
        // An address may be waited for in vain meanwhile: that is another reason.
        let full = format!("{added:?}{deleted:?}").contains("could not write its state");
        if full {
            break;
        }
    }
    let want = Reason {
        code: 5,
        cause: "store_failed",
        says: &["could not write its state", "try again"],
    };
    told(&mut scene, &want)?;
    let log = log(&mut scene)?;
    ensure(
        log.contains("IPAMD_STATE_DIR"),
        format!("nobody is told what to do:\n{log}"),
    )?;
    scene.node().kill();
    Ok(())
}

fn shell(scene: &mut Scene, script: &str) -> Outcome {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    let output = scene.node().sim().output(command)?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure(output.status.success(), format!("{script}: {words}"))
}

/// Nobody is there to give a reason: the plugin has its own words.
fn daemon_away() -> Outcome {
    let mut scene = Scene::ready(lean(Mode::Secondary, "m5.large")?)?;
    scene.settled()?;
    scene.node().kill();
    let mut pod = scene.make_pod()?;
    let call = scene
        .runtime
        .clone()
        .set("addTimeout", "2s".into())
        .add(&mut pod)?;
    for words in ["ipamd.sock", "is its pod on this node running", "try again"] {
        ipamd_tests::refused("ADD without a daemon", &call, 11, words)?;
    }
    eprintln!("daemon away: {}", call.words());
    pod.remove_netns()?;
    scene.node().start()?;
    scene.node().wait_ready(Duration::from_secs(40))?;
    scene.nothing_is_left()
}
