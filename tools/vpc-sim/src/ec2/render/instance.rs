//! An instance in a reservation of its own.

use super::{eni, groups, tag_set};
use crate::ec2::xml::Xml;
use vpc_model::response::Instance;

pub(super) fn reservation(xml: &mut Xml, instance: &Instance) {
    xml.put("reservationId", &instance.reservation);
    xml.put("ownerId", &instance.owner);
    xml.list("groupSet", std::iter::empty::<()>(), |_, ()| {});
    xml.list("instancesSet", [instance], fields);
}

fn fields(xml: &mut Xml, i: &Instance) {
    let primary = i.enis.first();
    xml.put("instanceId", &i.id);
    xml.put("imageId", &i.image);
    xml.nest("instanceState", |xml| {
        xml.put("code", i.state.0);
        xml.put("name", i.state.1);
    });
    let private_dns = primary
        .map(|e| e.private_dns_name(e.private_ip))
        .unwrap_or_default();
    let public_dns = primary.zip(i.public_ip).map(|(e, p)| e.public_dns_name(p));
    xml.put("privateDnsName", private_dns);
    xml.put("dnsName", public_dns.unwrap_or_default());
    xml.put("amiLaunchIndex", 0);
    xml.put("instanceType", &i.instance_type);
    xml.put("launchTime", i.launch_time.iso8601_millis());
    xml.nest("placement", |xml| {
        xml.put("availabilityZone", &i.zone);
        xml.put("groupName", "");
        xml.put("tenancy", "default");
    });
    xml.nest("monitoring", |xml| xml.put("state", "disabled"));
    if primary.is_some() {
        xml.put("subnetId", &i.subnet);
        xml.put("vpcId", &i.vpc);
    }
    xml.put_some("privateIpAddress", i.private_ip);
    xml.put_some("ipAddress", i.public_ip);
    xml.put(
        "sourceDestCheck",
        primary.is_none_or(|e| e.source_dest_check),
    );
    groups(xml, &i.groups);
    xml.put("architecture", &i.architecture);
    xml.put("rootDeviceType", "ebs");
    xml.put("rootDeviceName", "/dev/xvda");
    xml.put("virtualizationType", "hvm");
    tag_set(xml, &i.tags);
    xml.put("hypervisor", i.hypervisor);
    xml.list("networkInterfaceSet", &i.enis, eni::of_instance);
    xml.nest("iamInstanceProfile", |xml| {
        let arn = format!("arn:aws:iam::{}:instance-profile/{}", i.owner, i.profile);
        xml.put("arn", arn);
        xml.put("id", "AIPAVPCSIMNODEPROF001");
    });
    xml.put("ebsOptimized", true);
    xml.put("enaSupport", true);
    xml.nest("metadataOptions", |xml| {
        xml.put("state", "applied");
        xml.put(
            "httpTokens",
            if i.tokens_required {
                "required"
            } else {
                "optional"
            },
        );
        xml.put("httpPutResponseHopLimit", i.hop_limit);
        xml.put("httpEndpoint", "enabled");
        xml.put("httpProtocolIpv6", "disabled");
        let tags = if i.tags_in_imds {
            "enabled"
        } else {
            "disabled"
        };
        xml.put("instanceMetadataTags", tags);
    });
}
