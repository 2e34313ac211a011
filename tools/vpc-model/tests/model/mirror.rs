//! Showing what another EC2 has decided.

use ipnet::Ipv4Net;
use std::collections::BTreeMap;
use vpc_model::ids::Mac;
use vpc_model::mirror::{Twin, TwinAttachment};
use vpc_model::{NodeSpec, SubnetSpec, Time, Vpc, VpcSpec};

const NOW: Time = Time::from_unix_millis(1_000);

fn vpc() -> Vpc {
    let mut subnet = SubnetSpec::new(Ipv4Net::new_assert([10, 0, 0, 0].into(), 24));
    subnet.id = Some("subnet-1".into());
    let mut node = NodeSpec::new("node-1", "m5.large");
    node.instance_id = Some("i-1".into());
    node.eni_id = Some("eni-00000001".into());
    node.mac = Some(Mac([2, 0, 0, 0, 0, 1]));
    node.primary_ip = Some([10, 0, 0, 10].into());
    let spec = VpcSpec {
        subnets: vec![subnet],
        nodes: vec![node],
        ..VpcSpec::default()
    };
    Vpc::new(spec, NOW).unwrap()
}

fn twin(id: &str, primary: u8, index: u32) -> Twin {
    Twin {
        id: id.into(),
        mac: Mac([2, 0, 0, 0, 0, primary]),
        subnet: "subnet-1".into(),
        primary: [10, 0, 0, primary].into(),
        secondary: Vec::new(),
        prefixes: Vec::new(),
        groups: Vec::new(),
        description: String::new(),
        tags: BTreeMap::new(),
        attachment: Some(TwinAttachment {
            id: format!("eni-attach-{primary}").into(),
            instance: "i-1".into(),
            device_index: index,
            card: 0,
            delete_on_termination: true,
        }),
    }
}

#[test]
fn a_node_is_launched_under_given_names() {
    let wire = vpc().wires(NOW).remove(0);
    assert_eq!(
        (wire.eni.as_str(), wire.mac),
        ("eni-00000001", Mac([2, 0, 0, 0, 0, 1]))
    );
}

#[test]
fn enis_come_change_and_go() {
    let mut vpc = vpc();
    let first = twin("eni-00000001", 10, 0);
    let mut second = twin("eni-00000002", 20, 1);
    second.secondary = vec![[10, 0, 0, 21].into()];
    vpc.mirror(&[first.clone(), second.clone()], NOW).unwrap();
    let later = NOW + std::time::Duration::from_secs(10);
    assert_eq!(vpc.wires(NOW).len(), 1, "the second's link is to come");
    assert_eq!(vpc.wires(later).len(), 2);
    let free = vpc.subnets()[0].available;
    // The same again changes nothing; its link is not laid anew.
    let generation = vpc.generation();
    vpc.mirror(&[first.clone(), second.clone()], later).unwrap();
    assert_eq!(vpc.generation(), generation);
    // An address moves from one to the other, and a prefix comes.
    let mut first = first;
    first.secondary = std::mem::take(&mut second.secondary);
    second.prefixes = vec![Ipv4Net::new_assert([10, 0, 0, 32].into(), 28)];
    vpc.mirror(&[first.clone(), second.clone()], later).unwrap();
    assert_eq!(vpc.subnets()[0].available, free - 16);
    assert_eq!(vpc.wires(later)[1].allowed.len(), 2);
    vpc.mirror(&[first], later).unwrap();
    assert_eq!(vpc.wires(later).len(), 1);
    assert_eq!(vpc.books(later), Vec::new());
}

#[test]
fn what_is_in_two_places_is_refused() {
    let mut vpc = vpc();
    let first = twin("eni-00000001", 10, 0);
    let mut second = twin("eni-00000002", 20, 1);
    second.secondary = vec![[10, 0, 0, 10].into()];
    let error = vpc.mirror(&[first.clone(), second], NOW).unwrap_err();
    assert!(error.to_string().contains("held by another"), "{error}");
    let mut reserved = twin("eni-00000003", 1, 1);
    reserved.secondary.clear();
    let error = vpc.mirror(&[first, reserved], NOW).unwrap_err();
    assert!(error.to_string().contains("EC2 keeps"), "{error}");
}
