//! From action to durable intent, and from EC2's answer to the datastore.

mod believe;
mod refused;

use crate::cloud::{CloudError, Effect, Next};
use crate::datastore::Datastore;
use crate::plan::{Action, Call, Memory, Scope};
use crate::reconcile::{Drift, Thing, has_its_place, reconcile};
use crate::{
    Block, BlockState, Eni, EniHandle, EniView, Family, Intent, Phase, SubnetId, SubnetView,
    Timestamp,
};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::time::Duration;
use mutant::mutant;
use refused::{refused_attach, refused_blocks, refused_one};

/// EC2 did what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    /// Every ENI of this instance.
    Described(Vec<EniView>),
    /// Every subnet of the VPC in this node's zone.
    Subnets(Vec<SubnetView>),
    /// The new ENI.
    Created(EniView),
    /// The new attachment.
    Attached(crate::eni::AttachmentId),
    /// Nothing to tell.
    Modified,
    /// The blocks that this call gave.
    Assigned(Vec<Block>),
    /// Nothing to tell.
    Unassigned,
    /// Nothing to tell.
    Detached,
    /// Nothing to tell.
    Deleted,
}

/// Writes an action down as what is about to be done. Its records must be durable before the call
/// is sent.
pub fn begin(store: &mut Datastore, action: &Action, now: Timestamp) {
    match action {
        Action::Describe | Action::DescribeSubnets { .. } => {}
        Action::Create {
            handle,
            token,
            subnet,
            card,
            device_index,
            kind,
            count,
            ..
        } => {
            if store.eni(*handle).is_none() {
                let made = store.new_handle();
                debug_assert_eq!(made, *handle);
                store.insert_eni(Eni {
                    handle: *handle,
                    id: None,
                    mac: None,
                    primary: false,
                    device_index: *device_index,
                    card: *card,
                    subnet: subnet.clone(),
                    address: None,
                    attachment: None,
                    delete_on_termination: false,
                    phase: Phase::Creating,
                    unmanaged: None,
                    ours: true,
                    excluded: false,
                    blocks: BTreeMap::new(),
                    intent: None,
                    in_doubt_since: None,
                    written_at: now,
                    since: now,
                });
            }
            let intent = Intent::Create {
                token: token.clone(),
                kind: *kind,
                count: *count,
            };
            set_intent(store, *handle, intent);
        }
        Action::Attach {
            handle,
            device_index,
            ..
        } => {
            if let Some(eni) = store.eni_mut(*handle) {
                eni.device_index = *device_index;
            }
            set_intent(store, *handle, Intent::Attach);
        }
        Action::SetDeleteOnTermination { handle, .. } => {
            set_intent(store, *handle, Intent::SetDeleteOnTermination);
        }
        Action::Assign {
            handle,
            family,
            kind,
            count,
            ..
        } => {
            let intent = Intent::Assign {
                family: *family,
                kind: *kind,
                count: *count,
            };
            mutant!(
                "intent/assign",
                set_intent(store, *handle, intent),
                drop(intent)
            );
        }
        Action::Unassign { handle, blocks, .. } => {
            mutant!(
                "intent/unassign-serves-nobody",
                set_states(store, *handle, blocks, BlockState::Releasing),
                ()
            );
            set_intent(
                store,
                *handle,
                Intent::Unassign {
                    blocks: blocks.clone(),
                },
            );
        }
        Action::Detach { handle, .. } => {
            if let Some(eni) = store.eni_mut(*handle) {
                eni.phase = mutant!("intent/detach-serves-nobody", Phase::Leaving, eni.phase);
            }
            set_intent(store, *handle, Intent::Detach);
        }
        Action::Delete { handle, .. } => set_intent(store, *handle, Intent::Delete),
    }
}

fn set_intent(store: &mut Datastore, handle: EniHandle, intent: Intent) {
    if let Some(eni) = store.eni_mut(handle) {
        eni.intent = Some(intent);
    }
}

fn set_states(store: &mut Datastore, handle: EniHandle, blocks: &[Block], state: BlockState) {
    if let Some(eni) = store.eni_mut(handle) {
        for block in blocks {
            if let Some(s) = eni.blocks.get_mut(block) {
                *s = state;
            }
        }
    }
}

/// After a restart: a call whose intent was stored may have been sent. A Create may be sent again (its
/// token makes it the same call), and so may all that name what they want; an Assign may not, and
/// what an Unassign names may be another node's by now, so their ENIs are in doubt.
pub fn resume(store: &mut Datastore, memory: &mut Memory, now: Timestamp) {
    let handles: Vec<EniHandle> = store.enis().keys().copied().collect();
    for handle in handles {
        let Some(eni) = store.eni_mut(handle) else {
            continue;
        };
        // The clock was set back between two runs.
        eni.written_at = mutant!(
            "clock/writes-of-the-future",
            eni.written_at.min(now),
            eni.written_at
        );
        eni.since = eni.since.min(now);
        eni.in_doubt_since = eni
            .in_doubt_since
            .map(|since| mutant!("clock/doubts-of-the-future", since.min(now), since));
        // Whether its last write gave something back is known no more.
        memory.gave_back(handle, eni.written_at);
        match eni.intent.take() {
            Some(create @ Intent::Create { .. }) => {
                eni.intent = Some(create);
                eni.in_doubt_since = Some(now);
            }
            // What it asked for tells by what it is known when EC2 has told.
            Some(assign @ Intent::Assign { .. }) => {
                eni.intent = Some(assign);
                eni.in_doubt_since = mutant!("doubt/assign-outlives-a-restart", Some(now), None);
            }
            Some(Intent::Attach) => {
                eni.in_doubt_since = mutant!("doubt/attach-outlives-a-restart", Some(now), None);
            }
            // Its blocks stay as they are, given to nobody, until EC2 has told.
            Some(Intent::Unassign { .. } | Intent::Detach) => {
                eni.in_doubt_since = mutant!("doubt/unassign-outlives-a-restart", Some(now), None);
                memory.gave_back(handle, now);
            }
            // Only what gives back leaves a doubt and no intent.
            None => {
                if let Some(since) = eni.in_doubt_since {
                    memory.gave_back(handle, since);
                }
            }
            _ => {}
        }
    }
}

/// Takes EC2's answer in. `begun` is when the call was sent.
pub fn finish(
    store: &mut Datastore,
    memory: &mut Memory,
    action: &Action,
    result: Result<Done, CloudError>,
    begun: Timestamp,
    now: Timestamp,
) -> Vec<Drift> {
    let result = result.and_then(|done| believe::answer(store, done));
    let outdated = Scope::outdated_by(action, result.is_ok(), store);
    match result {
        Ok(done) => {
            memory.passed(Call::of(action), begun);
            for scope in outdated {
                memory.succeeded(&scope, begun);
                if let Scope::Subnet(subnet, kind) = scope {
                    memory.granted(subnet, kind, now);
                }
            }
            succeed(store, memory, action, done, begun, now)
        }
        Err(error) => {
            fail(store, memory, action, &error, now);
            if error.class.reaction().effect == Effect::Refused {
                memory.outdated(&outdated, now);
            }
            Vec::new()
        }
    }
}

/// What a success clears.
fn subnet_of(store: &Datastore, handle: EniHandle) -> Option<SubnetId> {
    store.eni(handle).map(|eni| eni.subnet.clone())
}

fn succeed(
    store: &mut Datastore,
    memory: &mut Memory,
    action: &Action,
    done: Done,
    begun: Timestamp,
    now: Timestamp,
) -> Vec<Drift> {
    if let Done::Described(views) = &done {
        return reconcile(store, memory, views, begun, now);
    }
    if let (Done::Subnets(views), Action::DescribeSubnets { by }) = (&done, action) {
        memory.subnets.learn(views, by, now);
        memory.subnets.mark(store);
        return Vec::new();
    }
    let Some(handle) = action.handle() else {
        return Vec::new();
    };
    if let Some(eni) = store.eni_mut(handle) {
        eni.intent = None;
        eni.written_at = now;
        eni.in_doubt_since = None;
    }
    let mut drift = Vec::new();
    match done {
        // A repeated Create of which nothing was remembered but the token: a Describe told more.
        Done::Created(view)
            if store.eni_by_id(&view.id).is_some_and(|known| {
                mutant!(
                    "token/one-eni-per-create",
                    known.handle != handle,
                    false && known.handle != handle
                )
            }) =>
        {
            store.remove_eni(handle);
        }
        Done::Created(view) => {
            memory
                .subnets
                .took(&view.subnet, 1 + capacity(&view.blocks));
            if let Some(eni) = store.eni_mut(handle) {
                eni.phase = Phase::Created;
                eni.id = Some(view.id);
                eni.mac = Some(view.mac);
                eni.subnet = view.subnet;
            }
            store.set_address(handle, view.address);
            add_blocks(store, handle, view.blocks);
        }
        Done::Attached(attachment) => {
            if let Some(eni) = store.eni_mut(handle) {
                memory.taken.remove(&(eni.card, eni.device_index));
                eni.phase = Phase::Attached;
                eni.attachment = Some(attachment);
                eni.since = now;
            }
            has_its_place(store, handle, &mut drift);
        }
        Done::Modified => {
            if let Some(eni) = store.eni_mut(handle) {
                eni.delete_on_termination = true;
            }
        }
        Done::Assigned(blocks) => {
            if let Some(subnet) = subnet_of(store, handle) {
                memory.subnets.took(&subnet, capacity(&blocks));
            }
            add_blocks(store, handle, blocks);
        }
        Done::Unassigned => {
            if let Action::Unassign { blocks, .. } = action {
                if let Some(subnet) = subnet_of(store, handle) {
                    memory.subnets.gave(&subnet, capacity(blocks));
                }
                memory.gave_back(handle, now);
                for block in blocks {
                    store.remove_block(handle, *block);
                }
            }
        }
        Done::Detached => store.detach(handle),
        Done::Deleted => deleted(store, memory, handle, now),
        Done::Described(_) | Done::Subnets(_) => {}
    }
    drift
}

/// IPv4 addresses in blocks, which is what a subnet can run out of.
fn capacity(blocks: &[Block]) -> u32 {
    blocks
        .iter()
        .filter(|block| block.family() == Family::V4)
        .fold(0, |sum: u32, block| sum.saturating_add(block.capacity()))
}

fn deleted(store: &mut Datastore, memory: &mut Memory, handle: EniHandle, now: Timestamp) {
    if let Some(id) = store.eni(handle).and_then(|eni| eni.id.clone()) {
        memory
            .deleted
            .retain(|_, at| now.since(*at) < FORGET_DELETED);
        mutant!(
            "eni/deleted-is-remembered",
            memory.deleted.insert(id, now),
            None::<Timestamp>
        );
    }
    store.remove_eni(handle);
}

/// IMDS may name an ENI for minutes after it is gone.
const FORGET_DELETED: Duration = Duration::from_secs(900);

fn add_blocks(store: &mut Datastore, handle: EniHandle, blocks: Vec<Block>) {
    for block in blocks {
        store.let_go(block, handle);
        store.add_block(handle, block, BlockState::Confirmed);
    }
    store.recount();
}

/// EC2 refused, or nobody knows: what the class's row says ([`crate::cloud::Reaction`]), on what the action is about.
fn fail(
    store: &mut Datastore,
    memory: &mut Memory,
    action: &Action,
    error: &CloudError,
    now: Timestamp,
) {
    let reaction = error.class.reaction();
    if reaction.next == Next::Slower {
        memory.throttled(Call::of(action), error, now);
    }
    let Some(handle) = action.handle() else {
        let scope = match action {
            Action::DescribeSubnets { .. } => {
                // A refusal for the rate of calls says nothing: the next try will.
                if reaction.next != Next::Slower {
                    memory.subnets.unanswered();
                }
                Scope::Subnets
            }
            _ => Scope::Describe,
        };
        memory.failed(scope, error, now);
        return;
    };
    let unknown = reaction.effect == Effect::Unknown;
    if let Some(eni) = store.eni_mut(handle) {
        match action {
            // Sent again with the same token.
            Action::Create { .. } if unknown => eni.in_doubt_since = Some(now),
            Action::Create { .. } if eni.in_doubt_since.is_some() && !reaction.after_token => {}
            // Sent again; but a refusal of the repeat may come of the first one's having been done.
            Action::Attach { .. } if unknown => {
                eni.intent = None;
                mutant!(
                    "doubt/unanswered-attach",
                    eni.in_doubt_since = Some(now),
                    ()
                );
            }
            // What was asked for tells by what the answer is known when EC2 has told.
            Action::Assign { .. } if unknown => mutant!(
                "doubt/unanswered-assign",
                eni.in_doubt_since = Some(now),
                eni.intent = None
            ),
            Action::Unassign { .. } | Action::Detach { .. } if unknown => {
                eni.intent = None;
                mutant!(
                    "doubt/unanswered-unassign",
                    eni.in_doubt_since = Some(now),
                    ()
                );
            }
            _ => eni.intent = None,
        }
    }
    memory.look |= reaction.look;
    match action {
        Action::Delete { .. }
            if mutant!(
                "eni/not-found-is-gone",
                reaction.next == Next::Forget,
                false && reaction.next == Next::Forget
            ) =>
        {
            deleted(store, memory, handle, now);
            return;
        }
        Action::Detach { .. } if reaction.next == Next::Forget => {
            store.detach(handle);
            return;
        }
        _ => {}
    }
    match action {
        Action::Create {
            subnet,
            kind,
            count,
            ..
        } => {
            // What EC2 says of this subnet holds no other one.
            let scope = match reaction.next {
                Next::Person | Next::Forget | Next::GiveUp => Scope::NewEniIn(subnet.clone()),
                _ => Scope::NewEni,
            };
            refused_blocks(memory, (subnet.clone(), *kind, *count), error, now, scope);
            if store.eni(handle).is_some_and(|eni| eni.intent.is_some()) {
                memory.failed(Scope::Eni(handle), error, now);
            } else {
                store.remove_eni(handle);
            }
        }
        // What EC2 says of IPv6 holds no IPv4.
        Action::Assign {
            family: Family::V6, ..
        } => memory.failed(
            mutant!(
                "refused/ipv6-holds-no-ipv4",
                Scope::Ipv6(handle),
                Scope::Eni(handle)
            ),
            error,
            now,
        ),
        Action::Assign { kind, count, .. } => {
            if let Some(subnet) = subnet_of(store, handle) {
                refused_blocks(
                    memory,
                    (subnet, *kind, *count),
                    error,
                    now,
                    Scope::Eni(handle),
                );
            }
            if *count == 1 {
                refused_one(store, memory, handle, error, now);
            }
        }
        Action::Attach {
            card, device_index, ..
        } => {
            refused_attach(store, memory, handle, (*card, *device_index), error, now);
        }
        Action::Unassign { blocks, .. } => {
            if reaction.effect == Effect::NotTried {
                // Unless an earlier one was not answered, and EC2 names them no more.
                let missing = |b: &&Block| memory.missing.contains_key(&Thing::Block(handle, **b));
                let there: Vec<Block> = blocks.iter().filter(|b| !missing(b)).copied().collect();
                mutant!(
                    "unassign/refused-serves-on",
                    set_states(store, handle, &there, BlockState::Confirmed),
                    ()
                );
            } else if let Some(eni) = store.eni_mut(handle) {
                // Gone already, or half of them: nobody gets them until EC2 has told.
                mutant!(
                    "unassign/refused-is-in-doubt",
                    eni.in_doubt_since = Some(now),
                    ()
                );
                memory.gave_back(handle, now);
            }
            memory.failed(Scope::Eni(handle), error, now);
        }
        Action::Detach { .. } => {
            // Refused for good or for now, it is not leaving: its addresses serve on. Unless an earlier
            // Detach was not answered, which may have been done.
            if (reaction.effect == Effect::NotTried || reaction.next == Next::GiveUp)
                && !memory.missing.contains_key(&Thing::Eni(handle))
                && store
                    .eni(handle)
                    .is_some_and(|e| e.in_doubt_since.is_none())
                && let Some(eni) = store.eni_mut(handle)
            {
                mutant!("detach/refused-serves-on", eni.phase = Phase::Ready, ());
            }
            memory.failed(Scope::Eni(handle), error, now);
        }
        _ => memory.failed(Scope::Eni(handle), error, now),
    }
}
