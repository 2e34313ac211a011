//! Showing what another EC2 has decided: the model's ENIs are made to be those that it is told, so
//! that its IMDS and wires tell the same story. Decides nothing itself; checks only that no address
//! is in two places, since a wire can't carry that.

use crate::state::State;
use crate::state::alloc::{Refusal, take_v4};
use crate::state::latency::sample;
use crate::state::{AttachState, EniState};
use crate::words::caller::Caller;
use crate::words::ids::{AttachmentId, EniId, GroupId, InstanceId, Mac, SubnetId};
use crate::words::request::{Tags, Tracking, WantedV4};
use crate::words::time::Time;
use ipnet::Ipv4Net;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use thiserror::Error;

/// An ENI as the other EC2 has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Twin {
    /// Its id there, and here.
    pub id: EniId,
    /// Its Ethernet address.
    pub mac: Mac,
    /// One of the model's.
    pub subnet: SubnetId,
    /// Primary address.
    pub primary: Ipv4Addr,
    /// Secondary addresses.
    pub secondary: Vec<Ipv4Addr>,
    /// /28 prefixes.
    pub prefixes: Vec<Ipv4Net>,
    /// Security groups.
    pub groups: Vec<GroupId>,
    /// Free text.
    pub description: String,
    /// Tags.
    pub tags: Tags,
    /// Where it hangs, if anywhere.
    pub attachment: Option<TwinAttachment>,
}

/// How a [`Twin`] hangs on an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TwinAttachment {
    /// Its id there, and here.
    pub id: AttachmentId,
    /// One of the model's.
    pub instance: InstanceId,
    /// Device index.
    pub device_index: u32,
    /// Network card.
    pub card: u32,
    /// Whether the ENI goes with the instance.
    pub delete_on_termination: bool,
}

/// What can't be shown.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MirrorError {
    /// The model has no such subnet.
    #[error("{eni} is in {subnet}, which is not here")]
    NoSubnet {
        /// The ENI.
        eni: EniId,
        /// Its subnet.
        subnet: SubnetId,
    },
    /// The model has no such instance.
    #[error("{eni} is attached to {instance}, which is not here")]
    NoInstance {
        /// The ENI.
        eni: EniId,
        /// Its instance.
        instance: InstanceId,
    },
    /// Another ENI has the address too, or no ENI may have it.
    #[error("{eni} can't have what it is said to have: {why}")]
    Address {
        /// The ENI.
        eni: EniId,
        /// Which address, and why not.
        why: String,
    },
}

/// Makes the ENIs of the VPC be exactly those. What is new appears as a link and in IMDS after
/// the latencies of the spec, as with a call; what is gone, is gone at once. Nodes' first ENIs
/// keep their public addresses.
///
/// # Errors
/// What can't be shown; ENIs before it in the list are as told then, others may be gone.
pub(crate) fn mirror(state: &mut State, twins: &[Twin], now: Time) -> Result<(), MirrorError> {
    let now = state.advance(now);
    let known: BTreeMap<EniId, EniState> = state
        .enis
        .iter()
        .map(|eni| (eni.id.clone(), (**eni).clone()))
        .collect();
    let there: BTreeSet<&EniId> = twins.iter().map(|t| &t.id).collect();
    // First all that goes: an address may go from one ENI to another.
    for eni in known.values() {
        let gone = !there.contains(&eni.id);
        let same = twins.iter().any(|t| t.id == eni.id && holds(eni, t));
        if gone || !same {
            state.release_all(eni);
        }
        if gone {
            state.enis.remove(&eni.id, now);
            state.generation += 1;
        }
    }
    for twin in twins {
        mirror_one(state, twin, known.get(&twin.id), now)?;
    }
    Ok(())
}

fn mirror_one(
    state: &mut State,
    twin: &Twin,
    before: Option<&EniState>,
    now: Time,
) -> Result<(), MirrorError> {
    let attachment = match &twin.attachment {
        Some(attachment) => Some(mirror_attachment(state, twin, attachment, before, now)?),
        None => None,
    };
    if before.is_none_or(|eni| !holds(eni, twin)) {
        take_for_mirror(state, twin)?;
    }
    let mut eni = before
        .cloned()
        .unwrap_or_else(|| empty(twin, &state.spec.account_id, now));
    let hung = |a: &Option<AttachState>| a.as_ref().map(|a| a.id.clone());
    if hung(&eni.attachment) != hung(&attachment) {
        eni.settled_since = now;
    }
    eni.primary = twin.primary;
    eni.secondary.clone_from(&twin.secondary);
    eni.v4_prefixes.clone_from(&twin.prefixes);
    eni.groups.clone_from(&twin.groups);
    eni.description.clone_from(&twin.description);
    eni.tags.clone_from(&twin.tags);
    eni.attachment = attachment;
    if before != Some(&eni) {
        state.keep(eni, now);
    }
    Ok(())
}

fn mirror_attachment(
    state: &mut State,
    twin: &Twin,
    wanted: &TwinAttachment,
    before: Option<&EniState>,
    now: Time,
) -> Result<AttachState, MirrorError> {
    if !state.instances.contains_key(&wanted.instance) {
        return Err(MirrorError::NoInstance {
            eni: twin.id.clone(),
            instance: wanted.instance.clone(),
        });
    }
    // An instance's first interface has hung there since the launch, whatever its attachment
    // was called here.
    let primary = state
        .instances
        .get(&wanted.instance)
        .map(|i| &i.primary_eni);
    let first = |a: &AttachState| primary == Some(&twin.id) && a.instance == wanted.instance;
    let same = before
        .and_then(|eni| eni.attachment.clone())
        .filter(|a| a.id == wanted.id || first(a));
    let mut attachment = match same {
        Some(attachment) => attachment,
        None => AttachState {
            id: wanted.id.clone(),
            instance: wanted.instance.clone(),
            device_index: wanted.device_index,
            card: wanted.card,
            attached_at: now,
            linked_at: now + sample(&state.spec.latencies.eni_link_ms, &mut state.rng),
            in_imds_at: now + sample(&state.spec.latencies.eni_in_imds_ms, &mut state.rng),
            detaching: None,
            delete_on_termination: false,
        },
    };
    attachment.id.clone_from(&wanted.id);
    attachment.delete_on_termination = wanted.delete_on_termination;
    Ok(attachment)
}

fn take_for_mirror(state: &mut State, twin: &Twin) -> Result<(), MirrorError> {
    let mut addresses = vec![twin.primary];
    addresses.extend(&twin.secondary);
    let wanted = WantedV4 {
        addresses: addresses.clone(),
        prefixes: twin.prefixes.clone(),
        ..WantedV4::default()
    };
    let how = state.spec.placement;
    let Some(subnet) = state.subnets.get_mut(&twin.subnet) else {
        return Err(MirrorError::NoSubnet {
            eni: twin.id.clone(),
            subnet: twin.subnet.clone(),
        });
    };
    take_v4(subnet, &wanted, how, &mut state.rng).map_err(|why| MirrorError::Address {
        eni: twin.id.clone(),
        why: words(&why),
    })?;
    state.hold(&twin.id, &addresses);
    Ok(())
}

fn holds(eni: &EniState, twin: &Twin) -> bool {
    eni.primary == twin.primary
        && eni.secondary == twin.secondary
        && eni.v4_prefixes == twin.prefixes
}

fn empty(twin: &Twin, account: &str, now: Time) -> EniState {
    EniState {
        id: twin.id.clone(),
        subnet: twin.subnet.clone(),
        mac: twin.mac,
        description: String::new(),
        groups: Vec::new(),
        primary: twin.primary,
        secondary: Vec::new(),
        v4_prefixes: Vec::new(),
        v6: Vec::new(),
        v6_prefixes: Vec::new(),
        public: BTreeMap::new(),
        source_dest_check: true,
        interface_type: "interface".into(),
        tracking: Tracking::default(),
        tags: BTreeMap::new(),
        attachment: None,
        creator: Caller::Operator,
        requester: account.to_owned(),
        owner: None,
        is_strangers: false,
        settled_since: now,
    }
}

fn words(why: &Refusal) -> String {
    match why {
        Refusal::Outside(a) => format!("{a} is not in its subnet"),
        Refusal::Reserved(a) => format!("{a} is one that EC2 keeps"),
        Refusal::InUse(a) => format!("{a} is held by another"),
        Refusal::PrefixInUse(p) => format!("part of {p} is held by another"),
        other => format!("{other:?}"),
    }
}
