//! One worker: a kubelet's loop for some pods.

use super::{AFTERMATH, Dice, FailedAdd, Sky};
use lab::{LabError, Pod, Runtime};
use std::time::Duration;
use vpc_sim::Node;
use vpc_sim::testing::Failure;

/// A pod that is up, and under which number it is watched.
struct Up {
    pod: Pod,
    stay: u64,
}

/// ADDs and DELs until the storm is over; the answer is what is up then.
pub(super) fn work(
    sky: &Sky,
    number: u32,
    home: &Node,
    runtime: &Runtime,
) -> Result<Vec<Pod>, Failure> {
    let mut dice = Dice(sky.storm.seed.wrapping_add((u64::from(number) << 32) | 1));
    let mut up: Vec<Up> = Vec::new();
    let mut made = 0;
    while sky.blows() {
        let room = up.len() < sky.storm.pods_each;
        if room && (up.is_empty() || dice.below(100) < 55) {
            made += 1;
            up.extend(add(
                sky,
                &format!("w{number}-{made}"),
                home,
                runtime,
                &mut dice,
            )?);
        } else {
            let at = usize::try_from(dice.below(1 << 20)).unwrap_or(0) % up.len();
            if dice.below(6) == 0 {
                check(sky, &up[at].pod, runtime)?;
            } else {
                del(sky, up.swap_remove(at), runtime, &mut dice)?;
            }
        }
        std::thread::sleep(Duration::from_millis(dice.below(250)));
    }
    Ok(up.into_iter().map(|up| up.pod).collect())
}

/// A pod, in sandbox after sandbox until an ADD succeeds: the kubelet takes a failed one away and
/// makes another.
fn add(
    sky: &Sky,
    name: &str,
    home: &Node,
    runtime: &Runtime,
    dice: &mut Dice,
) -> Result<Option<Up>, LabError> {
    for sandbox in 0.. {
        let mut pod = Pod::make(home, name)?;
        pod.container_id = format!("{name}-sandbox-{sandbox}");
        let net = pod.netns.as_ref().map(|netns| netns.net().clone());
        let Some(net) = net else { break };
        let stay = sky.watched().add(pod.container_id.clone(), net);
        let began = sky.now();
        let call = runtime.add(&mut pod)?;
        if call.ok() {
            sky.watched().is_up(stay);
            sky.tally().adds += 1;
            return Ok(Some(Up { pod, stay }));
        }
        sky.tally().failed.push(FailedAdd {
            pod: pod.container_id.clone(),
            began,
            ended: sky.now(),
            code: call.error().map(|error| error.code),
            words: call.words(),
        });
        del(sky, Up { pod, stay }, runtime, dice)?;
        if sky.now() > sky.storm.lasts + AFTERMATH {
            sky.wrong(&format!("{name} never came up: {}", call.words()));
            break;
        }
        std::thread::sleep(Duration::from_millis(500 + dice.below(1_000)));
    }
    Ok(None)
}

/// Runtimes take the namespace away before or after, and send a DEL twice.
fn del(sky: &Sky, up: Up, runtime: &Runtime, dice: &mut Dice) -> Result<(), LabError> {
    let Up { mut pod, stay } = up;
    sky.watched().remove(stay);
    let was_up = pod.is_up();
    if dice.below(8) == 0 {
        pod.remove_netns()?;
    }
    let times = if dice.below(5) == 0 { 2 } else { 1 };
    for _ in 0..times {
        // Whatever happens to the daemon, it must not fail: what can't be told now is left in
        // writing.
        let call = runtime.del(&mut pod)?;
        if !call.ok() {
            sky.wrong(&format!(
                "DEL of {} failed: {}",
                pod.container_id,
                call.words()
            ));
        }
    }
    sky.tally().dels += u32::from(was_up);
    pod.remove_netns()
}

/// A pod that is up is as it was wired, whatever happened since.
fn check(sky: &Sky, pod: &Pod, runtime: &Runtime) -> Result<(), LabError> {
    let call = runtime.call("CHECK", pod, pod.result.clone())?;
    // The daemon may be away for a moment.
    if call.error().is_some_and(|error| error.code != 11) || (!call.ok() && call.error().is_none())
    {
        sky.wrong(&format!(
            "CHECK of {} failed: {}",
            pod.container_id,
            call.words()
        ));
    }
    Ok(())
}
