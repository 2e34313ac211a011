//! Whether what a report says is so, by the oracle's own account: by what the model holds, what EC2
//! really answered this daemon, and how long ago. Codes and times are its own table, not the daemon's.

use super::ledger::Run;
use super::room::{Place, Room};
use ipam_core::cloud::CloudError;
use ipam_core::plan::Note;
use ipam_core::{BlockKind, BlockState, EniHandle, Family, Intent, Phase, Timestamp};
use std::time::Duration;

/// A node's account at one moment.
#[derive(Debug)]
pub(crate) struct Account<'a> {
    pub(crate) place: Place<'a>,
    pub(crate) run: Run,
    pub(crate) room: Room,
    pub(crate) now: Duration,
}

/// What is missing, or too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Matter {
    /// Addresses of a family.
    Short(Family),
    /// What could go back does not.
    Surplus,
}

/// EC2's answer in the same instant, or one that the daemon has not taken in yet.
const INSTANT: Duration = Duration::from_millis(10);

/// A call is sent, held up, and given up after ten seconds: so long after a hold's end its refusal is
/// still the newest word.
const CALL: Duration = Duration::from_secs(30);

/// A doubt is settled by the first look after EC2's window of 60 s, and a look that EC2 refuses is held
/// for [`LONGEST`].
const DOUBT: Duration = Duration::from_secs(60 + LONGEST + 60);

/// The longest back-off of all.
const LONGEST: u64 = 600;

/// What a code means, and the longest time for which it may hold anything up (README and the error
/// table's own documentation: subnets, rights and prefixes minutes, all else within two).
fn meaning(action: &str, code: &str, kind: Option<BlockKind>) -> Option<(&'static str, u64)> {
    let create = action == "CreateNetworkInterface";
    let attach = action == "AttachNetworkInterface";
    Some(match code {
        "RequestLimitExceeded" => ("throttled", 120),
        "InternalError" | "Unavailable" | "Timeout" | "ConnectionClosed" => ("unknown_outcome", 30),
        "StoreFailed" => ("ec2_unreachable", 30),
        "PrimaryMissing" => ("implausible_answer", 300),
        "UnauthorizedOperation" => ("unauthorized", 600),
        "InsufficientCidrBlocks" if kind == Some(BlockKind::Address) => ("subnet_full", 300),
        "InsufficientCidrBlocks" => ("no_free_prefix", 600),
        "InsufficientFreeAddressesInSubnet" => ("subnet_full", 300),
        "InvalidParameterValue" if attach => ("index_taken", 60),
        "InvalidParameterValue" if create && kind == Some(BlockKind::Prefix) => {
            ("no_free_prefix", 600)
        }
        "InvalidParameterValue" if create => ("subnet_full", 300),
        "PrivateIpAddressLimitExceeded"
        | "Ipv6AddressLimitExceeded"
        | "InvalidInterface.IpAddressLimitExceeded" => ("eni_full", 300),
        "AttachmentLimitExceeded" => ("instance_full", 300),
        "NetworkInterfaceLimitExceeded" => ("account_full", 300),
        "InvalidNetworkInterfaceID.NotFound" if create => ("token_used", 120),
        "InvalidNetworkInterfaceID.NotFound" | "InvalidAttachmentID.NotFound" => ("not_found", 60),
        "IncorrectState" | "InvalidNetworkInterface.InUse" => ("wrong_state", 60),
        "SomethingNew" | "InvalidParameterCombination" => ("ec2_error", 120),
        _ => return None,
    })
}

/// Calls by which a pool grows; what else EC2 refuses explains no shortage.
pub(crate) fn grows(action: &str, family: Family) -> bool {
    let reads = action.starts_with("Describe");
    match family {
        Family::V4 => {
            let own = matches!(
                action,
                "CreateNetworkInterface" | "AttachNetworkInterface" | "AssignPrivateIpAddresses"
            );
            reads || own || action == "ModifyNetworkInterfaceAttribute" || action == "none"
        }
        Family::V6 => reads || action == "AssignIpv6Addresses" || action == "none",
    }
}

/// Calls by which a pool shrinks.
fn shrinks(action: &str) -> bool {
    let own = ["Unassign", "Detach", "Delete", "Describe"];
    own.iter().any(|name| action.starts_with(name))
}

impl<'a> Account<'a> {
    /// `None`: the node is no more.
    pub(crate) fn of(place: Place<'a>) -> Option<Self> {
        let run = place.world.oracle().ledger.run(place.node);
        let room = Room::of(&place, &run)?;
        let now = place.world.elapsed();
        Some(Self {
            place,
            run,
            room,
            now,
        })
    }

    /// What is wrong with a note; nothing if it is so.
    pub(crate) fn untrue(&self, note: &Note) -> Option<String> {
        let claim = self.check(note).err()?;
        Some(format!("\"{note}\": {claim}"))
    }

    /// Whether a note is so and about this matter.
    pub(crate) fn excuses(&self, note: &Note, matter: Matter) -> bool {
        Self::explains(note, matter) && self.check(note).is_ok()
    }

    /// What has been in the way for longer than it may: a back-off that outlives its longest time after
    /// EC2's last word, a doubt that no look settles, a call that nobody makes.
    pub(crate) fn endless(&self, note: &Note) -> Option<String> {
        let why = match note {
            Note::Held {
                error, kind, until, ..
            } => {
                let until = self.run.time(*until);
                let end = self.ends(error, *kind)?;
                (until > end.max(self.now) || self.now > end + CALL)
                    .then(|| format!("it may hold until {end:?}"))
            }
            Note::InDoubt(eni, _) => {
                let records = self.place.store.enis();
                let record = records.iter().find(|e| e.handle == *eni);
                let since = self.run.time(record.and_then(|e| e.in_doubt_since)?);
                (self.now > since + DOUBT).then(|| format!("it began at {since:?}"))
            }
            Note::Growing(_) => (!self.is_growing(Family::V4)).then(|| "no call is made".into()),
            Note::GrowingIpv6 => (!self.is_growing(Family::V6)).then(|| "no call is made".into()),
            _ => None,
        };
        why.map(|why| format!("\"{note}\": {why}"))
    }

    /// When EC2 last said so to this run.
    fn said_at(&self, error: &CloudError) -> Option<Duration> {
        match error.code.as_str() {
            "StoreFailed" => self
                .place
                .store
                .last_failure()
                .map(|(ago, _)| self.now - ago),
            code => self.run.refused(error.action, code),
        }
    }

    /// The latest moment until which an error may hold anything up.
    fn ends(&self, error: &CloudError, kind: Option<BlockKind>) -> Option<Duration> {
        let (_, longest) = meaning(error.action, &error.code, kind)?;
        Some(self.said_at(error)? + Duration::from_secs(longest))
    }

    fn check(&self, note: &Note) -> Result<(), String> {
        let so = |so: bool, words: &str| if so { Ok(()) } else { Err(words.to_owned()) };
        let long_ago = |at: Option<Duration>| at.is_some_and(|at| at + INSTANT < self.now);
        match note {
            Note::Unknown => so(!long_ago(self.run.described), "EC2 told in this run"),
            Note::SubnetsUnknown => so(!long_ago(self.run.subnets), "EC2 told the subnets"),
            Note::NoMetadata(..) => {
                so(self.run.metadata_failed.is_some(), "no read of IMDS failed")?;
                so(!long_ago(self.run.metadata), "IMDS answered in this run")
            }
            Note::Unwritten(_) => so(self.failing(), "the last commit went well"),
            Note::NotProvisioning => so(!self.run.provisioning, "EC2 may be written to"),
            Note::Growing(_) => so(self.is_growing(Family::V4), "no call is under way"),
            Note::Arriving(n) => so(
                *n > 0 && self.is_arriving(),
                "the host serves all that EC2 gave",
            ),
            // Who reads it knows nothing of the engine's looks: one that lost events looks again.
            Note::KernelUnread => Ok(()),
            Note::GrowingIpv6 => so(self.is_growing(Family::V6), "no call is under way"),
            Note::AtLimit {
                enis,
                blocks_per_eni,
                by_setting,
            } => self.at_limit(*enis, *blocks_per_eni, *by_setting),
            Note::Held {
                error, kind, until, ..
            } => self.held(error, *kind, *until),
            Note::Undiscovered { error, until } => self.held(error, None, *until),
            Note::InDoubt(eni, until) => self.in_doubt(*eni, *until),
            Note::Cooling(n, until) => self.cooling(*n, *until),
            Note::NoPrefixesHere => so(
                !self.room.kind.has_prefixes(),
                "the instance type has prefixes",
            ),
            Note::NoIpv6InSubnet(_) => {
                so(self.room.shut, "the primary ENI's subnet is open to pods")
            }
            Note::NoIpv6Here => {
                let none = !self.room.kind.has_prefixes() || self.room.kind.ipv6_per_eni == 0;
                so(none, "the instance type has IPv6 prefixes")
            }
            Note::NoSubnet => {
                let none = self.room.homes.is_empty() || self.place.world.oracle().retagged;
                so(none, "a subnet may be used")
            }
            Note::NotInZone(_) | Note::Surplus(..) | Note::Later(_) => Ok(()),
        }
    }

    /// The last commit failed.
    pub(crate) fn failing(&self) -> bool {
        self.place.store.last_failure().is_some_and(|(_, now)| now)
    }

    fn is_growing(&self, family: Family) -> bool {
        let half_way = |e: &ipam_core::Eni| {
            let assigns = match &e.intent {
                Some(Intent::Create { .. } | Intent::Attach) => family == Family::V4,
                Some(Intent::Assign { family: f, .. }) => *f == family,
                _ => false,
            };
            let comes = matches!(e.phase, Phase::Creating | Phase::Created | Phase::Attached);
            assigns || comes && family == Family::V4
        };
        // An Assign waits for whatever call is under way on its ENI.
        self.run.calls(|_| true) || self.place.store.any_eni(half_way)
    }

    /// An address that EC2 gave is on an ENI that the kernel does not serve yet, or that the daemon has not wired
    /// with it: what an earlier run wired this one has not seen.
    fn is_arriving(&self) -> bool {
        let waits = |e: &ipam_core::Eni| {
            let comes = matches!(e.phase, Phase::Created | Phase::Attached);
            let holds = |(block, _): (&ipam_core::Block, &BlockState)| {
                let serves = |mac| self.place.kernel.serves(block.first(), mac);
                let wired = self.run.serves.contains(&block.net());
                !(e.primary || wired && e.mac.is_some_and(serves))
            };
            let mut blocks = e.blocks.iter();
            e.unmanaged.is_none() && (comes && !e.blocks.is_empty() || blocks.any(holds))
        };
        // The daemon hears a moment later that it is done.
        let just_now = self.run.wired.is_none_or(|at| at + INSTANT >= self.now);
        // An attempt that failed may have done all of it: the daemon can't know, and tries again.
        let undone =
            (self.run.wiring_failed).is_some_and(|at| self.run.wired.is_none_or(|w| w <= at));
        just_now || undone || self.place.store.any_eni(waits)
    }

    fn at_limit(&self, enis: u32, slots: u32, by_setting: bool) -> Result<(), String> {
        let room = &self.room;
        // What EC2 said of one ENI is believed of all for a while.
        if room.full_said && (enis, by_setting) == (room.enis_max, room.by_setting()) {
            return Ok(());
        }
        let truth = (room.enis_max, room.slots, room.by_setting());
        // That this instance's ENIs carry less nobody can know before EC2 says so.
        let table = room.kind.ipv4_per_eni.saturating_sub(1);
        let table = (room.enis_max, table, room.by_setting());
        if (enis, slots, by_setting) != truth && (enis, slots, by_setting) != table {
            let by = if room.by_setting() { " by MAX_ENI" } else { "" };
            return Err(format!(
                "the limit is {} ENIs{by} with {} slots each",
                room.enis_max, room.slots
            ));
        }
        if room.enis < room.enis_max {
            return Err(format!("{} ENIs are there", room.enis));
        }
        if room.open_slots() > 0 {
            return Err(format!("{} slots hold nothing", room.open_slots()));
        }
        Ok(())
    }

    /// EC2 really said so to this run, it means that, and it holds up no longer than it may.
    fn held(
        &self,
        error: &CloudError,
        kind: Option<BlockKind>,
        until: Timestamp,
    ) -> Result<(), String> {
        let label = error.class.label();
        let Some(at) = self.said_at(error) else {
            return Err("EC2 never said that to this run".into());
        };
        let Some((means, longest)) = meaning(error.action, &error.code, kind) else {
            return Err(format!("nobody knows the code {}", error.code));
        };
        // A Create for single addresses has the message of one for prefixes.
        let either = ["subnet_full", "no_free_prefix"];
        if means != label && !(either.contains(&means) && either.contains(&label)) {
            return Err(format!("{} is {means}, not {label}", error.code));
        }
        let until = self.run.time(until);
        let end = at + Duration::from_secs(longest);
        if until + INSTANT < self.now {
            return Err(format!("the next try was due at {until:?}"));
        }
        if until > end && until > self.now || self.now > end + CALL {
            return Err(format!(
                "EC2 last said it at {at:?}, which holds until {end:?} at most"
            ));
        }
        Ok(())
    }

    /// A write of this run failed, or one that an earlier run had under way was never answered, and EC2 is
    /// asked about it when the next look can settle it.
    fn in_doubt(&self, handle: EniHandle, until: Timestamp) -> Result<(), String> {
        const WINDOW: Duration = Duration::from_secs(60);
        let records = self.place.store.enis();
        let record = records.iter().find(|e| e.handle == handle);
        let Some(since) = record.and_then(|e| e.in_doubt_since) else {
            return Err("no ENI on the disk is in doubt".into());
        };
        let since = self.run.time(since);
        let writes = |action: &str| !action.starts_with("Describe");
        let failed = self.run.failed(writes);
        if failed.is_none_or(|at| at + INSTANT < since) && since > self.run.started + INSTANT {
            return Err("no write of that time failed".into());
        }
        let until = self.run.time(until);
        let mut latest = (since + WINDOW).max(self.now) + WINDOW;
        // A Describe that EC2 refused is held as any call.
        if let Some(at) = self.run.failed(|action| action.starts_with("Describe")) {
            latest = latest.max(at + Duration::from_secs(LONGEST));
        }
        if until + INSTANT < self.now || until > latest {
            return Err(format!("EC2 was to be asked at {until:?}"));
        }
        Ok(())
    }

    fn cooling(&self, n: u32, until: Timestamp) -> Result<(), String> {
        // What could not be written is not on the disk, and times of a clock that was set are not ours to
        // tell.
        if self.failing() || self.run.clock_was_set(self.place.store) {
            return Ok(());
        }
        let cooldown = self.run.policy.cooldown;
        let released = self.place.store.released();
        let ends = released.iter().filter(|(ip, _)| self.counts(**ip));
        let ends = ends.map(|(_, at)| self.run.time(*at) + cooldown);
        let ends: Vec<Duration> = ends.filter(|end| *end > self.now).collect();
        let count = super::room::count(ends.len());
        if n != count {
            return Err(format!("{count} addresses rest"));
        }
        let first = ends.into_iter().min();
        if first != Some(self.run.time(until)) {
            return Err(format!("the first is free at {first:?}"));
        }
        Ok(())
    }

    /// Whether an IPv4 address is in a block that a pod could be given addresses of, by the disk.
    fn counts(&self, ip: std::net::IpAddr) -> bool {
        let stays = |e: &ipam_core::Eni| {
            let leaves = matches!(e.phase, Phase::Leaving | Phase::Detached);
            !leaves && e.unmanaged.is_none() && !e.excluded
        };
        let given = |s: &BlockState| matches!(s, BlockState::Confirmed | BlockState::Unconfirmed);
        let holds = |e: &ipam_core::Eni| {
            let mut blocks = e.blocks.iter();
            blocks.any(|(b, s)| b.contains(ip) && given(s))
        };
        ip.is_ipv4() && self.place.store.any_eni(|e| stays(e) && holds(e))
    }

    /// Whether a note is about this matter at all.
    pub(crate) fn explains(note: &Note, matter: Matter) -> bool {
        match (note, matter) {
            (Note::Surplus(..), _) => matter == Matter::Surplus,
            (Note::Later(_), _) => false,
            (Note::Held { error, .. }, Matter::Short(family)) => grows(error.action, family),
            (Note::Held { error, .. }, Matter::Surplus) => shrinks(error.action),
            (Note::InDoubt(..), _) => true,
            (Note::GrowingIpv6 | Note::NoIpv6Here | Note::NoIpv6InSubnet(_), _) => {
                matter == Matter::Short(Family::V6)
            }
            (
                Note::Growing(_)
                | Note::AtLimit { .. }
                | Note::Cooling(..)
                | Note::Undiscovered { .. }
                | Note::NoSubnet
                | Note::NotInZone(_),
                _,
            ) => matter == Matter::Short(Family::V4),
            (Note::Arriving(_), _) => matches!(matter, Matter::Short(_)),
            (Note::NoPrefixesHere, _) => false,
            (
                Note::Unknown
                | Note::SubnetsUnknown
                | Note::KernelUnread
                | Note::NoMetadata(..)
                | Note::Unwritten(_)
                | Note::NotProvisioning,
                _,
            ) => true,
        }
    }
}
