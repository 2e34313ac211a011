//! Negative controls: each class of violation fires on a state that is broken on purpose, and
//! nothing fires before it is broken.

use super::{Violation, ViolationClass};
use crate::admission::Admission;
use crate::state::EniState;
use crate::vpc::Vpc;
use crate::words::caller::Caller;
use crate::words::ids::EniId;
use crate::words::request::{
    CreateNetworkInterface, EniAttribute, ModifyNetworkInterfaceAttribute,
};
use crate::words::response::Response;
use crate::words::spec::{Latencies, NodeSpec, SubnetSpec, VpcSpec};
use crate::words::time::Time;
use std::time::Duration;

const START: Time = Time::from_unix_millis(1_000_000);

fn vpc() -> Vpc {
    let mut subnet = SubnetSpec::new("10.0.0.0/20".parse().unwrap());
    subnet.ipv6_cidr = Some("2001:db8::/64".parse().unwrap());
    let spec = VpcSpec {
        ipv6_cidr: Some("2001:db8::/56".parse().unwrap()),
        subnets: vec![subnet],
        nodes: vec![
            NodeSpec::new("n1", "m5.large"),
            NodeSpec::new("old", "t2.small"),
        ],
        latencies: Latencies::zero(),
        ..VpcSpec::default()
    };
    let vpc = Vpc::new(spec, START).unwrap();
    assert_eq!(vpc.books(START + Duration::from_secs(3600)), []);
    vpc
}

fn primary(vpc: &Vpc, node: &str) -> EniId {
    let found = vpc.nodes().into_iter().find(|n| n.name.as_str() == node);
    found.unwrap().primary_eni.unwrap()
}

/// Changes an ENI behind the model's back.
fn tamper(vpc: &mut Vpc, id: &EniId, change: impl FnOnce(&mut EniState)) {
    let mut eni = (**vpc.state.enis.get(id.as_str()).unwrap()).clone();
    change(&mut eni);
    vpc.state.enis.put(eni, START);
}

fn classes(books: &[Violation]) -> Vec<ViolationClass> {
    let mut all: Vec<ViolationClass> = books.iter().map(|v| v.class).collect();
    all.sort();
    all.dedup();
    all
}

fn create(vpc: &mut Vpc, caller: &Caller) -> EniId {
    let subnet = vpc.state.subnets.keys().next().cloned();
    let request = CreateNetworkInterface {
        subnet,
        ..CreateNetworkInterface::default()
    };
    let answer = vpc
        .execute(&Admission::immediate(), caller, &request.into(), START)
        .unwrap();
    let Response::Created { eni, .. } = answer else {
        panic!("other answer")
    };
    eni.id
}

#[test]
fn a_nodes_eni_that_is_nowhere_is_leaked_after_a_while() {
    let mut vpc = vpc();
    let id = create(&mut vpc, &Caller::node("n1"));
    create(&mut vpc, &Caller::Operator);
    assert_eq!(vpc.books(START + Duration::from_secs(599)), []);
    let books = vpc.books(START + Duration::from_secs(600));
    let [leak] = books.as_slice() else {
        panic!("{books:?}")
    };
    assert_eq!(
        (leak.class, leak.subject.as_str()),
        (ViolationClass::LeakedEni, id.as_str())
    );
    assert_eq!(
        (leak.node.as_deref(), leak.since),
        (Some("n1"), Some(START))
    );
}

#[test]
fn an_eni_that_would_outlive_its_instance_is_leaked() {
    let mut vpc = vpc();
    let id = create(&mut vpc, &Caller::node("n1"));
    let instance = vpc.state.nodes["n1"].clone();
    let attach = crate::words::request::AttachNetworkInterface {
        eni: id.clone(),
        instance,
        device_index: 1,
        card: None,
    };
    let caller = Caller::node("n1");
    let answer = vpc
        .execute(&Admission::immediate(), &caller, &attach.into(), START)
        .unwrap();
    let later = START + Duration::from_secs(600);
    assert_eq!(classes(&vpc.books(later)), [ViolationClass::LeakedEni]);
    let Response::Attached { attachment, .. } = answer else {
        panic!("other answer")
    };
    let attribute = EniAttribute::DeleteOnTermination {
        attachment,
        value: true,
    };
    let modify = ModifyNetworkInterfaceAttribute {
        eni: id,
        attribute: Some(attribute),
    };
    vpc.execute(&Admission::immediate(), &caller, &modify.into(), START)
        .unwrap();
    assert_eq!(vpc.books(later), []);
}

#[test]
fn an_operators_eni_with_a_nodes_mark_counts_as_the_nodes() {
    let mut vpc = vpc();
    let (tagged, described) = (
        create(&mut vpc, &Caller::Operator),
        create(&mut vpc, &Caller::Operator),
    );
    tamper(&mut vpc, &tagged, |e| {
        e.tags
            .insert("node.k8s.amazonaws.com/instance_id".into(), "i-1".into());
    });
    tamper(&mut vpc, &described, |e| {
        e.description = "aws-K8S-i-1".into();
    });
    assert_eq!(vpc.books(START + Duration::from_secs(600)).len(), 2);
}

#[test]
fn addresses_outside_or_reserved() {
    for address in ["10.9.0.9", "10.0.0.1", "10.0.15.255"] {
        let mut vpc = vpc();
        let id = primary(&vpc, "n1");
        tamper(&mut vpc, &id, |e| e.primary = address.parse().unwrap());
        let books = vpc.books(START);
        assert_eq!(
            classes(&books),
            [ViolationClass::OutsideSubnet],
            "{address}"
        );
        assert!(books[0].subject.starts_with(address), "{books:?}");
    }
    let mut vpc = vpc();
    let id = primary(&vpc, "n1");
    tamper(&mut vpc, &id, |e| e.v6.push("2001:db9::9".parse().unwrap()));
    assert_eq!(classes(&vpc.books(START)), [ViolationClass::OutsideSubnet]);
}

#[test]
fn an_address_held_twice_alone_or_in_a_prefix() {
    let mut vpc = vpc();
    let (one, two) = (primary(&vpc, "n1"), primary(&vpc, "old"));
    let taken = vpc.state.enis.get(one.as_str()).unwrap().primary;
    tamper(&mut vpc, &two, |e| e.primary = taken);
    assert_eq!(classes(&vpc.books(START)), [ViolationClass::HeldTwice]);
    let mut vpc = self::vpc();
    let (one, two) = (primary(&vpc, "n1"), primary(&vpc, "old"));
    tamper(&mut vpc, &one, |e| {
        e.v4_prefixes.push("10.0.4.16/28".parse().unwrap());
    });
    tamper(&mut vpc, &two, |e| {
        e.secondary.push("10.0.4.31".parse().unwrap());
    });
    // The pool knows of neither: the count is wrong too.
    assert_eq!(
        classes(&vpc.books(START)),
        [ViolationClass::HeldTwice, ViolationClass::FreeCount]
    );
    tamper(&mut vpc, &two, |e| {
        e.secondary = vec!["10.0.4.32".parse().unwrap()];
    });
    assert_eq!(classes(&vpc.books(START)), [ViolationClass::FreeCount]);
}

#[test]
fn crooked_prefixes() {
    for prefix in ["10.0.4.8/28", "10.0.4.0/27"] {
        let mut vpc = vpc();
        let id = primary(&vpc, "n1");
        tamper(&mut vpc, &id, |e| {
            e.v4_prefixes.push(prefix.parse().unwrap());
        });
        assert!(
            classes(&vpc.books(START)).contains(&ViolationClass::UnalignedPrefix),
            "{prefix}"
        );
    }
}

#[test]
fn a_count_that_does_not_add_up() {
    let mut vpc = vpc();
    let subnet = vpc.state.subnets.values_mut().next().unwrap();
    subnet.space4.take("10.0.7.7".parse().unwrap());
    assert_eq!(classes(&vpc.books(START)), [ViolationClass::FreeCount]);
}

#[test]
fn more_than_a_type_carries() {
    let mut vpc = vpc();
    let old = primary(&vpc, "old");
    tamper(&mut vpc, &old, |e| {
        e.v4_prefixes.push("10.0.4.16/28".parse().unwrap());
    });
    assert!(classes(&vpc.books(START)).contains(&ViolationClass::OverLimit));
    // Three more ENIs on an instance that takes three in all.
    let mut vpc = self::vpc();
    let first = vpc
        .state
        .enis
        .get(primary(&vpc, "n1").as_str())
        .unwrap()
        .attachment
        .clone();
    for index in 1..4 {
        let id = create(&mut vpc, &Caller::Operator);
        let attachment = first.clone().map(|a| crate::state::AttachState {
            device_index: index,
            ..a
        });
        tamper(&mut vpc, &id, |e| e.attachment = attachment);
    }
    let books = vpc.books(START);
    assert_eq!(classes(&books), [ViolationClass::OverLimit]);
    assert_eq!(books[0].node.as_deref(), Some("n1"));
    let mut vpc = self::vpc();
    vpc.state.spec.limits.network_interfaces = 1;
    assert_eq!(classes(&vpc.books(START)), [ViolationClass::OverLimit]);
}

#[test]
fn what_others_report_is_kept() {
    let mut vpc = vpc();
    let report = Violation {
        class: ViolationClass::SourceCheck,
        subject: "eni-1".into(),
        node: Some("n1".into()),
        detail: "3 packets from 10.9.9.9".into(),
        since: None,
    };
    vpc.report(report.clone());
    assert_eq!(vpc.books(START), [report]);
}
