//! From what was stored, and what the kernel shows, to a pool that can be served from.

use super::Owner;
use super::collect::Unwired;
use super::orphans::Watch;
use super::renamed::Renamed;
use super::served::Served;
use crate::api::Counters;
use crate::forget::Forget;
use crate::host::Host;
use crate::notice::Notice;
use crate::notices::Notices;
use crate::parked::Lot;
use crate::ports::{Loaded, Survey, Write};
use crate::reroute::Reroute;
use crate::retry::Retry;
use crate::settings::Settings;
use ipam_core::datastore::Datastore;
use ipam_core::limits::conservative;
use ipam_core::outcome::resume;
use ipam_core::plan::{Memory, Report, Subnets};
use ipam_core::{AttachmentKey, Block, BlockState, Eni, Lease, Phase, Timestamp};
use mutant::mutant;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The owner of what was stored.
///
/// Of this boot: blocks are served, marked unconfirmed, and EC2 need not be asked at once. Of an
/// earlier boot: ENIs, their intents and cooldowns are kept, and wait for EC2's word.
pub(super) fn owner(settings: Settings, mut loaded: Loaded, seed: u64, now: Timestamp) -> Owner {
    let mut notices = Notices::default();
    for damage in &loaded.damage {
        notices.add(Notice::StoreDamaged(damage.clone()), now);
    }
    // A store that lost something may have lost ENIs and blocks, too: then EC2 is asked first.
    let whole = mutant!(
        "store/damage-asks-ec2-first",
        loaded.damage.is_empty(),
        true
    ) && loaded.facts.is_some()
        && !loaded.enis.is_empty();
    let known = loaded.same_boot && loaded.trusted && whole;
    // A run that died before its first commit in this boot left the last boot's ENIs as they were.
    let same_boot = loaded.same_boot && (loaded.facts.is_some() || !loaded.leases.is_empty());
    let forgotten = forget_unproven(&mut loaded);
    let enis: Vec<Eni> = loaded
        .enis
        .into_iter()
        .map(|mut eni| {
            // Where tags are not looked at, none of them excludes.
            eni.excluded &= matches!(settings.policy.subnets, Subnets::Tagged { .. });
            as_of_now(eni, same_boot, now)
        })
        .collect();
    let blocks = wired_before(&enis, &loaded.leases);
    let cooldown = settings.policy.cooldown;
    // The clock was set back between two runs: an address rests no longer than from now on.
    for released in loaded.cooldowns.values_mut() {
        released.at = mutant!(
            "clock/releases-of-the-future",
            released.at.min(now),
            released.at
        );
    }
    let mut store = Datastore::restore(cooldown, enis, loaded.leases, loaded.cooldowns);
    store.restored_at(now);
    if mutant!("boot/wired-before-is-not-wired-now", same_boot, true) {
        store.set_wired(blocks);
    } else {
        // The next start in this boot must not take them for ready.
        store.touch_enis();
    }
    let mut memory = Memory::new(known, seed, now)
        .forgetful(mutant!(
            "store/damage-is-told-to-the-pool",
            !loaded.damage.is_empty(),
            false
        ))
        .spread_out();
    resume(&mut store, &mut memory, now);
    let orphans = Watch::new(&settings, known, loaded.fleet, &mut memory, now);
    let unwired = Unwired::restored(store.leases().values(), now);
    let mut owner = Owner {
        policy: settings.policy.clone(),
        settings,
        limits: conservative(),
        facts: None,
        unproven: loaded.instance,
        store,
        memory,
        orphans,
        lot: Lot::default(),
        host: Host::default(),
        forget: Forget::default(),
        reroute: Reroute::default(),
        sweep_retry: Retry::default(),
        in_flight: BTreeSet::new(),
        describing: false,
        asking_subnets: false,
        surveyed: false,
        witnessed: false,
        surveying: false,
        sweeping: false,
        reading_metadata: false,
        metadata_retry: Retry::default(),
        metadata_error: None,
        metadata_due: None,
        enis_due: None,
        survey_retry: Retry::default(),
        writes: forgotten,
        report: Report::default(),
        wake_at: None,
        token_prefix: format!("ipamd-{seed:016x}"),
        stopping: false,
        served: Served::new(loaded.served),
        unwired,
        renamed: Renamed::default(),
        notices,
        counters: Counters::default(),
        unwritten: None,
    };
    owner.host.changed();
    if let Some(facts) = loaded.facts {
        owner.use_facts(&facts, now);
        owner.facts = Some(facts);
    }
    owner
}

/// A store that has lost whose it is may be a copy of another instance's. What is attached is ours if EC2
/// says so; until then it is nothing to be deleted. What is not attached is left to the clean-up of orphans,
/// which goes by EC2's tags: a Create that is sent again by its token would give us the other instance's
/// ENI. Answers the records to be removed.
fn forget_unproven(loaded: &mut Loaded) -> Vec<Write> {
    if mutant!(
        "store/without-a-name-proves-nothing",
        loaded.instance.is_some(),
        true
    ) {
        return Vec::new();
    }
    for eni in &mut loaded.enis {
        eni.ours = false;
    }
    let attached = |eni: &Eni| matches!(eni.phase, Phase::Attached | Phase::Ready | Phase::Leaving);
    let gone = loaded.enis.extract_if(.., |eni| !attached(eni));
    gone.map(|eni| Write::NoEni(eni.handle)).collect()
}

/// Blocks whose rules the kernel has since before the restart: those in which leases stand. One that
/// was stored may not have been wired any more; the first apply tells.
fn wired_before(enis: &[Eni], leases: &[Lease]) -> Vec<Block> {
    let used: Vec<IpAddr> = leases
        .iter()
        .flat_map(|l| l.addresses.iter().copied())
        .collect();
    enis.iter()
        .flat_map(|e| e.blocks.keys().copied())
        .filter(|block| {
            mutant!(
                "start/only-blocks-in-use-were-wired",
                used.iter().any(|ip| block.contains(*ip)),
                true || used.iter().any(|ip| block.contains(*ip))
            )
        })
        .collect()
}

fn as_of_now(mut eni: Eni, same_boot: bool, now: Timestamp) -> Eni {
    if !same_boot {
        // Its pods have gone with the boot. What is left waits for EC2's word, which need not be
        // held back for its lag where it names what we knew: boots may be quick.
        eni.blocks.retain(|_, state| *state != BlockState::Lost);
        // How long ago its last call was no clock tells, since it may have been set meanwhile: what EC2
        // does not name is gone only when EC2's lag is over from now on.
        eni.written_at = now;
        eni.in_doubt_since = eni.in_doubt_since.map(|_| now);
        if mutant!(
            "boot/enis-are-wired-anew",
            eni.phase == Phase::Ready,
            false && eni.phase == Phase::Ready
        ) {
            eni.phase = Phase::Attached;
        }
    }
    for state in eni.blocks.values_mut() {
        if mutant!(
            "boot/blocks-wait-for-ec2",
            *state == BlockState::Confirmed,
            false && *state == BlockState::Confirmed
        ) {
            *state = BlockState::Unconfirmed;
        }
    }
    eni
}

/// Nothing that was stored is about this instance.
pub(super) fn drop_all(owner: &mut Owner, now: Timestamp) {
    let handles: Vec<_> = owner.store.enis().keys().copied().collect();
    let keys: Vec<AttachmentKey> = owner.store.leases().keys().cloned().collect();
    let resting: Vec<IpAddr> = owner.store.resting().collect();
    owner.writes.extend(handles.into_iter().map(Write::NoEni));
    owner.writes.extend(keys.into_iter().map(Write::NoLease));
    mutant!(
        "store/another-instances-rests-go",
        owner
            .writes
            .extend(resting.into_iter().map(Write::NoCooldown)),
        drop(resting)
    );
    let routed = owner.store.routed().clone();
    owner.store = mutant!(
        "store/another-instance",
        Datastore::new(owner.policy.cooldown),
        owner.store.clone()
    );
    owner.store.replace_routed(routed, now);
}

impl Owner {
    /// The kernel is a witness. What it routes to pods is in use, whatever the store says; a lease that
    /// was stored, and whose address it routes to another pod's link, is older than the truth. (Later in a
    /// run that is another program's doing.)
    pub(super) fn learn_survey(&mut self, survey: Survey, now: Timestamp) {
        let first = !std::mem::replace(&mut self.witnessed, true);
        self.surveying = false;
        self.surveyed = true;
        self.survey_retry.succeeded();
        if first {
            let wrong: Vec<AttachmentKey> = self
                .store
                .leases()
                .values()
                .filter(|lease| {
                    lease.addresses.iter().any(|ip| {
                        survey
                            .pod_routes
                            .get(ip)
                            .is_some_and(|dev| *dev != lease.host_if)
                    })
                })
                .map(|lease| lease.key.clone())
                .collect();
            for key in wrong {
                self.notices
                    .add(Notice::LeaseOfAnother(key.to_string()), now);
                mutant!("start/kernel-is-a-witness", self.store.withdraw(&key), None);
            }
        }
        // A link that is named as ours may be another program's; one with an address of ours is not.
        let ours = |ip, link: &str| {
            link.starts_with(&self.settings.veth_prefix) || self.store.block_of(ip).is_some()
        };
        let pods = survey.pod_routes.iter();
        let unowned = pods
            .filter(|(ip, link)| self.store.owner(**ip).is_none() && ours(**ip, link))
            .count();
        if unowned > 0 {
            self.notices.add(Notice::UnknownPods(unowned), now);
        }
        self.store.replace_routed(
            mutant!(
                "start/what-the-kernel-routes-is-in-use",
                survey.pod_routes,
                std::collections::BTreeMap::new()
            ),
            now,
        );
        self.renamed_surveyed(now);
        self.reroute.surveyed(&self.store, now);
        let absent: Vec<_> = self
            .store
            .enis()
            .values()
            .filter(|e| e.phase == Phase::Ready)
            .filter(|e| e.mac.is_none_or(|mac| !survey.links.contains(&mac)))
            .map(|e| e.handle)
            .collect();
        for handle in absent {
            mutant!("start/eni-without-link", self.store.set_unready(handle), ());
        }
        self.host.distrust();
    }
}

#[cfg(test)]
mod tests;
