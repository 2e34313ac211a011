//! What the model keeps of each thing. Views for the outside are made from these.

use crate::state::space4::Space4;
use crate::state::space6::Space6;
use crate::words::caller::Caller;
use crate::words::ids::{AttachmentId, EniId, GroupId, InstanceId, Mac, NodeName, SubnetId};
use crate::words::request::{Tags, Tracking};
use crate::words::response::InstanceType;
use crate::words::spec::{HttpTokens, NodeSpec};
use crate::words::time::Time;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// An ENI.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EniState {
    pub(crate) id: EniId,
    pub(crate) subnet: SubnetId,
    pub(crate) mac: Mac,
    pub(crate) description: String,
    pub(crate) groups: Vec<GroupId>,
    pub(crate) primary: Ipv4Addr,
    pub(crate) secondary: Vec<Ipv4Addr>,
    pub(crate) v4_prefixes: Vec<Ipv4Net>,
    pub(crate) v6: Vec<Ipv6Addr>,
    pub(crate) v6_prefixes: Vec<Ipv6Net>,
    /// Private to public address.
    pub(crate) public: BTreeMap<Ipv4Addr, Ipv4Addr>,
    pub(crate) source_dest_check: bool,
    pub(crate) interface_type: String,
    pub(crate) tracking: Tracking,
    pub(crate) tags: Tags,
    pub(crate) attachment: Option<AttachState>,
    pub(crate) creator: Caller,
    /// Principal id of the creator.
    pub(crate) requester: String,
    /// Another account that owns it.
    pub(crate) owner: Option<String>,
    /// Placed from outside: nobody here has to look after it.
    pub(crate) is_strangers: bool,
    /// Since when it has been as attached, or not, as it is now.
    pub(crate) settled_since: Time,
}

impl EniState {
    /// IPv4 slots in use: each address and each prefix takes one (*documented*).
    pub(crate) fn v4_slots(&self) -> u32 {
        len(&self.secondary) + len(&self.v4_prefixes) + 1
    }

    /// IPv6 slots in use.
    pub(crate) fn v6_slots(&self) -> u32 {
        len(&self.v6) + len(&self.v6_prefixes)
    }

    /// Primary address first.
    pub(crate) fn v4_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        std::iter::once(self.primary).chain(self.secondary.iter().copied())
    }

    /// Everything that the ENI holds, sorted.
    pub(crate) fn holdings(&self) -> Vec<IpNet> {
        let mut all: Vec<IpNet> = self.v4_addresses().map(|a| IpNet::V4(a.into())).collect();
        all.extend(self.v4_prefixes.iter().copied().map(IpNet::V4));
        all.extend(self.v6.iter().map(|a| IpNet::V6((*a).into())));
        all.extend(self.v6_prefixes.iter().copied().map(IpNet::V6));
        all.sort();
        all
    }
}

fn len<T>(list: &[T]) -> u32 {
    u32::try_from(list.len()).unwrap_or(u32::MAX)
}

/// How an ENI hangs on an instance, with the times at which others notice.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct AttachState {
    pub(crate) id: AttachmentId,
    pub(crate) instance: InstanceId,
    pub(crate) device_index: u32,
    pub(crate) card: u32,
    pub(crate) attached_at: Time,
    /// The link is there, and the status is `attached`.
    pub(crate) linked_at: Time,
    /// IMDS lists the ENI.
    pub(crate) in_imds_at: Time,
    /// When Detach was called and when it is done.
    pub(crate) detaching: Option<(Time, Time)>,
    pub(crate) delete_on_termination: bool,
}

impl AttachState {
    pub(crate) fn is_linked(&self, now: Time) -> bool {
        self.linked_at <= now && self.detaching.is_none_or(|(_, end)| now < end)
    }

    pub(crate) fn is_over(&self, now: Time) -> bool {
        self.detaching.is_some_and(|(_, end)| end <= now)
    }

    pub(crate) fn status(&self, now: Time) -> &'static str {
        if self.detaching.is_some_and(|(begin, _)| begin <= now) {
            "detaching"
        } else if self.linked_at <= now {
            "attached"
        } else {
            "attaching"
        }
    }
}

/// A subnet.
#[derive(Debug)]
pub(crate) struct SubnetState {
    pub(crate) id: SubnetId,
    pub(crate) cidr: Ipv4Net,
    pub(crate) v6_cidr: Option<Ipv6Net>,
    pub(crate) zone: String,
    pub(crate) zone_id: String,
    pub(crate) map_public_ip: bool,
    pub(crate) tags: Tags,
    pub(crate) space4: Space4,
    pub(crate) space6: Option<Space6>,
    /// Free counts before the present one, each with the time at which it ended.
    pub(crate) free_before: Vec<(Time, u32)>,
}

impl SubnetState {
    /// The free count as it was at `then`.
    pub(crate) fn free_at(&self, then: Time) -> u32 {
        let past = self.free_before.iter().find(|(until, _)| *until > then);
        past.map_or_else(|| self.space4.free(), |(_, free)| *free)
    }

    /// Notes that the count was `before` until now.
    pub(crate) fn note_free(&mut self, before: u32, now: Time, window: Duration) {
        if before != self.space4.free() {
            self.free_before.push((now, before));
            let oldest = now.back(window);
            self.free_before.retain(|(until, _)| *until > oldest);
        }
    }
}

/// A security group.
#[derive(Clone, Debug)]
pub(crate) struct GroupState {
    pub(crate) id: GroupId,
    pub(crate) name: String,
    pub(crate) description: String,
    pub(crate) tags: Tags,
}

/// An instance.
#[derive(Clone, Debug)]
pub(crate) struct InstanceState {
    pub(crate) id: InstanceId,
    pub(crate) node: NodeName,
    pub(crate) reservation: String,
    pub(crate) image: String,
    /// What it carries: its type, or what the spec says of this instance.
    pub(crate) kind: InstanceType,
    pub(crate) subnet: SubnetId,
    pub(crate) launched: Time,
    pub(crate) terminated: Option<Time>,
    /// Stays when the instance is terminated.
    pub(crate) primary_eni: EniId,
    pub(crate) tags: Tags,
    pub(crate) namespace: String,
    pub(crate) link_name: String,
    pub(crate) hop_limit: u8,
    pub(crate) http_tokens: HttpTokens,
    pub(crate) tags_in_imds: bool,
}

impl InstanceState {
    pub(crate) fn new(
        id: InstanceId,
        spec: &NodeSpec,
        kind: InstanceType,
        primary: (SubnetId, EniId),
        (image, reservation): (String, String),
        now: Time,
    ) -> Self {
        let (subnet, primary_eni) = primary;
        Self {
            id,
            node: NodeName::from(spec.name.as_str()),
            reservation,
            image,
            kind,
            subnet,
            launched: now,
            terminated: None,
            primary_eni,
            tags: spec.tags.clone(),
            namespace: spec.namespace.clone().unwrap_or_else(|| spec.name.clone()),
            link_name: spec.link_name.clone(),
            hop_limit: spec.hop_limit,
            http_tokens: spec.http_tokens,
            tags_in_imds: spec.tags_in_imds,
        }
    }
}
