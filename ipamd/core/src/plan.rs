//! What to ask of EC2 next, and why no more.
//!
//! A plan changes nothing: it is a list of actions with every id and number decided, and a report of
//! what it waits for. [`crate::outcome::begin`] turns an action into a durable intent;
//! [`crate::outcome::finish`] takes EC2's answer in.
//!
//! **Invariant**: growth asks at once for all that is needed: one Assign per ENI with room, and as
//! many new ENIs side by side as the rest takes.

mod advance;
mod grow;
mod memory;
mod pace;
mod policy;
mod report;
mod scope;
mod shrink;
mod six;
mod subnets;
mod target;
mod throttle;
mod told;

pub(crate) use memory::Takes;
pub use memory::{Hold, Memory, Surplus};
use mutant::mutant;
pub use pace::Pace;
pub use policy::{Policy, Subnets};
pub use report::{Note, Report};
pub use scope::Scope;
pub use subnets::SUBNETS_LAST;
pub use target::{Target, per_eni, target};
pub use throttle::Call;
use throttle::Why;

use crate::datastore::{Datastore, Tally, counts};
use crate::eni::AttachmentId;
use crate::limits::InstanceLimits;
use crate::{Block, BlockKind, Eni, EniHandle, EniId, Family, Intent, SubnetId, Timestamp};
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;
use core::time::Duration;

/// EC2's own word may lag behind its answers to writes for this long (observed on Describe after a
/// write; AWS gives no bound, "eventual consistency" in the EC2 API Reference).
pub const CONSISTENCY: Duration = Duration::from_secs(60);

/// A surplus is given back only after it has lasted this long, or longer: see [`Pace`].
pub const SHRINK_AFTER: Duration = Duration::from_secs(30);

/// An ENI younger than this is not given back.
pub const ENI_MIN_AGE: Duration = Duration::from_secs(60);

/// EC2 is asked for its word this often when nothing else gives cause, and up to half of it later. IMDS
/// is read every five minutes and tells of ENIs for nothing; at this rate 5,000 nodes take a tenth of
/// what EC2's bucket for Describes refills.
pub const DESCRIBE_EVERY: Duration = Duration::from_secs(1800);

/// One EC2 call, decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// DescribeNetworkInterfaces of this instance.
    Describe,
    /// DescribeSubnets: those of the VPC in this node's zone.
    DescribeSubnets {
        /// What decides which of them may be used.
        by: Subnets,
    },
    /// CreateNetworkInterface.
    Create {
        /// The new ENI's handle.
        handle: EniHandle,
        /// Client token.
        token: String,
        /// Where.
        subnet: SubnetId,
        /// Network card that it is for.
        card: u32,
        /// Place on the card that it is for.
        device_index: u32,
        /// Family of its blocks.
        family: Family,
        /// Kind of its blocks.
        kind: BlockKind,
        /// How many blocks come with it.
        count: u32,
        /// When it was first asked for: a part of the request, which must be the same when it is sent
        /// again.
        asked: Timestamp,
    },
    /// AttachNetworkInterface.
    Attach {
        /// Which.
        handle: EniHandle,
        /// EC2's name.
        eni: EniId,
        /// Network card.
        card: u32,
        /// Place on the card.
        device_index: u32,
    },
    /// ModifyNetworkInterfaceAttribute.
    SetDeleteOnTermination {
        /// Which.
        handle: EniHandle,
        /// EC2's name.
        eni: EniId,
        /// Its attachment.
        attachment: AttachmentId,
    },
    /// AssignPrivateIpAddresses.
    Assign {
        /// Which.
        handle: EniHandle,
        /// EC2's name.
        eni: EniId,
        /// Family of the blocks.
        family: Family,
        /// Kind of the blocks.
        kind: BlockKind,
        /// How many.
        count: u32,
    },
    /// UnassignPrivateIpAddresses.
    Unassign {
        /// Which.
        handle: EniHandle,
        /// EC2's name.
        eni: EniId,
        /// These.
        blocks: Vec<Block>,
    },
    /// DetachNetworkInterface.
    Detach {
        /// Which.
        handle: EniHandle,
        /// Its attachment.
        attachment: AttachmentId,
    },
    /// DeleteNetworkInterface.
    Delete {
        /// Which.
        handle: EniHandle,
        /// EC2's name.
        eni: EniId,
    },
}

impl Action {
    /// The ENI that it is about.
    #[must_use]
    pub const fn handle(&self) -> Option<EniHandle> {
        match self {
            Self::Describe | Self::DescribeSubnets { .. } => None,
            Self::Create { handle, .. }
            | Self::Attach { handle, .. }
            | Self::SetDeleteOnTermination { handle, .. }
            | Self::Assign { handle, .. }
            | Self::Unassign { handle, .. }
            | Self::Detach { handle, .. }
            | Self::Delete { handle, .. } => Some(*handle),
        }
    }
}

/// What a plan is made from, besides the datastore.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Settings.
    pub policy: &'a Policy,
    /// The instance type's.
    pub limits: &'a InstanceLimits,
    /// What was learned.
    pub memory: &'a Memory,
    /// ADDs that wait for an address.
    pub waiting: u32,
    /// When the first of them gives up.
    pub deadline: Option<Timestamp>,
    /// ENIs with a call under way.
    pub in_flight: &'a BTreeSet<EniHandle>,
    /// A Describe is under way.
    pub describing: bool,
    /// A DescribeSubnets is under way.
    pub asking_subnets: bool,
    /// Whether EC2 may be written to.
    pub provisioning: bool,
    /// The daemon is about to end: ENIs that are half-way are finished, nothing new is begun.
    pub finishing: bool,
    /// Begins every client token; unlike any that another run has used.
    pub token_prefix: &'a str,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "a plan that nobody carries out grows nothing"]
pub struct Plan {
    /// To be begun now, side by side: no two are about the same ENI.
    pub actions: Vec<Action>,
    /// Why these and no more.
    pub report: Report,
    /// When to plan again if nothing happens until then.
    pub wake_at: Option<Timestamp>,
    /// To be remembered for the next plan ([`Memory::remember`]).
    pub surplus: Option<Surplus>,
    /// Likewise; `None` leaves it as it was.
    pub pace: Option<Pace>,
}

impl Memory {
    /// Something in the kernel or at EC2 was not as expected: EC2 is asked for its word soon.
    pub const fn look_at_ec2(&mut self) {
        self.look = true;
    }

    /// Keeps what a plan wants to know the next time.
    pub fn remember(&mut self, plan: &Plan) {
        self.surplus = plan.surplus;
        if let Some(pace) = plan.pace {
            self.pace = pace;
        }
    }
}

/// The plan for now.
pub fn plan(store: &Datastore, input: &Input<'_>, now: Timestamp) -> Plan {
    let mut draft = Draft::new(store, input, now);
    draft.note_hunger();
    let mut may_grow = !input.finishing;
    if !input.finishing {
        advance::describe(&mut draft);
        may_grow = !input.provisioning || subnets::review(&mut draft);
    }
    if mutant!(
        "plan/not-provisioning-writes-nothing",
        !input.provisioning,
        false && input.finishing
    ) {
        draft.plan.report.note(Note::NotProvisioning);
    } else if mutant!(
        "plan/ec2-tells-first",
        !input.memory.known,
        false && input.finishing
    ) {
        draft.not_told(Note::Unknown, Scope::Describe, Call::Describe);
    } else {
        advance::enis(&mut draft);
        // Where it goes needs no list of subnets.
        if !input.finishing {
            six::grow(&mut draft);
        }
        if !may_grow && !input.finishing {
            draft.not_told(Note::SubnetsUnknown, Scope::Subnets, Call::Subnets);
        }
        if may_grow {
            // Who forgot what pods have gives nothing back until EC2 has told all.
            let trusted = mutant!(
                "shrink/not-before-ec2-has-told",
                input.memory.trusted(),
                true
            );
            if trusted {
                shrink::leave_excluded(&mut draft);
            }
            let short = grow::grow(&mut draft);
            if trusted && short == 0 && input.waiting == 0 {
                shrink::shrink(&mut draft);
            }
        }
    }
    draft.finish()
}

/// A plan in the making.
struct Draft<'a> {
    store: &'a Datastore,
    input: &'a Input<'a>,
    now: Timestamp,
    /// Of IPv4, as are all numbers of growth and shrinking: IPv6 is [`six`]'s.
    tally: Tally,
    free_v6: u32,
    /// An IPv6 prefix is asked for.
    coming_v6: bool,
    /// Addresses that are there or asked for.
    supply: u32,
    /// Of these, addresses that are asked for.
    coming: u32,
    /// ENIs that this plan or an earlier one is busy with.
    busy: BTreeSet<EniHandle>,
    /// Calls under way and planned, by action.
    under_way: throttle::UnderWay,
    pace: Pace,
    /// Growth began with a pod that waits.
    pressed: bool,
    /// Slots that this plan fills.
    asked: BTreeMap<EniHandle, u32>,
    wakes: Vec<Timestamp>,
    /// When growth that is impossible now may be possible.
    retries: Vec<Timestamp>,
    plan: Plan,
}

impl<'a> Draft<'a> {
    fn new(store: &'a Datastore, input: &'a Input<'a>, now: Timestamp) -> Self {
        let tally = store.tally(Family::V4, now);
        let coming = store
            .enis
            .values()
            .map(|eni| {
                mutant!(
                    "growth/in-flight-is-counted",
                    coming_to(eni, input, now),
                    0 * coming_to(eni, input, now)
                )
            })
            .fold(0, u32::saturating_add);
        Self {
            store,
            input,
            now,
            supply: tally.addresses.saturating_add(coming),
            coming,
            tally,
            free_v6: match input.policy.wants(Family::V6) {
                true => store.tally(Family::V6, now).free(),
                false => 0,
            },
            coming_v6: store.enis.values().any(six::is_coming),
            busy: input.in_flight.clone(),
            under_way: throttle::under_way(
                input.in_flight.iter().filter_map(|h| store.enis.get(h)),
            ),
            pace: input.memory.pace,
            pressed: false,
            asked: BTreeMap::new(),
            wakes: Vec::new(),
            retries: Vec::new(),
            plan: Plan::default(),
        }
    }

    /// Whether this plan's blocks are to be prefixes, as far as settings and instance go.
    fn prefixes(&self) -> bool {
        self.input.policy.prefixes
            && self.input.limits.prefixes
            && !self.input.memory.prefix_unsupported
    }

    /// The kind of block that the pool should be made of.
    fn right_kind(&self) -> BlockKind {
        if self.prefixes() {
            BlockKind::Prefix
        } else {
            BlockKind::Address
        }
    }

    /// Free addresses in blocks of the other kind: left from another mode, or from a time when the
    /// subnet had no prefix.
    fn free_of_wrong_kind(&self) -> u32 {
        let right = self.right_kind();
        let mut free = 0_u32;
        for eni in self.store.enis.values() {
            for (block, state) in &eni.blocks {
                let wrong = block.family() == Family::V4 && block.kind() != right;
                if wrong && counts(eni, *state) {
                    let tally = self.tally.of(block);
                    let busy = tally.used + tally.cooling + tally.held;
                    free = free.saturating_add(block.capacity().saturating_sub(busy));
                }
            }
        }
        free
    }

    fn act(&mut self, action: Action) {
        if let Some(handle) = action.handle() {
            self.busy.insert(handle);
        }
        *self.under_way.entry(Call::of(&action)).or_default() += 1;
        self.plan.actions.push(action);
    }

    fn wake(&mut self, at: Timestamp) {
        if at > self.now {
            self.wakes.push(at);
        }
    }

    /// Whether new ENIs are held so; the report tells.
    fn held_new_eni(&mut self, scope: &Scope) -> bool {
        let Some(hold) = self
            .input
            .memory
            .held(core::slice::from_ref(scope), self.now)
        else {
            return false;
        };
        let (error, until) = (hold.error.clone(), hold.until);
        let subnet = match scope {
            Scope::NewEniIn(subnet) | Scope::AttachFrom(subnet) => Some(subnet.clone()),
            _ => None,
        };
        self.plan.report.note(Note::Held {
            error,
            subnet,
            kind: None,
            until,
        });
        true
    }

    /// Whether nothing is under way or held on this ENI. A hold says when it ends.
    fn idle(&mut self, eni: &Eni) -> bool {
        if mutant!(
            "plan/one-call-per-eni",
            self.busy.contains(&eni.handle),
            false
        ) {
            return false;
        }
        mutant!(
            "plan/held-eni-is-left-alone",
            self.input
                .memory
                .held(&[Scope::Eni(eni.handle)], self.now)
                .is_none(),
            true
        )
    }

    /// Of the ADDs that wait, how many get no address of a family from what is there or coming.
    fn unmet(&self, family: Family) -> u32 {
        let met = match family {
            Family::V4 => self.tally.free().saturating_add(self.coming),
            Family::V6 if self.coming_v6 => u32::MAX,
            Family::V6 => self.free_v6,
        };
        self.input.waiting.saturating_sub(met)
    }

    /// Settles what is unmet, and when to look again.
    fn finish(mut self) -> Plan {
        self.note_retries();
        self.note_unserved();
        let policy = self.input.policy;
        let unmet = policy.families.iter().map(|family| self.unmet(*family));
        self.plan.report.unmet = mutant!(
            "refusal/hopeless-is-told-at-once",
            unmet.max().unwrap_or(0),
            unmet.max().unwrap_or(0) * 0
        );
        if policy.wants(Family::V4) {
            self.plan.report.held = self.tally.held + self.tally.unsettled;
        }
        let cool = self.store.next_cool(self.now);
        if let Some(at) = cool {
            if self.plan.report.unmet > 0 {
                // Others rest, too, that no pod gets: in blocks that go back, and of the other family.
                if let Some(first) = self.tally.cool_at {
                    self.plan
                        .report
                        .note(Note::Cooling(self.tally.cooling, first));
                }
                self.wake(at);
            } else {
                // Nobody waits: many addresses that end their rest one by one are one look.
                self.wake(Timestamp((at.0 / 1000 + 1) * 1000));
            }
        }
        let memory = self.input.memory;
        let ends: Vec<_> = memory
            .hold_ends(self.now)
            .chain(memory.throttle_ends(self.now))
            .collect();
        self.wakes.extend(ends.iter().copied());
        self.plan.report.retry_at = mutant!(
            "refusal/hope-is-waited-for",
            ends.into_iter().chain(cool).chain(self.retries).min(),
            ends.into_iter()
                .chain(cool)
                .chain(self.retries)
                .min()
                .filter(|_| false)
        );
        self.plan.wake_at = mutant!(
            "plan/wakes-when-due",
            self.wakes.iter().copied().min(),
            self.wakes.iter().copied().max()
        );
        self.plan.pace = Some(self.pace);
        self.plan
    }
}

/// IPv4 addresses that calls under way on an ENI will bring.
fn coming_to(eni: &Eni, input: &Input<'_>, now: Timestamp) -> u32 {
    // The next Describe may tell at once what became of it: it is worth the wait, and no longer.
    let told_soon = |since: Timestamp| {
        let memory = input.memory;
        memory.described.is_none_or(|begun| begun <= since)
            && memory
                .held(&[Scope::Describe, Scope::Calls(Call::Describe)], now)
                .is_none()
    };
    match &eni.intent {
        // Nobody counts on what is in doubt.
        Some(Intent::Assign { .. })
            if eni.in_doubt_since.is_some_and(|since| {
                mutant!(
                    "growth/doubt-is-not-counted",
                    !told_soon(since),
                    false && told_soon(since)
                )
            }) =>
        {
            0
        }
        Some(Intent::Create { kind, count, .. }) => {
            kind.capacity(Family::V4).saturating_mul(*count)
        }
        Some(Intent::Assign {
            family: Family::V4,
            kind,
            count,
        }) => kind.capacity(Family::V4).saturating_mul(*count),
        _ => 0,
    }
}
