//! An ENI as the pool knows it, with the intent of the EC2 write that is under way on it.

use crate::{Block, BlockKind, EniId, Family, Mac, SubnetId, Timestamp};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::IpAddr;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Our own name of an ENI: it exists before EC2 has given an id.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default,
)]
#[serde(transparent)]
pub struct EniHandle(pub u64);

/// EC2's name of an attachment, `eni-attach-…`.
pub type AttachmentId = String;

/// Why an ENI of this instance is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unmanaged {
    /// Tag `node.k8s.amazonaws.com/no_manage=true`.
    TaggedNoManage,
    /// `MANAGE_UNTAGGED_ENI=false` and no tag of this node.
    Untagged,
    /// Interface type `efa-only`, `trunk`, `branch` or another that carries no pod addresses.
    InterfaceType,
    /// On a network card that is not managed.
    OtherCard,
    /// IMDS shows it and EC2 does not name it, or has not told yet: another account's, or a dead one.
    NotNamed,
}

impl Unmanaged {
    /// The label in metrics and pictures of the pool.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::TaggedNoManage => "no_manage",
            Self::Untagged => "untagged",
            Self::InterfaceType => "interface_type",
            Self::OtherCard => "other_card",
            Self::NotNamed => "not_named",
        }
    }

    /// Why, for a person.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::TaggedNoManage => "it has the tag node.k8s.amazonaws.com/no_manage=true",
            Self::Untagged => {
                "MANAGE_UNTAGGED_ENI is false and it has no tag \
                 node.k8s.amazonaws.com/instance_id of this instance"
            }
            Self::InterfaceType => {
                "an interface of its type (EFA-only, trunk, branch and the like) carries no \
                 addresses of pods"
            }
            Self::OtherCard => "it is on another network card than the first",
            Self::NotNamed => {
                "IMDS shows it, but EC2 does not name it among this account's interfaces of the \
                 instance"
            }
        }
    }
}

/// How far an ENI is. Each step forward is one EC2 write, whose intent is stored before it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// CreateNetworkInterface is to be sent, or sent and not answered. Its client token makes
    /// sending it again harmless.
    Creating,
    /// Exists, attached to nothing.
    Created,
    /// Attached; its link may not be there yet.
    Attached,
    /// Attached and wired on the host: its addresses can be leased.
    Ready,
    /// To be given back: no new leases; detached and deleted when it has none.
    Leaving,
    /// Detached, to be deleted.
    Detached,
}

/// What is known of a block's standing with EC2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockState {
    /// EC2 has told us of it.
    Confirmed,
    /// From the store of this boot, while EC2 has not answered yet: usable, with care.
    Unconfirmed,
    /// Being given back: no new leases.
    Releasing,
    /// EC2 no longer names it, but leases do: no new leases, reported.
    Lost,
}

/// The EC2 write that is under way on an ENI, or may have been when the daemon died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Intent {
    /// CreateNetworkInterface with this many blocks in the call.
    Create {
        /// Our client token: EC2 answers a repeated call with the same ENI.
        token: String,
        /// Kind of the blocks.
        kind: BlockKind,
        /// How many.
        count: u32,
    },
    /// AttachNetworkInterface at the ENI's card and device index.
    Attach,
    /// ModifyNetworkInterfaceAttribute, DeleteOnTermination.
    SetDeleteOnTermination,
    /// AssignPrivateIpAddresses (or its IPv6 kin). Takes no client token: never sent twice.
    Assign {
        /// Family of the blocks.
        family: Family,
        /// Kind of the blocks.
        kind: BlockKind,
        /// How many.
        count: u32,
    },
    /// UnassignPrivateIpAddresses.
    Unassign {
        /// These.
        blocks: Vec<Block>,
    },
    /// DetachNetworkInterface.
    Detach,
    /// DeleteNetworkInterface.
    Delete,
}

/// One ENI of this node: stored as it is, one record each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eni {
    /// Our name of it.
    pub handle: EniHandle,
    /// EC2's name, once created.
    pub id: Option<EniId>,
    /// Its Ethernet address, once created.
    pub mac: Option<Mac>,
    /// Whether it is the node's own first interface, which never leaves.
    pub primary: bool,
    /// Place on its card.
    pub device_index: u32,
    /// Network card; 0 on all but a few instance types.
    pub card: u32,
    /// Where it is.
    pub subnet: SubnetId,
    /// Its primary IPv4 address with the subnet's prefix length. Never a pod's.
    pub address: Option<IpNet>,
    /// Once attached.
    pub attachment: Option<AttachmentId>,
    /// Whether EC2 deletes it with the instance.
    pub delete_on_termination: bool,
    /// How far it is.
    pub phase: Phase,
    /// Why it is left alone, if it is.
    pub unmanaged: Option<Unmanaged>,
    /// Whether this node's daemon made it (tag `node.k8s.amazonaws.com/instance_id`): only such an
    /// ENI is ever detached, deleted, or told to go with the instance.
    #[serde(default)]
    pub ours: bool,
    /// Its subnet's tags say that pods get no addresses there: no new leases, nothing more is asked
    /// for it, and what nobody uses goes back. Stored, so that a restart need not ask.
    #[serde(default)]
    pub excluded: bool,
    /// What it holds besides its primary address.
    pub blocks: BTreeMap<Block, BlockState>,
    /// The write under way.
    pub intent: Option<Intent>,
    /// Since when the outcome of a write is unknown: no further Assign here until a Describe begun
    /// later than EC2's consistency window has settled it.
    pub in_doubt_since: Option<Timestamp>,
    /// The last write that was answered: a Describe begun less than the consistency window later
    /// does not outrank it.
    pub written_at: Timestamp,
    /// When it came.
    pub since: Timestamp,
}

impl Eni {
    /// Whether new leases may come from it.
    #[must_use]
    pub fn serves(&self) -> bool {
        self.phase == Phase::Ready && self.unmanaged.is_none() && !self.excluded
    }

    /// IPv4 slots that blocks take, without the one of its own address.
    #[must_use]
    pub fn slots_taken(&self) -> u32 {
        let taken = |(block, state): &(&Block, &BlockState)| {
            block.family() == Family::V4 && **state != BlockState::Lost
        };
        u32::try_from(self.blocks.iter().filter(taken).count()).unwrap_or(u32::MAX)
    }

    /// Whether EC2 took it away from the instance; it stays as long as leases stand on it.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.phase == Phase::Leaving && self.attachment.is_none()
    }

    /// Its primary address, which is never a pod's. An ENI that is attached no more may be gone, and EC2
    /// may have given its address to another one as a secondary: none then.
    #[must_use]
    pub fn own_address(&self) -> Option<IpAddr> {
        let gone = self.has_left() || self.phase == Phase::Detached;
        self.address.filter(|_| !gone).map(|net| net.addr())
    }

    /// It came with the instance, whatever its tags say: it is never left alone and never given back.
    pub(crate) const fn is_the_nodes_own(&mut self) {
        self.unmanaged = None;
        self.ours = false;
    }

    /// Whether it takes up one of the instance's ENI slots now or soon.
    #[must_use]
    pub const fn takes_slot(&self) -> bool {
        !matches!(self.phase, Phase::Detached)
    }
}

/// An ENI as EC2 or IMDS describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EniView {
    /// EC2's name.
    pub id: EniId,
    /// Its Ethernet address.
    pub mac: Mac,
    /// `None` if attached to nothing.
    pub attachment: Option<AttachmentView>,
    /// Where it is.
    pub subnet: SubnetId,
    /// Its primary IPv4 address with the subnet's prefix length, if known.
    pub address: Option<IpNet>,
    /// Every secondary address and prefix, both families.
    pub blocks: Vec<Block>,
    /// Why it is to be left alone, if so.
    pub unmanaged: Option<Unmanaged>,
    /// Whether its tags say that this node's daemon made it; `false` from IMDS, which shows no tags.
    #[serde(default)]
    pub ours: bool,
}

/// An attachment as EC2 or IMDS describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentView {
    /// Unknown to IMDS.
    pub id: Option<AttachmentId>,
    /// Place on its card.
    pub device_index: u32,
    /// Network card.
    pub card: u32,
    /// Unknown to IMDS.
    pub delete_on_termination: Option<bool>,
}
