//! Subnets and ENIs as JSON for the control API. The model's answers have no JSON of their own:
//! EC2's wire format is XML.

use serde_json::{Value, json};
use vpc_model::response::{Eni, Subnet};

pub(super) fn subnet(subnet: &Subnet) -> Value {
    json!({
        "id": subnet.id,
        "cidr": subnet.cidr,
        "ipv6_cidr": subnet.v6_cidr,
        "zone": subnet.zone,
        "available": subnet.available,
        "tags": subnet.tags,
    })
}

pub(super) fn eni(eni: &Eni) -> Value {
    let attachment = eni.attachment.as_ref().map(|a| {
        json!({
            "id": a.id,
            "instance": a.instance,
            "device_index": a.device_index,
            "card": a.card,
            "status": a.status,
            "attach_time": a.attach_time.iso8601_millis(),
            "delete_on_termination": a.delete_on_termination,
        })
    });
    let addresses = eni
        .addresses
        .iter()
        .map(|a| json!({"address": a.address, "primary": a.primary, "public": a.public}));
    json!({
        "id": eni.id,
        "subnet": eni.subnet,
        "description": eni.description,
        "status": eni.status,
        "mac": eni.mac,
        "private_ip": eni.private_ip,
        "source_dest_check": eni.source_dest_check,
        "attachment": attachment,
        "tags": eni.tags,
        "addresses": addresses.collect::<Vec<_>>(),
        "prefixes": eni.v4_prefixes,
        "ipv6_addresses": eni.v6,
        "ipv6_prefixes": eni.v6_prefixes,
        "interface_type": eni.interface_type,
    })
}
