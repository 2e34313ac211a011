//! What a node's settings, facts and ENIs come to: translation, exclusions and families by every combination,
//! and which ENIs are wired by every phase.

use super::*;
use crate::settings::OrphanScope;
use ipam_core::plan::Policy;
use ipam_core::{AttachmentKey, BlockState, EniHandle, Lease, PodRef, Unmanaged};
use std::collections::BTreeMap;
use std::time::Duration;

const NODE: &str = "10.0.0.11";
const NODE_SIX: &str = "2001:db8::11";

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn settings(families: &[Family], egress: Option<Family>, snat: bool, exclude: &[&str]) -> Settings {
    Settings {
        policy: Policy {
            families: families.to_vec(),
            ..Policy::default()
        },
        veth_prefix: "eni".into(),
        eni_mtu: 1500,
        pod_mtu: 1400,
        egress,
        snat,
        snat_exclude: exclude.iter().map(|text| net(text)).collect(),
        mark: 0x80,
        services: vec![net("203.0.113.0/24")],
        add_timeout: Duration::from_secs(30),
        metadata_every: Duration::from_secs(21),
        security_groups: None,
        provisioning: true,
        orphans: OrphanScope::Off,
    }
}

fn facts(six: bool) -> NodeFacts {
    NodeFacts {
        instance_id: "i-1".into(),
        instance_type: "m5.large".into(),
        region: "r".into(),
        zone: "z".into(),
        vpc: None,
        primary_mac: mac(0),
        node_ip: NODE.parse().unwrap(),
        node_ipv6: six.then(|| NODE_SIX.parse().unwrap()),
        vpc_cidrs: vec![net("10.0.0.0/16"), net("100.64.0.0/16")],
        security_groups: Vec::new(),
        enis: Vec::new(),
    }
}

fn mac(n: u64) -> Mac {
    Mac([2, 0, 0, 0, 0, u8::try_from(n).unwrap()])
}

/// The `n`th ENI: 0 is the primary one.
fn eni(n: u64, block: Option<&str>) -> Eni {
    let block = block.map(|text| Block::new(net(text)).unwrap());
    Eni {
        handle: EniHandle(n),
        id: Some(format!("eni-{n}").as_str().into()),
        mac: Some(mac(n)),
        primary: n == 0,
        device_index: u32::try_from(n).unwrap(),
        card: 0,
        subnet: "subnet-1".into(),
        address: Some(net(&format!("10.0.0.{}/18", 11 + n))),
        attachment: Some(format!("eni-attach-{n}")),
        delete_on_termination: true,
        phase: Phase::Ready,
        unmanaged: None,
        ours: n > 0,
        excluded: false,
        blocks: block
            .map(|b| (b, BlockState::Confirmed))
            .into_iter()
            .collect(),
        intent: None,
        in_doubt_since: None,
        written_at: Timestamp(0),
        since: Timestamp(0),
    }
}

fn lease(ip: &str, host_if: &str) -> Lease {
    Lease {
        key: AttachmentKey {
            network: "n".into(),
            container_id: ip.into(),
            if_name: "eth0".into(),
        },
        pod: PodRef::default(),
        addresses: vec![ip.parse().unwrap()],
        host_if: host_if.into(),
        host_mac: mac(9),
        pod_mac: mac(10),
        since: Timestamp(0),
    }
}

fn store(enis: Vec<Eni>, leases: Vec<Lease>) -> Datastore {
    Datastore::restore(Duration::from_secs(30), enis, leases, BTreeMap::new())
}

/// Families x egress x the node's own IPv6 address x translation x exclusions x kind of block x which ENI.
#[test]
fn translation_and_forwarding_by_every_setting() {
    use Family::{V4, V6};
    let cases: [(&[Family], Option<Family>); 5] = [
        (&[V4], None),
        (&[V6], None),
        (&[V4, V6], None),
        (&[V6], Some(V4)),
        (&[V4], Some(V6)),
    ];
    for (families, egress) in cases {
        for six in [false, true] {
            for snat in [false, true] {
                for exclude in [&[][..], &["198.51.100.0/24"]] {
                    for block in ["10.0.3.17/32", "10.0.3.16/28"] {
                        for secondary in [false, true] {
                            let enis = vec![
                                eni(0, (!secondary).then_some(block)),
                                eni(1, secondary.then_some(block)),
                            ];
                            let settings = settings(families, egress, snat, exclude);
                            let store = store(enis, Vec::new());
                            let (wiring, blocks) = wanted(&store, &settings, &facts(six));
                            let case = format!("{families:?} {egress:?} {six} {snat} {exclude:?}");
                            translated(&wiring, families.contains(&V4) && snat, exclude, &case);
                            forwarded(&wiring, families, egress, six, &case);
                            led(&wiring, block, secondary, &case);
                            assert_eq!(blocks, [Block::new(net(block)).unwrap()], "{case}");
                        }
                    }
                }
            }
        }
    }
}

/// Pods without IPv4 have nothing to translate. What is in the VPC or excluded keeps the pod's address.
fn translated(wiring: &HostWiring, snat: bool, exclude: &[&str], case: &str) {
    assert_eq!(
        wiring.nat.source,
        snat.then(|| NODE.parse().unwrap()),
        "{case}"
    );
    let vpc = ["10.0.0.0/16", "100.64.0.0/16"];
    let inside = vpc.iter().chain(exclude).map(|text| net(text));
    assert_eq!(wiring.nat.inside, inside.collect::<Vec<_>>(), "{case}");
    assert_eq!(wiring.nat.mark, 0x80);
}

/// The node forwards IPv6 if pods have any, a node-local one too. An egress range is translated to the node's
/// address of that family, and is none where the node has no such address.
fn forwarded(
    wiring: &HostWiring,
    families: &[Family],
    egress: Option<Family>,
    six: bool,
    case: &str,
) {
    let forwards = families.contains(&Family::V6) || egress == Some(Family::V6);
    assert_eq!(wiring.six.forwards, forwards, "{case}");
    let got: Vec<String> = wiring
        .six
        .egress
        .iter()
        .map(|e| format!("{} by {}", e.range, e.source))
        .collect();
    let wanted: &[&str] = match egress {
        Some(Family::V4) => &["169.254.172.0/22 by 10.0.0.11"],
        Some(Family::V6) if six => &["fd00::ac:0/118 by 2001:db8::11"],
        _ => &[],
    };
    assert_eq!(got, wanted, "{case}");
}

/// A block of the secondary ENI is led to that ENI's table, one of the primary to none. (`wiring/host/tests.rs`
/// of the core has every rule.)
fn led(wiring: &HostWiring, block: &str, secondary: bool, case: &str) {
    let by_block = wiring.rules.iter().filter(|rule| rule.priority == 1536);
    let tables: Vec<u32> = by_block.map(|rule| rule.table).collect();
    assert_eq!(
        tables,
        if secondary { vec![2] } else { vec![] },
        "{case} {block}"
    );
    let marked = secondary && block.ends_with("/32");
    assert_eq!(
        wiring.nat.eni_marks.len(),
        usize::from(marked),
        "{case} {block}"
    );
    assert!(
        wiring.rules.iter().any(|rule| rule.priority == 1535),
        "{case}"
    );
    assert!(wiring.enis.iter().all(|eni| eni.mtu == 1500), "{case}");
}

/// A further ENI of each phase, left alone or not, with a pod on it or not, with a block or not.
#[test]
fn which_enis_are_wired() {
    use Phase::{Attached, Created, Creating, Detached, Leaving, Ready};
    for (phase, attached) in [
        (Creating, false),
        (Created, false),
        (Attached, true),
        (Ready, true),
        (Leaving, true),
        // EC2 took it away: it has no link, and another may have its place and its table.
        (Leaving, false),
        (Detached, false),
    ] {
        for unmanaged in [None, Some(Unmanaged::Untagged), Some(Unmanaged::NotNamed)] {
            for block in [None, Some("10.0.3.16/28")] {
                for pod in [false, true] {
                    let one = Eni {
                        phase,
                        unmanaged,
                        attachment: attached.then(|| "eni-attach-1".into()),
                        ..eni(1, block)
                    };
                    let leases = pod.then(|| lease("10.0.3.17", "eni0"));
                    let store = store(vec![eni(0, None), one], leases.into_iter().collect());
                    let settings = settings(&[Family::V4], None, true, &[]);
                    let (wiring, _) = wanted(&store, &settings, &facts(false));
                    let macs: Vec<Mac> = wiring.enis.iter().map(|eni| eni.mac).collect();
                    // A pod keeps its way, whatever is said of its ENI. Without pods, what is not ours, and
                    // what IMDS alone has shown, is left alone.
                    let pods = pod && block.is_some();
                    let mut expected = vec![mac(0)];
                    expected.extend((attached && (unmanaged.is_none() || pods)).then(|| mac(1)));
                    let case = format!("{phase:?} {unmanaged:?} {block:?} {pod}");
                    assert_eq!(macs, expected, "{case}");
                }
            }
        }
    }
}

/// The primary first, then by place, whatever the order in which they came; without an Ethernet address there is
/// no link to be found.
#[test]
fn the_primary_is_first() {
    let nameless = Eni {
        mac: None,
        ..eni(3, None)
    };
    let enis = vec![
        Eni {
            handle: EniHandle(0),
            ..eni(2, None)
        },
        Eni {
            handle: EniHandle(1),
            ..eni(0, None)
        },
        Eni {
            handle: EniHandle(2),
            ..eni(1, None)
        },
        nameless,
    ];
    let settings = settings(&[Family::V4], None, true, &[]);
    let (wiring, _) = wanted(&store(enis, Vec::new()), &settings, &facts(false));
    let macs: Vec<Mac> = wiring.enis.iter().map(|eni| eni.mac).collect();
    assert_eq!(macs, [mac(0), mac(1), mac(2)]);
}

/// Links of further interfaces (Multus) begin as their network configurations say; what begins as the setting
/// does is named by that already.
#[test]
fn pods_links_begin_with_these() {
    let leases = [
        ("10.0.3.17", "eni0d7763386da"),
        ("10.0.3.18", "mul0d7763386da"),
        ("10.0.3.19", "enix0d7763386da"),
    ];
    let leases = leases.map(|(ip, host_if)| lease(ip, host_if)).into();
    let store = store(vec![eni(0, Some("10.0.3.16/28"))], leases);
    let settings = settings(&[Family::V4], None, true, &[]);
    let (wiring, _) = wanted(&store, &settings, &facts(false));
    assert_eq!(
        wiring.nat.pod_if_prefixes,
        ["eni", "mul"].map(String::from).into()
    );
}
