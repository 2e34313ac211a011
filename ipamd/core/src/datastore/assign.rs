//! Which address an attachment gets.
//!
//! Packing first: the fullest block of the fullest ENI, so that emptied blocks can be given back.
//! Among equals, the address that has been idle longest, so that a stale connection or neighbour
//! entry somewhere has had the most time to die. An IPv6 prefix is too large to be looked through: one
//! of its 2^48 addresses is drawn by a hash of the attachment and the time, so that one is not met
//! twice in the life of a node, also when the store has forgotten what was.

use super::Datastore;
use crate::wiring::{egress, host_if_name, host_if_prefix, pod_macs};
use crate::{
    AttachmentKey, Block, BlockState, Eni, EniHandle, Family, Lease, PodRef, Released, Timestamp,
};
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::net::{IpAddr, Ipv6Addr};
use mutant::mutant;
use sha1::{Digest, Sha1};

/// What an attachment asks for.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// For whom.
    pub key: &'a AttachmentKey,
    /// The pod.
    pub pod: &'a PodRef,
    /// One address of each, in this order; all or none.
    pub families: &'a [Family],
    /// One address more, of this node-local range ([`crate::wiring::egress`]).
    pub local: Option<Family>,
    /// Prefix of the host link's name.
    pub veth_prefix: &'a str,
    /// Whether the policy is for prefixes: blocks of the other kind are used last, so that they
    /// drain.
    pub prefixes: bool,
}

/// There is none to give, now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no free address of family {0:?}")]
pub struct AssignError(pub Family);

/// The better candidate is the smaller one. First: whether the kernel won't forget its last pod.
type Rank = (
    bool,
    BlockState,
    bool,
    Reverse<u32>,
    Reverse<u32>,
    u32,
    u32,
    Timestamp,
    IpAddr,
);

/// So many interfaces of one sandbox have names and places of their own.
const PLACES: u32 = 33;

/// The part of a host end's name that is not the prefix (see [`host_if_name`]).
fn digits(host_if: &str) -> &str {
    let prefix = host_if_prefix(host_if).unwrap_or_default();
    host_if.strip_prefix(prefix).unwrap_or(host_if)
}

impl Datastore {
    /// Leases addresses. The same key gets the same lease, whatever else it asks.
    ///
    /// # Errors
    /// No address of a family is free; nothing is changed then.
    pub fn assign(&mut self, request: &Request<'_>, now: Timestamp) -> Result<&Lease, AssignError> {
        if mutant!(
            "lease/same-key-same-lease",
            !self.leases.contains_key(request.key),
            true
        ) {
            let native = request
                .families
                .iter()
                .map(|&family| (family, self.pick(family, request, now)));
            let local = request
                .local
                .iter()
                .map(|&family| (family, self.pick_local(family, now)));
            let addresses = native
                .chain(local)
                .map(|(family, ip)| ip.ok_or(AssignError(family)))
                .collect::<Result<Vec<_>, _>>()?;
            let (host_mac, pod_mac) = pod_macs(request.key, now.0);
            self.insert_lease(Lease {
                key: request.key.clone(),
                pod: request.pod.clone(),
                addresses,
                host_if: self.free_host_if(request),
                host_mac,
                pod_mac,
                since: now,
            });
        }
        // Present: it was there, or has just been inserted.
        self.leases.get(request.key).ok_or(AssignError(Family::V4))
    }

    /// A further interface of the same sandbox gets a further name; a new sandbox of the same pod gets
    /// the pod's name again, as Calico expects.
    fn free_host_if(&self, request: &Request<'_>) -> String {
        let siblings: Vec<&Lease> = self
            .leases
            .values()
            .filter(|l| l.key.container_id == request.key.container_id)
            .collect();
        let name = |n| host_if_name(request.veth_prefix, request.pod, request.key, n);
        // A place is one attachment's, whatever the prefixes of their names are.
        let taken = |name: &str| {
            mutant!(
                "lease/one-link-per-interface",
                siblings.iter().any(|l| digits(&l.host_if) == digits(name)),
                false
            )
        };
        (0..PLACES)
            .map(name)
            .find(|name| !taken(name))
            .unwrap_or_else(|| name(PLACES))
    }

    /// The place of a lease among those of its sandbox: 0 is the first one's. It is in the name of the host's
    /// end, so that it does not change when others go.
    #[must_use]
    pub fn place(&self, lease: &Lease) -> u32 {
        let name = |n| host_if_name("", &lease.pod, &lease.key, n);
        let known = (0..=PLACES).find(|n| digits(&lease.host_if) == name(*n));
        match known {
            Some(place) if !lease.pod.name.is_empty() => place,
            _ => self.interfaces_before(lease),
        }
    }

    /// The prefixes of all leases' host ends.
    #[must_use]
    pub fn host_if_prefixes(&self) -> BTreeSet<&str> {
        let names = self.links.keys();
        names.filter_map(|name| host_if_prefix(name)).collect()
    }

    /// How many interfaces of the same sandbox are older than a lease's.
    fn interfaces_before(&self, lease: &Lease) -> u32 {
        let age = |l: &Lease| (l.since, l.key.if_name.clone(), l.key.network.clone());
        let older =
            |l: &&Lease| l.key.container_id == lease.key.container_id && age(l) < age(lease);
        u32::try_from(self.leases.values().filter(older).count()).unwrap_or(u32::MAX)
    }

    /// The best free address of a family.
    fn pick(&self, family: Family, request: &Request<'_>, now: Timestamp) -> Option<IpAddr> {
        let mut best: Option<Rank> = None;
        for eni in self.enis.values().filter(|eni| {
            mutant!(
                "lease/eni-serves",
                eni.serves(),
                eni.phase != crate::Phase::Detached
            )
        }) {
            let eni_used = self.used_on(eni);
            for (block, state) in &eni.blocks {
                if block.family() != family
                    || !self.leasable(
                        eni,
                        block,
                        mutant!(
                            "lease/block-is-not-lost",
                            *state,
                            if *state == BlockState::Lost {
                                BlockState::Confirmed
                            } else {
                                *state
                            }
                        ),
                    )
                {
                    continue;
                }
                let used = self.used.get(block).copied().unwrap_or(0);
                let wrong_kind = family == Family::V4
                    && mutant!(
                        "lease/wrong-kind-last",
                        (block.kind() == crate::BlockKind::Prefix) != request.prefixes,
                        (block.kind() == crate::BlockKind::Prefix) == request.prefixes
                    );
                let head = (
                    *state,
                    wrong_kind,
                    mutant!(
                        "lease/fullest-block-first",
                        Reverse(used),
                        Reverse(u32::MAX - used)
                    ),
                    Reverse(eni_used),
                    eni.card,
                    eni.device_index,
                );
                let worse = |b: Rank| !b.0 && (b.1, b.2, b.3, b.4, b.5, b.6) < head;
                if used >= block.capacity() || best.is_some_and(worse) {
                    continue;
                }
                let found = match family {
                    Family::V4 => {
                        let all = (0..block.capacity()).map_while(|n| block.nth(n));
                        self.longest_idle(all, now)
                    }
                    Family::V6 => self.draw(*block, request.key, now),
                };
                if let Some((stuck, idle_since, ip)) = found {
                    let rank = (
                        stuck, head.0, head.1, head.2, head.3, head.4, head.5, idle_since, ip,
                    );
                    best = best.map_or(Some(rank), |b| Some(b.min(rank)));
                }
            }
        }
        best.map(|rank| rank.8)
    }

    fn used_on(&self, eni: &Eni) -> u32 {
        // Either side may be the longer one; leases are counted per block with at least one.
        if eni.blocks.len() < self.used.len() {
            eni.blocks.keys().filter_map(|b| self.used.get(b)).sum()
        } else {
            self.used
                .iter()
                .filter(|(b, _)| eni.blocks.contains_key(b))
                .map(|(_, n)| n)
                .sum()
        }
    }

    pub(super) fn leasable(&self, eni: &Eni, block: &Block, state: BlockState) -> bool {
        mutant!(
            "lease/block-is-not-leaving",
            matches!(state, BlockState::Confirmed | BlockState::Unconfirmed),
            state != BlockState::Lost
        ) && block.is_pools()
            && (mutant!(
                "lease/block-is-wired",
                eni.primary || self.wired.contains(block),
                true
            ))
    }

    /// Never-used addresses count as idle since for ever; among equals the lowest.
    fn longest_idle(
        &self,
        among: impl Iterator<Item = IpAddr>,
        now: Timestamp,
    ) -> Option<(bool, Timestamp, IpAddr)> {
        type Idle = (bool, Timestamp, IpAddr);
        let better = |one: Idle, other: Idle| {
            mutant!("lease/longest-idle-in-a-prefix", one < other, one > other)
        };
        let mut best: Option<Idle> = None;
        for ip in among {
            let released = self.released.get(&ip);
            // Whether it is free does not matter then.
            let worse = |(r, best): (&Released, Idle)| !better((false, r.at, ip), best);
            if released.zip(best).is_some_and(worse) || !self.is_free_after(ip, released, now) {
                continue;
            }
            let Some(released) = released else {
                return Some((false, Timestamp(0), ip));
            };
            let stuck = mutant!("lease/stuck-address-last", self.is_stuck(ip), false);
            let candidate = (stuck, released.at, ip);
            if best.is_none_or(|best| better(candidate, best)) {
                best = Some(candidate);
            }
        }
        best
    }

    /// An address of an IPv6 prefix that nobody has, nor had of late.
    fn draw(
        &self,
        block: Block,
        key: &AttachmentKey,
        now: Timestamp,
    ) -> Option<(bool, Timestamp, IpAddr)> {
        /// By chance one is enough for more pods than a node can have.
        const TRIES: u32 = 64;
        let IpAddr::V6(base) = block.first() else {
            return None;
        };
        (0..TRIES)
            .map(|n| {
                let digest = Sha1::digest(mutant!(
                    "ipv6/drawn-anew",
                    format!("{key}@{}/{n}", now.0),
                    format!("{}/{n}", key.if_name)
                ));
                let six = digest.iter().take(6);
                six.fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte))
            })
            // The first of a network is every router's (RFC 4291 section 2.6.1).
            .filter(|bits| *bits != 0)
            .map(|bits| IpAddr::V6(Ipv6Addr::from(u128::from(base) | bits)))
            .find(|ip| self.is_free(*ip, now) && !self.released.contains_key(ip))
            .map(|ip| (false, Timestamp(0), ip))
    }

    /// The address of a node-local range that has been idle longest.
    fn pick_local(&self, family: Family, now: Timestamp) -> Option<IpAddr> {
        mutant!(
            "cooldown/node-local",
            self.longest_idle(egress::addresses(family), now)
                .map(|(_, _, ip)| ip),
            egress::addresses(family).find(|ip| !self.owners.contains_key(ip))
        )
    }

    /// Whether an address of a block may be leased: nobody has it, its cooldown is over, **and**
    /// the kernel has nothing of its last pod: no route, no link, no remembered connection.
    #[must_use]
    pub fn is_free(&self, ip: IpAddr, now: Timestamp) -> bool {
        self.is_free_after(ip, self.released.get(&ip), now)
    }

    /// The same of an address whose last release is at hand: pools and ranges are looked through.
    fn is_free_after(&self, ip: IpAddr, released: Option<&Released>, now: Timestamp) -> bool {
        let rests = |r: &Released| self.rests_until(r) > now;
        mutant!("cooldown/rests", !released.is_some_and(rests), true)
            && mutant!("lease/nobody-has-it", !self.owners.contains_key(&ip), true)
            && mutant!(
                "lease/no-route-names-it",
                !self.routed.contains_key(&ip),
                true
            )
            && mutant!(
                "cooldown/traces-are-gone",
                released.is_none() || !self.has_traces(ip),
                true
            )
    }

    /// Leases on an ENI.
    #[must_use]
    pub fn leases_on(&self, handle: EniHandle) -> u32 {
        self.enis.get(&handle).map_or(0, |eni| self.used_on(eni))
    }
}
