//! The VPC: the one value that holds everything, and its public methods.

use crate::admission::{Admission, Caller};
use crate::audit::{Counts, Entry};
use crate::books::Violation;
use crate::error::{ApiError, SpecError};
use crate::fault::{Fault, FaultState};
use crate::ids::{EniId, InstanceId, NodeName};
use crate::imds::{ImdsReply, ImdsRequest};
use crate::request::Request;
use crate::response::{Eni, Response, Subnet};
use crate::spec::{NodeSpec, VpcSpec};
use crate::time::Time;
use crate::wires::Wire;
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
    spec: VpcSpec,
    counts: Counts,
    generation: u64,
}

impl Vpc {
    /// Builds the VPC and launches its nodes at `now`.
    ///
    /// # Errors
    /// Everything that is wrong with the spec, at once.
    pub fn new(spec: VpcSpec, now: Time) -> Result<Self, SpecError> {
        let _ = now;
        Ok(Self {
            spec,
            counts: Counts::new(),
            generation: 0,
        })
    }

    /// The spec as it was given, with changes made at run time.
    pub fn spec(&self) -> &VpcSpec {
        &self.spec
    }

    /// Decides what becomes of a call that arrives now: latency, token buckets, faults.
    pub fn begin(&mut self, caller: &Caller, action: &str, now: Time) -> Admission {
        let _ = (caller, action, now);
        Admission::immediate()
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
        let _ = (admission, caller, now);
        Err(ApiError::new("InvalidAction", request.action.name()))
    }

    /// Puts a call into the audit log that was refused before it could be executed.
    pub fn refuse(&mut self, caller: &Caller, action: &str, error: &ApiError, now: Time) {
        let _ = (caller, action, error, now);
    }

    /// The node whose instance credentials carry this access key id.
    pub fn caller_of_access_key(&self, access_key_id: &str) -> Option<Caller> {
        let _ = access_key_id;
        None
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
        let _ = (request, now);
        Err(UnknownNode(node.to_owned()))
    }

    /// The links that are there now, ordered by node, card and device index.
    pub fn wires(&self, now: Time) -> Vec<Wire> {
        let _ = now;
        Vec::new()
    }

    /// When something will next change by itself (a link appears, a detach ends), after `now`.
    pub fn next_wake(&self, now: Time) -> Option<Time> {
        let _ = now;
        None
    }

    /// Changes whenever a call may have changed the wires. Changes by time alone don't show here:
    /// ask [`Self::wires`] again at [`Self::next_wake`].
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Everything that is wrong now, recounted from scratch, and what was [reported](Self::report).
    pub fn books(&self, now: Time) -> Vec<Violation> {
        let _ = now;
        Vec::new()
    }

    /// Adds a violation seen outside the model, for example packets dropped by a source check.
    pub fn report(&mut self, violation: Violation) {
        let _ = violation;
    }

    /// Puts a fault in force; the answer is its id.
    pub fn add_fault(&mut self, fault: Fault) -> u64 {
        let _ = fault;
        0
    }

    /// Takes a fault out of force; false if there is none with this id.
    pub fn remove_fault(&mut self, id: u64) -> bool {
        let _ = id;
        false
    }

    /// All faults in force, oldest first.
    pub fn faults(&self) -> Vec<FaultState> {
        Vec::new()
    }

    /// Entries of the audit log with `seq > since`.
    pub fn audit(&self, since: u64) -> &[Entry] {
        let _ = since;
        &[]
    }

    /// EC2 calls by node (or other caller) and action.
    pub fn ec2_calls(&self) -> &Counts {
        &self.counts
    }

    /// Launches one more node.
    ///
    /// # Errors
    /// What is wrong with the node's spec.
    pub fn launch(&mut self, node: NodeSpec, now: Time) -> Result<InstanceId, SpecError> {
        let _ = (node, now);
        Err(SpecError {
            problems: Vec::new(),
        })
    }

    /// Terminates a node's instance: ENIs with DeleteOnTermination go, others become available.
    ///
    /// # Errors
    /// There is no such node.
    pub fn terminate_instance(&mut self, node: &str, now: Time) -> Result<(), UnknownNode> {
        let _ = now;
        Err(UnknownNode(node.to_owned()))
    }

    /// All nodes, terminated ones too, by name.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        Vec::new()
    }

    /// All ENIs as they are now, whatever Describe would show.
    pub fn enis(&self, now: Time) -> Vec<Eni> {
        let _ = now;
        Vec::new()
    }

    /// All subnets as they are now.
    pub fn subnets(&self) -> Vec<Subnet> {
        Vec::new()
    }
}
