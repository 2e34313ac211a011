//! Odd worlds: primary ENIs at other places, instances that carry less, ENIs of others, nodes that
//! come back on another instance.

use crate::world::{World, addresses, assign, attach, prefixes, spec, subnet};
use std::time::Duration;
use vpc_model::ids::EniId;
use vpc_model::imds::ImdsRequest;
use vpc_model::place::{EniPlace, EniSpec, NO_MANAGE};
use vpc_model::request::{
    Action, CreateTags, DeleteNetworkInterface, DeleteTags, Describe, DetachNetworkInterface,
};
use vpc_model::spec::{BucketSpec, HttpTokens, TypeOverride};
use vpc_model::{Caller, Effect, Fate, Fault, Latency, NodeSpec, Response, Vpc, VpcSpec};

fn spec_without_tokens() -> VpcSpec {
    let mut spec = spec();
    for node in &mut spec.nodes {
        node.http_tokens = HttpTokens::Optional;
    }
    spec
}

fn meta(w: &mut World, node: &str, path: &str) -> Option<String> {
    let path = format!("/latest/meta-data/{path}");
    let request = ImdsRequest {
        method: "GET",
        path: &path,
        ..ImdsRequest::default()
    };
    let answer = w.vpc.imds(node, &request, w.now).unwrap().answer.unwrap();
    (answer.status == 200).then_some(answer.body)
}

fn described(w: &mut World, by: Describe<EniId>) -> Vec<EniId> {
    w.list(by).into_iter().map(|e| e.id).collect()
}

fn on_n1() -> Describe<EniId> {
    Describe::default().filter("attachment.instance-id", "i-n1")
}

#[test]
fn an_instance_may_carry_less_than_its_type_says() {
    let mut spec = spec();
    spec.nodes[0].limits = TypeOverride {
        card_enis: Some(vec![2]),
        ipv4_per_eni: Some(4),
        ..TypeOverride::default()
    };
    let mut w = World::with(spec);
    let first = w.primary("n1").id;
    w.call(assign(&first, addresses(3))).unwrap();
    let (code, message) = w.refused(assign(&first, addresses(1)));
    assert_eq!(code, "PrivateIpAddressLimitExceeded");
    let text = format!("{first}: Number of private addresses will exceed limit.");
    assert_eq!(message, text);
    // What an ENI brings must fit, too.
    let big = w.create_with("subnet-a", addresses(4));
    let (code, _) = w.refused(attach(&big, "i-n1", 1));
    assert_eq!(code, "InvalidInterface.IpAddressLimitExceeded");
    let small = w.create_with("subnet-a", prefixes(3));
    w.attach(&small, "i-n1", 1);
    let more = w.create("subnet-a");
    let (code, message) = w.refused(attach(&more, "i-n1", 2));
    assert_eq!(code, "AttachmentLimitExceeded");
    assert_eq!(message, "Interface count 3 exceeds the limit for m5.large");
    // The other node of the type carries what the type has, and so says EC2 of the type.
    let other = w.primary("n2").id;
    w.call(assign(&other, addresses(9))).unwrap();
    let by = Describe::ids(["m5.large".to_owned()]);
    let Response::InstanceTypes(page) = w.call(Action::DescribeInstanceTypes(by)).unwrap() else {
        panic!("other answer")
    };
    assert_eq!(
        (page.items[0].ipv4_per_eni, page.items[0].max_enis()),
        (10, 3)
    );
    assert_eq!(w.vpc.books(w.now), []);
}

#[test]
fn a_launch_must_fit_what_the_instance_carries() {
    let launch = |limits, change: &dyn Fn(&mut NodeSpec)| {
        let mut spec = spec();
        spec.nodes[0].limits = limits;
        change(&mut spec.nodes[0]);
        Vpc::new(spec, vpc_model::Time::default())
            .unwrap_err()
            .to_string()
    };
    let few = TypeOverride {
        ipv4_per_eni: Some(2),
        ..TypeOverride::default()
    };
    let error = launch(few, &|n| n.launch_addresses = 2);
    assert!(error.contains("3 IPv4 slots"), "{error}");
    let error = launch(TypeOverride::default(), &|n| n.network_card = 1);
    assert!(error.contains("nodes[0].network_card: m5.large"), "{error}");
}

/// Node n1's primary ENI is at device index 1 there, and EC2, IMDS, wires and books all say so.
#[test]
fn a_primary_eni_may_be_at_another_device_index() {
    let mut spec = spec_without_tokens();
    spec.nodes[0].device_index = 1;
    let mut w = World::with(spec);
    let primary = w.primary("n1");
    assert_eq!(primary.attachment.as_ref().unwrap().device_index, 1);
    let other = w.create("subnet-a");
    let attachment = w.attach(&other, "i-n1", 0);
    let (_, message) = w.refused(attach(&EniId::from("eni-0123456789abcdef0"), "i-n1", 1));
    assert!(message.contains("does not exist"), "{message}");
    let mac = meta(&mut w, "n1", "mac").unwrap();
    assert_eq!(mac, primary.mac.to_string());
    let ip = meta(&mut w, "n1", "local-ipv4").unwrap();
    assert_eq!(ip, primary.private_ip.to_string());
    let at = |mac: &str| format!("network/interfaces/macs/{mac}/device-number");
    assert_eq!(meta(&mut w, "n1", &at(&mac)).unwrap(), "1");
    let other_mac = w.eni(&other).mac.to_string();
    assert_eq!(meta(&mut w, "n1", &at(&other_mac)).unwrap(), "0");
    let by = Describe::ids([vpc_model::ids::InstanceId::from("i-n1")]);
    let Response::Instances(page) = w.call(Action::DescribeInstances(by)).unwrap() else {
        panic!("other answer")
    };
    assert_eq!(page.items[0].private_ip, Some(primary.private_ip));
    let wires = w.vpc.wires(w.now);
    let mine: Vec<_> = wires.iter().filter(|w| w.node.as_str() == "n1").collect();
    let names = |of: &EniId| {
        let wire = mine.iter().find(|w| w.eni == *of).unwrap();
        (wire.is_primary, wire.device_index, wire.link.as_str())
    };
    assert_eq!(names(&primary.id), (true, 1, "ens5"));
    assert_eq!(names(&other), (false, 0, "ens6"));
    // A fault that hides all but the primary ENI knows which it is.
    w.vpc
        .add_fault(Fault::new("*", Effect::HideEni { eni: None }));
    let macs = meta(&mut w, "n1", "network/interfaces/macs/").unwrap();
    assert_eq!(macs, format!("{mac}/"));
    // The primary ENI can't be detached; the other can, though it is at 0.
    let (code, message) = w.refused(DetachNetworkInterface {
        attachment: primary.attachment.unwrap().id,
        force: true,
    });
    assert_eq!(code, "OperationNotPermitted");
    assert!(message.contains("at device index 1 and"), "{message}");
    w.call(DetachNetworkInterface {
        attachment,
        force: true,
    })
    .unwrap();
    assert_eq!(described(&mut w, on_n1()), [primary.id]);
    assert_eq!(w.vpc.books(w.now), []);
}

#[test]
fn a_primary_eni_may_be_on_another_card() {
    let mut spec = spec_without_tokens();
    spec.nodes.push(NodeSpec {
        network_card: 1,
        http_tokens: HttpTokens::Optional,
        ..NodeSpec::new("cards", "p4d.24xlarge")
    });
    let mut w = World::with(spec);
    let primary = w.primary("cards");
    let attachment = primary.attachment.unwrap();
    assert_eq!((attachment.card, attachment.device_index), (1, 0));
    let mac = meta(&mut w, "cards", "mac").unwrap();
    assert_eq!(mac, primary.mac.to_string());
    let key = format!("network/interfaces/macs/{mac}/network-card");
    assert_eq!(meta(&mut w, "cards", &key).unwrap(), "1");
    assert_eq!(w.vpc.wires(w.now)[0].link, "ens5");
}

#[test]
fn an_eni_of_another_account_is_seen_where_it_hangs_only() {
    let mut w = World::with(spec_without_tokens());
    let free = w.free("subnet-a");
    let spec = EniSpec {
        addresses: 2,
        prefixes: 1,
        ..EniSpec::default()
    };
    let spec = spec.owned_by("999988887777").on("n1");
    let id = w.vpc.place_eni(&spec, w.now).unwrap();
    assert_eq!(w.free("subnet-a"), free - 3 - 16);
    let eni = w.eni(&id);
    assert_eq!(eni.owner, "999988887777");
    let key = format!("network/interfaces/macs/{}/owner-id", eni.mac);
    assert_eq!(meta(&mut w, "n1", &key).unwrap(), "999988887777");
    assert_eq!(w.vpc.wires(w.now)[1].eni, id);
    // No caller of this account finds it, by any road.
    for caller in [Caller::node("n1"), Caller::Operator] {
        w.caller = caller;
        assert!(!described(&mut w, on_n1()).contains(&id));
        assert!(!described(&mut w, Describe::default()).contains(&id));
        let not_found = "InvalidNetworkInterfaceID.NotFound";
        let by = Describe::ids([id.clone()]);
        assert_eq!(
            w.refused(Action::DescribeNetworkInterfaces(by)).0,
            not_found
        );
        assert_eq!(w.refused(assign(&id, addresses(1))).0, not_found);
        let delete = DeleteNetworkInterface { eni: id.clone() };
        assert_eq!(w.refused(delete).0, not_found);
        let attachment = eni.attachment.clone().unwrap().id;
        let detach = DetachNetworkInterface {
            attachment,
            force: true,
        };
        assert_eq!(w.refused(detach).0, "InvalidAttachmentID.NotFound");
    }
    // But it takes a place, and its addresses are not free.
    let mine = w.create("subnet-a");
    assert_eq!(
        w.refused(attach(&mine, "i-n1", 1)).0,
        "InvalidParameterValue"
    );
    let theirs = eni.addresses[1].address.to_string();
    let named = crate::world::named(&[theirs.as_str()]);
    let mut steal = assign(&mine, named);
    steal.allow_reassignment = true;
    let (_, message) = w.refused(steal);
    assert!(message.contains("move is not allowed"), "{message}");
    w.wait_ms(3_600_000);
    assert_eq!(w.vpc.books(w.now), []);
    assert!(w.vpc.remove_eni(&id, w.now) && !w.vpc.remove_eni(&id, w.now));
    assert_eq!(w.free("subnet-a"), free - 1);
    assert_eq!(meta(&mut w, "n1", &key), None);
    assert!(!w.vpc.remove_eni(&w.primary("n1").id, w.now));
}

#[test]
fn other_accounts_enis_are_not_of_this_accounts_quota() {
    let mut spec = spec();
    spec.limits.network_interfaces = 4;
    let mut w = World::with(spec);
    for _ in 0..3 {
        let theirs = EniSpec::default().owned_by("999988887777");
        w.vpc.place_eni(&theirs, w.now).unwrap();
    }
    w.create("subnet-a");
    assert_eq!(w.vpc.books(w.now), []);
    let spec = EniSpec::default();
    let refused = w.vpc.place_eni(&spec, w.now).unwrap_err();
    assert_eq!(refused.code, "NetworkInterfaceLimitExceeded");
}

#[test]
fn unmanaged_enis_and_those_of_another_cluster() {
    let mut spec = spec_without_tokens();
    spec.latencies.eni_link_ms = Latency::fixed(1000.0);
    spec.latencies.eni_in_imds_ms = Latency::fixed(2000.0);
    let mut w = World::with(spec);
    let left_alone = EniSpec::default().unmanaged().on("n1");
    let left_alone = w.vpc.place_eni(&left_alone, w.now).unwrap();
    let other = EniSpec {
        subnet: Some("subnet-a".into()),
        ..EniSpec::default().of_cluster("blue", "i-n2")
    };
    let free = w.vpc.place_eni(&other, w.now).unwrap();
    let used = w.vpc.place_eni(&other.clone().on("n2"), w.now).unwrap();
    assert_eq!(w.eni(&left_alone).tags[NO_MANAGE], "true");
    assert_eq!(described(&mut w, on_n1()).len(), 2);
    let by = Describe::default().filter("tag:cluster.k8s.amazonaws.com/name", "blue");
    let mut both = vec![free.clone(), used];
    both.sort();
    assert_eq!(described(&mut w, by), both);
    assert!(w.eni(&free).description.starts_with("aws-K8S-i-n2"));
    // Links and IMDS follow as after a call.
    assert_eq!(w.vpc.wires(w.now).len(), 3);
    let macs = "network/interfaces/macs/";
    w.wait_ms(1000);
    assert_eq!(w.vpc.wires(w.now).len(), 5);
    assert!(!meta(&mut w, "n1", macs).unwrap().contains('\n'));
    w.wait_ms(1000);
    assert!(meta(&mut w, "n1", macs).unwrap().contains('\n'));
    // Nobody's leak here, however long it lies about.
    w.wait_ms(7_200_000);
    assert_eq!(w.vpc.books(w.now), []);
    // Another's program may do with it what it wants.
    w.caller = Caller::Other("blue".into());
    w.call(DeleteNetworkInterface { eni: free }).unwrap();
}

#[test]
fn what_cannot_be_placed_changes_nothing() {
    let mut w = World::new();
    let (free, before) = (w.free("subnet-a"), w.vpc.enis(w.now).len());
    let at = |node: &str, index, card| EniSpec {
        on: Some(EniPlace {
            node: node.into(),
            device_index: index,
            card,
        }),
        ..EniSpec::default()
    };
    let nowhere = EniSpec {
        subnet: Some("subnet-none".into()),
        ..EniSpec::default()
    };
    for (spec, code) in [
        (at("n9", None, 0), "InvalidInstanceID.NotFound"),
        (at("n1", Some(0), 0), "InvalidParameterValue"),
        (at("n1", None, 1), "InvalidParameterValue"),
        (nowhere, "InvalidSubnetID.NotFound"),
    ] {
        let error = w.vpc.place_eni(&spec, w.now).unwrap_err();
        assert_eq!(error.code, code, "{spec:?}");
    }
    assert_eq!(
        (w.free("subnet-a"), w.vpc.enis(w.now).len()),
        (free, before)
    );
    assert_eq!(w.vpc.audit(0).len(), 0);
}

#[test]
fn an_account_may_begin_with_empty_buckets() {
    let mut spec = spec();
    spec.limits.throttling = true;
    let empty = BucketSpec::empty(10.0, 1.0);
    spec.limits.buckets.insert("describe".into(), empty);
    let mut w = World::with(spec.clone());
    let caller = w.caller.clone();
    let begin = |w: &mut World, action: &str| w.vpc.begin(&caller, action, w.now).fate;
    assert!(matches!(
        begin(&mut w, "DescribeSubnets"),
        Fate::Reject(error) if error.code == "RequestLimitExceeded"
    ));
    assert_eq!(begin(&mut w, "CreateNetworkInterface"), Fate::Proceed);
    w.wait_ms(1000);
    assert_eq!(begin(&mut w, "DescribeSubnets"), Fate::Proceed);
    let wrong = BucketSpec {
        initial: Some(11.0),
        ..empty
    };
    spec.limits.buckets.insert("describe".into(), wrong);
    let error = Vpc::new(spec, w.now).unwrap_err().to_string();
    assert!(
        error.contains("limits.buckets.describe: initial"),
        "{error}"
    );
}

#[test]
fn a_node_comes_back_on_another_instance() {
    let mut spec = spec_without_tokens();
    spec.latencies.eni_detach_ms = Latency::fixed(1000.0);
    let mut w = World::with(spec);
    let kept = w.create("subnet-a");
    w.attach(&kept, "i-n1", 1);
    let requester = w.eni(&kept).requester;
    let first = w.primary("n1");
    let node = || NodeSpec {
        http_tokens: HttpTokens::Optional,
        instance_id: Some("i-next".into()),
        ..NodeSpec::new("n1", "m5.xlarge")
    };
    assert!(w.vpc.launch(node(), w.now).is_err(), "the first one runs");
    w.vpc.terminate_instance("n1", w.now).unwrap();
    let same = NodeSpec {
        instance_id: Some("i-n1".into()),
        ..node()
    };
    let error = w.vpc.launch(same, w.now).unwrap_err().to_string();
    assert_eq!(error, "node.instance_id: i-n1 is there already");
    let same = NodeSpec {
        eni_id: Some(w.primary("n2").id.to_string()),
        ..node()
    };
    let error = w.vpc.launch(same, w.now).unwrap_err().to_string();
    assert!(error.contains("node.eni_id: eni-"), "{error}");
    let next = w.vpc.launch(node(), w.now).unwrap();
    assert_eq!(next.as_str(), "i-next");
    let info = w.vpc.nodes().into_iter().find(|n| n.name.as_str() == "n1");
    let info = info.unwrap();
    assert_eq!(
        (info.instance.as_str(), info.instance_type.as_str()),
        ("i-next", "m5.xlarge")
    );
    assert_eq!(meta(&mut w, "n1", "instance-id").unwrap(), "i-next");
    let primary = w.primary("n1");
    assert_ne!(primary.id, first.id);
    assert_eq!(meta(&mut w, "n1", "mac").unwrap(), primary.mac.to_string());
    // What the first one left behind is free, and was made by it; the old ENI is gone.
    assert_eq!(w.eni(&kept).status, "available");
    assert_eq!(w.eni(&kept).requester, requester);
    let by = Describe::default().filter("attachment.instance-id", "i-next");
    assert_eq!(described(&mut w, by), [primary.id]);
    assert!(described(&mut w, on_n1()).is_empty());
    // Or it comes up beside the first one, under a name of its own.
    let beside = w.vpc.launch(NodeSpec::new("n1b", "m5.large"), w.now);
    assert!(beside.is_ok());
    assert_eq!(w.vpc.books(w.now + Duration::from_secs(1)), []);
}

#[test]
fn role_tags_of_subnets_say_yes_or_no_and_change() {
    const ROLE: &str = "kubernetes.io/role/cni";
    let mut spec = spec();
    spec.subnets[0].tags.insert(ROLE.into(), "1".into());
    spec.subnets[1].tags.insert(ROLE.into(), "0".into());
    spec.subnets
        .push(subnet("subnet-t", "10.0.48.0/24", "eu-west-1a"));
    let mut w = World::with(spec);
    let list = |w: &mut World, value: Option<&str>| {
        let by = match value {
            Some(value) => Describe::default().filter(&format!("tag:{ROLE}"), value),
            None => Describe::default().filter("tag-key", ROLE),
        };
        match w.call(Action::DescribeSubnets(by)).unwrap() {
            Response::Subnets(page) => page
                .items
                .into_iter()
                .map(|s| format!("{}={}", s.id, s.tags[ROLE]))
                .collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(list(&mut w, Some("1")), ["subnet-a=1"]);
    assert_eq!(list(&mut w, Some("0")), ["subnet-s=0"]);
    w.caller = Caller::Operator;
    w.call(CreateTags {
        resources: vec!["subnet-t".into(), "subnet-s".into()],
        tags: [(ROLE.to_owned(), "1".to_owned())].into(),
    })
    .unwrap();
    w.call(DeleteTags {
        resources: vec!["subnet-a".into()],
        tags: vec![(ROLE.into(), None)],
    })
    .unwrap();
    w.caller = Caller::node("n1");
    assert_eq!(list(&mut w, None), ["subnet-s=1", "subnet-t=1"]);
}
