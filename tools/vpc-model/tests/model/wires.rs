use crate::world::{World, addresses, spec};
use std::time::Duration;
use vpc_model::request::{DetachNetworkInterface, EniAttribute, ModifyNetworkInterfaceAttribute};
use vpc_model::{Latency, Wire};

fn links(w: &World) -> Vec<(String, String)> {
    w.vpc
        .wires(w.now)
        .into_iter()
        .map(|w| (w.node.to_string(), w.link))
        .collect()
}

#[test]
fn a_link_comes_after_attach_and_goes_after_detach() {
    let mut spec = spec();
    spec.latencies.eni_link_ms = Latency::fixed(1000.0);
    spec.latencies.eni_detach_ms = Latency::fixed(500.0);
    let mut w = World::with(spec);
    let three = [("n1", "ens5"), ("n2", "ens5"), ("old", "ens5")]
        .map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(links(&w), three);
    assert_eq!(w.vpc.next_wake(w.now), None);
    let before = w.vpc.generation();
    let eni = w.create_with("subnet-a", addresses(2));
    let attachment = w.attach(&eni, "i-n1", 2);
    assert_ne!(w.vpc.generation(), before);
    assert_eq!(links(&w).len(), 3);
    let due = w.vpc.next_wake(w.now).unwrap();
    assert_eq!(due, w.now + Duration::from_secs(1));
    w.now = due;
    assert_eq!(links(&w)[1], ("n1".to_owned(), "ens7".to_owned()));
    assert_eq!(w.vpc.next_wake(w.now), None);
    w.call(DetachNetworkInterface {
        attachment,
        force: false,
    })
    .unwrap();
    assert_eq!(links(&w).len(), 4);
    w.now = w.vpc.next_wake(w.now).unwrap();
    assert_eq!(links(&w), three);
}

#[test]
fn a_wire_says_what_its_eni_holds() {
    let mut spec = spec();
    spec.nodes[0].primary_ip = Some("10.0.1.5".parse().unwrap());
    spec.nodes[0].public_ip = Some("198.51.100.7".parse().unwrap());
    spec.nodes[0].launch_prefixes = 1;
    spec.nodes[0].launch_ipv6_addresses = 1;
    spec.placement = vpc_model::Placement::Lowest;
    let mut w = World::with(spec);
    let eni = w.primary("n1").id;
    let wire = |w: &World| -> Wire { w.vpc.wires(w.now).remove(0) };
    let first = wire(&w);
    assert_eq!(first.primary.to_string(), "10.0.1.5/20");
    assert_eq!(first.gateway.to_string(), "10.0.0.1");
    let allowed: Vec<String> = first.allowed.iter().map(ToString::to_string).collect();
    assert_eq!(allowed, ["10.0.0.16/28", "10.0.1.5/32", "2001:db8::4/128"]);
    assert_eq!(
        first.public,
        [("10.0.1.5".parse().unwrap(), "198.51.100.7".parse().unwrap())]
    );
    let generation = w.vpc.generation();
    w.call(crate::world::assign(&eni, addresses(1))).unwrap();
    w.call(ModifyNetworkInterfaceAttribute {
        eni,
        attribute: Some(EniAttribute::SourceDestCheck(false)),
    })
    .unwrap();
    assert!(w.vpc.generation() > generation);
    assert_eq!(wire(&w).allowed.len(), 4);
    assert!(!wire(&w).source_dest_check);
    w.vpc.terminate_instance("n1", w.now).unwrap();
    assert!(links(&w).iter().all(|(node, _)| node != "n1"));
}
