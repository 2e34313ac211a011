//! What a refused Create, Assign or Attach holds, and for how long: narrow scopes, by class.

use crate::cloud::{CloudError, ErrorClass, Next};
use crate::datastore::Datastore;
use crate::plan::{CONSISTENCY, Memory, Scope, Takes};
use crate::{BlockKind, Eni, EniHandle, SubnetId, Timestamp};
use mutant::mutant;

/// An ENI that EC2 refuses to attach so often, for a reason that we don't know, is deleted.
const GIVE_UP: u32 = 3;

/// No blocks: the subnet's fault holds the subnet, anything else holds `otherwise`.
pub(super) fn refused_blocks(
    memory: &mut Memory,
    (subnet, kind, count): (SubnetId, BlockKind, u32),
    error: &CloudError,
    now: Timestamp,
    otherwise: Scope,
) {
    let error = &error.clone().about(kind);
    match error.class.reaction().next {
        // Fewer at once may still be had.
        Next::Smaller | Next::OtherEni if count > 1 => {
            memory.too_many(subnet, kind, count, now);
        }
        Next::Smaller => {
            // A subnet without a free address has no free prefix either.
            if kind == BlockKind::Address {
                memory.failed(Scope::Subnet(subnet.clone(), BlockKind::Prefix), error, now);
            }
            memory.failed(Scope::Subnet(subnet, kind), error, now);
        }
        Next::OtherKind if kind == BlockKind::Prefix => {
            memory.prefix_unsupported = mutant!("refused/prefixes-unsupported", true, false);
        }
        Next::Slower => {}
        _ => memory.failed(otherwise, error, now),
    }
}

/// How often in a row EC2 must refuse an ENI a single address before that is believed to be its limit;
/// between two refusals EC2 is asked what the ENI holds.
const SURELY_FULL: u32 = 5;

/// An ENI was refused a single block. If it holds fewer than the instance type's table says, the table is
/// wrong for this instance, or the account's limit is another.
pub(super) fn refused_one(
    store: &Datastore,
    memory: &mut Memory,
    handle: EniHandle,
    error: &CloudError,
    now: Timestamp,
) {
    let full = error.class.reaction().next == Next::OtherEni;
    if full
        && memory.failures(&Scope::Eni(handle)) >= SURELY_FULL
        && let Some(eni) = store.eni(handle)
    {
        memory.eni_takes = Some(Takes {
            blocks: eni.slots_taken(),
            exact: true,
            at: now,
        });
    }
}

/// An ENI that can't be attached here goes again; one whose place is taken tries the next. While an earlier
/// Attach of it is in doubt, a refusal proves nothing of it: a full instance may be full with it.
pub(super) fn refused_attach(
    store: &mut Datastore,
    memory: &mut Memory,
    handle: EniHandle,
    place: (u32, u32),
    error: &CloudError,
    now: Timestamp,
) {
    let in_doubt = store
        .eni(handle)
        .is_some_and(|eni| eni.in_doubt_since.is_some());
    match error.class.reaction().next {
        Next::Slower => {}
        _ if mutant!("doubt/refused-attach-stays", in_doubt, false) => {
            memory.failed(Scope::Eni(handle), error, now);
        }
        Next::OtherPlace => {
            mutant!(
                "refused/attach-place-is-taken",
                memory.taken.insert(place),
                place.0 == 0
            );
            memory.failed(Scope::Eni(handle), error, now);
        }
        Next::OtherEni => {
            memory.failed(Scope::Attach, error, now);
            // While it is attached to nothing, an ENI may hold more than this instance takes.
            let held = store.eni(handle).map_or(0, Eni::slots_taken);
            if error.class == ErrorClass::EniFull && held > 1 {
                memory.eni_takes = Some(Takes {
                    blocks: held / 2,
                    exact: false,
                    at: now,
                });
            }
            mutant!("refused/attach-full-instance", store.detach(handle), ());
        }
        // EC2 named it a moment ago: what does not know it yet will.
        Next::Forget
            if store
                .eni(handle)
                .is_some_and(|e| now < e.written_at + CONSISTENCY) =>
        {
            memory.failed(Scope::Eni(handle), error, now);
        }
        // Whether the ENI or the instance is gone, its Delete tells.
        Next::Forget => {
            memory.failed(Scope::Attach, error, now);
            store.detach(handle);
        }
        next => {
            memory.failed(Scope::Eni(handle), error, now);
            // As one in a subnet of another zone, which only a list of subnets by hand can name.
            if next == Next::GiveUp
                && memory.failures(&Scope::Eni(handle)) >= GIVE_UP
                && let Some(subnet) = store.eni(handle).map(|eni| eni.subnet.clone())
            {
                memory.failed(Scope::AttachFrom(subnet), error, now);
                store.detach(handle);
            }
        }
    }
}
