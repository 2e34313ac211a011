use crate::world::{World, addresses, attach, prefixes, spec};
use vpc_model::NodeSpec;
use vpc_model::ids::{AttachmentId, EniId};
use vpc_model::request::{
    AttachNetworkInterface, DeleteNetworkInterface, DetachNetworkInterface, EniAttribute,
    ModifyNetworkInterfaceAttribute, Tracking,
};

fn detach(attachment: &AttachmentId, force: bool) -> DetachNetworkInterface {
    DetachNetworkInterface {
        attachment: attachment.clone(),
        force,
    }
}

fn modify(eni: &EniId, attribute: EniAttribute) -> ModifyNetworkInterfaceAttribute {
    ModifyNetworkInterfaceAttribute {
        eni: eni.clone(),
        attribute: Some(attribute),
    }
}

#[test]
fn an_instance_takes_as_many_enis_as_its_type_has() {
    let mut w = World::new();
    let enis: Vec<EniId> = (0..3).map(|_| w.create("subnet-a")).collect();
    w.attach(&enis[0], "i-n1", 1);
    let (code, message) = w.refused(attach(&enis[1], "i-n1", 1));
    assert_eq!(code, "InvalidParameterValue");
    assert_eq!(
        message,
        "Instance 'i-n1' already has an interface attached at device index '1'."
    );
    let (code, message) = w.refused(attach(&enis[0], "i-n2", 1));
    assert_eq!(code, "InvalidNetworkInterface.InUse");
    assert_eq!(message, format!("Interface: [{}] in use.", enis[0]));
    w.attach(&enis[1], "i-n1", 2);
    let (code, message) = w.refused(attach(&enis[2], "i-n1", 3));
    assert_eq!(code, "AttachmentLimitExceeded");
    assert_eq!(message, "Interface count 4 exceeds the limit for m5.large");
    assert_eq!(w.vpc.books(w.now), []);
}

#[test]
fn what_cannot_be_attached_is_refused() {
    let mut w = World::new();
    let far = w.create("subnet-b");
    let wide = w.create_with("subnet-a", addresses(10));
    let blocks = w.create_with("subnet-a", prefixes(1));
    let plain = w.create("subnet-a");
    let card = AttachNetworkInterface {
        card: Some(1),
        ..attach(&plain, "i-n1", 1)
    };
    for (request, code) in [
        (attach(&far, "i-n1", 1), "InvalidParameterCombination"),
        (
            attach(&wide, "i-n1", 1),
            "InvalidInterface.IpAddressLimitExceeded",
        ),
        (attach(&blocks, "i-old", 1), "InvalidParameterValue"),
        (card, "InvalidParameterValue"),
        (attach(&plain, "i-none", 1), "InvalidInstanceID.NotFound"),
        (
            attach(&EniId::from("eni-0123456789abcdef0"), "i-n1", 1),
            "InvalidNetworkInterfaceID.NotFound",
        ),
        (
            attach(&EniId::from("eni-0123"), "i-n1", 1),
            "InvalidNetworkInterfaceId.Malformed",
        ),
        (
            attach(&EniId::from("bogus"), "i-n1", 1),
            "InvalidNetworkInterfaceId.Malformed",
        ),
    ] {
        assert_eq!(w.refused(request.clone()).0, code, "{request:?}");
    }
    w.vpc.terminate_instance("n2", w.now).unwrap();
    assert_eq!(w.refused(attach(&plain, "i-n2", 1)).0, "IncorrectState");
}

#[test]
fn cards_have_slots_of_their_own() {
    let mut spec = spec();
    let mut big = NodeSpec::new("big", "p5.48xlarge");
    big.instance_id = Some("i-big".into());
    spec.nodes.push(big);
    let mut w = World::with(spec);
    let mut put = |card: u32, index: u32| {
        let eni = w.create("subnet-a");
        let request = AttachNetworkInterface {
            card: Some(card),
            ..attach(&eni, "i-big", index)
        };
        w.call(request).map_err(|e| e.code)
    };
    put(0, 1).unwrap();
    assert_eq!(put(0, 2).unwrap_err(), "AttachmentLimitExceeded");
    put(31, 1).unwrap();
    put(31, 0).unwrap();
    assert_eq!(put(31, 2).unwrap_err(), "AttachmentLimitExceeded");
    assert_eq!(put(32, 1).unwrap_err(), "InvalidParameterValue");
}

#[test]
fn detaching_takes_its_time() {
    let mut spec = spec();
    spec.latencies.eni_link_ms = vpc_model::Latency::fixed(1000.0);
    spec.latencies.eni_detach_ms = vpc_model::Latency::fixed(2000.0);
    let mut w = World::with(spec);
    let eni = w.create("subnet-a");
    let attachment = w.attach(&eni, "i-n1", 1);
    let status = |w: &World| {
        let eni = w.eni(&eni);
        (eni.status, eni.attachment.map_or("none", |a| a.status))
    };
    assert_eq!(status(&w), ("in-use", "attaching"));
    w.wait_ms(1000);
    assert_eq!(status(&w), ("in-use", "attached"));
    w.call(detach(&attachment, false)).unwrap();
    assert_eq!(status(&w), ("in-use", "detaching"));
    let (code, message) = w.refused(DeleteNetworkInterface { eni: eni.clone() });
    assert_eq!(code, "InvalidParameterValue");
    assert_eq!(
        message,
        format!("Network interface '{eni}' is currently in use.")
    );
    assert_eq!(
        w.refused(attach(&eni, "i-n2", 1)).0,
        "InvalidNetworkInterface.InUse"
    );
    assert_eq!(
        w.vpc.next_wake(w.now),
        Some(w.now + std::time::Duration::from_secs(2))
    );
    w.wait_ms(2000);
    assert_eq!(status(&w), ("available", "none"));
    assert_eq!(
        w.refused(detach(&attachment, false)).0,
        "InvalidAttachmentID.NotFound"
    );
    w.attach(&eni, "i-n2", 1);
}

#[test]
fn force_detaches_at_once_and_the_primary_stays() {
    let mut spec = spec();
    spec.latencies.eni_detach_ms = vpc_model::Latency::fixed(2000.0);
    let mut w = World::with(spec);
    let eni = w.create("subnet-a");
    let attachment = w.attach(&eni, "i-n1", 1);
    w.call(detach(&attachment, true)).unwrap();
    assert_eq!(w.eni(&eni).status, "available");
    w.call(DeleteNetworkInterface { eni }).unwrap();
    let primary = w.primary("n1").attachment.unwrap().id;
    let (code, message) = w.refused(detach(&primary, true));
    assert_eq!(code, "OperationNotPermitted");
    assert!(message.ends_with("at device index 0 and networkCard index 0 cannot be detached."));
}

#[test]
fn delete_on_termination_only_by_the_right_attachment() {
    let mut w = World::new();
    let (kept, gone) = (w.create("subnet-a"), w.create("subnet-a"));
    let first = w.attach(&kept, "i-n1", 1);
    let second = w.attach(&gone, "i-n1", 2);
    let flag = |attachment: &AttachmentId, value| EniAttribute::DeleteOnTermination {
        attachment: attachment.clone(),
        value,
    };
    assert!(!w.eni(&gone).attachment.unwrap().delete_on_termination);
    assert_eq!(
        w.refused(modify(&gone, flag(&first, true))).0,
        "InvalidAttachmentID.NotFound"
    );
    w.call(modify(&gone, flag(&second, true))).unwrap();
    assert!(w.eni(&gone).attachment.unwrap().delete_on_termination);
    w.vpc.terminate_instance("n1", w.now).unwrap();
    let left: Vec<EniId> = w.vpc.enis(w.now).into_iter().map(|e| e.id).collect();
    assert!(left.contains(&kept) && !left.contains(&gone));
    assert_eq!(w.eni(&kept).status, "available");
    assert_eq!(left.len(), 3);
}

#[test]
fn other_attributes_change() {
    let mut w = World::new();
    let eni = w.create("subnet-a");
    w.call(modify(&eni, EniAttribute::Description("new".into())))
        .unwrap();
    w.call(modify(&eni, EniAttribute::SourceDestCheck(false)))
        .unwrap();
    let tracking = |udp| Tracking {
        udp: Some(udp),
        ..Tracking::default()
    };
    w.call(modify(&eni, EniAttribute::Tracking(tracking(42))))
        .unwrap();
    let (code, _) = w.refused(modify(&eni, EniAttribute::Tracking(tracking(61))));
    assert_eq!(code, "InvalidParameterValue");
    let shown = w.eni(&eni);
    assert_eq!(shown.tracking, tracking(42));
    assert_eq!(
        (shown.description.as_str(), shown.source_dest_check),
        ("new", false)
    );
    let none = ModifyNetworkInterfaceAttribute {
        eni,
        attribute: None,
    };
    assert_eq!(w.refused(none).0, "InvalidParameterCombination");
}
