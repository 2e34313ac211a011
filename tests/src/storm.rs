//! A storm: several workers ADD and DEL pods as a runtime does, the daemon is killed about every
//! second, EC2 and IMDS fail in all their ways, and a witness looks at the kernel all the time.
//!
//! Everything random comes from one seed. What is wrong is gathered, with the time since the storm
//! began, and told together.

mod faults;
mod witness;
mod worker;

use crate::{Outcome, SOON, Scene, fail};
use lab::{Node, Pod};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use vpc_sim::testing::Failure;
use witness::Watched;

/// A daemon that is started comes back within this, also on a busy machine.
const COMES_BACK: Duration = Duration::from_secs(20);
/// The plugin waits so long for a daemon that is away; a little less, since it begins before us.
const PLUGIN_WAITS: Duration = Duration::from_millis(3_500);
/// A pod is up so long after the end of the storm at the latest: every doubt is settled by then.
pub const AFTERMATH: Duration = Duration::from_secs(100);

/// How hard it blows.
#[derive(Clone, Copy, Debug)]
pub struct Storm {
    /// Of everything random.
    pub seed: u64,
    /// How long the daemon is killed and EC2 fails.
    pub lasts: Duration,
    /// ADDs and DELs at the same time.
    pub workers: u32,
    /// Pods that each worker has up at most.
    pub pods_each: usize,
}

/// What a storm came to.
#[derive(Debug, Default)]
pub struct Tally {
    /// Pods that came up.
    pub adds: u32,
    /// Pods that were deleted.
    pub dels: u32,
    /// How often the daemon was killed.
    pub kills: u32,
    /// How often all pods were looked at.
    pub looks: u32,
    /// ADDs that failed.
    pub failed: Vec<FailedAdd>,
    /// What must not be.
    pub wrong: Vec<String>,
}

/// An ADD that failed, by the storm's clock.
#[derive(Clone, Debug)]
pub struct FailedAdd {
    /// Which pod.
    pub pod: String,
    /// When it began,
    pub began: Duration,
    /// and ended.
    pub ended: Duration,
    /// The plugin's code, if it said one.
    pub code: Option<u64>,
    /// Its words.
    pub words: String,
}

/// What the threads of a storm share.
#[derive(Debug)]
struct Sky {
    began: Instant,
    storm: Storm,
    over: AtomicBool,
    watched: Mutex<Watched>,
    tally: Mutex<Tally>,
}

impl Sky {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wrong(&self, words: &str) {
        let now = self.now().as_secs_f64();
        self.tally().wrong.push(format!("at {now:.2} s: {words}"));
    }

    /// Whether the storm still blows.
    fn blows(&self) -> bool {
        self.now() < self.storm.lasts
    }
}

/// Random numbers (Steele and others, "Fast splittable pseudorandom number generators", 2014).
#[derive(Clone, Copy, Debug)]
pub struct Dice(pub u64);

impl Dice {
    /// The next one.
    pub const fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below `end`.
    pub const fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }

    /// One of some.
    pub fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        let count = u64::try_from(of.len()).unwrap_or(u64::MAX);
        &of[usize::try_from(self.below(count)).unwrap_or(0)]
    }
}

/// `STORM_SEED`, or one that nobody knows yet.
#[must_use]
pub fn seed() -> u64 {
    let named = std::env::var("STORM_SEED").ok();
    let named = named.and_then(|seed| seed.parse().ok());
    named.unwrap_or_else(|| RandomState::new().hash_one(std::process::id()))
}

impl Storm {
    /// Blows over the first node, whose daemon runs. The pods that are up at the end are the
    /// scene's. No fault is left, and the daemon runs.
    ///
    /// # Errors
    /// A thread could not go on; all else is in the tally.
    pub fn blow(self, scene: &mut Scene) -> Result<Tally, Failure> {
        let sky = Sky {
            began: Instant::now(),
            storm: self,
            over: AtomicBool::new(false),
            watched: Mutex::default(),
            tally: Mutex::default(),
        };
        let runtime = scene.runtime.clone();
        let home = scene.node().sim().clone();
        let (sim, nodes) = scene.cluster.parts();
        let Some(node) = nodes.first_mut() else {
            return fail("no node");
        };
        let mut outages = Vec::new();
        let pods = std::thread::scope(|scope| -> Result<Vec<Pod>, Failure> {
            let sky = &sky;
            let workers: Vec<_> = (0..self.workers)
                .map(|n| {
                    let (home, runtime) = (home.clone(), runtime.clone());
                    scope.spawn(move || worker::work(sky, n, &home, &runtime))
                })
                .collect();
            let witness = scope.spawn(|| witness::look(sky, sim, &home));
            let weather = scope.spawn(|| faults::blow(sky, sim));
            let killed = kill_all_the_time(sky, node, &mut outages);
            let mut pods = Vec::new();
            for worker in workers {
                pods.append(&mut joined(worker.join())??);
            }
            sky.over.store(true, Ordering::Relaxed);
            joined(weather.join())?;
            joined(witness.join())??;
            killed?;
            Ok(pods)
        })?;
        scene.pods.extend(pods);
        let mut tally = sky
            .tally
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        judge(&mut tally, &outages);
        Ok(tally)
    }
}

fn joined<T>(result: std::thread::Result<T>) -> Result<T, Failure> {
    result.map_err(|_| Failure::Wrong("a thread panicked; see above".into()))
}

/// From the kill until the next daemon listens.
type Outage = (Duration, Duration);

/// About every second; started again at once, or a moment later, as the kubelet does.
fn kill_all_the_time(sky: &Sky, node: &mut Node, outages: &mut Vec<Outage>) -> Result<(), Failure> {
    let mut dice = Dice(sky.storm.seed);
    while sky.blows() {
        std::thread::sleep(Duration::from_millis(200 + dice.below(1_600)));
        node.daemon()?.check_running()?;
        let at = sky.now();
        node.kill();
        if dice.below(3) == 0 {
            std::thread::sleep(Duration::from_millis(dice.below(400)));
        }
        node.start()?;
        node.wait_socket(COMES_BACK)?;
        outages.push((at, sky.now()));
        sky.tally().kills += 1;
        // Now and then again before it is anything but just there.
        if dice.below(4) > 0 {
            std::thread::sleep(Duration::from_millis(dice.below(600)));
        }
    }
    Ok(())
}

/// An ADD may fail, and then for a reason that is true.
///
/// There is room for every pod all the time, and every fault passes within seconds. So a refusal
/// at once, or for want of room, is a lie. That the daemon is away is true only if it was, for as
/// long as the plugin waits; what is left is growth that EC2 kept from happening, for as long as an
/// ADD waits.
fn judge(tally: &mut Tally, outages: &[Outage]) {
    let mut lies = Vec::new();
    for failed in &tally.failed {
        let took = failed.ended.saturating_sub(failed.began);
        let away = ["does not listen", "broke", "did not answer"];
        let says_away = away.iter().any(|words| failed.words.contains(words));
        let was_away = outages.iter().any(|(from, to)| {
            *to - *from >= PLUGIN_WAITS && *from < failed.ended && *to > failed.began
        });
        let verdict = match failed.code {
            Some(11) if says_away && was_away => continue,
            Some(11) if says_away => "the daemon was not away for so long",
            Some(11) if took < Duration::from_secs(28) => "growth was possible",
            Some(11) => continue,
            _ => "nothing but a later try was needed",
        };
        lies.push(format!(
            "ADD of {} failed at {:.2} s after {:.2} s, and {verdict}: code {:?}: {}",
            failed.pod,
            failed.ended.as_secs_f64(),
            took.as_secs_f64(),
            failed.code,
            failed.words
        ));
    }
    tally.wrong.append(&mut lies);
}

/// What the witness says of the scene's pods as they are, in one look.
///
/// # Errors
/// A namespace is gone.
pub fn one_look(scene: &Scene) -> Result<Vec<String>, Failure> {
    let Some(node) = scene.cluster.nodes().first() else {
        return fail("no node");
    };
    let mut watched = Watched::default();
    for pod in &scene.pods {
        if let Some(netns) = &pod.netns {
            let stay = watched.add(pod.name.clone(), netns.net().clone());
            watched.is_up(stay);
        }
    }
    witness::look_once(&Mutex::new(watched), scene.cluster.sim(), node.sim())
}

/// Nothing was wrong, and there was a storm at all.
///
/// # Errors
/// All that was, with the seed.
pub fn calm(storm: Storm, tally: &Tally) -> Outcome {
    let seed = storm.seed;
    let enough = tally.adds >= 20 && tally.dels >= 10 && tally.kills >= 5 && tally.looks >= 50;
    let sums = format!(
        "{} pods up, {} deleted, {} kills, {} looks, {} failed ADDs",
        tally.adds,
        tally.dels,
        tally.kills,
        tally.looks,
        tally.failed.len()
    );
    println!("STORM_SEED={seed}: {sums}");
    if !tally.wrong.is_empty() {
        let first: Vec<_> = tally.wrong.iter().take(20).cloned().collect();
        return fail(format!("STORM_SEED={seed}: {sums}\n{}", first.join("\n")));
    }
    crate::ensure(
        enough,
        format!("STORM_SEED={seed}: too little happened: {sums}"),
    )
}

/// The daemon of the first node has nothing under way, and EC2 no fault.
///
/// # Errors
/// It is not ready in time.
pub fn ready_again(scene: &mut Scene) -> Outcome {
    scene.clear_faults();
    if scene.node().daemon().is_err() {
        scene.node().start()?;
    }
    Ok(scene.node().wait_ready(SOON * 3)?)
}
