//! The VPC: the one value that holds everything, and its public methods.

use crate::admission::{Admission, Caller, Fate};
use crate::audit::{Counts, Entry, Log};
use crate::books::Violation;
use crate::bucket::Buckets;
use crate::catalog::Catalog;
use crate::error::{ApiError, SpecError};
use crate::fault::{Fault, FaultState, Faults};
use crate::ids::{EniId, GroupId, InstanceId, NodeName, SubnetId, VpcId};
use crate::imds::{ImdsReply, ImdsRequest, ImdsState};
use crate::request::{CreateNetworkInterface, Request, Tags};
use crate::response::{Eni, Response, Subnet};
use crate::rng::Rng;
use crate::spec::{Latencies, NodeSpec, VpcSpec};
use crate::state::{GroupState, InstanceState, SubnetState};
use crate::store::EniStore;
use crate::time::Time;
use crate::wires::Wire;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::Ipv4Addr;
use thiserror::Error;

/// No node has this name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no node is named {0:?}")]
pub struct UnknownNode(pub String);

/// A node in brief.
#[derive(Clone, Debug, Serialize)]
pub struct NodeInfo {
    /// From the spec.
    pub name: NodeName,
    /// Its instance.
    pub instance: InstanceId,
    /// For example `m5.large`.
    pub instance_type: String,
    /// Network namespace from the spec, or the node's name.
    pub namespace: String,
    /// The ENI at device index 0; none once terminated.
    pub primary_eni: Option<EniId>,
    /// IMDS hop limit.
    pub hop_limit: u8,
    /// False once terminated.
    pub running: bool,
}

/// A VPC with its subnets, ENIs, instances and books. See the crate's page for how to call it.
#[derive(Debug)]
pub struct Vpc {
    pub(crate) spec: VpcSpec,
    pub(crate) id: VpcId,
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
    pub(crate) buckets: Buckets,
    pub(crate) faults: Faults,
    pub(crate) log: Log,
    pub(crate) imds: ImdsState,
    pub(crate) reported: Vec<Violation>,
    pub(crate) generation: u64,
    /// The latest time that the model was told; time never runs backwards in here.
    pub(crate) clock: Time,
}

impl Vpc {
    /// Builds the VPC and launches its nodes at `now`.
    ///
    /// # Errors
    /// Everything that is wrong with the spec, at once.
    pub fn new(spec: VpcSpec, now: Time) -> Result<Self, SpecError> {
        crate::build::build(spec, now)
    }

    /// The spec as it was given.
    pub fn spec(&self) -> &VpcSpec {
        &self.spec
    }

    /// The latencies, to be changed at run time.
    pub fn latencies_mut(&mut self) -> &mut Latencies {
        &mut self.spec.latencies
    }

    /// Id of the VPC.
    pub fn id(&self) -> &VpcId {
        &self.id
    }

    /// Decides what becomes of a call that arrives now: latency, token buckets, faults.
    pub fn begin(&mut self, caller: &Caller, action: &str, now: Time) -> Admission {
        let now = self.advance(now);
        self.admit(caller, action, now)
    }

    /// Does the work of a call, `admission.before` after it arrived.
    ///
    /// # Errors
    /// What EC2 would answer, with nothing changed.
    pub fn execute(
        &mut self,
        admission: &Admission,
        caller: &Caller,
        request: &Request,
        now: Time,
    ) -> Result<Response, ApiError> {
        if let Fate::Reject(error) = &admission.fate {
            return Err(error.clone());
        }
        let now = self.advance(now);
        let lag = admission.lag + self.faults.stale_for(caller, request.action.name());
        let result = self.dispatch(caller, request, now, lag);
        let dropped = admission.fate == Fate::Drop;
        self.log.executed(caller, request, &result, dropped, now);
        result
    }

    /// Puts a call into the audit log that was refused before it could be executed.
    pub fn refuse(&mut self, caller: &Caller, action: &str, error: &ApiError, now: Time) {
        let now = self.advance(now);
        self.log.refused(caller, action, error, now);
    }

    /// The node whose instance credentials carry this access key id. Keys that IMDS has given out
    /// are known, also after they expired.
    pub fn caller_of_access_key(&self, access_key_id: &str) -> Option<Caller> {
        self.imds.node_of_key(access_key_id).map(Caller::Node)
    }

    /// Answers a request to 169.254.169.254 that comes from this node.
    ///
    /// # Errors
    /// There is no such node.
    pub fn imds(
        &mut self,
        node: &str,
        request: &ImdsRequest<'_>,
        now: Time,
    ) -> Result<ImdsReply, UnknownNode> {
        let now = self.advance(now);
        let instance = self
            .nodes
            .get(node)
            .ok_or_else(|| UnknownNode(node.to_owned()))?
            .clone();
        Ok(self.imds_answer(&instance, request, now))
    }

    /// The links that are there now, ordered by node, card and device index.
    pub fn wires(&self, now: Time) -> Vec<Wire> {
        crate::wires::wires(self, now.max(self.clock))
    }

    /// When something will next change by itself (a link appears, a detach ends), after `now`.
    pub fn next_wake(&self, now: Time) -> Option<Time> {
        let links = self.enis.iter().filter_map(|e| e.attachment.as_ref());
        let links = links.flat_map(|a| [Some(a.linked_at), a.detaching.map(|(_, end)| end)]);
        links.flatten().filter(|t| *t > now).min()
    }

    /// Changes whenever a call may have changed the wires. Changes by time alone don't show here:
    /// ask [`Self::wires`] again at [`Self::next_wake`].
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Everything that is wrong now, recounted from scratch, and what was [reported](Self::report).
    pub fn books(&self, now: Time) -> Vec<Violation> {
        let mut all = crate::books::recount(self, now.max(self.clock));
        all.extend(self.reported.iter().cloned());
        all
    }

    /// Adds a violation seen outside the model, for example packets dropped by a source check.
    pub fn report(&mut self, violation: Violation) {
        self.reported.push(violation);
    }

    /// Puts a fault in force; the answer is its id.
    pub fn add_fault(&mut self, fault: Fault) -> u64 {
        self.faults.add(fault)
    }

    /// Takes a fault out of force; false if there is none with this id.
    pub fn remove_fault(&mut self, id: u64) -> bool {
        self.faults.remove(id)
    }

    /// All faults in force, oldest first.
    pub fn faults(&self) -> Vec<FaultState> {
        self.faults.all().to_vec()
    }

    /// Entries of the audit log with `seq > since`.
    pub fn audit(&self, since: u64) -> &[Entry] {
        self.log.since(since)
    }

    /// EC2 calls by node (or other caller) and action.
    pub fn ec2_calls(&self) -> &Counts {
        self.log.counts()
    }

    /// What a person does with AssociateVpcCidrBlock: the VPC has one block more. IMDS tells it at once
    /// (*assumed*).
    pub fn add_cidr(&mut self, cidr: ipnet::Ipv4Net) {
        self.spec.cidrs.push(cidr);
    }

    /// Launches one more node.
    ///
    /// # Errors
    /// What is wrong with the node's spec; nothing is changed then.
    pub fn launch(&mut self, node: NodeSpec, now: Time) -> Result<InstanceId, SpecError> {
        let now = self.advance(now);
        let id = self.launch_node(&node, "node", now)?;
        self.spec.nodes.push(node);
        Ok(id)
    }

    /// Terminates a node's instance: ENIs with DeleteOnTermination go, others become available.
    ///
    /// # Errors
    /// There is no such node.
    pub fn terminate_instance(&mut self, node: &str, now: Time) -> Result<(), UnknownNode> {
        let now = self.advance(now);
        let id = self
            .nodes
            .get(node)
            .ok_or_else(|| UnknownNode(node.to_owned()))?
            .clone();
        self.terminate(&id, now);
        Ok(())
    }

    /// All nodes, terminated ones too, by name.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        let instances = self.nodes.values().filter_map(|id| self.instances.get(id));
        instances
            .map(|i| NodeInfo {
                name: i.node.clone(),
                instance: i.id.clone(),
                instance_type: i.instance_type.clone(),
                namespace: i.namespace.clone(),
                primary_eni: i.primary_eni.clone(),
                hop_limit: i.hop_limit,
                running: i.terminated.is_none(),
            })
            .collect()
    }

    /// All ENIs as they are now, whatever Describe would show.
    pub fn enis(&self, now: Time) -> Vec<Eni> {
        let now = now.max(self.clock);
        self.enis.iter().map(|e| self.eni_view(e, now)).collect()
    }

    /// All subnets as they are now.
    pub fn subnets(&self) -> Vec<Subnet> {
        self.subnets
            .values()
            .map(|s| self.subnet_view(s, self.clock))
            .collect()
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
}
