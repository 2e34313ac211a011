//! A block: what EC2 gives and takes back in one piece.

use core::cmp::Ordering;
use core::fmt;
use core::net::IpAddr;
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Family {
    /// The family of an address.
    #[must_use]
    pub const fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

/// One address, or a prefix of EC2's fixed size (/28 for IPv4, /80 for IPv6: EC2 User Guide,
/// "Assign prefixes to network interfaces").
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BlockKind {
    /// A secondary private address: 1 address.
    Address,
    /// A delegated prefix: 16 IPv4 addresses, or 2^48 of IPv6.
    Prefix,
}

impl BlockKind {
    /// Addresses in one block, capped at `u32::MAX` for IPv6 prefixes (2^48 of them).
    #[must_use]
    pub const fn capacity(self, family: Family) -> u32 {
        match (self, family) {
            (Self::Address, _) => 1,
            (Self::Prefix, Family::V4) => 16,
            (Self::Prefix, Family::V6) => u32::MAX,
        }
    }
}

/// One secondary address or one prefix. Host bits are always zero, so two spellings of a block are
/// equal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "IpNet", into = "IpNet")]
pub struct Block(IpNet);

/// By family, address and length: as `IpNet`'s own order, but in one comparison of numbers. Every look at
/// the pool is by blocks in order.
impl Ord for Block {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (self.0, other.0) {
            (IpNet::V4(a), IpNet::V4(b)) => {
                let number = |net: Ipv4Net| {
                    (u64::from(net.addr().to_bits()) << 8) | u64::from(net.prefix_len())
                };
                number(a).cmp(&number(b))
            }
            (a, b) => a.cmp(&b),
        }
    }
}

impl PartialOrd for Block {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// A length that EC2 does not give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is neither one address nor a /28 (IPv4) or /80 (IPv6) prefix")]
pub struct BlockError(pub IpNet);

impl Block {
    /// The block that holds `net`'s network address.
    ///
    /// # Errors
    /// The length is neither a single address nor EC2's prefix length for the family.
    pub fn new(net: IpNet) -> Result<Self, BlockError> {
        match (net, net.prefix_len()) {
            (IpNet::V4(_), 32 | 28) | (IpNet::V6(_), 128 | 80) => Ok(Self(net.trunc())),
            _ => Err(BlockError(net)),
        }
    }

    /// The block of one secondary address.
    #[must_use]
    pub fn address(ip: IpAddr) -> Self {
        Self(IpNet::from(ip))
    }

    /// The prefix of EC2's size around `ip`.
    #[must_use]
    pub fn prefix_of(ip: IpAddr) -> Self {
        let len = if ip.is_ipv4() { 28 } else { 80 };
        // Both lengths are legal for their family, so `new` can't refuse; a single address is the
        // harmless answer if it ever did.
        IpNet::new(ip, len).map_or_else(|_| Self::address(ip), |net| Self(net.trunc()))
    }

    /// As a network.
    #[must_use]
    pub const fn net(&self) -> IpNet {
        self.0
    }

    /// The lowest address.
    #[must_use]
    pub fn first(&self) -> IpAddr {
        self.0.network()
    }

    /// Its family.
    #[must_use]
    pub fn family(&self) -> Family {
        Family::of(self.first())
    }

    /// Address or prefix.
    #[must_use]
    pub fn kind(&self) -> BlockKind {
        if self.0.prefix_len() == self.0.max_prefix_len() {
            BlockKind::Address
        } else {
            BlockKind::Prefix
        }
    }

    /// How many addresses it holds (see [`BlockKind::capacity`]).
    #[must_use]
    pub fn capacity(&self) -> u32 {
        self.kind().capacity(self.family())
    }

    /// Whether pods may have addresses of it. A single IPv6 address is an interface's own: EC2 tells
    /// those that a pool might have asked for from those that came with the instance by nothing, and
    /// the pool asks for prefixes only.
    #[must_use]
    pub fn is_pools(&self) -> bool {
        (self.family(), self.kind()) != (Family::V6, BlockKind::Address)
    }

    /// Whether `ip` lies in it.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }

    /// Its `n`th address, all of them usable (EC2 reserves none inside a prefix).
    #[must_use]
    pub fn nth(&self, n: u32) -> Option<IpAddr> {
        if n >= self.capacity() {
            return None;
        }
        Some(match self.first() {
            IpAddr::V4(a) => IpAddr::V4((u32::from(a) + n).into()),
            IpAddr::V6(a) => IpAddr::V6((u128::from(a) + u128::from(n)).into()),
        })
    }
}

impl TryFrom<IpNet> for Block {
    type Error = BlockError;
    fn try_from(net: IpNet) -> Result<Self, BlockError> {
        Self::new(net)
    }
}

impl From<Block> for IpNet {
    fn from(b: Block) -> Self {
        b.0
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind() {
            BlockKind::Address => fmt::Display::fmt(&self.first(), f),
            BlockKind::Prefix => fmt::Display::fmt(&self.0, f),
        }
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn blocks_are_in_the_order_of_their_networks() {
        let texts = [
            "10.0.0.0/28",
            "10.0.0.0/32",
            "10.0.0.1/32",
            "10.0.0.255/32",
            "10.0.1.0/28",
            "200.0.0.0/28",
            "255.255.255.255/32",
            "2001:db8::/80",
            "2001:db8::1/128",
        ];
        let blocks: Vec<Block> = texts
            .iter()
            .filter_map(|text| Block::new(text.parse().ok()?).ok())
            .collect();
        assert_eq!(blocks.len(), texts.len());
        for a in &blocks {
            for b in &blocks {
                assert_eq!(a.cmp(b), a.net().cmp(&b.net()), "{a} and {b}");
            }
        }
    }
}
