//! ENIs that others have put into the VPC: another account's, another cluster's, or ones that no
//! program is to touch. They come and go at once, by a hand that is not in this world.

use crate::calls::attach::attach_eni;
use crate::calls::create::create_eni;
use crate::calls::not_found::INSTANCE;
use crate::state::State;
use crate::words::caller::Caller;
use crate::words::error::ApiError;
use crate::words::ids::{EniId, SubnetId};
use crate::words::request::{AttachNetworkInterface, CreateNetworkInterface, Tags, WantedV4};
use crate::words::response::Response;
use crate::words::time::Time;

/// Tag by which an ENI tells node agents to leave it alone, whatever its value (*documented*: the
/// peer's README, "ENI tags related to Allocation").
pub const NO_MANAGE: &str = "node.k8s.amazonaws.com/no_manage";
/// Tag by which node agents mark what they make with their instance (*documented*, as above).
pub const INSTANCE_TAG: &str = "node.k8s.amazonaws.com/instance_id";
/// Tag by which node agents mark what they make with their cluster's name (*documented*, as above).
pub const CLUSTER_TAG: &str = "cluster.k8s.amazonaws.com/name";

/// An ENI that somebody else has made. The books never count it as leaked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EniSpec {
    /// Id or CIDR of its subnet; the first subnet of the VPC when absent.
    pub subnet: Option<String>,
    /// Account that owns it, twelve digits; the VPC's own account when absent. An ENI of another
    /// account is in no Describe answer but as part of an instance, and calls don't find it
    /// (*assumed*). IMDS lists it where it is attached, with `owner-id` (*documented* key).
    pub owner: Option<String>,
    /// Free text.
    pub description: String,
    /// Tags.
    pub tags: Tags,
    /// Secondary IPv4 addresses.
    pub addresses: u32,
    /// /28 prefixes.
    pub prefixes: u32,
    /// Where it hangs; nowhere when absent.
    pub on: Option<EniPlace>,
}

/// Where an [`EniSpec`] hangs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniPlace {
    /// Name of a node that runs.
    pub node: String,
    /// The lowest that is free on the card when absent.
    pub device_index: Option<u32>,
    /// Network card.
    pub card: u32,
}

impl EniSpec {
    /// One that hangs on this node, at the lowest free device index of card 0.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        self.on = Some(EniPlace {
            node: node.to_owned(),
            device_index: None,
            card: 0,
        });
        self
    }

    /// One of another account.
    #[must_use]
    pub fn owned_by(mut self, account: &str) -> Self {
        self.owner = Some(account.to_owned());
        self
    }

    /// One that node agents are told to leave alone.
    #[must_use]
    pub fn unmanaged(mut self) -> Self {
        self.tags.insert(NO_MANAGE.to_owned(), "true".to_owned());
        self
    }

    /// One that a node agent of another cluster has made for this instance, with its tags and its
    /// description.
    #[must_use]
    pub fn of_cluster(mut self, cluster: &str, instance: &str) -> Self {
        self.tags.insert(CLUSTER_TAG.to_owned(), cluster.to_owned());
        self.tags
            .insert(INSTANCE_TAG.to_owned(), instance.to_owned());
        self.description = format!("aws-K8S-{instance}");
        self
    }
}

/// Makes an ENI that somebody else has made, and attaches it if it is to hang somewhere. Its
/// link and IMDS follow after the latencies of the spec. No entry in the audit log.
///
/// # Errors
/// What EC2 would answer to Create or Attach; nothing is changed then.
pub(crate) fn place_eni(state: &mut State, spec: &EniSpec, now: Time) -> Result<EniId, ApiError> {
    let now = state.advance(now);
    let place = spec.on.as_ref();
    let instance = place.map(|p| {
        let instance = state.nodes.get(p.node.as_str()).cloned();
        instance.ok_or_else(|| INSTANCE.missing(&[&p.node]))
    });
    let instance = instance.transpose()?;
    let name = || SubnetId::from(spec.subnet.clone().unwrap_or_default());
    let request = CreateNetworkInterface {
        subnet: Some(
            state
                .subnet_named(spec.subnet.as_deref())
                .unwrap_or_else(name),
        ),
        description: spec.description.clone(),
        v4: WantedV4 {
            address_count: Some(spec.addresses),
            prefix_count: Some(spec.prefixes),
            ..WantedV4::default()
        },
        tags: spec.tags.clone(),
        ..CreateNetworkInterface::default()
    };
    let who = spec.owner.as_deref().unwrap_or("stranger");
    let made = create_eni(state, &Caller::Other(who.to_owned()), &request, now)?;
    let Response::Created { eni, .. } = made else {
        return Err(ApiError::new("InternalError", "").with_status(500));
    };
    let id = eni.id;
    if let (Some(place), Some(instance)) = (place, instance) {
        let free = || (0..).find(|i| !taken_on(state, instance.as_str(), place.card).contains(i));
        let request = AttachNetworkInterface {
            eni: id.clone(),
            device_index: place.device_index.or_else(free).unwrap_or_default(),
            instance,
            card: Some(place.card),
        };
        if let Err(error) = attach_eni(state, &request, now) {
            remove_eni(state, &id, now);
            return Err(error);
        }
    }
    if let Some(eni) = state.enis.get(id.as_str()) {
        let mut eni = (**eni).clone();
        eni.owner.clone_from(&spec.owner);
        eni.is_strangers = true;
        if let Some(attachment) = eni.attachment.as_mut() {
            attachment.delete_on_termination = true;
        }
        state.enis.put(eni, now);
    }
    Ok(id)
}

/// Takes an ENI out of the VPC at once, attached or not, as its maker may; false if there is
/// none. A primary ENI stays: its instance would have to go first.
pub(crate) fn remove_eni(state: &mut State, id: &EniId, now: Time) -> bool {
    let now = state.advance(now);
    let Some(eni) = state.enis.get(id.as_str()).cloned() else {
        return false;
    };
    if state.is_primary(&eni) {
        return false;
    }
    state.release_all(&eni);
    state.enis.remove(id, now);
    state.generation += 1;
    true
}

/// Device indexes in use on a card.
fn taken_on(state: &State, instance: &str, card: u32) -> Vec<u32> {
    let on = state.enis.on_instance(instance, state.clock);
    let places = on.iter().filter_map(|e| e.attachment.as_ref());
    places
        .filter(|a| a.card == card)
        .map(|a| a.device_index)
        .collect()
}
