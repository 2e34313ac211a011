//! What the owner wants done outside its turn, and how it is done: one await each, no choice.

use crate::ports::{
    Applied, Cloud, CloudError, CreateEni, EniTag, ErrorClass, Forgotten, HostNet, HostNetError,
    Leftover, Metadata, MetadataError, NodeFacts, Sighting, Survey, Trace,
};
use ipam_core::outcome::Done;
use ipam_core::plan::Action;
use ipam_core::wiring::HostWiring;
use ipam_core::{Block, EniId, SecurityGroupId, Timestamp};
use std::time::Duration;

/// Work for outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// One EC2 call, whose intent is durable.
    Cloud(Action, Vec<SecurityGroupId>),
    /// Read IMDS.
    ReadMetadata,
    /// Look at the kernel.
    Survey,
    /// Make the node's side of the datapath so; the blocks are those that it then serves.
    ApplyHost(HostWiring, Vec<Block>),
    /// Remove what finished pods left behind.
    Sweep(Vec<Leftover>),
    /// Give pods their host routes back.
    Reroute(Vec<Leftover>),
    /// Make the kernel forget finished pods' connections.
    Forget(Vec<Trace>),
    /// Look for ENIs that nobody has any more.
    LookForOrphans,
    /// Do what the look came to.
    CleanUp(CleanUp),
}

/// EC2 writes that need no intent: each names what it changes and may be repeated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CleanUp {
    /// [`EniTag::Mine`], so that the other nodes count this one.
    pub mine: Option<EniId>,
    /// [`EniTag::CreatedNow`].
    pub undated: Vec<EniId>,
    /// DeleteNetworkInterface.
    pub delete: Vec<EniId>,
}

/// What came of a [`Task`].
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Of [`Task::Cloud`]: the call, when it was sent, what EC2 said.
    Cloud(Action, Timestamp, Result<Done, CloudError>),
    /// Of [`Task::ReadMetadata`].
    Metadata(Result<NodeFacts, MetadataError>),
    /// Of [`Task::Survey`].
    Survey(Result<Survey, HostNetError>),
    /// Of [`Task::ApplyHost`].
    Host(HostWiring, Vec<Block>, Result<Applied, HostNetError>),
    /// Of [`Task::Sweep`].
    Swept(Vec<Leftover>, Result<(), HostNetError>),
    /// Of [`Task::Reroute`].
    Rerouted(Vec<Leftover>, Result<(), HostNetError>),
    /// Of [`Task::Forget`].
    Forgotten(Vec<Trace>, Result<Forgotten, HostNetError>),
    /// Of [`Task::LookForOrphans`].
    Orphans(Result<Vec<Sighting>, CloudError>),
    /// Of [`Task::CleanUp`]: what was done to which ENI.
    CleanedUp(Vec<(EniId, CleanedUp, Result<(), CloudError>)>),
}

/// One step of a [`CleanUp`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanedUp {
    /// DeleteNetworkInterface.
    Deleted,
    /// CreateTags.
    Tagged(EniTag),
}

impl CleanedUp {
    /// For a person, in a log.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Tagged(_) => "tagged",
        }
    }
}

/// Adapters end every call by themselves; this is for one that does not.
const BACKSTOP: Duration = Duration::from_secs(60);

/// Does one EC2 call.
pub async fn call(
    cloud: &dyn Cloud,
    action: &Action,
    groups: Vec<SecurityGroupId>,
) -> Result<Done, CloudError> {
    tokio::time::timeout(BACKSTOP, send(cloud, action, groups))
        .await
        .unwrap_or_else(|_| Err(no_answer()))
}

fn no_answer() -> CloudError {
    CloudError {
        action: "call",
        class: ErrorClass::UnknownOutcome,
        code: "Timeout".into(),
        message: format!("no answer within {} s", BACKSTOP.as_secs()),
    }
}

async fn send(
    cloud: &dyn Cloud,
    action: &Action,
    security_groups: Vec<SecurityGroupId>,
) -> Result<Done, CloudError> {
    match action.clone() {
        Action::Describe => cloud.describe().await.map(Done::Described),
        Action::DescribeSubnets { .. } => cloud.subnets().await.map(Done::Subnets),
        Action::Create {
            token,
            subnet,
            family,
            kind,
            count,
            asked,
            ..
        } => {
            let request = CreateEni {
                asked,
                token,
                subnet,
                security_groups,
                kind,
                family,
                count,
            };
            cloud.create(request).await.map(Done::Created)
        }
        Action::Attach {
            eni,
            card,
            device_index,
            ..
        } => cloud
            .attach(eni, device_index, card)
            .await
            .map(Done::Attached),
        Action::SetDeleteOnTermination {
            eni, attachment, ..
        } => cloud
            .set_delete_on_termination(eni, attachment)
            .await
            .map(|()| Done::Modified),
        Action::Assign {
            eni,
            family,
            kind,
            count,
            ..
        } => cloud
            .assign(eni, family, kind, count)
            .await
            .map(Done::Assigned),
        Action::Unassign { eni, blocks, .. } => {
            cloud.unassign(eni, blocks).await.map(|()| Done::Unassigned)
        }
        Action::Detach { attachment, .. } => {
            cloud.detach(attachment).await.map(|()| Done::Detached)
        }
        Action::Delete { eni, .. } => cloud.delete(eni).await.map(|()| Done::Deleted),
    }
}

/// Between two writes of a clean-up: it is never urgent, and the account's bucket is everybody's.
const CLEAN_UP_PAUSE: Duration = Duration::from_secs(1);

/// One write after the other. A refusal to serve more ends it: the next look finds the rest.
async fn clean_up(cloud: &dyn Cloud, what: CleanUp) -> Outcome {
    let with = |tag| move |eni| (eni, tag);
    let delete = what.delete.into_iter().map(with(None));
    let undated = what.undated.into_iter().map(with(Some(EniTag::CreatedNow)));
    let mine = what.mine.into_iter().map(with(Some(EniTag::Mine)));
    let mut done = Vec::new();
    for (eni, tag) in delete.chain(undated).chain(mine) {
        if !done.is_empty() {
            tokio::time::sleep(CLEAN_UP_PAUSE).await;
        }
        let (name, call) = match tag {
            Some(tag) => (CleanedUp::Tagged(tag), cloud.tag(eni.clone(), tag)),
            None => (CleanedUp::Deleted, cloud.delete(eni.clone())),
        };
        let result = tokio::time::timeout(BACKSTOP, call)
            .await
            .unwrap_or_else(|_| Err(no_answer()));
        let stop = result.as_ref().is_err_and(|error| {
            matches!(
                error.class,
                ErrorClass::Throttled | ErrorClass::Unreachable | ErrorClass::Unsent
            )
        });
        done.push((eni, name, result));
        if stop {
            break;
        }
    }
    Outcome::CleanedUp(done)
}

/// Does a task of another kind than [`Task::Cloud`].
pub async fn act(
    cloud: &dyn Cloud,
    metadata: &dyn Metadata,
    host: &dyn HostNet,
    task: Task,
) -> Option<Outcome> {
    let late = |what: &str| HostNetError {
        what: what.into(),
        cause: format!("no answer within {} s", BACKSTOP.as_secs()),
    };
    Some(match task {
        Task::Cloud(..) => return None,
        Task::LookForOrphans => Outcome::Orphans(
            tokio::time::timeout(BACKSTOP, cloud.tagged())
                .await
                .unwrap_or_else(|_| Err(no_answer())),
        ),
        Task::CleanUp(what) => clean_up(cloud, what).await,
        Task::ReadMetadata => Outcome::Metadata(
            tokio::time::timeout(BACKSTOP, metadata.read())
                .await
                .unwrap_or_else(|_| {
                    Err(MetadataError {
                        path: "/".into(),
                        message: "no answer in time".into(),
                    })
                }),
        ),
        Task::Survey => Outcome::Survey(
            tokio::time::timeout(BACKSTOP, host.survey())
                .await
                .unwrap_or_else(|_| Err(late("look at the kernel"))),
        ),
        Task::ApplyHost(wiring, blocks) => {
            let result = tokio::time::timeout(BACKSTOP, host.apply(wiring.clone()))
                .await
                .unwrap_or_else(|_| Err(late("wire the host")));
            Outcome::Host(wiring, blocks, result)
        }
        Task::Sweep(leftovers) => {
            let result = tokio::time::timeout(BACKSTOP, host.sweep(leftovers.clone()))
                .await
                .unwrap_or_else(|_| Err(late("remove leftovers")));
            Outcome::Swept(leftovers, result)
        }
        Task::Reroute(pods) => {
            let result = tokio::time::timeout(BACKSTOP, host.reroute(pods.clone()))
                .await
                .unwrap_or_else(|_| Err(late("put routes back")));
            Outcome::Rerouted(pods, result)
        }
        Task::Forget(traces) => {
            let result = tokio::time::timeout(BACKSTOP, host.forget(traces.clone()))
                .await
                .unwrap_or_else(|_| Err(late("forget connections")));
            Outcome::Forgotten(traces, result)
        }
    })
}
