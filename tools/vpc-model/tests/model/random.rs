//! Random calls: whatever is asked, the books stay clean, and what EC2 shows of free addresses
//! and limits is what a recount from Describe's own answer gives.

use crate::world::{World, spec};
use proptest::prelude::*;
use std::collections::BTreeMap;
use vpc_model::ViolationClass;
use vpc_model::ids::EniId;
use vpc_model::request::{
    AssignPrivateIpAddresses, CreateNetworkInterface, DeleteNetworkInterface,
    DetachNetworkInterface, UnassignPrivateIpAddresses, WantedV4, WantedV6,
};
use vpc_model::response::Eni;

#[derive(Clone, Debug)]
enum Step {
    Create {
        subnet: usize,
        addresses: u32,
        prefixes: u32,
        v6: u32,
    },
    Attach {
        eni: usize,
        node: usize,
        index: u32,
    },
    Detach {
        eni: usize,
        force: bool,
    },
    Delete {
        eni: usize,
    },
    Assign {
        eni: usize,
        addresses: Option<u32>,
        prefixes: Option<u32>,
    },
    Name {
        eni: usize,
        host: u8,
        moving: bool,
    },
    Unassign {
        eni: usize,
        address: usize,
        prefix: usize,
    },
    Terminate {
        node: usize,
    },
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let eni = 0usize..12;
    let count = || prop_oneof![Just(None), (0u32..12).prop_map(Some)];
    prop_oneof![
        4 => (0usize..3, 0u32..5, 0u32..4, 0u32..3)
            .prop_map(|(subnet, addresses, prefixes, v6)| Step::Create { subnet, addresses, prefixes, v6 }),
        4 => (eni.clone(), 0usize..3, 0u32..4)
            .prop_map(|(eni, node, index)| Step::Attach { eni, node, index }),
        2 => (eni.clone(), any::<bool>()).prop_map(|(eni, force)| Step::Detach { eni, force }),
        2 => eni.clone().prop_map(|eni| Step::Delete { eni }),
        6 => (eni.clone(), count(), count())
            .prop_map(|(eni, addresses, prefixes)| Step::Assign { eni, addresses, prefixes }),
        3 => (eni.clone(), any::<u8>(), any::<bool>())
            .prop_map(|(eni, host, moving)| Step::Name { eni, host, moving }),
        5 => (eni, 0usize..12, 0usize..12)
            .prop_map(|(eni, address, prefix)| Step::Unassign { eni, address, prefix }),
        1 => (0usize..3).prop_map(|node| Step::Terminate { node }),
        2 => (0u64..3000).prop_map(|ms| Step::Wait { ms }),
    ]
}

const SUBNETS: [&str; 3] = ["subnet-a", "subnet-s", "subnet-b"];
const NODES: [&str; 3] = ["n1", "n2", "old"];

/// Does a step; refusals are part of the game.
fn play(w: &mut World, step: &Step) {
    let enis = w.vpc.enis(w.now);
    let pick = |i: usize| -> &Eni { &enis[i % enis.len()] };
    if enis.is_empty() && !matches!(step, Step::Create { .. } | Step::Wait { .. }) {
        return;
    }
    match step {
        Step::Create {
            subnet,
            addresses,
            prefixes,
            v6,
        } => {
            let _ = w.call(CreateNetworkInterface {
                subnet: Some(SUBNETS[*subnet].into()),
                v4: WantedV4 {
                    address_count: Some(*addresses),
                    prefix_count: Some(*prefixes),
                    ..WantedV4::default()
                },
                v6: WantedV6 {
                    address_count: Some(*v6),
                    ..WantedV6::default()
                },
                ..CreateNetworkInterface::default()
            });
        }
        Step::Attach { eni, node, index } => {
            let id = format!("i-{}", NODES[*node]);
            let _ = w.call(crate::world::attach(&pick(*eni).id, &id, *index));
        }
        Step::Detach { eni, force } => {
            if let Some(a) = &pick(*eni).attachment {
                let _ = w.call(DetachNetworkInterface {
                    attachment: a.id.clone(),
                    force: *force,
                });
            }
        }
        Step::Delete { eni } => {
            let _ = w.call(DeleteNetworkInterface {
                eni: pick(*eni).id.clone(),
            });
        }
        Step::Assign {
            eni,
            addresses,
            prefixes,
        } => {
            let wanted = WantedV4 {
                address_count: *addresses,
                prefix_count: *prefixes,
                ..WantedV4::default()
            };
            let _ = w.call(crate::world::assign(&pick(*eni).id, wanted));
        }
        Step::Name { eni, host, moving } => {
            let wanted = crate::world::named(&[&format!("10.0.0.{host}")]);
            let _ = w.call(AssignPrivateIpAddresses {
                allow_reassignment: *moving,
                ..crate::world::assign(&pick(*eni).id, wanted)
            });
        }
        Step::Unassign {
            eni,
            address,
            prefix,
        } => {
            let eni = pick(*eni);
            let _ = w.call(UnassignPrivateIpAddresses {
                eni: eni.id.clone(),
                addresses: eni
                    .addresses
                    .iter()
                    .skip(*address)
                    .take(2)
                    .map(|a| a.address)
                    .collect(),
                prefixes: eni
                    .v4_prefixes
                    .iter()
                    .skip(*prefix)
                    .take(2)
                    .copied()
                    .collect(),
            });
        }
        Step::Terminate { node } => w.vpc.terminate_instance(NODES[*node], w.now).unwrap(),
        Step::Wait { ms } => w.wait_ms(*ms),
    }
}

/// Recounts from what Describe shows, with sets of single addresses and nothing clever.
fn recount(w: &World) {
    let mut holders: BTreeMap<std::net::Ipv4Addr, EniId> = BTreeMap::new();
    let mut used: BTreeMap<String, u32> = BTreeMap::new();
    for eni in w.vpc.enis(w.now) {
        let singles = eni.addresses.iter().map(|a| a.address);
        let blocks = eni.v4_prefixes.iter().flat_map(|p| {
            (u32::from(p.network())..=u32::from(p.broadcast())).map(std::net::Ipv4Addr::from)
        });
        for address in singles.chain(blocks) {
            *used.entry(eni.subnet.to_string()).or_default() += 1;
            let before = holders.insert(address, eni.id.clone());
            assert_eq!(before, None, "{address} is also held by {}", eni.id);
        }
    }
    for subnet in w.vpc.subnets() {
        let size = 1u32 << (32 - subnet.cidr.prefix_len());
        let used = used.get(subnet.id.as_str()).copied().unwrap_or(0);
        assert_eq!(subnet.available, size - 5 - used, "{}", subnet.id);
    }
    let books = w.vpc.books(w.now);
    let wrong: Vec<_> = books
        .iter()
        .filter(|v| v.class != ViolationClass::LeakedEni)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_calls_keep_the_books(steps in prop::collection::vec(step(), 1..80), seed in 0u64..1000) {
        let mut spec = spec();
        spec.seed = seed;
        spec.latencies.eni_detach_ms = vpc_model::Latency::fixed(700.0);
        spec.latencies.eni_link_ms = vpc_model::Latency::fixed(400.0);
        // A small subnet fills up, fragments and refuses soon.
        spec.subnets[0].cidr = "10.0.0.0/24".parse().unwrap();
        let mut w = World::with(spec);
        for step in &steps {
            play(&mut w, step);
            recount(&w);
        }
    }
}
