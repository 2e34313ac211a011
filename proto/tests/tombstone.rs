//! Tombstones: what the plugin writes, the daemon reads; a cut file is never taken for a whole one.

use ipam_core::{AttachmentKey, PodRef, Timestamp};
use ipam_proto::tombstone::{Tombstone, TombstoneError};
use proptest::collection::vec;
use proptest::prelude::*;
use std::net::IpAddr;

fn tombstone() -> impl Strategy<Value = Tombstone> {
    let texts = [".*", ".*", ".*", ".*", ".*", ".*", ".*"];
    (texts, any::<u64>(), vec(any::<IpAddr>(), 0..3)).prop_map(|(texts, released, addresses)| {
        let [
            network,
            container_id,
            if_name,
            namespace,
            name,
            uid,
            boot_id,
        ] = texts;
        Tombstone {
            key: AttachmentKey {
                network,
                container_id,
                if_name,
            },
            pod: PodRef {
                namespace,
                name,
                uid,
            },
            released: Timestamp(released),
            boot_id,
            addresses,
        }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read(stone in tombstone()) {
        prop_assert_eq!(Tombstone::parse(&stone.to_string()), Ok(stone));
    }

    #[test]
    fn a_cut_file_is_damaged(stone in tombstone(), cut in 1usize..400) {
        let text = stone.to_string();
        // The last character is the line feed after `end`, which nobody needs.
        let keep = text.len().saturating_sub(1 + cut);
        prop_assert!(Tombstone::parse(&text[..keep]).is_err());
    }

    #[test]
    fn names_are_plain_file_names(stone in tombstone()) {
        let name = stone.file_name();
        prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{}", name);
        prop_assert!(name.len() <= 81);
    }
}

#[test]
fn unknown_keys_are_passed_over_and_missing_ones_named() {
    let text = "ipamd-tombstone 1\nnetwork=n\ncontainer_id=c\nif_name=eth0\npod_namespace=\n\
                pod_name=\npod_uid=\nfuture=1\nreleased_ms=5\nboot_id=b\nend\n";
    let stone = Tombstone::parse(text).expect("whole");
    assert_eq!(
        (stone.released, stone.boot_id.as_str()),
        (Timestamp(5), "b")
    );
    let without = text.replace("if_name=eth0\n", "");
    assert_eq!(
        Tombstone::parse(&without),
        Err(TombstoneError::Field("if_name"))
    );
    let twice = text.replace("boot_id=b", "boot_id=b\nboot_id=c");
    assert_eq!(
        Tombstone::parse(&twice),
        Err(TombstoneError::Field("boot_id"))
    );
    assert_eq!(
        Tombstone::parse("ipamd-tombstone 2\nend\n"),
        Err(TombstoneError::Header)
    );
}
