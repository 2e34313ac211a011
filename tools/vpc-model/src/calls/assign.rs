//! Assign and unassign, IPv4 and IPv6, addresses and prefixes.

use super::wanted::{
    check_one_way, check_one_way_v4, check_positive, has_prefixes, no_prefixes, not_assigned,
    refused, slots, too_many_v4, too_many_v6,
};
use crate::alloc::{Refusal, take_v4, take_v6};
use crate::error::ApiError;
use crate::ids::EniId;
use crate::request::{
    AssignIpv6Addresses, AssignPrivateIpAddresses, UnassignIpv6Addresses,
    UnassignPrivateIpAddresses, WantedV4,
};
use crate::response::{InstanceType, Response};
use crate::state::EniState;
use crate::store::WINDOW;
use crate::time::Time;
use crate::vpc::Vpc;
use std::net::Ipv4Addr;

impl Vpc {
    pub(crate) fn assign_v4(
        &mut self,
        r: &AssignPrivateIpAddresses,
        now: Time,
    ) -> Result<Response, ApiError> {
        let mut eni = (**self.eni(&r.eni)?).clone();
        check_one_way_v4(&r.wanted)?;
        let (moving, wanted) = self.split_moving(&eni, r)?;
        self.check_room(
            &eni,
            slots(&wanted) + u32::try_from(moving.len()).unwrap_or(u32::MAX),
            0,
            has_prefixes(&wanted),
        )?;
        let how = self.spec.placement;
        let subnet = self
            .subnets
            .get_mut(&eni.subnet)
            .ok_or_else(super::create::no_addresses)?;
        let before = subnet.space4.free();
        let got = take_v4(subnet, &wanted, how, &mut self.rng).map_err(|why| refused(&why))?;
        subnet.note_free(before, now, WINDOW);
        for (address, from) in &moving {
            self.take_from(from, *address, now);
        }
        let mut addresses: Vec<Ipv4Addr> = moving.into_iter().map(|(a, _)| a).collect();
        addresses.extend(got.addresses);
        self.hold(&eni.id, &addresses);
        eni.secondary.extend(&addresses);
        eni.v4_prefixes.extend(&got.prefixes);
        let id = eni.id.clone();
        self.enis.put(eni, now);
        self.generation += 1;
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
        &self,
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
            match self.holder4.get(&address) {
                Some(holder) if *holder == eni.id => {}
                Some(holder) => {
                    let other = self.eni(holder)?;
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
    fn take_from(&mut self, from: &EniId, address: Ipv4Addr, now: Time) {
        if let Some(other) = self.enis.get(from.as_str()) {
            let mut other = (**other).clone();
            other.secondary.retain(|a| *a != address);
            other.public.remove(&address);
            self.enis.put(other, now);
        }
    }

    /// The ENI has room for so many more slots: as its instance's type has it, or as the largest
    /// type there is while it is attached nowhere (*assumed*).
    fn check_room(
        &self,
        eni: &EniState,
        more_v4: u32,
        more_v6: u32,
        prefixes: bool,
    ) -> Result<(), ApiError> {
        let instance = eni
            .attachment
            .as_ref()
            .and_then(|a| self.instances.get(&a.instance));
        let kind: Option<&InstanceType> = instance.map(|i| self.type_of(i)).transpose()?;
        let (v4, v6) = kind.map_or_else(
            || self.catalog.largest_eni(),
            |k| (k.ipv4_per_eni, k.ipv6_per_eni),
        );
        if let Some(kind) = kind.filter(|k| prefixes && !k.has_prefixes()) {
            return Err(no_prefixes(&kind.name));
        }
        if more_v4 > 0 && eni.v4_slots() + more_v4 > v4 {
            return Err(too_many_v4(eni.id.as_str()));
        }
        if more_v6 > 0 && eni.v6_slots() + more_v6 > v6 {
            return Err(too_many_v6(eni.id.as_str()));
        }
        Ok(())
    }

    pub(crate) fn unassign_v4(
        &mut self,
        r: &UnassignPrivateIpAddresses,
        now: Time,
    ) -> Result<Response, ApiError> {
        let mut eni = (**self.eni(&r.eni)?).clone();
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
        if !r.addresses.iter().all(|a| eni.secondary.contains(a))
            || !r.prefixes.iter().all(|p| eni.v4_prefixes.contains(p))
        {
            return Err(not_assigned(&eni.id));
        }
        eni.secondary.retain(|a| !r.addresses.contains(a));
        eni.v4_prefixes.retain(|p| !r.prefixes.contains(p));
        eni.public
            .retain(|private, _| !r.addresses.contains(private));
        for address in &r.addresses {
            self.holder4.remove(address);
        }
        if let Some(subnet) = self.subnets.get_mut(&eni.subnet) {
            let before = subnet.space4.free();
            r.addresses.iter().for_each(|a| subnet.space4.release(*a));
            r.prefixes
                .iter()
                .for_each(|p| subnet.space4.release_block(*p));
            subnet.note_free(before, now, WINDOW);
        }
        self.enis.put(eni, now);
        self.generation += 1;
        Ok(Response::UnassignedV4)
    }

    pub(crate) fn assign_v6(
        &mut self,
        r: &AssignIpv6Addresses,
        now: Time,
    ) -> Result<Response, ApiError> {
        let mut eni = (**self.eni(&r.eni)?).clone();
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
        self.check_room(&eni, 0, slots(&wanted), has_prefixes(&wanted))?;
        let how = self.spec.placement;
        let subnet = self
            .subnets
            .get_mut(&eni.subnet)
            .ok_or_else(super::create::no_addresses)?;
        let got = take_v6(subnet, &wanted, how, &mut self.rng).map_err(|why| refused(&why))?;
        eni.v6.extend(&got.addresses);
        eni.v6_prefixes.extend(&got.prefixes);
        let id = eni.id.clone();
        self.enis.put(eni, now);
        self.generation += 1;
        Ok(Response::AssignedV6 {
            eni: id,
            addresses: got.addresses,
            prefixes: got.prefixes,
        })
    }

    pub(crate) fn unassign_v6(
        &mut self,
        r: &UnassignIpv6Addresses,
        now: Time,
    ) -> Result<Response, ApiError> {
        let mut eni = (**self.eni(&r.eni)?).clone();
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
        if let Some(space) = self
            .subnets
            .get_mut(&eni.subnet)
            .and_then(|s| s.space6.as_mut())
        {
            r.addresses.iter().for_each(|a| space.release(*a));
            r.prefixes.iter().for_each(|p| space.release_block(*p));
        }
        let id = eni.id.clone();
        self.enis.put(eni, now);
        self.generation += 1;
        let (addresses, prefixes) = (r.addresses.clone(), r.prefixes.clone());
        Ok(Response::UnassignedV6 {
            eni: id,
            addresses,
            prefixes,
        })
    }
}
