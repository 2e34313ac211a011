//! Is a refusal right? Its kind and cause must be what really happened, each of its reasons must be so,
//! one of them must be about what was missing, and there must have been no address: none at that
//! moment, none that would have come before the deadline if it was given before that, and in
//! peace none that EC2 would have given.

use super::ledger::Run;
use super::truth::{Account, Matter};
use super::{Living, Promise};
use crate::story::list;
use crate::world::World;
use ipam_core::AttachmentKey;
use ipam_core::Family;
use ipam_core::plan::Note;
use ipam_core::wiring::{WIRING_VERSION, egress};
use ipam_engine::{Refusal, RefusalKind};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// An ADD, as its caller knows it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) key: AttachmentKey,
    /// The newest wiring that its plugin knows.
    pub(crate) wiring: u32,
    /// Since when, and until when it waits.
    pub(crate) since: Duration,
    pub(crate) deadline: Duration,
    /// ADDs of the node that came before it and wait still.
    pub(crate) before: usize,
    /// ADDs of the node that wait, this one among them.
    pub(crate) waiting: usize,
    /// It wants a node-local address of this family, too.
    pub(crate) local: Option<Family>,
}

/// Nobody has made any trouble for so long: EC2's lag, doubts and the first back-offs are over, and what
/// stands against an address now must be there now.
pub(crate) const PEACE_AFTER: Duration = Duration::from_secs(300);

/// The engine's own bound on ADDs that wait.
const TOO_MANY: usize = 1024;

/// How long the node may be without a try to wire it after one that failed.
const WIRING_TRIED: Duration = Duration::from_secs(60);

/// An answer and what it rests upon are of one instant but for the tasks that carry them.
const INSTANT: Duration = Duration::from_millis(10);

/// What rests until a moment is given at that moment or with the next look at the kernel.
const LOOK: Duration = Duration::from_secs(2);

/// Names of faults in [`crate::scenario::KNOWN_FAULTS`].
pub(crate) const EMPTY_REASON: &str = "empty reason";

/// What is wrong with a refusal; empty if it is right.
pub(crate) fn judge(
    account: &Account<'_>,
    asked: &Asked,
    refusal: &Refusal,
) -> Vec<(Promise, String)> {
    let mut wrong = Vec::new();
    if refusal.cause.is_empty() || refusal.message.is_empty() {
        wrong.push((
            Promise::RefusalHasCause,
            format!("{} is refused ({}): {refusal}", asked.key, refusal.cause),
        ));
    }
    let found = match refusal.kind {
        RefusalKind::TryAgain if refusal.cause == "egress_full" => egress_full(account),
        RefusalKind::TryAgain => no_address(account, asked, refusal),
        RefusalKind::BadRequest => unless(
            refusal.cause == "plugin_too_old" && asked.wiring < WIRING_VERSION,
            "the request is a good one",
        ),
        RefusalKind::Internal => internal(account),
        RefusalKind::Cancelled => cancelled(account, asked),
        RefusalKind::Stopping => stopping(account),
    };
    let told = |what: String| {
        let words = format!("{} is refused ({}): {what}", asked.key, refusal.cause);
        (Promise::RefusalIsRight, words)
    };
    wrong.extend(found.into_iter().map(told));
    wrong
}

/// A refusal for want of a node-local address.
fn egress_full(account: &Account<'_>) -> Vec<String> {
    let full = |family| free_local(account, family) == 0;
    unless(
        full(Family::V4) || full(Family::V6),
        "a node-local address is free",
    )
}

/// Addresses of a family's node-local range that are no pod's, nor routed, nor resting.
pub(crate) fn free_local(account: &Account<'_>, family: Family) -> usize {
    let place = &account.place;
    let (now, rest) = (place.world.elapsed(), account.run.policy.cooldown + LOOK);
    let oracle = place.world.oracle();
    let mut taken: BTreeSet<IpAddr> = place.kernel.routed().into_iter().collect();
    taken.extend(place.store.leases().into_iter().flat_map(|l| l.addresses));
    taken.extend(place.store.released().into_keys());
    let on = |(key, _): &(&(String, AttachmentKey), &Living)| key.0 == place.node;
    taken.extend(
        oracle
            .living
            .iter()
            .filter(on)
            .flat_map(|(_, l)| l.ips.clone()),
    );
    let ended = oracle.ended.iter();
    let rests = ended.filter(|((node, _), (at, _))| *node == place.node && now < *at + rest);
    taken.extend(rests.map(|((_, ip), _)| *ip));
    let free = egress::addresses(family).filter(|ip| !taken.contains(ip));
    free.count()
}

fn unless(right: bool, words: &str) -> Vec<String> {
    if right {
        Vec::new()
    } else {
        vec![words.into()]
    }
}

fn internal(account: &Account<'_>) -> Vec<String> {
    let lately = account.place.store.last_failure();
    let failed = lately.is_some_and(|(ago, failing)| failing || ago <= INSTANT);
    unless(failed, "no commit failed")
}

fn cancelled(account: &Account<'_>, asked: &Asked) -> Vec<String> {
    let key = (account.place.node.to_owned(), asked.key.clone());
    let oracle = account.place.world.oracle();
    let deleted = oracle.ledger.dels.get(&key);
    unless(
        deleted.is_some_and(|at| *at >= asked.since),
        "nobody withdrew it",
    )
}

fn stopping(account: &Account<'_>) -> Vec<String> {
    let daemon = account.place.kernel.daemon();
    let another = account.run.started > asked_before(account);
    let gone = daemon.is_none_or(|handle| handle.is_closed());
    unless(gone || another, "the daemon runs")
}

/// A daemon that started just now is another one than the one that was asked.
fn asked_before(account: &Account<'_>) -> Duration {
    account.now.saturating_sub(INSTANT)
}

fn no_address(account: &Account<'_>, asked: &Asked, refusal: &Refusal) -> Vec<String> {
    match refusal.cause {
        "too_many_waiting" => {
            return unless(asked.waiting >= TOO_MANY, "few ADDs wait");
        }
        "node_not_wired" => {
            let failed = account.run.wiring_failed;
            let lately = failed.is_some_and(|at| at + WIRING_TRIED > account.now);
            // Without a commit nothing is begun.
            let stored = account.place.store.last_failure();
            let lately = lately || stored.is_some_and(|(ago, _)| ago < WIRING_TRIED);
            return unless(lately, "the node is wired");
        }
        _ => {}
    }
    let allows = |name| account.place.world.oracle().dice.allow(name);
    // That an instance type has no prefixes explains nothing, nor does what is put off.
    let says = |note: &Note| !matches!(note, Note::NoPrefixesHere | Note::Later(_));
    if !refusal.notes.iter().any(says) {
        return unless(!allows(EMPTY_REASON), "without a reason");
    }
    let mut wrong = Vec::new();
    if !refusal.notes.iter().any(|n| n.label() == refusal.cause) {
        wrong.push("none of its reasons is the cause".into());
    }
    wrong.extend(refusal.notes.iter().filter_map(|n| account.untrue(n)));
    let families = &account.run.policy.families;
    let about = |note: &&Note| {
        let explains = |family: &Family| Account::explains(note, Matter::Short(*family));
        families.iter().any(explains) && account.untrue(note).is_none()
    };
    let reasons: Vec<&Note> = refusal.notes.iter().filter(about).collect();
    if reasons.is_empty() {
        wrong.push("none of its reasons is about addresses".into());
    }
    // Who does not know what EC2 gave, or can't write, serves nobody.
    let blind = |note: &&Note| {
        matches!(
            note,
            Note::Unknown | Note::KernelUnread | Note::NoMetadata(..) | Note::Unwritten(_)
        )
    };
    if reasons.iter().any(blind) {
        return wrong;
    }
    // Without a node-local address nobody is served.
    if asked
        .local
        .is_none_or(|family| free_local(account, family) > asked.before)
    {
        wrong.extend(missed(account, asked, &reasons));
    }
    wrong
}

/// What the ADD could have been given: at once, by its deadline, or by EC2.
fn missed(account: &Account<'_>, asked: &Asked, reasons: &[&Note]) -> Vec<String> {
    let families = &account.run.policy.families;
    let (room, world) = (&account.room, account.place.world);
    let wants = |family| families.contains(&family);
    let free = !wants(Family::V4) || room.free.len() > asked.before;
    let six = !wants(Family::V6) || room.six;
    if free && six {
        let some = room.free.iter().take(3);
        let what = if wants(Family::V4) {
            format!("{} addresses are free, as {}", room.free.len(), list(some))
        } else {
            "an IPv6 prefix is there".into()
        };
        return vec![what];
    }
    let mut wrong = Vec::new();
    let early = account.now + INSTANT < asked.deadline;
    if early && six {
        let soon = asked.deadline - LOOK;
        let rested = room.resting.values().filter(|end| **end < soon).count();
        if rested > asked.before {
            wrong.push(format!(
                "{rested} addresses have rested before {:?}",
                asked.deadline
            ));
        }
    }
    // Where tags were changed meanwhile nobody knows what the daemon heard of it.
    let retagged = world.oracle().retagged;
    let gives = (free || room.grows() && !retagged && !churns(account, asked, reasons))
        && (six || room.six_grows);
    if gives {
        // What holds one family up does not hold up the other.
        let short = |note: &&&Note| {
            let explains = |family| Account::explains(note, Matter::Short(family));
            !free && explains(Family::V4) || !six && explains(Family::V6)
        };
        let held =
            |note: &&Note| stands_until(note, &account.run).is_some_and(|at| at >= asked.deadline);
        let calls = if free || six { 1 } else { 2 };
        let left = asked.deadline.saturating_sub(account.now);
        let time = left > super::bound::call(world) * calls;
        if early && time && !reasons.iter().filter(short).any(held) {
            wrong.push(format!(
                "EC2 would give one now ({} slots are open, {} of {} ENIs are there), and {left:?} are left",
                room.open_slots(),
                room.enis,
                room.enis_max,
            ));
        }
        let nodes = world.vpc().nodes().iter().filter(|n| n.running).count();
        let bound = super::bound::bound(world, &vec![room; nodes]);
        let long = account.now.saturating_sub(asked.since) >= bound;
        if long && at_peace(account, asked) {
            wrong.push(format!("EC2 would have given one since {:?}", asked.since));
        }
    }
    wrong
}

/// More addresses rest than the node may have pods, or has: it buys no more of them anew, so that a
/// runtime that tries in a loop does not drain the subnet.
fn churns(account: &Account<'_>, asked: &Asked, reasons: &[&Note]) -> bool {
    let needed = usize::try_from(account.room.used).unwrap_or(usize::MAX) + asked.waiting;
    let pods = account.run.policy.max_pods.unwrap_or(0);
    reasons.iter().any(|note| match note {
        Note::Cooling(n, _) => *n > pods && usize::try_from(*n).is_ok_and(|n| n > needed),
        _ => false,
    })
}

/// Until when a note says that nothing can be done.
pub(crate) fn stands_until(note: &Note, run: &Run) -> Option<Duration> {
    match note {
        Note::Held { until, .. } | Note::InDoubt(_, until) | Note::Undiscovered { until, .. } => {
            Some(run.time(*until))
        }
        _ => None,
    }
}

/// Nobody has troubled anything for long before the ADD came, and nothing waits to do so.
fn at_peace(account: &Account<'_>, asked: &Asked) -> bool {
    let world = account.place.world;
    let quiet = world.oracle().ledger.trouble + PEACE_AFTER < asked.since;
    quiet && account.run.started + PEACE_AFTER < asked.since && !faults_wait(world)
}

/// A fault of EC2 is still to strike.
pub(crate) fn faults_wait(world: &World) -> bool {
    let faults = world.vpc().faults();
    let left = |f: &vpc_model::FaultState| f.fault.count.is_none_or(|count| f.hit < count);
    faults.iter().any(left)
}
