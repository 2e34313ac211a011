use crate::world::{World, addresses, named, prefixes, spec};
use vpc_model::ids::{GroupId, SubnetId};
use vpc_model::request::{
    CreateNetworkInterface, DeleteNetworkInterface, Request, WantedV4, WantedV6,
};
use vpc_model::{Effect, Fault, Response};

fn in_subnet(subnet: &str, v4: WantedV4) -> CreateNetworkInterface {
    CreateNetworkInterface {
        subnet: Some(SubnetId::from(subnet)),
        v4,
        ..CreateNetworkInterface::default()
    }
}

#[test]
fn everything_wanted_is_on_the_new_eni_and_counted() {
    let mut w = World::new();
    let before = w.free("subnet-a");
    let wanted = WantedV4 {
        address_count: Some(3),
        prefix_count: Some(2),
        ..WantedV4::default()
    };
    let id = w.create_with("subnet-a", wanted);
    let eni = w.eni(&id);
    assert_eq!(
        (eni.addresses.len(), eni.v4_prefixes.len(), eni.status),
        (4, 2, "available")
    );
    assert!(eni.addresses[0].primary && !eni.addresses[1].primary);
    assert_eq!(w.free("subnet-a"), before - 4 - 32);
    w.call(DeleteNetworkInterface { eni: id }).unwrap();
    assert_eq!(w.free("subnet-a"), before);
}

#[test]
fn refusals_have_ec2s_words_and_change_nothing() {
    let mut w = World::new();
    let taken = w.primary("n1").private_ip.to_string();
    let with = |v4| in_subnet("subnet-a", v4);
    let primary = |ip: &str| CreateNetworkInterface {
        primary: Some(ip.parse().unwrap()),
        ..in_subnet("subnet-a", WantedV4::default())
    };
    let both = WantedV4 {
        address_count: Some(1),
        ..named(&["10.0.0.9"])
    };
    let no_such_group = CreateNetworkInterface {
        groups: vec![GroupId::from("sg-none")],
        ..in_subnet("subnet-a", WantedV4::default())
    };
    let no_group = CreateNetworkInterface {
        groups: vec![GroupId::from("group-1")],
        ..in_subnet("subnet-a", WantedV4::default())
    };
    let six = CreateNetworkInterface {
        v6: WantedV6 {
            address_count: Some(1),
            ..WantedV6::default()
        },
        ..in_subnet("subnet-b", WantedV4::default())
    };
    let table: Vec<(CreateNetworkInterface, &str, &str)> = vec![
        (
            CreateNetworkInterface::default(),
            "MissingParameter",
            "must contain the parameter subnetId",
        ),
        (
            in_subnet("subnet-none", WantedV4::default()),
            "InvalidSubnetID.NotFound",
            "The subnet ID 'subnet-none' does not exist",
        ),
        (
            in_subnet("net-1", WantedV4::default()),
            "InvalidSubnetID.Malformed",
            "Invalid id: \"net-1\"",
        ),
        (
            no_such_group,
            "InvalidSecurityGroupID.NotFound",
            "The securityGroup ID 'sg-none' does not exist",
        ),
        (
            no_group,
            "InvalidSecurityGroupId.Malformed",
            "Invalid id: \"group-1\" (expecting \"sg-...\")",
        ),
        (primary(&taken), "InvalidIPAddress.InUse", "already in use"),
        (
            primary("10.0.0.3"),
            "InvalidParameterValue",
            "in subnet's reserved address range",
        ),
        (
            primary("10.0.15.255"),
            "InvalidParameterValue",
            "in subnet's reserved address range",
        ),
        (
            primary("10.0.16.9"),
            "InvalidParameterValue",
            "does not fall within the subnet's address range",
        ),
        (with(both), "InvalidParameterCombination", "but not both"),
        (
            with(addresses(500)),
            "PrivateIpAddressLimitExceeded",
            "will exceed limit",
        ),
        (six, "InvalidParameterValue", "no IPv6 CIDR block"),
        // Ten are free once the primary has one of eleven, none of them an aligned free /28.
        (
            in_subnet("subnet-s", addresses(11)),
            "InvalidParameterValue",
            "There aren't sufficient free",
        ),
        (
            in_subnet("subnet-s", prefixes(1)),
            "InvalidParameterValue",
            "There aren't sufficient free",
        ),
    ];
    let free = (w.free("subnet-a"), w.free("subnet-s"));
    let enis = w.vpc.enis(w.now).len();
    for (request, code, text) in table {
        let (got, message) = w.refused(request.clone());
        assert_eq!(got, code, "{request:?}: {message}");
        assert!(message.contains(text), "{message}");
        assert_eq!(
            (w.free("subnet-a"), w.free("subnet-s")),
            free,
            "{request:?}"
        );
        assert_eq!(w.vpc.enis(w.now).len(), enis);
    }
    assert_eq!(w.vpc.books(w.now), []);
}

#[test]
fn a_full_subnet_says_so() {
    let mut w = World::new();
    for _ in 0..11 {
        w.create("subnet-s");
    }
    assert_eq!(w.free("subnet-s"), 0);
    let (code, message) = w.refused(in_subnet("subnet-s", WantedV4::default()));
    assert_eq!(code, "InsufficientFreeAddressesInSubnet");
    assert_eq!(
        message,
        "The specified subnet does not have enough free addresses to satisfy the request."
    );
}

#[test]
fn the_regions_quota_holds() {
    let mut spec = spec();
    spec.limits.network_interfaces = 5;
    let mut w = World::with(spec);
    w.create("subnet-a");
    w.create("subnet-a");
    assert_eq!(
        w.refused(in_subnet("subnet-a", WantedV4::default())).0,
        "NetworkInterfaceLimitExceeded"
    );
}

#[test]
fn a_client_token_makes_one_eni() {
    let mut w = World::new();
    let request = |token: &str, count| CreateNetworkInterface {
        client_token: Some(token.to_owned()),
        ..in_subnet("subnet-a", addresses(count))
    };
    let mut create = |token, count| match w.call(request(token, count)) {
        Ok(Response::Created { eni, client_token }) => Ok((eni.id, client_token)),
        Ok(other) => panic!("{other:?}"),
        Err(e) => Err(e.code),
    };
    let first = create("t-1", 2).unwrap();
    assert_eq!(create("t-1", 2).unwrap(), first);
    assert_ne!(create("t-2", 2).unwrap().0, first.0);
    assert_eq!(create("t-1", 3).unwrap_err(), "IdempotentParameterMismatch");
    assert_eq!(
        create(&"x".repeat(65), 1).unwrap_err(),
        "InvalidParameterValue"
    );
}

/// What EC2 finds out at its work it does not say of a request that has gone well; what it says before its
/// work, it does.
#[test]
fn a_repeat_of_what_was_done_is_refused_for_nothing_but_its_caller() {
    for (code, status, repeats) in [
        ("InvalidParameterValue", 400, true),
        ("InsufficientFreeAddressesInSubnet", 400, true),
        ("RequestLimitExceeded", 503, false),
        ("UnauthorizedOperation", 403, false),
        ("InternalError", 500, false),
    ] {
        let mut w = World::new();
        let request = |token: &str| CreateNetworkInterface {
            client_token: Some(token.to_owned()),
            ..in_subnet("subnet-a", addresses(2))
        };
        let Ok(Response::Created { eni: first, .. }) = w.call(request("t-1")) else {
            panic!("nothing was made")
        };
        let fail = Effect::Fail {
            code: code.to_owned(),
            message: "no".to_owned(),
            http_status: status,
        };
        w.vpc.add_fault(Fault::new("Create*", fail));
        let mut call = |token: &str| {
            let (caller, request) = (w.caller.clone(), Request::from(request(token)));
            let admission = w.vpc.begin(&caller, "CreateNetworkInterface", w.now);
            w.vpc.execute(&admission, &caller, &request, w.now)
        };
        match call("t-1") {
            Ok(Response::Created { eni, .. }) => assert!(repeats && eni.id == first.id, "{code}"),
            other => assert!(!repeats, "{code}: {other:?}"),
        }
        assert_eq!(call("t-2").unwrap_err().code, code);
    }
}

#[test]
fn a_dry_run_does_nothing() {
    let mut w = World::new();
    let free = w.free("subnet-a");
    let mut request = Request::from(in_subnet("subnet-a", WantedV4::default()));
    request.dry_run = true;
    let error = w.call(request).unwrap_err();
    assert_eq!(
        (error.code.as_str(), error.http_status),
        ("DryRunOperation", 412)
    );
    assert_eq!(w.free("subnet-a"), free);
}
