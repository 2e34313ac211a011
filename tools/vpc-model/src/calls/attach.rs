//! AttachNetworkInterface, DetachNetworkInterface, DeleteNetworkInterface.

use super::not_found::{INSTANCE, find_attachment, find_eni};
use crate::state::State;
use crate::state::latency::sample;
use crate::state::{AttachState, EniState, InstanceState};
use crate::words::error::ApiError;
use crate::words::ids::{AttachmentId, fresh};
use crate::words::request::{
    AttachNetworkInterface, DeleteNetworkInterface, DetachNetworkInterface,
};
use crate::words::response::{InstanceType, Response};
use crate::words::time::Time;
use mutant::mutant;

pub(crate) fn attach_eni(
    state: &mut State,
    r: &AttachNetworkInterface,
    now: Time,
) -> Result<Response, ApiError> {
    let mut eni = (**find_eni(state, &r.eni)?).clone();
    INSTANCE.require(&[&r.instance], |id| state.instances.contains_key(id))?;
    let instance = state
        .instances
        .get(&r.instance)
        .ok_or_else(|| INSTANCE.missing(&[r.instance.as_str()]))?;
    if eni.attachment.is_some() {
        // *recorded*.
        let text = format!("Interface: [{}] in use.", eni.id);
        return Err(ApiError::new("InvalidNetworkInterface.InUse", text));
    }
    check_attach(state, &eni, instance, r, now)?;
    let latencies = &state.spec.latencies;
    let id = AttachmentId::from(fresh("eni-attach", &mut state.rng));
    let card = r.card.unwrap_or(0);
    eni.attachment = Some(AttachState {
        id: id.clone(),
        instance: r.instance.clone(),
        device_index: r.device_index,
        card,
        attached_at: now,
        linked_at: now + sample(&latencies.eni_link_ms, &mut state.rng),
        in_imds_at: now + sample(&latencies.eni_in_imds_ms, &mut state.rng),
        detaching: None,
        // *documented*: only ModifyNetworkInterfaceAttribute sets it.
        delete_on_termination: false,
    });
    eni.settled_since = now;
    state.keep(eni, now);
    Ok(Response::Attached {
        attachment: id,
        card,
    })
}

fn check_attach(
    state: &State,
    eni: &EniState,
    instance: &InstanceState,
    r: &AttachNetworkInterface,
    now: Time,
) -> Result<(), ApiError> {
    if instance.terminated.is_some() {
        // *recorded* code; text *assumed*.
        let text = format!("Instance '{}' is not 'running' or 'stopped'", instance.id);
        return Err(ApiError::new("IncorrectState", text));
    }
    let zone = |id| state.subnets.get(id).map(|s| s.zone.as_str());
    if zone(&eni.subnet) != zone(&instance.subnet) {
        // *documented*: "must be in the same Availability Zone"; text *recorded*.
        return Err(ApiError::combination(
            "You may not attach a network interface to an instance if they are not in the same \
             availability zone",
        ));
    }
    let card = r.card.unwrap_or(0);
    let attached = state.enis.on_instance(instance.id.as_str(), now);
    let slots = attached.iter().filter_map(|e| e.attachment.as_ref());
    let on_card: Vec<u32> = slots
        .filter(|a| a.card == card)
        .map(|a| a.device_index)
        .collect();
    let kind = &instance.kind;
    let cards = kind.card_enis.len();
    let Some(room) = usize::try_from(card)
        .ok()
        .and_then(|c| kind.card_enis.get(c))
    else {
        // *assumed* text.
        return Err(ApiError::value(format!(
            "Network card index {card} is invalid. {} has {cards} network card(s).",
            kind.name
        )));
    };
    if mutant!(
        "model/one-eni-per-place",
        on_card.contains(&r.device_index),
        false
    ) {
        // *recorded*.
        return Err(ApiError::value(format!(
            "Instance '{}' already has an interface attached at device index '{}'.",
            instance.id, r.device_index
        )));
    }
    let over = |count: usize, limit: u32| u32::try_from(count).is_ok_and(|c| c > limit);
    if mutant!(
        "model/attachment-limit",
        over(on_card.len() + 1, *room) || over(attached.len() + 1, kind.max_enis()),
        over(on_card.len(), *room)
    ) {
        // *recorded*.
        let count = if cards == 1 {
            attached.len()
        } else {
            on_card.len()
        } + 1;
        return Err(ApiError::new(
            "AttachmentLimitExceeded",
            format!(
                "Interface count {count} exceeds the limit for {}",
                kind.name
            ),
        ));
    }
    check_carried(eni, kind)
}

pub(crate) fn detach_eni(
    state: &mut State,
    r: &DetachNetworkInterface,
    now: Time,
) -> Result<Response, ApiError> {
    let mut eni = (**find_attachment(state, &r.attachment)?).clone();
    let Some(attachment) = eni.attachment.as_mut() else {
        return Err(ApiError::new(
            "InvalidAttachmentID.NotFound",
            "not attached",
        ));
    };
    let on = state.instances.get(&attachment.instance);
    if on.is_some_and(|i| i.primary_eni == eni.id) {
        // *recorded* for index 0; *assumed* for a primary ENI at another.
        let (index, card) = (attachment.device_index, attachment.card);
        return Err(ApiError::new(
            "OperationNotPermitted",
            format!(
                "The network interface at device index {index} and networkCard index {card} \
                 cannot be detached."
            ),
        ));
    }
    if attachment.detaching.is_none() {
        let takes = sample(&state.spec.latencies.eni_detach_ms, &mut state.rng);
        // Force does not wait for the instance (*assumed*: it is done at once).
        let end = if r.force { now } else { now + takes };
        attachment.detaching = Some((now, end));
        state.detaching.insert((end, eni.id.clone()));
        state.keep(eni, now);
        state.advance(now);
    }
    // A second Detach while the first runs is accepted (*assumed*).
    Ok(Response::Done)
}

pub(crate) fn delete_eni(
    state: &mut State,
    r: &DeleteNetworkInterface,
    now: Time,
) -> Result<Response, ApiError> {
    let eni = find_eni(state, &r.eni)?.clone();
    if mutant!(
        "model/attached-is-not-deleted",
        eni.attachment.is_some(),
        false && eni.attachment.is_some()
    ) {
        // *recorded*.
        let text = format!("Network interface '{}' is currently in use.", eni.id);
        return Err(ApiError::value(text));
    }
    state.release_all(&eni);
    state.enis.remove(&eni.id, now);
    Ok(Response::Done)
}

/// An ENI may bring more than the instance's type can carry.
fn check_carried(eni: &EniState, kind: &InstanceType) -> Result<(), ApiError> {
    if eni.v4_slots() > kind.ipv4_per_eni || eni.v6_slots() > kind.ipv6_per_eni {
        // *documented* code; text *assumed*.
        return Err(ApiError::new(
            "InvalidInterface.IpAddressLimitExceeded",
            format!("Too many addresses on {} for {}", eni.id, kind.name),
        ));
    }
    if !kind.has_prefixes() && eni.v4_prefixes.len() + eni.v6_prefixes.len() > 0 {
        return Err(super::wanted::no_prefixes(&kind.name));
    }
    Ok(())
}
