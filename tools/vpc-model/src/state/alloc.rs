//! Taking what a request wants out of a subnet, all or nothing.

use crate::state::parts::SubnetState;
use crate::state::space4::Unusable;
use crate::words::request::{WantedV4, WantedV6};
use crate::words::rng::Rng;
use crate::words::spec::Placement;
use ipnet::{Ipv4Net, Ipv6Net};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What was taken.
#[derive(Debug, Default)]
pub(crate) struct GotV4 {
    pub(crate) addresses: Vec<Ipv4Addr>,
    pub(crate) prefixes: Vec<Ipv4Net>,
}

/// What was taken.
#[derive(Debug, Default)]
pub(crate) struct GotV6 {
    pub(crate) addresses: Vec<Ipv6Addr>,
    pub(crate) prefixes: Vec<Ipv6Net>,
}

/// Why nothing was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Not in the subnet.
    Outside(IpAddr),
    /// One of the five that EC2 keeps.
    Reserved(IpAddr),
    /// Held, alone or within a prefix.
    InUse(IpAddr),
    /// Not a /28 or /80 with no host bits.
    NotAPrefix(String),
    /// Part of it is held or reserved.
    PrefixInUse(String),
    /// Not enough free addresses.
    NoAddresses,
    /// Not enough free aligned blocks.
    NoBlocks,
    /// The subnet has no IPv6 block.
    NoV6,
}

/// Takes IPv4 addresses and prefixes.
pub(crate) fn take_v4(
    subnet: &mut SubnetState,
    wanted: &WantedV4,
    how: Placement,
    rng: &mut Rng,
) -> Result<GotV4, Refusal> {
    let space = &mut subnet.space4;
    let mut got = GotV4::default();
    let undo = |space: &mut crate::state::space4::Space4, got: GotV4, why| {
        got.addresses.into_iter().for_each(|a| space.release(a));
        got.prefixes
            .into_iter()
            .for_each(|p| space.release_block(p));
        Err(why)
    };
    for address in &wanted.addresses {
        let why = match space.check(*address) {
            Err(Unusable::Outside) => Refusal::Outside((*address).into()),
            Err(Unusable::Reserved) => Refusal::Reserved((*address).into()),
            Ok(()) if !space.is_free(*address) => Refusal::InUse((*address).into()),
            Ok(()) => {
                space.take(*address);
                got.addresses.push(*address);
                continue;
            }
        };
        return undo(space, got, why);
    }
    for prefix in &wanted.prefixes {
        let why = if prefix.prefix_len() != 28 || *prefix != prefix.trunc() {
            Refusal::NotAPrefix(prefix.to_string())
        } else if !subnet.cidr.contains(prefix) {
            Refusal::Outside(prefix.addr().into())
        } else if !space.is_block_free(*prefix) {
            Refusal::PrefixInUse(prefix.to_string())
        } else {
            space.take_block(*prefix);
            got.prefixes.push(*prefix);
            continue;
        };
        return undo(space, got, why);
    }
    match space.take_any_blocks(wanted.prefix_count.unwrap_or(0), how, rng) {
        Some(blocks) => got.prefixes.extend(blocks),
        None => return undo(space, got, Refusal::NoBlocks),
    }
    match space.take_any(wanted.address_count.unwrap_or(0), how, rng) {
        Some(addresses) => got.addresses.extend(addresses),
        None => return undo(space, got, Refusal::NoAddresses),
    }
    Ok(got)
}

/// Takes IPv6 addresses and prefixes.
pub(crate) fn take_v6(
    subnet: &mut SubnetState,
    wanted: &WantedV6,
    how: Placement,
    rng: &mut Rng,
) -> Result<GotV6, Refusal> {
    let mut got = GotV6::default();
    let Some(space) = subnet.space6.as_mut() else {
        let wants = wanted.address_count.unwrap_or(0) > 0
            || wanted.prefix_count.unwrap_or(0) > 0
            || !wanted.addresses.is_empty()
            || !wanted.prefixes.is_empty();
        return if wants { Err(Refusal::NoV6) } else { Ok(got) };
    };
    let mut run = || {
        for address in &wanted.addresses {
            if !space.contains(*address) {
                return Err(Refusal::Outside((*address).into()));
            }
            if !space.is_free(*address) {
                return Err(Refusal::InUse((*address).into()));
            }
            space.take(*address);
            got.addresses.push(*address);
        }
        for prefix in &wanted.prefixes {
            if prefix.prefix_len() != 80 || *prefix != prefix.trunc() {
                return Err(Refusal::NotAPrefix(prefix.to_string()));
            }
            if !space.contains_block(*prefix) {
                return Err(Refusal::Outside(prefix.addr().into()));
            }
            if !space.is_block_free(*prefix) {
                return Err(Refusal::PrefixInUse(prefix.to_string()));
            }
            space.take_block(*prefix);
            got.prefixes.push(*prefix);
        }
        for _ in 0..wanted.prefix_count.unwrap_or(0) {
            got.prefixes
                .push(space.take_any_block(how, rng).ok_or(Refusal::NoBlocks)?);
        }
        for _ in 0..wanted.address_count.unwrap_or(0) {
            got.addresses
                .push(space.take_any(how, rng).ok_or(Refusal::NoAddresses)?);
        }
        Ok(())
    };
    let result = run();
    match result {
        Ok(()) => Ok(got),
        Err(why) => {
            got.addresses.into_iter().for_each(|a| space.release(a));
            got.prefixes
                .into_iter()
                .for_each(|p| space.release_block(p));
            Err(why)
        }
    }
}
