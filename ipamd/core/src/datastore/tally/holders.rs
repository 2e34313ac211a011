//! Which block holds an address, for a look at many addresses: [`Datastore::block_of`] goes through all
//! ENIs for each.

use super::{BlockTally, Datastore, Tally, counts};
use crate::{Block, BlockState, EniHandle, Family};
use alloc::vec::Vec;
use core::net::IpAddr;
use mutant::mutant;

/// One block, and who holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    pub(super) block: Block,
    /// EC2 took it away: whoever else holds the same comes first.
    lost: bool,
    pub(super) handle: EniHandle,
    /// It is part of the pool's supply.
    supplies: bool,
}

/// Every block of a datastore with its holder, in the order of blocks.
#[derive(Debug)]
pub(super) struct Holders(Vec<Holder>);

impl Holders {
    pub(super) fn of(store: &Datastore) -> Self {
        let mut all = Vec::new();
        for eni in store.enis.values() {
            all.extend(eni.blocks.iter().map(|(block, state)| Holder {
                block: *block,
                lost: *state == BlockState::Lost,
                handle: eni.handle,
                supplies: block.is_pools() && counts(eni, *state),
            }));
        }
        all.sort_by_key(|holder| (holder.block, holder.rank()));
        all.dedup_by_key(|holder| holder.block);
        Self(all)
    }

    /// The holder of a block.
    pub(super) fn holder(&self, block: Block) -> Option<Holder> {
        let at = self.0.binary_search_by_key(&block, |h| h.block).ok()?;
        self.0.get(at).copied()
    }

    /// As [`Datastore::block_of`].
    pub(super) fn around(&self, ip: IpAddr) -> Option<Holder> {
        let single = self.holder(Block::address(ip));
        let prefix = self.holder(Block::prefix_of(ip));
        let both = [single, prefix].into_iter().flatten();
        both.min_by_key(Holder::rank)
    }
}

impl Holder {
    const fn rank(&self) -> (bool, EniHandle) {
        (self.lost, self.handle)
    }
}

/// Counts into a tally. Addresses of one block that come one after the other cost one entry.
#[derive(Debug)]
pub(super) struct Counting<'a> {
    holders: &'a Holders,
    family: Family,
    at: Option<Holder>,
    /// Of the block at which it is.
    counts: BlockTally,
    pub(super) tally: Tally,
}

impl<'a> Counting<'a> {
    /// Adds to `tally`, whose sums are of this family.
    pub(super) fn new(holders: &'a Holders, family: Family, tally: Tally) -> Self {
        Self {
            holders,
            family,
            at: None,
            counts: BlockTally::default(),
            tally,
        }
    }

    /// Counts one address; answers whether it is in the family's supply.
    pub(super) fn count(
        &mut self,
        ip: IpAddr,
        field: impl Fn(&mut BlockTally) -> &mut u32,
    ) -> bool {
        let Some(holder) = self.holders.around(ip) else {
            return false;
        };
        self.add(holder, 1, field);
        self.sums(&holder)
    }

    /// Counts so many addresses of one block.
    pub(super) fn add(
        &mut self,
        holder: Holder,
        addresses: u32,
        field: impl Fn(&mut BlockTally) -> &mut u32,
    ) {
        if self.at.is_some_and(|at| at.block != holder.block) {
            self.settle();
        }
        self.at = Some(holder);
        *field(&mut self.counts) += addresses;
    }

    fn sums(&self, holder: &Holder) -> bool {
        holder.supplies && holder.block.family() == self.family
    }

    /// Writes the counts of a block down.
    fn settle(&mut self) {
        let Some(holder) = self.at.take() else { return };
        let some = core::mem::take(&mut self.counts);
        let block = self.tally.blocks.entry(holder.block).or_default();
        block.used += some.used;
        block.cooling += some.cooling;
        block.held += some.held;
        block.unsettled += some.unsettled;
        if self.sums(&holder) {
            let tally = &mut self.tally;
            tally.used += mutant!("tally/used-is-not-free", some.used, 0);
            tally.cooling += some.cooling;
            tally.held += some.held;
            tally.unsettled += some.unsettled;
        }
    }

    /// The tally with all that was counted.
    pub(super) fn done(mut self) -> Tally {
        self.settle();
        self.tally
    }
}

#[cfg(test)]
mod tests;
