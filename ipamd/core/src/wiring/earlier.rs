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
    /// This wiring with what of `earlier` it says nothing about. What it names is as it says, since a block has
    /// one way only, and leaves `earlier`: what becomes of it is this run's to say from then on.
    #[must_use]
    pub fn keeping(mut self, earlier: &mut Earlier) -> Self {
        // EC2 gives what an ENI had to another, its own address as a pod's, and the other way round.
        let own = self.enis.iter().filter_map(|eni| eni.address);
        let own: Vec<IpNet> = own.map(|net| net.addr().into()).collect();
        let named = |net: &IpNet| {
            let overlaps = |ours: &IpNet| ours.contains(net) || net.contains(ours);
            self.pods.iter().chain(&own).any(overlaps)
        };
        // A mark leads to one table.
        let contradicts = |rule: &Rule| {
            let of_mark = |ours: &&Rule| {
                ours.priority == rule.priority && ours.v6 == rule.v6 && ours.fwmark == rule.fwmark
            };
            let ours = self.rules.iter().find(of_mark);
            ours.is_some_and(|ours| ours.table != rule.table)
        };
        earlier
            .rules
            .retain(|rule| match (rule.priority, &rule.from, &rule.fwmark) {
                (PRIO_BLOCK, Some(from), None) => {
                    mutant!("wiring/named-block-has-one-way", !named(from), true)
                }
                (PRIO_BLOCK, None, Some(_)) => !contradicts(rule),
                (PRIO_ENI_ADDRESS, Some(from), None) => !named(from),
                _ => false,
            });
        earlier.eni_marks.retain(|ip, _| !named(&IpNet::from(*ip)));
        self.rules.extend(earlier.rules.iter().cloned());
        self.rules.sort();
        self.rules.dedup();
        let marks = earlier.eni_marks.iter();
        self.nat
            .eni_marks
            .extend(marks.map(|(ip, mark)| (*ip, *mark)));
        self
    }
}

#[cfg(test)]
mod tests;
