//! The IPv4 addresses of one subnet: which are taken, and which EC2 would pick next.
//!
//! It knows addresses and aligned /28 blocks only; who holds them is recorded elsewhere.

use crate::words::rng::Rng;
use crate::words::spec::{Placement, ReservationKind};
use ipnet::Ipv4Net;
use std::net::Ipv4Addr;

/// Addresses of a /28.
const BLOCK: u32 = 16;
/// Blocks in a word of the bitmap.
const LANES: u32 = 4;

/// Why an address can't be used in a subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// Not in the subnet's block.
    Outside,
    /// The first four addresses and the last (*documented*: VPC guide, "Subnet CIDR blocks").
    Reserved,
}

/// What an address or block is set aside for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Anything,
    Explicit,
    Prefixes,
}

#[derive(Clone, Debug)]
pub(crate) struct Space4 {
    net: Ipv4Net,
    base: u32,
    size: u32,
    /// One bit an address, set if taken or reserved by EC2.
    taken: Vec<u64>,
    /// One bit an address, set if automatic assignment leaves it alone.
    set_aside: Vec<u64>,
    /// Ranges in order of the spec.
    reservations: Vec<(Ipv4Net, ReservationKind)>,
    free: u32,
}

impl Space4 {
    /// `net` is /16 to /28.
    pub(crate) fn new(net: Ipv4Net, reservations: &[(Ipv4Net, ReservationKind)]) -> Self {
        let net = net.trunc();
        let base = u32::from(net.network());
        let size = 1u32 << (32 - u32::from(net.prefix_len()));
        let words = usize_of(size.div_ceil(64));
        let mut space = Self {
            net,
            base,
            size,
            taken: vec![0; words],
            set_aside: vec![0; words],
            reservations: reservations.to_vec(),
            free: size,
        };
        for offset in (0..4).chain([size - 1]) {
            space.set(offset);
        }
        for offset in size..u32::try_from(words * 64).unwrap_or(size) {
            set_bit(&mut space.taken, offset);
        }
        for (range, _) in reservations {
            let first = u32::from(range.network()).saturating_sub(base);
            for offset in first
                ..=u32::from(range.broadcast())
                    .saturating_sub(base)
                    .min(size - 1)
            {
                set_bit(&mut space.set_aside, offset);
            }
        }
        space
    }

    /// EC2's `AvailableIpAddressCount`: all but the five and what is held. Reservations don't
    /// lower it (*assumed*); a prefix lowers it by sixteen (*recorded*).
    pub(crate) fn free(&self) -> u32 {
        self.free
    }

    pub(crate) fn check(&self, address: Ipv4Addr) -> Result<(), Unusable> {
        if !self.net.contains(&address) {
            return Err(Unusable::Outside);
        }
        let offset = self.offset(address);
        if offset < 4 || offset == self.size - 1 {
            Err(Unusable::Reserved)
        } else {
            Ok(())
        }
    }

    pub(crate) fn is_free(&self, address: Ipv4Addr) -> bool {
        self.net.contains(&address) && !bit(&self.taken, self.offset(address))
    }

    /// All sixteen addresses are in the subnet and free; none of the five is among them.
    pub(crate) fn is_block_free(&self, block: Ipv4Net) -> bool {
        self.net.contains(&block) && self.lane(self.offset(block.network()) / BLOCK) == 0
    }

    /// Takes an address that is free.
    pub(crate) fn take(&mut self, address: Ipv4Addr) {
        let offset = self.offset(address);
        self.set(offset);
    }

    /// Gives an address back.
    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        let offset = self.offset(address);
        if bit(&self.taken, offset) {
            self.taken[usize_of(offset / 64)] &= !(1 << (offset % 64));
            self.free += 1;
        }
    }

    /// Takes each address of a free block.
    pub(crate) fn take_block(&mut self, block: Ipv4Net) {
        let first = self.offset(block.network());
        (first..first + BLOCK).for_each(|o| self.set(o));
    }

    /// Gives each address of a block back.
    pub(crate) fn release_block(&mut self, block: Ipv4Net) {
        block_addresses(block).for_each(|a| self.release(a));
    }

    /// Takes `count` addresses of EC2's choice outside reservations, or none at all.
    pub(crate) fn take_any(
        &mut self,
        count: u32,
        how: Placement,
        rng: &mut Rng,
    ) -> Option<Vec<Ipv4Addr>> {
        if count > self.free {
            return None;
        }
        let mut got = Vec::new();
        while u32::try_from(got.len()).unwrap_or(u32::MAX) < count {
            let Some(offset) = self.pick(how, rng) else {
                got.into_iter().for_each(|a| self.release(a));
                return None;
            };
            self.set(offset);
            got.push(self.address(offset));
        }
        Some(got)
    }

    /// Takes `count` free aligned blocks, from prefix reservations first (*documented*), then from
    /// outside all reservations (*assumed*); or none at all.
    pub(crate) fn take_any_blocks(
        &mut self,
        count: u32,
        how: Placement,
        rng: &mut Rng,
    ) -> Option<Vec<Ipv4Net>> {
        let mut got = Vec::new();
        while u32::try_from(got.len()).unwrap_or(u32::MAX) < count {
            let found = self
                .pick_block(Use::Prefixes, how, rng)
                .or_else(|| self.pick_block(Use::Anything, how, rng));
            let Some(block) = found else {
                got.into_iter().for_each(|b| self.release_block(b));
                return None;
            };
            self.take_block(block);
            got.push(block);
        }
        Some(got)
    }

    fn pick(&self, how: Placement, rng: &mut Rng) -> Option<u32> {
        let start = self.start(self.size, how, rng);
        let words = u32::try_from(self.taken.len()).unwrap_or(1);
        // The word that holds `start` is looked at twice: from `start` on, and last up to it.
        for step in 0..=words {
            let word = (start / 64 + step) % words;
            let index = usize_of(word);
            let mut open = !(self.taken[index] | self.set_aside[index]);
            if step == 0 {
                open &= u64::MAX << (start % 64);
            }
            if open != 0 {
                return Some(word * 64 + open.trailing_zeros());
            }
        }
        None
    }

    fn pick_block(&self, from: Use, how: Placement, rng: &mut Rng) -> Option<Ipv4Net> {
        if from == Use::Prefixes && self.reservations.is_empty() {
            return None;
        }
        let blocks = self.size / BLOCK;
        let start = self.start(blocks, how, rng);
        (0..blocks)
            .map(|step| (start + step) % blocks)
            .find(|lane| self.lane(*lane) == 0 && self.use_of(*lane) == from)
            .and_then(|lane| Ipv4Net::new(self.address(lane * BLOCK), 28).ok())
    }

    fn start(&self, bound: u32, how: Placement, rng: &mut Rng) -> u32 {
        match how {
            Placement::Lowest => 0,
            Placement::Random => u32::try_from(rng.below(u64::from(bound))).unwrap_or(0),
        }
    }

    /// What a block is set aside for; one that a reservation covers in part is for nothing.
    fn use_of(&self, lane: u32) -> Use {
        if lane16(&self.set_aside, lane) == 0 {
            return Use::Anything;
        }
        let first = self.address(lane * BLOCK);
        let last = self.address(lane * BLOCK + BLOCK - 1);
        let inside = |r: &Ipv4Net| r.contains(&first) && r.contains(&last);
        let prefixes = |(r, kind): &(Ipv4Net, _)| *kind == ReservationKind::Prefix && inside(r);
        if self.reservations.iter().any(prefixes) {
            Use::Prefixes
        } else {
            Use::Explicit
        }
    }

    fn lane(&self, lane: u32) -> u64 {
        lane16(&self.taken, lane)
    }

    fn offset(&self, address: Ipv4Addr) -> u32 {
        u32::from(address).wrapping_sub(self.base)
    }

    fn address(&self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + offset)
    }

    fn set(&mut self, offset: u32) {
        if !bit(&self.taken, offset) {
            set_bit(&mut self.taken, offset);
            self.free -= 1;
        }
    }
}

/// The sixteen addresses of a /28, its first and last too.
pub(crate) fn block_addresses(block: Ipv4Net) -> impl Iterator<Item = Ipv4Addr> {
    (u32::from(block.network())..=u32::from(block.broadcast())).map(Ipv4Addr::from)
}

fn lane16(bits: &[u64], lane: u32) -> u64 {
    (bits[usize_of(lane / LANES)] >> (lane % LANES * BLOCK)) & 0xffff
}

fn bit(bits: &[u64], offset: u32) -> bool {
    bits.get(usize_of(offset / 64))
        .is_some_and(|w| w >> (offset % 64) & 1 == 1)
}

fn set_bit(bits: &mut [u64], offset: u32) {
    bits[usize_of(offset / 64)] |= 1 << (offset % 64);
}

fn usize_of(n: u32) -> usize {
    n as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(s: &str) -> Ipv4Net {
        s.parse().unwrap()
    }

    #[test]
    fn five_addresses_are_reserved() {
        for (cidr, free) in [
            ("10.0.0.0/28", 11),
            ("10.0.0.0/24", 251),
            ("10.1.0.0/16", 65_531),
        ] {
            let mut space = Space4::new(net(cidr), &[]);
            assert_eq!(space.free(), free);
            let all = space
                .take_any(free, Placement::Random, &mut Rng::new(7))
                .unwrap();
            assert!(all.iter().all(|a| space.check(*a).is_ok()));
            assert_eq!(space.free(), 0);
            assert_eq!(space.take_any(1, Placement::Random, &mut Rng::new(7)), None);
        }
        let space = Space4::new(net("10.0.0.0/24"), &[]);
        for last in [0, 1, 2, 3, 255] {
            assert_eq!(
                space.check(Ipv4Addr::new(10, 0, 0, last)),
                Err(Unusable::Reserved)
            );
        }
        assert_eq!(
            space.check(Ipv4Addr::new(10, 0, 1, 4)),
            Err(Unusable::Outside)
        );
        assert_eq!(space.check(Ipv4Addr::new(10, 0, 0, 4)), Ok(()));
    }

    #[test]
    fn blocks_with_a_reserved_or_held_address_are_never_given() {
        let mut space = Space4::new(net("10.0.0.0/24"), &[]);
        space.take(Ipv4Addr::new(10, 0, 0, 40));
        let blocks = space
            .take_any_blocks(13, Placement::Random, &mut Rng::new(3))
            .unwrap();
        assert!(!blocks.contains(&net("10.0.0.0/28")));
        assert!(!blocks.contains(&net("10.0.0.240/28")));
        assert!(!blocks.contains(&net("10.0.0.32/28")));
        assert_eq!(
            space.take_any_blocks(1, Placement::Lowest, &mut Rng::new(3)),
            None
        );
        assert_eq!(space.free(), 251 - 1 - 13 * 16);
        space.release_block(blocks[0]);
        assert_eq!(space.free(), 251 - 1 - 12 * 16);
    }

    #[test]
    fn a_failed_request_takes_nothing() {
        let mut space = Space4::new(net("10.0.0.0/26"), &[]);
        assert_eq!(
            space.take_any_blocks(3, Placement::Lowest, &mut Rng::new(1)),
            None
        );
        assert_eq!(space.free(), 59);
        assert_eq!(
            space.take_any(60, Placement::Lowest, &mut Rng::new(1)),
            None
        );
        assert_eq!(space.free(), 59);
    }

    #[test]
    fn reservations_steer_automatic_assignment() {
        let reserved = [
            (net("10.0.0.64/26"), ReservationKind::Prefix),
            (net("10.0.0.128/26"), ReservationKind::Explicit),
        ];
        let mut space = Space4::new(net("10.0.0.0/24"), &reserved);
        let mut rng = Rng::new(9);
        let blocks = space
            .take_any_blocks(4, Placement::Random, &mut rng)
            .unwrap();
        assert!(
            blocks.iter().all(|b| net("10.0.0.64/26").contains(b)),
            "{blocks:?}"
        );
        let more = space
            .take_any_blocks(6, Placement::Random, &mut rng)
            .unwrap();
        assert!(
            more.iter().all(|b| !net("10.0.0.64/26").contains(b)),
            "{more:?}"
        );
        assert!(
            more.iter().all(|b| !net("10.0.0.128/26").contains(b)),
            "{more:?}"
        );
        assert_eq!(space.take_any_blocks(1, Placement::Random, &mut rng), None);
        let singles = space.take_any(27, Placement::Random, &mut rng).unwrap();
        assert!(singles.iter().all(|a| !net("10.0.0.128/26").contains(a)));
        assert_eq!(space.take_any(1, Placement::Random, &mut rng), None);
        assert_eq!(space.free(), 64);
        assert!(space.is_free(Ipv4Addr::new(10, 0, 0, 130)));
    }
}
