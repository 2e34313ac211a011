//! CreateNetworkInterface.

use super::not_found::{GROUP_OF_ENI, SUBNET, find_eni};
use super::wanted::no_addresses;
use crate::state::EniState;
use crate::state::State;
use crate::state::alloc::{GotV4, GotV6, Refusal, take_v4, take_v6};
use crate::state::store::WINDOW;
use crate::views::eni_view;
use crate::words::caller::Caller;
use crate::words::error::ApiError;
use crate::words::ids::{EniId, Mac, SubnetId, fresh};
use crate::words::request::{CreateNetworkInterface, WantedV4};
use crate::words::response::Response;
use crate::words::time::Time;
use mutant::mutant;
use std::collections::BTreeMap;

/// *documented*: kinds that a caller may ask for; none means `interface`.
const TYPES: [&str; 5] = ["interface", "efa", "efa-only", "trunk", "branch"];

pub(crate) fn create_eni(
    state: &mut State,
    caller: &Caller,
    r: &CreateNetworkInterface,
    now: Time,
) -> Result<Response, ApiError> {
    if let Some(answer) = created_before(state, r, now)? {
        return Ok(answer);
    }
    let subnet = r
        .subnet
        .clone()
        .ok_or_else(|| ApiError::missing("subnetId"))?;
    check_create(state, r, &subnet)?;
    let before = state.subnets.get(&subnet).map_or(0, |s| s.space4.free());
    let (v4, v6) = take_for_create(state, r, &subnet)?;
    let id = EniId::from(fresh("eni", &mut state.rng));
    state.hold(&id, &v4.addresses);
    if let Some(s) = state.subnets.get_mut(&subnet) {
        s.note_free(before, now, WINDOW);
    }
    let groups = match r.groups.as_slice() {
        [] => state.default_group().into_iter().collect(),
        some => some.to_vec(),
    };
    let mut addresses = v4.addresses.into_iter();
    let Some(primary) = addresses.next() else {
        return Err(no_addresses());
    };
    let eni = EniState {
        id: id.clone(),
        subnet,
        mac: Mac::fresh(&mut state.rng),
        description: r.description.clone(),
        groups,
        primary,
        secondary: addresses.collect(),
        v4_prefixes: v4.prefixes,
        v6: v6.addresses,
        v6_prefixes: v6.prefixes,
        public: BTreeMap::new(),
        source_dest_check: true,
        interface_type: r
            .interface_type
            .clone()
            .unwrap_or_else(|| "interface".into()),
        tracking: r.tracking,
        tags: r.tags.clone(),
        attachment: None,
        creator: caller.clone(),
        requester: state.requester_of(caller),
        owner: None,
        is_strangers: false,
        settled_since: now,
    };
    let token = r
        .client_token
        .clone()
        .unwrap_or_else(|| fresh("token", &mut state.rng));
    if mutant!(
        "model/token-is-kept",
        r.client_token.is_some(),
        false && r.client_token.is_some()
    ) {
        state.client_tokens.insert(token.clone(), (r.clone(), id));
    }
    let mut view = eni_view(state, &eni, now);
    view.status = "pending";
    state.enis.put(eni, now);
    Ok(Response::Created {
        eni: Box::new(view),
        client_token: token,
    })
}

/// Whether the same request has gone well before.
pub(super) fn is_done(state: &State, r: &CreateNetworkInterface) -> bool {
    let first = r.client_token.as_ref();
    let first = first.and_then(|token| state.client_tokens.get(token));
    first.is_some_and(|(first, _)| first == r)
}

/// The answer to a repeated request with the same client token (*documented*: "Ensuring
/// idempotency in Amazon EC2 API requests").
fn created_before(
    state: &State,
    r: &CreateNetworkInterface,
    now: Time,
) -> Result<Option<Response>, ApiError> {
    let Some(token) = &r.client_token else {
        return Ok(None);
    };
    // *documented*: up to 64 ASCII characters.
    if token.len() > 64 || !token.is_ascii() {
        return Err(ApiError::value(format!("Invalid client token: {token}")));
    }
    let Some((first, id)) = state.client_tokens.get(token) else {
        return Ok(None);
    };
    if mutant!("model/client-token", first != r, false && first != r) {
        return Err(ApiError::new(
            "IdempotentParameterMismatch",
            "Arguments on this idempotent request are inconsistent with arguments used in \
             previous request(s).",
        ));
    }
    // An ENI that was deleted since is answered as not found (*assumed*).
    let view = eni_view(state, find_eni(state, id)?, now);
    Ok(Some(Response::Created {
        eni: Box::new(view),
        client_token: token.clone(),
    }))
}

fn check_create(
    state: &State,
    r: &CreateNetworkInterface,
    subnet: &SubnetId,
) -> Result<(), ApiError> {
    SUBNET.require(&[subnet], |id| state.subnets.contains_key(id))?;
    GROUP_OF_ENI.require(&r.groups, |id| state.groups.contains_key(id))?;
    super::tags::check(&BTreeMap::new(), &r.tags)?;
    super::modify::check_tracking(&r.tracking)?;
    if r.interface_type
        .as_ref()
        .is_some_and(|t| !TYPES.contains(&t.as_str()))
    {
        return Err(ApiError::value("Invalid interface type"));
    }
    // *documented*: 255 characters for descriptions in EC2.
    if r.description.chars().count() > 255 {
        return Err(ApiError::value("Description is longer than 255 characters"));
    }
    super::wanted::check_kinds(&r.v4, "v4")?;
    super::wanted::check_kinds(&r.v6, "v6")?;
    let (v4, v6) = state.catalog.largest_eni();
    if super::wanted::slots(&r.v4) + 1 > v4 {
        return Err(super::wanted::too_many_v4("CreateNetworkInterface"));
    }
    if super::wanted::slots(&r.v6) > v6 {
        return Err(super::wanted::too_many_v6("CreateNetworkInterface"));
    }
    let quota = usize::try_from(state.spec.limits.network_interfaces).unwrap_or(usize::MAX);
    let own = state.enis.iter().filter(|e| e.owner.is_none()).count();
    if own >= quota {
        // *documented* code; text *assumed*.
        return Err(ApiError::new(
            "NetworkInterfaceLimitExceeded",
            "You have exceeded the number of network interfaces allowed per Region.",
        ));
    }
    Ok(())
}

/// Primary address first, then what else is wanted.
fn take_for_create(
    state: &mut State,
    r: &CreateNetworkInterface,
    subnet: &SubnetId,
) -> Result<(GotV4, GotV6), ApiError> {
    let how = state.spec.placement;
    let rng = &mut state.rng;
    let subnet = state.subnets.get_mut(subnet).ok_or_else(no_addresses)?;
    let primary = WantedV4 {
        addresses: r.primary.into_iter().collect(),
        address_count: Some(u32::from(r.primary.is_none())),
        ..WantedV4::default()
    };
    let mut v4 = take_v4(subnet, &primary, how, rng).map_err(|why| match why {
        Refusal::NoAddresses => no_addresses(),
        why => refused(&why),
    })?;
    let give_back = |subnet: &mut crate::state::SubnetState, v4: GotV4| {
        v4.addresses
            .into_iter()
            .for_each(|a| subnet.space4.release(a));
        v4.prefixes
            .into_iter()
            .for_each(|p| subnet.space4.release_block(p));
    };
    match take_v4(subnet, &r.v4, how, rng) {
        Ok(more) => {
            v4.addresses.extend(more.addresses);
            v4.prefixes.extend(more.prefixes);
        }
        Err(why) => {
            give_back(subnet, v4);
            return Err(refused(&why));
        }
    }
    match take_v6(subnet, &r.v6, how, rng) {
        Ok(v6) => Ok((v4, v6)),
        Err(why) => {
            give_back(subnet, v4);
            Err(refused(&why))
        }
    }
}

/// CreateNetworkInterface's words for what a subnet can't give.
fn refused(why: &Refusal) -> ApiError {
    match why {
        // *recorded*: amazon-vpc-cni-k8s issue 3105; other than Assign's codes.
        Refusal::NoAddresses | Refusal::NoBlocks => {
            ApiError::value("There aren't sufficient free Ipv4 addresses or prefixes")
        }
        // *recorded*.
        Refusal::InUse(_) => ApiError::new(
            "InvalidIPAddress.InUse",
            "The specified address is already in use.",
        ),
        why => super::wanted::refused(why),
    }
}
