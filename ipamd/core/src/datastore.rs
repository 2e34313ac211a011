//! Who has which address: ENIs, their blocks, leases, and addresses that may not be given yet.
//!
//! Owns every fact about addresses; decides which address an attachment gets ([`assign`]) and
//! nothing else. Changes are remembered ([`Datastore::take_touched`]) for whoever makes them durable.

mod assign;
mod primary;
mod ready;
mod rest;
mod tally;

pub use assign::{AssignError, Request};
use mutant::mutant;
pub use rest::{FORGET_LEAD, Trace};
pub(crate) use tally::counts;
pub use tally::{BlockTally, Tally};

use crate::{
    AttachmentKey, Block, BlockState, Eni, EniHandle, EniId, Lease, Mac, Phase, Released, Timestamp,
};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use core::time::Duration;
use ipnet::IpNet;
use rest::Traces;

/// A record that changed since the last [`Datastore::take_touched`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    /// [`Datastore::lease`] tells its new value, or that it ended.
    Lease(AttachmentKey),
    /// [`Datastore::released`] tells.
    Released(IpAddr),
    /// [`Datastore::eni`] tells.
    Eni(EniHandle),
}

/// Every fact about this node's addresses.
#[derive(Clone, Debug, Default)]
pub struct Datastore {
    pub(crate) enis: BTreeMap<EniHandle, Eni>,
    /// IMDS's word for which ENI is the node's own; not stored.
    primary_mac: Option<Mac>,
    pub(crate) leases: BTreeMap<AttachmentKey, Lease>,
    /// Leased address -> whose. The one place that makes an address unique.
    pub(crate) owners: BTreeMap<IpAddr, AttachmentKey>,
    /// Leases per host link, likewise: each released address is asked for its link at each turn.
    pub(crate) links: BTreeMap<String, u32>,
    /// Leased addresses per block, kept with `owners`: a lease must not cost a look at all others.
    pub(crate) used: BTreeMap<Block, u32>,
    /// The last release of each free address of the pool: cooldown, and longest-idle-first after it.
    pub(crate) released: BTreeMap<IpAddr, Released>,
    /// What the kernel routes to pods: address -> host link. A witness, not a record of ours.
    pub(crate) routed: BTreeMap<IpAddr, String>,
    /// Those of `routed` that no lease has, kept with both: each turn counts them.
    pub(crate) strays: BTreeSet<IpAddr>,
    /// What the kernel still has of released addresses' last pods; unknown if absent. Not stored: after
    /// a restart it is looked for anew.
    traces: BTreeMap<IpAddr, Traces>,
    /// Released addresses of which the kernel alone has told that their pods let go of them: no DEL has,
    /// and whatever is left of a pod may be a living one's.
    unasked: BTreeSet<IpAddr>,
    /// Blocks of secondary ENIs that the host's rules and tables already serve.
    pub(crate) wired: BTreeSet<Block>,
    /// `IP_COOLDOWN_PERIOD`
    pub(crate) cooldown: Duration,
    next_handle: u64,
    touched: BTreeSet<Touched>,
    /// Earlier releases are the word of an older store, which may have forgotten a later lease.
    sure_since: Timestamp,
}

impl Datastore {
    /// An empty store.
    #[must_use]
    pub fn new(cooldown: Duration) -> Self {
        Self {
            cooldown,
            ..Self::default()
        }
    }

    /// What was stored, as the state of this node. ENIs that were never created (no id) keep
    /// their intent: the client token makes it safe to send again.
    #[must_use]
    pub fn restore(
        cooldown: Duration,
        enis: Vec<Eni>,
        leases: Vec<Lease>,
        released: BTreeMap<IpAddr, Released>,
    ) -> Self {
        let mut store = Self::new(cooldown);
        for eni in enis {
            store.next_handle = store.next_handle.max(eni.handle.0.saturating_add(1));
            store.enis.insert(eni.handle, eni);
        }
        let mut left_out = BTreeSet::new();
        for lease in leases {
            // Records can't contradict each other unless an earlier version was wrong. What is
            // left out here is in use all the same while the kernel routes it, and its record goes:
            // its DEL would not find it.
            // What EC2 took away it may have given as anything, and the pod has it still.
            let primary = |ip: &IpAddr| {
                let own = |e: &Eni| e.own_address() == Some(*ip);
                let lost = |(on, block): (EniHandle, Block)| {
                    let eni = store.enis.get(&on);
                    eni.and_then(|e| e.blocks.get(&block)) == Some(&BlockState::Lost)
                };
                store.enis.values().any(own) && !store.block_of(*ip).is_some_and(lost)
            };
            let taken = |ip: &IpAddr| store.owners.contains_key(ip) || primary(ip);
            if mutant!(
                "store/contradictions-are-left-out",
                lease.addresses.iter().any(taken),
                lease.addresses.is_empty()
            ) {
                left_out.insert(Touched::Lease(lease.key));
            } else {
                store.insert_lease(lease);
            }
        }
        store.released = released;
        let owners = &store.owners;
        store.released.retain(|ip, _| !owners.contains_key(ip));
        store.touched = left_out;
        store
    }

    /// What was released before `now` is only what a store remembers: a pod that lives may have the
    /// address and the link since. Its traces are waited for, and not removed.
    pub fn restored_at(&mut self, now: Timestamp) {
        self.sure_since = now;
    }

    /// ENIs by handle.
    #[must_use]
    pub const fn enis(&self) -> &BTreeMap<EniHandle, Eni> {
        &self.enis
    }

    /// One ENI.
    #[must_use]
    pub fn eni(&self, handle: EniHandle) -> Option<&Eni> {
        self.enis.get(&handle)
    }

    /// The ENI that EC2 calls `id`.
    #[must_use]
    pub fn eni_by_id(&self, id: &EniId) -> Option<&Eni> {
        self.enis.values().find(|eni| eni.id.as_ref() == Some(id))
    }

    /// The ENI with this Ethernet address.
    #[must_use]
    pub fn eni_by_mac(&self, mac: Mac) -> Option<&Eni> {
        self.enis.values().find(|eni| eni.mac == Some(mac))
    }

    /// Leases by attachment.
    #[must_use]
    pub const fn leases(&self) -> &BTreeMap<AttachmentKey, Lease> {
        &self.leases
    }

    /// One lease.
    #[must_use]
    pub fn lease(&self, key: &AttachmentKey) -> Option<&Lease> {
        self.leases.get(key)
    }

    /// Whose an address is.
    #[must_use]
    pub fn owner(&self, ip: IpAddr) -> Option<&AttachmentKey> {
        self.owners.get(&ip)
    }

    /// The last release of a free address.
    #[must_use]
    pub fn released(&self, ip: IpAddr) -> Option<&Released> {
        self.released.get(&ip)
    }

    /// Every address that was released and is not given again yet.
    pub fn resting(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.released.keys().copied()
    }

    /// What the kernel routes to pods.
    #[must_use]
    pub const fn routed(&self) -> &BTreeMap<IpAddr, String> {
        &self.routed
    }

    /// The block that holds `ip`, and its ENI, whatever their state. One that EC2 took away may
    /// overlap what it gave since, and comes last.
    #[must_use]
    pub fn block_of(&self, ip: IpAddr) -> Option<(EniHandle, Block)> {
        let blocks = [Block::address(ip), Block::prefix_of(ip)];
        let mut lost = None;
        for eni in self.enis.values() {
            for block in blocks {
                match eni.blocks.get(&block) {
                    None => {}
                    Some(BlockState::Lost) => lost = lost.or(Some((eni.handle, block))),
                    Some(_) => return Some((eni.handle, block)),
                }
            }
        }
        lost
    }

    /// Every ENI's record counts as changed.
    pub fn touch_enis(&mut self) {
        let enis = self.enis.keys().copied().map(Touched::Eni);
        self.touched.extend(enis);
    }

    /// The records that changed since the last call.
    pub fn take_touched(&mut self) -> Vec<Touched> {
        core::mem::take(&mut self.touched).into_iter().collect()
    }

    /// A handle that no ENI has had.
    pub(crate) fn new_handle(&mut self) -> EniHandle {
        let handle = EniHandle(self.next_handle);
        self.next_handle += 1;
        handle
    }

    /// The handle that the next new ENI will get: a plan names it before anything is changed.
    #[must_use]
    pub const fn next_handle(&self) -> EniHandle {
        EniHandle(self.next_handle)
    }

    pub(crate) fn touch(&mut self, what: Touched) {
        self.touched.insert(what);
    }

    pub(crate) fn eni_mut(&mut self, handle: EniHandle) -> Option<&mut Eni> {
        if self.enis.contains_key(&handle) {
            self.touch(Touched::Eni(handle));
        }
        self.enis.get_mut(&handle)
    }

    pub(crate) fn insert_eni(&mut self, eni: Eni) {
        self.touch(Touched::Eni(eni.handle));
        self.next_handle = self.next_handle.max(eni.handle.0 + 1);
        self.enis.insert(eni.handle, eni);
    }

    pub(crate) fn remove_eni(&mut self, handle: EniHandle) {
        if let Some(eni) = self.enis.remove(&handle) {
            self.touch(Touched::Eni(handle));
            for block in eni.blocks.keys() {
                self.forget_block(*block);
            }
        }
    }

    /// The ENI is attached to nothing any more; its blocks are no pod's.
    pub(crate) fn detach(&mut self, handle: EniHandle) {
        let Some(eni) = self.eni_mut(handle) else {
            return;
        };
        eni.phase = Phase::Detached;
        eni.attachment = None;
        eni.in_doubt_since = None;
        eni.intent = None;
        for block in core::mem::take(&mut eni.blocks).into_keys() {
            self.forget_block(block);
        }
    }

    /// Takes a block into the pool. Refused (`false`) if it holds the primary address of any ENI:
    /// that is never a pod's.
    pub(crate) fn add_block(&mut self, handle: EniHandle, block: Block, state: BlockState) -> bool {
        let reserved = self
            .enis
            .values()
            .filter_map(Eni::own_address)
            .any(|ip| block.contains(ip));
        let elsewhere = self.enis.values().any(|e| {
            mutant!(
                "block/one-eni-each",
                e.handle != handle && e.blocks.contains_key(&block),
                false && e.handle != handle
            )
        });
        if mutant!(
            "lease/primary-address-is-nobodys",
            reserved || elsewhere,
            elsewhere
        ) {
            return false;
        }
        let Some(eni) = self.enis.get_mut(&handle) else {
            return false;
        };
        if eni.blocks.insert(block, state) != Some(state) {
            self.touch(Touched::Eni(handle));
        }
        true
    }

    /// An ENI's own address is known now. A block that holds it is no pod's any more, whatever we had
    /// of it; leases stay in it until they end.
    pub(crate) fn set_address(&mut self, handle: EniHandle, address: Option<IpNet>) {
        if let Some(eni) = self.eni_mut(handle) {
            eni.address = address;
        }
        let Some(net) = address else { return };
        let holds = |block: &&Block| block.contains(net.addr());
        let taken: Vec<(EniHandle, Block)> = self
            .enis
            .values()
            .filter_map(|e| Some((e.handle, *e.blocks.keys().find(holds)?)))
            .collect();
        for (handle, block) in taken {
            if !self.used.contains_key(&block) {
                self.remove_block(handle, block);
            } else if let Some(state) = self
                .eni_mut(handle)
                .and_then(|eni| eni.blocks.get_mut(&block))
            {
                *state = BlockState::Lost;
            }
        }
    }

    /// EC2 has given the block to another ENI than ours says: it leaves this one, with its leases and
    /// release times, and waits for its new wiring. What overlaps it is nobody's.
    pub(crate) fn let_go(&mut self, block: Block, to: EniHandle) {
        // An ENI's own address, which some lists name among the rest, is no block that moved.
        let own = |e: &Eni| e.own_address().is_some_and(|ip| block.contains(ip));
        if self.enis.values().any(own) {
            return;
        }
        mutant!(
            "block/moves-with-its-leases",
            self.lose_overlapping(block),
            ()
        );
        let from = |e: &&Eni| e.handle != to && e.blocks.contains_key(&block);
        let Some(from) = self.enis.values().find(from).map(|e| e.handle) else {
            return;
        };
        if let Some(eni) = self.eni_mut(from) {
            eni.blocks.remove(&block);
            self.wired.remove(&block);
        }
        self.end_if_gone(from);
    }

    /// Two blocks that overlap can't both be: EC2 has told of this one.
    fn lose_overlapping(&mut self, block: Block) {
        let overlaps =
            |b: &&Block| **b != block && (b.contains(block.first()) || block.contains(b.first()));
        let all: Vec<(EniHandle, Block)> = self
            .enis
            .values()
            .flat_map(|e| e.blocks.keys().filter(overlaps).map(|b| (e.handle, *b)))
            .collect();
        for (handle, other) in all {
            if !self.used.contains_key(&other) {
                self.remove_block(handle, other);
                self.end_if_gone(handle);
            } else if let Some(state) = self
                .eni_mut(handle)
                .and_then(|eni| eni.blocks.get_mut(&other))
            {
                *state = BlockState::Lost;
            }
        }
    }

    pub(crate) fn remove_block(&mut self, handle: EniHandle, block: Block) {
        if let Some(eni) = self.enis.get_mut(&handle)
            && eni.blocks.remove(&block).is_some()
        {
            self.touch(Touched::Eni(handle));
            self.forget_block(block);
        }
    }

    /// Its release times stay until they mean nothing: its addresses may come back, as anybody's.
    fn forget_block(&mut self, block: Block) {
        mutant!(
            "block/wired-anew-when-it-comes-back",
            self.wired.remove(&block),
            false
        );
    }

    /// The host's rules and tables now serve these blocks.
    pub fn set_wired(&mut self, blocks: impl IntoIterator<Item = Block>) {
        self.wired.extend(blocks);
    }

    pub(crate) fn insert_lease(&mut self, lease: Lease) {
        for &ip in &lease.addresses {
            if let Some((_, block)) = self.block_of(ip) {
                *self.used.entry(block).or_default() += 1;
            }
            self.owners.insert(ip, lease.key.clone());
            self.strays.remove(&ip);
            if self.released.remove(&ip).is_some() {
                self.traces.remove(&ip);
                self.unasked.remove(&ip);
                self.touch(Touched::Released(ip));
            }
        }
        self.touch(Touched::Lease(lease.key.clone()));
        *self.links.entry(lease.host_if.clone()).or_default() += 1;
        if let Some(old) = self.leases.insert(lease.key.clone(), lease) {
            self.unlink(&old.host_if);
        }
    }

    fn unlink(&mut self, host_if: &str) {
        if let Some(n) = self.links.get_mut(host_if) {
            *n = n.saturating_sub(1);
            if *n == 0 {
                self.links.remove(host_if);
            }
        }
    }

    fn take_lease(&mut self, key: &AttachmentKey) -> Option<Lease> {
        let lease = self.leases.remove(key)?;
        self.unlink(&lease.host_if);
        for ip in &lease.addresses {
            self.owners.remove(ip);
            self.note_stray(*ip);
            if let Some((_, block)) = self.block_of(*ip)
                && let Some(n) = self.used.get_mut(&block)
            {
                *n = n.saturating_sub(1);
                if *n == 0 {
                    self.used.remove(&block);
                }
            }
        }
        self.touch(Touched::Lease(key.clone()));
        Some(lease)
    }

    /// Counts leases per block anew, after blocks came (a lease may be older than what is known of
    /// its block) or went.
    pub(crate) fn recount(&mut self) {
        let mut used = BTreeMap::new();
        for ip in self.owners.keys() {
            if let Some((_, block)) = self.block_of(*ip) {
                *used.entry(block).or_default() += 1;
            }
        }
        self.used = used;
    }

    /// Ends a lease: its addresses rest from `now` on.
    pub fn release(&mut self, key: &AttachmentKey, now: Timestamp) -> Option<Lease> {
        let lease = self.take_lease(key)?;
        for &ip in &lease.addresses {
            self.rest(ip, &lease.host_if, now);
            mutant!(
                "block/lost-goes-with-its-last-lease",
                self.drop_lost_block(ip),
                ()
            );
        }
        if lease.addresses.iter().any(IpAddr::is_ipv6) {
            self.forget_drawn(now);
        }
        Some(lease)
    }

    /// A block that EC2 took away stays only as long as leases stand in it.
    fn drop_lost_block(&mut self, ip: IpAddr) {
        if let Some((handle, block)) = self.block_of(ip)
            && self.enis.get(&handle).and_then(|e| e.blocks.get(&block)) == Some(&BlockState::Lost)
            && !self.used.contains_key(&block)
        {
            self.remove_block(handle, block);
            self.end_if_gone(handle);
        }
    }

    /// An ENI that is gone stays as long as it has blocks that EC2 took away, and no longer: it must
    /// not keep a place that another can have. Ours may still be there, attached to nothing: it is
    /// deleted.
    fn end_if_gone(&mut self, handle: EniHandle) {
        let over = |e: &&Eni| !e.primary && e.has_left() && e.blocks.is_empty();
        match self.enis.get(&handle).filter(over).map(|e| e.ours) {
            Some(true) => self.detach(handle),
            Some(false) => self.remove_eni(handle),
            None => {}
        }
    }

    /// Takes back a lease that was never told to anybody (its record could not be stored).
    pub fn withdraw(&mut self, key: &AttachmentKey) -> Option<Lease> {
        mutant!(
            "lease/withdrawn-is-free",
            self.take_lease(key),
            self.leases.get(key).cloned()
        )
    }
}
