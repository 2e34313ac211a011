//! Promise: the daemon does its whole job against an EC2 that we did not write.

use ipamd_localstack::bridge::Passed;
use ipamd_localstack::server::Kind;
use ipamd_localstack::stage::{Stage, Wanted};
use ipamd_tests::{Mode, Outcome, SOON, ensure, eventually, fail, refused, succeeded};
use lab::LabError;
use lab::snapshot::Snapshot;
use std::net::IpAddr;
use std::time::Duration;
use vpc_sim::testing::{Failure, Test, run_side_by_side};

/// They wait more than they work.
const AT_ONCE: usize = 4;
/// For what the daemon does only after a while: an ENI goes back after a minute, and a loss is believed
/// when EC2's word has been the same for half a minute, a minute after the last write.
const AFTER_A_WHILE: Duration = Duration::from_secs(180);
const DEADLINE: Duration = Duration::from_secs(300);

fn main() -> std::process::ExitCode {
    // The longest first.
    let test = |name, run| Test { name, run };
    run_side_by_side(
        &[
            test("grows_restarts_and_shrinks", lifecycle),
            test("an_answer_is_lost", lost_answer),
            test("an_eni_is_lost", eni_loss),
            test("prefixes", prefixes),
            test("a_full_subnet_is_told", full_subnet),
            test("an_unknown_security_group_is_told", unknown_group),
            test("stock", stock),
            test("no_ec2_is_told", no_ec2),
        ],
        AT_ONCE,
        DEADLINE,
    )
}

/// A stage with a daemon that can serve.
fn ready(wanted: &Wanted) -> Result<Stage, Failure> {
    let mut stage = Stage::set(wanted)?;
    stage.scene.node().start()?;
    let ready = stage.scene.node().wait_ready(SOON);
    ready.map_err(|e| Failure::Wrong(format!("{e}\ncalls:\n{}", stage.recent())))?;
    Ok(stage)
}

/// Growth by secondary addresses, then by an ENI with all its tags; what is too much goes back, the
/// ENI as a whole; a kill loses nothing and buys nothing; nothing is left at the end.
fn lifecycle() -> Outcome {
    let mut stage = ready(&Wanted::new(
        Mode::Secondary,
        &[
            ("WARM_IP_TARGET", "2"),
            ("IP_COOLDOWN_PERIOD", "1"),
            ("CLUSTER_NAME", "the-cluster"),
            ("ADDITIONAL_ENI_TAGS", r#"{"team": "net"}"#),
        ],
    ))?;
    stage.scene.add_pods(6)?;
    ensure(
        stage.bridge.count("Assign") > 0 && stage.bridge.count("Create") == 0,
        format!("six pods have room on one ENI:\n{}", stage.recent()),
    )?;
    stage.scene.add_pods(8)?;
    stage.scene.settled()?;
    stage.scene.all_agree()?;
    stage.scene.all_reach()?;
    let made = second_eni(&stage)?;
    shrink(&mut stage, &made)?;
    restart(&mut stage)?;
    stage.end()
}

/// The ENI that the daemon made: complete, and named as Amazon's CNI names its own.
fn second_eni(stage: &Stage) -> Result<String, Failure> {
    let enis = stage.enis()?;
    let Some(world) = &stage.world else {
        return fail("no world");
    };
    let mut ours = enis.iter().filter(|e| e.id != world.primary.id);
    let (Some(eni), None) = (ours.next(), ours.next()) else {
        return fail(format!("not one more ENI: {enis:?}"));
    };
    let Some(attachment) = &eni.attachment else {
        return fail(format!("{} hangs nowhere", eni.id));
    };
    ensure(
        attachment.delete_on_termination && attachment.device_index == 1,
        format!("{attachment:?}"),
    )?;
    ensure(
        eni.groups == world.primary.groups,
        format!("{:?}", eni.groups),
    )?;
    let description = format!("aws-K8S-{}", world.instance);
    ensure(eni.description == description, &eni.description)?;
    for (key, value) in [
        (
            "node.k8s.amazonaws.com/instance_id",
            world.instance.as_str(),
        ),
        ("cluster.k8s.amazonaws.com/name", "the-cluster"),
        ("eks:eni:owner", "amazon-vpc-cni"),
        ("team", "net"),
    ] {
        let found = eni.tags.get(key).map(String::as_str);
        ensure(found == Some(value), format!("{key} is {found:?}"))?;
    }
    let created = eni.tags.get("node.k8s.amazonaws.com/createdAt");
    ensure(
        created.is_some_and(|at| at.starts_with("20") && at.ends_with('Z')),
        format!("createdAt is {created:?}"),
    )?;
    Ok(eni.id.to_string())
}

/// kill -9, and the same pool again without a purchase.
fn restart(stage: &mut Stage) -> Outcome {
    let (leases, writes) = (stage.scene.node().snapshot()?.leases(), stage.writes());
    stage.scene.node().kill();
    stage.scene.node().start()?;
    stage.scene.node().wait_ready(SOON)?;
    let after = stage.scene.node().snapshot()?.leases();
    ensure(leases == after, format!("{leases:?} became {after:?}"))?;
    stage.scene.settled()?;
    stage.scene.all_agree()?;
    let more = stage.writes() - writes;
    ensure(
        more == 0,
        format!("{more} writes after a restart:\n{}", stage.recent()),
    )
}

/// All pods but three of the first ENI go.
fn shrink(stage: &mut Stage, made: &str) -> Outcome {
    let pool = stage.scene.node().snapshot()?;
    let there: Vec<_> = pool
        .enis
        .iter()
        .filter(|e| e.primary)
        .flat_map(|e| &e.blocks)
        .flat_map(|b| &b.used)
        .map(|(address, _)| *address)
        .collect();
    let (mut stay, mut go): (Vec<_>, Vec<_>) = std::mem::take(&mut stage.scene.pods)
        .into_iter()
        .partition(|pod| pod.addresses().iter().any(|a| there.contains(a)));
    go.extend(stay.split_off(3.min(stay.len())));
    let tally = stage.scene.runtime.del_all(&mut go, 8)?;
    ensure(tally.failed_dels.is_empty(), tally.failed_dels.join("\n"))?;
    stage.scene.pods = stay;
    // Three in use and two warm.
    let small = |enis: &Vec<vpc_model::mirror::Twin>| {
        enis.len() == 1 && enis.iter().all(|e| e.secondary.len() == 5)
    };
    eventually(
        AFTER_A_WHILE,
        || stage.enis(),
        small,
        |enis| {
            let words = format!(
                "{made} and more is still there: {enis:?}\n{}",
                stage.recent()
            );
            ensure(small(&enis), words)
        },
    )?;
    stage.scene.all_agree()?;
    stage.scene.all_reach()
}

/// LocalStack has assigned, and the daemon never hears of it: no more is assigned to that ENI before
/// it has been looked at; pods get their addresses elsewhere meanwhile.
fn lost_answer() -> Outcome {
    let mut stage = ready(&Wanted::new(
        Mode::Prefix,
        &[("IPAMD_ADD_TIMEOUT_MS", "100000")],
    ))?;
    stage.scene.settled()?;
    let before = stage.bridge.passed().len();
    stage.bridge.lose_answer("AssignPrivateIpAddresses");
    stage.scene.add_pods(40)?;
    stage.scene.all_agree()?;
    stage.scene.all_reach()?;
    let passed = stage.bridge.passed().split_off(before);
    let is_assign = |p: &&Passed| p.action == "AssignPrivateIpAddresses";
    let Some(at) = passed.iter().position(|p| p.lost) else {
        return fail(format!("no answer was lost:\n{}", stage.recent()));
    };
    let blind = passed.iter().skip(at + 1);
    let blind = blind.take_while(|p| p.action != "DescribeNetworkInterfaces");
    let eni = |p: &Passed| p.parameter("NetworkInterfaceId");
    let again = blind
        .filter(is_assign)
        .filter(|p| eni(p) == eni(&passed[at]))
        .count();
    ensure(
        again == 0,
        format!("assigned again, unseen:\n{}", stage.recent()),
    )?;
    // One at first; three for the rest and one warm, twice over since those that were lost can't count.
    let bought: usize = stage.enis()?.iter().map(|e| e.prefixes.len()).sum();
    ensure(
        bought <= 7,
        format!("{bought} prefixes for 40 pods:\n{}", stage.recent()),
    )?;
    stage.end()
}

/// An operator detaches and deletes an ENI that has pods: the loss is told, and nothing of it is
/// handed on; other pods are well.
fn eni_loss() -> Outcome {
    let mut stage = ready(&Wanted::new(Mode::Secondary, &[("WARM_IP_TARGET", "2")]))?;
    stage.scene.add_pods(12)?;
    stage.scene.settled()?;
    let made = second_eni_of(&stage)?;
    let Some(attachment) = made.attachment.clone() else {
        return fail("it hangs nowhere");
    };
    for call in [
        [
            ("Action", "DetachNetworkInterface"),
            ("AttachmentId", attachment.id.as_str()),
        ],
        [
            ("Action", "DeleteNetworkInterface"),
            ("NetworkInterfaceId", made.id.as_str()),
        ],
    ] {
        stage.ec2.call(&call)?;
    }
    stage.follow()?;
    let id = made.id.to_string();
    // It is shown as long as pods have its addresses; none of them is for others.
    let lost = |pool: &Snapshot| {
        let mut blocks = pool
            .enis
            .iter()
            .filter(|e| e.id == id)
            .flat_map(|e| &e.blocks);
        blocks.all(|block| block.state == "lost")
    };
    let node = &stage.scene.cluster.nodes()[0];
    let waited = node.wait_pool(AFTER_A_WHILE, "the loss of an ENI that is gone", lost);
    waited.map_err(|e| Failure::Wrong(format!("{e}\n{}", stage.recent())))?;
    let log = node.log().to_owned();
    let told = |text: &String| {
        let line = |line: &str| line.contains("ERROR") && line.contains(&id);
        text.lines().any(line)
    };
    eventually(
        SOON,
        || Ok(std::fs::read_to_string(&log)?),
        told,
        |text| {
            ensure(
                told(&text),
                format!("the loss of {id} is not told:\n{text}"),
            )
        },
    )?;
    // Pods of the lost ENI are deleted and made anew, as a person would do.
    let its: Vec<_> = made.secondary.iter().map(|a| IpAddr::V4(*a)).collect();
    let on_it = |pod: &lab::Pod| pod.addresses().iter().any(|a| its.contains(a));
    let (mut gone, stay): (Vec<_>, Vec<_>) = std::mem::take(&mut stage.scene.pods)
        .into_iter()
        .partition(on_it);
    ensure(!gone.is_empty(), "no pod was on the lost ENI")?;
    stage.scene.pods = stay;
    let tally = stage.scene.runtime.del_all(&mut gone, 8)?;
    ensure(tally.failed_dels.is_empty(), tally.failed_dels.join("\n"))?;
    stage.scene.add_pods(4)?;
    stage.scene.all_agree()?;
    stage.scene.all_reach()?;
    stage.end()
}

/// The one ENI that the daemon made.
fn second_eni_of(stage: &Stage) -> Result<vpc_model::mirror::Twin, Failure> {
    let enis = stage.enis()?;
    let made = enis
        .into_iter()
        .find(|e| e.attachment.as_ref().is_some_and(|a| a.device_index == 1));
    made.map_or_else(|| fail("there is no second ENI"), Ok)
}

/// /28 prefixes, which only the plugin gives: by count, and used again after a kill.
fn prefixes() -> Outcome {
    let mut stage = ready(&Wanted::new(Mode::Prefix, &[]))?;
    stage.scene.add_pods(20)?;
    stage.scene.settled()?;
    stage.scene.all_agree()?;
    stage.scene.all_reach()?;
    let held: usize = stage.enis()?.iter().map(|e| e.prefixes.len()).sum();
    ensure(
        held == 3,
        format!(
            "20 pods and a warm prefix need three, not {held}:\n{}",
            stage.recent()
        ),
    )?;
    restart(&mut stage)?;
    stage.scene.add_pods(5)?;
    stage.scene.all_agree()?;
    stage.end()
}

/// LocalStack's XML error reaches the pod: code 11, with the cause in words.
fn full_subnet() -> Outcome {
    let mut wanted = Wanted::new(Mode::Secondary, &[]);
    wanted.cidr = "10.0.0.0/28";
    let mut stage = ready(&wanted)?;
    let mut pods = stage.scene.make_pods(12)?;
    let patience = lab::Patience::NONE;
    let tally = stage
        .scene
        .runtime
        .add_all(&mut pods, 4, patience, |_| ())?;
    let up = pods.iter().filter(|p| p.is_up()).count();
    ensure(
        (8..=10).contains(&up),
        format!("{up} pods up of 10 addresses; {:?}", tally.failed_adds),
    )?;
    let mut one_more = stage.scene.make_pod()?;
    let call = stage.scene.runtime.add(&mut one_more)?;
    refused("one more pod", &call, 11, "subnet")?;
    succeeded("its DEL", &stage.scene.runtime.del(&mut one_more)?)?;
    let refusals = stage.bridge.passed();
    let refusal = refusals.iter().find(|p| p.status == 400);
    ensure(
        refusal.is_some(),
        format!("LocalStack refused nothing:\n{}", stage.recent()),
    )?;
    stage.scene.pods = pods;
    stage.scene.all_agree()?;
    stage.end()
}

/// No ENI can be made with a group that is not there; the first ENI's addresses serve.
fn unknown_group() -> Outcome {
    let mut stage = ready(&Wanted::new(
        Mode::Secondary,
        &[("IPAMD_ENI_SECURITY_GROUPS", "sg-0123456789abcdef0")],
    ))?;
    stage.scene.add_pods(9)?;
    let mut one_more = stage.scene.make_pod()?;
    let call = stage.scene.runtime.add(&mut one_more)?;
    refused("the tenth pod", &call, 11, "sg-0123456789abcdef0")?;
    succeeded("its DEL", &stage.scene.runtime.del(&mut one_more)?)?;
    let passed = stage.bridge.passed();
    let code = passed.iter().find_map(|p| p.code.as_deref());
    ensure(
        code == Some("InvalidSecurityGroupID.NotFound"),
        format!("LocalStack's code is {code:?}"),
    )?;
    ensure(
        stage.enis()?.len() == 1,
        format!("an ENI came of it:\n{}", stage.recent()),
    )?;
    stage.scene.all_agree()?;
    stage.end()
}

/// LocalStack as it comes, but for the form of MAC addresses. Its Assign answers with all that the ENI
/// has, its primary address too, which must never be a pod's.
fn stock() -> Outcome {
    let mut wanted = Wanted::new(Mode::Secondary, &[("WARM_IP_TARGET", "1")]);
    wanted.kind = Kind::Stock;
    wanted.cidr = "10.0.0.0/16";
    let mut stage = ready(&wanted)?;
    stage.scene.add_pods(12)?;
    stage.scene.settled()?;
    stage.scene.all_agree()?;
    stage.scene.all_reach()?;
    restart(&mut stage)?;
    // DeleteOnTermination is dropped there: the ENIs outlive the node.
    stage.end_stock()
}

/// LocalStack runs and has no EC2: HTTP 501. The daemon lives, serves nothing, and says why.
fn no_ec2() -> Outcome {
    let mut wanted = Wanted::new(Mode::Secondary, &[]);
    wanted.kind = Kind::WithoutEc2;
    let mut stage = Stage::set(&wanted)?;
    stage.scene.node().start()?;
    let look = || {
        let node = &stage.scene.cluster.nodes()[0];
        node.daemon()?.check_running()?;
        match node.status() {
            // The socket may come a moment after the process.
            Err(LabError::Io { .. }) => Ok((true, String::new())),
            other => Ok(other?),
        }
    };
    let told = |(ready, words): &(bool, String)| !ready && words.contains("InternalFailure");
    eventually(SOON, look, told, |seen| {
        ensure(
            told(&seen),
            format!("health says {seen:?}, and nothing of InternalFailure"),
        )
    })?;
    ensure(
        stage.bridge.passed().iter().all(|p| p.status == 501),
        stage.recent(),
    )
}
