//! Promise: the daemon may be killed between any two steps of an ENI's life, and nothing is lost or
//! doubled. One node for each step and each way of not hearing EC2's answer, all at the same time:
//! what a kill leaves in doubt takes EC2's consistency window (a minute) to settle.

use ipamd_tests::storm::{Dice, seed};
use ipamd_tests::{Mode, Outcome, Scene, ensure, eventually, fail, none_wrong, spec};
use lab::{ClusterSpec, Node, Patience, Pod, Runtime, check};
use std::time::{Duration, Instant};
use vpc_model::{Effect, Fault};
use vpc_sim::Sim;
use vpc_sim::testing::{Failure, Test, run_side_by_side};

/// Longer than any of EC2's answers, so that the kill comes first.
const LATE: Effect = Effect::Delay { ms: 4_000 };

/// Until an ENI is old enough to go (a minute), a surplus lasting (half a minute), a doubt settled
/// (a minute), on a busy machine.
const PATIENCE: Duration = Duration::from_secs(200);

/// Pods that do not fit on a t3.small's first ENI.
const PODS: u32 = 5;

/// The steps, and whether they grow the pool.
const STEPS: [(&str, bool); 7] = [
    ("CreateNetworkInterface", true),
    ("AttachNetworkInterface", true),
    ("ModifyNetworkInterfaceAttribute", true),
    ("AssignPrivateIpAddresses", true),
    ("UnassignPrivateIpAddresses", false),
    ("DetachNetworkInterface", false),
    ("DeleteNetworkInterface", false),
];

fn main() -> std::process::ExitCode {
    let tests = [
        Test {
            name: "killed_before_the_answer",
            run: before_the_answer,
        },
        Test {
            name: "killed_after_a_lost_answer",
            run: after_a_lost_answer,
        },
    ];
    run_side_by_side(&tests, 2, Duration::from_secs(500))
}

/// EC2 has done it, and its answer is on the way.
fn before_the_answer() -> Outcome {
    all_steps(&LATE)
}

/// EC2 has done it, the answer is lost, and the daemon may have noticed.
fn after_a_lost_answer() -> Outcome {
    all_steps(&Effect::DropAnswer)
}

fn all_steps(effect: &Effect) -> Outcome {
    let one = spec(Mode::Secondary, "t3.small")?;
    let count = u8::try_from(STEPS.len())?;
    let daemon = one.daemon.set("WARM_IP_TARGET", "1");
    let daemon = daemon.set("IP_COOLDOWN_PERIOD", "1");
    let mut all = ClusterSpec::new(daemon, "t3.small", count);
    all.vpc.latencies = one.vpc.latencies;
    let mut scene = Scene::new(all)?;
    let seed = seed();
    println!("STORM_SEED={seed}");
    let runtime = scene.runtime.clone();
    let (sim, nodes) = scene.cluster.parts();
    let ends: Vec<Result<Vec<Pod>, Failure>> = std::thread::scope(|scope| {
        let runtime = &runtime;
        let threads: Vec<_> = STEPS
            .iter()
            .zip(nodes)
            .enumerate()
            .map(|(n, ((action, grows), node))| {
                let dice = Dice(seed ^ u64::try_from(n).unwrap_or(0));
                let step = Step {
                    action,
                    effect: effect.clone(),
                    sim,
                    runtime,
                    dice,
                };
                scope.spawn(move || step.take(node, *grows))
            })
            .collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            let panicked = |_| fail("a thread panicked; see above");
            thread.join().unwrap_or_else(panicked)
        };
        threads.into_iter().map(join).collect()
    });
    for (end, (action, _)) in ends.into_iter().zip(STEPS) {
        let failed = |e: Failure| Failure::Wrong(format!("{action}: {e}"));
        scene.pods.extend(end.map_err(failed)?);
    }
    none_wrong(check::no_address_twice(&scene.pods)?)?;
    converged(&scene)?;
    scene.all_agree()?;
    scene.all_reach()?;
    scene.nothing_is_left()
}

/// Nothing under way, nothing in doubt, and each daemon knows exactly what EC2 has given to it.
fn converged(scene: &Scene) -> Outcome {
    let look = || -> Result<Vec<check::Wrong>, Failure> {
        let mut wrongs = check::bought(&scene.cluster)?;
        for node in scene.cluster.nodes() {
            let pool = node.snapshot()?;
            let odd = pool
                .enis
                .iter()
                .filter(|e| e.phase != "ready" || e.in_doubt_since.is_some());
            wrongs.extend(odd.map(|e| check::Wrong {
                rule: "not_settled",
                subject: e.id.clone(),
                node: Some(node.name().to_owned()),
                detail: format!(
                    "{} is {} (in doubt since {:?}): {:?}",
                    e.id, e.phase, e.in_doubt_since, pool.report
                ),
            }));
        }
        Ok(wrongs)
    };
    eventually(PATIENCE, look, Vec::is_empty, none_wrong)
}

/// One step on one node.
struct Step<'a> {
    action: &'static str,
    effect: Effect,
    sim: &'a Sim,
    runtime: &'a Runtime,
    dice: Dice,
}

impl Step<'_> {
    /// Brings the pool to where the step comes, kills the daemon in it, starts it again, and lets all
    /// pods come up.
    fn take(mut self, node: &mut Node, grows: bool) -> Result<Vec<Pod>, Failure> {
        let mut pods = Vec::new();
        for n in 0..PODS {
            pods.push(Pod::make(node.sim(), &format!("{}-p{n}", node.name()))?);
        }
        if grows {
            let fault = self.arm(node);
            node.start()?;
            let adds = self.add(pods);
            self.kill_in_it(node, fault)?;
            return up(adds);
        }
        node.start()?;
        node.wait_ready(Duration::from_secs(60))?;
        let pods = up(self.add(pods))?;
        let fault = self.arm(node);
        let mut gone = pods;
        let tally = self.runtime.del_all(&mut gone, 4)?;
        ensure(tally.failed_dels.is_empty(), tally.failed_dels.join("\n"))?;
        self.kill_in_it(node, fault)?;
        // And up again: what was given back is not used, what was kept is.
        let mut again = Vec::new();
        for n in 0..PODS {
            again.push(Pod::make(node.sim(), &format!("{}-q{n}", node.name()))?);
        }
        up(self.add(again))
    }

    fn arm(&self, node: &Node) -> u64 {
        let mut fault = Fault::new(self.action, self.effect.clone()).times(1);
        fault.node = Some(node.name().to_owned());
        self.sim.vpc().add_fault(fault)
    }

    /// Waits until EC2 has been asked, kills, and starts again.
    fn kill_in_it(&mut self, node: &mut Node, fault: u64) -> Outcome {
        let began = Instant::now();
        let asked = || {
            self.sim
                .vpc()
                .faults()
                .iter()
                .any(|f| f.id == fault && f.hit > 0)
        };
        while !asked() {
            node.daemon()?.check_running()?;
            if began.elapsed() > PATIENCE {
                return fail(format!(
                    "it was never asked for; the pool: {:?}",
                    node.snapshot()?
                ));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::sleep(Duration::from_millis(self.dice.below(60)));
        node.kill();
        self.sim.vpc().remove_fault(fault);
        // Tags say when in seconds: what is sent again comes in another one.
        std::thread::sleep(Duration::from_millis(1_100));
        Ok(node.start()?)
    }

    /// ADDs in the background, tried again as runtimes do.
    fn add(&self, mut pods: Vec<Pod>) -> std::thread::JoinHandle<Result<Vec<Pod>, Failure>> {
        let runtime = self.runtime.clone();
        std::thread::spawn(move || {
            let patience = Patience {
                retry_after: Duration::from_secs(1),
                limit: PATIENCE,
            };
            let at_once = pods.len();
            let tally = runtime.add_all(&mut pods, at_once, patience, |_| ())?;
            match pods.iter().find(|pod| !pod.is_up()) {
                None => Ok(pods),
                Some(pod) => fail(format!(
                    "{} did not come up: {:?}",
                    pod.full_name(),
                    tally.failed_adds
                )),
            }
        })
    }
}

fn up(adds: std::thread::JoinHandle<Result<Vec<Pod>, Failure>>) -> Result<Vec<Pod>, Failure> {
    adds.join()
        .unwrap_or_else(|_| fail("a thread panicked; see above"))
}
