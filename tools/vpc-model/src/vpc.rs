//! The VPC: the façade over all layers. It puts time in first, asks the layers in order, and keeps the
//! books. Nothing below knows it.

use crate::admission::{Admission, Fate, FaultState, Gate, iam};
use crate::books::audit::{Counts, Entry, Log};
use crate::books::{self, Violation};
use crate::calls::{self, Sight};
use crate::hands::mirror::{MirrorError, Twin};
use crate::hands::place::EniSpec;
use crate::hands::{build, launch, mirror, place};
use crate::imds::{self, ImdsReply, ImdsRequest, ImdsState};
use crate::state::State;
use crate::state::latency::sample;
use crate::views::wires::{Wire, wires};
use crate::views::{eni_view, subnet_view};
use crate::words::caller::Caller;
use crate::words::error::{ApiError, SpecError};
use crate::words::fault::Fault;
use crate::words::ids::{EniId, InstanceId, NodeName, VpcId};
use crate::words::request::Request;
use crate::words::response::{Eni, InstanceType, Response, Subnet};
use crate::words::spec::{Latencies, NodeSpec, VpcSpec};
use crate::words::time::Time;
use serde::Serialize;
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
    /// The ENI that it was launched with; none once terminated.
    pub primary_eni: Option<EniId>,
    /// IMDS hop limit.
    pub hop_limit: u8,
    /// False once terminated.
    pub running: bool,
}

/// A VPC with its subnets, ENIs, instances and books. See the crate's page for how to call it.
#[derive(Debug)]
pub struct Vpc {
    pub(crate) state: State,
    gate: Gate,
    imds: ImdsState,
    log: Log,
    reported: Vec<Violation>,
}

impl Vpc {
    /// Builds the VPC and launches its nodes at `now`.
    ///
    /// # Errors
    /// Everything that is wrong with the spec, at once.
    pub fn new(spec: VpcSpec, now: Time) -> Result<Self, SpecError> {
        let state = build::build(spec, now)?;
        Ok(Self {
            gate: Gate::new(&state.spec.faults, now),
            state,
            imds: ImdsState::default(),
            log: Log::default(),
            reported: Vec::new(),
        })
    }

    /// The spec as it was given.
    pub fn spec(&self) -> &VpcSpec {
        &self.state.spec
    }

    /// The latencies, to be changed at run time.
    pub fn latencies_mut(&mut self) -> &mut Latencies {
        &mut self.state.spec.latencies
    }

    /// Id of the VPC.
    pub fn id(&self) -> &VpcId {
        &self.state.id
    }

    /// Decides what becomes of a call that arrives now: latency, token buckets, faults.
    pub fn begin(&mut self, caller: &Caller, action: &str, now: Time) -> Admission {
        let now = self.state.advance(now);
        let admission = self.gate.admit(&mut self.state, caller, action, now);
        if let Fate::Reject(error) = &admission.fate {
            self.log.refused(caller, action, error, now);
        }
        admission
    }

    /// Does the work of a call, `admission.before` after it arrived.
    ///
    /// # Errors
    /// What EC2 would answer, with nothing changed; [`ApiError::unreached`] if the call has not
    /// reached EC2.
    pub fn execute(
        &mut self,
        admission: &Admission,
        caller: &Caller,
        request: &Request,
        now: Time,
    ) -> Result<Response, ApiError> {
        match &admission.fate {
            // *documented*: a request that has gone well is answered so again by its client token. What EC2
            // finds out at its work is not said of it.
            Fate::Reject(error)
                if error.is_said_first() || !calls::is_done(&self.state, &request.action) =>
            {
                return Err(error.clone());
            }
            Fate::Reject(_) => {}
            Fate::Unreached { .. } => return Err(ApiError::unreached()),
            Fate::Proceed | Fate::Drop => {}
        }
        let now = self.state.advance(now);
        let name = request.action.name();
        let (back, left_out) = self.gate.sight(caller, name, admission.lag);
        let then = now.back(back);
        let result = self.work(caller, request, now, &Sight { then, left_out });
        let dropped = admission.fate == Fate::Drop;
        self.log.executed(caller, request, &result, dropped, now);
        result
    }

    /// Permission, dry run, then the work.
    fn work(
        &mut self,
        caller: &Caller,
        request: &Request,
        now: Time,
        sight: &Sight,
    ) -> Result<Response, ApiError> {
        iam::authorize(&self.state, caller, &request.action)?;
        if request.dry_run {
            return Err(ApiError::dry_run());
        }
        calls::dispatch(&mut self.state, caller, &request.action, now, sight)
    }

    /// Puts a call into the audit log that was refused before it could be executed.
    pub fn refuse(&mut self, caller: &Caller, action: &str, error: &ApiError, now: Time) {
        let now = self.state.advance(now);
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
        let now = self.state.advance(now);
        let id = self.instance_of(node)?;
        let latency = &self.state.spec.latencies.imds_ms;
        let mut delay = sample(latency, &mut self.state.rng);
        let instance = self.state.instances.get(&id);
        let mut answer = None;
        if instance.is_some_and(|i| i.terminated.is_none()) {
            let trouble = self
                .gate
                .imds(node, &imds::path_below_version(request.path));
            delay += trouble.delay;
            let (state, keys) = (&mut self.state, &mut self.imds);
            answer = imds::answer(state, keys, &id, request, &trouble, now);
        }
        Ok(ImdsReply { delay, answer })
    }

    fn instance_of(&self, node: &str) -> Result<InstanceId, UnknownNode> {
        let id = self.state.nodes.get(node).cloned();
        id.ok_or_else(|| UnknownNode(node.to_owned()))
    }

    /// The links that are there now, ordered by node, card and device index.
    pub fn wires(&self, now: Time) -> Vec<Wire> {
        wires(&self.state, now.max(self.state.clock))
    }

    /// When something will next change by itself (a link appears, a detach ends), after `now`.
    pub fn next_wake(&self, now: Time) -> Option<Time> {
        let links = self.state.enis.iter().filter_map(|e| e.attachment.as_ref());
        let links = links.flat_map(|a| [Some(a.linked_at), a.detaching.map(|(_, end)| end)]);
        links.flatten().filter(|t| *t > now).min()
    }

    /// Changes whenever a call may have changed the wires. Changes by time alone don't show here:
    /// ask [`Self::wires`] again at [`Self::next_wake`].
    pub fn generation(&self) -> u64 {
        self.state.generation
    }

    /// Everything that is wrong now, recounted from scratch, and what was [reported](Self::report).
    pub fn books(&self, now: Time) -> Vec<Violation> {
        let mut all = books::recount(&self.state, now.max(self.state.clock));
        all.extend(self.reported.iter().cloned());
        all
    }

    /// Adds a violation seen outside the model, for example packets dropped by a source check.
    pub fn report(&mut self, violation: Violation) {
        self.reported.push(violation);
    }

    /// Puts a fault in force; the answer is its id.
    pub fn add_fault(&mut self, fault: Fault) -> u64 {
        self.gate.faults.add(fault)
    }

    /// Takes a fault out of force; false if there is none with this id.
    pub fn remove_fault(&mut self, id: u64) -> bool {
        self.gate.faults.remove(id)
    }

    /// All faults in force, oldest first.
    pub fn faults(&self) -> Vec<FaultState> {
        self.gate.faults.all().to_vec()
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
        self.state.spec.cidrs.push(cidr);
    }

    /// Launches one more node. Its name may be that of a node whose instance was terminated: the node
    /// has come back on another instance then.
    ///
    /// # Errors
    /// What is wrong with the node's spec; nothing is changed then.
    pub fn launch(&mut self, node: NodeSpec, now: Time) -> Result<InstanceId, SpecError> {
        let now = self.state.advance(now);
        let id = launch::launch_node(&mut self.state, &node, "node", now)?;
        self.state.spec.nodes.push(node);
        Ok(id)
    }

    /// Terminates a node's instance: ENIs with DeleteOnTermination go, others become available.
    ///
    /// # Errors
    /// There is no such node.
    pub fn terminate_instance(&mut self, node: &str, now: Time) -> Result<(), UnknownNode> {
        let now = self.state.advance(now);
        let id = self.instance_of(node)?;
        launch::terminate(&mut self.state, &id, now);
        Ok(())
    }

    /// Makes an ENI that somebody else has made, and attaches it if it is to hang somewhere. Its
    /// link and IMDS follow after the latencies of the spec. No entry in the audit log.
    ///
    /// # Errors
    /// What EC2 would answer to Create or Attach; nothing is changed then.
    pub fn place_eni(&mut self, spec: &EniSpec, now: Time) -> Result<EniId, ApiError> {
        place::place_eni(&mut self.state, spec, now)
    }

    /// Takes an ENI out of the VPC at once, attached or not, as its maker may; false if there is
    /// none. A primary ENI stays: its instance would have to go first.
    pub fn remove_eni(&mut self, id: &EniId, now: Time) -> bool {
        place::remove_eni(&mut self.state, id, now)
    }

    /// Makes the ENIs of the VPC be exactly those. What is new appears as a link and in IMDS after
    /// the latencies of the spec, as with a call; what is gone, is gone at once. Nodes' first ENIs
    /// keep their public addresses.
    ///
    /// # Errors
    /// What can't be shown; ENIs before it in the list are as told then, others may be gone.
    pub fn mirror(&mut self, twins: &[Twin], now: Time) -> Result<(), MirrorError> {
        mirror::mirror(&mut self.state, twins, now)
    }

    /// All nodes, terminated ones too, by name.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        let instances = self.state.nodes.values();
        let instances = instances.filter_map(|id| self.state.instances.get(id));
        instances
            .map(|i| NodeInfo {
                name: i.node.clone(),
                instance: i.id.clone(),
                instance_type: i.kind.name.clone(),
                namespace: i.namespace.clone(),
                primary_eni: i.terminated.is_none().then(|| i.primary_eni.clone()),
                hop_limit: i.hop_limit,
                running: i.terminated.is_none(),
            })
            .collect()
    }

    /// An instance type by name, with the spec's overrides.
    pub fn instance_type(&self, name: &str) -> Option<&InstanceType> {
        self.state.catalog.get(name)
    }

    /// All ENIs as they are now, whatever Describe would show.
    pub fn enis(&self, now: Time) -> Vec<Eni> {
        let now = now.max(self.state.clock);
        let enis = self.state.enis.iter();
        enis.map(|e| eni_view(&self.state, e, now)).collect()
    }

    /// All subnets as they are now.
    pub fn subnets(&self) -> Vec<Subnet> {
        let subnets = self.state.subnets.values();
        subnets
            .map(|s| subnet_view(&self.state, s, self.state.clock))
            .collect()
    }
}
