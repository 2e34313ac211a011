//! What an earlier run wired and this one does not know: until EC2 has told, it stays.

use super::{HostWiring, PRIO_BLOCK, PRIO_ENI_ADDRESS, Rule};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;
use ipnet::IpNet;
use mutant::mutant;

/// Of the kernel's wiring, what is about further ENIs and their blocks, as an earlier run left it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Earlier {
    /// Rules of blocks ([`PRIO_BLOCK`]) and of ENIs' own addresses ([`PRIO_ENI_ADDRESS`]); others are not heeded.
    pub rules: Vec<Rule>,
    /// Single addresses: source address -> mark of its ENI, as in [`super::Nat::eni_marks`].
    pub eni_marks: BTreeMap<IpAddr, u32>,
}

impl HostWiring {
    /// This wiring with what of `earlier` it says nothing about. What it names is as it says: a block has
    /// one way only.
    #[must_use]
    pub fn keeping(mut self, earlier: &Earlier) -> Self {
        // EC2 gives what an ENI had to another, its own address as a pod's, and the other way round.
        let own = self.enis.iter().filter_map(|eni| eni.address);
        let own: Vec<IpNet> = own.map(|net| net.addr().into()).collect();
        let named = |net: &IpNet| {
            let overlaps = |ours: &IpNet| ours.contains(net) || net.contains(ours);
            self.pods.iter().chain(&own).any(overlaps)
        };
        let other = |rule: &Rule| {
            let same = |ours: &Rule| {
                (ours.priority, ours.v6, ours.from, ours.fwmark)
                    == (rule.priority, rule.v6, rule.from, rule.fwmark)
            };
            !self.rules.iter().any(same)
        };
        let keeps = |rule: &&Rule| match (rule.priority, &rule.from, &rule.fwmark) {
            (PRIO_BLOCK, Some(from), None) => {
                mutant!("wiring/named-block-has-one-way", !named(from), true)
            }
            (PRIO_BLOCK, None, Some(_)) => other(rule),
            (PRIO_ENI_ADDRESS, Some(from), None) => !named(from),
            _ => false,
        };
        let rules: Vec<Rule> = earlier.rules.iter().filter(keeps).cloned().collect();
        let marks = earlier.eni_marks.iter();
        let marks = marks.filter(|(ip, _)| !named(&IpNet::from(**ip)));
        let marks: Vec<(IpAddr, u32)> = marks.map(|(ip, mark)| (*ip, *mark)).collect();
        self.rules.extend(rules);
        self.rules.sort();
        self.rules.dedup();
        self.nat.eni_marks.extend(marks);
        self
    }
}

#[cfg(test)]
mod tests;
