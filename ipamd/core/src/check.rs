//! What must hold of every datastore, whatever happened: a list of what does not.

use crate::datastore::Datastore;
use crate::{AttachmentKey, Block, BlockState, EniHandle, Phase, Timestamp};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use mutant::mutant;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Two pods with one address.
    #[error("{0} is leased to both {1} and {2}")]
    DoubleLease(IpAddr, AttachmentKey, AttachmentKey),
    /// The index of owners disagrees with the leases.
    #[error("the index of owners is wrong about {0}")]
    OwnerIndex(IpAddr),
    /// The index of addresses that the kernel routes and no lease has disagrees with both.
    #[error("the index of strays is wrong about {0}")]
    StrayIndex(IpAddr),
    /// The index of pods' links disagrees with the leases.
    #[error("the index of links is wrong about {0}")]
    LinkIndex(String),
    /// A pod has an interface's own address.
    #[error("{0}, the primary address of an ENI, is leased to {1}")]
    PrimaryLeased(IpAddr, AttachmentKey),
    /// A block holds an interface's own address.
    #[error("block {0} holds the primary address of an ENI")]
    PrimaryInBlock(Block),
    /// One block on two ENIs, or a single address inside a prefix.
    #[error("{0} overlaps {1}")]
    Overlap(Block, Block),
    /// The count of leases per block is wrong.
    #[error("block {0} has {1} leases, counted {2}")]
    Count(Block, u32, u32),
    /// A leased address is listed as released.
    #[error("{0} is both leased and released")]
    LeasedAndReleased(IpAddr),
    /// An ENI has no id although its phase says that EC2 made it.
    #[error("ENI {0:?} is {1:?} without an id")]
    NoId(EniHandle, Phase),
    /// Two ENIs at one place of a card.
    #[error("ENIs {0:?} and {1:?} are both at card {2} index {3}")]
    SamePlace(EniHandle, EniHandle, u32, u32),
}

/// Every broken invariant; empty if all is well.
#[must_use]
pub fn check(store: &Datastore, _now: Timestamp) -> Vec<Violation> {
    let mut found = Vec::new();
    leases(store, &mut found);
    links(store, &mut found);
    strays(store, &mut found);
    blocks(store, &mut found);
    enis(store, &mut found);
    found
}

fn leases(store: &Datastore, found: &mut Vec<Violation>) {
    let primaries: BTreeSet<IpAddr> = store
        .enis
        .values()
        .filter_map(crate::Eni::own_address)
        .collect();
    let mut owners: BTreeMap<IpAddr, &AttachmentKey> = BTreeMap::new();
    for lease in store.leases.values() {
        for ip in &lease.addresses {
            if let Some(other) = mutant!(
                "judge/check-double-lease",
                owners.insert(*ip, &lease.key),
                owners.insert(*ip, &lease.key).filter(|_| false)
            ) {
                found.push(Violation::DoubleLease(
                    *ip,
                    other.clone(),
                    lease.key.clone(),
                ));
            }
            let taken = || store.block_of(*ip).is_none_or(|(_, b)| lost(store, &b));
            if primaries.contains(ip) && !taken() {
                found.push(Violation::PrimaryLeased(*ip, lease.key.clone()));
            }
            if store.owners.get(ip) != Some(&lease.key) {
                found.push(Violation::OwnerIndex(*ip));
            }
            if store.released.contains_key(ip) {
                found.push(Violation::LeasedAndReleased(*ip));
            }
        }
    }
    found.extend(
        store
            .owners
            .keys()
            .filter(|ip| !owners.contains_key(*ip))
            .map(|ip| Violation::OwnerIndex(*ip)),
    );
}

fn strays(store: &Datastore, found: &mut Vec<Violation>) {
    let routed = store.routed.keys().copied();
    let strays: BTreeSet<IpAddr> = routed.filter(|ip| !store.owners.contains_key(ip)).collect();
    let wrong = strays.symmetric_difference(&store.strays);
    found.extend(wrong.map(|ip| Violation::StrayIndex(*ip)));
}

fn links(store: &Datastore, found: &mut Vec<Violation>) {
    let mut links: BTreeMap<&str, u32> = BTreeMap::new();
    for lease in store.leases.values() {
        *links.entry(&lease.host_if).or_default() += 1;
    }
    let counted = store.links.iter().map(|(name, n)| (name.as_str(), *n));
    if counted.eq(links.iter().map(|(name, n)| (*name, *n))) {
        return;
    }
    let names = links.keys().copied();
    let names: BTreeSet<&str> = names
        .chain(store.links.keys().map(String::as_str))
        .collect();
    let wrong = |name: &&str| links.get(name) != store.links.get(*name);
    found.extend(
        names
            .into_iter()
            .filter(wrong)
            .map(|name| Violation::LinkIndex(name.into())),
    );
}

fn blocks(store: &Datastore, found: &mut Vec<Violation>) {
    let standing = standing(store);
    let lost = |b: &Block| standing.get(b) == Some(&Standing::Lost);
    let mut all: Vec<Block> = store
        .enis
        .values()
        .flat_map(|e| e.blocks.keys().copied())
        .collect();
    all.sort();
    for pair in all.windows(2) {
        if pair[0].contains(pair[1].first()) && !pair.iter().any(lost) {
            mutant!(
                "judge/check-overlap",
                found.push(Violation::Overlap(pair[0], pair[1])),
                ()
            );
        }
    }
    let mut in_block: BTreeMap<Block, u32> = BTreeMap::new();
    for ip in store.owners.keys() {
        // Blocks have two sizes; one that EC2 took away may overlap what it gave since.
        let sizes = [Block::address(*ip), Block::prefix_of(*ip)];
        let here = sizes.iter().filter_map(|b| Some((standing.get(b)?, b)));
        if let Some((_, block)) = here.min_by_key(|(standing, _)| **standing) {
            *in_block.entry(*block).or_default() += 1;
        }
    }
    for block in &all {
        let holds = |e: &crate::Eni| e.own_address().is_some_and(|ip| block.contains(ip));
        // What EC2 took away it may have given as anything.
        if !lost(block) && store.enis.values().any(holds) {
            found.push(Violation::PrimaryInBlock(*block));
        }
        let leased = in_block.get(block).copied().unwrap_or(0);
        let counted = store.used.get(block).copied().unwrap_or(0);
        if mutant!(
            "judge/check-count",
            leased != counted,
            leased > counted.max(leased)
        ) {
            found.push(Violation::Count(*block, leased, counted));
        }
    }
}

/// What is known of a block by any ENI; the worst comes last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Given,
    Lost,
}

fn standing(store: &Datastore) -> BTreeMap<Block, Standing> {
    let mut all = BTreeMap::new();
    for (block, state) in store.enis.values().flat_map(|e| &e.blocks) {
        let here = match state {
            BlockState::Lost => Standing::Lost,
            _ => Standing::Given,
        };
        let worst = all.entry(*block).or_insert(here);
        *worst = here.max(*worst);
    }
    all
}

fn lost(store: &Datastore, block: &Block) -> bool {
    let on = |e: &crate::Eni| e.blocks.get(block) == Some(&BlockState::Lost);
    store.enis.values().any(on)
}

fn enis(store: &Datastore, found: &mut Vec<Violation>) {
    let mut places: BTreeMap<(u32, u32), EniHandle> = BTreeMap::new();
    for eni in store.enis.values() {
        if eni.id.is_none() && eni.phase != Phase::Creating {
            found.push(Violation::NoId(eni.handle, eni.phase));
        }
        let attached = mutant!(
            "judge/check-same-place",
            matches!(eni.phase, Phase::Attached | Phase::Ready),
            matches!(eni.phase, Phase::Creating)
        );
        if attached && let Some(other) = places.insert((eni.card, eni.device_index), eni.handle) {
            found.push(Violation::SamePlace(
                other,
                eni.handle,
                eni.card,
                eni.device_index,
            ));
        }
    }
}

#[cfg(test)]
mod tests;
