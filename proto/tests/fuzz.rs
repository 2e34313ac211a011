//! Bytes and texts from anybody: they are read or refused, and nothing breaks.

use ipam_core::AttachmentKey;
use ipam_core::wiring::PodWiring;
use ipam_proto::tombstone::Tombstone;
use ipam_proto::{addresses, v1};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use prost::Message;

fn odd_text() -> impl Strategy<Value = String> {
    let fixed = [
        "",
        "x",
        "\u{0}",
        "10.1.0.1",
        "10.1.0.1/33",
        "::1/128",
        "02:00:00:00:00:01",
        "-1",
        "%",
        "%zz",
        "\u{1f600}",
    ];
    prop_oneof![3 => select(fixed.map(String::from).to_vec()), 1 => "\\PC{0,20}"]
}

fn wiring() -> v1::PodWiring {
    let route = v1::Route {
        dst: "0.0.0.0/0".into(),
        via: "169.254.1.1".into(),
        dev: "eth0".into(),
        on_link: false,
        table: 254,
    };
    v1::PodWiring {
        version: 1,
        host_if: "eni0123456789a".into(),
        host_mac: "02:00:00:00:00:01".into(),
        pod_if: "eth0".into(),
        pod_mac: "02:00:00:00:00:02".into(),
        mtu: 9001,
        pod_addresses: vec!["10.1.0.1/32".into()],
        pod_routes: vec![route.clone()],
        host_routes: vec![route],
        gateways: vec!["169.254.1.1".into()],
        ..v1::PodWiring::default()
    }
}

/// What a wiring that was taken must hold.
fn check(wiring: &PodWiring) -> Result<(), TestCaseError> {
    prop_assert!(wiring.version > 0 && wiring.version <= ipam_core::wiring::WIRING_VERSION);
    prop_assert!(!wiring.host_if.is_empty() && !wiring.pod_if.is_empty());
    let (gateways, told) = (wiring.gateways.len(), wiring.pod_addresses.len());
    prop_assert!(gateways == told || wiring.version > 1 && gateways < told);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2000) })]

    #[test]
    fn any_bytes_are_a_message_or_none(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(message) = v1::PodWiring::decode(bytes.as_slice())
            && let Ok(wiring) = PodWiring::try_from(message) {
            check(&wiring)?;
        }
        let _ = v1::AllocateRequest::decode(bytes.as_slice());
        let _ = v1::ReleaseRequest::decode(bytes.as_slice()).map(|r| addresses("addresses", &r.addresses));
        let _ = v1::CheckRequest::decode(bytes.as_slice()).map(|r| r.key.map(AttachmentKey::try_from));
    }

    #[test]
    fn changed_bytes_are_a_wiring_or_none(
        changes in vec((any::<Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.2, any::<Index>()),
    ) {
        let mut bytes = wiring().encode_to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(message) = v1::PodWiring::decode(bytes.as_slice())
            && let Ok(wiring) = PodWiring::try_from(message) {
            check(&wiring)?;
        }
    }

    #[test]
    fn odd_fields_are_taken_as_they_are_or_named(
        texts in [odd_text(), odd_text(), odd_text(), odd_text(), odd_text(), odd_text()],
        numbers in [any::<u32>(), any::<u32>()],
        version in select(vec![0, 1, 2, u32::MAX]),
    ) {
        let [host_if, host_mac, address, dst, via, gateway] = texts;
        let mut message = wiring();
        message.version = version;
        message.mtu = numbers[0];
        message.host_if.clone_from(&host_if);
        message.host_mac = host_mac;
        message.pod_addresses.push(address);
        message.gateways.push(gateway);
        message.host_routes[0].dst = dst;
        message.host_routes[0].via = via;
        message.host_routes[0].table = numbers[1];
        match PodWiring::try_from(message) {
            Ok(wiring) => {
                check(&wiring)?;
                prop_assert_eq!(wiring.host_if, host_if);
            }
            Err(error) => prop_assert!(!error.field.is_empty()),
        }
    }

    #[test]
    fn any_text_is_a_tombstone_or_none(text in "(ipamd-tombstone 1\n)?((network|container_id|if_name|address|pod_uid|end)=?[^\n]{0,8}\n){0,12}(end\n)?") {
        if let Ok(stone) = Tombstone::parse(&text) {
            prop_assert_eq!(Tombstone::parse(&stone.to_string()), Ok(stone));
        }
    }
}
