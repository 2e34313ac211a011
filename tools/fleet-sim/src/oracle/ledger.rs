//! What each daemon was told by the world, and when: the evidence by which its words are judged.
//!
//! Written by the simulation's own ports as they answer, never by what the daemon makes of it.

use crate::store::Memory;
use crate::world::World;
use ipam_core::plan::Policy;
use ipam_core::{AttachmentKey, Timestamp};
use ipam_engine::Settings;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What one run of a node's daemon has seen. It begins anew with each start, as a daemon does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Run {
    /// When the daemon started.
    pub(crate) started: Duration,
    /// By how many milliseconds its clock is ahead.
    ahead: i64,
    /// Its settings.
    pub(crate) policy: Policy,
    /// Whether it may write to EC2.
    pub(crate) provisioning: bool,
    /// The last answered DescribeNetworkInterfaces.
    pub(crate) described: Option<Duration>,
    /// The last answered DescribeSubnets.
    pub(crate) subnets: Option<Duration>,
    /// The last read of IMDS that was answered, and the last one that failed.
    pub(crate) metadata: Option<Duration>,
    pub(crate) metadata_failed: Option<Duration>,
    /// The last attempt to wire the host that went well, and the last one that failed.
    pub(crate) wired: Option<Duration>,
    pub(crate) wiring_failed: Option<Duration>,
    /// The blocks that the last attempt that went well was about.
    pub(crate) serves: Vec<IpNet>,
    /// ENIs that EC2 has shown it.
    pub(crate) shown: BTreeSet<String>,
    /// Calls to EC2 that were sent and not answered yet, by action.
    under_way: BTreeMap<&'static str, u32>,
    /// The last time that an action ended with a code, or with none if it went well.
    ended: BTreeMap<(&'static str, String), Duration>,
}

impl Run {
    /// When that was, or will be, which the daemon's clock shows so.
    pub(crate) fn time(&self, at: Timestamp) -> Duration {
        World::since_start(at, self.ahead)
    }

    /// Whether the node's clock is, or was at the last start, another than ours.
    pub(crate) fn clock_was_set(&self, disk: &Memory) -> bool {
        self.ahead != 0 || disk.ahead() != 0
    }

    /// When an action last ended with this code.
    pub(crate) fn refused(&self, action: &str, code: &str) -> Option<Duration> {
        let same = |(a, c): &(&'static str, String)| *a == action && c == code;
        let found = self.ended.iter().find(|(key, _)| same(key));
        found.map(|(_, at)| *at)
    }

    /// When any of these actions last ended otherwise than well.
    pub(crate) fn failed(&self, of: impl Fn(&str) -> bool) -> Option<Duration> {
        let bad = |((action, code), _): &(&(&'static str, String), &Duration)| {
            of(action) && !code.is_empty()
        };
        self.ended.iter().filter(bad).map(|(_, at)| *at).max()
    }

    /// Whether a call of any of these actions is under way.
    pub(crate) fn calls(&self, of: impl Fn(&str) -> bool) -> bool {
        let mut some = self.under_way.iter();
        some.any(|(action, count)| of(action) && *count > 0)
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    runs: BTreeMap<String, Run>,
    /// The last time that somebody made trouble, on purpose: dice, not consequences.
    pub(crate) trouble: Duration,
    /// DELs, by node and sandbox: when the last one was begun.
    pub(crate) dels: BTreeMap<super::PodKey, Duration>,
    /// Leases that a DEL under another network's name asked a daemon to end: when the last one was
    /// answered.
    pub(crate) renamed_dels: BTreeMap<super::PodKey, Duration>,
}

impl Ledger {
    /// What the daemon that runs now, or ran last, has seen.
    pub(crate) fn run(&self, node: &str) -> Run {
        self.runs.get(node).cloned().unwrap_or_default()
    }

    /// Whether a daemon that does not run any more was asked to end this lease by a DEL under another
    /// network's name.
    pub(crate) fn renamed_before_start(&self, pod: &super::PodKey) -> bool {
        let started = self.runs.get(&pod.0).map(|run| run.started);
        let asked = self.renamed_dels.get(pod);
        started.zip(asked).is_some_and(|(at, asked)| *asked <= at)
    }

    fn of(&mut self, node: &str) -> &mut Run {
        self.runs.entry(node.to_owned()).or_default()
    }

    /// A daemon starts: it knows nothing of what was answered before.
    pub(crate) fn started(&mut self, now: Duration, node: &str, settings: &Settings, ahead: i64) {
        let run = Run {
            started: now,
            ahead,
            policy: settings.policy.clone(),
            provisioning: settings.provisioning,
            ..Run::default()
        };
        self.runs.insert(node.to_owned(), run);
    }

    /// A call is sent.
    pub(crate) fn sent(&mut self, node: &str, action: &'static str) {
        *self.of(node).under_way.entry(action).or_default() += 1;
    }

    /// What the daemon heard of it; an empty code is a success.
    pub(crate) fn heard(&mut self, now: Duration, node: &str, action: &'static str, code: &str) {
        let run = self.of(node);
        let count = run.under_way.entry(action).or_default();
        *count = count.saturating_sub(1);
        run.ended.insert((action, code.to_owned()), now);
        match action {
            "DescribeSubnets" if code.is_empty() => run.subnets = Some(now),
            _ => {}
        }
    }

    /// EC2 told of this node's ENIs. An answer that lacks the node's own is none (not `complete`).
    pub(crate) fn described(&mut self, now: Duration, node: &str, complete: bool) {
        let run = self.of(node);
        if complete {
            run.described = Some(now);
        } else {
            let code = ("DescribeNetworkInterfaces", "PrimaryMissing".to_owned());
            run.ended.insert(code, now);
        }
    }

    /// IMDS answered, or did not.
    pub(crate) fn read_metadata(&mut self, now: Duration, node: &str, answered: bool) {
        let run = self.of(node);
        if answered {
            run.metadata = Some(now);
        } else {
            run.metadata_failed = Some(now);
        }
    }

    /// A Describe was answered, with these ENIs.
    pub(crate) fn showed<'a>(&mut self, node: &str, enis: impl Iterator<Item = &'a String>) {
        self.of(node).shown.extend(enis.cloned());
    }

    /// A daemon has taken in a noted DEL of a lease under another network's name.
    pub(crate) fn took_renamed(&mut self, now: Duration, node: &str, key: &AttachmentKey) {
        self.renamed_dels
            .insert((node.to_owned(), key.clone()), now);
    }

    /// The host was wired with these blocks, or could not be.
    pub(crate) fn wired_host(&mut self, now: Duration, node: &str, done: Option<Vec<IpNet>>) {
        let run = self.of(node);
        if let Some(blocks) = done {
            run.wired = Some(now);
            run.serves = blocks;
        } else {
            run.wiring_failed = Some(now);
        }
    }
}
