//! Every kind of ENI with every kind of block, against what `/etc/iproute2` and a node of Amazon's CNI would
//! show. Numbers are written out: they are promises to other programs on the node.

use super::super::written;
use super::*;
use alloc::format;
use alloc::string::ToString;
use alloc::vec;

/// `lookup main`. Priorities, tables and marks below are Amazon's CNI's where it has such a rule: 512 finds local
/// pods, 1024 is the mark, 1535 external services, 1536 a pod's or block's source, 32765 an ENI's own address;
/// 32766 and 32767 are the kernel's.
const LOCAL_PODS: &str = "512: from all lookup 254 suppress_prefixlength 31";
const MARKED: &str = "1024: from all fwmark 0x80/0x80 lookup 254";

/// Where an ENI is, and its table: for a further ENI device index + 1, on further cards 10000 + 100 * card +
/// index, for the primary one main.
const PLACES: [(bool, u32, u32, u32); 21] = [
    (true, 0, 0, 254),
    (false, 0, 1, 2),
    (false, 0, 2, 3),
    (false, 0, 3, 4),
    (false, 0, 4, 5),
    (false, 0, 5, 6),
    (false, 0, 6, 7),
    (false, 0, 7, 8),
    (false, 0, 8, 9),
    (false, 0, 9, 10),
    (false, 0, 10, 11),
    (false, 0, 11, 12),
    (false, 0, 12, 13),
    (false, 0, 13, 14),
    (false, 0, 14, 15),
    (false, 1, 0, 10_100),
    (false, 1, 1, 10_101),
    (false, 2, 0, 10_200),
    (false, 2, 7, 10_207),
    (false, 3, 1, 10_301),
    (false, 3, 14, 10_314),
];

/// Each kind of block alone, and what one ENI has of several: how it is written in a rule's `from`, or `None`
/// for a single address, whose rule is by mark.
const BLOCKS: [&[(&str, Option<&str>)]; 7] = [
    &[],
    &[("10.0.3.17/32", None)],
    &[("10.0.3.16/28", Some("1536: from 10.0.3.16/28"))],
    &[("2001:db8:0:1::/80", Some("-6 1536: from 2001:db8:0:1::/80"))],
    &[("10.0.3.17/32", None), ("10.0.3.18/32", None)],
    &[
        ("10.0.3.16/28", Some("1536: from 10.0.3.16/28")),
        ("10.0.3.32/28", Some("1536: from 10.0.3.32/28")),
    ],
    // Mixed modes are normal: a fallback from a fragmented subnet, or a setting that was changed.
    &[
        ("10.0.3.17/32", None),
        ("10.0.3.32/28", Some("1536: from 10.0.3.32/28")),
        ("2001:db8:0:1::/80", Some("-6 1536: from 2001:db8:0:1::/80")),
    ],
];

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn blocks(texts: &[(&str, Option<&str>)]) -> Vec<Block> {
    let block = |(text, _): &(&str, Option<&str>)| Block::new(net(text)).unwrap();
    texts.iter().map(block).collect()
}

fn eni<'a>(
    (primary, card, device_index, _): (bool, u32, u32, u32),
    blocks: &'a [Block],
) -> HostInput<'a> {
    HostInput {
        mac: Mac([2, 0, 0, 0, 0, 9]),
        primary,
        device_index,
        card,
        address: Some(net("10.0.0.45/18")),
        blocks,
    }
}

fn rules(wiring: &HostWiring) -> Vec<String> {
    wiring.rules.iter().map(written::rule).collect()
}

fn sorted(mut lines: Vec<String>) -> Vec<String> {
    lines.sort();
    lines
}

/// The mark of an ENI on the first card: its table's number in the second byte.
fn mark(device_index: u32) -> u32 {
    (device_index + 1) * 0x100
}

/// Every place x every set of blocks x address known or not x translation or not x services or not x the mark's
/// bit: exactly these rules and no other.
#[test]
fn rules_of_every_eni_with_every_kind_of_block() {
    let mut cases = 0;
    for place in PLACES {
        for texts in BLOCKS {
            for address in [None, Some(net("10.0.0.45/18"))] {
                for source in [None, Some(Ipv4Addr::new(10, 0, 0, 11))] {
                    for services in [vec![], vec![net("203.0.113.0/24"), net("198.51.100.7/32")]] {
                        for bit in [0x80, 0x1] {
                            let blocks = blocks(texts);
                            let input = HostInput {
                                address,
                                ..eni(place, &blocks)
                            };
                            let nat = Nat {
                                source,
                                mark: bit,
                                ..Nat::default()
                            };
                            let wiring = host_wiring(&[input], 9001, nat, &services);
                            let wanted = wanted(place, texts, address.is_some(), &services, bit);
                            let case =
                                format!("{place:?} {texts:?} {address:?} {source:?} {bit:#x}");
                            assert_eq!(sorted(rules(&wiring)), sorted(wanted), "{case}");
                            cases += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cases, 21 * 7 * 2 * 2 * 2 * 2);
}

fn wanted(
    (primary, card, index, table): (bool, u32, u32, u32),
    texts: &[(&str, Option<&str>)],
    addressed: bool,
    services: &[IpNet],
    bit: u32,
) -> Vec<String> {
    // A pod's host route (/32) counts, every other route of main is shorter.
    let mut lines = vec![LOCAL_PODS.to_string()];
    // Answers to what came to the node's own address, and what is translated, leave by the primary ENI: whether
    // or not we translate.
    lines.push(format!(
        "1024: from all fwmark {bit:#x}/{bit:#x} lookup 254"
    ));
    if !services.is_empty() {
        lines.push("1535: from all to 203.0.113.0/24 lookup 254".into());
        lines.push("1535: from all to 198.51.100.7 lookup 254".into());
    }
    // What pods of the primary ENI send leaves by main, as the node's own.
    if primary {
        return lines;
    }
    if addressed {
        lines.push(format!("32765: from 10.0.0.45 lookup {table}"));
    }
    for rule in texts.iter().filter_map(|(_, rule)| *rule) {
        lines.push(format!("{rule} lookup {table}"));
    }
    // One rule, however many single addresses.
    if texts.iter().any(|(_, rule)| rule.is_none()) {
        // Further cards have 16 marks each behind the first one's.
        let mark = mark(index + 16 * card);
        lines.push(format!(
            "1536: from all fwmark {mark:#x}/0x3f00 lookup {table}"
        ));
    }
    lines
}

/// The map from a single address to its ENI's mark: of secondary ENIs, of single addresses, and nothing else.
#[test]
fn marks_of_every_eni_with_every_kind_of_block() {
    for place in PLACES {
        for texts in BLOCKS {
            let (primary, card, index, _) = place;
            let blocks = blocks(texts);
            let wiring = host_wiring(&[eni(place, &blocks)], 9001, Nat::default(), &[]);
            let single = texts.iter().filter(|(_, rule)| rule.is_none() && !primary);
            let wanted: BTreeMap<IpAddr, u32> = single
                .map(|(text, _)| (net(text).addr(), mark(index + 16 * card)))
                .collect();
            assert_eq!(wiring.nat.eni_marks, wanted, "{place:?} {texts:?}");
        }
    }
}

/// A mark names one ENI of the node, never none, and is nobody else's: not kube-proxy's (0xc000), not Calico's
/// (0xffff0000), not in the low byte, where the mark of the primary ENI is chosen.
#[test]
fn marks_tell_enis_apart_and_are_nobody_elses() {
    let mut all = BTreeSet::new();
    for card in 0..4 {
        // EC2's largest instances take 15 ENIs on a card.
        for index in 0..15 {
            let mark = mark_of(card, index);
            assert!(
                all.insert(mark),
                "card {card}, index {index}: {mark:#x} twice"
            );
            assert_ne!(mark, 0);
            assert_eq!(mark & !0x3f00, 0, "{mark:#x}");
            assert_eq!(mark & (0xc000 | 0xffff_0000 | 0xff), 0, "{mark:#x}");
        }
    }
}

/// The number of rules does not grow with addresses: each new flow of a pod walks the list.
#[test]
fn as_many_rules_for_fifty_addresses_as_for_one() {
    let many: Vec<Block> = (1..=50)
        .map(|n| Block::address(IpAddr::from([10, 0, 3, n])))
        .collect();
    let count = |blocks: &[Block]| {
        let wiring = host_wiring(&[eni(PLACES[1], blocks)], 9001, Nat::default(), &[]);
        (wiring.rules.len(), wiring.nat.eni_marks.len())
    };
    assert_eq!(count(&many[..1]), (4, 1));
    assert_eq!(count(&many), (4, 50));
}

/// A whole node, as a person would write it down.
#[test]
fn a_node_with_four_enis() {
    let sets = [
        blocks(&[("10.0.1.16/28", None), ("10.0.0.17/32", None)]),
        blocks(&[("10.0.0.64/32", None), ("10.0.0.65/32", None)]),
        blocks(&[("10.0.3.16/28", None), ("10.0.0.80/32", None)]),
        blocks(&[("10.0.4.0/28", None)]),
    ];
    let inputs = [
        eni(PLACES[0], &sets[0]),
        HostInput {
            address: Some(net("10.0.0.45/18")),
            ..eni(PLACES[1], &sets[1])
        },
        HostInput {
            address: Some(net("10.0.70.9/20")),
            ..eni(PLACES[2], &sets[2])
        },
        HostInput {
            address: Some(net("10.0.70.10/20")),
            ..eni(PLACES[3], &sets[3])
        },
    ];
    // The same service named twice is one rule: the kernel refuses a second one.
    let services = [net("203.0.113.0/24"), net("203.0.113.0/24")];
    let wiring = host_wiring(&inputs, 9001, Nat::default(), &services);
    let wanted = [
        LOCAL_PODS,
        MARKED,
        "1535: from all to 203.0.113.0/24 lookup 254",
        "1536: from all fwmark 0x200/0x3f00 lookup 2",
        "1536: from all fwmark 0x300/0x3f00 lookup 3",
        "1536: from 10.0.3.16/28 lookup 3",
        "1536: from 10.0.4.0/28 lookup 4",
        "32765: from 10.0.0.45 lookup 2",
        "32765: from 10.0.70.9 lookup 3",
        "32765: from 10.0.70.10 lookup 4",
    ];
    assert_eq!(
        rules(&wiring),
        wanted,
        "in the order in which the kernel asks them"
    );
    let marks = [
        ("10.0.0.64", 0x200),
        ("10.0.0.65", 0x200),
        ("10.0.0.80", 0x300),
    ];
    assert_eq!(
        wiring.nat.eni_marks,
        marks.map(|(text, mark)| (ip(text), mark)).into()
    );
    // Every block of every ENI, the primary's too: what comes for an address that no pod has is refused.
    let pods = [
        "10.0.0.17/32",
        "10.0.0.64/32",
        "10.0.0.65/32",
        "10.0.0.80/32",
        "10.0.1.16/28",
        "10.0.3.16/28",
        "10.0.4.0/28",
    ];
    assert_eq!(
        sorted(wiring.pods.iter().map(ToString::to_string).collect()),
        pods
    );
    assert!(wiring.pods.is_sorted(), "the same node is the same value");
}

/// A service reached by IPv6 is asked for among the rules of IPv6.
#[test]
fn services_of_both_families() {
    let services = [net("203.0.113.0/24"), net("2001:db8:5::/64")];
    let wiring = host_wiring(&[], 9001, Nat::default(), &services);
    let wanted = [
        LOCAL_PODS,
        MARKED,
        "1535: from all to 203.0.113.0/24 lookup 254",
        "-6 1535: from all to 2001:db8:5::/64 lookup 254",
    ];
    assert_eq!(rules(&wiring), wanted);
}

/// What was said of translation is in the wiring as it was said; only the ENIs' marks are added.
#[test]
fn translation_is_as_it_was_asked_for() {
    let set = blocks(&[("10.0.3.17/32", None), ("10.0.3.32/28", None)]);
    let excluded = [
        net("10.0.0.0/16"),
        net("100.64.0.0/10"),
        net("203.0.113.0/24"),
    ];
    for source in [None, Some(Ipv4Addr::new(10, 0, 0, 11))] {
        for mark in [0x80, 0x1, 0x4_0000] {
            for inside in [&excluded[..1], &excluded[..]] {
                let asked = Nat {
                    pod_if_prefixes: ["eni", "mul"].map(String::from).into(),
                    inside: inside.to_vec(),
                    source,
                    mark,
                    eni_marks: BTreeMap::new(),
                };
                let wiring = host_wiring(&[eni(PLACES[1], &set)], 9001, asked.clone(), &[]);
                let wanted = Nat {
                    eni_marks: [(ip("10.0.3.17"), 0x200)].into(),
                    ..asked
                };
                assert_eq!(wiring.nat, wanted);
            }
        }
    }
}

/// What is set on a link: address with the subnet's length, its network out of main (the node's own traffic to
/// its subnet leaves by the primary ENI), the subnet's second address as router. The primary's is the host's.
#[test]
fn links_of_every_eni() {
    let subnets = [
        ("10.0.0.45/18", "10.0.0.0/18", "10.0.0.1"),
        ("10.0.130.7/25", "10.0.130.0/25", "10.0.130.1"),
        ("10.0.255.254/20", "10.0.240.0/20", "10.0.240.1"),
        ("172.31.0.4/16", "172.31.0.0/16", "172.31.0.1"),
        ("192.168.7.250/28", "192.168.7.240/28", "192.168.7.241"),
    ];
    for place in PLACES {
        for (address, subnet, router) in subnets {
            for texts in BLOCKS {
                let set = blocks(texts);
                let input = HostInput {
                    address: Some(net(address)),
                    ..eni(place, &set)
                };
                let wiring = host_wiring(&[input], 1500, Nat::default(), &[]);
                let (primary, _, _, table) = place;
                let wanted = EniLink {
                    mac: Mac([2, 0, 0, 0, 0, 9]),
                    primary,
                    mtu: 1500,
                    address: (!primary).then(|| net(address)),
                    table,
                    gateway: Some(ip(router)),
                    ipv6: texts.iter().any(|(text, _)| text.contains(':')),
                    not_in_main: (!primary).then(|| net(subnet)),
                };
                assert_eq!(wiring.enis, [wanted], "{place:?} {address} {texts:?}");
            }
        }
    }
}

/// An ENI of which neither EC2 nor IMDS has told the address: its link is set up, and it leads nowhere yet.
#[test]
fn an_eni_without_a_known_address() {
    let set = blocks(&[("10.0.3.16/28", None)]);
    let input = HostInput {
        address: None,
        ..eni(PLACES[1], &set)
    };
    let wiring = host_wiring(&[input], 9001, Nat::default(), &[]);
    let link = &wiring.enis[0];
    assert_eq!(
        (link.address, link.gateway, link.not_in_main),
        (None, None, None)
    );
    assert_eq!(link.routes("ens6"), []);
}

/// The last subnet that there can be has no second address.
#[test]
fn no_router_behind_the_last_address() {
    assert_eq!(gateway_of(net("255.255.255.255/32")), None);
    assert_eq!(gateway_of(net("2001:db8::45/64")), Some(ip("fe80:ec2::1")));
}

/// A secondary ENI's own table: the router on the link first, since the default route goes through it. IPv6 has
/// the VPC's router on every link. The primary's routes are the host's.
#[test]
fn routes_of_every_eni() {
    let v4 = |table| {
        [
            format!("10.0.0.1 dev ens6 table {table} scope link"),
            format!("default via 10.0.0.1 dev ens6 table {table}"),
        ]
    };
    let v6 = |table| {
        [
            format!("fe80:ec2::1 dev ens6 table {table} scope link"),
            format!("default via fe80:ec2::1 dev ens6 table {table}"),
        ]
    };
    for place in PLACES {
        for texts in BLOCKS {
            let (primary, _, _, table) = place;
            let set = blocks(texts);
            let wiring = host_wiring(&[eni(place, &set)], 9001, Nat::default(), &[]);
            let routes = wiring.enis[0].routes("ens6");
            let mut wanted = Vec::new();
            if !primary {
                wanted.extend(v4(table));
                if texts.iter().any(|(text, _)| text.contains(':')) {
                    wanted.extend(v6(table));
                }
            }
            let lines: Vec<String> = routes.iter().map(written::route).collect();
            assert_eq!(lines, wanted, "{place:?} {texts:?}");
        }
    }
}
