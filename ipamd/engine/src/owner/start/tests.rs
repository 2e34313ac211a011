//! What a store is worth at the start.

use super::*;
use crate::settings::OrphanScope;
use ipam_core::plan::Policy;
use ipam_core::{BlockKind, EniHandle, Intent, Released};
use std::collections::BTreeMap;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_767_225_600_000);

fn settings() -> Settings {
    Settings {
        policy: Policy::default(),
        veth_prefix: "eni".into(),
        eni_mtu: 9001,
        pod_mtu: 9001,
        egress: None,
        snat: true,
        snat_exclude: Vec::new(),
        mark: 0x80,
        services: Vec::new(),
        add_timeout: Duration::from_secs(30),
        metadata_every: Duration::from_secs(21),
        security_groups: None,
        provisioning: true,
        orphans: OrphanScope::Off,
    }
}

fn eni(n: u64, phase: Phase) -> Eni {
    let create = Intent::Create {
        token: "t".into(),
        kind: BlockKind::Address,
        count: 1,
    };
    Eni {
        handle: EniHandle(n),
        id: (phase != Phase::Creating).then(|| ipam_core::EniId(format!("eni-{n}"))),
        mac: None,
        primary: n == 0,
        device_index: 0,
        card: 0,
        subnet: "subnet-1".into(),
        address: None,
        attachment: None,
        delete_on_termination: true,
        phase,
        unmanaged: None,
        ours: true,
        excluded: false,
        blocks: BTreeMap::new(),
        intent: (phase == Phase::Creating).then_some(create),
        in_doubt_since: None,
        written_at: NOW,
        since: NOW,
    }
}

const PHASES: [Phase; 6] = [
    Phase::Ready,
    Phase::Creating,
    Phase::Created,
    Phase::Attached,
    Phase::Leaving,
    Phase::Detached,
];

fn started(instance: Option<&str>) -> Owner {
    let loaded = Loaded {
        instance: instance.map(Into::into),
        enis: (0..).zip(PHASES).map(|(n, phase)| eni(n, phase)).collect(),
        ..Loaded::default()
    };
    owner(settings(), loaded, 1, NOW)
}

/// It may be a copy of another instance's: nothing of it is made, attached or deleted as ours, also after the
/// next start.
#[test]
fn a_store_that_has_lost_whose_it_is_proves_nothing() {
    let owner = started(None);
    let kept: Vec<_> = owner.store.enis().values().collect();
    let handles: Vec<_> = kept.iter().map(|eni| eni.handle.0).collect();
    assert_eq!(handles, [0, 3, 4]);
    assert!(kept.iter().all(|eni| !eni.ours));
    let gone = [1, 2, 5].map(|n| Write::NoEni(EniHandle(n)));
    assert!(gone.iter().all(|write| owner.writes.contains(write)));
}

/// One that says whose it is, is kept: what the instance is, IMDS tells.
#[test]
fn a_store_with_a_name_is_kept() {
    let owner = started(Some("i-1"));
    assert_eq!(owner.store.enis().len(), PHASES.len());
    assert!(owner.store.enis().values().all(|eni| eni.ours));
}

/// A golden image's disk: every record of the other instance goes, its released addresses' too, which no start would
/// look at again.
#[test]
fn another_instances_records_go() {
    let ip: IpAddr = "10.0.0.9".parse().expect("parses");
    let released = Released {
        at: NOW,
        host_if: "eni1".into(),
    };
    let loaded = Loaded {
        instance: Some("i-1".into()),
        enis: vec![eni(0, Phase::Ready)],
        cooldowns: BTreeMap::from([(ip, released)]),
        ..Loaded::default()
    };
    let mut owner = owner(settings(), loaded, 1, NOW);
    drop_all(&mut owner, NOW);
    for gone in [Write::NoCooldown(ip), Write::NoEni(EniHandle(0))] {
        assert!(
            owner.writes.contains(&gone),
            "{gone:?} in {:?}",
            owner.writes
        );
    }
    assert!(owner.store.enis().is_empty() && owner.store.released(ip).is_none());
}
