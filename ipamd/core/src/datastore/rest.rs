//! Between two pods: when a released address may be given again.
//!
//! It rests for the cooldown, and for as long as the kernel has anything of its last pod: the host
//! route, the veth, remembered connections (conntrack). The first two are the kernel's word; the last
//! is removed by whoever carries out [`Datastore::to_forget`], in batches, near the cooldown's end, so
//! that no ADD waits for it. Nothing of this is stored but the time of release: after a restart an
//! address is looked at anew before it is given.

use super::{Datastore, Touched};
use crate::wiring::egress;
use crate::{Block, Released, Timestamp};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;
use mutant::mutant;

/// A plugin's own DEL takes the route away within milliseconds, and the runtime the pod's namespace
/// soon after; what is there after this long has been left.
const LEFTOVER_AGE: Duration = Duration::from_secs(10);

/// Connections are forgotten this long before the cooldown ends: all of that time are one batch.
pub const FORGET_LEAD: Duration = Duration::from_secs(1);

/// What was found in the kernel of a released address's last pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traces {
    /// Nothing, or nothing any more.
    Gone,
    /// Its veth: it will go, or be swept.
    Link,
    /// The kernel refuses to forget, again and again: given if there is no other address.
    Stuck,
}

impl Traces {
    /// Whether the kernel may have something of a released address's last pod, after what was found.
    pub(super) fn may_be(found: Option<Self>) -> bool {
        !matches!(found, Some(Self::Gone | Self::Stuck))
    }
}

/// An address of an IPv6 prefix: drawn by chance, and never met again.
fn is_drawn(ip: IpAddr) -> bool {
    ip.is_ipv6() && !egress::is_local(ip)
}

/// A released address whose last pod's traces are to be looked for and removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// Which.
    pub address: IpAddr,
    /// Tells this release from a later one.
    pub released_at: Timestamp,
    /// The host's end of its veth; `None` if a newer pod has a link of this name.
    pub host_if: Option<String>,
}

impl Datastore {
    /// Whether the kernel routes an address of the block to a pod.
    pub(crate) fn routes_into(&self, block: &Block) -> bool {
        self.routed.keys().any(|ip| block.contains(*ip))
    }

    /// The kernel routes `ip` to a pod's link.
    pub fn set_routed(&mut self, ip: IpAddr, host_if: String) {
        self.traces.remove(&ip);
        self.routed.insert(ip, host_if);
        self.note_stray(ip);
    }

    /// The kernel's routes or the leases have changed at this address.
    pub(super) fn note_stray(&mut self, ip: IpAddr) {
        if self.routed.contains_key(&ip) && !self.owners.contains_key(&ip) {
            self.strays.insert(ip);
        } else {
            self.strays.remove(&ip);
        }
    }

    /// The kernel no longer does. An address that no lease named rests from now on.
    pub fn clear_routed(&mut self, ip: IpAddr, now: Timestamp) {
        if let Some(host_if) = self.routed.remove(&ip) {
            self.strays.remove(&ip);
            self.rest_if_unowned(ip, &host_if, now);
        }
    }

    /// A new look at the kernel replaces all that was known of it.
    pub fn replace_routed(&mut self, routed: BTreeMap<IpAddr, String>, now: Timestamp) {
        let before = mutant!(
            "kernel/a-new-look-is-believed",
            core::mem::replace(&mut self.routed, routed),
            {
                let old = self.routed.clone();
                self.routed.extend(routed);
                old
            }
        );
        let strays = self
            .routed
            .keys()
            .filter(|ip| !self.owners.contains_key(*ip));
        self.strays = strays.copied().collect();
        for (ip, host_if) in before {
            if !self.routed.contains_key(&ip) {
                self.rest_if_unowned(ip, &host_if, now);
            }
        }
        self.traces.retain(|_, traces| *traces != Traces::Link);
    }

    fn rest_if_unowned(&mut self, ip: IpAddr, host_if: &str, now: Timestamp) {
        if !self.owners.contains_key(&ip) && !self.released.contains_key(&ip) {
            mutant!(
                "cooldown/of-what-no-lease-named",
                self.rest(ip, host_if, now),
                ()
            );
            self.unasked.insert(ip);
        }
    }

    /// A pod's link went: what waited for that is looked at again. The kernel says nothing of the IPv4
    /// routes that go with a link.
    pub fn link_gone(&mut self, host_if: &str, now: Timestamp) {
        let on_link = self.routed.iter().filter(|(_, dev)| *dev == host_if);
        for ip in on_link.map(|(ip, _)| *ip).collect::<Vec<_>>() {
            mutant!(
                "kernel/routes-go-with-their-link",
                self.clear_routed(ip, now),
                ()
            );
        }
        self.look_again(host_if);
    }

    /// What was found on a link of this name has changed since: those who had it are looked at anew. Says
    /// nothing of routes, so it may be told late, when a newer pod has a link of the same name.
    pub fn look_again(&mut self, host_if: &str) {
        let released = &self.released;
        self.traces.retain(|ip, traces| {
            *traces != Traces::Link
                || mutant!(
                    "kernel/link-that-goes-frees",
                    released.get(ip).is_none_or(|r| r.host_if != host_if),
                    true
                )
        });
    }

    /// A sweep has removed what the address's last pod had left, or found nothing of it. This is said of the
    /// address: when the sweep's answer comes, a newer pod may have a link of the same name, whose routes
    /// stand.
    pub fn swept(&mut self, ip: IpAddr, host_if: &str, now: Timestamp) {
        let of_last_pod = self.released.get(&ip).is_some_and(|r| r.host_if == host_if);
        if !of_last_pod || self.owners.contains_key(&ip) {
            return;
        }
        if self.routed.get(&ip).is_some_and(|dev| dev == host_if) {
            self.clear_routed(ip, now);
        }
        if self.is_linked(ip) {
            self.traces.remove(&ip);
        }
    }

    /// A DEL that names an address which no lease does: it rests from now on, and is free when the
    /// kernel lets go of it. Its lease, and even its block, may have been lost with a part of the
    /// store. Answers the link through which the kernel uses it, if it does.
    pub fn release_unowned(&mut self, ip: IpAddr, now: Timestamp) -> Option<String> {
        if mutant!(
            "release/only-what-no-lease-names",
            self.owners.contains_key(&ip),
            false
        ) {
            return None;
        }
        let host_if = self.routed.get(&ip).cloned();
        self.rest(ip, host_if.as_deref().unwrap_or_default(), now);
        host_if
    }

    /// Its block may not be known yet (again): EC2's word on it comes later.
    pub(super) fn rest(&mut self, ip: IpAddr, host_if: &str, now: Timestamp) {
        let host_if = host_if.into();
        self.released.insert(
            ip,
            mutant!(
                "cooldown/begins-at-release",
                Released { at: now, host_if },
                Released {
                    at: now - self.cooldown,
                    host_if
                }
            ),
        );
        self.traces.remove(&ip);
        self.unasked.remove(&ip);
        self.touch(Touched::Released(ip));
    }

    /// Addresses outside every block are remembered only as long as they rest and the kernel may have
    /// something of their last pods: EC2 may give them to this node again. So are those of IPv6
    /// prefixes, which are never met again: a list of them would grow for ever.
    pub(crate) fn forget_strangers(&mut self, now: Timestamp) {
        self.forget_rested(now, |store, ip| {
            mutant!(
                "ipv6/list-of-released-ends",
                is_drawn(ip) || !egress::is_local(ip) && store.block_of(ip).is_none(),
                false
            )
        });
    }

    /// What was released of IPv6 prefixes and needs no thought any more.
    pub(super) fn forget_drawn(&mut self, now: Timestamp) {
        self.forget_rested(now, |_, ip| is_drawn(ip));
    }

    fn forget_rested(&mut self, now: Timestamp, which: impl Fn(&Self, IpAddr) -> bool) {
        let over = |ip: &IpAddr| {
            let rests = mutant!(
                "release/strangers-rest",
                self.cooling_until(*ip, now).is_some() || self.has_traces(*ip),
                false
            );
            !rests && which(self, *ip)
        };
        let gone: Vec<IpAddr> = self.released.keys().copied().filter(over).collect();
        for ip in gone {
            self.released.remove(&ip);
            self.traces.remove(&ip);
            self.unasked.remove(&ip);
            self.touch(Touched::Released(ip));
        }
    }

    /// When an address's cooldown ends, if it has one that is not over.
    #[must_use]
    pub fn cooling_until(&self, ip: IpAddr, now: Timestamp) -> Option<Timestamp> {
        let until = self.rests_until(self.released.get(&ip)?);
        (until > now).then_some(until)
    }

    pub(super) fn rests_until(&self, released: &Released) -> Timestamp {
        released.at
            + mutant!(
                "cooldown/ends-with-the-period",
                self.cooldown,
                self.cooldown / 2
            )
    }

    /// When the first cooling address is free.
    #[must_use]
    pub fn next_cool(&self, now: Timestamp) -> Option<Timestamp> {
        self.released
            .values()
            .map(|r| r.at + self.cooldown)
            .filter(|until| *until > now)
            .min()
    }

    /// Whether the kernel may have something of the address's last pod.
    pub(super) fn has_traces(&self, ip: IpAddr) -> bool {
        self.released.contains_key(&ip) && Traces::may_be(self.traces.get(&ip).copied())
    }

    /// Whether the address's last pod's link was there at the last look.
    pub(super) fn is_linked(&self, ip: IpAddr) -> bool {
        self.traces.get(&ip) == Some(&Traces::Link)
    }

    /// Whether the kernel refuses to forget the address's last pod ([`Datastore::set_stuck`]).
    #[must_use]
    pub fn is_stuck(&self, ip: IpAddr) -> bool {
        self.traces.get(&ip) == Some(&Traces::Stuck)
    }

    /// Every address of which the kernel refuses to forget the last pod; nearly always none.
    #[must_use]
    pub fn stuck(&self) -> Vec<IpAddr> {
        let stuck = self.traces.iter().filter(|(_, t)| **t == Traces::Stuck);
        stuck.map(|(ip, _)| *ip).collect()
    }

    /// What is to be forgotten now: addresses whose cooldown is (nearly) over and that no route names.
    #[must_use]
    pub fn to_forget(&self, now: Timestamp) -> Vec<Trace> {
        self.forgettable()
            .filter(|(_, r)| self.forget_at(r) <= now)
            .map(|(ip, r)| Trace {
                address: *ip,
                released_at: r.at,
                host_if: mutant!(
                    "kernel/namesakes-link-is-not-the-last-pods",
                    self.last_pods(r),
                    true
                )
                .then(|| r.host_if.clone()),
            })
            .collect()
    }

    /// When there is something to be forgotten next.
    #[must_use]
    pub fn next_forget(&self) -> Option<Timestamp> {
        self.forgettable().map(|(_, r)| self.forget_at(r)).min()
    }

    fn forgettable(&self) -> impl Iterator<Item = (&IpAddr, &Released)> {
        self.released.iter().filter(|(ip, _)| {
            !self.strays.contains(*ip)
                && !matches!(self.traces.get(*ip), Some(Traces::Gone | Traces::Link))
        })
    }

    fn forget_at(&self, released: &Released) -> Timestamp {
        released.at
            + mutant!(
                "cooldown/forgotten-before-it-ends",
                self.cooldown.saturating_sub(FORGET_LEAD),
                self.cooldown + FORGET_LEAD
            )
    }

    /// Whether a link of this name can only be the last pod's: a new sandbox of the same pod has a link
    /// of the same name.
    fn last_pods(&self, released: &Released) -> bool {
        !self.links.contains_key(&released.host_if)
    }

    /// The last pods' links of these are still there ([`Datastore::link_gone`] ends it).
    pub fn set_linked(&mut self, traces: &[Trace], linked: &[IpAddr]) {
        let linked = traces.iter().filter(|t| linked.contains(&t.address));
        self.found(linked, Traces::Link);
    }

    /// The kernel has nothing more of these, but for those whose link is there.
    pub fn forgotten(&mut self, traces: &[Trace]) {
        self.found(traces.iter(), Traces::Gone);
    }

    /// The kernel refuses to forget these, again and again. They are given only if there is no other
    /// address: a pod that may meet a stale connection is better than a pod without an address. Not
    /// those whose link is there.
    pub fn set_stuck(&mut self, traces: &[Trace]) {
        self.found(traces.iter(), Traces::Stuck);
    }

    fn found<'a>(&mut self, about: impl Iterator<Item = &'a Trace>, what: Traces) {
        for trace in about {
            if self.is_of_now(trace)
                && mutant!(
                    "cooldown/a-link-outranks",
                    self.traces.get(&trace.address) != Some(&Traces::Link),
                    true
                )
            {
                self.traces.insert(trace.address, what);
            }
        }
    }

    /// Not if the address was leased meanwhile, or released once more, or is routed again.
    fn is_of_now(&self, trace: &Trace) -> bool {
        let same = |r: &Released| {
            mutant!(
                "cooldown/look-is-of-this-release",
                r.at == trace.released_at,
                r.at >= trace.released_at
            )
        };
        self.released.get(&trace.address).is_some_and(same)
            && mutant!(
                "cooldown/routed-is-not-forgotten",
                !self.routed.contains_key(&trace.address),
                true
            )
    }

    /// Addresses that were released by a DEL, are past cooldown, and that the kernel still has on the same
    /// link: what a plugin or a runtime that died left behind.
    #[must_use]
    pub fn leftovers(&self, now: Timestamp) -> Vec<(IpAddr, String)> {
        self.left_behind()
            .filter(|(_, r)| {
                mutant!(
                    "sweep/never",
                    self.leftover_at(r) <= now,
                    false && self.leftover_at(r) <= now
                )
            })
            .map(|(ip, r)| (*ip, r.host_if.clone()))
            .collect()
    }

    /// When something will have been left behind, if nobody takes it away.
    #[must_use]
    pub fn next_leftover(&self) -> Option<Timestamp> {
        self.left_behind().map(|(_, r)| self.leftover_at(r)).min()
    }

    fn leftover_at(&self, released: &Released) -> Timestamp {
        released.at
            + mutant!(
                "sweep/leaves-plugins-time",
                self.cooldown.max(LEFTOVER_AGE),
                Duration::ZERO
            )
    }

    fn left_behind(&self) -> impl Iterator<Item = (&IpAddr, &Released)> {
        self.released.iter().filter(|(ip, r)| {
            let routed = self.routed.get(*ip).is_some_and(|dev| *dev == r.host_if);
            // A look at every lease comes last: most released addresses have left nothing.
            (routed || self.traces.get(*ip) == Some(&Traces::Link))
                && mutant!(
                    "sweep/only-what-this-run-released",
                    r.at >= self.sure_since,
                    true
                )
                && !self.unasked.contains(*ip)
                && mutant!("sweep/living-namesake", self.last_pods(r), true)
        })
    }
}
