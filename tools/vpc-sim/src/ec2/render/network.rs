//! Subnets, VPCs, route tables, security groups, zones, tags.

use super::tag_set;
use crate::ec2::xml::Xml;
use vpc_model::response::{Group, RouteTable, Subnet, TagItem, VpcInfo, Zone};

pub(super) fn subnet(xml: &mut Xml, s: &Subnet) {
    let region = s.zone.trim_end_matches(|c: char| c.is_ascii_lowercase());
    xml.put("subnetId", &s.id);
    xml.put(
        "subnetArn",
        format!("arn:aws:ec2:{region}:{}:subnet/{}", s.owner, s.id),
    );
    xml.put("state", "available");
    xml.put("ownerId", &s.owner);
    xml.put("vpcId", &s.vpc);
    xml.put("cidrBlock", s.cidr);
    xml.list("ipv6CidrBlockAssociationSet", s.v6_cidr, |xml, cidr| {
        xml.put("ipv6CidrBlock", cidr);
        xml.put(
            "associationId",
            association_id("subnet-cidr-assoc", s.id.as_str(), 0),
        );
        xml.nest("ipv6CidrBlockState", |xml| xml.put("state", "associated"));
    });
    xml.put("availableIpAddressCount", s.available);
    xml.put("availabilityZone", &s.zone);
    xml.put("availabilityZoneId", &s.zone_id);
    xml.put("defaultForAz", false);
    xml.put("mapPublicIpOnLaunch", s.map_public_ip);
    xml.put("mapCustomerOwnedIpOnLaunch", false);
    xml.put("assignIpv6AddressOnCreation", false);
    xml.put("ipv6Native", false);
    xml.put("enableDns64", false);
    xml.nest("privateDnsNameOptionsOnLaunch", |xml| {
        xml.put("hostnameType", "ip-name");
        xml.put("enableResourceNameDnsARecord", false);
        xml.put("enableResourceNameDnsAAAARecord", false);
    });
    tag_set(xml, &s.tags);
}

pub(super) fn vpc(xml: &mut Xml, v: &VpcInfo) {
    xml.put("vpcId", &v.id);
    xml.put("ownerId", &v.owner);
    xml.put("state", "available");
    xml.put_some("cidrBlock", v.cidrs.first());
    xml.list(
        "cidrBlockAssociationSet",
        v.cidrs.iter().enumerate(),
        |xml, (n, cidr)| {
            xml.put("cidrBlock", cidr);
            xml.put(
                "associationId",
                association_id("vpc-cidr-assoc", v.id.as_str(), n),
            );
            xml.nest("cidrBlockState", |xml| xml.put("state", "associated"));
        },
    );
    xml.list("ipv6CidrBlockAssociationSet", v.v6_cidr, |xml, cidr| {
        xml.put("ipv6CidrBlock", cidr);
        xml.put(
            "associationId",
            association_id("vpc-cidr-assoc", v.id.as_str(), 0xf),
        );
        xml.nest("ipv6CidrBlockState", |xml| xml.put("state", "associated"));
    });
    xml.put("dhcpOptionsId", "default");
    xml.put("instanceTenancy", "default");
    xml.put("isDefault", false);
    tag_set(xml, &v.tags);
}

/// The `n`th id that goes with the id of what it belongs to: the same digits but for the first.
fn association_id(prefix: &str, of: &str, n: usize) -> String {
    let tail = of.split_once('-').map_or(of, |(_, tail)| tail);
    format!("{prefix}-{:x}{}", n % 16, tail.get(1..).unwrap_or_default())
}

pub(super) fn route_table(xml: &mut Xml, t: &RouteTable) {
    xml.put("routeTableId", &t.id);
    xml.put("vpcId", &t.vpc.id);
    xml.put("ownerId", &t.vpc.owner);
    let local = |xml: &mut Xml, name: &str, to: &dyn std::fmt::Display| {
        xml.put(name, to);
        xml.put("gatewayId", "local");
        xml.put("state", "active");
        xml.put("origin", "CreateRouteTable");
    };
    xml.nest("routeSet", |xml| {
        for cidr in &t.vpc.cidrs {
            xml.nest("item", |xml| local(xml, "destinationCidrBlock", cidr));
        }
        if let Some(cidr) = &t.vpc.v6_cidr {
            xml.nest("item", |xml| local(xml, "destinationIpv6CidrBlock", cidr));
        }
        xml.nest("item", |xml| {
            xml.put("destinationCidrBlock", "0.0.0.0/0");
            xml.put("gatewayId", &t.gateway);
            xml.put("state", "active");
            xml.put("origin", "CreateRoute");
        });
    });
    xml.list("associationSet", [()], |xml, ()| {
        xml.put("routeTableAssociationId", &t.association);
        xml.put("routeTableId", &t.id);
        xml.put("main", true);
        xml.nest("associationState", |xml| xml.put("state", "associated"));
    });
    xml.list("propagatingVgwSet", std::iter::empty::<()>(), |_, ()| {});
    tag_set(xml, &t.tags);
}

pub(super) fn group(xml: &mut Xml, g: &Group) {
    xml.put("ownerId", &g.owner);
    xml.put("groupId", &g.id);
    xml.put("groupName", &g.name);
    xml.put("groupDescription", &g.description);
    xml.put("vpcId", &g.vpc);
    // A group here filters nothing, and says so: everything in, everything out.
    for direction in ["ipPermissions", "ipPermissionsEgress"] {
        xml.list(direction, [()], |xml, ()| {
            xml.put("ipProtocol", "-1");
            xml.list("groups", std::iter::empty::<()>(), |_, ()| {});
            xml.list("ipRanges", ["0.0.0.0/0"], |xml, cidr| {
                xml.put("cidrIp", cidr);
            });
            xml.list("ipv6Ranges", ["::/0"], |xml, cidr| {
                xml.put("cidrIpv6", cidr);
            });
            xml.list("prefixListIds", std::iter::empty::<()>(), |_, ()| {});
        });
    }
    tag_set(xml, &g.tags);
}

pub(super) fn zone(xml: &mut Xml, z: &Zone) {
    xml.put("zoneName", &z.name);
    xml.put("zoneId", &z.id);
    xml.put("zoneState", "available");
    xml.put("zoneType", "availability-zone");
    xml.put("regionName", &z.region);
    xml.put("optInStatus", "opt-in-not-required");
    xml.put("groupName", format!("{}-zg-1", z.region));
    xml.put("networkBorderGroup", &z.region);
    xml.list("messageSet", std::iter::empty::<()>(), |_, ()| {});
}

pub(super) fn tag_item(xml: &mut Xml, t: &TagItem) {
    xml.put("resourceId", &t.resource);
    xml.put("resourceType", t.resource_type);
    xml.put("key", &t.key);
    xml.put("value", &t.value);
}
