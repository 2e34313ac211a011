//! What a pool with given settings settles to when pods come one by one.

use crate::node::{Node, pod};
use crate::world::World;
use ipam_core::plan::Policy;
use ipam_engine::settings::OrphanScope;
use ipam_engine::{Settings, Snapshot};
use std::collections::BTreeMap;
use std::time::Duration;
use vpc_model::{NodeSpec, SpecError, SubnetSpec, VpcSpec};

/// What to settle.
#[derive(Clone, Debug)]
pub struct Question {
    /// EC2 instance type.
    pub instance_type: String,
    /// Pods that come, one by one.
    pub pods: u32,
    /// Warm targets; `max_pods` `None` is computed from the type.
    pub policy: Policy,
}

/// What it settled to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settled {
    /// ENIs attached.
    pub enis: u32,
    /// Secondary addresses and prefixes.
    pub blocks: u32,
    /// Addresses for pods in them.
    pub addresses: u32,
    /// Of these, free.
    pub free: u32,
    /// Blocks of each ENI, by device index.
    pub per_eni: Vec<u32>,
    /// Pods that got an address.
    pub pods_up: u32,
    /// Of pods that got none: why, in words that name no pod, so that equal reasons are one.
    pub refusals: BTreeMap<String, u32>,
    /// EC2 calls by action.
    pub ec2_calls: BTreeMap<String, u64>,
}

/// Why it could not be settled.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The model has no such instance type, for one.
    #[error("the model VPC can't be built: {0}")]
    Spec(#[from] SpecError),
    /// No runtime for virtual time.
    #[error("no runtime: {0}")]
    Runtime(#[from] std::io::Error),
    /// The engine has ended.
    #[error("the engine ended before it settled")]
    Ended,
}

/// The engine's settings for a policy, all else as the daemon's defaults.
#[must_use]
pub fn settings(policy: Policy) -> Settings {
    Settings {
        policy,
        veth_prefix: "eni".into(),
        eni_mtu: 9001,
        pod_mtu: 9001,
        egress: None,
        // Nothing that IMDS tells of the VPC changes in these worlds: their days go by quicker.
        metadata_every: Duration::from_secs(300),
        snat: true,
        snat_exclude: Vec::new(),
        mark: ipam_core::wiring::MARK_MAIN,
        services: Vec::new(),
        add_timeout: Duration::from_secs(30),
        security_groups: None,
        provisioning: true,
        orphans: OrphanScope::Instance,
    }
}

/// Nothing changes any more after this long without a pod: what was taken in advance is given back.
const QUIET: Duration = Duration::from_secs(900);

/// Settles on the real engine and the model VPC, in virtual time.
///
/// # Errors
/// See [`SettleError`].
pub fn settle(question: Question) -> Result<Settled, SettleError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()?;
    runtime.block_on(run(question))
}

async fn run(question: Question) -> Result<Settled, SettleError> {
    let world = World::new(VpcSpec {
        // A /16 of room: the answer is about the settings, not about a full subnet.
        subnets: vec![SubnetSpec::new(ipnet::Ipv4Net::new_assert(
            [10, 0, 0, 0].into(),
            16,
        ))],
        nodes: vec![NodeSpec::new("node", &question.instance_type)],
        ..VpcSpec::default()
    })?;
    let mut node = Node::new(&world, "node").ok_or(SettleError::Ended)?;
    node.start(settings(question.policy));
    tokio::time::sleep(QUIET).await;
    let mut refusals = BTreeMap::new();
    let mut pods_up = 0;
    for n in 0..question.pods {
        match node.add(n, Duration::from_secs(30)).await {
            Ok(_) => pods_up += 1,
            Err(Some(refusal)) => {
                let (_, pod) = pod(n);
                let name = format!("{}/{}", pod.namespace, pod.name);
                let why = refusal.message.replace(&name, "a pod");
                *refusals.entry(why).or_default() += 1;
            }
            Err(None) => return Err(SettleError::Ended),
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    tokio::time::sleep(QUIET).await;
    let snapshot = node.snapshot().await.ok_or(SettleError::Ended)?;
    let calls = world.vpc().ec2_calls().clone();
    node.stop().await;
    let ec2_calls = calls
        .into_values()
        .flatten()
        .map(|(action, n)| (action.to_string(), n))
        .collect();
    Ok(settled(&snapshot, pods_up, refusals, ec2_calls))
}

fn settled(
    snapshot: &Snapshot,
    pods_up: u32,
    refusals: BTreeMap<String, u32>,
    ec2_calls: BTreeMap<String, u64>,
) -> Settled {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let per_eni: Vec<u32> = snapshot
        .enis
        .iter()
        .map(|e| count(e.blocks.len()))
        .collect();
    Settled {
        enis: count(snapshot.enis.len()),
        blocks: per_eni.iter().sum(),
        addresses: snapshot.totals.addresses,
        free: snapshot.totals.free,
        per_eni,
        pods_up,
        refusals,
        ec2_calls,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_refusals_are_one() {
        let question = Question {
            instance_type: "t3.nano".into(),
            pods: 20,
            policy: Policy::default(),
        };
        let settled = settle(question).unwrap();
        assert_eq!(settled.pods_up, 2);
        let counts: Vec<u32> = settled.refusals.values().copied().collect();
        assert_eq!(counts, [18], "{:?}", settled.refusals);
    }
}
