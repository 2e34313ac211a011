//! Views: from the state to what the outside sees, as of a point in time. Describe's lag is only
//! another point in time. Nothing is changed here.

pub mod wires;

use crate::state::State;
use crate::state::{AttachState, EniState, GroupState, InstanceState, SubnetState};
use crate::words::caller::ROLE;
use crate::words::ids::GroupId;
use crate::words::request::Tags;
use crate::words::response::{
    Attachment, Eni, Group, Instance, PrivateAddress, RouteTable, Subnet, VpcInfo,
};
use crate::words::spec::HttpTokens;
use crate::words::time::Time;

pub(crate) fn eni_view(state: &State, eni: &EniState, then: Time) -> Eni {
    let subnet = state.subnets.get(&eni.subnet);
    let attachment = eni.attachment.as_ref().filter(|a| !a.is_over(then));
    let address = |address| PrivateAddress {
        address,
        primary: address == eni.primary,
        public: eni.public.get(&address).copied(),
    };
    Eni {
        id: eni.id.clone(),
        subnet: eni.subnet.clone(),
        vpc: state.id.clone(),
        zone: subnet.map(|s| s.zone.clone()).unwrap_or_default(),
        zone_id: subnet.map(|s| s.zone_id.clone()).unwrap_or_default(),
        description: eni.description.clone(),
        owner: eni
            .owner
            .clone()
            .unwrap_or_else(|| state.spec.account_id.clone()),
        requester: eni.requester.clone(),
        requester_managed: false,
        status: status(attachment, then),
        mac: eni.mac,
        private_ip: eni.primary,
        source_dest_check: eni.source_dest_check,
        groups: group_refs(state, &eni.groups),
        attachment: attachment.map(|a| attachment_view(a, then)),
        tags: eni.tags.clone(),
        addresses: eni.v4_addresses().map(address).collect(),
        v4_prefixes: eni.v4_prefixes.clone(),
        v6: eni.v6.clone(),
        v6_prefixes: eni.v6_prefixes.clone(),
        interface_type: eni.interface_type.clone(),
        tracking: eni.tracking,
    }
}

pub(crate) fn group_refs(state: &State, ids: &[GroupId]) -> Vec<(GroupId, String)> {
    let name = |id: &GroupId| {
        state
            .groups
            .get(id)
            .map(|g| g.name.clone())
            .unwrap_or_default()
    };
    ids.iter().map(|id| (id.clone(), name(id))).collect()
}

pub(crate) fn instance_view(state: &State, instance: &InstanceState, then: Time) -> Instance {
    let enis: Vec<Eni> = state
        .enis
        .on_instance(instance.id.as_str(), then)
        .into_iter()
        .map(|e| eni_view(state, e, then))
        .collect();
    let device = |e: &Eni| e.attachment.as_ref().map(|a| (a.card, a.device_index));
    let mut enis = enis;
    enis.sort_by_key(device);
    let primary = enis.iter().find(|e| e.id == instance.primary_eni);
    let kind = &instance.kind;
    let over = instance.terminated.is_some_and(|t| t <= then);
    let subnet = state.subnets.get(&instance.subnet);
    Instance {
        id: instance.id.clone(),
        reservation: instance.reservation.clone(),
        owner: state.spec.account_id.clone(),
        image: instance.image.clone(),
        instance_type: kind.name.clone(),
        state: if over {
            (48, "terminated")
        } else {
            (16, "running")
        },
        launch_time: instance.launched,
        zone: subnet.map(|s| s.zone.clone()).unwrap_or_default(),
        subnet: instance.subnet.clone(),
        vpc: state.id.clone(),
        private_ip: primary.map(|e| e.private_ip),
        public_ip: primary
            .and_then(|e| e.addresses.first())
            .and_then(|a| a.public),
        hypervisor: "xen",
        architecture: kind
            .architectures
            .last()
            .cloned()
            .unwrap_or_else(|| "x86_64".into()),
        groups: primary.map(|e| e.groups.clone()).unwrap_or_default(),
        tags: instance.tags.clone(),
        profile: ROLE.to_owned(),
        hop_limit: instance.hop_limit,
        tokens_required: instance.http_tokens == HttpTokens::Required,
        tags_in_imds: instance.tags_in_imds,
        enis,
    }
}

pub(crate) fn subnet_view(state: &State, subnet: &SubnetState, then: Time) -> Subnet {
    Subnet {
        id: subnet.id.clone(),
        vpc: state.id.clone(),
        owner: state.spec.account_id.clone(),
        cidr: subnet.cidr,
        v6_cidr: subnet.v6_cidr,
        zone: subnet.zone.clone(),
        zone_id: subnet.zone_id.clone(),
        available: subnet.free_at(then),
        map_public_ip: subnet.map_public_ip,
        tags: subnet.tags.clone(),
    }
}

pub(crate) fn vpc_view(state: &State) -> VpcInfo {
    VpcInfo {
        id: state.id.clone(),
        owner: state.spec.account_id.clone(),
        cidrs: state.spec.cidrs.iter().map(ipnet::Ipv4Net::trunc).collect(),
        v6_cidr: state.spec.ipv6_cidr.map(|n| n.trunc()),
        tags: state.tags.clone(),
    }
}

/// Ids follow the VPC's.
pub(crate) fn route_table_view(state: &State) -> RouteTable {
    let tail = state.id.as_str().trim_start_matches("vpc-");
    RouteTable {
        id: format!("rtb-{tail}"),
        association: format!("rtbassoc-{tail}"),
        gateway: format!("igw-{tail}"),
        vpc: vpc_view(state),
        tags: Tags::new(),
    }
}

pub(crate) fn group_view(state: &State, group: &GroupState) -> Group {
    Group {
        id: group.id.clone(),
        vpc: state.id.clone(),
        owner: state.spec.account_id.clone(),
        name: group.name.clone(),
        description: group.description.clone(),
        tags: group.tags.clone(),
    }
}

/// EC2 shows `in-use` from the moment of Attach to the end of Detach; the attachment's own status
/// tells the rest (*recorded*).
fn status(attachment: Option<&AttachState>, then: Time) -> &'static str {
    match attachment {
        None => "available",
        Some(a) if a.attached_at <= then => "in-use",
        Some(_) => "available",
    }
}

fn attachment_view(a: &AttachState, then: Time) -> Attachment {
    Attachment {
        id: a.id.clone(),
        instance: a.instance.clone(),
        device_index: a.device_index,
        card: a.card,
        status: a.status(then),
        attach_time: a.attached_at,
        delete_on_termination: a.delete_on_termination,
    }
}
