//! Whether each living pod is served, looked at whenever its node's kernel, EC2's word on its address, or
//! the pod itself changes: its link and host route are there, its packets leave by the ENI that has its
//! address, and local pods reach it.
//!
//! What the daemon breaks is a breach at once. What others break it has a bounded time to repair:
//! [`QUICK`] after it has heard of it, or after what it is about takes its time; [`LOOK`] more where no
//! event tells of it; [`PAUSE`] more after something that it asked of the kernel has failed.

use super::{Breach, Living, Oracle, Promise, books};
use crate::kernel::{Dirty, Home, Lack, Tables};
use crate::story::list;
use crate::world::World;
use ipam_core::wiring::egress::is_local;
use ipam_core::{AttachmentKey, Mac};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

/// README, "CNI CHECK": what others take away is back within a second.
const QUICK: Duration = Duration::from_secs(1);
/// What no event tells of is found by the look that is made every minute.
const LOOK: Duration = Duration::from_secs(60);
/// What the kernel refused is tried again after a pause that doubles up to half a minute.
const PAUSE: Duration = Duration::from_secs(30);
/// A look at the whole kernel does not judge a pod so young: its plugin may be at work.
const YOUNG: Duration = Duration::from_secs(10);
/// A daemon that starts has looked and wired by then, if nothing keeps it.
const START: Duration = Duration::from_secs(2);

/// Who changed something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// The daemon, by this.
    Daemon(&'static str),
    /// Another program, in words.
    Other(&'static str),
    /// The ENI's link came or went.
    Link,
    /// The pod's own plugin.
    Plugin,
}

impl std::fmt::Display for By {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Daemon(what) => write!(f, "by the daemon's {what}"),
            Self::Other(what) => write!(f, "by another program: {what}"),
            Self::Link => f.write_str("since the ENI's link came or went"),
            Self::Plugin => f.write_str("by the pod's own plugin"),
        }
    }
}

/// A pod that is not served.
#[derive(Clone, Debug)]
struct Lame {
    /// Since somebody changed something about it last.
    since: Duration,
    lacks: BTreeSet<Lack>,
    why: By,
}

/// What is known of one node.
#[derive(Clone, Debug, Default)]
struct Watched {
    /// A daemon runs since then.
    up: Option<Duration>,
    /// It has wired the node in this run.
    wired: bool,
    /// It hears, or has an answer, only then.
    hears: Duration,
    /// Something that it asked for failed last.
    failed: Option<Duration>,
    /// When it had to look at the whole kernel: at its start, or after events were lost.
    unsure: Option<Duration>,
    /// When rules, tables or ENIs' links were last changed by others.
    disturbed: Option<Duration>,
    /// EC2 may have changed something since the last look.
    moved: bool,
    lame: BTreeMap<AttachmentKey, Lame>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    nodes: BTreeMap<String, Watched>,
    /// Which ENI of which node has a block, by EC2's word.
    homes: BTreeMap<IpNet, (String, Home)>,
    generation: Option<u64>,
    /// Addresses whose release a daemon has confirmed, by node, until they are told again.
    released: BTreeSet<(String, IpAddr)>,
    /// How long addresses rest on a node.
    pub(super) rests: BTreeMap<String, Duration>,
}

impl Watched {
    /// When all must be well again that others broke at `since`.
    fn due(&self, since: Duration, pod: &Living) -> Option<Duration> {
        let up = self.up?;
        let mut due = since.max(self.hears).max(up + START) + QUICK;
        if let Some(failed) = self.failed.filter(|at| *at + PAUSE >= since) {
            due = due.max(failed + PAUSE + QUICK);
        }
        // The look after that leaves a young pod out, and the next one finds it.
        if self
            .unsure
            .is_some_and(|at| at < pod.since + YOUNG && at + LOOK >= since)
        {
            due += LOOK;
        }
        Some(due)
    }
}

impl Watch {
    fn node(&mut self, node: &str) -> &mut Watched {
        if !self.nodes.contains_key(node) {
            self.nodes.insert(node.into(), Watched::default());
        }
        self.nodes.entry(node.into()).or_default()
    }

    /// A daemon starts, or is gone.
    pub(crate) fn daemon(&mut self, now: Duration, node: &str, runs: bool) {
        let watched = self.node(node);
        watched.up = runs.then_some(now);
        watched.unsure = watched.up;
        watched.wired = false;
        watched.failed = None;
    }

    /// What was sent to the daemon, or what it asked for, gets there at that time.
    pub(crate) fn hears(&mut self, node: &str, at: Duration) {
        let watched = self.node(node);
        watched.hears = watched.hears.max(at);
    }

    /// Something that the daemon asks for fails at that time.
    pub(crate) fn fails(&mut self, node: &str, at: Duration) {
        let watched = self.node(node);
        watched.failed = watched.failed.max(Some(at));
    }

    /// The daemon is told that events were lost.
    pub(crate) fn unsure(&mut self, node: &str, at: Duration) {
        let watched = self.node(node);
        watched.unsure = Some(at);
        watched.hears = watched.hears.max(at);
    }

    /// An apply of the engine has ended.
    pub(crate) fn applied(&mut self, now: Duration, node: &str, fine: bool) {
        let watched = self.node(node);
        if fine && !watched.wired {
            watched.wired = true;
            watched.hears = watched.hears.max(now);
        }
    }

    /// The ENI that has an address, if it is this node's.
    fn home(&self, node: &str, ip: IpAddr) -> Option<Home> {
        let lengths: &[u8] = match ip {
            IpAddr::V4(_) => &[32, 28],
            IpAddr::V6(_) => &[80, 128],
        };
        let nets = lengths.iter().filter_map(|len| IpNet::new(ip, *len).ok());
        let mut found = nets.filter_map(|net| self.homes.get(&net.trunc()));
        found.find(|(on, _)| on == node).map(|(_, home)| *home)
    }
}

/// The attachment that comes before all others.
const fn least() -> AttachmentKey {
    AttachmentKey {
        network: String::new(),
        container_id: String::new(),
        if_name: String::new(),
    }
}

/// Whether EC2 may have given or taken something on this node since the last look.
pub(crate) fn homes_moved(world: &World, node: &str) -> bool {
    let generation = Some(world.vpc().generation());
    if world.oracle().kernel.generation != generation {
        let enis = books::enis(world);
        let mut oracle = world.oracle();
        let watch = &mut oracle.kernel;
        watch.generation = generation;
        watch.homes = enis
            .iter()
            .filter_map(|eni| Some((eni, eni.node.clone()?)))
            .flat_map(|(eni, node)| {
                let home = Home {
                    mac: Mac(eni.mac),
                    first: eni.first,
                };
                eni.blocks.iter().map(move |b| (*b, (node.clone(), home)))
            })
            .collect();
        for watched in watch.nodes.values_mut() {
            watched.moved = true;
        }
    }
    std::mem::take(&mut world.oracle().kernel.node(node).moved)
}

impl Oracle {
    /// Looks at the pods that a change concerns. Answers those that are not served since.
    pub(crate) fn kernel_changed(
        &mut self,
        now: Duration,
        node: &str,
        tables: &Tables,
        dirty: &Dirty,
        by: By,
    ) -> Vec<AttachmentKey> {
        if dirty.all && matches!(by, By::Other(_) | By::Link) {
            self.kernel.node(node).disturbed = Some(now);
        }
        let mut news = Vec::new();
        let from = (node.to_owned(), least());
        let on_node = self
            .living
            .range(from..)
            .take_while(|((on, _), _)| on == node);
        let mut lame = std::mem::take(&mut self.kernel.node(node).lame);
        let mut unwitnessed = Vec::new();
        for ((_, sandbox), pod) in on_node {
            if !pod.wired || !dirty.concerns(&pod.ips, &pod.host_if) {
                continue;
            }
            let lacks = self.kernel.lacks(node, tables, pod);
            let before = lame.remove(sandbox);
            // Its lease is lost, and now the route that told of it.
            if pod.unstored
                && matches!(by, By::Other(_))
                && !tables.witnesses(&pod.ips, &pod.host_if)
            {
                unwitnessed.push((node.to_owned(), sandbox.clone()));
                continue;
            }
            if lacks.is_empty() {
                continue;
            }
            let had = before.as_ref().map(|lame| &lame.lacks);
            let new = lacks
                .iter()
                .find(|lack| !had.is_some_and(|had| had.iter().any(|one| one.is_like(lack))));
            if let Some(lack) = new {
                let words = format!("{sandbox} on {node} with {}: {lack}", list(&pod.ips));
                match by {
                    By::Daemon(what) => self.breaches.push(Breach {
                        at: now,
                        promise: Promise::DaemonBreaksNothing,
                        what: format!("{what}: {words}"),
                    }),
                    By::Plugin if !self.kernel.is_disturbed(now, node, pod) => {
                        self.breaches.push(Breach {
                            at: now,
                            promise: Promise::PodIsServed,
                            what: words,
                        });
                    }
                    _ => {}
                }
            }
            let fresh = before.is_none();
            let daemons = matches!(by, By::Daemon(_));
            let again = !daemons && (had != Some(&lacks) || matches!(by, By::Other(_)));
            let since = before.as_ref().map_or(now, |lame| lame.since);
            let why = before.map_or(by, |lame| lame.why);
            let one = Lame {
                since: if again { now } else { since },
                lacks,
                why: if again { by } else { why },
            };
            lame.insert(sandbox.clone(), one);
            if fresh {
                news.push(sandbox.clone());
            }
        }
        self.kernel.node(node).lame = lame;
        self.living.retain(|key, _| !unwitnessed.contains(key));
        news
    }

    /// When a pod that is not served must be; `None`: it is, or is no more, or that was a breach.
    pub(crate) fn repair_due(
        &mut self,
        now: Duration,
        node: &str,
        sandbox: &AttachmentKey,
    ) -> Option<Duration> {
        let key = (node.to_owned(), sandbox.clone());
        let pod = self.living.get(&key).filter(|pod| pod.wired && !pod.broken);
        let watched = self.kernel.nodes.get_mut(node)?;
        let Some(pod) = pod else {
            watched.lame.remove(sandbox);
            return None;
        };
        let lame = watched.lame.get(sandbox)?;
        let waits = lame
            .lacks
            .iter()
            .any(|lack| matches!(lack, Lack::NoEniLink(_)));
        let due = watched
            .due(lame.since, pod)
            .filter(|_| watched.wired && !waits);
        match due {
            // Nobody can, yet.
            None => Some(now + LOOK),
            Some(due) if due > now => Some(due),
            Some(_) => {
                let lacks: Vec<String> = lame.lacks.iter().map(ToString::to_string).collect();
                let what = format!(
                    "{sandbox} on {node} with {} is not served since {:?} ({}): {}",
                    list(&pod.ips),
                    lame.since,
                    lame.why,
                    lacks.join(", ")
                );
                watched.lame.remove(sandbox);
                self.breach(now, Promise::RepairedInTime, what);
                None
            }
        }
    }

    /// What the node lacks for an address that a pod is told now.
    pub(crate) fn unserved(
        &mut self,
        now: Duration,
        node: &str,
        tables: &Tables,
        ip: IpAddr,
    ) -> Option<Lack> {
        let home = self.kernel.home(node, ip);
        // What EC2 has is a promise of its own.
        home?;
        let lack = tables.path_lacks(ip, home).into_iter().next()?;
        let young = Living {
            since: now,
            ..Living::default()
        };
        (!self.kernel.is_disturbed(now, node, &young)).then_some(lack)
    }

    /// A daemon has confirmed the end of these addresses' pod.
    pub(crate) fn released(&mut self, node: &str, ips: &[IpAddr]) {
        let ips = ips.iter().map(|ip| (node.to_owned(), *ip));
        self.kernel.released.extend(ips);
    }

    /// A node's store has forgotten that.
    pub(super) fn forgot_releases(&mut self, node: &str) {
        self.kernel.released.retain(|(on, _)| on != node);
    }

    /// They are told again.
    pub(super) fn not_released(&mut self, node: &str, ips: &[IpAddr]) {
        for ip in ips {
            self.kernel.released.remove(&(node.to_owned(), *ip));
        }
    }

    /// A daemon asks the kernel to remove a link and the route of an address through it.
    pub(crate) fn sweeps(&mut self, now: Duration, node: &str, ip: IpAddr, host_if: &str) {
        let of_node = self.living.iter().filter(|((on, _), _)| on == node);
        // Of one whose lease is lost only its routes tell, which the adapter heeds.
        let robbed = of_node.filter(|(_, pod)| pod.host_if == host_if && !pod.unstored);
        let robbed: Vec<AttachmentKey> = robbed.map(|((_, sandbox), _)| sandbox.clone()).collect();
        for sandbox in robbed {
            let what = format!("{node} sweeps {host_if} (of {ip}), which {sandbox} has");
            self.breach(now, Promise::SweepsOnlyTheDead, what);
        }
    }

    /// A daemon asks the kernel to lead an address through a link.
    pub(crate) fn reroutes(&mut self, now: Duration, node: &str, ip: IpAddr, host_if: &str) {
        if self.kernel.released.contains(&(node.to_owned(), ip)) {
            let what = format!("{node} puts the route to {ip} through {host_if} back");
            self.breach(now, Promise::ReroutesOnlyTheLiving, what);
        }
    }

    /// How long addresses rest on a node.
    pub(crate) fn rests(&mut self, node: &str, cooldown: Duration) {
        self.kernel.rests.insert(node.into(), cooldown);
    }

    /// A daemon gives blocks back in which addresses rest, or an ENI with such.
    pub(super) fn gives_back(&mut self, now: Duration, node: &str, what: &str, nets: &[IpNet]) {
        let cooldown = self.kernel.rests.get(node).copied().unwrap_or_default();
        let rests = self.ended.iter().find(|((_, ip), (at, on))| {
            on == node && now < *at + cooldown && nets.iter().any(|net| net.contains(ip))
        });
        if let Some(((_, ip), (at, _))) = rests {
            let what = format!("{node}: {what} takes {ip}, which was freed at {at:?}");
            self.breach(now, Promise::CoolingIsNotUnassigned, what);
        }
    }
}

impl Watch {
    fn lacks(&self, node: &str, tables: &Tables, pod: &Living) -> BTreeSet<Lack> {
        if pod.broken {
            return BTreeSet::new();
        }
        let mut lacks = BTreeSet::new();
        for ip in &pod.ips {
            // A node-local address is on no ENI.
            if !is_local(*ip) {
                let home = self.home(node, *ip);
                lacks.extend(tables.path_lacks(*ip, home));
            }
            // Without its lease nobody knows where its route should lead.
            if !pod.unstored {
                lacks.extend(tables.pod_lacks(*ip, &pod.host_if));
            }
        }
        lacks
    }

    /// Whether others changed rules, tables or links so lately that the daemon may not have repaired it.
    fn is_disturbed(&self, now: Duration, node: &str, pod: &Living) -> bool {
        let Some(watched) = self.nodes.get(node) else {
            return false;
        };
        let due = |at| watched.due(at, pod).is_none_or(|due| due > now);
        watched.disturbed.is_some_and(due)
    }
}
