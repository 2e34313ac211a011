//! Counts of addresses by what can be done with them.

mod holders;

use super::Datastore;
use super::rest::Traces;
use crate::{Block, BlockState, Eni, Family, Timestamp};
use alloc::collections::BTreeMap;
use holders::{Counting, Holders};
use mutant::mutant;

/// Addresses of one block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockTally {
    /// Leased.
    pub used: u32,
    /// Released, not reusable yet.
    pub cooling: u32,
    /// The kernel uses them and no lease names them.
    pub held: u32,
    /// Past their cooldown, and the kernel is about to be asked to forget their last pods: free in a
    /// moment.
    pub unsettled: u32,
}

impl BlockTally {
    /// Whether nobody uses or used it of late: it can be given back.
    #[must_use]
    pub const fn idle(&self) -> bool {
        self.used == 0 && self.cooling == 0 && self.held == 0 && self.unsettled == 0
    }
}

/// Addresses of the whole pool, of one family: a pod has one of each, so sums of both would say
/// nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// In blocks that serve or will serve; each block capped as [`Block::capacity`] is.
    pub addresses: u32,
    /// Leased, inside those blocks.
    pub used: u32,
    /// See [`BlockTally::cooling`].
    pub cooling: u32,
    /// See [`BlockTally::held`].
    pub held: u32,
    /// See [`BlockTally::unsettled`].
    pub unsettled: u32,
    /// When the first of [`Tally::cooling`] has rested.
    pub cool_at: Option<Timestamp>,
    /// By block, of both families; blocks with nothing to count are absent.
    pub blocks: BTreeMap<Block, BlockTally>,
}

impl Tally {
    /// One block's counts.
    #[must_use]
    pub fn of(&self, block: &Block) -> BlockTally {
        self.blocks.get(block).copied().unwrap_or_default()
    }

    /// What can be leased.
    #[must_use]
    pub const fn free(&self) -> u32 {
        self.addresses
            .saturating_sub(self.used + self.cooling + self.held + self.unsettled)
    }
}

/// Whether a block is part of the pool's supply: given, not being given back, not lost.
#[must_use]
pub(crate) fn counts(eni: &Eni, state: BlockState) -> bool {
    use crate::Phase::{Attached, Created, Creating, Ready};
    mutant!(
        "tally/unmanaged-is-no-supply",
        eni.unmanaged.is_none() && !eni.excluded,
        eni.unmanaged.is_none()
    ) && matches!(eni.phase, Creating | Created | Attached | Ready)
        && matches!(state, BlockState::Confirmed | BlockState::Unconfirmed)
}

impl Datastore {
    /// Counts everything, now; the sums are of this family.
    #[must_use]
    pub fn tally(&self, family: Family, now: Timestamp) -> Tally {
        let mut tally = Tally::default();
        for eni in self.enis.values() {
            for (block, state) in &eni.blocks {
                if block.family() == family && block.is_pools() && counts(eni, *state) {
                    tally.addresses = tally.addresses.saturating_add(block.capacity());
                }
            }
        }
        let holders = Holders::of(self);
        let mut counting = Counting::new(&holders, family, tally);
        for (block, leases) in &self.used {
            if let Some(holder) = holders.holder(*block) {
                counting.add(holder, *leases, |t| &mut t.used);
            }
        }
        // In the order of addresses, as are those of `released`.
        let mut traces = self.traces.iter().peekable();
        for (ip, released) in &self.released {
            let rested = released.at + self.cooldown;
            if rested > now {
                mutant!(
                    "tally/cooling-is-not-free",
                    if counting.count(*ip, |t| &mut t.cooling) {
                        let first = counting.tally.cool_at;
                        counting.tally.cool_at = first.into_iter().chain([rested]).min();
                    },
                    ()
                );
            } else if !self.strays.contains(ip) {
                while traces.next_if(|(at, _)| *at < ip).is_some() {}
                let trace = traces.next_if(|(at, _)| *at == ip).map(|(_, trace)| *trace);
                if trace == Some(Traces::Link) {
                    counting.count(*ip, |t| &mut t.held);
                } else if Traces::may_be(trace) {
                    mutant!(
                        "tally/unsettled-is-not-free",
                        counting.count(*ip, |t| &mut t.unsettled),
                        false
                    );
                }
            }
        }
        for ip in &self.strays {
            if self.cooling_until(*ip, now).is_none() {
                mutant!(
                    "tally/held-is-not-free",
                    counting.count(*ip, |t| &mut t.held),
                    false
                );
            }
        }
        counting.done()
    }

    /// Addresses of a family that the pool has, that no pod has, and that can't be leased yet, since the host does not serve
    /// them: their ENI is on its way in, or not wired.
    #[must_use]
    pub fn unserved(&self, family: Family) -> u32 {
        let blocks = |eni: &Eni| {
            let of = |(block, state): &(&Block, &BlockState)| {
                let ours = block.family() == family && block.is_pools();
                let served = eni.serves() && self.leasable(eni, block, **state);
                ours && counts(eni, **state) && !served
            };
            let blocks = eni.blocks.iter().filter(of);
            blocks.fold(0_u32, |sum, (block, _)| {
                let used = self.used.get(block).copied().unwrap_or(0);
                sum.saturating_add(block.capacity().saturating_sub(used))
            })
        };
        let enis = self.enis.values();
        enis.map(blocks).fold(0, u32::saturating_add)
    }
}
