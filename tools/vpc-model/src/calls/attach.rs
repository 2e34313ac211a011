//! AttachNetworkInterface, DetachNetworkInterface, DeleteNetworkInterface.

use super::not_found::INSTANCE;
use crate::error::ApiError;
use crate::ids::{AttachmentId, fresh};
use crate::latency::sample;
use crate::request::{AttachNetworkInterface, DeleteNetworkInterface, DetachNetworkInterface};
use crate::response::{InstanceType, Response};
use crate::state::{AttachState, EniState, InstanceState};
use crate::time::Time;
use crate::vpc::Vpc;

impl Vpc {
    pub(crate) fn attach_eni(
        &mut self,
        r: &AttachNetworkInterface,
        now: Time,
    ) -> Result<Response, ApiError> {
        let mut eni = (**self.eni(&r.eni)?).clone();
        INSTANCE.require(&[&r.instance], |id| self.instances.contains_key(id))?;
        let instance = self
            .instances
            .get(&r.instance)
            .ok_or_else(|| INSTANCE.missing(&[r.instance.as_str()]))?;
        if eni.attachment.is_some() {
            // *recorded*.
            let text = format!("Interface: [{}] in use.", eni.id);
            return Err(ApiError::new("InvalidNetworkInterface.InUse", text));
        }
        self.check_attach(&eni, instance, r, now)?;
        let latencies = &self.spec.latencies;
        let id = AttachmentId::from(fresh("eni-attach", &mut self.rng));
        let card = r.card.unwrap_or(0);
        eni.attachment = Some(AttachState {
            id: id.clone(),
            instance: r.instance.clone(),
            device_index: r.device_index,
            card,
            attached_at: now,
            linked_at: now + sample(&latencies.eni_link_ms, &mut self.rng),
            in_imds_at: now + sample(&latencies.eni_in_imds_ms, &mut self.rng),
            detaching: None,
            // *documented*: only ModifyNetworkInterfaceAttribute sets it.
            delete_on_termination: false,
        });
        eni.settled_since = now;
        self.enis.put(eni, now);
        self.generation += 1;
        Ok(Response::Attached {
            attachment: id,
            card,
        })
    }

    fn check_attach(
        &self,
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
        let zone = |id| self.subnets.get(id).map(|s| s.zone.as_str());
        if zone(&eni.subnet) != zone(&instance.subnet) {
            // *documented*: "must be in the same Availability Zone"; text *recorded*.
            return Err(ApiError::combination(
                "You may not attach a network interface to an instance if they are not in the same \
                 availability zone",
            ));
        }
        let card = r.card.unwrap_or(0);
        let attached = self.enis.on_instance(instance.id.as_str(), now);
        let slots = attached.iter().filter_map(|e| e.attachment.as_ref());
        let on_card: Vec<u32> = slots
            .filter(|a| a.card == card)
            .map(|a| a.device_index)
            .collect();
        let kind = self.type_of(instance)?;
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
        if on_card.contains(&r.device_index) {
            // *recorded*.
            return Err(ApiError::value(format!(
                "Instance '{}' already has an interface attached at device index '{}'.",
                instance.id, r.device_index
            )));
        }
        let over = |count: usize, limit: u32| u32::try_from(count).is_ok_and(|c| c > limit);
        if over(on_card.len() + 1, *room) || over(attached.len() + 1, kind.max_enis()) {
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

    /// What the instance's type can carry.
    pub(crate) fn type_of(&self, instance: &InstanceState) -> Result<&InstanceType, ApiError> {
        self.catalog.get(&instance.instance_type).ok_or_else(|| {
            let text = format!(
                "The instance type '{}' is not known",
                instance.instance_type
            );
            ApiError::new("InternalError", text).with_status(500)
        })
    }

    pub(crate) fn detach_eni(
        &mut self,
        r: &DetachNetworkInterface,
        now: Time,
    ) -> Result<Response, ApiError> {
        let mut eni = (**self.attachment(&r.attachment)?).clone();
        let Some(attachment) = eni.attachment.as_mut() else {
            return Err(ApiError::new(
                "InvalidAttachmentID.NotFound",
                "not attached",
            ));
        };
        if attachment.device_index == 0 && attachment.card == 0 {
            // *recorded*.
            return Err(ApiError::new(
                "OperationNotPermitted",
                "The network interface at device index 0 and networkCard index 0 cannot be detached.",
            ));
        }
        if attachment.detaching.is_none() {
            let takes = sample(&self.spec.latencies.eni_detach_ms, &mut self.rng);
            // Force does not wait for the instance (*assumed*: it is done at once).
            let end = if r.force { now } else { now + takes };
            attachment.detaching = Some((now, end));
            self.detaching.insert((end, eni.id.clone()));
            self.enis.put(eni, now);
            self.generation += 1;
            self.advance(now);
        }
        // A second Detach while the first runs is accepted (*assumed*).
        Ok(Response::Done)
    }

    pub(crate) fn delete_eni(
        &mut self,
        r: &DeleteNetworkInterface,
        now: Time,
    ) -> Result<Response, ApiError> {
        let eni = self.eni(&r.eni)?.clone();
        if eni.attachment.is_some() {
            // *recorded*.
            let text = format!("Network interface '{}' is currently in use.", eni.id);
            return Err(ApiError::value(text));
        }
        self.release_all(&eni);
        self.enis.remove(&eni.id, now);
        Ok(Response::Done)
    }
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
