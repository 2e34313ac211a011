//! What a refused call holds up: one place that tells it, for whoever sends, settles or explains a call.

use super::Action;
use super::throttle::Call;
use crate::datastore::Datastore;
use crate::{BlockKind, Eni, EniHandle, Family, Intent, SubnetId};
use alloc::vec::Vec;

/// What a back-off holds up. Narrow on purpose: one subnet's fault is not the node's.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// One API action: EC2 said to slow down.
    Calls(Call),
    /// DescribeNetworkInterfaces.
    Describe,
    /// New addresses of this kind from this subnet.
    Subnet(SubnetId, BlockKind),
    /// New ENIs.
    NewEni,
    /// New ENIs in this subnet.
    NewEniIn(SubnetId),
    /// DescribeSubnets.
    Subnets,
    /// Anything on this ENI.
    Eni(EniHandle),
    /// The IPv6 prefix on this ENI: that IPv4 can be had is another matter.
    Ipv6(EniHandle),
}

impl Scope {
    /// The label in metrics.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Calls(call) => call.label(),
            Self::Describe => "describe",
            Self::Subnet(..) => "subnet",
            Self::NewEni => "new_eni",
            Self::NewEniIn(_) => "new_eni_in",
            Self::Subnets => "subnets",
            Self::Eni(_) => "eni",
            Self::Ipv6(_) => "ipv6",
        }
    }

    /// What a call is held up by, from the narrowest on; without [`Scope::Calls`], which every call has.
    pub(crate) fn of(action: &Action, store: &Datastore) -> Vec<Self> {
        match action {
            Action::Describe => Vec::from([Self::Describe]),
            Action::DescribeSubnets { .. } => Vec::from([Self::Subnets]),
            Action::Create { kind, subnet, .. } => Self::of_create(subnet, *kind),
            Action::Assign {
                handle,
                family,
                kind,
                ..
            } => {
                let subnet = store.eni(*handle).map(|eni| &eni.subnet);
                Self::of_assign(*handle, *family, subnet, *kind)
            }
            _ => action.handle().map(Self::Eni).into_iter().collect(),
        }
    }

    /// The same for the call that an ENI's addresses are to come by, if one is under way.
    pub(crate) fn of_growth(eni: &Eni) -> Vec<Self> {
        match &eni.intent {
            Some(Intent::Create { kind, .. }) => Self::of_create(&eni.subnet, *kind),
            Some(Intent::Assign { family, kind, .. }) => {
                Self::of_assign(eni.handle, *family, Some(&eni.subnet), *kind)
            }
            _ => Vec::new(),
        }
    }

    fn of_create(subnet: &SubnetId, kind: BlockKind) -> Vec<Self> {
        Vec::from([
            Self::Subnet(subnet.clone(), kind),
            Self::NewEni,
            Self::NewEniIn(subnet.clone()),
        ])
    }

    fn of_assign(
        handle: EniHandle,
        family: Family,
        subnet: Option<&SubnetId>,
        kind: BlockKind,
    ) -> Vec<Self> {
        if family == Family::V6 {
            return Vec::from([Self::Ipv6(handle)]);
        }
        let subnet = subnet.map(|subnet| Self::Subnet(subnet.clone(), kind));
        subnet.into_iter().chain([Self::Eni(handle)]).collect()
    }
}
