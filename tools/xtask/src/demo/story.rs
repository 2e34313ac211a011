//! The demo's phases, from an empty machine to an empty machine.

use super::report::Report;
use super::screen::Screen;
use super::{Options, map, sabotage};
use lab::check::{self, Wrong};
use lab::{Cluster, ClusterSpec, LabError, News, Node, Patience, Pod, Programs, Runtime, probe};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Nodes of the demo, each in a subnet of its own.
pub(super) const NODES: u32 = 2;

/// Plugin processes at once: what containerd does on a busy node.
const AT_ONCE: usize = 10;
/// The pod that a person may add.
const ONE_MORE: &str = "one-more";
/// For a daemon to be ready: EC2 answers in 0.3 s.
const READY_LIMIT: Duration = Duration::from_secs(30);
/// For what the daemon does after a DEL has been answered.
const SETTLE_LIMIT: Duration = Duration::from_secs(5);

/// Tells the whole story. What is found goes into `report`; an error ends the story early, and
/// everything is cleaned up all the same.
///
/// # Errors
/// The cluster could not be built or run, or a person asked to stop.
pub(super) fn tell(
    options: &Options,
    programs: &Programs,
    screen: &Screen,
    report: &mut Report,
) -> Result<(), LabError> {
    screen.say(&format!(
        "{NODES} nodes of type {}, {} pods each, {}",
        options.instance_type,
        options.pods,
        options.mode.words()
    ));
    let mut cluster = build(options, programs, screen)?;
    report.nodes = cluster.nodes().len();
    let mut pods = Vec::new();
    let told = live(options, programs, screen, report, &mut cluster, &mut pods);
    take_books(&cluster, report);
    if told.is_err() {
        cluster.show_logs(30);
    }
    told
}

fn build(options: &Options, programs: &Programs, screen: &Screen) -> Result<Cluster, LabError> {
    let max_pods = options.pods.max(110);
    let daemon = options.mode.daemon(&programs.daemon);
    let daemon = daemon.set("IPAMD_MAX_PODS", max_pods);
    let phase = screen.phase("VPC with two subnets");
    let nodes = u8::try_from(NODES).unwrap_or(u8::MAX);
    let spec = ClusterSpec::new(daemon, &options.instance_type, nodes);
    let cluster = Cluster::start(options.mode.cluster(spec))?;
    let subnets: Vec<_> = cluster
        .sim()
        .vpc()
        .subnets()
        .iter()
        .map(|s| s.cidr.to_string())
        .collect();
    phase.done(
        true,
        &format!(
            "{}; router, internet, EC2 and IMDS answer",
            subnets.join(", ")
        ),
    );
    Ok(cluster)
}

fn live(
    options: &Options,
    programs: &Programs,
    screen: &Screen,
    report: &mut Report,
    cluster: &mut Cluster,
    pods: &mut Vec<Pod>,
) -> Result<(), LabError> {
    let phase = screen.phase("ipamd on each node");
    let took = cluster.start_daemons(READY_LIMIT)?;
    phase.done(true, &format!("ready after {:.2} s", took.as_secs_f64()));

    let runtime = Runtime::ipamd(&programs.plugin);
    bring_up(options, &runtime, screen, report, cluster, pods)?;
    if let Some(wrong) = options.sabotage {
        let phase = screen.phase("sabotage");
        phase.done(false, &sabotage::commit(wrong, cluster, pods)?);
    }
    send_probes(screen, report, cluster, pods)?;
    settle(screen, cluster)?;
    let phase = screen.phase("leases, kernel and EC2 agree");
    let wrongs = check::while_up(cluster, pods)?;
    phase.done(wrongs.is_empty(), &format!("{} things wrong", wrongs.len()));
    report.violations.extend(wrongs);
    show(screen, report, cluster, "with all pods up")?;
    if options.keep {
        keep(screen, &runtime, cluster, pods);
    }
    tear_down(&runtime, screen, report, cluster, pods)
}

/// All namespaces first, then every ADD, several at once on each node.
fn bring_up(
    options: &Options,
    runtime: &Runtime,
    screen: &Screen,
    report: &mut Report,
    cluster: &Cluster,
    pods: &mut Vec<Pod>,
) -> Result<(), LabError> {
    let phase = screen.phase("pods");
    for n in 0..options.pods {
        for node in cluster.nodes() {
            let number = node.name().trim_start_matches("node-");
            pods.push(Pod::make(node.sim(), &format!("web-{number}-{n}"))?);
        }
    }
    let (up, failed, wanted) = (AtomicUsize::new(0), AtomicUsize::new(0), pods.len());
    let added = runtime.add_all(pods, 2 * AT_ONCE, Patience::BENCH, |news| match news {
        News::Up(_) => {
            let up = up.fetch_add(1, Ordering::Relaxed) + 1;
            phase.progress(&format!("{up} of {wanted} up"));
        }
        News::Failed(pod, words) => {
            // The first few tell; all are counted.
            if failed.fetch_add(1, Ordering::Relaxed) < 3 {
                phase.note(&format!("ADD of {} failed: {words}", pod.full_name()));
            }
        }
    });
    // A run that is stopped here says what there was, too.
    report.pods_up = pods.iter().filter(|p| p.is_up()).count();
    let failed = failed.into_inner();
    let counted = format!("{} of {wanted} up, {failed} failed ADDs", report.pods_up);
    let tally = match added {
        Ok(tally) => tally,
        Err(e) => {
            report.adds_stopped(failed);
            phase.done(false, &counted);
            return Err(e);
        }
    };
    report.adds(&tally);
    let words = format!(
        "{counted}, the last after {:.2} s; {}",
        report.all_up_s,
        report.timings()
    );
    phase.done(failed == 0 && report.pods_up == wanted, &words);
    Ok(())
}

fn send_probes(
    screen: &Screen,
    report: &mut Report,
    cluster: &Cluster,
    pods: &[Pod],
) -> Result<(), LabError> {
    let phase = screen.phase("pods reach what they must");
    let _responders = probe::answer(cluster, pods)?;
    let probes = probe::plan(cluster, pods);
    report.pings_expected = probes.len();
    let mut seen: BTreeMap<String, String> = BTreeMap::new();
    for probe in probes
        .iter()
        .filter(|p| p.target == probe::Target::Internet)
    {
        let node = probe
            .from
            .split(" on ")
            .last()
            .unwrap_or_default()
            .to_owned();
        seen.insert(node, probe.seen_as.to_string());
    }
    let failures = probe::run(cluster, probes)?;
    report.pings_failed = failures.len();
    report.pings_ok = report.pings_expected - failures.len();
    let seen: Vec<_> = seen
        .iter()
        .map(|(node, ip)| format!("{node} as {ip}"))
        .collect();
    let words = format!(
        "{} of {} answered (other node, own node's pods, node, internet); the internet saw {}",
        report.pings_ok,
        report.pings_expected,
        seen.join(", ")
    );
    phase.done(failures.is_empty(), &words);
    report.details.extend(failures.into_iter().take(10));
    Ok(())
}

/// Waits for purchases under way: warm addresses come after the pods.
fn settle(screen: &Screen, cluster: &Cluster) -> Result<(), LabError> {
    let phase = screen.phase("warm pool");
    cluster.wait_settled(READY_LIMIT)?;
    phase.done(true, "no purchase under way, every ENI in use");
    Ok(())
}

fn show(
    screen: &Screen,
    report: &mut Report,
    cluster: &Cluster,
    title: &str,
) -> Result<(), LabError> {
    screen.say(&format!("\n  {}", map::LEGEND));
    for node in cluster.nodes() {
        for line in map::draw(node.name(), title, &node.snapshot()?) {
            screen.say(&format!("  {line}"));
        }
    }
    take_books(cluster, report);
    screen.say("\n  EC2 calls");
    for (node, calls) in &report.ec2_calls {
        let list: Vec<_> = calls
            .iter()
            .map(|(action, n)| format!("{action} {n}"))
            .collect();
        screen.say(&format!("  {node}: {}", list.join(", ")));
    }
    screen.say("  packets by ENI");
    for eni in cluster.sim().books()?.enis {
        screen.say(&format!(
            "  {} {} {}: {} out, {} in, {} refused",
            eni.node, eni.link, eni.eni, eni.sent, eni.received, eni.dropped
        ));
    }
    screen.say("");
    Ok(())
}

fn keep(screen: &Screen, runtime: &Runtime, cluster: &Cluster, pods: &[Pod]) {
    screen.say("It goes on until Ctrl-C. To look around (a program may follow each line):");
    for node in cluster.nodes() {
        screen.say(&format!(
            "  {}: {} sh",
            node.name(),
            node.sim().enter_command()
        ));
        screen.say(&format!("  its log: tail -f {}", node.log().display()));
    }
    if let Some(pod) = pods.first() {
        let (node, path) = (pod.node.enter_command(), pod.netns_path());
        screen.say(&format!(
            "  {}: {node} nsenter --net={path} sh",
            pod.full_name()
        ));
    }
    if let Some(node) = cluster.nodes().first() {
        let hand = runtime.by_hand(node.sim(), ONE_MORE);
        screen.say(&format!("To add a pod, in sh on {}:", node.name()));
        screen.say(&format!("  {}", hand.add));
        screen.say("To delete it (what is left at Ctrl-C is told as leaked):");
        screen.say(&format!("  {}", hand.del));
    }
    lab::interrupt::wait_and_clear();
    screen.say("");
}

fn tear_down(
    runtime: &Runtime,
    screen: &Screen,
    report: &mut Report,
    cluster: &mut Cluster,
    pods: &mut [Pod],
) -> Result<(), LabError> {
    let phase = screen.phase("delete all pods");
    let tally = runtime.del_all(pods, 2 * AT_ONCE)?;
    report.dels(&tally);
    let left = leftovers(cluster.nodes())?;
    let (done, failed) = (tally.dels.len(), tally.failed_dels.len());
    let words = format!(
        "{done} deleted, {failed} failed, {} things left on nodes",
        left.len()
    );
    phase.done(failed == 0 && left.is_empty(), &words);
    report.leaked.extend(left);
    settle(screen, cluster)?;

    let phase = screen.phase("stop ipamd");
    let mut longest = Duration::ZERO;
    for node in cluster.nodes_mut() {
        longest = longest.max(node.stop()?);
    }
    phase.done(
        true,
        &format!("gone {:.2} s after SIGTERM", longest.as_secs_f64()),
    );

    let phase = screen.phase("terminate the nodes");
    let books = check::books(cluster)?;
    let names: Vec<String> = cluster
        .nodes()
        .iter()
        .map(|n| n.name().to_owned())
        .collect();
    for name in &names {
        cluster.sim().terminate(name)?;
    }
    let enis = check::leaked_enis(cluster);
    phase.done(
        enis.is_empty(),
        &format!("{} ENIs left in the VPC", enis.len()),
    );
    report.leaked.extend(enis);
    report.violations.extend(books);
    Ok(())
}

/// What is left once the daemons have had a moment: some of their work follows the answer to a DEL.
fn leftovers(nodes: &[Node]) -> Result<Vec<Wrong>, LabError> {
    let (began, mut wait) = (Instant::now(), Duration::from_millis(10));
    loop {
        let mut left = Vec::new();
        for node in nodes {
            left.extend(check::leftovers(node)?);
        }
        if left.is_empty() || began.elapsed() > SETTLE_LIMIT {
            return Ok(left);
        }
        lab::interrupt::sleep(wait)?;
        wait = (wait * 2).min(Duration::from_millis(500));
    }
}

fn take_books(cluster: &Cluster, report: &mut Report) {
    report.ec2_calls = cluster.sim().vpc().ec2_calls().clone();
    // Without the counters the report still tells what it knows.
    if let Ok(packets) = cluster.sim().packets_per_eni() {
        report.packets_per_eni = packets;
    }
}
