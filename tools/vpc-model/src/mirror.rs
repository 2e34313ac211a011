//! Showing what another EC2 has decided: the model's ENIs are made to be those that it is told, so
//! that its IMDS and wires tell the same story. Decides nothing itself; checks only that no address
//! is in two places, since a wire can't carry that.

use crate::admission::Caller;
use crate::alloc::{Refusal, take_v4};
use crate::ids::{AttachmentId, EniId, GroupId, InstanceId, Mac, SubnetId};
use crate::latency::sample;
use crate::request::{Tags, Tracking, WantedV4};
use crate::state::{AttachState, EniState};
use crate::time::Time;
use crate::vpc::Vpc;
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

impl Vpc {
    /// Makes the ENIs of the VPC be exactly those. What is new appears as a link and in IMDS after
    /// the latencies of the spec, as with a call; what is gone, is gone at once. Nodes' first ENIs
    /// keep their public addresses.
    ///
    /// # Errors
    /// What can't be shown; ENIs before it in the list are as told then, others may be gone.
    pub fn mirror(&mut self, twins: &[Twin], now: Time) -> Result<(), MirrorError> {
        let now = self.advance(now);
        let known: BTreeMap<EniId, EniState> = self
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
                self.release_all(eni);
            }
            if gone {
                self.enis.remove(&eni.id, now);
                self.generation += 1;
            }
        }
        for twin in twins {
            self.mirror_one(twin, known.get(&twin.id), now)?;
        }
        Ok(())
    }

    fn mirror_one(
        &mut self,
        twin: &Twin,
        before: Option<&EniState>,
        now: Time,
    ) -> Result<(), MirrorError> {
        let attachment = match &twin.attachment {
            Some(attachment) => Some(self.mirror_attachment(twin, attachment, before, now)?),
            None => None,
        };
        if before.is_none_or(|eni| !holds(eni, twin)) {
            self.take_for_mirror(twin)?;
        }
        let mut eni = before.cloned().unwrap_or_else(|| empty(twin, now));
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
            self.enis.put(eni, now);
            self.generation += 1;
        }
        Ok(())
    }

    fn mirror_attachment(
        &mut self,
        twin: &Twin,
        wanted: &TwinAttachment,
        before: Option<&EniState>,
        now: Time,
    ) -> Result<AttachState, MirrorError> {
        if !self.instances.contains_key(&wanted.instance) {
            return Err(MirrorError::NoInstance {
                eni: twin.id.clone(),
                instance: wanted.instance.clone(),
            });
        }
        // An instance's first interface has hung there since the launch, whatever its attachment
        // was called here.
        let first = |a: &AttachState| {
            (a.device_index, wanted.device_index) == (0, 0) && a.instance == wanted.instance
        };
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
                linked_at: now + sample(&self.spec.latencies.eni_link_ms, &mut self.rng),
                in_imds_at: now + sample(&self.spec.latencies.eni_in_imds_ms, &mut self.rng),
                detaching: None,
                delete_on_termination: false,
            },
        };
        attachment.id.clone_from(&wanted.id);
        attachment.delete_on_termination = wanted.delete_on_termination;
        Ok(attachment)
    }

    fn take_for_mirror(&mut self, twin: &Twin) -> Result<(), MirrorError> {
        let mut addresses = vec![twin.primary];
        addresses.extend(&twin.secondary);
        let wanted = WantedV4 {
            addresses: addresses.clone(),
            prefixes: twin.prefixes.clone(),
            ..WantedV4::default()
        };
        let how = self.spec.placement;
        let Some(subnet) = self.subnets.get_mut(&twin.subnet) else {
            return Err(MirrorError::NoSubnet {
                eni: twin.id.clone(),
                subnet: twin.subnet.clone(),
            });
        };
        take_v4(subnet, &wanted, how, &mut self.rng).map_err(|why| MirrorError::Address {
            eni: twin.id.clone(),
            why: words(&why),
        })?;
        self.hold(&twin.id, &addresses);
        Ok(())
    }
}

fn holds(eni: &EniState, twin: &Twin) -> bool {
    eni.primary == twin.primary
        && eni.secondary == twin.secondary
        && eni.v4_prefixes == twin.prefixes
}

fn empty(twin: &Twin, now: Time) -> EniState {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{NodeSpec, SubnetSpec, VpcSpec};

    const NOW: Time = Time::from_unix_millis(1_000);

    fn vpc() -> Vpc {
        let mut subnet = SubnetSpec::new(Ipv4Net::new_assert([10, 0, 0, 0].into(), 24));
        subnet.id = Some("subnet-1".into());
        let mut node = NodeSpec::new("node-1", "m5.large");
        node.instance_id = Some("i-1".into());
        node.eni_id = Some("eni-00000001".into());
        node.mac = Some(Mac([2, 0, 0, 0, 0, 1]));
        node.primary_ip = Some([10, 0, 0, 10].into());
        let spec = VpcSpec {
            subnets: vec![subnet],
            nodes: vec![node],
            ..VpcSpec::default()
        };
        Vpc::new(spec, NOW).unwrap()
    }

    fn twin(id: &str, primary: u8, index: u32) -> Twin {
        Twin {
            id: id.into(),
            mac: Mac([2, 0, 0, 0, 0, primary]),
            subnet: "subnet-1".into(),
            primary: [10, 0, 0, primary].into(),
            secondary: Vec::new(),
            prefixes: Vec::new(),
            groups: Vec::new(),
            description: String::new(),
            tags: BTreeMap::new(),
            attachment: Some(TwinAttachment {
                id: format!("eni-attach-{primary}").into(),
                instance: "i-1".into(),
                device_index: index,
                card: 0,
                delete_on_termination: true,
            }),
        }
    }

    #[test]
    fn a_node_is_launched_under_given_names() {
        let wire = vpc().wires(NOW).remove(0);
        assert_eq!(
            (wire.eni.as_str(), wire.mac),
            ("eni-00000001", Mac([2, 0, 0, 0, 0, 1]))
        );
    }

    #[test]
    fn enis_come_change_and_go() {
        let mut vpc = vpc();
        let first = twin("eni-00000001", 10, 0);
        let mut second = twin("eni-00000002", 20, 1);
        second.secondary = vec![[10, 0, 0, 21].into()];
        vpc.mirror(&[first.clone(), second.clone()], NOW).unwrap();
        let later = NOW + std::time::Duration::from_secs(10);
        assert_eq!(vpc.wires(NOW).len(), 1, "the second's link is to come");
        assert_eq!(vpc.wires(later).len(), 2);
        let free = vpc.subnets()[0].available;
        // The same again changes nothing; its link is not laid anew.
        let generation = vpc.generation();
        vpc.mirror(&[first.clone(), second.clone()], later).unwrap();
        assert_eq!(vpc.generation(), generation);
        // An address moves from one to the other, and a prefix comes.
        let mut first = first;
        first.secondary = std::mem::take(&mut second.secondary);
        second.prefixes = vec![Ipv4Net::new_assert([10, 0, 0, 32].into(), 28)];
        vpc.mirror(&[first.clone(), second.clone()], later).unwrap();
        assert_eq!(vpc.subnets()[0].available, free - 16);
        assert_eq!(vpc.wires(later)[1].allowed.len(), 2);
        vpc.mirror(&[first], later).unwrap();
        assert_eq!(vpc.wires(later).len(), 1);
        assert_eq!(vpc.books(later), Vec::new());
    }

    #[test]
    fn what_is_in_two_places_is_refused() {
        let mut vpc = vpc();
        let first = twin("eni-00000001", 10, 0);
        let mut second = twin("eni-00000002", 20, 1);
        second.secondary = vec![[10, 0, 0, 10].into()];
        let error = vpc.mirror(&[first.clone(), second], NOW).unwrap_err();
        assert!(error.to_string().contains("held by another"), "{error}");
        let mut reserved = twin("eni-00000003", 1, 1);
        reserved.secondary.clear();
        let error = vpc.mirror(&[first, reserved], NOW).unwrap_err();
        assert!(error.to_string().contains("EC2 keeps"), "{error}");
    }
}
