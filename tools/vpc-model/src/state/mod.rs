//! The state: what is, as plain data, and what must hold of it whoever changes it: an address has one
//! holder, what goes gives back what it held, time does not run backwards. It knows no call, no
//! view and no caller's rights.

pub(crate) mod alloc;
pub(crate) mod catalog;
pub(crate) mod latency;
mod parts;
pub(crate) mod space4;
pub(crate) mod space6;
pub(crate) mod store;

pub(crate) use parts::{AttachState, EniState, GroupState, InstanceState, SubnetState};

use crate::state::catalog::Catalog;
use crate::state::store::{EniStore, WINDOW};
use crate::words::caller::{Caller, ROLE_ID};
use crate::words::ids::{AttachmentId, EniId, GroupId, InstanceId, NodeName, SubnetId, VpcId};
use crate::words::request::{CreateNetworkInterface, Tags};
use crate::words::rng::Rng;
use crate::words::spec::VpcSpec;
use crate::words::time::Time;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// All that a VPC is.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) spec: VpcSpec,
    pub(crate) id: VpcId,
    /// The one source of chance: ids, addresses, latencies, in the order in which they are needed.
    pub(crate) rng: Rng,
    pub(crate) catalog: Catalog,
    pub(crate) subnets: BTreeMap<SubnetId, SubnetState>,
    pub(crate) groups: BTreeMap<GroupId, GroupState>,
    pub(crate) instances: BTreeMap<InstanceId, InstanceState>,
    pub(crate) nodes: BTreeMap<NodeName, InstanceId>,
    pub(crate) enis: EniStore,
    /// Holder of each single IPv4 address.
    pub(crate) holder4: HashMap<Ipv4Addr, EniId>,
    /// Tags of the VPC itself.
    pub(crate) tags: Tags,
    /// CreateNetworkInterface by client token: the request and the ENI that it made.
    pub(crate) client_tokens: BTreeMap<String, (CreateNetworkInterface, EniId)>,
    /// Ends of detachments to come.
    pub(crate) detaching: BTreeSet<(Time, EniId)>,
    /// Changes whenever the wires may have changed.
    pub(crate) generation: u64,
    /// The latest time that the model was told; time never runs backwards in here.
    pub(crate) clock: Time,
}

impl State {
    /// A VPC with nothing in it.
    pub(crate) fn new(spec: VpcSpec, id: VpcId, rng: Rng, now: Time) -> Self {
        Self {
            catalog: Catalog::new(&spec.limits.types),
            spec,
            id,
            rng,
            subnets: BTreeMap::new(),
            groups: BTreeMap::new(),
            instances: BTreeMap::new(),
            nodes: BTreeMap::new(),
            enis: EniStore::default(),
            holder4: HashMap::new(),
            tags: Tags::new(),
            client_tokens: BTreeMap::new(),
            detaching: BTreeSet::new(),
            generation: 0,
            clock: now,
        }
    }

    /// Moves the model's time on and finishes what was due.
    pub(crate) fn advance(&mut self, now: Time) -> Time {
        self.clock = self.clock.max(now);
        while let Some((due, id)) = self.detaching.first().cloned() {
            if due > self.clock {
                break;
            }
            self.detaching.pop_first();
            self.finish_detach(&id, due);
        }
        self.clock
    }

    /// An ENI of the VPC's own account, as it is now.
    pub(crate) fn own_eni(&self, id: &str) -> Option<&Arc<EniState>> {
        self.enis.get(id).filter(|e| e.owner.is_none())
    }

    /// The ENI of the VPC's own account that has this attachment now.
    pub(crate) fn with_attachment(&self, id: &AttachmentId) -> Option<&Arc<EniState>> {
        let has = |e: &&Arc<EniState>| {
            e.owner.is_none() && e.attachment.as_ref().is_some_and(|a| a.id == *id)
        };
        self.enis.iter().find(has)
    }

    /// Tags of a resource of any kind.
    pub(crate) fn tags_of(&self, id: &str) -> Option<&Tags> {
        self.own_eni(id)
            .map(|e| &e.tags)
            .or_else(|| self.instances.get(id).map(|i| &i.tags))
            .or_else(|| self.subnets.get(id).map(|s| &s.tags))
            .or_else(|| self.groups.get(id).map(|g| &g.tags))
            .or_else(|| (self.id.as_str() == id).then_some(&self.tags))
    }

    /// A subnet by id or CIDR; the first of the spec when nothing is said.
    pub(crate) fn subnet_named(&self, name: Option<&str>) -> Option<SubnetId> {
        let first = self.spec.subnets.first()?.cidr;
        let name = name.map_or_else(|| first.to_string(), str::to_owned);
        let found = self
            .subnets
            .values()
            .find(|s| s.id.as_str() == name || s.cidr.to_string() == name);
        found.map(|s| s.id.clone())
    }

    /// Groups by id or name; the default group when none is said.
    pub(crate) fn groups_named(&self, names: &[String]) -> Result<Vec<GroupId>, String> {
        if names.is_empty() {
            return Ok(self.default_group().into_iter().collect());
        }
        let find = |name: &String| {
            let found = self
                .groups
                .values()
                .find(|g| g.id.as_str() == name || g.name == *name);
            found.map(|g| g.id.clone()).ok_or_else(|| name.clone())
        };
        names.iter().map(find).collect()
    }

    /// The group named `default`, else the first one.
    pub(crate) fn default_group(&self) -> Option<GroupId> {
        let named = self.groups.values().find(|g| g.name == "default");
        named
            .or_else(|| self.groups.values().next())
            .map(|g| g.id.clone())
    }

    /// Some instance's primary ENI.
    pub(crate) fn is_primary(&self, eni: &EniState) -> bool {
        let on = eni.attachment.as_ref().map(|a| &a.instance);
        let instance = on.and_then(|id| self.instances.get(id));
        instance.is_some_and(|i| i.primary_eni == eni.id)
    }

    /// The principal id: role id and instance for a node, the account for others (*recorded*).
    pub(crate) fn requester_of(&self, creator: &Caller) -> String {
        match creator {
            Caller::Node(name) => {
                let instance = self
                    .nodes
                    .get(name)
                    .map(InstanceId::as_str)
                    .unwrap_or_default();
                format!("{}:{instance}", ROLE_ID)
            }
            Caller::Operator | Caller::Other(_) => self.spec.account_id.clone(),
        }
    }

    /// Notes who holds single addresses.
    pub(crate) fn hold(&mut self, eni: &EniId, addresses: &[Ipv4Addr]) {
        self.holder4
            .extend(addresses.iter().map(|a| (*a, eni.clone())));
    }

    /// Gives everything that an ENI holds back to its subnet.
    pub(crate) fn release_all(&mut self, eni: &EniState) {
        let Some(subnet) = self.subnets.get_mut(&eni.subnet) else {
            return;
        };
        let before = subnet.space4.free();
        for address in eni.v4_addresses() {
            subnet.space4.release(address);
            self.holder4.remove(&address);
        }
        eni.v4_prefixes
            .iter()
            .for_each(|p| subnet.space4.release_block(*p));
        if let Some(space) = subnet.space6.as_mut() {
            eni.v6.iter().for_each(|a| space.release(*a));
            eni.v6_prefixes.iter().for_each(|p| space.release_block(*p));
        }
        subnet.note_free(before, self.clock, WINDOW);
    }

    /// A detach that is due.
    pub(crate) fn finish_detach(&mut self, id: &EniId, due: Time) {
        let Some(eni) = self.enis.get(id.as_str()) else {
            return;
        };
        if eni.attachment.as_ref().is_some_and(|a| a.is_over(due)) {
            let eni = (**eni).clone();
            self.set_available(eni, due);
        }
    }

    pub(crate) fn set_available(&mut self, mut eni: EniState, now: Time) {
        eni.attachment = None;
        eni.settled_since = now;
        self.keep(eni, now);
    }

    /// Stores a new or changed ENI, which whoever waits for a change hears of.
    pub(crate) fn keep(&mut self, eni: EniState, now: Time) {
        self.enis.put(eni, now);
        self.generation += 1;
    }
}
