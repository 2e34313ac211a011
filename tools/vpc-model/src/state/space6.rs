//! The IPv6 addresses of one subnet: single addresses and /80 blocks that are taken.

use crate::words::rng::Rng;
use crate::words::spec::Placement;
use ipnet::Ipv6Net;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;

/// Addresses of a /80, less one.
const BLOCK_MASK: u128 = (1 << 48) - 1;
/// Tries to find a free address at random before the search goes in order.
const TRIES: u32 = 64;

#[derive(Clone, Debug)]
pub(crate) struct Space6 {
    net: Ipv6Net,
    /// First to last address of what is taken; the ranges don't overlap.
    taken: BTreeMap<u128, u128>,
}

impl Space6 {
    /// `net` is a /64. Its first four addresses and its last are reserved (*documented*).
    pub(crate) fn new(net: Ipv6Net) -> Self {
        let net = net.trunc();
        let (first, last) = (u128::from(net.network()), u128::from(net.broadcast()));
        Self {
            net,
            taken: BTreeMap::from([(first, first + 3), (last, last)]),
        }
    }

    pub(crate) fn contains(&self, address: Ipv6Addr) -> bool {
        self.net.contains(&address)
    }

    pub(crate) fn contains_block(&self, block: Ipv6Net) -> bool {
        self.net.contains(&block)
    }

    pub(crate) fn is_free(&self, address: Ipv6Addr) -> bool {
        let a = u128::from(address);
        self.is_range_free(a, a)
    }

    pub(crate) fn is_block_free(&self, block: Ipv6Net) -> bool {
        let first = u128::from(block.network());
        self.is_range_free(first, first | BLOCK_MASK)
    }

    pub(crate) fn take(&mut self, address: Ipv6Addr) {
        self.taken.insert(u128::from(address), u128::from(address));
    }

    pub(crate) fn take_block(&mut self, block: Ipv6Net) {
        let first = u128::from(block.network());
        self.taken.insert(first, first | BLOCK_MASK);
    }

    pub(crate) fn release(&mut self, address: Ipv6Addr) {
        self.taken.remove(&u128::from(address));
    }

    pub(crate) fn release_block(&mut self, block: Ipv6Net) {
        self.taken.remove(&u128::from(block.network()));
    }

    /// Takes an address of EC2's choice.
    pub(crate) fn take_any(&mut self, how: Placement, rng: &mut Rng) -> Option<Ipv6Addr> {
        let base = u128::from(self.net.network());
        let random = (how == Placement::Random)
            .then(|| {
                (0..TRIES)
                    .map(|_| base | u128::from(rng.next()))
                    .find(|a| self.is_range_free(*a, *a))
            })
            .flatten();
        let found = random.or_else(|| {
            (base..=u128::from(self.net.broadcast()))
                .take(1 << 20)
                .find(|a| self.is_range_free(*a, *a))
        })?;
        let address = Ipv6Addr::from(found);
        self.take(address);
        Some(address)
    }

    /// Takes a /80 of EC2's choice. One that holds a reserved address is never given (*assumed*).
    pub(crate) fn take_any_block(&mut self, how: Placement, rng: &mut Rng) -> Option<Ipv6Net> {
        let base = u128::from(self.net.network());
        let blocks = 1u128 << 80u8.saturating_sub(self.net.prefix_len()).min(16);
        let start = match how {
            Placement::Random => u128::from(rng.next()) % blocks,
            Placement::Lowest => 0,
        };
        let first = (0..blocks)
            .map(|step| base | (((start + step) % blocks) << 48))
            .find(|first| self.is_range_free(*first, first | BLOCK_MASK))?;
        let block = Ipv6Net::new(Ipv6Addr::from(first), 80).ok()?;
        self.take_block(block);
        Some(block)
    }

    fn is_range_free(&self, first: u128, last: u128) -> bool {
        self.taken
            .range(..=last)
            .next_back()
            .is_none_or(|(_, end)| *end < first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_blocks_never_overlap() {
        let mut space = Space6::new("2001:db8::/64".parse().unwrap());
        let mut rng = Rng::new(5);
        let inside: Ipv6Addr = "2001:db8::7:0:0:1".parse().unwrap();
        let block: Ipv6Net = "2001:db8:0:0:7::/80".parse().unwrap();
        assert!(block.contains(&inside) && space.is_block_free(block));
        space.take(inside);
        assert!(!space.is_block_free(block));
        space.release(inside);
        space.take_block(block);
        assert!(!space.is_free(inside));
        for _ in 0..200 {
            let b = space.take_any_block(Placement::Random, &mut rng).unwrap();
            let a = space.take_any(Placement::Random, &mut rng).unwrap();
            assert!(!b.contains(&a) && b != block && !block.contains(&a));
        }
        let first = Space6::new("2001:db8::/64".parse().unwrap())
            .take_any_block(Placement::Lowest, &mut rng)
            .unwrap();
        assert_eq!(first, "2001:db8:0:0:1::/80".parse().unwrap());
    }
}
