//! What this node is, as far as anybody has told: shared by the adapters, filled by IMDS.

use ipam_core::{InstanceId, SubnetId};
use ipam_engine::ports::NodeFacts;
use ipnet::{IpNet, Ipv4Net};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module. EC2's answers lack the subnet's size, and its requests want the instance's id.
#[derive(Debug, Default)]
pub struct Site(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    instance: Option<InstanceId>,
    region: Option<String>,
    place: Option<(String, String)>,
    subnets: BTreeMap<SubnetId, Ipv4Net>,
}

impl Site {
    /// Takes in what IMDS (or the store of this boot) says.
    ///
    /// # Errors
    /// It is about another instance than this one, whose id this is: nothing of it is taken in.
    pub fn learn(&self, facts: &NodeFacts) -> Result<(), InstanceId> {
        let mut known = self.known();
        if let Some(known) = known.instance.clone().filter(|id| *id != facts.instance_id) {
            return Err(known);
        }
        known.instance = Some(facts.instance_id.clone());
        known.region = Some(facts.region.clone());
        if let Some(vpc) = &facts.vpc {
            known.place = Some((vpc.clone(), facts.zone.clone()));
        }
        for eni in &facts.enis {
            if let Some(IpNet::V4(net)) = eni.address {
                known.subnets.insert(eni.subnet.clone(), net.trunc());
            }
        }
        Ok(())
    }

    /// A subnet's size, told by EC2.
    pub fn learn_subnet(&self, subnet: SubnetId, net: Ipv4Net) {
        self.known().subnets.insert(subnet, net.trunc());
    }

    /// This instance and its region.
    pub fn instance(&self) -> Option<(InstanceId, String)> {
        let known = self.known();
        Some((known.instance.clone()?, known.region.clone()?))
    }

    /// The VPC and the zone that this instance is in.
    pub fn place(&self) -> Option<(String, String)> {
        self.known().place.clone()
    }

    /// An address with its subnet's prefix length.
    pub fn in_subnet(&self, subnet: &SubnetId, address: Ipv4Addr) -> Option<IpNet> {
        let length = self.known().subnets.get(subnet)?.prefix_len();
        Ipv4Net::new(address, length).ok().map(IpNet::V4)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Plain values: a panic elsewhere can't have left them half-written.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
