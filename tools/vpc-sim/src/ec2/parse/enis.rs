//! Calls that change network interfaces or tags.

use crate::ec2::form::{Form, parsed};
use std::net::Ipv4Addr;
use vpc_model::ApiError;
use vpc_model::ids::{AttachmentId, EniId};
use vpc_model::request::{
    Action, AssignIpv6Addresses, AssignPrivateIpAddresses, AttachNetworkInterface,
    CreateNetworkInterface, CreateTags, DeleteNetworkInterface, DeleteTags, DetachNetworkInterface,
    EniAttribute, ModifyNetworkInterfaceAttribute, Tags, Tracking, UnassignIpv6Addresses,
    UnassignPrivateIpAddresses, WantedV4, WantedV6,
};

const ADDRESS: &str = "address";
const PREFIX: &str = "prefix";

pub(super) fn create(form: &Form) -> Result<Action, ApiError> {
    let (primary, secondary) = private_addresses(form)?;
    form.ignore("EnablePrimaryIpv6");
    Ok(Action::CreateNetworkInterface(CreateNetworkInterface {
        subnet: form
            .text("SubnetId")
            .filter(|s| !s.is_empty())
            .map(Into::into),
        description: form.text("Description").unwrap_or_default().to_owned(),
        groups: form
            .list("SecurityGroupId")
            .into_iter()
            .map(Into::into)
            .collect(),
        primary,
        v4: WantedV4 {
            addresses: secondary,
            address_count: form.number("SecondaryPrivateIpAddressCount")?,
            prefixes: form.list_of_field("Ipv4Prefix", "Ipv4Prefix", PREFIX)?,
            prefix_count: form.number("Ipv4PrefixCount")?,
        },
        v6: WantedV6 {
            addresses: form.list_of_field("Ipv6Addresses", "Ipv6Address", ADDRESS)?,
            address_count: form.number("Ipv6AddressCount")?,
            prefixes: form.list_of_field("Ipv6Prefix", "Ipv6Prefix", PREFIX)?,
            prefix_count: form.number("Ipv6PrefixCount")?,
        },
        interface_type: form.text("InterfaceType").map(str::to_owned),
        tracking: tracking(form)?.unwrap_or_default(),
        tags: tags_for(form, "network-interface")?,
        client_token: form
            .text("ClientToken")
            .filter(|t| !t.is_empty())
            .map(str::to_owned),
    }))
}

/// `PrivateIpAddress`, and `PrivateIpAddresses.N` of which one may be marked as primary.
fn private_addresses(form: &Form) -> Result<(Option<Ipv4Addr>, Vec<Ipv4Addr>), ApiError> {
    let mut primary = form
        .text("PrivateIpAddress")
        .map(|t| parsed(t, ADDRESS))
        .transpose()?;
    let mut secondary = Vec::new();
    for member in form.members("PrivateIpAddresses") {
        let address = form.required(&format!("{member}.PrivateIpAddress"))?;
        let address: Ipv4Addr = parsed(address, ADDRESS)?;
        if !form.flag(&format!("{member}.Primary"))?.unwrap_or(false) {
            secondary.push(address);
        } else if primary.replace(address).is_some() {
            // *recorded*.
            return Err(ApiError::combination(
                "Only one primary private IP address can be specified.",
            ));
        }
    }
    Ok((primary, secondary))
}

/// `TagSpecification.N` of the kind that the call makes.
fn tags_for(form: &Form, kind: &str) -> Result<Tags, ApiError> {
    let mut all = Tags::new();
    for specification in form.members("TagSpecification") {
        let named = form.required(&format!("{specification}.ResourceType"))?;
        if named != kind {
            // *recorded*.
            return Err(ApiError::value(format!(
                "'{named}' is not a valid taggable resource type for this operation."
            )));
        }
        all.extend(tags(form, &format!("{specification}.Tag"))?);
    }
    Ok(all)
}

fn tags(form: &Form, list: &str) -> Result<Tags, ApiError> {
    let mut all = Tags::new();
    for member in form.members(list) {
        let key = form.required(&format!("{member}.Key"))?.to_owned();
        let value = form
            .text(&format!("{member}.Value"))
            .unwrap_or_default()
            .to_owned();
        if all.insert(key.clone(), value).is_some() {
            // *recorded*.
            return Err(ApiError::value(format!(
                "Duplicate tag key '{key}' specified."
            )));
        }
    }
    Ok(all)
}

/// `ConnectionTrackingSpecification`, if any of it is there.
fn tracking(form: &Form) -> Result<Option<Tracking>, ApiError> {
    let timeout = |name: &str| form.number(&format!("ConnectionTrackingSpecification.{name}"));
    let found = Tracking {
        tcp_established: timeout("TcpEstablishedTimeout")?,
        udp_stream: timeout("UdpStreamTimeout")?,
        udp: timeout("UdpTimeout")?,
    };
    Ok((found != Tracking::default()).then_some(found))
}

fn eni(form: &Form) -> Result<EniId, ApiError> {
    form.required("NetworkInterfaceId").map(Into::into)
}

fn must<T>(value: Option<T>, name: &str) -> Result<T, ApiError> {
    value.ok_or_else(|| ApiError::missing(name))
}

pub(super) fn attach(form: &Form) -> Result<Action, ApiError> {
    Ok(Action::AttachNetworkInterface(AttachNetworkInterface {
        eni: eni(form)?,
        instance: form.required("InstanceId")?.into(),
        device_index: must(form.number("DeviceIndex")?, "deviceIndex")?,
        card: form.number("NetworkCardIndex")?,
    }))
}

pub(super) fn detach(form: &Form) -> Result<Action, ApiError> {
    Ok(Action::DetachNetworkInterface(DetachNetworkInterface {
        attachment: form.required("AttachmentId")?.into(),
        force: form.flag("Force")?.unwrap_or(false),
    }))
}

pub(super) fn delete(form: &Form) -> Result<Action, ApiError> {
    Ok(Action::DeleteNetworkInterface(DeleteNetworkInterface {
        eni: eni(form)?,
    }))
}

pub(super) fn modify(form: &Form) -> Result<Action, ApiError> {
    let mut found: Vec<EniAttribute> = Vec::new();
    if let Some(text) = form
        .text("Description.Value")
        .or_else(|| form.text("Description"))
    {
        found.push(EniAttribute::Description(text.to_owned()));
    }
    if let Some(on) = form.flag("SourceDestCheck.Value")? {
        found.push(EniAttribute::SourceDestCheck(on));
    }
    let groups: Vec<_> = form
        .list("SecurityGroupId")
        .into_iter()
        .map(Into::into)
        .collect();
    if !groups.is_empty() {
        found.push(EniAttribute::Groups(groups));
    }
    let value = form.flag("Attachment.DeleteOnTermination")?;
    let attachment = form.text("Attachment.AttachmentId").map(AttachmentId::from);
    if value.is_some() || attachment.is_some() {
        let attachment = must(attachment, "attachment.attachmentId")?;
        let value = must(value, "attachment.deleteOnTermination")?;
        found.push(EniAttribute::DeleteOnTermination { attachment, value });
    }
    if let Some(tracking) = tracking(form)? {
        found.push(EniAttribute::Tracking(tracking));
    }
    if found.len() > 1 {
        // *documented*: one attribute at a time.
        return Err(ApiError::combination(
            "Fields for multiple attribute types specified",
        ));
    }
    let attribute = found.pop();
    Ok(Action::ModifyNetworkInterfaceAttribute(
        ModifyNetworkInterfaceAttribute {
            eni: eni(form)?,
            attribute,
        },
    ))
}

pub(super) fn assign_v4(form: &Form) -> Result<Action, ApiError> {
    Ok(Action::AssignPrivateIpAddresses(AssignPrivateIpAddresses {
        eni: eni(form)?,
        wanted: WantedV4 {
            addresses: form.list_of("PrivateIpAddress", ADDRESS)?,
            address_count: form.number("SecondaryPrivateIpAddressCount")?,
            prefixes: form.list_of("Ipv4Prefix", PREFIX)?,
            prefix_count: form.number("Ipv4PrefixCount")?,
        },
        allow_reassignment: form.flag("AllowReassignment")?.unwrap_or(false),
    }))
}

pub(super) fn unassign_v4(form: &Form) -> Result<Action, ApiError> {
    Ok(Action::UnassignPrivateIpAddresses(
        UnassignPrivateIpAddresses {
            eni: eni(form)?,
            addresses: form.list_of("PrivateIpAddress", ADDRESS)?,
            prefixes: form.list_of("Ipv4Prefix", PREFIX)?,
        },
    ))
}

pub(super) fn assign_v6(form: &Form) -> Result<Action, ApiError> {
    Ok(Action::AssignIpv6Addresses(AssignIpv6Addresses {
        eni: eni(form)?,
        wanted: WantedV6 {
            addresses: form.list_of("Ipv6Addresses", ADDRESS)?,
            address_count: form.number("Ipv6AddressCount")?,
            prefixes: form.list_of("Ipv6Prefix", PREFIX)?,
            prefix_count: form.number("Ipv6PrefixCount")?,
        },
    }))
}

pub(super) fn unassign_v6(form: &Form) -> Result<Action, ApiError> {
    Ok(Action::UnassignIpv6Addresses(UnassignIpv6Addresses {
        eni: eni(form)?,
        addresses: form.list_of("Ipv6Addresses", ADDRESS)?,
        prefixes: form.list_of("Ipv6Prefix", PREFIX)?,
    }))
}

fn resources(form: &Form) -> Vec<String> {
    form.list("ResourceId")
        .into_iter()
        .map(str::to_owned)
        .collect()
}

pub(super) fn create_tags(form: &Form) -> Result<Action, ApiError> {
    Ok(Action::CreateTags(CreateTags {
        resources: resources(form),
        tags: tags(form, "Tag")?,
    }))
}

pub(super) fn delete_tags(form: &Form) -> Result<Action, ApiError> {
    let mut keys = Vec::new();
    for member in form.members("Tag") {
        let key = form.required(&format!("{member}.Key"))?.to_owned();
        let value = form.text(&format!("{member}.Value")).map(str::to_owned);
        keys.push((key, value));
    }
    Ok(Action::DeleteTags(DeleteTags {
        resources: resources(form),
        tags: keys,
    }))
}
