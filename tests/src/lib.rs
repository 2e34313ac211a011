//! Scenarios on real parts: the daemon and the plugin as processes, the kernel as witness, the mini
//! VPC as EC2, IMDS and wire. The scenarios are the files beside `Cargo.toml`, one promise each; here is
//! what they share.
//!
//! They look at the daemon only as its users do. Programs under test are found as
//! [`lab::Programs::find`] says.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod datapath;
pub mod ended;
pub mod flow;
pub mod net;
pub mod proxy;
pub mod seen;
pub mod six;
pub mod storm;

use lab::check::{self, Wrong};
use lab::cni::Call;
use lab::{
    Cluster, ClusterSpec, DaemonSpec, LabError, Node, Patience, Pod, Programs, Runtime, probe,
};
use std::time::{Duration, Instant};
use vpc_model::{Latencies, Latency};
use vpc_sim::testing::Failure;

/// What a scenario returns.
pub type Outcome = Result<(), Failure>;

/// For a daemon to be ready, and for anything that EC2's latency is in.
pub const SOON: Duration = Duration::from_secs(20);

/// How addresses come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// /28 prefixes.
    Prefix,
    /// Secondary addresses.
    Secondary,
}

/// A cluster with its runtime, and the pods of the scenario.
#[derive(Debug)]
pub struct Scene {
    /// Pods, dropped (and their namespaces with them) before the cluster.
    pub pods: Vec<Pod>,
    /// The cluster.
    pub cluster: Cluster,
    /// Runs the plugin.
    pub runtime: Runtime,
    made: u32,
}

/// EC2 and IMDS as real ones behave, ten times as fast.
#[must_use]
pub fn quick() -> Latencies {
    let ms = Latency::fixed;
    Latencies {
        ec2_ms: ms(30.0),
        imds_ms: ms(1.0),
        eni_in_imds_ms: ms(300.0),
        eni_link_ms: ms(100.0),
        eni_detach_ms: ms(100.0),
        ..Latencies::default()
    }
}

/// What a cluster of one node of this type would be, for scenarios that change it.
///
/// # Errors
/// The programs under test are not built.
pub fn spec(mode: Mode, instance_type: &str) -> Result<ClusterSpec, Failure> {
    let programs = Programs::find()?;
    let daemon = DaemonSpec::ipamd(&programs.daemon, mode == Mode::Prefix);
    let mut spec = ClusterSpec::new(daemon.set("IPAMD_MAX_PODS", 110), instance_type, 1);
    spec.vpc.latencies = quick();
    Ok(spec)
}

impl Scene {
    /// Builds the cluster; no daemon runs yet.
    ///
    /// # Errors
    /// It could not be built.
    pub fn new(spec: ClusterSpec) -> Result<Self, Failure> {
        let runtime = Runtime::ipamd(&Programs::find()?.plugin);
        Ok(Self {
            pods: Vec::new(),
            cluster: Cluster::start(spec)?,
            runtime,
            made: 0,
        })
    }

    /// Builds the cluster and waits until every daemon is ready.
    ///
    /// # Errors
    /// It could not be built, or a daemon was not ready in time.
    pub fn ready(spec: ClusterSpec) -> Result<Self, Failure> {
        let mut scene = Self::new(spec)?;
        scene.cluster.start_daemons(SOON)?;
        Ok(scene)
    }

    /// The first node.
    pub fn node(&mut self) -> &mut Node {
        self.cluster.node()
    }

    /// So many new pods on the first node, with nothing but a namespace.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn make_pods(&mut self, count: u32) -> Result<Vec<Pod>, Failure> {
        let node = self.cluster.node().sim().clone();
        let mut pods = Vec::new();
        for _ in 0..count {
            self.made += 1;
            pods.push(Pod::make(&node, &format!("p{}", self.made))?);
        }
        Ok(pods)
    }

    /// One new pod; see [`Self::make_pods`].
    ///
    /// # Errors
    /// As there.
    pub fn make_pod(&mut self) -> Result<Pod, Failure> {
        Ok(self.make_pods(1)?.remove(0))
    }

    /// So many more pods, all ADDed at once; every first ADD must succeed.
    ///
    /// # Errors
    /// One failed.
    pub fn add_pods(&mut self, count: u32) -> Outcome {
        let mut pods = self.make_pods(count)?;
        let at_once = pods.len();
        let tally = self
            .runtime
            .add_all(&mut pods, at_once, Patience::NONE, |_| ())?;
        self.pods.append(&mut pods);
        if tally.failed_adds.is_empty() {
            Ok(())
        } else {
            fail(tally.failed_adds.join("\n"))
        }
    }

    /// A pod on the second node, for others to talk to; its ADD must succeed.
    ///
    /// # Errors
    /// It failed, or there is no second node.
    pub fn add_elsewhere(&mut self) -> Outcome {
        let Some(node) = self.cluster.nodes().get(1) else {
            return fail("no second node");
        };
        let mut pod = Pod::make(node.sim(), "elsewhere")?;
        let call = self.runtime.add(&mut pod)?;
        self.pods.push(pod);
        succeeded("ADD on the second node", &call)
    }

    /// DELs every pod; every DEL must succeed.
    ///
    /// # Errors
    /// One failed.
    pub fn del_pods(&mut self) -> Outcome {
        let tally = self.runtime.del_all(&mut self.pods, 16)?;
        self.pods.clear();
        if tally.failed_dels.is_empty() {
            Ok(())
        } else {
            fail(tally.failed_dels.join("\n"))
        }
    }

    /// Leases, kernel and EC2 name the same pods and addresses, and none twice.
    ///
    /// # Errors
    /// What is wrong.
    pub fn all_agree(&self) -> Outcome {
        none_wrong(check::while_up(&self.cluster, &self.pods)?)
    }

    /// Every pod reaches what it must, and is seen with the right source.
    ///
    /// # Errors
    /// What does not.
    pub fn all_reach(&self) -> Outcome {
        let _responders = probe::answer(&self.cluster, &self.pods)?;
        let probes = probe::plan(&self.cluster, &self.pods);
        ensure(!probes.is_empty(), "there is nothing to probe")?;
        let failures = probe::run(&self.cluster, probes)?;
        if failures.is_empty() {
            Ok(())
        } else {
            fail(failures.join("\n"))
        }
    }

    /// Waits until every ENI of every node is in use as a whole: no purchase is under way.
    ///
    /// # Errors
    /// Something still is after [`SOON`].
    pub fn settled(&self) -> Outcome {
        // A call in doubt is settled past EC2's consistency window of a minute.
        Ok(self.cluster.wait_settled(5 * SOON)?)
    }

    /// Nothing is left: DELs every pod, waits for purchases under way, stops daemons, terminates nodes, reads the books.
    ///
    /// # Errors
    /// What is left, or was wrong.
    pub fn nothing_is_left(mut self) -> Outcome {
        self.del_pods()?;
        for node in self.cluster.nodes().iter().filter(|n| n.daemon().is_ok()) {
            no_leftovers(node)?;
        }
        self.settled()?;
        for node in self.cluster.nodes_mut() {
            if node.daemon().is_ok() {
                node.stop()?;
            }
        }
        none_wrong(check::books(&self.cluster)?)?;
        let names: Vec<_> = self
            .cluster
            .nodes()
            .iter()
            .map(|n| n.name().to_owned())
            .collect();
        for name in &names {
            self.cluster.sim().terminate(name)?;
        }
        none_wrong(check::leaked_enis(&self.cluster))
    }

    /// Takes every fault away.
    pub fn clear_faults(&self) {
        let mut vpc = self.cluster.sim().vpc();
        for fault in vpc.faults() {
            vpc.remove_fault(fault.id);
        }
    }

    /// How often the first node has called this EC2 action, by prefix of its name.
    #[must_use]
    pub fn calls(&self, action: &str) -> u64 {
        let vpc = self.cluster.sim().vpc();
        let node = self
            .cluster
            .nodes()
            .first()
            .map(|n| n.name().to_owned())
            .unwrap_or_default();
        let calls = vpc.ec2_calls().get(&node).into_iter().flatten();
        calls
            .filter(|(name, _)| name.starts_with(action))
            .map(|(_, n)| n)
            .sum()
    }
}

impl Scene {
    /// The last calls to EC2, for people.
    #[must_use]
    pub fn recent_calls(&self) -> String {
        let vpc = self.cluster.sim().vpc();
        let all = vpc.audit(0);
        let last = all.iter().skip(all.len().saturating_sub(12));
        let lines = last.map(|e| format!("{} {} {} {}", e.time, e.action, e.params, e.outcome));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// A failure with these words.
///
/// # Errors
/// Always.
pub fn fail<T>(words: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Wrong(words.into()))
}

/// Goes on if it holds.
///
/// # Errors
/// It does not.
pub fn ensure(holds: bool, otherwise: impl Into<String>) -> Outcome {
    if holds { Ok(()) } else { fail(otherwise) }
}

/// Goes on if nothing is wrong.
///
/// # Errors
/// All that is.
pub fn none_wrong(wrongs: Vec<Wrong>) -> Outcome {
    let words: Vec<_> = wrongs
        .iter()
        .map(|w| format!("{}: {}", w.rule, w.detail))
        .collect();
    ensure(wrongs.is_empty(), words.join("\n"))
}

/// Goes on if the plugin succeeded.
///
/// # Errors
/// It did not; its words.
pub fn succeeded(what: &str, call: &Call) -> Outcome {
    ensure(call.ok(), format!("{what}: {}", call.words()))
}

/// Goes on if the plugin refused with this CNI code and these words in its message or details.
///
/// # Errors
/// It succeeded, or refused otherwise.
pub fn refused(what: &str, call: &Call, code: u64, words: &str) -> Outcome {
    let Some(error) = call.error() else {
        return fail(format!("{what} was not refused: {}", call.words()));
    };
    let said = format!("{} {}", error.msg, error.details);
    ensure(
        error.code == code && said.to_lowercase().contains(&words.to_lowercase()),
        format!(
            "{what}: code {}: {said}; expected code {code} and \"{words}\"",
            error.code
        ),
    )
}

/// Waits for the daemon to have swept what a DEL leaves for it.
///
/// # Errors
/// What is left after [`SOON`].
pub fn no_leftovers(node: &Node) -> Outcome {
    eventually(
        3 * SOON,
        || Ok(check::leftovers(node)?),
        Vec::is_empty,
        none_wrong,
    )
}

/// Looks again, in growing steps, until it is right; then, or when time is over, `judge` has the
/// last word.
///
/// # Errors
/// What looking or judging says.
pub fn eventually<T>(
    limit: Duration,
    mut look: impl FnMut() -> Result<T, Failure>,
    right: impl Fn(&T) -> bool,
    judge: impl FnOnce(T) -> Outcome,
) -> Outcome {
    let (began, mut wait) = (Instant::now(), Duration::from_millis(5));
    loop {
        let seen = look()?;
        if right(&seen) || began.elapsed() > limit {
            return judge(seen);
        }
        std::thread::sleep(wait);
        wait = (wait * 2).min(Duration::from_millis(200));
    }
}

/// As [`LabError`] where a closure must return one.
///
/// # Errors
/// Always.
pub fn lab_error<T>(what: &str, reason: impl Into<String>) -> Result<T, LabError> {
    Err(LabError::Format {
        what: what.into(),
        reason: reason.into(),
    })
}
