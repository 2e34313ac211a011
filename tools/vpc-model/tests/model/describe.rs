use crate::world::{World, addresses, prefixes};
use vpc_model::Response;
use vpc_model::ids::{EniId, InstanceId};
use vpc_model::request::{Action, CreateNetworkInterface, CreateTags, Describe, Filter};

fn tagged(w: &mut World, key: &str, value: &str) -> EniId {
    let id = w.create("subnet-a");
    let tags = [(key.to_owned(), value.to_owned())].into();
    w.call(CreateTags {
        resources: vec![id.to_string()],
        tags,
    })
    .unwrap();
    id
}

#[test]
fn every_eni_filter_finds_by_its_field() {
    let mut w = World::new();
    w.call(CreateNetworkInterface {
        description: "decoy".into(),
        ..CreateNetworkInterface::default()
    })
    .unwrap_err();
    w.create("subnet-b");
    let id = w.create_with("subnet-a", addresses(2));
    let attachment = w.attach(&id, "i-n1", 1);
    w.call(CreateTags {
        resources: vec![id.to_string()],
        tags: [("node".to_owned(), "n1".to_owned())].into(),
    })
    .unwrap();
    let eni = w.eni(&id);
    let secondary = eni.addresses[1].address.to_string();
    let alone = [
        ("addresses.private-ip-address", secondary.clone()),
        ("private-ip-address", eni.private_ip.to_string()),
        ("attachment.attachment-id", attachment.to_string()),
        ("attachment.delete-on-termination", "false".to_owned()),
        ("attachment.device-index", "1".to_owned()),
        ("mac-address", eni.mac.to_string()),
        ("network-interface-id", id.to_string()),
        ("tag:node", "n?".to_owned()),
        ("tag-key", "nod*".to_owned()),
        (
            "addresses.private-ip-address",
            secondary.replacen("10.0.", "10.?.", 1),
        ),
    ];
    for (name, value) in alone {
        let found = w.list(Describe::default().filter(name, &value));
        assert_eq!(
            found.iter().map(|e| &e.id).collect::<Vec<_>>(),
            [&id],
            "{name}={value}"
        );
    }
    let counts = [
        ("attachment.instance-id", "i-n1", 2),
        ("attachment.instance-id", "i-n*", 3),
        ("attachment.instance-id", "i-none", 0),
        ("attachment.status", "attached", 4),
        ("attachment.instance-owner-id", "123456789012", 4),
        ("addresses.primary", "false", 1),
        ("availability-zone", "eu-west-1b", 1),
        ("subnet-id", "subnet-a", 4),
        ("vpc-id", "vpc-*", 5),
        ("group-name", "default", 5),
        ("status", "available", 1),
        ("status", "in-use", 4),
        ("owner-id", "123456789012", 5),
        ("interface-type", "interface", 5),
        ("requester-managed", "true", 0),
        ("description", "", 5),
        ("ipv6-addresses.ipv6-address", "*", 0),
        ("association.public-ip", "*", 0),
    ];
    for (name, value, count) in counts {
        let found = w.list(Describe::default().filter(name, value));
        assert_eq!(found.len(), count, "{name}={value}");
    }
    // Filters are joined by "and", values by "or".
    let mut by = Describe::default()
        .filter("subnet-id", "subnet-a")
        .filter("status", "in-use");
    by.filters[0].values.push("subnet-b".into());
    assert_eq!(w.list(by).len(), 4);
}

#[test]
fn wrong_requests_are_refused() {
    let mut w = World::new();
    let id = w.create("subnet-a");
    let by = Describe::<EniId>::default;
    let limit = |n| Describe {
        max_results: Some(n),
        ..by()
    };
    let none = Filter {
        name: "status".into(),
        values: Vec::new(),
    };
    let missing = vec![
        EniId::from("eni-00000001"),
        id.clone(),
        EniId::from("eni-00000002"),
    ];
    for (by, code, text) in [
        (
            by().filter("colour", "red"),
            "InvalidParameterValue",
            "The filter 'colour' is invalid",
        ),
        (
            Describe {
                filters: vec![none],
                ..by()
            },
            "InvalidParameterValue",
            "empty",
        ),
        (
            limit(4),
            "InvalidParameterValue",
            "Value ( 4 ) for parameter maxResults is invalid.",
        ),
        (
            limit(1001),
            "InvalidParameterValue",
            "less than or equal to 1000",
        ),
        (
            Describe {
                ids: vec![id.clone()],
                ..limit(5)
            },
            "InvalidParameterCombination",
            "maxResults",
        ),
        (
            Describe {
                ids: missing,
                ..by()
            },
            "InvalidNetworkInterfaceID.NotFound",
            "The networkInterface ID 'eni-00000001' does not exist",
        ),
        (
            Describe {
                next_token: Some("zz".into()),
                ..by()
            },
            "InvalidNextToken",
            "zz",
        ),
    ] {
        let (got, message) = w.refused(Action::DescribeNetworkInterfaces(by));
        assert_eq!(got, code, "{message}");
        assert!(message.contains(text), "{message}");
    }
    let missing = Describe::ids([InstanceId::from("i-1"), InstanceId::from("i-2")]);
    let (code, message) = w.refused(Action::DescribeInstances(missing));
    assert_eq!(code, "InvalidInstanceID.NotFound");
    assert_eq!(message, "The instance IDs 'i-1, i-2' do not exist");
}

#[test]
fn pages_cover_the_list_once() {
    let mut w = World::new();
    for _ in 0..23 {
        w.create("subnet-a");
    }
    let mut by = Describe {
        max_results: Some(5),
        ..Describe::default()
    };
    by.filters = Describe::<EniId>::default()
        .filter("subnet-id", "subnet-*")
        .filters;
    let (mut seen, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let answer = w
            .call(Action::DescribeNetworkInterfaces(by.clone()))
            .unwrap();
        let Response::Enis(page) = answer else {
            panic!("other answer")
        };
        sizes.push(page.items.len());
        seen.extend(page.items.into_iter().map(|e| e.id));
        match page.next_token {
            Some(token) => by.next_token = Some(token),
            None => break,
        }
    }
    assert_eq!(sizes, [5, 5, 5, 5, 5, 1]);
    let total = seen.len();
    seen.sort();
    seen.dedup();
    assert_eq!((seen.len(), total), (26, 26));
    // A token of one list is none of another.
    by.filters.clear();
    assert!(by.next_token.is_some());
    assert_eq!(
        w.refused(Action::DescribeNetworkInterfaces(by)).0,
        "InvalidNextToken"
    );
}

#[test]
fn instances_show_their_interfaces_in_order() {
    let mut w = World::new();
    let (late, early) = (w.create_with("subnet-a", prefixes(2)), w.create("subnet-a"));
    w.attach(&late, "i-n1", 2);
    w.attach(&early, "i-n1", 1);
    let by = Describe::default().filter("network-interface.network-interface-id", late.as_str());
    let Response::Instances(page) = w.call(Action::DescribeInstances(by)).unwrap() else {
        panic!("other answer")
    };
    let [instance] = page.items.as_slice() else {
        panic!("{} instances", page.items.len())
    };
    assert_eq!(
        (instance.id.as_str(), instance.state.1),
        ("i-n1", "running")
    );
    let order: Vec<&EniId> = instance.enis.iter().map(|e| &e.id).collect();
    assert_eq!(order[1..], [&early, &late]);
    assert_eq!(instance.enis[2].v4_prefixes.len(), 2);
    w.vpc.terminate_instance("n1", w.now).unwrap();
    let by = Describe::ids([InstanceId::from("i-n1")]);
    let Response::Instances(page) = w.call(Action::DescribeInstances(by)).unwrap() else {
        panic!("other answer")
    };
    assert_eq!(
        (page.items[0].state.1, page.items[0].enis.len()),
        ("terminated", 0)
    );
}

#[test]
fn instance_types_are_those_of_the_data() {
    let mut w = World::new();
    let by = Describe::ids(["m5.large".to_owned(), "p5.48xlarge".to_owned()]);
    let Response::InstanceTypes(page) = w.call(Action::DescribeInstanceTypes(by)).unwrap() else {
        panic!("other answer")
    };
    let facts: Vec<_> = page
        .items
        .iter()
        .map(|t| (t.max_enis(), t.card_enis.len(), t.ipv4_per_eni))
        .collect();
    assert_eq!(facts, [(3, 1, 10), (64, 32, 50)]);
    let unknown = Describe::ids(["m5.tiny".to_owned()]);
    let (code, message) = w.refused(Action::DescribeInstanceTypes(unknown));
    assert_eq!(code, "InvalidInstanceType");
    assert_eq!(
        message,
        "The following supplied instance types do not exist: [m5.tiny]"
    );
    let metal = Describe::default()
        .filter("bare-metal", "true")
        .filter("instance-type", "m5*");
    let Response::InstanceTypes(page) = w.call(Action::DescribeInstanceTypes(metal)).unwrap()
    else {
        panic!("other answer")
    };
    assert!(page.items.iter().any(|t| t.name == "m5.metal"));
    assert!(
        page.items
            .iter()
            .all(|t| t.bare_metal && t.name.starts_with("m5"))
    );
}

#[test]
fn the_small_lists() {
    let mut w = World::new();
    let eni = tagged(&mut w, "k", "v");
    let Response::Subnets(page) = w
        .call(Action::DescribeSubnets(
            Describe::default().filter("cidr", "10.0.16.*"),
        ))
        .unwrap()
    else {
        panic!("other answer")
    };
    assert_eq!((page.items.len(), page.items[0].available), (1, 11));
    let Response::Vpcs(page) = w.call(Action::DescribeVpcs(Describe::default())).unwrap() else {
        panic!("other answer")
    };
    assert_eq!(page.items[0].cidrs, ["10.0.0.0/16".parse().unwrap()]);
    let by = Describe::default()
        .filter("association.main", "true")
        .filter("vpc-id", "vpc-*");
    let Response::RouteTables(page) = w.call(Action::DescribeRouteTables(by)).unwrap() else {
        panic!("other answer")
    };
    assert!(page.items[0].id.starts_with("rtb-"));
    let none = Describe::ids(["rtb-none".to_owned()]);
    assert_eq!(
        w.refused(Action::DescribeRouteTables(none)).0,
        "InvalidRouteTableID.NotFound"
    );
    let zones = Action::DescribeAvailabilityZones {
        by: Describe::default(),
        zone_ids: Vec::new(),
    };
    let Response::Zones(zones) = w.call(zones).unwrap() else {
        panic!("other answer")
    };
    let zones: Vec<(&str, &str)> = zones
        .iter()
        .map(|z| (z.name.as_str(), z.id.as_str()))
        .collect();
    assert_eq!(
        zones,
        [("eu-west-1a", "euw1-az1"), ("eu-west-1b", "euw1-az2")]
    );
    let groups = Action::DescribeSecurityGroups {
        by: Describe::default(),
        names: vec!["nope".into()],
    };
    assert_eq!(w.refused(groups).0, "InvalidGroup.NotFound");
    let by = Describe::default().filter("resource-type", "network-interface");
    let Response::Tags(page) = w.call(Action::DescribeTags(by)).unwrap() else {
        panic!("other answer")
    };
    assert_eq!(
        (page.items.len(), page.items[0].resource.as_str()),
        (1, eni.as_str())
    );
}
