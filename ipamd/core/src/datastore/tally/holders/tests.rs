//! The list of holders says of each address what [`Datastore::block_of`] says.

use super::*;
use crate::{Eni, Phase, Timestamp};
use alloc::collections::BTreeMap;
use proptest::prelude::*;

fn eni(n: u64, blocks: BTreeMap<Block, BlockState>) -> Eni {
    Eni {
        handle: EniHandle(n),
        id: None,
        mac: None,
        primary: n == 0,
        device_index: 0,
        card: 0,
        subnet: "subnet-1".into(),
        address: None,
        attachment: None,
        delete_on_termination: false,
        phase: Phase::Ready,
        unmanaged: None,
        ours: true,
        excluded: n == 2,
        blocks,
        intent: None,
        in_doubt_since: None,
        written_at: Timestamp(0),
        since: Timestamp(0),
    }
}

fn ip(n: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, n])
}

proptest! {
    #[test]
    fn a_holder_is_who_holds_the_block(
        given in prop::collection::vec((0_u64..4, 0_u8..48, any::<bool>(), 0_u8..4), 0..24)
    ) {
        let mut enis = BTreeMap::<u64, BTreeMap<Block, BlockState>>::new();
        for (on, n, whole, state) in given {
            // Blocks may overlap, and be on several ENIs.
            let block = if whole { Block::prefix_of(ip(n)) } else { Block::address(ip(n)) };
            let state = match state {
                0 => BlockState::Confirmed,
                1 => BlockState::Releasing,
                _ => BlockState::Lost,
            };
            enis.entry(on).or_default().insert(block, state);
        }
        let mut store = Datastore::default();
        for (on, blocks) in enis {
            store.insert_eni(eni(on, blocks));
        }
        let holders = Holders::of(&store);
        for n in 0..64 {
            let found = holders.around(ip(n));
            prop_assert_eq!(found.map(|h| (h.handle, h.block)), store.block_of(ip(n)));
            if let Some(holder) = found {
                let eni = &store.enis[&holder.handle];
                let state = eni.blocks[&holder.block];
                prop_assert_eq!(holder.supplies, counts(eni, state));
                prop_assert_eq!(holders.holder(holder.block), found);
            }
        }
    }
}
