use crate::world::{World, addresses, assign, named, prefixes, spec};
use vpc_model::ids::EniId;
use vpc_model::request::{
    AssignIpv6Addresses, AssignPrivateIpAddresses, DeleteNetworkInterface, UnassignIpv6Addresses,
    UnassignPrivateIpAddresses, WantedV4, WantedV6,
};
use vpc_model::spec::{ReservationKind, ReservationSpec};
use vpc_model::{Response, ViolationClass};

fn unassign(eni: &EniId, addresses: &[&str], prefixes: &[&str]) -> UnassignPrivateIpAddresses {
    UnassignPrivateIpAddresses {
        eni: eni.clone(),
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        prefixes: prefixes.iter().map(|p| p.parse().unwrap()).collect(),
    }
}

#[test]
fn counts_bring_new_addresses_and_prefixes() {
    let mut w = World::new();
    let eni = w.primary("n1").id;
    let before = w.free("subnet-a");
    let Response::AssignedV4 { addresses: got, .. } = w.call(assign(&eni, addresses(2))).unwrap()
    else {
        panic!("other answer")
    };
    assert_eq!(got.len(), 2);
    let Response::AssignedV4 {
        prefixes: blocks,
        addresses: none,
        ..
    } = w.call(assign(&eni, prefixes(7))).unwrap()
    else {
        panic!("other answer")
    };
    assert_eq!((blocks.len(), none.len()), (7, 0));
    assert!(
        blocks
            .iter()
            .all(|b| b.prefix_len() == 28 && *b == b.trunc())
    );
    assert_eq!(w.free("subnet-a"), before - 2 - 7 * 16);
    // Ten slots: primary, two addresses, seven prefixes.
    let (code, message) = w.refused(assign(&eni, addresses(1)));
    assert_eq!(code, "PrivateIpAddressLimitExceeded");
    assert_eq!(
        message,
        format!("{eni}: Number of private addresses will exceed limit.")
    );
    assert_eq!(w.vpc.books(w.now), []);
}

#[test]
fn refusals_of_assign() {
    let mut w = World::new();
    let eni = w.primary("n1").id;
    let other = w.primary("n2").private_ip.to_string();
    let second = w.create_with("subnet-a", named(&["10.0.3.77"]));
    let old = w.primary("old").id;
    let both = WantedV4 {
        prefix_count: Some(1),
        ..addresses(1)
    };
    let prefix = |p: &str| WantedV4 {
        prefixes: vec![p.parse().unwrap()],
        ..WantedV4::default()
    };
    for (eni, wanted, code, text) in [
        (
            &eni,
            both,
            "InvalidParameterCombination",
            "one and only one of",
        ),
        (
            &eni,
            WantedV4::default(),
            "InvalidParameter",
            "must be specified",
        ),
        (
            &eni,
            addresses(0),
            "InvalidParameterValue",
            "Value (0) for parameter secondaryPrivateIpAddressCount",
        ),
        (
            &eni,
            prefixes(0),
            "InvalidParameterValue",
            "Value (0) for parameter ipv4PrefixCount",
        ),
        (
            &eni,
            named(&[&other]),
            "InvalidParameterValue",
            "secondary-addresses",
        ),
        (
            &eni,
            named(&["10.0.3.77"]),
            "InvalidParameterValue",
            "[10.0.3.77] assigned, but move is not allowed.",
        ),
        (
            &eni,
            named(&["10.0.0.2"]),
            "InvalidParameterValue",
            "reserved",
        ),
        (
            &eni,
            named(&["10.0.40.9"]),
            "InvalidParameterValue",
            "does not fall within the subnet's address range",
        ),
        (
            &eni,
            prefix("10.0.3.64/28"),
            "InvalidParameterValue",
            "in use",
        ),
        (
            &eni,
            prefix("10.0.0.0/28"),
            "InvalidParameterValue",
            "in use",
        ),
        (
            &eni,
            prefix("10.0.4.8/28"),
            "InvalidParameterValue",
            "not a valid prefix",
        ),
        (
            &eni,
            prefix("10.0.4.0/27"),
            "InvalidParameterValue",
            "not a valid prefix",
        ),
        (
            &old,
            prefixes(1),
            "InvalidParameterValue",
            "not supported on instance type t2.small",
        ),
    ] {
        let (got, message) = w.refused(assign(eni, wanted.clone()));
        assert_eq!(got, code, "{wanted:?}: {message}");
        assert!(message.contains(text), "{message}");
    }
    assert_eq!(w.eni(&second).addresses.len(), 2);
    assert_eq!(w.vpc.books(w.now), []);
}

#[test]
fn a_fragmented_subnet_has_addresses_and_no_blocks() {
    let mut w = World::new();
    let eni = w.create("subnet-s");
    let (code, message) = w.refused(assign(&eni, prefixes(1)));
    assert_eq!(code, "InsufficientCidrBlocks");
    assert_eq!(
        message,
        "The specified subnet does not have enough free cidr blocks to satisfy the request."
    );
    w.call(assign(&eni, addresses(10))).unwrap();
    assert_eq!(
        w.refused(assign(&eni, addresses(1))).0,
        "InsufficientFreeAddressesInSubnet"
    );
}

#[test]
fn reassignment_moves_an_address() {
    let mut w = World::new();
    let from = w.create_with("subnet-a", named(&["10.0.3.77"]));
    let to = w.create("subnet-a");
    let free = w.free("subnet-a");
    let moved = AssignPrivateIpAddresses {
        allow_reassignment: true,
        ..assign(&to, named(&["10.0.3.77", "10.0.3.78"]))
    };
    w.call(moved.clone()).unwrap();
    assert_eq!(
        (w.eni(&from).addresses.len(), w.eni(&to).addresses.len()),
        (1, 3)
    );
    assert_eq!(w.free("subnet-a"), free - 1);
    // Asking for what one has changes nothing.
    w.call(moved).unwrap();
    assert_eq!(
        (w.eni(&to).addresses.len(), w.free("subnet-a")),
        (3, free - 1)
    );
    assert_eq!(w.vpc.books(w.now), []);
}

#[test]
fn an_address_is_free_again_however_it_was_given_back() {
    let mut w = World::new();
    let to = w.create("subnet-a");
    let first = w.create_with("subnet-a", named(&["10.0.3.77"]));
    w.call(DeleteNetworkInterface { eni: first }).unwrap();
    w.call(assign(&to, named(&["10.0.3.77"]))).unwrap();
    w.call(unassign(&to, &["10.0.3.77"], &[])).unwrap();
    let primary = w.primary("n2").private_ip.to_string();
    w.vpc.terminate_instance("n2", w.now).unwrap();
    w.call(assign(&to, named(&["10.0.3.77", &primary])))
        .unwrap();
    assert_eq!(w.eni(&to).addresses.len(), 3);
}

#[test]
fn unassign_gives_back_what_is_there_and_nothing_else() {
    let mut w = World::new();
    let eni = w.primary("n1");
    let free = w.free("subnet-a");
    w.call(assign(&eni.id, named(&["10.0.5.5", "10.0.5.6"])))
        .unwrap();
    let block = WantedV4 {
        prefixes: vec!["10.0.6.16/28".parse().unwrap()],
        ..WantedV4::default()
    };
    w.call(assign(&eni.id, block)).unwrap();
    let primary = eni.private_ip.to_string();
    for (request, code, text) in [
        (
            unassign(&eni.id, &[], &[]),
            "MissingParameter",
            "must be specified",
        ),
        (
            unassign(&eni.id, &["10.0.5.7"], &[]),
            "InvalidParameterValue",
            "are not assigned to interface",
        ),
        (
            unassign(&eni.id, &["10.0.6.17"], &[]),
            "InvalidParameterValue",
            "are not assigned to interface",
        ),
        (
            unassign(&eni.id, &["10.0.5.5"], &["10.0.6.32/28"]),
            "InvalidParameterValue",
            "are not assigned",
        ),
        (
            unassign(&eni.id, &[&primary], &[]),
            "InvalidParameterValue",
            "primary IP address of an interface",
        ),
    ] {
        let (got, message) = w.refused(request);
        assert_eq!(got, code);
        assert!(message.contains(text), "{message}");
    }
    assert_eq!(w.free("subnet-a"), free - 18);
    w.call(unassign(
        &eni.id,
        &["10.0.5.5", "10.0.5.6"],
        &["10.0.6.16/28"],
    ))
    .unwrap();
    assert_eq!(
        (w.free("subnet-a"), w.eni(&eni.id).addresses.len()),
        (free, 1)
    );
}

#[test]
fn ipv6_addresses_and_prefixes() {
    let mut w = World::new();
    let eni = w.primary("n1").id;
    let ask = |wanted| AssignIpv6Addresses {
        eni: eni.clone(),
        wanted,
    };
    let count = |n| WantedV6 {
        address_count: Some(n),
        ..WantedV6::default()
    };
    let blocks = |n| WantedV6 {
        prefix_count: Some(n),
        ..WantedV6::default()
    };
    let Response::AssignedV6 { prefixes, .. } = w.call(ask(blocks(1))).unwrap() else {
        panic!("other answer")
    };
    assert_eq!(prefixes[0].prefix_len(), 80);
    let Response::AssignedV6 { addresses, .. } = w.call(ask(count(9))).unwrap() else {
        panic!("other answer")
    };
    assert!(addresses.iter().all(|a| !prefixes[0].contains(a)));
    assert_eq!(w.refused(ask(count(1))).0, "Ipv6AddressLimitExceeded");
    assert_eq!(w.refused(ask(WantedV6::default())).0, "InvalidParameter");
    let give = UnassignIpv6Addresses {
        eni: eni.clone(),
        addresses,
        prefixes,
    };
    w.call(give.clone()).unwrap();
    assert_eq!(w.refused(give).0, "InvalidParameterValue");
    assert!(w.eni(&eni).v6.is_empty() && w.eni(&eni).v6_prefixes.is_empty());
    let four = w.create("subnet-b");
    let no_v6 = AssignIpv6Addresses {
        eni: four,
        wanted: count(1),
    };
    assert!(w.refused(no_v6).1.contains("no IPv6 CIDR block"));
}

#[test]
fn reservations_keep_singles_out_of_prefix_space() {
    let mut spec = spec();
    spec.subnets[0].reservations = vec![ReservationSpec {
        cidr: "10.0.8.0/21".parse().unwrap(),
        kind: ReservationKind::Prefix,
    }];
    let mut w = World::with(spec);
    let range: ipnet::Ipv4Net = "10.0.8.0/21".parse().unwrap();
    for _ in 0..20 {
        let id = w.create_with(
            "subnet-a",
            WantedV4 {
                prefix_count: Some(2),
                ..addresses(3)
            },
        );
        let eni = w.eni(&id);
        assert!(
            eni.addresses.iter().all(|a| !range.contains(&a.address)),
            "{eni:?}"
        );
        assert!(eni.v4_prefixes.iter().all(|p| range.contains(p)), "{eni:?}");
    }
    assert!(
        w.vpc
            .books(w.now)
            .iter()
            .all(|v| v.class == ViolationClass::LeakedEni)
    );
}
