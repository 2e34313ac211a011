use super::*;
use crate::wiring::{HostInput, Nat, host_wiring};
use crate::{Block, Mac};
use alloc::format;
use alloc::string::String;
use alloc::vec;

fn block(text: &str) -> Block {
    Block::new(text.parse().expect("a network")).expect("a block")
}

/// The primary ENI, and a further one at `index` with these blocks.
fn wiring(index: u32, blocks: &[Block]) -> HostWiring {
    let input = |primary, device_index, blocks| HostInput {
        mac: Mac([2, 0, 0, 0, 0, 1]),
        primary,
        device_index,
        card: 0,
        address: format!("10.0.{device_index}.5/24").parse().ok(),
        blocks,
    };
    let enis = [input(true, 0, &[]), input(false, index, blocks)];
    host_wiring(&enis, 9001, Nat::default(), &[])
}

fn earlier(wiring: &HostWiring) -> Earlier {
    Earlier {
        rules: wiring.rules.clone(),
        eni_marks: wiring.nat.eni_marks.clone(),
    }
}

fn told(wiring: &HostWiring) -> (Vec<String>, Vec<String>) {
    let rules = wiring.rules.iter().map(crate::wiring::written::rule);
    let marks = wiring.nat.eni_marks.iter();
    (
        rules.collect(),
        marks.map(|(ip, mark)| format!("{ip} {mark:#x}")).collect(),
    )
}

/// Of another ENI: all of it. Of the same one: what this run names no longer.
#[test]
fn what_is_not_named_stays() {
    let before = wiring(2, &[block("10.0.2.16/28"), block("10.0.2.9/32")]);
    let now = wiring(1, &[block("10.0.1.9/32")]);
    let kept = now.clone().keeping(&mut earlier(&before));
    let (rules, marks) = told(&kept);
    let (theirs, their_marks) = told(&before);
    let (ours, our_marks) = told(&now);
    for rule in theirs.iter().chain(&ours) {
        assert!(rules.contains(rule), "{rule} is missing in {rules:?}");
    }
    for mark in their_marks.iter().chain(&our_marks) {
        assert!(marks.contains(mark), "{mark} is missing in {marks:?}");
    }
    // Nothing else is changed.
    assert_eq!((&kept.enis, &kept.pods), (&now.enis, &now.pods));
    assert_eq!(now.clone().keeping(&mut Earlier::default()), now);
    assert_eq!(now.clone().keeping(&mut earlier(&now)), now);
}

/// A block that has moved has one way: that of this run. So has one that a larger or smaller one is in.
#[test]
fn what_is_named_is_as_named() {
    for before in ["10.0.2.16/28", "10.0.2.17/32"] {
        for now in ["10.0.2.16/28", "10.0.2.17/32"] {
            let before = wiring(2, &[block(before)]);
            let now = wiring(1, &[block(now)]);
            let kept = now.clone().keeping(&mut earlier(&before));
            let of_blocks = |rule: &&Rule| rule.priority == PRIO_BLOCK && rule.from.is_some();
            let rules = |wiring: &HostWiring| -> Vec<Rule> {
                wiring.rules.iter().filter(of_blocks).cloned().collect()
            };
            assert_eq!(rules(&kept), rules(&now));
            assert_eq!(kept.nat.eni_marks, now.nat.eni_marks);
        }
    }
}

/// EC2 has given the own address of an ENI that is gone to a pod on the primary one, and a pod's to an ENI.
#[test]
fn own_addresses_and_pods_change_places() {
    let before = wiring(2, &[block("10.0.1.5/32")]);
    let mut now = wiring(1, &[]);
    now.pods = vec!["10.0.2.5/32".parse().expect("a network")];
    let kept = now.clone().keeping(&mut earlier(&before));
    let (rules, marks) = told(&kept);
    assert!(
        !rules.iter().any(|rule| rule.contains("from 10.0.2.5")),
        "{rules:?}"
    );
    assert_eq!(marks, Vec::<String>::new());
}

/// What this run has named and names no more has no way left, whatever was there before it.
#[test]
fn what_this_run_gave_up_does_not_come_back() {
    let (prefix, single) = (block("10.0.2.16/28"), block("10.0.2.9/32"));
    let all = wiring(2, &[prefix, single]);
    let mut before = earlier(&all);
    let _known = all.clone().keeping(&mut before);
    let none = wiring(2, &[]);
    let kept = none.clone().keeping(&mut before);
    let of_block = |rule: &&Rule| rule.priority == PRIO_BLOCK && rule.from.is_some();
    assert_eq!(kept.rules.iter().find(of_block), None);
    assert_eq!(kept.nat.eni_marks, none.nat.eni_marks);
}

/// Settings decide on all other rules; and a mark leads to one table.
#[test]
fn settings_outrank_what_was() {
    let mut before = wiring(2, &[block("10.0.2.9/32")]);
    for rule in &mut before.rules {
        match rule.priority {
            PRIO_BLOCK => rule.table = 77,
            crate::wiring::PRIO_MARKED_MAIN => rule.fwmark = Some((0x40, 0x40)),
            _ => {}
        }
    }
    let now = wiring(2, &[block("10.0.2.10/32")]);
    let kept = now.clone().keeping(&mut earlier(&before));
    assert_eq!(kept.rules, now.rules);
    let (_, marks) = told(&kept);
    assert_eq!(marks, vec!["10.0.2.9 0x300", "10.0.2.10 0x300"]);
}
