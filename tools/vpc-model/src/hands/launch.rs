//! Launching and terminating instances.

use crate::state::State;
use crate::state::alloc::{GotV4, GotV6, Refusal, take_v4, take_v6};
use crate::state::catalog::change;
use crate::state::{AttachState, EniState, InstanceState, SubnetState};
use crate::words::caller::Caller;
use crate::words::error::SpecError;
use crate::words::ids::{AttachmentId, EniId, GroupId, InstanceId, Mac, NodeName, SubnetId, fresh};
use crate::words::request::{Tracking, WantedV4, WantedV6};
use crate::words::response::InstanceType;
use crate::words::rng::Rng;
use crate::words::spec::{NodeSpec, Placement};
use crate::words::time::Time;
use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// Launches a node with its primary ENI; `field` names it in errors.
pub(crate) fn launch_node(
    state: &mut State,
    node: &NodeSpec,
    field: &str,
    now: Time,
) -> Result<InstanceId, SpecError> {
    let bad = |what: &str, why: String| SpecError {
        problems: vec![format!("{field}.{what}: {why}")],
    };
    let before = state.nodes.get(node.name.as_str());
    let running = before.and_then(|id| state.instances.get(id));
    if running.is_some_and(|i| i.terminated.is_none()) {
        return Err(bad(
            "name",
            format!("there is a node {:?} already", node.name),
        ));
    }
    let in_use = |what: &str, id: &str| bad(what, format!("{id} is there already"));
    let instance = node.instance_id.as_deref();
    if let Some(id) = instance.filter(|id| state.instances.contains_key(*id)) {
        return Err(in_use("instance_id", id));
    }
    let eni = node.eni_id.as_deref();
    if let Some(id) = eni.filter(|id| state.enis.get(id).is_some()) {
        return Err(in_use("eni_id", id));
    }
    let Some(kind) = state.catalog.get(&node.instance_type).cloned() else {
        let why = format!(
            "unknown type {:?}; describe it in limits.types",
            node.instance_type
        );
        return Err(bad("instance_type", why));
    };
    let kind = change(kind, &node.limits);
    check_launch_limits(node, &kind).map_err(|(what, why)| bad(what, why))?;
    let subnet = state
        .subnet_named(node.subnet.as_deref())
        .ok_or_else(|| bad("subnet", format!("no subnet is {:?}", node.subnet)))?;
    let groups = state
        .groups_named(&node.security_groups)
        .map_err(|name| bad("security_groups", format!("there is no group {name:?}")))?;
    let id = node
        .instance_id
        .clone()
        .unwrap_or_else(|| fresh("i", &mut state.rng));
    let id = InstanceId::from(id);
    let eni = launch_eni(state, node, &id, &subnet, groups, now).map_err(|why| {
        bad(
            "primary_ip, launch_prefixes or launch_addresses",
            format!("{why:?}"),
        )
    })?;
    let (image, reservation) = (fresh("ami", &mut state.rng), fresh("r", &mut state.rng));
    let (primary, names) = ((subnet, eni.id.clone()), (image, reservation));
    let instance = InstanceState::new(id.clone(), node, kind, primary, names, now);
    state.instances.insert(id.clone(), instance);
    state
        .nodes
        .insert(NodeName::from(node.name.as_str()), id.clone());
    state.keep(eni, now);
    Ok(id)
}

fn launch_eni(
    state: &mut State,
    node: &NodeSpec,
    instance: &InstanceId,
    subnet_id: &SubnetId,
    groups: Vec<GroupId>,
    now: Time,
) -> Result<EniState, Refusal> {
    let how = state.spec.placement;
    let subnet = state
        .subnets
        .get_mut(subnet_id)
        .ok_or(Refusal::NoAddresses)?;
    let before = subnet.space4.free();
    let (mut addresses, prefixes, six) = take_for_launch(subnet, node, how, &mut state.rng)?;
    subnet.note_free(before, now, crate::state::store::WINDOW);
    let public = node.public_ip.or_else(|| {
        // Launches in such a subnet get an address from Amazon's pool (*documented*); here
        // from the benchmarking range 198.18.0.0/15 (*assumed*).
        subnet.map_public_ip.then(|| {
            let n = u32::try_from(state.rng.below(1 << 17)).unwrap_or(1);
            Ipv4Addr::from(u32::from(Ipv4Addr::new(198, 18, 0, 0)) + n)
        })
    });
    let (id, mac) = (fresh("eni", &mut state.rng), Mac::fresh(&mut state.rng));
    let id = EniId::from(node.eni_id.clone().unwrap_or(id));
    state.hold(&id, &addresses);
    let primary = addresses.remove(0);
    Ok(EniState {
        id,
        subnet: subnet_id.clone(),
        mac: node.mac.unwrap_or(mac),
        description: String::new(),
        groups,
        primary,
        secondary: addresses,
        v4_prefixes: prefixes,
        v6: six.addresses,
        v6_prefixes: six.prefixes,
        public: public.map(|p| (primary, p)).into_iter().collect(),
        source_dest_check: true,
        interface_type: "interface".into(),
        tracking: Tracking::default(),
        tags: BTreeMap::new(),
        attachment: Some(AttachState {
            id: AttachmentId::from(fresh("eni-attach", &mut state.rng)),
            instance: instance.clone(),
            device_index: node.device_index,
            card: node.network_card,
            attached_at: now,
            linked_at: now,
            in_imds_at: now,
            detaching: None,
            // *documented*: set for interfaces made at launch, by default.
            delete_on_termination: true,
        }),
        creator: Caller::Operator,
        requester: state.spec.account_id.clone(),
        owner: None,
        is_strangers: false,
        settled_since: now,
    })
}

/// Ends an instance. ENIs with DeleteOnTermination go, others become available at once
/// (*documented*, but for the time).
pub(crate) fn terminate(state: &mut State, id: &InstanceId, now: Time) {
    let Some(instance) = state.instances.get_mut(id) else {
        return;
    };
    if instance.terminated.is_some() {
        return;
    }
    instance.terminated = Some(now);
    let enis: Vec<EniState> = state
        .enis
        .on_instance(id.as_str(), now)
        .into_iter()
        .map(|e| (**e).clone())
        .collect();
    for eni in enis {
        if eni
            .attachment
            .as_ref()
            .is_some_and(|a| a.delete_on_termination)
        {
            state.release_all(&eni);
            state.enis.remove(&eni.id, now);
        } else {
            state.set_available(eni, now);
        }
    }
    state.generation += 1;
}

/// What a node has from launch, its primary address first; all or nothing.
fn take_for_launch(
    subnet: &mut SubnetState,
    node: &NodeSpec,
    how: Placement,
    rng: &mut Rng,
) -> Result<(Vec<Ipv4Addr>, Vec<Ipv4Net>, GotV6), Refusal> {
    let wanted = WantedV4 {
        addresses: node.primary_ip.into_iter().collect(),
        address_count: Some(node.launch_addresses + u32::from(node.primary_ip.is_none())),
        prefix_count: Some(node.launch_prefixes),
        ..WantedV4::default()
    };
    let GotV4 {
        addresses,
        prefixes,
    } = take_v4(subnet, &wanted, how, rng)?;
    let v6 = WantedV6 {
        address_count: Some(node.launch_ipv6_addresses),
        prefix_count: Some(node.launch_ipv6_prefixes),
        ..WantedV6::default()
    };
    let six = match take_v6(subnet, &v6, how, rng) {
        Ok(six) => six,
        Err(why) => {
            addresses.into_iter().for_each(|a| subnet.space4.release(a));
            prefixes
                .into_iter()
                .for_each(|p| subnet.space4.release_block(p));
            return Err(why);
        }
    };
    Ok((addresses, prefixes, six))
}

fn check_launch_limits(node: &NodeSpec, kind: &InstanceType) -> Result<(), (&'static str, String)> {
    let card = usize::try_from(node.network_card).ok();
    if card
        .and_then(|c| kind.card_enis.get(c))
        .is_none_or(|n| *n == 0)
    {
        let why = format!("{} has no room on card {}", kind.name, node.network_card);
        return Err(("network_card", why));
    }
    let slots = 1 + node.launch_prefixes + node.launch_addresses;
    if slots > kind.ipv4_per_eni {
        let why = format!(
            "{slots} IPv4 slots, but {} has {} an interface",
            kind.name, kind.ipv4_per_eni
        );
        return Err(("launch_prefixes", why));
    }
    let slots = node.launch_ipv6_prefixes + node.launch_ipv6_addresses;
    if slots > kind.ipv6_per_eni {
        let why = format!(
            "{slots} IPv6 slots, but {} has {} an interface",
            kind.name, kind.ipv6_per_eni
        );
        return Err(("launch_ipv6_prefixes", why));
    }
    if node.launch_prefixes + node.launch_ipv6_prefixes > 0 && !kind.has_prefixes() {
        return Err((
            "launch_prefixes",
            format!("{} can't have prefixes: it is not Nitro", kind.name),
        ));
    }
    Ok(())
}
