//! What a refused call holds up: one place that tells it, for whoever sends, settles or explains a call.

use super::Action;
use super::throttle::Call;
use crate::cloud::ErrorClass;
use crate::datastore::Datastore;
use crate::{BlockKind, Eni, EniHandle, Family, Intent, SubnetId};
use alloc::vec::Vec;
use core::time::Duration;

/// No refused call is repeated sooner.
const WAIT_MIN: Duration = Duration::from_secs(1);

/// See [`Scope::pressed`]; jitter makes it half as long. A pod's ADD waits half a minute and more: one try at
/// least falls into it. A thousand nodes in one full subnet ask 70 times a second so: EC2 throttles, and each
/// asks less often by that.
const PRESSED: Duration = Duration::from_secs(20);

/// See [`Scope::wait`].
const ATTACH: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(600));

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
    /// New ENIs, since the instance refused to take the last one. Only one that it takes ends it: that
    /// EC2 makes another says nothing.
    Attach,
    /// The same for ENIs of this subnet.
    AttachFrom(SubnetId),
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
            Self::Attach => "attach",
            Self::AttachFrom(_) => "attach_from",
            Self::Subnets => "subnets",
            Self::Eni(_) => "eni",
            Self::Ipv6(_) => "ipv6",
        }
    }

    /// First and longest wait of a back-off. An ENI that was made and can't be attached has cost five calls:
    /// the next one comes later, whatever the refusal.
    pub(crate) fn wait(&self, class: ErrorClass) -> (Duration, Duration) {
        let (base, cap) = class.reaction().wait;
        match self {
            Self::Attach | Self::AttachFrom(_) => (base.max(ATTACH.0), cap.max(ATTACH.1)),
            _ => (base, cap),
        }
    }

    /// Shortest wait, whatever the jitter, of a back-off of up to `ceiling`. What cost an ENI comes again by luck
    /// no sooner than half of it.
    pub(crate) fn least(&self, ceiling: Duration) -> Duration {
        match self {
            Self::Attach | Self::AttachFrom(_) => ceiling / 2,
            _ => WAIT_MIN,
        }
    }

    /// Longest wait while a pod waits, if it makes a difference: a call is refused, and nothing is lost.
    pub(crate) const fn pressed(&self) -> Option<Duration> {
        match self {
            Self::Attach | Self::AttachFrom(_) | Self::Calls(_) => None,
            _ => Some(PRESSED),
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

    /// What an earlier refusal of just this call holds up. That the instance refused to take an ENI holds up new
    /// ones, and is no word on the Create that asks once more what became of it.
    pub(crate) fn of_repeat(action: &Action, store: &Datastore) -> Vec<Self> {
        let mut scopes = Self::of(action, store);
        if matches!(action, Action::Create { .. }) {
            scopes.retain(|s| !matches!(s, Self::Attach | Self::AttachFrom(_)));
        }
        scopes
    }

    /// What EC2's word on a call makes outdated, from before the call: `done`, or refused for another reason. What
    /// an instance refuses to take, only an Attach that goes well ends.
    pub(crate) fn outdated_by(action: &Action, done: bool, store: &Datastore) -> Vec<Self> {
        let mut cleared = Self::of_repeat(action, store);
        if let Action::Attach { handle, .. } = action
            && done
        {
            let subnet = store.eni(*handle).map(|eni| eni.subnet.clone());
            cleared.extend(subnet.map(Self::AttachFrom));
            cleared.push(Self::Attach);
        }
        cleared
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
            Self::Attach,
            Self::AttachFrom(subnet.clone()),
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
