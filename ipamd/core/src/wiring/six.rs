//! The node's side of IPv6, and of egress in the family that pods have no address of.
//!
//! Pods' IPv6 addresses are seen everywhere, so there is no translation and no mark: the node forwards,
//! and one rule finds local pods whatever the tables of further ENIs say.

use super::{HostWiring, PRIO_LOCAL_PODS, Rule, TABLE_MAIN, egress};
use crate::Family;
use alloc::vec::Vec;
use core::net::IpAddr;
use ipnet::IpNet;
use mutant::mutant;
use serde::{Deserialize, Serialize};

/// What the node does for IPv6, and for egress.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Six {
    /// The node forwards IPv6, and goes on to believe router advertisements on its primary ENI.
    pub forwards: bool,
    /// At most one today.
    pub egress: Vec<Egress>,
}

/// Traffic from a node-local range leaves with the node's own address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Egress {
    /// See [`egress::range`].
    pub range: IpNet,
    /// The node's address.
    pub source: IpAddr,
}

impl Egress {
    /// Of a family, by the node's address of it.
    #[must_use]
    pub fn by(source: IpAddr) -> Self {
        Self {
            range: egress::range(Family::of(source)),
            source,
        }
    }
}

impl HostWiring {
    /// The same with IPv6.
    #[must_use]
    pub fn with_six(mut self, six: Six) -> Self {
        if six.forwards {
            self.rules.push(Rule {
                priority: PRIO_LOCAL_PODS,
                v6: true,
                from: None,
                to: None,
                fwmark: None,
                table: TABLE_MAIN,
                // Only host routes count: every other route of main is shorter.
                suppress_prefix_len: mutant!("wiring/local-pods-of-ipv6", Some(127), Some(128)),
            });
            self.rules.sort();
        }
        self.six = six;
        self
    }
}

#[cfg(test)]
mod tests;
