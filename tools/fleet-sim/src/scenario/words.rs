//! A story's lines in words, for people who know Kubernetes and EC2 and have not read this code.

use super::dice::Plan;
use super::ground::Ground;
use super::runtime::Habits;
use crate::metadata::Moods;
use ipam_core::plan::{Policy, Subnets};
use ipam_core::{Family, Phase};
use ipam_engine::{EniSnapshot, Snapshot};
use std::time::Duration;
use vpc_model::{Effect, Fault};

/// Those that apply, or `nothing`.
fn which<'a>(list: impl IntoIterator<Item = (bool, &'a str)>, nothing: &str) -> String {
    let applies = list.into_iter().filter(|(applies, _)| *applies);
    let words: Vec<&str> = applies.map(|(_, words)| words).collect();
    if words.is_empty() {
        nothing.to_owned()
    } else {
        words.join(", ")
    }
}

/// What a scenario begins with, a line each.
pub(super) fn scenario(plan: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    for subnet in &plan.spec.subnets {
        let tags = subnet
            .tags
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let tags: Vec<String> = tags.collect();
        let tags = if tags.is_empty() {
            "no tags".to_owned()
        } else {
            tags.join(" ")
        };
        lines.push(format!("a subnet {}, {tags}", subnet.cidr));
    }
    lines.push(ground(&plan.ground));
    if plan.strangers > 0 {
        lines.push(format!(
            "{} addresses of the first subnet are others'",
            plan.strangers
        ));
    }
    if !plan.spec.subnets[0].reservations.is_empty() {
        let count = plan.spec.subnets[0].reservations.len();
        lines.push(format!("the first subnet has {count} reserved ranges"));
    }
    for (name, kind, settings) in &plan.nodes {
        lines.push(format!(
            "a node {name}, {kind}: {}",
            policy(&settings.policy)
        ));
    }
    lines.push(habits(&plan.habits));
    lines.push(format!("{} events of trouble follow", plan.events));
    lines
}

fn ground(ground: &Ground) -> String {
    let lag = format!("EC2's Describes lag by up to {} ms", ground.lag_ms);
    which(
        [
            (ground.lag_ms > 0, lag.as_str()),
            (ground.six, "subnets have IPv6"),
            (ground.retags, "subnets' tags change"),
            (ground.neighbours > 0, "another cluster has ENIs here"),
            (ground.left_alone, "nodes have ENIs tagged no_manage"),
            (ground.foreign, "nodes have ENIs of another account"),
            (ground.orphans > 0, "ENIs of dead nodes lie about"),
        ],
        "a plain VPC",
    )
}

fn habits(habits: &Habits) -> String {
    let list = [
        (habits.recreates, "makes pods again under their names"),
        (
            habits.odd_dels,
            "sends DELs late, twice, or for what nobody knows",
        ),
        (habits.gc.is_some(), "collects garbage"),
        (habits.stale_results, "sends DELs with old results"),
        (habits.renames, "renames its network"),
        (habits.second, "gives pods second interfaces"),
        (habits.old_plugins, "has plugins of the previous version"),
        (habits.egress, "gives pods node-local addresses"),
        (habits.crowded, "has nearly all node-local addresses in use"),
    ];
    format!(
        "the runtime {}",
        which(list, "sends one ADD and one DEL for each pod")
    )
}

/// The settings that the pool goes by.
pub(super) fn policy(policy: &Policy) -> String {
    let families = policy.families.iter().map(|family| match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    });
    let families: Vec<&str> = families.collect();
    let kind = if policy.prefixes {
        "prefixes"
    } else {
        "single addresses"
    };
    let subnets = match &policy.subnets {
        Subnets::Primary => "the primary ENI's subnet".to_owned(),
        Subnets::Tagged { cluster: None } => "tagged subnets".to_owned(),
        Subnets::Tagged {
            cluster: Some(name),
        } => format!("tagged subnets of cluster {name}"),
        Subnets::Listed(list) => format!("{} listed subnets", list.len()),
    };
    let set = |name: &str, value: Option<u32>| match value {
        Some(value) => format!(", {name}={value}"),
        None => String::new(),
    };
    format!(
        "{} from {kind} in {subnets}, WARM_ENI_TARGET={}{}{}, WARM_PREFIX_TARGET={}{}{}, cooldown {} s",
        families.join(" and "),
        policy.warm_eni,
        set("WARM_IP_TARGET", policy.warm_ip),
        set("MINIMUM_IP_TARGET", policy.minimum_ip),
        policy.warm_prefix,
        set("MAX_ENI", policy.max_eni),
        set("max-pods", policy.max_pods),
        policy.cooldown.as_secs()
    )
}

/// A rule by which EC2 misbehaves.
pub(super) fn fault(fault: &Fault) -> String {
    let whose = match &fault.node {
        Some(node) => format!(" of {node}"),
        None => String::new(),
    };
    let which = match (fault.after, fault.count) {
        (0, None) => "each".to_owned(),
        (0, Some(count)) => format!("the next {count}"),
        (after, None) => format!("each but the next {after}"),
        (after, Some(count)) => format!("{count} after the next {after}"),
    };
    let what = match &fault.effect {
        Effect::Fail { code, .. } => format!("fails with {code}"),
        Effect::Delay { ms } => format!("is answered {ms} ms later"),
        Effect::DropAnswer => "is done, and its answer is lost".to_owned(),
        Effect::Unreached { silent: true } => {
            "never reaches EC2, and nobody hears of it".to_owned()
        }
        Effect::Unreached { silent: false } => "can't connect to EC2".to_owned(),
        Effect::LeaveOut { what } => format!("is answered without what is there ({what:?})"),
        Effect::Throttle => "is throttled".to_owned(),
        Effect::Stale { ms } => format!("shows the VPC as it was {ms} ms ago"),
        other => format!("{other:?}"),
    };
    format!(
        "trouble begins: of calls {}{whose}, {which} {what}",
        fault.action
    )
}

/// What IMDS makes of the truth from now on.
pub(super) fn moods(moods: &Moods) -> String {
    let hides = moods.hides.map(|mac| format!("hides the ENI {mac}"));
    let ghosts: Vec<String> = moods.ghosts.iter().map(|eni| eni.id.to_string()).collect();
    let ghosts = format!("lists {}, attached to nothing here", ghosts.join(" and "));
    let list = [
        (moods.silent, "answers nothing"),
        (moods.frozen, "shows what it showed the last time"),
        (hides.is_some(), hides.as_deref().unwrap_or_default()),
        (!moods.ghosts.is_empty(), ghosts.as_str()),
        (
            !moods.dead.is_empty(),
            "lists addresses that the primary ENI no longer has",
        ),
    ];
    format!("IMDS {}", which(list, "tells the truth"))
}

/// What a daemon has in the end.
pub(super) fn snapshot(snapshot: &Snapshot) -> String {
    let enis: Vec<String> = snapshot.enis.iter().map(eni).collect();
    let mut words = format!(
        "the daemon says \"{}\", {} ADDs wait; {}",
        snapshot.status.message,
        snapshot.parked,
        enis.join("; ")
    );
    if !snapshot.report.is_empty() {
        words.push_str("; it waits for: ");
        words.push_str(&snapshot.report.join("; "));
    }
    for hold in &snapshot.holds {
        let left = Duration::from_millis(hold.until.0.saturating_sub(snapshot.at.0));
        words.push_str(&format!("; held up for {left:.0?} more: {}", hold.words));
    }
    words
}

const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Creating => "being made",
        Phase::Created => "not attached yet",
        Phase::Attached => "attached, not wired",
        Phase::Ready => "ready",
        Phase::Leaving => "leaving",
        Phase::Detached => "detached",
    }
}

/// An ENI about which something is under way for good, and what the daemon says of it.
pub(super) fn unsettled(eni: &ipam_core::Eni, report: &[String]) -> String {
    let id = eni
        .id
        .as_ref()
        .map_or("an ENI without an id", |id| id.as_str());
    let call = if eni.intent.is_some() {
        ", and its call is not done"
    } else {
        ""
    };
    let doubt = if eni.in_doubt_since.is_some() {
        ", and nobody knows the outcome of its last call"
    } else {
        ""
    };
    let says = report.join("; ");
    format!(
        "{id} is {}{call}{doubt}; the daemon says: {says}",
        phase(eni.phase)
    )
}

fn eni(eni: &EniSnapshot) -> String {
    let phase = phase(eni.phase);
    let blocks: Vec<String> = eni
        .blocks
        .iter()
        .map(|block| {
            let used: Vec<String> = block
                .used
                .iter()
                .map(|(ip, pod)| format!("{ip} {pod}"))
                .collect();
            let rests = [
                (block.free, "free"),
                (block.cooling, "cooling"),
                (block.held, "held"),
            ];
            let rests = rests.iter().filter(|(count, _)| *count > 0);
            let rests: Vec<String> = rests
                .map(|(count, what)| format!("{count} {what}"))
                .collect();
            let all: Vec<String> = rests.into_iter().chain(used).collect();
            format!("{} ({})", block.block, all.join(", "))
        })
        .collect();
    let own = if eni.primary { ", the primary ENI" } else { "" };
    let blocks = if blocks.is_empty() {
        "no addresses for pods".to_owned()
    } else {
        blocks.join(" ")
    };
    format!("{}{own}, {phase}: {blocks}", eni.id)
}
