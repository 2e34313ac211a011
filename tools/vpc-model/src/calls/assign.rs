//! Assign and unassign, IPv4 and IPv6, addresses and prefixes.

use super::not_found::find_eni;
use super::wanted::{
    check_one_way, check_one_way_v4, check_positive, has_prefixes, no_addresses, no_prefixes,
    not_assigned, refused, slots, too_many_v4, too_many_v6,
};
use crate::state::EniState;
use crate::state::State;
use crate::state::alloc::{Refusal, take_v4, take_v6};
use crate::state::store::WINDOW;
use crate::words::error::ApiError;
use crate::words::ids::EniId;
use crate::words::request::{
    AssignIpv6Addresses, AssignPrivateIpAddresses, UnassignIpv6Addresses,
    UnassignPrivateIpAddresses, WantedV4,
};
use crate::words::response::{InstanceType, Response};
use crate::words::time::Time;
use mutant::mutant;
use std::net::Ipv4Addr;

pub(crate) fn assign_v4(
    state: &mut State,
    r: &AssignPrivateIpAddresses,
    now: Time,
) -> Result<Response, ApiError> {
    let mut eni = (**find_eni(state, &r.eni)?).clone();
    check_one_way_v4(&r.wanted)?;
    let (moving, wanted) = split_moving(state, &eni, r)?;
    check_room(
        state,
        &eni,
        slots(&wanted) + u32::try_from(moving.len()).unwrap_or(u32::MAX),
        0,
        has_prefixes(&wanted),
    )?;
    let how = state.spec.placement;
    let subnet = state
        .subnets
        .get_mut(&eni.subnet)
        .ok_or_else(no_addresses)?;
    let before = subnet.space4.free();
    let got = take_v4(subnet, &wanted, how, &mut state.rng).map_err(|why| refused(&why))?;
    subnet.note_free(before, now, WINDOW);
    for (address, from) in &moving {
        take_from(state, from, *address, now);
    }
    let mut addresses: Vec<Ipv4Addr> = moving.into_iter().map(|(a, _)| a).collect();
    addresses.extend(got.addresses);
    state.hold(&eni.id, &addresses);
    eni.secondary.extend(&addresses);
    eni.v4_prefixes.extend(&got.prefixes);
    let id = eni.id.clone();
    state.keep(eni, now);
    // Addresses named that the ENI has already are answered like new ones (*recorded*).
    let held = r.wanted.addresses.iter().filter(|a| !addresses.contains(a));
    let addresses = held
        .copied()
        .collect::<Vec<_>>()
        .into_iter()
        .chain(addresses.clone());
    let addresses = addresses.collect();
    Ok(Response::AssignedV4 {
        eni: id,
        addresses,
        prefixes: got.prefixes,
    })
}

/// Splits what is named into what another ENI holds as a secondary address and will lose, and
/// what is to be taken from the subnet. What the ENI holds already is in neither.
#[allow(clippy::type_complexity)]
fn split_moving(
    state: &State,
    eni: &EniState,
    r: &AssignPrivateIpAddresses,
) -> Result<(Vec<(Ipv4Addr, EniId)>, WantedV4), ApiError> {
    let mut wanted = WantedV4 {
        addresses: Vec::new(),
        ..r.wanted.clone()
    };
    let (mut moving, mut refused_moves) = (Vec::new(), Vec::new());
    let mut named = r.wanted.addresses.clone();
    named.sort_unstable();
    named.dedup();
    for address in named {
        match state.holder4.get(&address) {
            Some(holder) if *holder == eni.id => {}
            Some(holder) => {
                let Ok(other) = find_eni(state, holder) else {
                    // Another account's: it can't be moved (*assumed*).
                    refused_moves.push(address.to_string());
                    continue;
                };
                if other.primary == address {
                    // *recorded*: all that EC2 says (aws-sdk-go issue 2864).
                    return Err(ApiError::value("secondary-addresses"));
                }
                if other.subnet != eni.subnet {
                    return Err(refused(&Refusal::Outside(address.into())));
                }
                if r.allow_reassignment {
                    moving.push((address, holder.clone()));
                } else {
                    refused_moves.push(address.to_string());
                }
            }
            None => wanted.addresses.push(address),
        }
    }
    if refused_moves.is_empty() {
        return Ok((moving, wanted));
    }
    // *recorded*.
    let list = refused_moves.join(", ");
    Err(ApiError::value(format!(
        "[{list}] assigned, but move is not allowed."
    )))
}

/// Takes a secondary address from the ENI that holds it; the subnet still counts it.
fn take_from(state: &mut State, from: &EniId, address: Ipv4Addr, now: Time) {
    if let Some(other) = state.enis.get(from.as_str()) {
        let mut other = (**other).clone();
        other.secondary.retain(|a| *a != address);
        other.public.remove(&address);
        state.enis.put(other, now);
    }
}

/// The ENI has room for so many more slots: as its instance's type has it, or as the largest
/// type there is while it is attached nowhere (*assumed*).
fn check_room(
    state: &State,
    eni: &EniState,
    more_v4: u32,
    more_v6: u32,
    prefixes: bool,
) -> Result<(), ApiError> {
    let instance = eni
        .attachment
        .as_ref()
        .and_then(|a| state.instances.get(&a.instance));
    let kind: Option<&InstanceType> = instance.map(|i| &i.kind);
    let (v4, v6) = kind.map_or_else(
        || state.catalog.largest_eni(),
        |k| (k.ipv4_per_eni, k.ipv6_per_eni),
    );
    if let Some(kind) = kind.filter(|k| {
        mutant!(
            "model/prefixes-need-nitro",
            prefixes && !k.has_prefixes(),
            false && prefixes && k.has_prefixes()
        )
    }) {
        return Err(no_prefixes(&kind.name));
    }
    if more_v4 > 0
        && mutant!(
            "model/slots",
            eni.v4_slots() + more_v4 > v4,
            eni.v4_slots() > v4
        )
    {
        return Err(too_many_v4(eni.id.as_str()));
    }
    if more_v6 > 0 && eni.v6_slots() + more_v6 > v6 {
        return Err(too_many_v6(eni.id.as_str()));
    }
    Ok(())
}

pub(crate) fn unassign_v4(
    state: &mut State,
    r: &UnassignPrivateIpAddresses,
    now: Time,
) -> Result<Response, ApiError> {
    let mut eni = (**find_eni(state, &r.eni)?).clone();
    if r.addresses.is_empty() && r.prefixes.is_empty() {
        // *recorded*.
        return Err(ApiError::new(
            "MissingParameter",
            "One of privateIpAddresses or ipv4Prefixes must be specified.",
        ));
    }
    if r.addresses.contains(&eni.primary) {
        // *recorded*.
        return Err(ApiError::value(format!(
            "Value ({}) for parameter privateIpAddress is invalid. The primary IP address of \
             an interface cannot be unassigned.",
            eni.primary
        )));
    }
    if mutant!(
        "model/only-what-is-held-is-unassigned",
        !r.addresses.iter().all(|a| eni.secondary.contains(a))
            || !r.prefixes.iter().all(|p| eni.v4_prefixes.contains(p)),
        false
    ) {
        return Err(not_assigned(&eni.id));
    }
    eni.secondary.retain(|a| !r.addresses.contains(a));
    eni.v4_prefixes.retain(|p| !r.prefixes.contains(p));
    eni.public
        .retain(|private, _| !r.addresses.contains(private));
    for address in &r.addresses {
        state.holder4.remove(address);
    }
    if let Some(subnet) = state.subnets.get_mut(&eni.subnet) {
        let before = subnet.space4.free();
        r.addresses.iter().for_each(|a| subnet.space4.release(*a));
        r.prefixes
            .iter()
            .for_each(|p| subnet.space4.release_block(*p));
        subnet.note_free(before, now, WINDOW);
    }
    state.keep(eni, now);
    Ok(Response::UnassignedV4)
}

pub(crate) fn assign_v6(
    state: &mut State,
    r: &AssignIpv6Addresses,
    now: Time,
) -> Result<Response, ApiError> {
    let mut eni = (**find_eni(state, &r.eni)?).clone();
    check_one_way(
        &r.wanted,
        "You may specify one and only one of ipv6Addresses or ipv6AddressCount or ipv6Prefixes \
         or ipv6PrefixCount, but not more than one of them.",
        "One of ipv6Addresses or ipv6AddressCount or ipv6Prefixes or ipv6PrefixCount must be \
         specified.",
    )?;
    check_positive(r.wanted.address_count, "ipv6AddressCount")?;
    check_positive(r.wanted.prefix_count, "ipv6PrefixCount")?;
    let mut wanted = r.wanted.clone();
    wanted.addresses.retain(|a| !eni.v6.contains(a));
    wanted.addresses.sort_unstable();
    wanted.addresses.dedup();
    check_room(state, &eni, 0, slots(&wanted), has_prefixes(&wanted))?;
    let how = state.spec.placement;
    let subnet = state
        .subnets
        .get_mut(&eni.subnet)
        .ok_or_else(no_addresses)?;
    let got = take_v6(subnet, &wanted, how, &mut state.rng).map_err(|why| refused(&why))?;
    eni.v6.extend(&got.addresses);
    eni.v6_prefixes.extend(&got.prefixes);
    let id = eni.id.clone();
    state.keep(eni, now);
    Ok(Response::AssignedV6 {
        eni: id,
        addresses: got.addresses,
        prefixes: got.prefixes,
    })
}

pub(crate) fn unassign_v6(
    state: &mut State,
    r: &UnassignIpv6Addresses,
    now: Time,
) -> Result<Response, ApiError> {
    let mut eni = (**find_eni(state, &r.eni)?).clone();
    if r.addresses.is_empty() && r.prefixes.is_empty() {
        return Err(ApiError::new(
            "MissingParameter",
            "One of ipv6Addresses or ipv6Prefixes must be specified.",
        ));
    }
    if !r.addresses.iter().all(|a| eni.v6.contains(a))
        || !r.prefixes.iter().all(|p| eni.v6_prefixes.contains(p))
    {
        return Err(not_assigned(&eni.id));
    }
    eni.v6.retain(|a| !r.addresses.contains(a));
    eni.v6_prefixes.retain(|p| !r.prefixes.contains(p));
    if let Some(space) = state
        .subnets
        .get_mut(&eni.subnet)
        .and_then(|s| s.space6.as_mut())
    {
        r.addresses.iter().for_each(|a| space.release(*a));
        r.prefixes.iter().for_each(|p| space.release_block(*p));
    }
    let id = eni.id.clone();
    state.keep(eni, now);
    let (addresses, prefixes) = (r.addresses.clone(), r.prefixes.clone());
    Ok(Response::UnassignedV6 {
        eni: id,
        addresses,
        prefixes,
    })
}
