//! What a refused Create, Assign or Attach holds, and for how long: narrow scopes, by class.

use crate::cloud::{CloudError, Next};
use crate::datastore::Datastore;
use crate::plan::{Memory, Scope};
use crate::{BlockKind, EniHandle, SubnetId, Timestamp};

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
        Next::Smaller if count > 1 => {
            memory.batch.insert((subnet, kind), count / 2);
        }
        Next::Smaller => {
            // A subnet without a free address has no free prefix either.
            if kind == BlockKind::Address {
                memory.failed(Scope::Subnet(subnet.clone(), BlockKind::Prefix), error, now);
            }
            memory.failed(Scope::Subnet(subnet, kind), error, now);
        }
        Next::OtherKind if kind == BlockKind::Prefix => {
            memory.prefix_unsupported = true;
        }
        Next::Slower => {}
        _ => memory.failed(otherwise, error, now),
    }
}

/// An ENI that can't be attached here goes again; one whose place is taken tries the next.
pub(super) fn refused_attach(
    store: &mut Datastore,
    memory: &mut Memory,
    handle: EniHandle,
    place: (u32, u32),
    error: &CloudError,
    now: Timestamp,
) {
    match error.class.reaction().next {
        Next::OtherPlace => {
            memory.taken.insert(place);
            memory.failed(Scope::Eni(handle), error, now);
        }
        Next::OtherEni => {
            memory.failed(Scope::NewEni, error, now);
            store.detach(handle);
        }
        Next::Forget => {
            memory.failed(Scope::NewEni, error, now);
            store.remove_eni(handle);
        }
        Next::Slower => {}
        next => {
            memory.failed(Scope::Eni(handle), error, now);
            // As one in a subnet of another zone, which only a list of subnets by hand can name.
            if next == Next::GiveUp
                && memory.failures(&Scope::Eni(handle)) >= GIVE_UP
                && let Some(subnet) = store.eni(handle).map(|eni| eni.subnet.clone())
            {
                memory.failed(Scope::NewEniIn(subnet), error, now);
                store.detach(handle);
            }
        }
    }
}
